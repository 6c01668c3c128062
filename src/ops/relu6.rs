//! ReLU6: `y = min(max(x, 0), 6)` (`torch.nn.ReLU6`). Shapes: x, y any.

use super::{Channels, Operator, same_shapes, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.ReLU6`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Relu6 {}

from_json!(Relu6 {});

params! {
    /// Uniform of the two kernels.
    pub struct Relu6Params {
        /// Numbers in x and y.
        len: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = min(max(x, 0), 6)`.
pub static RELU6_FORWARD: Kernel = Kernel {
    name: "relu6_forward",
    params: Relu6Params::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "relu6_forward", wgsl: wgsl!("relu6_forward"), workgroups }],
    twin: relu6_forward,
    fast: Some(relu6_forward_fast),
};

/// `dx = dy where 0 < y < 6, else 0`.
pub static RELU6_BACKWARD: Kernel = Kernel {
    name: "relu6_backward",
    params: Relu6Params::FIELDS,
    bindings: &[read("y"), read("dy"), write("dx")],
    shaders: &[Shader { name: "relu6_backward", wgsl: wgsl!("relu6_backward"), workgroups }],
    twin: relu6_backward,
    fast: Some(relu6_backward_fast),
};

fn workgroups(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<Relu6Params>(params).len.into())
}

fn relu6_forward(args: Args<'_>) {
    let (_, [x], [y]) = args.unpack::<Relu6Params, 1, 1>();
    for (y, x) in y.iter_mut().zip(x) {
        // Not min() and max(): they drop a NaN, which must come through to be found.
        *y = x.clamp(0.0, 6.0);
    }
}

fn relu6_backward(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<Relu6Params, 2, 1>();
    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
        let gradient = if *y > 0.0 && *y < 6.0 { *dy } else { 0.0 };
        *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
    }
}

/// The twin on parts of the tensors, spread over the threads.
fn relu6_forward_fast(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<Relu6Params, 1, 1>();
    simd::for_each_part(y, simd::PART, |part, y| {
        relu6_forward(Args::of(&p, &[&x[part * simd::PART..][..y.len()]], [y]));
    });
}

fn relu6_backward_fast(args: Args<'_>) {
    let (p, [y, dy], [dx]) = args.unpack::<Relu6Params, 2, 1>();
    simd::for_each_part(dx, simd::PART, |part, dx| {
        let here = part * simd::PART..part * simd::PART + dx.len();
        relu6_backward(Args::of(&p, &[&y[here.clone()], &dy[here]], [dx]));
    });
}

impl Operator for Relu6 {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        same_shapes("checking a ReLU6", inputs)
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let params = Relu6Params { len: node.output_words() as u32, accumulate: 0 };
        recorder.dispatch(&RELU6_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = Relu6Params { len: node.output_words() as u32, accumulate };
            recorder.dispatch(&RELU6_BACKWARD, &params, &[node.output().into(), dy.into(), dx.into()]);
        }
    }
}
