//! Hard sigmoid: `y = min(max(slope x + offset, 0), 1)` (`torch.nn.Hardsigmoid`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Hardsigmoid`, whose line rises by 1/6; other tools take other lines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HardSigmoid {
    /// Slope of the line, over 0 (`alpha` in ONNX).
    pub slope: f32,
    /// The line at 0 (`beta` in ONNX).
    pub offset: f32,
}

from_json!(HardSigmoid { slope = HardSigmoid::default().slope, offset = HardSigmoid::default().offset });

impl Default for HardSigmoid {
    fn default() -> Self {
        HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct HardSigmoidParams {
        /// Numbers in x and y.
        len: u32,
        /// Slope of the line.
        slope: f32,
        /// The line at 0.
        offset: f32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = min(max(slope x + offset, 0), 1)`.
pub static HARD_SIGMOID_FORWARD: Kernel = Kernel {
    name: "hard_sigmoid_forward",
    params: HardSigmoidParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "hard_sigmoid_forward", wgsl: wgsl!("hard_sigmoid_forward"), workgroups }],
    twin: hard_sigmoid_forward,
    fast: None,
};

/// `dx = slope dy where 0 < y < 1, else 0`.
pub static HARD_SIGMOID_BACKWARD: Kernel = Kernel {
    name: "hard_sigmoid_backward",
    params: HardSigmoidParams::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "hard_sigmoid_backward", wgsl: wgsl!("hard_sigmoid_backward"), workgroups }],
    twin: hard_sigmoid_backward,
    fast: None,
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<HardSigmoidParams>(params).len.into())
}

fn hard_sigmoid_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<HardSigmoidParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        // Not min() and max(): they drop a NaN, which must come through to be found.
        *y = (p.slope * x + p.offset).clamp(0.0, 1.0);
    }
}

fn hard_sigmoid_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<HardSigmoidParams, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = if *y > 0.0 && *y < 1.0 { p.slope * dy } else { 0.0 };
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

impl HardSigmoid {
    fn params(&self, node: &NodeIo) -> HardSigmoidParams {
        HardSigmoidParams {
            len: node.output_words() as u32,
            slope: self.slope,
            offset: self.offset,
            accumulate: 0,
        }
    }
}

impl Operator for HardSigmoid {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if !(self.slope.is_finite() && self.slope > 0.0 && self.offset.is_finite()) {
            return Err(Error::new(ErrorKind::Argument, "checking a hard sigmoid")
                .expected("a slope over 0 and a finite offset")
                .found(format!("{} and {}", self.slope, self.offset)));
        }
        same_shapes("checking a hard sigmoid", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        recorder.dispatch(&HARD_SIGMOID_FORWARD, &self.params(node), &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = HardSigmoidParams { accumulate, ..self.params(node) };
            recorder.dispatch(&HARD_SIGMOID_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
