//! Mean of each window (`torch.nn.AvgPool2d`). Shapes: x `[N, C, H, W]`, y `[N, C, P, Q]` with
//! `P = floor((H + 2 padding_h - R) / stride_h) + 1`.
//!
//! Backward gathers: each pixel looks at the windows over it, so that no two invocations add to one number.

use super::max_pool2d::{pixels_under, pooled_shape, windows_over};
use super::{Channels, Operator, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// What a mean is divided by (`count_include_pad`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Divisor {
    /// The window's size; padding counts as zeros. PyTorch's default.
    #[default]
    Window,
    /// The pixels of the image under the window.
    Pixels,
}

from_json!(enum Divisor { Window: "Window", Pixels: "Pixels" });

/// `torch.nn.AvgPool2d`; sizes round down. Pairs are vertical, horizontal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AvgPool2d {
    /// Window size (`kernel_size`).
    pub kernel: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: [usize; 2],
    /// Those below and on the right, where they are others than above and on the left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailing: Option<[usize; 2]>,
    /// What the sum is divided by.
    pub divisor: Divisor,
}

from_json!(AvgPool2d { kernel, stride, padding = [0; 2], trailing, divisor = Divisor::Window });

impl AvgPool2d {
    /// Square windows side by side: PyTorch's default stride and padding.
    pub fn new(kernel: usize) -> Self {
        AvgPool2d {
            kernel: [kernel; 2],
            stride: [kernel; 2],
            padding: [0; 2],
            trailing: None,
            divisor: Divisor::Window,
        }
    }

    /// The kernels' uniform for `batch` images of shape `x` in and `y` out, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape, y: Shape) -> AvgPool2dParams {
        AvgPool2dParams {
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
            count_padding: u32::from(self.divisor == Divisor::Window),
            accumulate: 0,
        }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct AvgPool2dParams {
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
        /// 1 to divide by the window's size, 0 by the pixels under it.
        count_padding: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = sum of the window / divisor`.
pub static AVG_POOL2D_FORWARD: Kernel = Kernel {
    name: "avg_pool2d_forward",
    params: AvgPool2dParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader {
        name: "avg_pool2d_forward",
        wgsl: wgsl!("avg_pool2d_forward"),
        workgroups: |params| {
            let p = params_of::<AvgPool2dParams>(params);
            workgroups_of_64([p.planes, p.p, p.q].into_iter().map(u64::from).product())
        },
    }],
    twin: avg_pool2d_forward,
    fast: Some(avg_pool2d_forward_fast),
};

/// `dx = sum of dy / divisor over the windows over the pixel`.
pub static AVG_POOL2D_BACKWARD: Kernel = Kernel {
    name: "avg_pool2d_backward",
    params: AvgPool2dParams::FIELDS,
    bindings: &[read("dy"), write("dx")],
    shaders: &[Shader {
        name: "avg_pool2d_backward",
        wgsl: wgsl!("avg_pool2d_backward"),
        workgroups: |params| {
            let p = params_of::<AvgPool2dParams>(params);
            workgroups_of_64([p.planes, p.h, p.w].into_iter().map(u64::from).product())
        },
    }],
    twin: avg_pool2d_backward,
    fast: Some(avg_pool2d_backward_fast),
};

impl AvgPool2dParams {
    /// What the sum of the window at `row`, `column` is divided by.
    fn divisor(&self, row: usize, column: usize) -> f32 {
        if self.count_padding == 1 {
            return self.r as f32 * self.s as f32;
        }
        let rows = pixels_under(row, self.r, self.stride_h, self.padding_h, self.h as usize);
        let columns = pixels_under(column, self.s, self.stride_w, self.padding_w, self.w as usize);
        (rows.len() * columns.len()) as f32
    }
}

fn avg_pool2d_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<AvgPool2dParams, 1, 1>();
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    for (o, y) in y.iter_mut().enumerate() {
        let (row, column) = (o / q % p.p as usize, o % q);
        let plane = &x[o / (p.p as usize * q) * h * w..][..h * w];
        let columns = pixels_under(column, p.s, p.stride_w, p.padding_w, w);
        let mut sum = 0.0;
        for i in pixels_under(row, p.r, p.stride_h, p.padding_h, h) {
            for j in columns.clone() {
                sum += plane[i * w + j];
            }
        }
        *y = sum / p.divisor(row, column);
    }
}

fn avg_pool2d_forward_fast(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<AvgPool2dParams, 1, 1>();
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    simd::for_each_part(y, p.p as usize * q, |plane, y| {
        let x = &x[plane * h * w..][..h * w];
        for (row, y) in y.chunks_exact_mut(q).enumerate() {
            let rows = pixels_under(row, p.r, p.stride_h, p.padding_h, h);
            for (column, y) in y.iter_mut().enumerate() {
                let columns = pixels_under(column, p.s, p.stride_w, p.padding_w, w);
                let lines = x[rows.start * w..rows.end * w].chunks_exact(w);
                let sum: f32 = lines.flat_map(|line| &line[columns.clone()]).sum();
                *y = sum / p.divisor(row, column);
            }
        }
    });
}

fn avg_pool2d_backward_fast(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<AvgPool2dParams, 1, 1>();
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    simd::for_each_part(dx, h * w, |plane, dx| {
        if p.accumulate == 0 {
            dx.fill(0.0);
        }
        let dy = &dy[plane * p.p as usize * q..][..p.p as usize * q];
        for (row, dy) in dy.chunks_exact(q).enumerate() {
            let rows = pixels_under(row, p.r, p.stride_h, p.padding_h, h);
            for (column, dy) in dy.iter().enumerate() {
                let gradient = dy / p.divisor(row, column);
                let columns = pixels_under(column, p.s, p.stride_w, p.padding_w, w);
                for line in dx[rows.start * w..rows.end * w].chunks_exact_mut(w) {
                    line[columns.clone()].iter_mut().for_each(|dx| *dx += gradient);
                }
            }
        }
    });
}

fn avg_pool2d_backward(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<AvgPool2dParams, 1, 1>();
    let (h, w, q) = (p.h as usize, p.w as usize, p.q as usize);
    for (i, dx) in dx.iter_mut().enumerate() {
        let (row, column) = (i / w % h, i % w);
        let plane = i / (h * w) * p.p as usize * q;
        let mut gradient = 0.0;
        for u in windows_over(row, p.r, p.stride_h, p.padding_h, p.p as usize) {
            for v in windows_over(column, p.s, p.stride_w, p.padding_w, q) {
                gradient += dy[plane + u * q + v] / p.divisor(u, v);
            }
        }
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

impl Operator for AvgPool2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pooled_shape(
            "checking an average pooling",
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
        let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
        recorder.dispatch(&AVG_POOL2D_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
            let params = AvgPool2dParams { accumulate, ..params };
            recorder.dispatch(&AVG_POOL2D_BACKWARD, &params, &[dy.into(), dx.into()]);
        }
    }
}
