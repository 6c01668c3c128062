//! Convolution, forward and with respect to its input.
//!
//! `y[n,k,p,q] = bias[k] + sum over c,r,s of x[n,c, p*stride-padding+r*dilation, ...] * weight[k,c,r,s]`,
//! `dx[n,c,h,w] = sum over k,r,s of dy[n,k,p,q] * weight[k,c,r,s]` for all p, q that read (h, w).
//! PyTorch's `conv2d` and its gradient. Both are one loop, [`Weighing`], over different copies and taps.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Accumulate;
use super::batch_norm::Residual;
use super::geometry::{ConvShape, Padded, Tables, Vector, class_shift, with_tables};
use super::parallel::{for_each_chunk, threads};
use super::scratch::with_floats;
use super::tile::{COLUMNS, WIDE_COLUMNS, block_rows, blocks, dispatch, is_wide, lanes, load, weigh};

/// Taps that one pass over the pixels takes: their weights (16 KiB) stay in the first-level cache.
const TAP_CHUNK: usize = 1024;

/// Floats of the copy that all filters pass over before the next ones are touched: 128 KiB, a part of the
/// second-level cache.
const NEAR_FLOATS: usize = 1 << 15;

/// Output channels whose weights are packed by one task; a multiple of both heights of a tile.
const UNIT: usize = 48;

/// Vectors below which a task takes another image, so that weights that were loaded are used often.
const TASK_VECTORS: usize = 6;

/// The same where the weights of a layer do not stay in the second-level cache.
const HEAVY_TASK_VECTORS: usize = 28;

/// Weights that stay in the second-level cache beside the image: 256 KiB.
const CACHED_WEIGHTS: usize = 1 << 16;

/// Forward pass: `y` `[N,K,P,Q]` from `x` `[N,C,H,W]`, `weight` `[K,C/groups,R,S]` and `bias` `[K]`.
pub fn conv2d_forward(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    forward(shape, x, weight, bias.map_or(After::Nothing, After::Bias), y);
}

/// What follows a convolution in evaluation: batch normalisation by running statistics, a residual, ReLU. All
/// vectors `[K]`, the residual as the output.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift.
    pub beta: &'a [f32],
    /// Running mean.
    pub mean: &'a [f32],
    /// Running variance.
    pub variance: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// What is added to the normalised output.
    pub residual: Residual<'a>,
    /// Whether ReLU comes last.
    pub relu: bool,
}

/// Forward pass without bias, and what follows while the sums are at hand.
pub fn conv2d_finished(shape: &ConvShape, x: &[f32], weight: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    let Finish { gamma, beta, mean, variance, .. } = finish;
    assert!(
        [gamma, beta, mean, variance].iter().all(|v| v.len() == shape.k),
        "vectors of {} filters",
        shape.k
    );
    with_floats(2 * shape.k, |channels| {
        let (scales, shifts) = channels.split_at_mut(shape.k);
        for k in 0..shape.k {
            scales[k] = gamma[k] / (variance[k] + finish.eps).sqrt();
            shifts[k] = beta[k] - mean[k] * scales[k];
        }
        let after = After::Affine { scales, shifts, residual: finish.residual, relu: finish.relu };
        forward(shape, x, weight, after, y);
    });
}

/// What is done to the sums of a filter before they are stored.
#[derive(Clone, Copy)]
enum After<'a> {
    Nothing,
    Bias(&'a [f32]),
    /// `sum * scale + shift [+ residual]`, with ReLU or without; the residual has the places of the output.
    Affine {
        scales: &'a [f32],
        shifts: &'a [f32],
        residual: Residual<'a>,
        relu: bool,
    },
}

impl After<'_> {
    /// The same for the `channels` and the `output` range of a task.
    fn part(self, channels: Range<usize>, output: Range<usize>) -> Self {
        match self {
            After::Nothing => After::Nothing,
            After::Bias(bias) => After::Bias(&bias[channels]),
            After::Affine { scales, shifts, residual, relu } => After::Affine {
                scales: &scales[channels.clone()],
                shifts: &shifts[channels],
                residual: residual.part(output),
                relu,
            },
        }
    }
}

