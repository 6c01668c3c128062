//! Where things lie: the shape of a convolution, the padded copy of its input, and the two tables (taps and
//! vectors) with which the inner loops find their way in that copy.
//!
//! Along one axis, output `p` reads input `p * stride - padding + r * dilation` at tap `r`. With
//! `e = r * dilation`, phase `e mod stride` and shift `e div stride`, that is element `p + shift` of the
//! sequence of all inputs of this phase. The copy therefore holds, for each channel, one plane for each pair
//! of phases that a tap needs; stride 1 needs one, a 3x3 filter of stride 2 four, a 1x1 filter always one.
//!
//! Where rows are so short that the elements between them would waste lanes, each column tap gets a plane of its
//! own, as wide as the outputs ([`Axis::apart`]): neighbouring rows of outputs are then neighbours in the copy.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::tile::{dispatch, lanes, load};

/// Channels that read the copy, from which on it may be made larger to save vectors.
const APART_CHANNELS: usize = 8;

/// Shape of a 2-D convolution: NCHW in, OIHW weights, NKPQ out. All in elements; PyTorch's `conv2d`, except
/// that the output size is given, so that padding at the bottom and right may differ from top and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Filters, which is output channels.
    pub k: usize,
    /// Filter height.
    pub r: usize,
    /// Filter width.
    pub s: usize,
    /// Output height.
    pub p: usize,
    /// Output width.
    pub q: usize,
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zero rows above and zero columns left of the input; below and right follow from `p` and `q`.
    pub padding: [usize; 2],
    /// Vertical and horizontal distance of taps.
    pub dilation: [usize; 2],
    /// Groups; divides `c` and `k`.
    pub groups: usize,
}

impl ConvShape {
    /// Multiply-adds of one forward pass.
    pub fn macs(&self) -> usize {
        self.n * self.k * self.p * self.q * self.taps()
    }

    /// Input channels of one group.
    pub(super) fn group_channels(&self) -> usize {
        self.c / self.groups
    }

    /// Filters of one group.
    pub(super) fn group_filters(&self) -> usize {
        self.k / self.groups
    }

    /// Weights of one filter.
    pub(super) fn taps(&self) -> usize {
        self.group_channels() * self.r * self.s
    }

    /// Holds our own callers to the shape: slices that do not fit are a bug of the plan.
    pub(super) fn check(&self, x: usize, weight: usize, y: usize) {
        let groups = self.groups.max(1);
        assert!(
            groups == self.groups && self.c.is_multiple_of(groups) && self.k.is_multiple_of(groups),
            "groups must divide both channel counts: {self:?}"
        );
        assert!(
            self.stride.iter().chain(&self.dilation).all(|&d| d > 0),
            "zero stride or dilation: {self:?}"
        );
        assert_eq!(x, self.n * self.c * self.h * self.w, "length of x for {self:?}");
        assert_eq!(weight, self.k * self.taps(), "length of weight for {self:?}");
        assert_eq!(y, self.n * self.k * self.p * self.q, "length of y for {self:?}");
    }
}

/// One axis of the padded copy.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    size: usize,
    stride: usize,
    /// Zeros before the first element; negative where the first elements are never read.
    lead: isize,
    /// Elements of one phase.
    extent: usize,
    taps: usize,
    dilation: usize,
    /// Whether each tap has a plane of its own.
    apart: bool,
}

impl Axis {
    fn forward(
        size: usize,
        outputs: usize,
        taps: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
    ) -> Self {
        let extent = outputs + (0..taps).map(|tap| tap * dilation / stride).max().unwrap_or(0);
        Axis { size, stride, lead: padding as isize, extent, taps, dilation, apart: false }
    }

    /// The axis of `dy` as the input gradient reads it: see [`class_shift`].
    fn gradient(
        size: usize,
        inputs: usize,
        taps: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
    ) -> Self {
        let (mut first, mut last, mut end) = (isize::MAX, isize::MIN, isize::MIN);
        for class in 0..stride.min(inputs) {
            let count = (inputs - class).div_ceil(stride) as isize;
            for shift in (0..taps).filter_map(|tap| class_shift(class, tap, stride, padding, dilation)) {
                first = first.min(shift);
                last = last.max(shift);
                end = end.max(shift + count);
            }
        }
        let extent = if end > first { (end - first) as usize } else { 0 };
        let taps = if end > first { (last - first) as usize + 1 } else { 1 };
        Axis { size, stride: 1, lead: first.saturating_neg(), extent, taps, dilation: 1, apart: false }
    }

