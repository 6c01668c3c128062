//! Leaky ReLU: `y = x where x >= 0, else slope x` (`torch.nn.LeakyReLU`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.LeakyReLU`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeakyRelu {
    /// Slope below zero (`negative_slope`), not negative: the sign of y must tell that of x.
    pub slope: f32,
}

from_json!(LeakyRelu { slope = LeakyRelu::default().slope });

impl Default for LeakyRelu {
    fn default() -> Self {
        LeakyRelu { slope: 0.01 }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct LeakyReluParams {
        /// Numbers in x and y.
        len: u32,
        /// Slope below zero.
        slope: f32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = x where x >= 0, else slope x`.
pub static LEAKY_RELU_FORWARD: Kernel = Kernel {
    name: "leaky_relu_forward",
    params: LeakyReluParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "leaky_relu_forward", wgsl: wgsl!("leaky_relu_forward"), workgroups }],
    twin: leaky_relu_forward,
    fast: Some(leaky_relu_forward_fast),
};

/// `dx = dy where y > 0, else slope dy`.
pub static LEAKY_RELU_BACKWARD: Kernel = Kernel {
    name: "leaky_relu_backward",
    params: LeakyReluParams::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "leaky_relu_backward", wgsl: wgsl!("leaky_relu_backward"), workgroups }],
    twin: leaky_relu_backward,
    fast: Some(leaky_relu_backward_fast),
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<LeakyReluParams>(params).len.into())
}

fn leaky_relu_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<LeakyReluParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = if *x < 0.0 { p.slope * x } else { *x };
    }
}

fn leaky_relu_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<LeakyReluParams, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = if *y > 0.0 { *dy } else { p.slope * dy };
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

/// The twin on parts of the tensors, spread over the threads.
fn leaky_relu_forward_fast(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<LeakyReluParams, 1, 1>();
    simd::for_each_part(y, simd::PART, |part, y| {
        leaky_relu_forward(Args::of(&p, &[&x[part * simd::PART..][..y.len()]], [y]));
    });
}

fn leaky_relu_backward_fast(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<LeakyReluParams, 2, 1>();
    simd::for_each_part(dx, simd::PART, |part, dx| {
        let here = part * simd::PART..part * simd::PART + dx.len();
        leaky_relu_backward(Args::of(&p, &[&y[here.clone()], &dy[here]], [dx]));
    });
}

impl Operator for LeakyRelu {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if !self.slope.is_finite() || self.slope < 0.0 {
            return Err(Error::new(ErrorKind::Argument, "checking a leaky ReLU")
                .expected("a slope of at least 0")
                .found(self.slope));
        }
        same_shapes("checking a leaky ReLU", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let params = LeakyReluParams { len: node.output_words() as u32, slope: self.slope, accumulate: 0 };
        recorder.dispatch(&LEAKY_RELU_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = LeakyReluParams { len: node.output_words() as u32, slope: self.slope, accumulate };
            recorder.dispatch(&LEAKY_RELU_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