fn forward(shape: &ConvShape, x: &[f32], weight: &[f32], after: After<'_>, y: &mut [f32]) {
    shape.check(x.len(), weight.len(), y.len());
    let padded = Padded::forward(shape, true);
    let (channels, taps) = (shape.group_channels(), shape.taps());
    let convolution = Convolution {
        input: x,
        input_channels: channels,
        input_area: shape.h * shape.w,
        output_channels: shape.k,
        output_size: [shape.p, shape.q],
        output_stride: [1, 1],
        groups: shape.groups,
        padded: &padded,
        after,
    };
    with_tables(1, |tables| {
        tables[0].taps.clear();
        for c in 0..channels {
            for r in 0..shape.r {
                for s in 0..shape.s {
                    tables[0].taps.push((c * padded.channel + padded.tap(r, s)) as u32);
                }
            }
        }
        convolution.run(tables, y, Accumulate::Write, |_, filters, packed| {
            for (first, rows) in blocks(filters.len(), is_wide(lanes())) {
                let packed = &mut packed[first * taps..][..rows * taps];
                let filters = filters.start + first..filters.end.min(filters.start + first + rows);
                let weight = &weight[filters.start * taps..filters.end * taps];
                match rows {
                    8 => pack_block::<8>(weight, taps, packed),
                    6 => pack_block::<6>(weight, taps, packed),
                    _ => pack_block::<4>(weight, taps, packed),
                }
            }
        });
    });
}

/// Lays out the `weight` of at most `M` filters as `[taps][M]`; the columns of those that are missing are zero.
fn pack_block<const M: usize>(weight: &[f32], taps: usize, packed: &mut [f32]) {
    let packed = packed.as_chunks_mut::<M>().0;
    if weight.len() == M * taps {
        let filters: [&[f32]; M] = std::array::from_fn(|row| &weight[row * taps..][..taps]);
        for (tap, packed) in packed.iter_mut().enumerate().take(taps) {
            *packed = std::array::from_fn(|row| filters[row][tap]);
        }
        return;
    }
    packed.fill([0.0; M]);
    for (row, filter) in weight.chunks_exact(taps).enumerate() {
        packed.iter_mut().zip(filter).for_each(|(packed, weight)| packed[row] = *weight);
    }
}

/// Input gradient: `dx` `[N,C,H,W]` from `dy` `[N,K,P,Q]` and `weight` `[K,C/groups,R,S]`.
///
/// The pixels of `dx` fall into classes by their remainder modulo the stride. Each class is a convolution of
/// `dy` with the taps that reach it, so that no zeros are multiplied.
pub fn conv2d_input_gradient(
    shape: &ConvShape,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: Accumulate,
) {
    shape.check(dx.len(), weight.len(), dy.len());
    let padded = Padded::gradient(shape);
    let (filters, channels) = (shape.group_filters(), shape.group_channels());
    let shift = |axis: usize, class: usize, tap| {
        class_shift(class, tap, shape.stride[axis], shape.padding[axis], shape.dilation[axis])
    };
    let convolution = Convolution {
        input: dy,
        input_channels: filters,
        input_area: shape.p * shape.q,
        output_channels: shape.c,
        output_size: [shape.h, shape.w],
        output_stride: shape.stride,
        groups: shape.groups,
        padded: &padded,
        after: After::Nothing,
    };
    with_tables(shape.stride[0] * shape.stride[1], |tables| {
        for (index, tables) in tables.iter_mut().enumerate() {
            let [row_class, col_class] = convolution.class(index);
            tables.taps.clear();
            if convolution.class_size(index).contains(&0) {
                continue;
            }
            for k in 0..filters {
                for row in (0..shape.r).filter_map(|r| shift(0, row_class, r)) {
                    for col in (0..shape.s).filter_map(|s| shift(1, col_class, s)) {
                        tables.taps.push((k * padded.channel + padded.shifted(row, col)) as u32);
                    }
                }
            }
        }
        convolution.run(tables, dx, accumulate, |class, outputs, packed| {
            let [row_class, col_class] = convolution.class(class);
            let taps = packed.len() / block_rows(outputs.len());
            let group = outputs.start / channels;
            let weight = &weight[group * filters * shape.taps()..][..filters * shape.taps()];
            packed.fill(0.0);
            let reached = |s: usize| shift(1, col_class, s).is_some();
            for (k, weight) in weight.chunks_exact(shape.taps()).enumerate() {
                for (first, rows) in blocks(outputs.len(), is_wide(lanes())) {
                    let channels = outputs.start + first - group * channels..outputs.end - group * channels;
                    let packed = &mut packed[first * taps + k * taps / filters * rows..];
                    let mut packed = packed.chunks_exact_mut(rows);
                    for r in (0..shape.r).filter(|&r| shift(0, row_class, r).is_some()) {
                        for s in (0..shape.s).filter(|&s| reached(s)) {
                            let Some(packed) = packed.next() else { break };
                            for (packed, c) in packed.iter_mut().zip(channels.clone()) {
                                *packed = weight[(c * shape.r + r) * shape.s + s];
                            }
                        }
                    }
                }
            }
        });
    });
}