    /// The same with a plane for each tap, as wide as the outputs, if that saves enough vectors of `rows` rows to be
    /// worth the larger copy.
    fn apart(self, rows: usize, outputs: usize, lanes: usize) -> Self {
        let run = (rows.saturating_sub(1) * self.extent + outputs).div_ceil(lanes);
        let vectors = run.min(rows * outputs.div_ceil(lanes));
        if self.taps > 1 && (rows * outputs).div_ceil(lanes) * 10 <= vectors * 9 {
            Axis { extent: outputs, apart: true, ..self }
        } else {
            self
        }
    }

    fn phase(&self, tap: usize) -> usize {
        if self.apart { tap * self.dilation } else { tap * self.dilation % self.stride }
    }

    /// The first tap of each phase: one for every plane of the copy.
    fn first_taps(self) -> impl Iterator<Item = usize> + Clone {
        (0..self.taps).filter(move |&tap| (0..tap).all(|earlier| self.phase(earlier) != self.phase(tap)))
    }

    fn planes(&self) -> usize {
        self.first_taps().count()
    }

    /// Which plane `tap` reads, and how far into it the first output's element lies.
    fn locate(&self, tap: usize) -> (usize, usize) {
        if self.apart {
            return (tap, 0);
        }
        let plane = self.first_taps().position(|first| self.phase(first) == self.phase(tap)).unwrap_or(0);
        (plane, tap * self.dilation / self.stride)
    }

    /// Elements of `phase` that exist in the input, as a range of the copy.
    fn present(&self, phase: usize) -> Range<usize> {
        let before = |limit: isize| {
            let elements = limit + self.lead - phase as isize;
            if elements <= 0 { 0 } else { (elements as usize).div_ceil(self.stride).min(self.extent) }
        };
        before(0)..before(self.size as isize)
    }

    /// The input element at `index` of `phase`, for an index that is present.
    fn element(&self, phase: usize, index: usize) -> usize {
        (index * self.stride + phase).wrapping_add_signed(-self.lead)
    }
}

