//! Concatenation over channels (`torch.cat(inputs, dim=1)`). Shapes: x_i `[N, C_i, H, W]`, y `[N, sum of C_i, H, W]`.
//!
//! The channels of one image are contiguous, so an input is one run of words in each image of y.

use super::{Channels, Operator, workgroups_of_64};
use crate::device::simd;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;
use std::ops::RangeInclusive;

/// `torch.cat` of all inputs over channels.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Concat {}

from_json!(Concat {});

params! {
    /// Uniform of the two kernels.
    pub struct ConcatParams {
        /// Images.
        n: u32,
        /// Numbers in one image of x: C_i H W.
        x_len: u32,
        /// Numbers in one image of y.
        y_len: u32,
        /// Where x begins in one image of y.
        offset: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// Copies one input to its channels of y.
pub static CONCAT_FORWARD: Kernel = Kernel {
    name: "concat_forward",
    params: ConcatParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader { name: "concat_forward", wgsl: wgsl!("concat_forward"), workgroups }],
    twin: concat_forward,
    fast: Some(concat_forward_fast),
};

/// Takes one input's channels out of dy.
pub static CONCAT_BACKWARD: Kernel = Kernel {
    name: "concat_backward",
    params: ConcatParams::FIELDS,
    bindings: &[read("dy"), write("dx")],
    shaders: &[Shader { name: "concat_backward", wgsl: wgsl!("concat_backward"), workgroups }],
    twin: concat_backward,
    fast: Some(concat_backward_fast),
};

fn workgroups(params: &[u8]) -> u64 {
    let p = params_of::<ConcatParams>(params);
    workgroups_of_64(u64::from(p.n) * u64::from(p.x_len))
}

fn concat_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<ConcatParams, 1, 1>();
    let (x_len, y_len) = (p.x_len as usize, p.y_len as usize);
    for (x, y) in x.chunks_exact(x_len).zip(y.chunks_exact_mut(y_len)) {
        y[p.offset as usize..][..x_len].copy_from_slice(x);
    }
}

fn concat_backward(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<ConcatParams, 1, 1>();
    let (x_len, y_len) = (p.x_len as usize, p.y_len as usize);
    for (dx, dy) in dx.chunks_exact_mut(x_len).zip(dy.chunks_exact(y_len)) {
        for (dx, dy) in dx.iter_mut().zip(&dy[p.offset as usize..]) {
            *dx = if p.accumulate == 1 { *dx + dy } else { *dy };
        }
    }
}

/// The twin image by image, spread over the threads.
fn concat_forward_fast(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<ConcatParams, 1, 1>();
    simd::for_each_part(y, p.y_len as usize, |image, y| {
        let x = &x[image * p.x_len as usize..][..p.x_len as usize];
        concat_forward(Args::of(&p, &[x], [y]));
    });
}

fn concat_backward_fast(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<ConcatParams, 1, 1>();
    simd::for_each_part(dx, p.x_len as usize, |image, dx| {
        let dy = &dy[image * p.y_len as usize..][..p.y_len as usize];
        concat_backward(Args::of(&p, &[dy], [dx]));
    });
}

impl Concat {
    /// The uniform for input `i`, to overwrite its gradient.
    fn params(node: &NodeIo, i: usize) -> ConcatParams {
        let before: usize = (0..i).map(|other| node.input_shape(other).len()).sum();
        ConcatParams {
            n: node.batch() as u32,
            x_len: node.input_shape(i).len() as u32,
            y_len: node.output_shape().len() as u32,
            offset: before as u32,
            accumulate: 0,
        }
    }
}

impl Operator for Concat {
    fn arity(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let Shape { h, w, .. } = inputs[0];
        match inputs.iter().find(|shape| (shape.h, shape.w) != (h, w)) {
            None => {
                Ok(Shape::new(inputs.iter().fold(0, |sum: usize, shape| sum.saturating_add(shape.c)), h, w))
            }
            Some(other) => Err(Error::new(ErrorKind::Shape, "checking a concatenation")
                .expected(format!("inputs of {h}x{w} pixels"))
                .found(other)),
        }
    }

    fn channels(&self, inputs: &[Shape], _output: Shape) -> Channels {
        let sources =
            inputs.iter().enumerate().flat_map(|(i, shape)| (0..shape.c).map(move |c| Some((i, c))));
        Channels::From(sources.collect())
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        for i in 0..node.inputs() {
            recorder.dispatch(&CONCAT_FORWARD, &Self::params(node, i), &[node.input(i).into(), y.into()]);
        }
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        for i in 0..node.inputs() {
            if let Some((dx, accumulate)) = recorder.input_gradient(node, i) {
                let params = ConcatParams { accumulate, ..Self::params(node, i) };
                recorder.dispatch(&CONCAT_BACKWARD, &params, &[dy.into(), dx.into()]);
            }
        }
    }
}
