//! Matrix product, and the three products of a linear layer.
//!
//! Blocked as in Goto and van de Geijn (2008): a chunk of the inner dimension at a time, the right matrix
//! packed into panels as wide as a register tile, which stay in the first-level cache while all rows pass
//! over them, the left one packed by 6 rows. The loop inside is that of the convolution.

use pulp::{Simd, WithSimd};

use super::Accumulate;
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{COLUMNS, block_rows, blocks, dispatch, lanes, weigh};

/// Inner dimension of one pass: a panel of 256 x 16 floats fills half of a 32 KiB cache, one of 256 x 32 two
/// thirds of the 48 KiB that cores with AVX-512 have.
const DEPTH: usize = 256;

/// Rows of one task: 60 x 256 floats of the left matrix are 60 KiB, well inside the second-level cache.
const TASK_ROWS: usize = 60;

/// `y = x weight^T + bias` for `x` `[N,C]`, `weight` `[K,C]`, `bias` `[K]` and `y` `[N,K]`; PyTorch's `linear`.
pub fn linear_forward([n, c, k]: [usize; 3], x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let x = Matrix::new(x, [n, c]);
    let weight = Matrix::new(weight, [k, c]);
    match bias {
        None => product(x, weight.transposed(), y, Accumulate::Write),
        Some(bias) => {
            assert_eq!(bias.len(), k, "linear: length of bias");
            y.chunks_exact_mut(k).for_each(|y| y.copy_from_slice(bias));
            product(x, weight.transposed(), y, Accumulate::Add);
        }
    }
}

/// `dx = dy weight` for `dy` `[N,K]`, `weight` `[K,C]` and `dx` `[N,C]`.
pub fn linear_input_gradient(
    [n, c, k]: [usize; 3],
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: Accumulate,
) {
    product(Matrix::new(dy, [n, k]), Matrix::new(weight, [k, c]), dx, accumulate);
}

/// `dweight = dy^T x` for `dy` `[N,K]`, `x` `[N,C]` and `dweight` `[K,C]`, overwritten.
pub fn linear_weight_gradient([n, c, k]: [usize; 3], x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    product(Matrix::new(dy, [n, k]).transposed(), Matrix::new(x, [n, c]), dweight, Accumulate::Write);
}