/// The input gradient at `stride * i + class` takes tap `tap` of output `i + shift`; none if the tap never
/// reaches this class. From `p * stride - padding + tap * dilation = stride * i + class`.
pub(super) fn class_shift(
    class: usize,
    tap: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<isize> {
    let distance = (class + padding) as isize - (tap * dilation) as isize;
    let stride = stride as isize;
    (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
}

/// The padded copy of the planes of some channels.
#[derive(Clone, Copy)]
pub(super) struct Padded {
    rows: Axis,
    cols: Axis,
    /// Floats from one channel to the next.
    pub(super) channel: usize,
}

impl Padded {
    /// The copy of `x` that the forward pass and the weight gradient read; whether column taps may lie [`Axis::apart`].
    pub(super) fn forward(shape: &ConvShape, apart: bool) -> Self {
        let [sh, sw] = shape.stride;
        let [top, left] = shape.padding;
        let [dh, dw] = shape.dilation;
        let cols = Axis::forward(shape.w, shape.q, shape.s, sw, left, dw);
        let few = !apart || shape.group_filters() < APART_CHANNELS;
        Padded::new(
            Axis::forward(shape.h, shape.p, shape.r, sh, top, dh),
            if few { cols } else { cols.apart(shape.p, shape.q, lanes()) },
        )
    }

    /// The copy of `dy` that the input gradient reads.
    pub(super) fn gradient(shape: &ConvShape) -> Self {
        let [sh, sw] = shape.stride;
        let [top, left] = shape.padding;
        let [dh, dw] = shape.dilation;
        let cols = Axis::gradient(shape.q, shape.w, shape.s, sw, left, dw);
        let few = shape.group_channels() < APART_CHANNELS;
        let [rows, outputs] = [shape.h.div_ceil(sh), shape.w.div_ceil(sw)];
        Padded::new(
            Axis::gradient(shape.p, shape.h, shape.r, sh, top, dh),
            if few { cols } else { cols.apart(rows, outputs, lanes()) },
        )
    }

    fn new(rows: Axis, cols: Axis) -> Self {
        let floats = rows.planes() * cols.planes() * rows.extent * cols.extent;
        // An odd number of cache lines: channels a power of two apart would all fall into the same few
        // sets of the first-level cache.
        let channel = (floats.div_ceil(16) | 1) * 16;
        Padded { rows, cols, channel }
    }

    /// Floats between vertically neighbouring outputs.
    pub(super) fn pitch(&self) -> usize {
        self.cols.extent
    }

    /// Where tap (r, s) of the first output lies, from the start of a channel.
    pub(super) fn tap(&self, r: usize, s: usize) -> usize {
        let (row_plane, row) = self.rows.locate(r);
        let (col_plane, col) = self.cols.locate(s);
        let plane = row_plane * self.cols.planes() + col_plane;
        (plane * self.rows.extent + row) * self.cols.extent + col
    }

    /// Where an element `row`, `col` before or after the first output's lies, for the input gradient.
    pub(super) fn shifted(&self, row: isize, col: isize) -> usize {
        let row = (row + self.rows.lead) as usize;
        let col = (col + self.cols.lead) as usize;
        if self.cols.apart {
            return (col * self.rows.extent + row) * self.cols.extent;
        }
        row * self.cols.extent + col
    }

    /// Copies the planes `x` (whole channels) to `copy`, channel by channel.
    pub(super) fn fill(&self, x: &[f32], copy: &mut [f32]) {
        dispatch(Fill { padded: self, x, copy });
    }
}

struct Fill<'a> {
    padded: &'a Padded,
    x: &'a [f32],
    copy: &'a mut [f32],
}

impl WithSimd for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Padded { rows, cols, channel } = *self.padded;
        let area = rows.size * cols.size;
        if area == 0 || rows.extent * cols.extent == 0 {
            self.copy.fill(0.0);
            return;
        }
        let floats = rows.extent * cols.extent;
        let mut start = 0;
        for row_tap in rows.first_taps() {
            let row_phase = rows.phase(row_tap);
            let present_rows = rows.present(row_phase);
            for col_tap in cols.first_taps() {
                let col_phase = cols.phase(col_tap);
                let present = cols.present(col_phase);
                let bordered = present.len() < cols.extent || present_rows.len() < rows.extent;
                let empty = present.is_empty() || present_rows.is_empty();
                if rows.stride == 1 && cols.stride == 1 && cols.extent == cols.size && !empty {
                    let [from, to] = [present_rows.start, present_rows.end].map(|row| row * cols.extent);
                    let first = rows.element(row_phase, present_rows.start) * cols.size
                        + cols.element(col_phase, present.start);
                    for (x, copy) in self.x.chunks_exact(area).zip(self.copy.chunks_exact_mut(channel)) {
                        let plane = &mut copy[start..start + floats];
                        plane[..from].fill(0.0);
                        plane[to..].fill(0.0);
                        copy_plane::<S>(&x[first..], cols.extent, &present, &mut plane[from..to]);
                    }
                    start += floats;
                    continue;
                }
                for (x, copy) in self.x.chunks_exact(area).zip(self.copy.chunks_exact_mut(channel)) {
                    let plane = &mut copy[start..start + floats];
                    if bordered {
                        plane.fill(0.0);
                    }
                    if empty {
                        continue;
                    }
                    let first = rows.element(row_phase, present_rows.start) * cols.size
                        + cols.element(col_phase, present.start);
                    let lines = x[first..].chunks(rows.stride * cols.size);
                    let copies = plane[present_rows.start * cols.extent..].chunks_exact_mut(cols.extent);
                    let both = copies.take(present_rows.len()).zip(lines);
                    let start = present.start;
                    match (cols.stride, present.len()) {
                        (1, len) if len == S::F32_LANES => copy_lines::<S, 1>(both, start),
                        (1, len) if len == 2 * S::F32_LANES => copy_lines::<S, 2>(both, start),
                        (1, 8..16) => copy_short_lines::<8>(both, &present),
                        (1, 4..8) => copy_short_lines::<4>(both, &present),
                        (1, _) => {
                            for (copy, line) in both {
                                copy_line::<S>(line, &mut copy[present.clone()]);
                            }
                        }
                        (2, _) => {
                            for (copy, line) in both {
                                copy_every_second(line, &mut copy[present.clone()]);
                            }
                        }
                        (stride, _) => {
                            for (copy, line) in both {
                                let line = line.iter().step_by(stride);
                                copy[present.clone()].iter_mut().zip(line).for_each(|(to, from)| *to = *from);
                            }
                        }
                    }
                }
                start += floats;
            }
        }
        // What is between channels is read where a vector reaches beyond the last row: as a factor of nothing, so it has to be
        // finite.
        let present = self.x.len() / area;
        for copy in self.copy.chunks_exact_mut(channel).take(present) {
            copy[start..].fill(0.0);
        }
    }
}

