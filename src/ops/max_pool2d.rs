//! Largest number of each window (`torch.nn.MaxPool2d`). Shapes: x `[N, C, H, W]`, y, index `[N, C, P, Q]` with
//! `P = floor((H + 2 padding_h - R) / stride_h) + 1`.
//!
//! Each window notes where in its plane the largest number stood. Backward gathers: each pixel looks at the windows
//! over it, so that no two invocations add to one number and the order of the sum is fixed.

use super::{Channels, Operator, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;
use std::ops::Range;

/// `torch.nn.MaxPool2d` without dilation; sizes round down. Pairs are vertical, horizontal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaxPool2d {
    /// Window size (`kernel_size`).
    pub kernel: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Pixels around the image that never win.
    pub padding: [usize; 2],
    /// Those below and on the right, where they are others than above and on the left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailing: Option<[usize; 2]>,
}

from_json!(MaxPool2d { kernel, stride, padding = [0; 2], trailing });

impl MaxPool2d {
    /// Square windows side by side: PyTorch's default stride and padding.
    pub fn new(kernel: usize) -> Self {
        MaxPool2d { kernel: [kernel; 2], stride: [kernel; 2], padding: [0; 2], trailing: None }
    }

    /// The kernels' uniform for `batch` images of shape `x` in and `y` out, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape, y: Shape) -> MaxPool2dParams {
        MaxPool2dParams {
            planes: (batch * x.c) as u32,
            h: x.h as u32,
            w: x.w as u32,
            p: y.h as u32,
            q: y.w as u32,
            r: self.kernel[0] as u32,
            s: self.kernel[1] as u32,
            stride_h: self.stride[0] as u32,
            stride_w: self.stride[1] as u32,
            padding_h: self.padding[0] as u32,
            padding_w: self.padding[1] as u32,
            accumulate: 0,
        }
    }
}

