//! Zeros around the image (`torch.nn.ZeroPad2d`), where no convolution or pooling can hold them itself.
//! Shapes: x `[N, C, H, W]`, y `[N, C, P, Q]` with `P = top + H + bottom`.

use super::conv2d::MAX_STEP;
use super::{Channels, Operator, Padding, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.ZeroPad2d`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pad2d {
    /// Zeros on each side.
    pub padding: Padding,
}

from_json!(Pad2d { padding });

impl Pad2d {
    /// The kernels' uniform for `batch` images of shape `x` in and `y` out, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape, y: Shape) -> Pad2dParams {
        Pad2dParams {
            planes: (batch * x.c) as u32,
            h: x.h as u32,
            w: x.w as u32,
            p: y.h as u32,
            q: y.w as u32,
            top: self.padding.top as u32,
            left: self.padding.left as u32,
            accumulate: 0,
        }
    }
}

params! {
    /// Uniform of the two kernels.
    pub struct Pad2dParams {
        /// Planes: N C.
        planes: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Output height.
        p: u32,
        /// Output width.
        q: u32,
        /// Rows of zeros above.
        top: u32,
        /// Columns of zeros on the left.
        left: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y = x` inside, 0 around it.
pub static PAD2D_FORWARD: Kernel = Kernel {
    name: "pad2d_forward",
    params: Pad2dParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader {
        name: "pad2d_forward",
        wgsl: wgsl!("pad2d_forward"),
        workgroups: |params| {
            let p = params_of::<Pad2dParams>(params);
            workgroups_of_64([p.planes, p.p, p.q].into_iter().map(u64::from).product())
        },
    }],
    twin: pad2d_forward,
    fast: None,
};

/// `dx` is the inside of `dy`.
pub static PAD2D_BACKWARD: Kernel = Kernel {
    name: "pad2d_backward",
    params: Pad2dParams::FIELDS,
    bindings: &[read("dy"), write("dx")],
    shaders: &[Shader {
        name: "pad2d_backward",
        wgsl: wgsl!("pad2d_backward"),
        workgroups: |params| {
            let p = params_of::<Pad2dParams>(params);
            workgroups_of_64([p.planes, p.h, p.w].into_iter().map(u64::from).product())
        },
    }],
    twin: pad2d_backward,
    fast: None,
};

fn pad2d_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<Pad2dParams, 1, 1>();
    let [h, w, q, top, left] = [p.h, p.w, p.q, p.top, p.left].map(|extent| extent as usize);
    y.fill(0.0);
    for (x, y) in x.chunks_exact(h * w).zip(y.chunks_exact_mut(p.p as usize * q)) {
        for (row, x) in x.chunks_exact(w).enumerate() {
            y[(row + top) * q + left..][..w].copy_from_slice(x);
        }
    }
}

fn pad2d_backward(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<Pad2dParams, 1, 1>();
    let [h, w, q, top, left] = [p.h, p.w, p.q, p.top, p.left].map(|extent| extent as usize);
    for (dx, dy) in dx.chunks_exact_mut(h * w).zip(dy.chunks_exact(p.p as usize * q)) {
        for (row, dx) in dx.chunks_exact_mut(w).enumerate() {
            for (dx, dy) in dx.iter_mut().zip(&dy[(row + top) * q + left..]) {
                *dx = if p.accumulate == 1 { *dx + dy } else { *dy };
            }
        }
    }
}

impl Operator for Pad2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let Padding { top, left, bottom, right } = self.padding;
        if [top, left, bottom, right].iter().any(|&side| side > MAX_STEP) {
            return Err(Error::new(ErrorKind::Shape, "checking a padding")
                .expected(format!("at most {MAX_STEP} pixels on a side"))
                .found(format!("{:?}", self.padding)));
        }
        let Shape { c, h, w } = inputs[0];
        Ok(Shape::new(c, top + h + bottom, left + w + right))
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
        recorder.dispatch(&PAD2D_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = self.params(node.batch(), node.input_shape(0), node.output_shape());
            recorder.dispatch(
                &PAD2D_BACKWARD,
                &Pad2dParams { accumulate, ..params },
                &[dy.into(), dx.into()],
            );
        }
    }
}
