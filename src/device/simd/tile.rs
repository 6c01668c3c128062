//! The two inner loops, a register tile each, and the vector helpers they share.

use pulp::{Arch, Simd, WithSimd};

use super::geometry::Vector;

/// Vectors of pixels in a tile of [`weigh`]: with 6 rows, 12 sums, 2 operands and a broadcast take 15 of the
/// 16 vector registers of AVX2 and SSE, and 12 independent sums hide the latency of the multiply-add (4
/// cycles, two a cycle).
pub(super) const COLUMNS: usize = 2;

/// The same with AVX-512, whose 32 registers hold 24 sums, and the rows of its tiles: a vector as long as a cache
/// line mostly straddles two, so that each load counts twice and must serve more multiply-adds.
pub(super) const WIDE_COLUMNS: usize = 3;

/// Whether tiles are those of AVX-512.
pub(super) const fn is_wide(lanes: usize) -> bool {
    lanes >= 16
}

/// Filters of one tile of [`correlate`].
pub(super) const PAIR_ROWS: usize = 4;

/// Taps of one tile of [`correlate`]; with AVX-512 [`WIDE_PAIR_COLUMNS`].
const PAIR_COLUMNS: usize = 3;

const WIDE_PAIR_COLUMNS: usize = 6;

/// Cuts `rows` filters into blocks of 6 and as few as possible of 4, or, where tiles are wide, of 8 and as few as
/// possible of 6 and 4. Given by first row and height; the last one may reach beyond the last row.
#[inline(always)]
pub(super) fn blocks(rows: usize, wide: bool) -> impl Iterator<Item = (usize, usize)> {
    let total = block_rows(rows);
    let mut first = 0;
    std::iter::from_fn(move || {
        let height = match (total - first, wide) {
            (0, _) => return None,
            (10, true) => 6,
            (left, true) => left.min(8),
            (4 | 8, false) => 4,
            (_, false) => 6,
        };
        first += height;
        Some((first - height, height))
    })
}

/// Rows of all [`blocks`] together.
#[inline(always)]
pub(super) fn block_rows(rows: usize) -> usize {
    rows.max(4).next_multiple_of(2)
}

/// Lanes of a vector on this machine.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes)
}

/// What the tests hold a thread to instead of the best instruction set.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    Best,
    Avx2,
    Scalar,
}

#[cfg(test)]
thread_local! {
    pub(super) static LEVEL: std::cell::Cell<Level> = const { std::cell::Cell::new(Level::Best) };
}

fn arch() -> Arch {
    #[cfg(test)]
    match LEVEL.get() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => {
            if let Some(avx2) = pulp::x86::V3::try_new() {
                return Arch::V3(avx2);
            }
        }
        Level::Scalar => return Arch::Scalar,
        _ => {}
    }
    Arch::new()
}

/// Runs `operation` compiled for the best instruction set of this machine.
pub(super) fn dispatch<Operation: WithSimd>(operation: Operation) -> Operation::Output {
    arch().dispatch(operation)
}

/// How many of `left` taps the next tile of [`correlate`] takes: never 3 + 1 where 2 + 2 will do, since a
/// tile of one column waits for its own multiply-adds half of the time.
#[inline(always)]
pub(super) fn next_taps(left: usize, lanes: usize) -> usize {
    match left {
        0..=2 => left,
        4 if !is_wide(lanes) => 2,
        4 => 4,
        _ if is_wide(lanes) && left >= WIDE_PAIR_COLUMNS => WIDE_PAIR_COLUMNS,
        _ => PAIR_COLUMNS,
    }
}

/// The vector at `x[at..]`.
#[inline(always)]
pub(super) fn load<S: Simd>(x: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&x[at..at + S::F32_LANES]).0[0]
}

/// The vector at `at` of each column. A loop, since `map` over long arrays is a call that knows no AVX-512.
#[inline(always)]
fn load_all<S: Simd, const N: usize>(simd: S, columns: &[&[f32]; N], at: usize) -> [S::f32s; N] {
    let mut x = [simd.splat_f32s(0.0); N];
    for (x, column) in x.iter_mut().zip(columns) {
        *x = load::<S>(column, at);
    }
    x
}

/// `sum over t of weights[t][row] * source[starts[column] + taps[t]..]`, for all rows and columns of a tile.
///
/// `span` is the largest tap plus the lanes of a vector: the part of `source` that a column may touch.
#[inline(always)]
pub(super) fn weigh<S: Simd, const M: usize, const N: usize>(
    simd: S,
    weights: &[[f32; M]],
    taps: &[u32],
    span: usize,
    source: &[f32],
    starts: [usize; N],
) -> [[S::f32s; N]; M] {
    // Slices of one common length: a single bounds test serves all columns of a tap.
    let mut columns = [source; N];
    for (column, start) in columns.iter_mut().zip(starts) {
        *column = &source[start..start + span];
    }
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for (weight, &tap) in weights.iter().zip(taps) {
        let x = load_all::<S, N>(simd, &columns, tap as usize);
        for (sums, &weight) in sums.iter_mut().zip(weight) {
            let weight = simd.splat_f32s(weight);
            for (sum, &x) in sums.iter_mut().zip(&x) {
                *sum = simd.mul_add_e_f32s(weight, x, *sum);
            }
        }
    }
    sums
}

/// `sum over i of rows[i][row] * source[taps[tap] + vectors[i].start..]`, lane by lane, for all rows and taps
/// of a tile; `rows` holds [`PAIR_ROWS`] vectors for each of `vectors`.
///
/// `span` is the largest start plus the lanes of a vector.
#[inline(always)]
pub(super) fn correlate<S: Simd, const N: usize>(
    simd: S,
    rows: &[f32],
    source: &[f32],
    taps: [usize; N],
    vectors: &[Vector],
    span: usize,
) -> [[S::f32s; N]; PAIR_ROWS] {
    let mut columns = [source; N];
    for (column, tap) in columns.iter_mut().zip(taps) {
        *column = &source[tap..tap + span];
    }
    let rows = S::as_simd_f32s(rows).0.as_chunks::<PAIR_ROWS>().0;
    let mut sums = [[simd.splat_f32s(0.0); N]; PAIR_ROWS];
    for (vector, rows) in vectors.iter().zip(rows) {
        let x = load_all::<S, N>(simd, &columns, vector.start as usize);
        for (sums, &row) in sums.iter_mut().zip(rows) {
            for (sum, &x) in sums.iter_mut().zip(&x) {
                *sum = simd.mul_add_e_f32s(row, x, *sum);
            }
        }
    }
    sums
}
