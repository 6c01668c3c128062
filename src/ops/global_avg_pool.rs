//! Mean of each channel's pixels (`torch.nn.AdaptiveAvgPool2d(1)`). Shapes: x `[N, C, H, W]`, y `[N, C, 1, 1]`.

use super::{Channels, Operator, workgroups_of_64};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::params;
use crate::plan::{NodeIo, Recorder, Tensor};
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.AdaptiveAvgPool2d(1)`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GlobalAvgPool {}

from_json!(GlobalAvgPool {});

params! {
    /// Uniform of the two kernels.
    pub struct GlobalAvgPoolParams {
        /// Planes: N C.
        planes: u32,
        /// Pixels in a plane: H W.
        pixels: u32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; unused forward.
        accumulate: u32,
    }
}

/// `y_nc = mean of x_nc`.
pub static GLOBAL_AVG_POOL_FORWARD: Kernel = Kernel {
    name: "global_avg_pool_forward",
    params: GlobalAvgPoolParams::FIELDS,
    bindings: &[read("x"), write("y")],
    shaders: &[Shader {
        name: "global_avg_pool_forward",
        wgsl: wgsl!("global_avg_pool_forward"),
        workgroups: |params| workgroups_of_64(params_of::<GlobalAvgPoolParams>(params).planes.into()),
    }],
    twin: global_avg_pool_forward,
    fast: None,
};

/// `dx_nchw = dy_nc / (H W)`.
pub static GLOBAL_AVG_POOL_BACKWARD: Kernel = Kernel {
    name: "global_avg_pool_backward",
    params: GlobalAvgPoolParams::FIELDS,
    bindings: &[read("dy"), write("dx")],
    shaders: &[Shader {
        name: "global_avg_pool_backward",
        wgsl: wgsl!("global_avg_pool_backward"),
        workgroups: |params| {
            let p = params_of::<GlobalAvgPoolParams>(params);
            workgroups_of_64(u64::from(p.planes) * u64::from(p.pixels))
        },
    }],
    twin: global_avg_pool_backward,
    fast: None,
};

fn global_avg_pool_forward(args: Args<'_>) {
    let (p, [x], [y]) = args.unpack::<GlobalAvgPoolParams, 1, 1>();
    for (y, plane) in y.iter_mut().zip(x.chunks_exact(p.pixels as usize)) {
        *y = plane.iter().sum::<f32>() / p.pixels as f32;
    }
}

fn global_avg_pool_backward(args: Args<'_>) {
    let (p, [dy], [dx]) = args.unpack::<GlobalAvgPoolParams, 1, 1>();
    for (plane, dy) in dx.chunks_exact_mut(p.pixels as usize).zip(dy) {
        let gradient = dy / p.pixels as f32;
        for dx in plane {
            *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
        }
    }
}

impl GlobalAvgPool {
    /// The kernels' uniform for `batch` images of shape `x`, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape) -> GlobalAvgPoolParams {
        GlobalAvgPoolParams { planes: (batch * x.c) as u32, pixels: x.pixels() as u32, accumulate: 0 }
    }
}

impl Operator for GlobalAvgPool {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(Shape::new(inputs[0].c, 1, 1))
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let y = recorder.tensor(node.output_words());
        let params = self.params(node.batch(), node.input_shape(0));
        recorder.dispatch(&GLOBAL_AVG_POOL_FORWARD, &params, &[node.input(0).into(), y.into()]);
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let params = GlobalAvgPoolParams { accumulate, ..self.params(node.batch(), node.input_shape(0)) };
            recorder.dispatch(&GLOBAL_AVG_POOL_BACKWARD, &params, &[dy.into(), dx.into()]);
        }
    }
}
