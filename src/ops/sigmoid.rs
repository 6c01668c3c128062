//! Sigmoid: `y = 1 / (1 + exp(-x))` (`torch.nn.Sigmoid`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Sigmoid`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sigmoid {}

from_json!(Sigmoid {});

params! {
    /// Uniform of the two kernels.
    pub struct SigmoidParams {
        /// Numbers in x and y.
        len: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = 1 / (1 + exp(-x))`.
pub static SIGMOID_FORWARD: Kernel = Kernel {
    name: "sigmoid_forward",
    params: SigmoidParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "sigmoid_forward", wgsl: wgsl!("sigmoid_forward"), workgroups }],
    twin: sigmoid_forward,
    fast: None,
};

/// `dx = dy y (1 - y)`.
pub static SIGMOID_BACKWARD: Kernel = Kernel {
    name: "sigmoid_backward",
    params: SigmoidParams::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "sigmoid_backward", wgsl: wgsl!("sigmoid_backward"), workgroups }],
    twin: sigmoid_backward,
    fast: None,
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<SigmoidParams>(params).len.into())
}

fn sigmoid_forward(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<SigmoidParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = sigmoid(*x);
    }
}

fn sigmoid_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<SigmoidParams, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = dy * y * (1.0 - y);
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

/// `1 / (1 + exp(-x))`, by an exponential that cannot overflow.
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

impl Sigmoid {
    fn params(&self, node: &NodeIo) -> SigmoidParams {
        SigmoidParams { len: node.output_words() as u32, accumulate: 0 }
    }
}

impl Operator for Sigmoid {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking a sigmoid", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        recorder.dispatch(&SIGMOID_FORWARD, &self.params(node), &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = SigmoidParams { accumulate, ..self.params(node) };
            recorder.dispatch(&SIGMOID_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
