//! Convolution's gradients with respect to weight and bias.
//!
//! `dweight[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c, p*stride-padding+r*dilation, ...]`: for each
//! pair of filter and tap a dot product over all pixels of the batch. Tasks own pairs, never images, so that
//! no partial sums need to be joined: each walks all images in order. `x` is copied with its border as in the
//! forward pass; `dy` is read as it lies, or, where rows do not fill whole vectors, from a copy in which the
//! lanes between them are zero.

use pulp::{Simd, WithSimd};

use super::geometry::{ConvShape, Padded, Tables, with_tables};
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{PAIR_ROWS, correlate, dispatch, lanes, next_taps};

/// Floats of copied input that are made at a time: 4 MiB, which the last-level cache holds.
const COPY_FLOATS: usize = 1 << 20;

/// Floats of `dy` that a task walks before it goes to the next taps: 16 KiB for [`PAIR_ROWS`] filters.
const ROW_FLOATS: usize = 1 << 10;

/// Weight gradient: `dweight` [K,C/groups,R,S], overwritten, from `x` [N,C,H,W] and `dy` [N,K,P,Q].
pub fn conv2d_weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    shape.check(x.len(), dweight.len(), dy.len());
    if x.is_empty() || dy.is_empty() || dweight.is_empty() {
        dweight.fill(0.0);
        return;
    }
    let padded = Padded::forward(shape);
    let lanes = lanes();
    with_tables(|tables| {
        tables.taps.clear();
        for c in 0..shape.group_channels() {
            for r in 0..shape.r {
                for s in 0..shape.s {
                    tables.taps.push((c * padded.channel + padded.tap(r, s)) as u32);
                }
            }
        }
        tables.cover([shape.p, shape.q], padded.pitch(), lanes);
        let tables = &*tables;
        let image = shape.c * padded.channel;
        let batch = (COPY_FLOATS / image).clamp(1, shape.n);
        // Zero lanes of dy meet whatever follows the last image, so it has to be finite.
        with_floats(batch * image + padded.channel + lanes, |copy| {
            copy[batch * image..].fill(0.0);
            let dense = tables.is_dense();
            let row = tables.per_image * lanes;
            let spread_floats = if dense { 0 } else { batch * shape.k * row };
            with_floats(spread_floats, |spread| {
                let work = Pairs::new(shape);
                with_floats(work.tasks * work.floats(), |sums| {
                    sums.fill(0.0);
                    for first in (0..shape.n).step_by(batch) {
                        let images = batch.min(shape.n - first);
                        let pixels = shape.c * shape.h * shape.w;
                        for_each_chunk(&mut copy[..images * image], image, |i, copy| {
                            padded.fill(&x[(first + i) * pixels..][..pixels], copy);
                        });
                        let area = shape.p * shape.q;
                        let dy = &dy[first * shape.k * area..][..images * shape.k * area];
                        if !dense {
                            for_each_chunk(&mut spread[..images * shape.k * row], row, |plane, to| {
                                spread_plane(tables, lanes, &dy[plane * area..][..area], to);
                            });
                        }
                        let rows = if dense { dy } else { &spread[..images * shape.k * row] };
                        let copy = &*copy;
                        for_each_chunk(sums, work.floats(), |task, sums| {
                            work.run(task, shape, &padded, tables, copy, rows, images, sums);
                        });
                    }
                    work.unpack(shape, sums, dweight);
                });
            });
        });
    });
}

/// Bias gradient: `dbias` [K] is the sum of `dy` [N,K,P,Q] over all but K.
pub fn conv2d_bias_gradient(shape: &ConvShape, dy: &[f32], dbias: &mut [f32]) {
    let area = shape.p * shape.q;
    assert_eq!(dy.len(), shape.n * shape.k * area, "length of dy for {shape:?}");
    assert_eq!(dbias.len(), shape.k, "length of dbias for {shape:?}");
    for_each_chunk(dbias, 1, |k, dbias| {
        let planes = (0..shape.n).map(|n| &dy[(n * shape.k + k) * area..][..area]);
        dbias[0] = planes.map(|plane| super::batch_norm::sum(plane)).sum::<f64>() as f32;
    });
}

/// Lays a plane of `dy` out as its vectors lie in the padded copy, zero where a lane is no output.
fn spread_plane(tables: &Tables, lanes: usize, dy: &[f32], to: &mut [f32]) {
    for (vector, to) in tables.vectors.iter().zip(to.chunks_exact_mut(lanes)) {
        if vector.is_whole() {
            to.copy_from_slice(&dy[vector.target as usize..][..lanes]);
            continue;
        }
        to.fill(0.0);
        for piece in tables.pieces(vector) {
            let (lane, target, len) = (piece.lane as usize, piece.target as usize, piece.len as usize);
            to[lane..lane + len].copy_from_slice(&dy[target..target + len]);
        }
    }
}

