//! Convolution's weight gradient where vectors are long: along the filters instead of along the pixels.
//!
//! Sums along pixels end in as many sums across a vector as there are weights, and images of 8 x 8 leave lanes idle.
//! Here `dy` is transposed to `[pixel][filter]`, image by image. A tile holds the sums of some rows of taps and of one
//! or two vectors of filters; for each pixel it loads those vectors and multiplies them by one pixel of `x` a tap.
//! No load straddles cache lines, no lane is idle if the filters fill vectors, and nothing is summed across lanes.

use pulp::{Simd, WithSimd};

use super::geometry::{ConvShape, Padded};
use super::parallel::for_each_chunk;
use super::scratch::with_floats;
use super::tile::{dispatch, is_wide, lanes, load};

/// Lanes of the vectors that this file is for.
const LANES: usize = 16;

/// Floats of transposed `dy` that all taps pass over before the next pixels: 16 KiB, a third of the first-level cache.
const BLOCK_FLOATS: usize = 1 << 12;

/// Weights up to which every part of the images has sums of its own: 256 KiB.
const MOST_SUMS: usize = 1 << 16;

/// Parts of the images: a constant of the shape, so that sums are in one order with any number of threads.
const PARTS: usize = 16;

/// Channels below which transposing `dy` costs more than it saves.
const LEAST_CHANNELS: usize = 8;

/// Taps of a row that this file is for.
const TAPS: usize = 3;

/// Whether [`weight_gradient`] is made for this shape on this machine.
pub(super) fn suits(shape: &ConvShape) -> bool {
    let full = shape.k.next_multiple_of(LANES);
    !cfg!(target_arch = "wasm32")
        && is_wide(lanes())
        && shape.groups == 1
        && shape.s == TAPS
        && shape.dilation[1] == 1
        && shape.c >= LEAST_CHANNELS
        && shape.k * 8 >= full * 7
        && shape.n > 1
        && full * shape.taps() <= MOST_SUMS
}

/// As [`super::conv2d_weight_gradient`].
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    // Pixels of `x` are taken one by one, so that the copy needs no planes for its phases: it is that of stride 1.
    let [p, q] = [(shape.p - 1) * shape.stride[0] + 1, (shape.q - 1) * shape.stride[1] + 1];
    let padded = Padded::forward(&ConvShape { p, q, stride: [1, 1], ..*shape }, false);
    let (filters, taps) = (shape.k.next_multiple_of(LANES), shape.taps());
    let floats = filters * taps;
    let per_part = shape.n.div_ceil(PARTS);
    let parts = shape.n.div_ceil(per_part);
    let row = |row: usize| row / shape.r * padded.channel + padded.tap(row % shape.r, 0);
    let start =
        |pixel: usize| pixel / shape.q * shape.stride[0] * padded.pitch() + pixel % shape.q * shape.stride[1];
    with_indices(shape.c * shape.r, row, |rows| {
        with_indices(shape.p * shape.q, start, |starts| {
            with_floats(parts * floats, |sums| {
                for_each_chunk(sums, floats, |part, sums| {
                    sums.fill(0.0);
                    for image in part * per_part..shape.n.min((part + 1) * per_part) {
                        one_image(shape, &padded, [rows, starts], image, [x, dy], sums);
                    }
                });
                let (sums, others) = sums.split_at_mut(floats);
                for other in others.chunks_exact(floats) {
                    sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
                }
                for (tap, sums) in sums.chunks_exact(filters).enumerate() {
                    for (dweight, sum) in dweight[tap..].iter_mut().step_by(taps).zip(sums) {
                        *dweight = *sum;
                    }
                }
            });
        });
    });
}

/// Calls `work` with `index` of all numbers below `count`.
fn with_indices(count: usize, index: impl Fn(usize) -> usize, work: impl FnOnce(&[u32])) {
    with_floats(count, |room| {
        let indices: &mut [u32] = bytemuck::cast_slice_mut(room);
        indices.iter_mut().enumerate().for_each(|(i, to)| *to = index(i) as u32);
        work(indices);
    });
}

/// Adds what `image` gives to `sums` `[taps][filters]`.
fn one_image(
    shape: &ConvShape,
    padded: &Padded,
    [tap_rows, starts]: [&[u32]; 2],
    image: usize,
    [x, dy]: [&[f32]; 2],
    sums: &mut [f32],
) {
    let (pixels, area) = (shape.p * shape.q, shape.h * shape.w);
    let filters = shape.k.next_multiple_of(LANES);
    with_floats(shape.c * padded.channel, |copy| {
        padded.fill(&x[image * shape.c * area..][..shape.c * area], copy);
        with_floats(pixels * filters, |rows| {
            let dy = &dy[image * shape.k * pixels..][..shape.k * pixels];
            dispatch(Transpose { dy, pixels, filters, rows });
            dispatch(Products { source: copy, rows, filters, tap_rows, starts, sums });
        });
    });
}