/// Stride-1 convolutions of the padded copy of `input`, spread over the threads: one for each class of output
/// pixels, which are `output_stride` apart.
struct Convolution<'a> {
    input: &'a [f32],
    /// Of one group.
    input_channels: usize,
    input_area: usize,
    /// Of all groups.
    output_channels: usize,
    output_size: [usize; 2],
    output_stride: [usize; 2],
    groups: usize,
    padded: &'a Padded,
    after: After<'a>,
}

/// What one task computes.
struct Part {
    first_image: usize,
    images: usize,
    /// Output channels that share packed weights: a group, or part of the only one.
    unit: usize,
    first_unit: usize,
}

impl Convolution<'_> {
    /// Row and column of the first pixel of a class.
    fn class(&self, index: usize) -> [usize; 2] {
        [index / self.output_stride[1], index % self.output_stride[1]]
    }

    /// Height and width of a class.
    fn class_size(&self, index: usize) -> [usize; 2] {
        let class = self.class(index);
        [0, 1].map(|i| self.output_size[i].saturating_sub(class[i]).div_ceil(self.output_stride[i]))
    }

    /// `tables` holds the taps of each class; `pack(class, channels, packed)` lays out the weights of some
    /// output channels of one group, for each of their [`blocks`] `[taps][rows]`.
    fn run(
        &self,
        tables: &mut [Tables],
        output: &mut [f32],
        accumulate: Accumulate,
        pack: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) {
        let area = self.output_size[0] * self.output_size[1];
        let image = self.output_channels * area;
        if image == 0 || output.is_empty() {
            return;
        }
        for (class, tables) in tables.iter_mut().enumerate() {
            tables.cover(self.class_size(class), self.padded.pitch(), lanes());
        }
        let images = output.len() / image;
        let taps: usize = tables.iter().map(|tables| tables.taps.len()).sum();
        let task_images = self.task_images(images, &tables[0], taps);
        // Too few images for the threads: several tasks share an image, each with channels of its own.
        let parts = if task_images == 1 { threads().div_ceil(images) } else { 1 };
        let group = self.output_channels / self.groups;
        let unit = if self.groups == 1 { group.div_ceil(parts).next_multiple_of(4).min(UNIT) } else { group };
        let unit = unit.min(group);
        let units = self.output_channels.div_ceil(unit);
        let task_units = units.div_ceil(parts);
        for (class, tables) in tables.iter_mut().enumerate() {
            let [height, width] = self.class_size(class);
            let target = if self.output_stride == [1, 1] { image } else { unit * height * width };
            tables.repeat(task_images, self.input_channels * self.padded.channel, target);
        }
        let tables = &*tables;
        with_floats(units * block_rows(unit) * taps, |packed| {
            for_each_chunk(packed, block_rows(unit) * taps, |index, mut packed| {
                let channels = index * unit..self.output_channels.min((index + 1) * unit);
                for (class, tables) in tables.iter().enumerate() {
                    let (now, later) = packed.split_at_mut(block_rows(unit) * tables.taps.len());
                    pack(class, channels.clone(), &mut now[..block_rows(channels.len()) * tables.taps.len()]);
                    packed = later;
                }
            });
            let packed = &*packed;
            for_each_chunk(output, task_images * image, |task, output| {
                let images = output.len() / image;
                let chunk = if images == 1 { task_units * unit * area } else { output.len() };
                for_each_chunk(output, chunk, |index, output| {
                    let first_image = task * task_images;
                    let part = Part { first_image, images, unit, first_unit: index * task_units };
                    self.run_part(part, tables, packed, output, accumulate);
                });
            });
        });
    }

    /// Images of one task: as few as make good use of the weights that it streams through the cache.
    fn task_images(&self, images: usize, tables: &Tables, taps: usize) -> usize {
        let heavy = self.output_channels / self.groups * taps > CACHED_WEIGHTS;
        let vectors = if heavy { HEAVY_TASK_VECTORS } else { TASK_VECTORS };
        vectors.div_ceil(tables.per_image.max(1)).min(images.div_ceil(threads())).max(1)
    }

    fn run_part(
        &self,
        part: Part,
        tables: &[Tables],
        packed: &[f32],
        output: &mut [f32],
        accumulate: Accumulate,
    ) {
        let Part { first_image, images, unit, first_unit } = part;
        let area = self.output_size[0] * self.output_size[1];
        let source = self.input_channels * self.padded.channel;
        let input = self.input_channels * self.input_area;
        let taps: usize = tables.iter().map(|tables| tables.taps.len()).sum();
        let channels = if images == 1 { output.len() / area } else { self.output_channels };
        with_floats(images * source + lanes(), |copy| {
            for index in 0..channels.div_ceil(unit) {
                let group = if self.groups == 1 { 0 } else { first_unit + index };
                if self.groups > 1 || index == 0 {
                    for (i, copy) in copy.chunks_exact_mut(source).take(images).enumerate() {
                        let from = ((first_image + i) * self.groups + group) * input;
                        self.padded.fill(&self.input[from..from + input], copy);
                    }
                }
                let first = (first_unit + index) * unit;
                let count = unit.min(channels - index * unit);
                let packed = &packed[(first_unit + index) * block_rows(unit) * taps..];
                let start = (first_image * self.output_channels + first) * area;
                let output = &mut output[index * unit * area..];
                let after = self.after.part(first..first + count, start..start + output.len());
                let weigh = |class: usize, before, output: &mut [f32], area, accumulate| {
                    dispatch(Weighing {
                        source: copy,
                        channels: self.input_channels,
                        tables: &tables[class],
                        vectors: &tables[class].vectors[..images * tables[class].per_image],
                        weights: &packed[block_rows(unit) * before..],
                        output,
                        area,
                        filters: count,
                        after,
                        accumulate,
                    })
                };
                if self.output_stride == [1, 1] {
                    weigh(0, 0, output, area, accumulate);
                    continue;
                }
                let sizes = [0, 1].map(|i| self.output_size[i].div_ceil(self.output_stride[i]));
                let class_floats = images * unit * sizes[0] * sizes[1];
                with_floats(tables.len() * class_floats, |scratch| {
                    let mut before = 0;
                    for (class, output) in scratch.chunks_exact_mut(class_floats).enumerate() {
                        let [height, width] = self.class_size(class);
                        if tables[class].taps.is_empty() {
                            output.fill(0.0);
                        } else if height * width > 0 {
                            weigh(class, before, output, height * width, Accumulate::Write);
                        }
                        before += tables[class].taps.len();
                    }
                    for image in 0..images {
                        let classes = Merge {
                            convolution: self,
                            scratch,
                            class_floats,
                            first: image * unit,
                            output: &mut output[image * self.output_channels * area..][..count * area],
                            accumulate,
                        };
                        dispatch(classes);
                    }
                });
            }
        });
    }
}