params! {
    /// Uniform of the max pooling kernels.
    pub struct MaxPool2dParams {
        /// Planes: N C.
        planes: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Output height.
        p: u32,
        /// Output width.
        q: u32,
        /// Window height.
        r: u32,
        /// Window width.
        s: u32,
        /// Rows from one window to the next.
        stride_h: u32,
        /// Columns from one window to the next.
        stride_w: u32,
        /// Rows added above.
        padding_h: u32,
        /// Columns added on the left.
        padding_w: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// Largest number of each window, and its index in the plane; the first one wins, a NaN always.
pub static MAX_POOL2D_FORWARD: Kernel = Kernel {
    name: "max_pool2d_forward",
    params: MaxPool2dParams::FIELDS,
    bindings: &[read("x"), write("y"), write("index")],
    shaders: &[Shader {
        name: "max_pool2d_forward",
        wgsl: wgsl!("max_pool2d_forward"),
        workgroups: |params| {
            let p = params_of::<MaxPool2dParams>(params);
            workgroups_of_64([p.planes, p.p, p.q].into_iter().map(u64::from).product())
        },
    }],
    twin: max_pool2d_forward,
    fast: Some(max_pool2d_forward_fast),
};

/// `dx = sum of dy over the windows that the pixel won`.
pub static MAX_POOL2D_BACKWARD: Kernel = Kernel {
    name: "max_pool2d_backward",
    params: MaxPool2dParams::FIELDS,
    bindings: &[read("dy"), read("index"), write("dx")],
    shaders: &[Shader {
        name: "max_pool2d_backward",
        wgsl: wgsl!("max_pool2d_backward"),
        workgroups: |params| {
            let p = params_of::<MaxPool2dParams>(params);
            workgroups_of_64([p.planes, p.h, p.w.div_ceil(8)].into_iter().map(u64::from).product())
        },
    }],
    twin: max_pool2d_backward,
    fast: Some(max_pool2d_backward_fast),
};

/// Input pixels under window `o` along one axis.
pub(super) fn pixels_under(o: usize, window: u32, stride: u32, padding: u32, extent: usize) -> Range<usize> {
    let start = o * stride as usize;
    let end = start + window as usize;
    start.saturating_sub(padding as usize)..(end - padding as usize).min(extent)
}

/// Windows over input pixel `i` along one axis.
pub(super) fn windows_over(i: usize, window: u32, stride: u32, padding: u32, extent: usize) -> Range<usize> {
    let padded = i + padding as usize;
    let first = (padded + 1).saturating_sub(window as usize).div_ceil(stride as usize);
    first..(padded / stride as usize + 1).min(extent)
}

fn max_pool2d_forward(args: Args<'_>) {
    let (p, [x], [y, index]) = args.unpack::<MaxPool2dParams, 1, 2>();
    let index: &mut [u32] = bytemuck::cast_slice_mut(index);
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    for (o, (y, index)) in y.iter_mut().zip(index).enumerate() {
        let (row, column) = (o / q % p.p as usize, o % q);
        let plane = &x[o / (p.p as usize * q) * h * w..][..h * w];
        let columns = pixels_under(column, p.s, p.stride_w, p.padding_w, w);
        let rows = pixels_under(row, p.r, p.stride_h, p.padding_h, h);
        let mut best = rows.start * w + columns.start;
        for i in rows {
            for j in columns.clone() {
                let candidate = plane[i * w + j];
                if candidate > plane[best] || candidate.is_nan() {
                    best = i * w + j;
                }
            }
        }
        *y = plane[best];
        *index = best as u32;
    }
}

fn max_pool2d_backward(args: Args<'_>) {
    let (p, [dy, index], [dx]) = args.unpack::<MaxPool2dParams, 2, 1>();
    let index: &[u32] = bytemuck::cast_slice(index);
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    for (i, dx) in dx.iter_mut().enumerate() {
        let (row, column) = (i / w % h, i % w);
        let plane = i / (h * w) * p.p as usize * q;
        let mut gradient = 0.0;
        for u in windows_over(row, p.r, p.stride_h, p.padding_h, p.p as usize) {
            for v in windows_over(column, p.s, p.stride_w, p.padding_w, q) {
                if index[plane + u * q + v] as usize == row * w + column {
                    gradient += dy[plane + u * q + v];
                }
            }
        }
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

fn max_pool2d_forward_fast(args: Args<'_>) {
    let (p, [x], [y, index]) = args.unpack::<MaxPool2dParams, 1, 2>();
    let (h, w, windows, q) = (p.h as usize, p.w as usize, (p.p * p.q) as usize, p.q as usize);
    // Windows in pairs of pixels, none of which sticks out, as one that rounds up may.
    let inside = 2 * p.p <= p.h && 2 * p.q <= p.w;
    let whole = inside && [p.r, p.s, p.stride_h, p.stride_w, p.padding_h, p.padding_w] == [2, 2, 2, 2, 0, 0];
    simd::for_each_part_of_two(y, index, windows, |plane, y, index| {
        let index: &mut [u32] = bytemuck::cast_slice_mut(index);
        let x = &x[plane * h * w..][..h * w];
        for (row, (y, index)) in y.chunks_exact_mut(q).zip(index.chunks_exact_mut(q)).enumerate() {
            let rows = pixels_under(row, p.r, p.stride_h, p.padding_h, h);
            if whole {
                let lines = x[rows.start * w..][..2 * w].split_at(w);
                pool_pairs(lines, (rows.start * w) as u32, y, index);
                continue;
            }
            for (column, (y, index)) in y.iter_mut().zip(index).enumerate() {
                let columns = pixels_under(column, p.s, p.stride_w, p.padding_w, w);
                let mut best = rows.start * w + columns.start;
                for i in rows.clone() {
                    for j in columns.clone() {
                        let candidate = x[i * w + j];
                        if candidate > x[best] || candidate.is_nan() {
                            best = i * w + j;
                        }
                    }
                }
                *y = x[best];
                *index = best as u32;
            }
        }
    });
}

/// A row of 2x2 windows side by side over two lines, the first of which begins at `start`; without branches.
fn pool_pairs((top, bottom): (&[f32], &[f32]), start: u32, y: &mut [f32], index: &mut [u32]) {
    let below = start + top.len() as u32;
    let lines = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
    for (j, ((y, index), (top, bottom))) in y.iter_mut().zip(index).zip(lines).enumerate() {
        let column = 2 * j as u32;
        let (mut best, mut at) = (top[0], start + column);
        for (candidate, place) in
            [(top[1], start + column + 1), (bottom[0], below + column), (bottom[1], below + column + 1)]
        {
            let wins = (candidate > best) | candidate.is_nan();
            best = if wins { candidate } else { best };
            at = if wins { place } else { at };
        }
        (*y, *index) = (best, at);
    }
}

fn max_pool2d_backward_fast(args: Args<'_>) {
    let (p, [dy, index], [dx]) = args.unpack::<MaxPool2dParams, 2, 1>();
    let index: &[u32] = bytemuck::cast_slice(index);
    let windows = (p.p * p.q) as usize;
    simd::for_each_part(dx, (p.h * p.w) as usize, |plane, dx| {
        if p.accumulate == 0 {
            dx.fill(0.0);
        }
        // The windows in order, as the gather adds them.
        let here = plane * windows..(plane + 1) * windows;
        for (dy, &index) in dy[here.clone()].iter().zip(&index[here]) {
            dx[index as usize] += dy;
        }
    });
}

/// Largest window, so that no sum of extents overflows.
const MAX_WINDOW: usize = 1 << 24;

/// Output shape of a pooling; PyTorch allows padding up to half a window. No window may lie beside the image.
pub(super) fn pooled_shape(
    doing: &str,
    input: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    trailing: Option<[usize; 2]>,
) -> Result<Shape> {
    let axis = |extent: usize, axis: usize| {
        let (window, stride, padding) = (kernel[axis], stride[axis], padding[axis]);
        let trailing = trailing.map(|trailing| trailing[axis]);
        let fail = |expected: String, found: usize| {
            Err(Error::new(ErrorKind::Shape, doing).expected(expected).found(found))
        };
        let most = if trailing.is_some() { window.saturating_sub(1) } else { window / 2 };
        if let Some(found) = [Some(padding), trailing].into_iter().flatten().find(|&padding| padding > most) {
            return fail(format!("padding of at most {most} at a window of {window}"), found);
        }
        let padded = extent.saturating_add(padding).saturating_add(trailing.unwrap_or(padding));
        if window == 0 || window > MAX_WINDOW || window > padded {
            return fail(format!("a window from 1 to {}", MAX_WINDOW.min(padded)), window);
        }
        if stride == 0 || u32::try_from(stride).is_err() {
            return fail(format!("a stride from 1 to {}", u32::MAX), stride);
        }
        let windows = (padded - window) / stride + 1;
        if (windows - 1).saturating_mul(stride) >= extent + padding {
            return fail(format!("windows that begin within {} pixels", extent + padding), windows);
        }
        Ok(windows)
    };
    Ok(Shape::new(input.c, axis(input.h, 0)?, axis(input.w, 1)?))
}

impl Operator for MaxPool2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pooled_shape(
            "checking a max pooling",
            inputs[0],
            self.kernel,
            self.stride,
            self.padding,
            self.trailing,
        )
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let index = recorder.tensor(node.output_words());
        let operands = [node.input(0).into(), y.into(), index.into()];
        let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
        recorder.dispatch(&MAX_POOL2D_FORWARD, &params, &operands);
        recorder.save(node, index);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        let index = recorder.saved(node)[0];
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let operands = [dy.into(), index.into(), dx.into()];
            let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
            recorder.dispatch(&MAX_POOL2D_BACKWARD, &MaxPool2dParams { accumulate, ..params }, &operands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{pixels_under, pooled_shape, windows_over};
    use crate::shape::Shape;

    #[test]
    fn windows_and_pixels_are_inverse() {
        for (extent, window, stride, padding) in
            [(7, 3, 2, 1), (6, 2, 2, 0), (7, 2, 3, 0), (5, 3, 1, 1), (4, 4, 5, 2)]
        {
            let outputs = (extent + 2 * padding as usize - window as usize) / stride as usize + 1;
            for o in 0..outputs {
                for i in 0..extent {
                    assert_eq!(
                        pixels_under(o, window, stride, padding, extent).contains(&i),
                        windows_over(i, window, stride, padding, outputs).contains(&o),
                        "extent {extent}, window {window}, stride {stride}, padding {padding}: window {o}, pixel {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn misfits_are_errors() {
        let shape = |kernel: usize, stride: usize, padding: usize| {
            pooled_shape("checking", Shape::new(3, 7, 5), [kernel; 2], [stride; 2], [padding; 2], None)
        };
        assert_eq!(shape(3, 2, 1).ok(), Some(Shape::new(3, 4, 3)));
        assert_eq!(shape(2, 2, 0).ok(), Some(Shape::new(3, 3, 2)));
        for (kernel, stride, padding) in [
            (0, 1, 0),
            (6, 1, 0),
            (2, 0, 0),
            (2, 2, 2),
            (usize::MAX, 1, 0),
            (usize::MAX, 1, usize::MAX / 2),
            (2, usize::MAX, 1),
        ] {
            assert!(shape(kernel, stride, padding).is_err(), "{kernel} {stride} {padding}");
        }
        let uneven = |trailing: usize| {
            let shape = Shape::new(3, 7, 5);
            pooled_shape("checking", shape, [3; 2], [2; 2], [0; 2], Some([trailing; 2])).ok()
        };
        assert_eq!(uneven(0), Some(Shape::new(3, 3, 2)));
        assert_eq!(uneven(2), Some(Shape::new(3, 4, 3)));
        assert_eq!(uneven(3), None, "a window beside the image");
    }
}
