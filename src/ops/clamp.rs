//! Clamping: `y = min(max(x, low), high)` (`torch.nn.Hardtanh`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.Hardtanh`: -1 to 1 by default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clamp {
    /// The floor (`min_val`).
    pub low: f32,
    /// The ceiling (`max_val`), over the floor.
    pub high: f32,
}

from_json!(Clamp { low = Clamp::default().low, high = Clamp::default().high });

impl Default for Clamp {
    fn default() -> Self {
        Clamp { low: -1.0, high: 1.0 }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct ClampParams {
        /// Numbers in x and y.
        len: u32,
        /// The floor.
        low: f32,
        /// The ceiling.
        high: f32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = min(max(x, low), high)`.
pub static CLAMP_FORWARD: Kernel = Kernel {
    name: "clamp_forward",
    params: ClampParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "clamp_forward", wgsl: wgsl!("clamp_forward"), workgroups }],
    twin: clamp_forward,
    fast: None,
};

/// `dx = dy where low < y < high, else 0`.
pub static CLAMP_BACKWARD: Kernel = Kernel {
    name: "clamp_backward",
    params: ClampParams::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "clamp_backward", wgsl: wgsl!("clamp_backward"), workgroups }],
    twin: clamp_backward,
    fast: None,
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<ClampParams>(params).len.into())
}

fn clamp_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<ClampParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        // Not min() and max(): they drop a NaN, which must come through to be found.
        *y = x.clamp(p.low, p.high);
    }
}

fn clamp_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<ClampParams, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = if *y > p.low && *y < p.high { *dy } else { 0.0 };
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

impl Clamp {
    fn params(&self, node: &NodeIo) -> ClampParams {
        ClampParams { len: node.output_words() as u32, low: self.low, high: self.high, accumulate: 0 }
    }
}

impl Operator for Clamp {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if !(self.low.is_finite() && self.high.is_finite() && self.low < self.high) {
            return Err(Error::new(ErrorKind::Argument, "checking a clamp")
                .expected("a finite floor below a finite ceiling")
                .found(format!("{} and {}", self.low, self.high)));
        }
        same_shapes("checking a clamp", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        recorder.dispatch(&CLAMP_FORWARD, &self.params(node), &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = ClampParams { accumulate, ..self.params(node) };
            recorder.dispatch(&CLAMP_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
