//! Elementwise product of two inputs of one shape, or of an input and a gate of one number a channel
//! (`torch.mul`; squeeze-and-excitation, Hu et al. 2018). Shapes: a, y `[N, C, H, W]`, gate the same or `[N, C, 1, 1]`.
//!
//! `da = dy gate`, which is the same kernel; `dgate = sum of dy a` over the numbers that a number of the gate covers.

use super::{Channels, Operator, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;
use std::ops::RangeInclusive;

/// `torch.mul` of two inputs; the second may have one number a channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Mul {}

from_json!(Mul {});

params! {
    /// Uniform of the two kernels.
    pub struct MulParams {
        /// Numbers in a.
        len: u32,
        /// Numbers of a that one number of the gate covers; 1 for inputs of one shape.
        spread: u32,
        /// 1 when the result is added to what is there, 0 when it overwrites.
        accumulate: u32,
    }
}

/// `y = a gate`, and with dy for a: `da = dy gate`.
pub static MUL_FORWARD: Kernel = Kernel {
    name: "mul_forward",
    params: MulParams::FIELDS,
    bindings: &[read("a"), read("gate"), write("y")],
    shaders: &[Shader {
        name: "mul_forward",
        wgsl: wgsl!("mul_forward"),
        workgroups: |params| workgroups_of_64(params_of::<MulParams>(params).len.into()),
    }],
    twin: mul_forward,
    fast: None,
};

/// `dgate = sum of dy a`.
pub static MUL_GATE_GRADIENT: Kernel = Kernel {
    name: "mul_gate_gradient",
    params: MulParams::FIELDS,
    bindings: &[read("a"), read("dy"), write("dgate")],
    shaders: &[Shader {
        name: "mul_gate_gradient",
        wgsl: wgsl!("mul_gate_gradient"),
        workgroups: |params| {
            let p = params_of::<MulParams>(params);
            workgroups_of_64((p.len / p.spread).into())
        },
    }],
    twin: mul_gate_gradient,
    fast: None,
};

fn mul_forward(args: Args<'_>) {
    let (p, [a, gate], [y]) = args.unpack::<MulParams, 2, 1>();
    let spread = p.spread as usize;
    for ((y, a), gate) in y.chunks_exact_mut(spread).zip(a.chunks_exact(spread)).zip(gate) {
        for (y, a) in y.iter_mut().zip(a) {
            *y = if p.accumulate == 1 { *y + a * gate } else { a * gate };
        }
    }
}

fn mul_gate_gradient(args: Args<'_>) {
    let (p, [a, dy], [dgate]) = args.unpack::<MulParams, 2, 1>();
    let spread = p.spread as usize;
    for ((dgate, a), dy) in dgate.iter_mut().zip(a.chunks_exact(spread)).zip(dy.chunks_exact(spread)) {
        let gradient = a.iter().zip(dy).map(|(a, dy)| dy * a).sum::<f32>();
        *dgate = if p.accumulate == 1 { *dgate + gradient } else { gradient };
    }
}

impl Mul {
    fn params(node: &NodeIo) -> MulParams {
        let spread = node.input_words(0) / node.input_words(1).max(1);
        MulParams { len: node.output_words() as u32, spread: spread as u32, accumulate: 0 }
    }
}

impl Operator for Mul {
    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [a, gate] = [inputs[0], inputs[1]];
        if gate == a || gate == Shape::new(a.c, 1, 1) {
            return Ok(a);
        }
        Err(Error::new(ErrorKind::Shape, "checking a product")
            .expected(format!("{a} or {}x1x1 as its second input", a.c))
            .found(gate))
    }

    /// The gate's channels follow those that it gates: both are cut alike.
    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let operands = [node.input(0).into(), node.input(1).into(), y.into()];
        recorder.dispatch(&MUL_FORWARD, &Self::params(node), &operands);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((da, accumulate)) = recorder.input_gradient(node, 0) {
            let params = MulParams { accumulate, ..Self::params(node) };
            recorder.dispatch(&MUL_FORWARD, &params, &[dy.into(), node.input(1).into(), da.into()]);
        }
        if let Some((dgate, accumulate)) = recorder.input_gradient(node, 1) {
            let params = MulParams { accumulate, ..Self::params(node) };
            recorder.dispatch(&MUL_GATE_GRADIENT, &params, &[node.input(0).into(), dy.into(), dgate.into()]);
        }
    }
}