/// Lines as wide as those of the input at once: their columns `present` are `x`, which begins with the first of them and
/// goes on through all lines; the other columns become zero.
#[inline(always)]
fn copy_plane<S: Simd>(x: &[f32], width: usize, present: &Range<usize>, lines: &mut [f32]) {
    let len = (lines.len() - present.start).min(x.len());
    copy_line::<S>(x, &mut lines[present.start..][..len]);
    for border in (0..present.start).chain(present.end..width) {
        lines.iter_mut().skip(border).step_by(width).for_each(|element| *element = 0.0);
    }
}

/// `copy[present][i] = line[i]` by two arrays that overlap where they must; `N <= present.len() <= 2 * N`.
#[inline(always)]
fn copy_short_lines<'a, const N: usize>(
    lines: impl Iterator<Item = (&'a mut [f32], &'a [f32])>,
    present: &Range<usize>,
) {
    let last = present.len() - N;
    for (copy, line) in lines {
        let copy = &mut copy[present.clone()];
        if let (Some(first), Some(end)) = (line.first_chunk::<N>(), line[last..].first_chunk::<N>()) {
            copy[..N].copy_from_slice(first);
            copy[last..].copy_from_slice(end);
        }
    }
}

/// `copy[start + i] = line[i]` for lines of `V` whole vectors.
#[inline(always)]
fn copy_lines<'a, S: Simd, const V: usize>(
    lines: impl Iterator<Item = (&'a mut [f32], &'a [f32])>,
    start: usize,
) {
    for (copy, line) in lines {
        let from = S::as_simd_f32s(&line[..V * S::F32_LANES]).0.first_chunk::<V>();
        let to = S::as_mut_simd_f32s(&mut copy[start..][..V * S::F32_LANES]).0.first_chunk_mut::<V>();
        if let (Some(to), Some(from)) = (to, from) {
            *to = *from;
        }
    }
}

/// `copy[i] = line[i]`.
#[inline(always)]
fn copy_line<S: Simd>(line: &[f32], copy: &mut [f32]) {
    if copy.len() >= S::F32_LANES {
        // Whole vectors, the last of which overlaps its neighbour: lines are too short for a call of memcpy.
        let last = copy.len() - S::F32_LANES;
        let end = load::<S>(line, last);
        for (to, from) in S::as_mut_simd_f32s(copy).0.iter_mut().zip(S::as_simd_f32s(line).0) {
            *to = *from;
        }
        S::as_mut_simd_f32s(&mut copy[last..]).0[0] = end;
    } else {
        copy.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
    }
}

/// `copy[i] = line[2 * i]`.
#[inline(always)]
fn copy_every_second(line: &[f32], copy: &mut [f32]) {
    // Eight at a time by arrays of known size, which compilers turn into shuffles.
    let (blocks, rest) = copy.as_chunks_mut::<8>();
    let done = 16 * blocks.len();
    for (to, from) in blocks.iter_mut().zip(line.chunks(16)) {
        if let Some(from) = from.first_chunk::<15>() {
            *to = std::array::from_fn(|i| from[2 * i]);
        }
    }
    for (to, from) in rest.iter_mut().zip(line[done.min(line.len())..].iter().step_by(2)) {
        *to = *from;
    }
}

/// A vector of neighbouring elements of the padded copy, each the first tap of an output.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    /// Where it starts in the copy.
    pub(super) start: u32,
    /// Where its outputs go, when they are a whole vector.
    pub(super) target: u32,
    /// The pieces that are outputs, as a range of [`Tables::pieces`]; empty when the whole vector is.
    pieces: (u32, u32),
}

impl Vector {
    /// Whether all lanes are neighbouring outputs.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.pieces.0 == self.pieces.1
    }
}

/// Lanes of a vector that are neighbouring outputs.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) lane: u32,
    pub(super) target: u32,
    pub(super) len: u32,
}

