//! Elementwise sum of two or more inputs (`torch.add`), where residual branches meet. Shapes: x_i, y equal.
//!
//! Its gradient is the identity, so backward hands dy on; `accumulate` is the sum into a gradient already there.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;
use std::ops::RangeInclusive;

/// `torch.add` of all inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Add {}

from_json!(Add {});

params! {
    /// Uniform of `add_forward`.
    pub struct AddParams {
        /// Numbers in each tensor.
        len: u32,
    }
}

params! {
    /// Uniform of `accumulate`.
    pub struct AccumulateParams {
        /// Numbers in each tensor.
        len: u32,
        /// 1 to add to y, 0 to overwrite it.
        accumulate: u32,
    }
}

/// `y = a + b`.
pub static ADD_FORWARD: Kernel = Kernel {
    name: "add_forward",
    params: AddParams::FIELDS,
    bindings: &[read("a"), read("b"), write("y")],
    shaders: &[Shader {
        name: "add_forward",
        wgsl: wgsl!("add_forward"),
        workgroups: |params| workgroups_of_64(params_of::<AddParams>(params).len.into()),
    }],
    twin: add_forward,
    fast: Some(add_forward_fast),
};

/// `y = x` or `y += x`.
pub static ACCUMULATE: Kernel = Kernel {
    name: "accumulate",
    params: AccumulateParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader {
        name: "accumulate",
        wgsl: wgsl!("accumulate"),
        workgroups: |params| workgroups_of_64(params_of::<AccumulateParams>(params).len.into()),
    }],
    twin: accumulate,
    fast: Some(accumulate_fast),
};

fn add_forward(args: Args<'_>) {
    let (_, [a, b], [y]) = args.unpack::<AddParams, 2, 1>();
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

fn add_forward_fast(args: Args<'_>) {
    let (_, [a, b], [y]) = args.unpack::<AddParams, 2, 1>();
    simd::add(a, b, y);
}

fn accumulate(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<AccumulateParams, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = if p.accumulate == 1 { *y + x } else { *x };
    }
}

/// The twin on parts of the tensors, spread over the threads.
fn accumulate_fast(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<AccumulateParams, 1, 1>();
    simd::for_each_part(y, simd::PART, |part, y| {
        accumulate(Args::of(&p, &[&x[part * simd::PART..][..y.len()]], [y]));
    });
}

impl Operator for Add {
    fn arity(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking an addition", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let params = AddParams { len: node.output_words() as u32 };
        let mut sum = node.input(0);
        for i in 1..node.inputs() {
            let y = recorder.tensor(node.output_words());
            recorder.dispatch(&ADD_FORWARD, &params, &[sum.into(), node.input(i).into(), y.into()]);
            sum = y;
        }
        sum
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        for i in 0..node.inputs() {
            recorder.pass_gradient(node, i);
        }
    }
}
