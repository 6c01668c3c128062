//! Convolution's gradients with respect to weight and bias.
//!
//! `dweight[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c, p*stride-padding+r*dilation, ...]`: for each
//! pair of filter and tap a dot product over all pixels of the batch. The images fall into parts, as many as the shape
//! says, whose sums are joined in order; where there is but one part, tasks own pairs and walk all images in order. `x` is copied with its border as in the
//! forward pass; `dy` is read as it lies, or, where rows do not fill whole vectors, from a copy in which the
//! lanes between them are zero.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::conv_weight_wide;
use super::geometry::{ConvShape, Padded, Tables, with_tables};
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{PAIR_ROWS as ROWS, correlate, dispatch, is_wide, lanes, load, next_taps};

/// Floats of copied input that are made at a time: 4 MiB, which the last-level cache holds.
const COPY_FLOATS: usize = 1 << 18;

/// Vectors of `dy` that a task walks before it goes to the next taps: as many terms a lane sums before its sum joins
/// the others. With AVX-512 64 KiB for [`ROWS`] filters, which stream through the first-level cache.
const ROW_VECTORS: usize = 256;

/// Weight gradient: `dweight` `[K,C/groups,R,S]`, overwritten, from `x` `[N,C,H,W]` and `dy` `[N,K,P,Q]`.
pub fn conv2d_weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    shape.check(x.len(), dweight.len(), dy.len());
    if x.is_empty() || dy.is_empty() || dweight.is_empty() {
        dweight.fill(0.0);
        return;
    }
    if conv_weight_wide::suits(shape) {
        conv_weight_wide::weight_gradient(shape, x, dy, dweight);
        return;
    }
    let padded = Padded::forward(shape, false);
    let lanes = lanes();
    let parts = parts(shape);
    let per_part = shape.n.div_ceil(parts);
    with_tables(1, |tables| {
        let tables = &mut tables[0];
        tables.cover([shape.p, shape.q], padded.pitch(), lanes);
        let near = (ROW_VECTORS / tables.per_image).clamp(1, per_part);
        // A part holds no more than what a task walks anyway.
        let most = if parts > 1 { near } else { shape.n };
        let batch = (COPY_FLOATS / (shape.c * padded.channel)).clamp(1, most);
        let near = near.min(batch);
        tables.taps.clear();
        for c in 0..shape.group_channels() {
            for r in 0..shape.r {
                for s in 0..shape.s {
                    tables.taps.push((c * batch * padded.channel + padded.tap(r, s)) as u32);
                }
            }
        }
        tables.repeat(near, padded.channel, 0);
        let pairs = Pairs::new(shape, batch, tables.per_image * lanes, parts);
        let gradient = Gradient { shape, padded: &padded, tables, pairs: &pairs, x, dy, spread: parts == 1 };
        let floats = pairs.tasks() * pairs.sums();
        with_floats(parts * floats, |sums| {
            for_each_chunk(sums, floats, |part, sums| {
                gradient.run(part * per_part..shape.n.min((part + 1) * per_part), sums);
            });
            let (sums, others) = sums.split_at_mut(floats);
            for other in others.chunks_exact(floats) {
                sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
            }
            pairs.unpack(sums, dweight);
        });
    });
}

/// Into how many parts the images fall, each with sums of its own: a constant of the shape, not of the threads. A part
/// keeps its images in the cache of its core. Where weights are many, or images too few or too small for sums worth
/// starting, there is one part, and all threads work on the same images.
fn parts(shape: &ConvShape) -> usize {
    const MOST: usize = 16;
    const MOST_SUMS: usize = 1 << 20;
    const LEAST_PIXELS: usize = 512;
    let images = shape.n.div_ceil(MOST);
    if shape.n < MOST
        || images * shape.p * shape.q < LEAST_PIXELS
        || shape.k * shape.taps() * MOST > MOST_SUMS
    {
        return 1;
    }
    // Without empty parts.
    shape.n.div_ceil(images)
}

/// The weight gradient of some images.
struct Gradient<'a> {
    shape: &'a ConvShape,
    padded: &'a Padded,
    tables: &'a Tables,
    pairs: &'a Pairs,
    x: &'a [f32],
    dy: &'a [f32],
    /// Whether it spreads its own work over the threads.
    spread: bool,
}