/// Brings the pixels of all classes to their places in the planes `output`.
struct Merge<'a> {
    convolution: &'a Convolution<'a>,
    /// Planes of each class, classes `class_floats` apart.
    scratch: &'a [f32],
    class_floats: usize,
    /// The plane that belongs to the first of `output`.
    first: usize,
    output: &'a mut [f32],
    accumulate: Accumulate,
}

impl WithSimd for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [height, width] = self.convolution.output_size;
        let [row_stride, col_stride] = self.convolution.output_stride;
        for (index, plane) in self.output.chunks_exact_mut(height * width).enumerate() {
            for (row, line) in plane.chunks_exact_mut(width).enumerate() {
                let from = |col_class: usize| {
                    let class = row % row_stride * col_stride + col_class;
                    let [height, width] = self.convolution.class_size(class);
                    let start = ((self.first + index) * height + row / row_stride) * width;
                    &self.scratch[class * self.class_floats + start..][..width]
                };
                if col_stride == 2 {
                    merge_pairs(from(0), from(1), line, self.accumulate);
                    continue;
                }
                for col_class in 0..col_stride.min(width) {
                    let line = line[col_class..].iter_mut().step_by(col_stride).zip(from(col_class));
                    match self.accumulate {
                        Accumulate::Write => line.for_each(|(to, from)| *to = *from),
                        Accumulate::Add => line.for_each(|(to, from)| *to += from),
                    }
                }
            }
        }
    }
}

