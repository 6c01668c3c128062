//! Convolution, forward and with respect to its input.
//!
//! `y[n,k,p,q] = bias[k] + sum over c,r,s of x[n,c, p*stride-padding+r*dilation, ...] * weight[k,c,r,s]`,
//! `dx[n,c,h,w] = sum over k,r,s of dy[n,k,p,q] * weight[k,c,r,s]` for all p, q that read (h, w).
//! PyTorch's `conv2d` and its gradient. Both are one loop, [`Weighing`], over different copies and taps.

use pulp::{Simd, WithSimd};

use super::geometry::{ConvShape, Padded, Tables, Vector, class_shift, with_tables};
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{ROWS, dispatch, lanes, next_columns, weigh};
use super::{Accumulate, tile};

/// Taps that one pass over the pixels takes: their weights (16 KiB) stay in the first-level cache.
const TAP_CHUNK: usize = 1024;

/// Vectors below which a task takes another image, so that weights that were loaded are used often.
const TASK_VECTORS: usize = 6;

/// Forward pass: `y` [N,K,P,Q] from `x` [N,C,H,W], `weight` [K,C/groups,R,S] and `bias` [K].
pub fn conv2d_forward(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.check(x.len(), weight.len(), y.len());
    let padded = Padded::forward(shape);
    let (filters, channels, taps) = (shape.group_filters(), shape.group_channels(), shape.taps());
    let block = taps * ROWS;
    let group = filters.div_ceil(ROWS) * block;
    with_tables(|tables| {
        tables.taps.clear();
        for c in 0..channels {
            for r in 0..shape.r {
                for s in 0..shape.s {
                    tables.taps.push((c * padded.channel + padded.tap(r, s)) as u32);
                }
            }
        }
        tables.cover([shape.p, shape.q], padded.pitch(), lanes());
        with_floats(shape.groups * group, |packed| {
            for (weight, packed) in weight.chunks(filters * taps).zip(packed.chunks_mut(group)) {
                for (weight, packed) in weight.chunks(ROWS * taps).zip(packed.chunks_mut(block)) {
                    pack_rows(weight, taps, packed);
                }
            }
            Convolution {
                input: x,
                input_channels: channels,
                input_area: shape.h * shape.w,
                output_channels: filters,
                output_area: shape.p * shape.q,
                groups: shape.groups,
                padded: &padded,
                bias,
            }
            .run(tables, packed, y, Accumulate::Write);
        });
    });
}

/// Input gradient: `dx` [N,C,H,W] from `dy` [N,K,P,Q] and `weight` [K,C/groups,R,S].
pub fn conv2d_input_gradient(
    shape: &ConvShape,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: Accumulate,
) {
    shape.check(dx.len(), weight.len(), dy.len());
    if shape.stride == [1, 1] {
        return input_gradient_class(shape, [0, 0], dy, weight, dx, accumulate);
    }
    for row in 0..shape.stride[0].min(shape.h) {
        for col in 0..shape.stride[1].min(shape.w) {
            let height = (shape.h - row).div_ceil(shape.stride[0]);
            let width = (shape.w - col).div_ceil(shape.stride[1]);
            with_floats(shape.n * shape.c * height * width, |class| {
                input_gradient_class(shape, [row, col], dy, weight, class, Accumulate::Write);
                let class = &*class;
                for_each_chunk(dx, shape.c * shape.h * shape.w, |image, dx| {
                    let from = &class[image * shape.c * height * width..][..shape.c * height * width];
                    let planes = dx.chunks_mut(shape.h * shape.w).zip(from.chunks(height * width));
                    for (dx, from) in planes {
                        let lines = dx[row * shape.w..].chunks_mut(shape.stride[0] * shape.w);
                        for (dx, from) in lines.zip(from.chunks(width)) {
                            let dx = dx[col..shape.w].iter_mut().step_by(shape.stride[1]);
                            match accumulate {
                                Accumulate::Write => dx.zip(from).for_each(|(dx, from)| *dx = *from),
                                Accumulate::Add => dx.zip(from).for_each(|(dx, from)| *dx += from),
                            }
                        }
                    }
                });
            });
        }
    }
}