impl Gradient<'_> {
    fn each(&self, data: &mut [f32], chunk: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        if self.spread {
            for_each_chunk(data, chunk, work);
        } else {
            data.chunks_mut(chunk).enumerate().for_each(|(index, chunk)| work(index, chunk));
        }
    }

    /// The sums over `images`, written to `sums`.
    fn run(&self, images: Range<usize>, sums: &mut [f32]) {
        let Gradient { shape, padded, tables, pairs, .. } = *self;
        let batch = pairs.batch;
        let floats = shape.c * batch * padded.channel;
        sums.fill(0.0);
        with_floats(floats + lanes(), |copy| {
            // Zero lanes of `dy` meet what follows a channel's last plane, so it has to be finite: here and, where the last
            // batch is not full, in the planes of images that are not there.
            copy[floats..].fill(0.0);
            with_floats(shape.groups * pairs.blocks * pairs.block(), |rows| {
                for first in images.clone().step_by(batch) {
                    let images = batch.min(images.end - first);
                    self.each(&mut copy[..floats], padded.channel, |index, copy| {
                        let (c, image) = (index / batch, index % batch);
                        if image < images {
                            let plane = (first + image) * shape.c + c;
                            let area = shape.h * shape.w;
                            padded.fill(&self.x[plane * area..][..area], copy);
                        } else {
                            copy.fill(0.0);
                        }
                    });
                    self.each(rows, pairs.image, |index, rows| {
                        let (block, image) = (index / batch, index % batch);
                        if image < images {
                            let area = shape.p * shape.q;
                            let from = (first + image) * shape.k * area;
                            let filters = pairs.filters(block);
                            let dy = &self.dy[from + filters.start * area..from + filters.end * area];
                            dispatch(Interleave { tables, dy, area, rows });
                        }
                    });
                    let (copy, rows) = (&*copy, &*rows);
                    self.each(sums, pairs.sums(), |task, sums| {
                        let (group, block, part) = pairs.locate(task);
                        let taps = &tables.taps[part * pairs.columns..];
                        dispatch(Correlation {
                            source: &copy[group * shape.group_channels() * batch * padded.channel..],
                            channel: padded.channel,
                            images,
                            taps: &taps[..pairs.columns.min(taps.len())],
                            tables,
                            rows: &rows[(group * pairs.blocks + block) * pairs.block()..],
                            sums,
                            columns: pairs.columns,
                        });
                    });
                }
            });
        });
    }
}

/// Bias gradient: `dbias` `[K]` is the sum of `dy` `[N,K,P,Q]` over all but K.
pub fn conv2d_bias_gradient(shape: &ConvShape, dy: &[f32], dbias: &mut [f32]) {
    let area = shape.p * shape.q;
    assert_eq!(dy.len(), shape.n * shape.k * area, "length of dy for {shape:?}");
    assert_eq!(dbias.len(), shape.k, "length of dbias for {shape:?}");
    for_each_chunk(dbias, 1, |k, dbias| {
        let planes = (0..shape.n).map(|n| &dy[(n * shape.k + k) * area..][..area]);
        dbias[0] = planes.map(super::batch_norm::sum).sum::<f64>() as f32;
    });
}

/// Lays the planes of up to [`ROWS`] filters of `dy` out as `[vector][filter][lane]`, vectors as they lie in
/// the padded copy; zero where a lane is no output or a filter is missing.
struct Interleave<'a> {
    tables: &'a Tables,
    dy: &'a [f32],
    area: usize,
    rows: &'a mut [f32],
}

impl WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let rows = S::as_mut_simd_f32s(self.rows).0.as_chunks_mut::<ROWS>().0;
        for row in 0..ROWS {
            let Some(dy) = self.dy.get(row * self.area..(row + 1) * self.area) else {
                rows.iter_mut().for_each(|rows| rows[row] = zero);
                continue;
            };
            for (vector, rows) in self.tables.vectors.iter().zip(&mut *rows) {
                rows[row] = if vector.is_whole() {
                    load::<S>(dy, vector.target as usize)
                } else {
                    let mut lanes = zero;
                    for piece in self.tables.pieces(vector) {
                        let (lane, target, len) =
                            (piece.lane as usize, piece.target as usize, piece.len as usize);
                        let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut lanes));
                        for (lane, &dy) in lanes[lane..].iter_mut().zip(&dy[target..target + len]) {
                            *lane = dy;
                        }
                    }
                    lanes
                };
            }
        }
    }
}

/// How the pairs of filter and tap are dealt out: tasks of [`ROWS`] filters and `columns` taps.
struct Pairs {
    groups: usize,
    /// Filters of a group, and the blocks of [`ROWS`] that they make.
    group_filters: usize,
    blocks: usize,
    /// Taps of a filter, and how many of them a task takes.
    taps: usize,
    columns: usize,
    /// Images held at a time, and floats of `dy` of one image and block of filters.
    batch: usize,
    image: usize,
}