/// A matrix by its strides.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    fn new(data: &'a [f32], [rows, cols]: [usize; 2]) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} x {cols} matrix");
        Matrix { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    fn transposed(self) -> Self {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Packs rows `from..from + to.len() / width` of columns `first..first + width` as `[row][width]`, zero
    /// where there is no column.
    fn pack(&self, from: usize, first: usize, width: usize, to: &mut [f32]) {
        let data = &self.data[from * self.row_stride + first * self.col_stride..];
        let present = width.min(self.cols - first);
        match width {
            4 => self.pack_columns::<4>(data, present, to),
            6 => self.pack_columns::<6>(data, present, to),
            8 => self.pack_columns::<8>(data, present, to),
            16 => self.pack_columns::<16>(data, present, to),
            32 => self.pack_columns::<32>(data, present, to),
            _ => {
                for (row, to) in to.chunks_exact_mut(width).enumerate() {
                    to.fill(0.0);
                    for (col, to) in to[..present].iter_mut().enumerate() {
                        *to = data[row * self.row_stride + col * self.col_stride];
                    }
                }
            }
        }
    }

    fn pack_columns<const W: usize>(&self, data: &[f32], present: usize, to: &mut [f32]) {
        let to = to.as_chunks_mut::<W>().0;
        if present < W {
            to.fill([0.0; W]);
        }
        // A matrix of one row may have both strides 1; its rows are then shorter than what is taken from them.
        if self.col_stride == 1 && self.row_stride >= W && present == W {
            for (to, row) in to.iter_mut().zip(data.chunks(self.row_stride)) {
                to.copy_from_slice(&row[..W]);
            }
        } else if self.row_stride == 1 {
            for col in 0..present {
                for (to, &x) in to.iter_mut().zip(&data[col * self.col_stride..]) {
                    to[col] = x;
                }
            }
        } else {
            for (to, row) in to.iter_mut().zip(data.chunks(self.row_stride)) {
                to[..present].copy_from_slice(&row[..present]);
            }
        }
    }
}

/// `output = a b`, or `output += a b`, for `a` `[M,T]`, `b` `[T,N]` and `output` `[M,N]`.
fn product(a: Matrix<'_>, b: Matrix<'_>, output: &mut [f32], accumulate: Accumulate) {
    let (rows, cols, depth) = (a.rows, b.cols, a.cols);
    assert_eq!(depth, b.rows, "inner dimensions of a matrix product");
    assert_eq!(output.len(), rows * cols, "length of a {rows} x {cols} product");
    if output.is_empty() {
        return;
    }
    if depth == 0 {
        if accumulate == Accumulate::Write {
            output.fill(0.0);
        }
        return;
    }
    let a = a.transposed();
    let width = COLUMNS * lanes();
    let task_rows = rows.div_ceil(threads()).next_multiple_of(6).min(TASK_ROWS);
    let panel = DEPTH.min(depth) * width;
    with_floats(cols.div_ceil(width) * panel, |panels| {
        for from in (0..depth).step_by(DEPTH) {
            let steps = DEPTH.min(depth - from);
            for_each_chunk(panels, panel, |index, panel| {
                b.pack(from, index * width, width, &mut panel[..steps * width]);
            });
            let panels = &*panels;
            let accumulate = if from == 0 { accumulate } else { Accumulate::Add };
            for_each_chunk(output, task_rows * cols, |task, output| {
                let rows = output.len() / cols;
                with_floats(block_rows(rows) * steps, |left| {
                    for (first, rows) in blocks(rows, false) {
                        let left = &mut left[first * steps..][..rows * steps];
                        a.pack(from, task * task_rows + first, rows, left);
                    }
                    dispatch(Product { left, panels, panel, steps, cols, output, accumulate });
                });
            });
        }
    });
}

/// `output` `[rows][cols]` from packed blocks of rows and packed panels of columns.
struct Product<'a> {
    left: &'a [f32],
    panels: &'a [f32],
    panel: usize,
    steps: usize,
    cols: usize,
    output: &'a mut [f32],
    accumulate: Accumulate,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = COLUMNS * S::F32_LANES;
        let mut taps = [0; DEPTH];
        for (step, tap) in taps.iter_mut().enumerate() {
            *tap = (step * width) as u32;
        }
        let taps = &taps[..self.steps];
        let span = (self.steps - 1) * width + S::F32_LANES;
        let starts = std::array::from_fn::<_, COLUMNS, _>(|column| column * S::F32_LANES);
        let rows = self.output.len() / self.cols;
        for (index, panel) in self.panels.chunks_exact(self.panel).enumerate() {
            for (first, rows) in blocks(rows, false) {
                let left = &self.left[first * self.steps..][..rows * self.steps];
                match rows {
                    6 => {
                        let left = left.as_chunks::<6>().0;
                        let sums = weigh::<S, 6, COLUMNS>(simd, left, taps, span, panel, starts);
                        self.store(simd, first, index * width, sums);
                    }
                    _ => {
                        let left = left.as_chunks::<4>().0;
                        let sums = weigh::<S, 4, COLUMNS>(simd, left, taps, span, panel, starts);
                        self.store(simd, first, index * width, sums);
                    }
                }
            }
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn store<S: Simd, const M: usize>(
        &mut self,
        simd: S,
        row: usize,
        first: usize,
        sums: [[S::f32s; COLUMNS]; M],
    ) {
        let rows = self.output.chunks_exact_mut(self.cols).skip(row);
        for (row, sums) in rows.zip(sums) {
            let mut rest = &mut row[first..];
            for sum in sums {
                let (here, later) = rest.split_at_mut(S::F32_LANES.min(rest.len()));
                rest = later;
                if let Some(here) = S::as_mut_simd_f32s(here).0.first_mut() {
                    *here = match self.accumulate {
                        Accumulate::Write => sum,
                        Accumulate::Add => simd.add_f32s(sum, *here),
                    };
                    continue;
                }
                let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&sum));
                for (here, lane) in here.iter_mut().zip(lanes) {
                    *here = match self.accumulate {
                        Accumulate::Write => *lane,
                        Accumulate::Add => *here + lane,
                    };
                }
            }
        }
    }
}