/// How the pairs of filter and tap are dealt out: tasks of [`PAIR_ROWS`] filters and `columns` taps.
struct Pairs {
    groups: usize,
    /// Blocks of filters in a group.
    blocks: usize,
    /// Parts into which the taps are cut.
    parts: usize,
    columns: usize,
    tasks: usize,
}

impl Pairs {
    fn new(shape: &ConvShape) -> Self {
        let blocks = shape.group_filters().div_ceil(PAIR_ROWS);
        let taps = shape.taps();
        let wanted = (4 * threads()).div_ceil(blocks * shape.groups);
        let columns = taps.div_ceil(wanted).next_multiple_of(9).min(taps);
        let parts = taps.div_ceil(columns);
        Pairs { groups: shape.groups, blocks, parts, columns, tasks: shape.groups * blocks * parts }
    }

    /// Sums of one task.
    fn floats(&self) -> usize {
        PAIR_ROWS * self.columns
    }

    /// Group, block and part of a task.
    fn locate(&self, task: usize) -> (usize, usize, usize) {
        let group = task / (self.blocks * self.parts);
        (group, task / self.parts % self.blocks, task % self.parts)
    }

    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    fn run(
        &self,
        task: usize,
        shape: &ConvShape,
        padded: &Padded,
        tables: &Tables,
        copy: &[f32],
        rows: &[f32],
        images: usize,
        sums: &mut [f32],
    ) {
        let (group, block, part) = self.locate(task);
        let taps = &tables.taps[part * self.columns..];
        let row = rows.len() / (images * shape.k);
        dispatch(Correlation {
            source: &copy[group * shape.group_channels() * padded.channel..],
            image: shape.c * padded.channel,
            images,
            taps: &taps[..self.columns.min(taps.len())],
            tables,
            rows: &rows[group * shape.group_filters() * row..],
            row,
            row_image: shape.k * row,
            first: block * PAIR_ROWS,
            filters: shape.group_filters(),
            sums,
            columns: self.columns,
        });
    }

    /// Brings the sums of all tasks to their places in `dweight`.
    fn unpack(&self, shape: &ConvShape, sums: &[f32], dweight: &mut [f32]) {
        let (filters, taps) = (shape.group_filters(), shape.taps());
        debug_assert_eq!(self.groups, shape.groups);
        for (task, sums) in sums.chunks_exact(self.floats()).enumerate() {
            let (group, block, part) = self.locate(task);
            let first = part * self.columns;
            let count = self.columns.min(taps - first);
            for (row, sums) in (block * PAIR_ROWS..filters).zip(sums.chunks_exact(self.columns)) {
                let to = (group * filters + row) * taps + first;
                dweight[to..to + count].copy_from_slice(&sums[..count]);
            }
        }
    }
}

/// One task: all `taps` of the filters `first..first + PAIR_ROWS` of a group, over some images.
struct Correlation<'a> {
    /// The padded copy from the group's first channel on, images `image` floats apart.
    source: &'a [f32],
    image: usize,
    images: usize,
    taps: &'a [u32],
    tables: &'a Tables,
    /// `dy` from the group's first filter on; filters are `row`, images `row_image` floats apart.
    rows: &'a [f32],
    row: usize,
    row_image: usize,
    first: usize,
    filters: usize,
    /// `[PAIR_ROWS][columns]`, added to.
    sums: &'a mut [f32],
    columns: usize,
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let near = (ROW_FLOATS / self.row.max(1)).max(1);
        for from in (0..self.images).step_by(near) {
            let images = from..self.images.min(from + near);
            let mut column = 0;
            while column < self.taps.len() {
                let taps = &self.taps[column..];
                let width = next_taps(taps.len());
                match taps[..width] {
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
    #[inline(always)]
    fn pass<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        images: std::ops::Range<usize>,
        column: usize,
        taps: [u32; N],
    ) {
        let mut sums = [[simd.splat_f32s(0.0); N]; PAIR_ROWS];
        let starts = &self.tables.vectors;
        let span = starts.last().map_or(0, |vector| vector.start as usize) + S::F32_LANES;
        for image in images {
            let source = &self.source[image * self.image..];
            let dy = &self.rows[image * self.row_image..];
            let rows = std::array::from_fn(|row| {
                // Rows beyond the last filter repeat it; their sums are not used.
                let filter = (self.first + row).min(self.filters - 1);
                &dy[filter * self.row..][..self.row]
            });
            correlate(simd, rows, source, taps.map(|tap| tap as usize), starts, span, &mut sums);
        }
        for (to, sums) in self.sums.chunks_exact_mut(self.columns).zip(sums) {
            for (to, sum) in to[column..].iter_mut().zip(sums) {
                *to += simd.reduce_sum_f32s(sum);
            }
        }
    }
}