/// The gradient of all input pixels at rows `stride * i + class[0]`, columns `stride * j + class[1]`, densely.
fn input_gradient_class(
    shape: &ConvShape,
    class: [usize; 2],
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: Accumulate,
) {
    let padded = Padded::gradient(shape);
    let (filters, channels) = (shape.group_filters(), shape.group_channels());
    let shift = |axis: usize, tap| {
        class_shift(class[axis], tap, shape.stride[axis], shape.padding[axis], shape.dilation[axis])
    };
    let size =
        [(shape.h - class[0]).div_ceil(shape.stride[0]), (shape.w - class[1]).div_ceil(shape.stride[1])];
    with_tables(|tables| {
        tables.taps.clear();
        for k in 0..filters {
            for row in (0..shape.r).filter_map(|r| shift(0, r)) {
                for col in (0..shape.s).filter_map(|s| shift(1, s)) {
                    tables.taps.push((k * padded.channel + padded.shifted(row, col)) as u32);
                }
            }
        }
        let taps = tables.taps.len();
        if taps == 0 {
            if accumulate == Accumulate::Write {
                dx.fill(0.0);
            }
            return;
        }
        tables.cover(size, padded.pitch(), lanes());
        let group = channels.div_ceil(ROWS) * taps * ROWS;
        with_floats(shape.groups * group, |packed| {
            packed.fill(0.0);
            for (weight, packed) in weight.chunks(filters * shape.taps()).zip(packed.chunks_mut(group)) {
                let mut tap = 0;
                for weight in weight.chunks(shape.taps()) {
                    for r in (0..shape.r).filter(|&r| shift(0, r).is_some()) {
                        for s in (0..shape.s).filter(|&s| shift(1, s).is_some()) {
                            for c in 0..channels {
                                let to = (c / ROWS * taps + tap) * ROWS + c % ROWS;
                                packed[to] = weight[(c * shape.r + r) * shape.s + s];
                            }
                            tap += 1;
                        }
                    }
                }
            }
            Convolution {
                input: dy,
                input_channels: filters,
                input_area: shape.p * shape.q,
                output_channels: channels,
                output_area: size[0] * size[1],
                groups: shape.groups,
                padded: &padded,
                bias: None,
            }
            .run(tables, packed, dx, accumulate);
        });
    });
}

/// `packed[tap][row] = weight[row][tap]`, zero for rows that are not there.
fn pack_rows(weight: &[f32], taps: usize, packed: &mut [f32]) {
    if weight.len() < ROWS * taps {
        packed.fill(0.0);
    }
    for (row, weight) in weight.chunks(taps).enumerate() {
        for (packed, weight) in packed.as_chunks_mut::<ROWS>().0.iter_mut().zip(weight) {
            packed[row] = *weight;
        }
    }
}

/// A stride-1 convolution of the padded copy of `input`, spread over the threads.
struct Convolution<'a> {
    input: &'a [f32],
    input_channels: usize,
    input_area: usize,
    output_channels: usize,
    output_area: usize,
    groups: usize,
    padded: &'a Padded,
    bias: Option<&'a [f32]>,
}

impl Convolution<'_> {
    /// `packed` holds, for each group and each block of [`ROWS`] filters, `[taps][ROWS]` weights.
    fn run(&self, tables: &mut Tables, packed: &[f32], output: &mut [f32], accumulate: Accumulate) {
        let channels = self.groups * self.output_channels;
        let image = channels * self.output_area;
        if image == 0 || output.is_empty() {
            return;
        }
        let images = output.len() / image;
        let group_images =
            TASK_VECTORS.div_ceil(tables.per_image.max(1)).min(images.div_ceil(threads())).max(1);
        let source = self.input_channels * self.padded.channel;
        tables.repeat(group_images, source, image);
        let tables = &*tables;

        // Too few images for the threads: several tasks share an image, each with filters of its own.
        let unit = if self.groups == 1 { ROWS } else { self.output_channels };
        let units = channels.div_ceil(unit);
        let parts = if group_images == 1 { threads().div_ceil(images).min(units) } else { 1 };
        let part = units.div_ceil(parts) * unit;

        for_each_chunk(output, group_images * image, |task, output| {
            let chunk = if parts == 1 { output.len() } else { part * self.output_area };
            for_each_chunk(output, chunk, |index, output| {
                let filters = index * part..channels.min((index + 1) * part);
                self.run_part(tables, packed, task * group_images, filters, output, accumulate);
            });
        });
    }

    /// Filters `filters` of the images from `first` on; `output` starts with the first of these filters.
    fn run_part(
        &self,
        tables: &Tables,
        packed: &[f32],
        first: usize,
        filters: std::ops::Range<usize>,
        output: &mut [f32],
        accumulate: Accumulate,
    ) {
        let image = self.groups * self.output_channels * self.output_area;
        let images = output.len().div_ceil(image);
        let block = tables.taps.len() * ROWS;
        let group_packed = self.output_channels.div_ceil(ROWS) * block;
        let source = self.input_channels * self.padded.channel;
        let input = self.input_channels * self.input_area;
        with_floats(images * source + tile::lanes() + self.padded.channel, |copy| {
            for group in filters.start / self.output_channels..filters.end.div_ceil(self.output_channels) {
                for (i, copy) in copy.chunks_mut(source).take(images).enumerate() {
                    let from = ((first + i) * self.groups + group) * input;
                    self.padded.fill(&self.input[from..from + input], copy);
                }
                let start = filters.start.max(group * self.output_channels);
                let end = filters.end.min((group + 1) * self.output_channels);
                let packed = &packed[group * group_packed..][..group_packed];
                dispatch(Weighing {
                    source: copy,
                    tables,
                    vectors: &tables.vectors[..images * tables.per_image],
                    weights: &packed[(start - group * self.output_channels) / ROWS * block..],
                    output: &mut output[(start - filters.start) * self.output_area..],
                    area: self.output_area,
                    filters: end - start,
                    bias: self.bias.map(|bias| &bias[start..end]),
                    accumulate,
                });
            }
        });
    }
}

