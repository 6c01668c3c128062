//! Convolution, forward and with respect to its input.
//!
//! `y[n,k,p,q] = bias[k] + sum over c,r,s of x[n,c, p*stride-padding+r*dilation, ...] * weight[k,c,r,s]`,
//! `dx[n,c,h,w] = sum over k,r,s of dy[n,k,p,q] * weight[k,c,r,s]` for all p, q that read (h, w).
//! PyTorch's `conv2d` and its gradient. Both are one loop, [`Weighing`], over different copies and taps.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Accumulate;
use super::geometry::{ConvShape, Padded, Tables, Vector, class_shift, with_tables};
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{COLUMNS, block_rows, blocks, dispatch, lanes, weigh};

/// Taps that one pass over the pixels takes: their weights (16 KiB) stay in the first-level cache.
const TAP_CHUNK: usize = 1024;

/// Vectors below which a task takes another image, so that weights that were loaded are used often.
const TASK_VECTORS: usize = 6;

/// Forward pass: `y` [N,K,P,Q] from `x` [N,C,H,W], `weight` [K,C/groups,R,S] and `bias` [K].
pub fn conv2d_forward(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.check(x.len(), weight.len(), y.len());
    let padded = Padded::forward(shape);
    let (channels, taps) = (shape.group_channels(), shape.taps());
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
        let convolution = Convolution {
            input: x,
            input_channels: channels,
            input_area: shape.h * shape.w,
            output_channels: shape.k,
            output_area: shape.p * shape.q,
            groups: shape.groups,
            padded: &padded,
            bias,
        };
        convolution.run(tables, y, Accumulate::Write, |filters, packed| {
            for (first, rows) in blocks(filters.len()) {
                let packed = &mut packed[first * taps..][..rows * taps];
                if first + rows > filters.len() {
                    packed.fill(0.0);
                }
                for (row, filter) in filters.clone().skip(first).take(rows).enumerate() {
                    let weight = &weight[filter * taps..][..taps];
                    for (packed, weight) in packed[row..].iter_mut().step_by(rows).zip(weight) {
                        *packed = *weight;
                    }
                }
            }
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
        let convolution = Convolution {
            input: dy,
            input_channels: filters,
            input_area: shape.p * shape.q,
            output_channels: shape.c,
            output_area: size[0] * size[1],
            groups: shape.groups,
            padded: &padded,
            bias: None,
        };
        convolution.run(tables, dx, accumulate, |outputs, packed| {
            let group = outputs.start / channels;
            let weight = &weight[group * filters * shape.taps()..][..filters * shape.taps()];
            for (first, rows) in blocks(outputs.len()) {
                let packed = &mut packed[first * taps..][..rows * taps];
                packed.fill(0.0);
                let mut packed = packed.chunks_exact_mut(rows);
                for weight in weight.chunks_exact(shape.taps()) {
                    for r in (0..shape.r).filter(|&r| shift(0, r).is_some()) {
                        for s in (0..shape.s).filter(|&s| shift(1, s).is_some()) {
                            let Some(packed) = packed.next() else { break };
                            for (packed, c) in packed.iter_mut().zip(outputs.clone().skip(first)) {
                                *packed = weight[((c - group * channels) * shape.r + r) * shape.s + s];
                            }
                        }
                    }
                }
            }
        });
    });
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
    /// `pack(channels, packed)` lays out the weights of some output channels of one group, for each of their
    /// [`blocks`] `[taps][rows]`.
    fn run(
        &self,
        tables: &mut Tables,
        output: &mut [f32],
        accumulate: Accumulate,
        pack: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let image = self.output_channels * self.output_area;
        if image == 0 || output.is_empty() {
            return;
        }
        let images = output.len() / image;
        let task_images =
            TASK_VECTORS.div_ceil(tables.per_image.max(1)).min(images.div_ceil(threads())).max(1);
        tables.repeat(task_images, self.input_channels * self.padded.channel, image);
        let tables = &*tables;

        // Too few images for the threads: several tasks share an image, each with channels of its own.
        let parts = if task_images == 1 { threads().div_ceil(images) } else { 1 };
        let (unit, units_of_task) = if self.groups == 1 {
            (self.output_channels.div_ceil(parts).next_multiple_of(4).min(self.output_channels), 1)
        } else {
            (self.output_channels / self.groups, self.groups.div_ceil(parts))
        };
        let packed_unit = block_rows(unit) * tables.taps.len();
        with_floats(self.output_channels.div_ceil(unit) * packed_unit, |packed| {
            for_each_chunk(packed, packed_unit, |index, packed| {
                pack(index * unit..self.output_channels.min((index + 1) * unit), packed);
            });
            let packed = &*packed;
            for_each_chunk(output, task_images * image, |task, output| {
                let images = output.len() / image;
                let chunk = if images == 1 { units_of_task * unit * self.output_area } else { output.len() };
                for_each_chunk(output, chunk, |index, output| {
                    let first = index * units_of_task;
                    self.run_part(
                        tables,
                        packed,
                        unit,
                        first,
                        task * task_images,
                        images,
                        output,
                        accumulate,
                    );
                });
            });
        });
    }

    /// Output channels from `first_unit * unit` on, as many as `output` holds, of `images` images.
    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    fn run_part(
        &self,
        tables: &Tables,
        packed: &[f32],
        unit: usize,
        first_unit: usize,
        first_image: usize,
        images: usize,
        output: &mut [f32],
        accumulate: Accumulate,
    ) {
        let taps = tables.taps.len();
        let source = self.input_channels * self.padded.channel;
        let input = self.input_channels * self.input_area;
        let channels = if images == 1 { output.len() / self.output_area } else { self.output_channels };
        with_floats(images * source + lanes(), |copy| {
            for index in 0..channels.div_ceil(unit) {
                let group = if self.groups == 1 { 0 } else { first_unit + index };
                for (i, copy) in copy.chunks_exact_mut(source).enumerate() {
                    let from = ((first_image + i) * self.groups + group) * input;
                    self.padded.fill(&self.input[from..from + input], copy);
                }
                let first = (first_unit + index) * unit;
                let count = unit.min(channels - index * unit);
                dispatch(Weighing {
                    source: copy,
                    tables,
                    vectors: &tables.vectors[..images * tables.per_image],
                    weights: &packed[(first_unit + index) * block_rows(unit) * taps..],
                    output: &mut output[index * unit * self.output_area..],
                    area: self.output_area,
                    filters: count,
                    bias: self.bias.map(|bias| &bias[first..first + count]),
                    accumulate,
                });
            }
        });
    }
}

