//! Hard swish: `y = x min(max(x + 3, 0), 6) / 6` (`torch.nn.Hardswish`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Hardswish`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HardSwish {}

from_json!(HardSwish {});

params! {
    /// Uniform of the two kernels.
    pub struct HardSwishParams {
        /// Numbers in x and y.
        len: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = x min(max(x + 3, 0), 6) / 6`.
pub static HARD_SWISH_FORWARD: Kernel = Kernel {
    name: "hard_swish_forward",
    params: HardSwishParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "hard_swish_forward", wgsl: wgsl!("hard_swish_forward"), workgroups }],
    twin: hard_swish_forward,
    fast: None,
};

/// `dx = dy (x / 3 + 1/2) between -3 and 3, 0 below, dy above`.
pub static HARD_SWISH_BACKWARD: Kernel = Kernel {
    name: "hard_swish_backward",
    params: HardSwishParams::FIELDS,
    bindings: &[read("x"), read("dy"), write("dx")],
    shaders: &[Shader { name: "hard_swish_backward", wgsl: wgsl!("hard_swish_backward"), workgroups }],
    twin: hard_swish_backward,
    fast: None,
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<HardSwishParams>(params).len.into())
}

fn hard_swish_forward(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<HardSwishParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
    }
}

fn hard_swish_backward(args: Args<'_>) {
    let (p, [x, dy], [dx]) = args.unpack::<HardSwishParams, 2, 1>();
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        let slope = match *x {
            x if x <= -3.0 => 0.0,
            x if x >= 3.0 => 1.0,
            x => x / 3.0 + 0.5,
        };
        let gradient = dy * slope;
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

impl HardSwish {
    fn params(&self, node: &NodeIo) -> HardSwishParams {
        HardSwishParams { len: node.output_words() as u32, accumulate: 0 }
    }
}

impl Operator for HardSwish {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking a hard swish", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        recorder.dispatch(&HARD_SWISH_FORWARD, &self.params(node), &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = HardSwishParams { accumulate, ..self.params(node) };
            recorder.dispatch(&HARD_SWISH_BACKWARD, &params, &[node.input(0).into(), dy.into(), dx.into()]);
        }
    }
}