/// `line[2 * i] = even[i]`, `line[2 * i + 1] = odd[i]`, eight at a time by arrays of known size, which
/// compilers turn into shuffles.
#[inline(always)]
fn merge_pairs(even: &[f32], odd: &[f32], line: &mut [f32], accumulate: Accumulate) {
    let (lines, _) = line.as_chunks_mut::<16>();
    let done = lines.len();
    let pairs = even.as_chunks::<8>().0.iter().zip(odd.as_chunks::<8>().0);
    for (line, (even, odd)) in lines.iter_mut().zip(pairs) {
        let both: [f32; 16] = std::array::from_fn(|i| if i % 2 == 0 { even[i / 2] } else { odd[i / 2] });
        match accumulate {
            Accumulate::Write => *line = both,
            Accumulate::Add => line.iter_mut().zip(both).for_each(|(to, from)| *to += from),
        }
    }
    let (even, odd) = (&even[8 * done..], &odd[8 * done..]);
    for (i, to) in line[16 * done..].iter_mut().enumerate() {
        let from = if i % 2 == 0 { even[i / 2] } else { odd[i / 2] };
        match accumulate {
            Accumulate::Write => *to = from,
            Accumulate::Add => *to += from,
        }
    }
}

/// The convolution of one task: weights `[taps][rows]` for each of the [`blocks`] over the padded copy `source`.
struct Weighing<'a> {
    source: &'a [f32],
    /// Of the source.
    channels: usize,
    tables: &'a Tables,
    vectors: &'a [Vector],
    weights: &'a [f32],
    output: &'a mut [f32],
    area: usize,
    filters: usize,
    after: After<'a>,
    accumulate: Accumulate,
}

impl WithSimd for Weighing<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let taps = self.tables.taps.len();
        let span = self.tables.span(S::F32_LANES);
        // A stretch of vectors touches about as many lines of the copy as it has pixels, in every channel.
        let near = (NEAR_FLOATS / (self.channels * S::F32_LANES)).max(12).next_multiple_of(WIDE_COLUMNS);
        for vectors in self.vectors.chunks(near) {
            for from in (0..taps).step_by(TAP_CHUNK) {
                let now = from..taps.min(from + TAP_CHUNK);
                for (first, rows) in blocks(self.filters, is_wide(S::F32_LANES)) {
                    let weights = &self.weights[first * taps..][now.start * rows..now.end * rows];
                    match rows {
                        8 if is_wide(S::F32_LANES) => {
                            self.block::<S, 8>(simd, first, weights, now.clone(), vectors, span)
                        }
                        6 => self.block::<S, 6>(simd, first, weights, now.clone(), vectors, span),
                        _ => self.block::<S, 4>(simd, first, weights, now.clone(), vectors, span),
                    }
                }
            }
        }
    }
}

