//! ReLU: `y = max(x, 0)` (`torch.nn.ReLU`). Shapes: x, y any.

use super::conv2d::accumulate;
use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.ReLU`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Relu {}

from_json!(Relu {});

params! {
    /// Uniform of the two kernels.
    pub struct ReluParams {
        /// Numbers in x and y.
        len: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = max(x, 0)`.
pub static RELU_FORWARD: Kernel = Kernel {
    name: "relu_forward",
    params: ReluParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "relu_forward", wgsl: wgsl!("relu_forward"), workgroups }],
    twin: relu_forward,
    fast: Some(relu_forward_fast),
};

/// `dx = dy where y > 0, else 0`.
pub static RELU_BACKWARD: Kernel = Kernel {
    name: "relu_backward",
    params: ReluParams::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "relu_backward", wgsl: wgsl!("relu_backward"), workgroups }],
    twin: relu_backward,
    fast: Some(relu_backward_fast),
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<ReluParams>(params).len.into())
}

fn relu_forward(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<ReluParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = if *x < 0.0 { 0.0 } else { *x };
    }
}

fn relu_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<ReluParams, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = if *y > 0.0 { *dy } else { 0.0 };
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

fn relu_forward_fast(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<ReluParams, 1, 1>();
    simd::relu(x, y);
}

fn relu_backward_fast(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<ReluParams, 2, 1>();
    simd::relu_gradient(y, dy, dx, accumulate(p.accumulate));
}

impl Operator for Relu {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking a ReLU", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let params = ReluParams { len: node.output_words() as u32, accumulate: 0 };
        recorder.dispatch(&RELU_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = ReluParams { len: node.output_words() as u32, accumulate };
            recorder.dispatch(&RELU_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
