//! SiLU, or swish: `y = x sigmoid(x)` (`torch.nn.SiLU`). Shapes: x, y any.

use super::sigmoid::sigmoid;
use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.SiLU`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Silu {}

from_json!(Silu {});

params! {
    /// Uniform of the two kernels.
    pub struct SiluParams {
        /// Numbers in x and y.
        len: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = x sigmoid(x)`.
pub static SILU_FORWARD: Kernel = Kernel {
    name: "silu_forward",
    params: SiluParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "silu_forward", wgsl: wgsl!("silu_forward"), workgroups }],
    twin: silu_forward,
    fast: None,
};

/// `dx = dy s (1 + x (1 - s))`.
pub static SILU_BACKWARD: Kernel = Kernel {
    name: "silu_backward",
    params: SiluParams::FIELDS,
    bindings: &[read("x"), read("dy"), write("dx")],
    shaders: &[Shader { name: "silu_backward", wgsl: wgsl!("silu_backward"), workgroups }],
    twin: silu_backward,
    fast: None,
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<SiluParams>(params).len.into())
}

fn silu_forward(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<SiluParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * sigmoid(*x);
    }
}

fn silu_backward(args: Args<'_>) {
    let (p, [x, dy], [dx]) = args.unpack::<SiluParams, 2, 1>();
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        let s = sigmoid(*x);
        let gradient = dy * s * (1.0 + x * (1.0 - s));
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

impl Silu {
    fn params(&self, node: &NodeIo) -> SiluParams {
        SiluParams { len: node.output_words() as u32, accumulate: 0 }
    }
}

impl Operator for Silu {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking a SiLU", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        recorder.dispatch(&SILU_FORWARD, &self.params(node), &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = SiluParams { accumulate, ..self.params(node) };
            recorder.dispatch(&SILU_BACKWARD, &params, &[node.input(0).into(), dy.into(), dx.into()]);
        }
    }
}