impl Pairs {
    fn new(shape: &ConvShape, batch: usize, row: usize, image_parts: usize) -> Self {
        let (group_filters, taps) = (shape.group_filters(), shape.taps());
        let blocks = group_filters.div_ceil(ROWS);
        // Several tasks a thread, so that none waits long for the last one. Multiples of 9 keep the tiles
        // of a 3x3 filter whole.
        let parts = if image_parts > 1 { 1 } else { (4 * threads()).div_ceil(blocks * shape.groups) };
        let columns = taps.div_ceil(parts).next_multiple_of(9).min(taps);
        Pairs { groups: shape.groups, group_filters, blocks, taps, columns, batch, image: ROWS * row }
    }

    fn parts(&self) -> usize {
        self.taps.div_ceil(self.columns)
    }

    fn tasks(&self) -> usize {
        self.groups * self.blocks * self.parts()
    }

    /// Sums of one task.
    fn sums(&self) -> usize {
        ROWS * self.columns
    }

    /// Floats of `dy` of one block of filters, all images.
    fn block(&self) -> usize {
        self.batch * self.image
    }

    /// Group, block and part of a task.
    fn locate(&self, task: usize) -> (usize, usize, usize) {
        let block = task / self.parts();
        (block / self.blocks, block % self.blocks, task % self.parts())
    }

    /// Filters of a block, blocks counted through all groups.
    fn filters(&self, block: usize) -> Range<usize> {
        let group = block / self.blocks;
        let first = block % self.blocks * ROWS;
        let last = self.group_filters.min(first + ROWS);
        group * self.group_filters + first..group * self.group_filters + last
    }

    /// Brings the sums of all tasks to their places in `dweight`.
    fn unpack(&self, sums: &[f32], dweight: &mut [f32]) {
        for (task, sums) in sums.chunks_exact(self.sums()).enumerate() {
            let (group, block, part) = self.locate(task);
            let first = part * self.columns;
            let count = self.columns.min(self.taps - first);
            for (filter, sums) in
                self.filters(group * self.blocks + block).zip(sums.chunks_exact(self.columns))
            {
                dweight[filter * self.taps + first..][..count].copy_from_slice(&sums[..count]);
            }
        }
    }
}

/// One task: all `taps` of [`ROWS`] filters over some images.
struct Correlation<'a> {
    /// The padded copy from the group's first channel on, images `channel` floats apart.
    source: &'a [f32],
    channel: usize,
    images: usize,
    taps: &'a [u32],
    tables: &'a Tables,
    /// `dy` as [`Interleave`] leaves it.
    rows: &'a [f32],
    /// `[ROWS][columns]`, added to.
    sums: &'a mut [f32],
    columns: usize,
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let near = self.tables.vectors.len() / self.tables.per_image;
        for from in (0..self.images).step_by(near) {
            let images = from..self.images.min(from + near);
            let mut column = 0;
            while column < self.taps.len() {
                let taps = &self.taps[column..];
                let width = next_taps(taps.len(), S::F32_LANES);
                match taps[..width] {
                    [a, b, c, d, e, f] if is_wide(S::F32_LANES) => {
                        self.pass(simd, images.clone(), column, [a, b, c, d, e, f]);
                    }
                    [a, b, c, d] if is_wide(S::F32_LANES) => {
                        self.pass(simd, images.clone(), column, [a, b, c, d]);
                    }
                    [a, b, c] => self.pass(simd, images.clone(), column, [a, b, c]),
                    [a, b] => self.pass(simd, images.clone(), column, [a, b]),
                    [a] => self.pass(simd, images.clone(), column, [a]),
                    _ => {}
                }
                column += width;
            }
        }
    }
}

impl Correlation<'_> {
    /// `N` taps from `column` on, over `images`.
    #[inline(always)]
    fn pass<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        images: Range<usize>,
        column: usize,
        taps: [u32; N],
    ) {
        let vectors = &self.tables.vectors[..images.len() * self.tables.per_image];
        let span = vectors.last().map_or(0, |vector| vector.start as usize) + S::F32_LANES;
        let source = &self.source[images.start * self.channel..];
        let rows = &self.rows[images.start * self.tables.per_image * ROWS * S::F32_LANES..];
        let sums = correlate(simd, rows, source, taps.map(|tap| tap as usize), vectors, span);
        for (to, sums) in self.sums.chunks_exact_mut(self.columns).zip(sums) {
            for (to, sum) in to[column..].iter_mut().zip(sums) {
                *to += simd.reduce_sum_f32s(sum);
            }
        }
    }
}