/// The convolution of one task: weights `[filters / ROWS][taps][ROWS]` over the padded copy `source`.
struct Weighing<'a> {
    source: &'a [f32],
    tables: &'a Tables,
    vectors: &'a [Vector],
    weights: &'a [f32],
    output: &'a mut [f32],
    area: usize,
    filters: usize,
    bias: Option<&'a [f32]>,
    accumulate: Accumulate,
}

impl WithSimd for Weighing<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let taps = self.tables.taps.len();
        let span = self.tables.span(S::F32_LANES);
        for from in (0..taps).step_by(TAP_CHUNK) {
            let to = taps.min(from + TAP_CHUNK);
            for block in 0..self.filters.div_ceil(ROWS) {
                let weights = self.weights[(block * taps + from) * ROWS..(block * taps + to) * ROWS]
                    .as_chunks::<ROWS>()
                    .0;
                let tap_table = &self.tables.taps[from..to];
                let fresh = from == 0;
                let mut vectors = self.vectors;
                while !vectors.is_empty() {
                    let (now, later) = vectors.split_at(next_columns(vectors.len()));
                    match *now {
                        [a, b, c] => {
                            let starts = [a, b, c].map(|vector| vector.start as usize);
                            let sums = weigh(simd, weights, tap_table, span, self.source, starts);
                            self.store(simd, block * ROWS, fresh, [a, b, c], sums);
                        }
                        [a, b] => {
                            let starts = [a, b].map(|vector| vector.start as usize);
                            let sums = weigh(simd, weights, tap_table, span, self.source, starts);
                            self.store(simd, block * ROWS, fresh, [a, b], sums);
                        }
                        [a] => {
                            let sums = weigh(simd, weights, tap_table, span, self.source, [a.start as usize]);
                            self.store(simd, block * ROWS, fresh, [a], sums);
                        }
                        _ => {}
                    }
                    vectors = later;
                }
            }
        }
    }
}

impl Weighing<'_> {
    #[inline(always)]
    fn store<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        fresh: bool,
        vectors: [Vector; N],
        sums: [[S::f32s; N]; ROWS],
    ) {
        let overwrite = fresh && self.accumulate == Accumulate::Write;
        for (filter, sums) in (first..self.filters).zip(sums) {
            let bias = match self.bias {
                Some(bias) if fresh => bias[filter],
                _ => 0.0,
            };
            let plane = &mut self.output[filter * self.area..];
            for (vector, sum) in vectors.iter().zip(sums) {
                let sum = simd.add_f32s(sum, simd.splat_f32s(bias));
                if vector.is_whole() {
                    let target = &mut plane[vector.target as usize..][..S::F32_LANES];
                    let target = &mut S::as_mut_simd_f32s(target).0[0];
                    *target = if overwrite { sum } else { simd.add_f32s(sum, *target) };
                    continue;
                }
                let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&sum));
                for piece in self.tables.pieces(vector) {
                    let lanes = &lanes[piece.lane as usize..][..piece.len as usize];
                    let target = &mut plane[piece.target as usize..][..piece.len as usize];
                    for (target, lane) in target.iter_mut().zip(lanes) {
                        *target = if overwrite { *lane } else { *target + lane };
                    }
                }
            }
        }
    }
}