/// The tables of one convolution.
#[derive(Default)]
pub(super) struct Tables {
    /// Offset of each tap from the place of the first tap of the first channel.
    pub(super) taps: Vec<u32>,
    /// The vectors that cover all outputs, in rising order.
    pub(super) vectors: Vec<Vector>,
    pieces: Vec<Piece>,
    /// Vectors of one image.
    pub(super) per_image: usize,
}

impl Tables {
    /// Covers `rows x cols` outputs whose first taps lie `pitch` apart vertically.
    ///
    /// Two coverings are possible: every row by itself, its last vector reaching beyond its end, or one run
    /// over rows and the garbage between them. The one with fewer vectors is taken.
    pub(super) fn cover(&mut self, [rows, cols]: [usize; 2], pitch: usize, lanes: usize) {
        self.vectors.clear();
        self.pieces.clear();
        if rows * cols > 0 {
            let run = ((rows - 1) * pitch + cols).div_ceil(lanes);
            if run < rows * cols.div_ceil(lanes) {
                for vector in 0..run {
                    self.push(vector * lanes, [rows, cols], pitch, lanes);
                }
            } else {
                for row in 0..rows {
                    for col in (0..cols).step_by(lanes) {
                        self.push(row * pitch + col, [row + 1, cols], pitch, lanes);
                    }
                }
            }
        }
        self.per_image = self.vectors.len();
    }

    /// Adds the vector at `start`; outputs end with the last of `rows`.
    fn push(&mut self, start: usize, [rows, cols]: [usize; 2], pitch: usize, lanes: usize) {
        let first = self.pieces.len();
        for row in start / pitch..rows {
            let begin = (row * pitch).max(start);
            let end = (row * pitch + cols).min(start + lanes);
            if begin >= end {
                continue;
            }
            let target = (row * cols + begin - row * pitch) as u32;
            let (lane, len) = ((begin - start) as u32, (end - begin) as u32);
            match self.pieces[first..].last_mut() {
                Some(last) if last.lane + last.len == lane && last.target + last.len == target => {
                    last.len += len;
                }
                _ => self.pieces.push(Piece { lane, target, len }),
            }
        }
        let target = self.pieces.get(first).map_or(0, |piece| piece.target);
        if self.pieces.get(first).is_some_and(|piece| piece.len as usize == lanes) {
            self.pieces.truncate(first);
        }
        let pieces = (first as u32, self.pieces.len() as u32);
        self.vectors.push(Vector { start: start as u32, target, pieces });
    }

    /// Repeats the vectors for a number of images, `source` and `target` floats apart.
    pub(super) fn repeat(&mut self, images: usize, source: usize, target: usize) {
        assert!(images * source.max(target) < u32::MAX as usize, "scratch beyond 2^32 floats");
        let (vectors, pieces) = (self.vectors.len(), self.pieces.len());
        for image in 1..images {
            let (source, target) = ((image * source) as u32, (image * target) as u32);
            let shift = (self.pieces.len()) as u32;
            for i in 0..pieces {
                let piece = self.pieces[i];
                self.pieces.push(Piece { target: piece.target + target, ..piece });
            }
            for i in 0..vectors {
                let vector = self.vectors[i];
                let pieces = (vector.pieces.0 + shift, vector.pieces.1 + shift);
                self.vectors.push(Vector {
                    start: vector.start + source,
                    target: vector.target + target,
                    pieces,
                });
            }
        }
    }

    /// The pieces of a vector that is not whole.
    #[inline(always)]
    pub(super) fn pieces(&self, vector: &Vector) -> &[Piece] {
        &self.pieces[vector.pieces.0 as usize..vector.pieces.1 as usize]
    }

    /// The largest tap plus `lanes`: how much of the copy a vector touches from its start on.
    pub(super) fn span(&self, lanes: usize) -> usize {
        self.taps.iter().max().map_or(0, |&tap| tap as usize) + lanes
    }
}

thread_local! {
    static POOL: RefCell<Vec<Vec<Tables>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `count` tables to fill, kept by this thread so that their memory is reused.
pub(super) fn with_tables<R>(count: usize, work: impl FnOnce(&mut [Tables]) -> R) -> R {
    let mut tables = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    if tables.len() < count {
        tables.resize_with(count, Tables::default);
    }
    let result = work(&mut tables[..count]);
    POOL.with_borrow_mut(|pool| pool.push(tables));
    result
}