impl Weighing<'_> {
    /// The taps `now` of the `M` filters from `first` on, over `vectors`.
    #[inline(always)]
    fn block<S: Simd, const M: usize>(
        &mut self,
        simd: S,
        first: usize,
        weights: &[f32],
        now: Range<usize>,
        vectors: &[Vector],
        span: usize,
    ) {
        let weights = weights.as_chunks::<M>().0;
        let taps = &self.tables.taps[now.clone()];
        let ends = [now.start == 0, now.end == self.tables.taps.len()];
        let mut rest = vectors;
        if is_wide(S::F32_LANES) {
            // Rather 2 + 2 than 3 + 1: a tile of one column waits for its loads.
            let tall = match rest.len() % WIDE_COLUMNS {
                1 => rest.len().saturating_sub(2 * COLUMNS),
                left => rest.len() - left,
            };
            let tiles;
            (tiles, rest) = rest.split_at(tall);
            for vectors in tiles.as_chunks::<WIDE_COLUMNS>().0 {
                let starts = vectors.map(|vector| vector.start as usize);
                let sums = weigh::<S, M, WIDE_COLUMNS>(simd, weights, taps, span, self.source, starts);
                self.store(simd, first, ends, vectors, sums);
            }
        }
        let (tiles, rest) = rest.as_chunks::<COLUMNS>();
        for vectors in tiles {
            let starts = vectors.map(|vector| vector.start as usize);
            let sums = weigh::<S, M, COLUMNS>(simd, weights, taps, span, self.source, starts);
            self.store(simd, first, ends, vectors, sums);
        }
        for vector in rest {
            let sums = weigh::<S, M, 1>(simd, weights, taps, span, self.source, [vector.start as usize]);
            self.store(simd, first, ends, &[*vector], sums);
        }
    }

    #[inline(always)]
    fn store<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        [fresh, complete]: [bool; 2],
        vectors: &[Vector; N],
        sums: [[S::f32s; N]; M],
    ) {
        let overwrite = fresh && self.accumulate == Accumulate::Write;
        let after = if complete { self.after } else { After::Nothing };
        let zero = simd.splat_f32s(0.0);
        if is_wide(S::F32_LANES)
            && first + M <= self.filters
            && overwrite
            && vectors.iter().all(Vector::is_whole)
        {
            // The usual case, without a question between the stores.
            match after {
                After::Nothing => self.store_whole::<S, M, N>(first, vectors, sums, |sum, _, _| sum),
                After::Bias(bias) => self.store_whole::<S, M, N>(first, vectors, sums, |sum, filter, _| {
                    simd.add_f32s(sum, simd.splat_f32s(bias[filter]))
                }),
                After::Affine { scales, shifts, residual, relu } => {
                    let affine = |sum, filter: usize| {
                        let [scale, shift] = [scales, shifts].map(|x| simd.splat_f32s(x[filter]));
                        simd.mul_add_e_f32s(sum, scale, shift)
                    };
                    let floor = |sum| simd.select_f32s(simd.less_than_f32s(sum, zero), zero, sum);
                    let finish = |sum| if relu { floor(sum) } else { sum };
                    match residual {
                        Residual::None => {
                            self.store_whole::<S, M, N>(first, vectors, sums, |sum, filter, _| {
                                finish(affine(sum, filter))
                            })
                        }
                        Residual::Added(residual) => {
                            self.store_whole::<S, M, N>(first, vectors, sums, |sum, filter, place| {
                                finish(simd.add_f32s(affine(sum, filter), load::<S>(residual, place)))
                            });
                        }
                    }
                }
            }
            return;
        }
        // Loops of constant length, and a copy of a sum only where its lanes go different ways: the sums stay in
        // registers.
        for (column, vector) in vectors.iter().enumerate() {
            for (row, sums) in sums.iter().enumerate() {
                let filter = first + row;
                if filter >= self.filters {
                    break;
                }
                let (sum, from) = (sums[column], filter * self.area);
                if !vector.is_whole() {
                    self.scatter::<S>(sum, vector, filter, overwrite, after);
                    continue;
                }
                let place = from + vector.target as usize;
                let target = &mut S::as_mut_simd_f32s(&mut self.output[place..][..S::F32_LANES]).0[0];
                let mut sum = if overwrite { sum } else { simd.add_f32s(sum, *target) };
                match after {
                    After::Nothing => {}
                    After::Bias(bias) => sum = simd.add_f32s(sum, simd.splat_f32s(bias[filter])),
                    After::Affine { scales, shifts, residual, relu } => {
                        let [scale, shift] =
                            [simd.splat_f32s(scales[filter]), simd.splat_f32s(shifts[filter])];
                        sum = simd.mul_add_e_f32s(sum, scale, shift);
                        if let Residual::Added(residual) = residual {
                            sum = simd.add_f32s(sum, load::<S>(residual, place));
                        }
                        if relu {
                            sum = simd.select_f32s(simd.less_than_f32s(sum, zero), zero, sum);
                        }
                    }
                }
                *target = sum;
            }
        }
    }

    /// Stores what `finish(sum, filter, place)` makes of every sum of a tile.
    #[inline(always)]
    fn store_whole<S: Simd, const M: usize, const N: usize>(
        &mut self,
        first: usize,
        vectors: &[Vector; N],
        sums: [[S::f32s; N]; M],
        finish: impl Fn(S::f32s, usize, usize) -> S::f32s,
    ) {
        for (row, sums) in sums.iter().enumerate() {
            let plane = (first + row) * self.area;
            for (vector, sum) in vectors.iter().zip(sums) {
                let place = plane + vector.target as usize;
                let target = &mut S::as_mut_simd_f32s(&mut self.output[place..][..S::F32_LANES]).0[0];
                *target = finish(*sum, first + row, place);
            }
        }
    }

    /// Stores those lanes of a filter's vector that are outputs. In the browser, where size counts, not once for each sum
    /// of a tile.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    fn scatter<S: Simd>(
        &mut self,
        sum: S::f32s,
        vector: &Vector,
        filter: usize,
        overwrite: bool,
        after: After<'_>,
    ) {
        let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&sum));
        for piece in self.tables.pieces(vector) {
            let lanes = &lanes[piece.lane as usize..][..piece.len as usize];
            let place = filter * self.area + piece.target as usize;
            let targets = &mut self.output[place..][..piece.len as usize];
            match after {
                // A loop: pieces are too short for a call of memcpy.
                After::Nothing if overwrite => {
                    targets.iter_mut().zip(lanes).for_each(|(target, lane)| *target = *lane);
                }
                After::Nothing => targets.iter_mut().zip(lanes).for_each(|(target, lane)| *target += lane),
                After::Bias(bias) => {
                    for (target, lane) in targets.iter_mut().zip(lanes) {
                        *target = if overwrite { *lane } else { *target + lane } + bias[filter];
                    }
                }
                After::Affine { scales, shifts, residual, relu } => {
                    for (i, (target, lane)) in targets.iter_mut().zip(lanes).enumerate() {
                        let sum = if overwrite { *lane } else { *target + lane };
                        let mut sum = sum * scales[filter] + shifts[filter];
                        if let Residual::Added(residual) = residual {
                            sum += residual[place + i];
                        }
                        *target = if relu && sum < 0.0 { 0.0 } else { sum };
                    }
                }
            }
        }
    }
}