/// `rows[pixel][filter] = dy[filter][pixel]`, zero where there is no filter.
struct Transpose<'a> {
    dy: &'a [f32],
    pixels: usize,
    filters: usize,
    rows: &'a mut [f32],
}

impl WithSimd for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Transpose { dy, pixels, filters, rows } = self;
        let planes = dy.len() / pixels;
        for first in (0..filters).step_by(4) {
            let planes = &dy[first.min(planes) * pixels..];
            if planes.len() < 4 * pixels {
                for (pixel, row) in rows.chunks_exact_mut(filters).enumerate() {
                    for (i, to) in row[first..first + 4].iter_mut().enumerate() {
                        *to = planes.get(i * pixels + pixel).copied().unwrap_or(0.0);
                    }
                }
                continue;
            }
            let [a, b, c, d] = [0, 1, 2, 3].map(|plane| planes[plane * pixels..][..pixels].as_chunks::<4>());
            let squares = a.0.iter().zip(b.0).zip(c.0.iter().zip(d.0));
            for (rows, ((a, b), (c, d))) in rows.chunks_exact_mut(4 * filters).zip(squares) {
                // Sixteen numbers by name, which compilers turn into shuffles.
                for i in 0..4 {
                    let row = &mut rows[i * filters + first..][..4];
                    row.copy_from_slice(&[a[i], b[i], c[i], d[i]]);
                }
            }
            let rest = a.1.iter().zip(b.1).zip(c.1.iter().zip(d.1));
            let rows = rows[pixels / 4 * 4 * filters..].chunks_exact_mut(filters);
            for (row, ((a, b), (c, d))) in rows.zip(rest) {
                row[first..][..4].copy_from_slice(&[*a, *b, *c, *d]);
            }
        }
    }
}

/// The sums of all taps and filters over the pixels of an image.
struct Products<'a> {
    source: &'a [f32],
    /// `[pixel][filter]`.
    rows: &'a [f32],
    filters: usize,
    /// Where each row of [`TAPS`] taps lies, which are neighbours.
    tap_rows: &'a [u32],
    /// Where each pixel's first tap lies.
    starts: &'a [u32],
    /// `[tap][filter]`, added to.
    sums: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if !is_wide(S::F32_LANES) {
            return;
        }
        let block = (BLOCK_FLOATS / self.filters).max(16);
        for (starts, rows) in self.starts.chunks(block).zip(self.rows.chunks(block * self.filters)) {
            let mut filter = 0;
            while filter < self.filters {
                let width = match (self.filters - filter) / LANES {
                    1 => self.pass::<S, 1, 4>(simd, filter, starts, rows),
                    _ => self.pass::<S, 2, 4>(simd, filter, starts, rows),
                };
                filter += width * LANES;
            }
        }
    }
}

impl Products<'_> {
    /// All taps, `R` rows of them at a time, of `V` vectors of filters; returns `V`.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "three indices name a register; chains of zips would hide which"
    )]
    fn pass<S: Simd, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        filter: usize,
        starts: &[u32],
        rows: &[f32],
    ) -> usize {
        let span = starts.iter().max().map_or(0, |&start| start as usize) + TAPS;
        let vectors = S::as_simd_f32s(rows).0;
        let (stride, first) = (self.filters / LANES, filter / LANES);
        for from in (0..self.tap_rows.len()).step_by(R) {
            let count = R.min(self.tap_rows.len() - from);
            // A tile that is not full computes its last row again.
            let mut lines = [self.source; R];
            let mut sums = [[[simd.splat_f32s(0.0); V]; TAPS]; R];
            for r in 0..R {
                let row = from + r.min(count - 1);
                lines[r] = &self.source[self.tap_rows[row] as usize..][..span];
                for t in 0..TAPS {
                    for v in 0..V {
                        let place = (row * TAPS + t) * self.filters + filter + v * LANES;
                        sums[r][t][v] = load::<S>(self.sums, place);
                    }
                }
            }
            for (&start, row) in starts.iter().zip(vectors.chunks_exact(stride)) {
                let row = &row[first..first + V];
                for r in 0..R {
                    let x = &lines[r][start as usize..][..TAPS];
                    for t in 0..TAPS {
                        let x = simd.splat_f32s(x[t]);
                        for v in 0..V {
                            sums[r][t][v] = simd.mul_add_e_f32s(x, row[v], sums[r][t][v]);
                        }
                    }
                }
            }
            for r in 0..count {
                for t in 0..TAPS {
                    for v in 0..V {
                        let place = ((from + r) * TAPS + t) * self.filters + filter + v * LANES;
                        S::as_mut_simd_f32s(&mut self.sums[place..place + LANES]).0[0] = sums[r][t][v];
                    }
                }
            }
        }
        V
    }
}