/// The convolution of one task: weights `[taps][rows]` for each of the [`blocks`] over the padded copy `source`.
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
            let now = from..taps.min(from + TAP_CHUNK);
            for (first, rows) in blocks(self.filters) {
                let weights = &self.weights[first * taps..][now.start * rows..now.end * rows];
                match rows {
                    6 => self.block::<S, 6>(simd, first, weights, now.clone(), span),
                    _ => self.block::<S, 4>(simd, first, weights, now.clone(), span),
                }
            }
        }
    }
}

impl Weighing<'_> {
    /// The taps `now` of the `M` filters from `first` on, over all vectors.
    #[inline(always)]
    fn block<S: Simd, const M: usize>(
        &mut self,
        simd: S,
        first: usize,
        weights: &[f32],
        now: Range<usize>,
        span: usize,
    ) {
        let weights = weights.as_chunks::<M>().0;
        let taps = &self.tables.taps[now.clone()];
        let fresh = now.start == 0;
        let (tiles, rest) = self.vectors.as_chunks::<COLUMNS>();
        for vectors in tiles {
            let starts = vectors.map(|vector| vector.start as usize);
            let sums = weigh::<S, M, COLUMNS>(simd, weights, taps, span, self.source, starts);
            self.store(simd, first, fresh, vectors, sums);
        }
        for vector in rest {
            let sums = weigh::<S, M, 1>(simd, weights, taps, span, self.source, [vector.start as usize]);
            self.store(simd, first, fresh, &[*vector], sums);
        }
    }

    #[inline(always)]
    fn store<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        fresh: bool,
        vectors: &[Vector; N],
        sums: [[S::f32s; N]; M],
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
