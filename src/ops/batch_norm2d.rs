//! Batch normalisation of each channel (`torch.nn.BatchNorm2d`; Ioffe and Szegedy 2015).
//!
//! `y = (x - mean) inv_std gamma + beta`, `inv_std = 1 / sqrt(var + eps)`, over the M = N H W numbers of a channel.
//! `dx = gamma inv_std (dy - dbeta / M - x_hat dgamma / M)` with `x_hat = (x - mean) inv_std`.
//! Shapes: x, y `[N, C, H, W]`, all else `[C]`.
//!
//! The mean is subtracted before squaring: E\[x^2\] - E\[x\]^2 loses everything in f32 where the mean is large.

use super::conv2d::accumulate;
use super::{Channels, Op, Operator, ParamKind, ParamSpec};
use crate::device::simd::{self, BatchNormGradient};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::params;
use crate::plan::{Mode, NodeIo, Operand, Recorder, Tensor};
use crate::prune::surgery::Cut;
use crate::shape::Shape;
use serde::Serialize;

/// `torch.nn.BatchNorm2d`, with gamma, beta and running statistics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchNorm2d {
    /// C.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a batch in the running statistics.
    pub momentum: f32,
}

from_json!(BatchNorm2d { channels, eps = default_eps(), momentum = default_momentum() });

fn default_eps() -> f32 {
    1e-5
}

fn default_momentum() -> f32 {
    0.1
}

impl BatchNorm2d {
    /// PyTorch's defaults for `channels`.
    pub fn new(channels: usize) -> Self {
        BatchNorm2d { channels, eps: default_eps(), momentum: default_momentum() }
    }

    /// The kernels' uniform for `batch` images of shape `x`, nothing accumulated.
    pub fn params(&self, batch: usize, x: Shape) -> BatchNormParams {
        BatchNormParams {
            n: batch as u32,
            c: self.channels as u32,
            pixels: x.pixels() as u32,
            eps: self.eps,
            momentum: self.momentum,
            accumulate: 0,
        }
    }
}

params! {
    /// Uniform of the batch norm kernels; each uses what it needs.
    pub struct BatchNormParams {
        /// Images.
        n: u32,
        /// Channels.
        c: u32,
        /// Pixels: H W.
        pixels: u32,
        /// Added to the variance.
        eps: f32,
        /// Weight of this batch in the running statistics.
        momentum: f32,
        /// 1 when the gradient is added to what is there, 0 when it overwrites; `batch_norm_relu_forward`: 1 to add the
        /// residual.
        accumulate: u32,
    }
}

/// Mean and 1 / standard deviation of each channel (biased); moves the running statistics (unbiased variance).
pub static BATCH_NORM_STATISTICS: Kernel = Kernel {
    name: "batch_norm_statistics",
    params: BatchNormParams::FIELDS,
    bindings: &[read("x"), write("mean"), write("inv_std"), write("running_mean"), write("running_var")],
    shaders: &[
        Shader {
            name: "batch_norm_statistics",
            wgsl: wgsl!("batch_norm_statistics"),
            workgroups: per_channel,
        },
        // wgpu offers no subgroups in browsers.
        #[cfg(feature = "native")]
        Shader {
            name: "batch_norm_statistics_subgroups",
            wgsl: wgsl!("batch_norm_statistics_subgroups"),
            workgroups: per_channel,
        },
    ],
    twin: batch_norm_statistics,
    fast: Some(batch_norm_statistics_fast),
};

/// `y = (x - mean) inv_std gamma + beta`.
pub static BATCH_NORM_NORMALIZE: Kernel = Kernel {
    name: "batch_norm_normalize",
    params: BatchNormParams::FIELDS,
    bindings: &[read("x"), read("mean"), read("inv_std"), read("gamma"), read("beta"), write("y")],
    shaders: &[Shader {
        name: "batch_norm_normalize",
        wgsl: wgsl!("batch_norm_normalize"),
        workgroups: per_piece,
    }],
    twin: batch_norm_normalize,
    fast: Some(batch_norm_normalize_fast),
};

/// `dgamma = sum of dy x_hat`, `dbeta = sum of dy`.
pub static BATCH_NORM_BACKWARD_REDUCE: Kernel = Kernel {
    name: "batch_norm_backward_reduce",
    params: BatchNormParams::FIELDS,
    bindings: &[read("x"), read("dy"), read("mean"), read("inv_std"), write("dgamma"), write("dbeta")],
    shaders: &[Shader {
        name: "batch_norm_backward_reduce",
        wgsl: wgsl!("batch_norm_backward_reduce"),
        workgroups: per_channel,
    }],
    twin: batch_norm_backward_reduce,
    fast: Some(batch_norm_backward_reduce_fast),
};

/// `dx = gamma inv_std (dy - dbeta / M - x_hat dgamma / M)`.
pub static BATCH_NORM_BACKWARD_ELEMENTWISE: Kernel = Kernel {
    name: "batch_norm_backward_elementwise",
    params: BatchNormParams::FIELDS,
    bindings: &[
        read("x"),
        read("dy"),
        read("mean"),
        read("inv_std"),
        read("gamma"),
        read("dgamma"),
        read("dbeta"),
        write("dx"),
    ],
    shaders: &[Shader {
        name: "batch_norm_backward_elementwise",
        wgsl: wgsl!("batch_norm_backward_elementwise"),
        workgroups: per_piece,
    }],
    twin: batch_norm_backward_elementwise,
    fast: Some(batch_norm_backward_elementwise_fast),
};

/// `y = (x - running_mean) / sqrt(running_var + eps) gamma + beta`.
pub static BATCH_NORM_INFERENCE: Kernel = Kernel {
    name: "batch_norm_inference",
    params: BatchNormParams::FIELDS,
    bindings: &[
        read("x"),
        read("gamma"),
        read("beta"),
        read("running_mean"),
        read("running_var"),
        write("y"),
    ],
    shaders: &[Shader {
        name: "batch_norm_inference",
        wgsl: wgsl!("batch_norm_inference"),
        workgroups: per_piece,
    }],
    twin: batch_norm_inference,
    fast: Some(batch_norm_inference_fast),
};

pub(super) fn per_channel(params: &[u8]) -> u64 {
    params_of::<BatchNormParams>(params).c.into()
}

/// One workgroup for 256 pixels of a plane.
pub(super) fn per_piece(params: &[u8]) -> u64 {
    let p = params_of::<BatchNormParams>(params);
    u64::from(p.n) * u64::from(p.c) * u64::from(p.pixels.div_ceil(256))
}

/// The planes of channel `channel`, image by image.
fn planes(x: &[f32], p: BatchNormParams, channel: usize) -> impl Iterator<Item = &[f32]> + Clone {
    x.chunks_exact(p.pixels as usize).skip(channel).step_by(p.c as usize)
}

/// The numbers of channel `channel`, in f64 for the sums of a specification.
pub(super) fn numbers(x: &[f32], p: BatchNormParams, channel: usize) -> impl Iterator<Item = f64> + Clone {
    planes(x, p, channel).flatten().map(|&x| f64::from(x))
}

fn batch_norm_statistics(args: Args<'_>) {
    let (p, [x], [mean, inv_std, running_mean, running_var]) = args.unpack::<BatchNormParams, 1, 4>();
    let count = f64::from(p.n) * f64::from(p.pixels);
    for c in 0..p.c as usize {
        let batch_mean = numbers(x, p, c).sum::<f64>() / count;
        let squares = numbers(x, p, c).map(|x| (x - batch_mean).powi(2)).sum::<f64>();
        mean[c] = batch_mean as f32;
        inv_std[c] = 1.0 / ((squares / count) as f32 + p.eps).sqrt();
        let unbiased = (squares / (count - 1.0).max(1.0)) as f32;
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * mean[c];
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * unbiased;
    }
}

fn batch_norm_normalize(args: Args<'_>) {
    let (p, [x, mean, inv_std, gamma, beta], [y]) = args.unpack::<BatchNormParams, 5, 1>();
    let pixels = p.pixels as usize;
    for (plane, (x, y)) in x.chunks_exact(pixels).zip(y.chunks_exact_mut(pixels)).enumerate() {
        let c = plane % p.c as usize;
        for (x, y) in x.iter().zip(y) {
            *y = (x - mean[c]) * (inv_std[c] * gamma[c]) + beta[c];
        }
    }
}

fn batch_norm_backward_reduce(args: Args<'_>) {
    let (p, [x, dy, mean, inv_std], [dgamma, dbeta]) = args.unpack::<BatchNormParams, 4, 2>();
    for c in 0..p.c as usize {
        let (mean, inv_std) = (f64::from(mean[c]), f64::from(inv_std[c]));
        let products = numbers(x, p, c).zip(numbers(dy, p, c)).map(|(x, dy)| (x - mean) * dy);
        dgamma[c] = (products.sum::<f64>() * inv_std) as f32;
        dbeta[c] = numbers(dy, p, c).sum::<f64>() as f32;
    }
}

fn batch_norm_backward_elementwise(args: Args<'_>) {
    let (p, [x, dy, mean, inv_std, gamma, dgamma, dbeta], [dx]) = args.unpack::<BatchNormParams, 7, 1>();
    let pixels = p.pixels as usize;
    let count = p.n as f32 * p.pixels as f32;
    let planes = x.chunks_exact(pixels).zip(dy.chunks_exact(pixels)).zip(dx.chunks_exact_mut(pixels));
    for (plane, ((x, dy), dx)) in planes.enumerate() {
        let c = plane % p.c as usize;
        let (mean_dy, mean_product) = (dbeta[c] / count, dgamma[c] / count);
        for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
            let x_hat = (x - mean[c]) * inv_std[c];
            let gradient = gamma[c] * inv_std[c] * (dy - mean_dy - x_hat * mean_product);
            *dx = if p.accumulate == 1 { *dx + gradient } else { gradient };
        }
    }
}

fn batch_norm_inference(args: Args<'_>) {
    let (p, [x, gamma, beta, running_mean, running_var], [y]) = args.unpack::<BatchNormParams, 5, 1>();
    let pixels = p.pixels as usize;
    for (plane, (x, y)) in x.chunks_exact(pixels).zip(y.chunks_exact_mut(pixels)).enumerate() {
        let c = plane % p.c as usize;
        let scale = gamma[c] / (running_var[c] + p.eps).sqrt();
        for (x, y) in x.iter().zip(y) {
            *y = (x - running_mean[c]) * scale + beta[c];
        }
    }
}

fn batch_norm_statistics_fast(args: Args<'_>) {
    let (p, [x], [mean, inv_std, running_mean, running_var]) = args.unpack::<BatchNormParams, 1, 4>();
    let (n, c, pixels) = p.extents();
    simd::channel_moments(n, c, pixels, x, mean, inv_std);
    let count = (n * pixels) as f32;
    for c in 0..c {
        let variance = inv_std[c];
        let unbiased = variance * (count / (count - 1.0).max(1.0));
        inv_std[c] = 1.0 / (variance + p.eps).sqrt();
        running_mean[c] = (1.0 - p.momentum) * running_mean[c] + p.momentum * mean[c];
        running_var[c] = (1.0 - p.momentum) * running_var[c] + p.momentum * unbiased;
    }
}

fn batch_norm_normalize_fast(args: Args<'_>) {
    let (p, [x, mean, inv_std, gamma, beta], [y]) = args.unpack::<BatchNormParams, 5, 1>();
    let scale: Vec<f32> = inv_std.iter().zip(gamma).map(|(inv_std, gamma)| inv_std * gamma).collect();
    simd::normalize(p.c as usize, p.pixels as usize, x, mean, &scale, beta, y);
}

fn batch_norm_backward_reduce_fast(args: Args<'_>) {
    let (p, [x, dy, mean, inv_std], [dgamma, dbeta]) = args.unpack::<BatchNormParams, 4, 2>();
    let (n, c, pixels) = p.extents();
    simd::backward_reduce(n, c, pixels, x, dy, mean, inv_std, dgamma, dbeta);
}

fn batch_norm_backward_elementwise_fast(args: Args<'_>) {
    let (p, [x, dy, mean, inv_std, gamma, dgamma, dbeta], [dx]) = args.unpack::<BatchNormParams, 7, 1>();
    let (n, c, pixels) = p.extents();
    let channels =
        BatchNormGradient { mean, inverse_deviation: inv_std, gamma, dgamma, dbeta, count: n * pixels };
    simd::backward_elementwise(c, pixels, x, dy, channels, dx, accumulate(p.accumulate));
}

fn batch_norm_inference_fast(args: Args<'_>) {
    let (p, [x, gamma, beta, running_mean, running_var], [y]) = args.unpack::<BatchNormParams, 5, 1>();
    let scale: Vec<f32> =
        gamma.iter().zip(running_var).map(|(gamma, var)| gamma / (var + p.eps).sqrt()).collect();
    simd::normalize(p.c as usize, p.pixels as usize, x, running_mean, &scale, beta, y);
}

impl BatchNormParams {
    /// N, C, H W.
    pub(super) fn extents(&self) -> (usize, usize, usize) {
        (self.n as usize, self.c as usize, self.pixels as usize)
    }
}

impl Operator for BatchNorm2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fail = |kind, expected: String, found: String| {
            Err(Error::new(kind, "checking a batch norm").expected(expected).found(found))
        };
        if inputs[0].c != self.channels {
            return fail(ErrorKind::Shape, format!("{} channels", self.channels), inputs[0].to_string());
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return fail(ErrorKind::Argument, "a positive eps".into(), self.eps.to_string());
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return fail(ErrorKind::Argument, "a momentum from 0 to 1".into(), self.momentum.to_string());
        }
        Ok(inputs[0])
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        let spec = |name, kind| ParamSpec { name, dims: vec![self.channels], kind };
        vec![
            spec("weight", ParamKind::Gamma),
            spec("bias", ParamKind::Beta),
            spec("running_mean", ParamKind::RunningMean),
            spec("running_var", ParamKind::RunningVar),
        ]
    }

    fn channels(&self, _inputs: &[Shape], _output: Shape) -> Channels {
        Channels::Same
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Option<Op> {
        cut.keep_rows();
        Some(BatchNorm2d { channels: cut.output.len(), ..self.clone() }.into())
    }

    fn forward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) -> Tensor {
        let params = self.params(node.batch(), node.input_shape(0));
        let y = recorder.tensor(node.output_words());
        let x: Operand = node.input(0).into();
        let [gamma, beta] = ["weight", "bias"].map(|name| node.parameter(name));
        let [running_mean, running_var] = ["running_mean", "running_var"].map(|name| node.statistic(name));
        match node.mode() {
            Mode::Evaluate => {
                let operands = [x, gamma, beta, running_mean, running_var, y.into()];
                recorder.dispatch(&BATCH_NORM_INFERENCE, &params, &operands);
            }
            Mode::Train => {
                let [mean, inv_std] = [(); 2].map(|()| recorder.tensor(self.channels));
                let statistics = [x.clone(), mean.into(), inv_std.into(), running_mean, running_var];
                recorder.dispatch(&BATCH_NORM_STATISTICS, &params, &statistics);
                let operands = [x, mean.into(), inv_std.into(), gamma, beta, y.into()];
                recorder.dispatch(&BATCH_NORM_NORMALIZE, &params, &operands);
                recorder.save(node, mean);
                recorder.save(node, inv_std);
            }
        }
        y
    }

    fn backward(&self, recorder: &mut Recorder<'_>, node: &NodeIo) {
        let dy = recorder.output_gradient(node);
        let &[mean, inv_std] = recorder.saved(node) else { panic!("forward keeps mean and inv_std") };
        let [dgamma, dbeta] = ["weight", "bias"].map(|name| node.gradient(name));
        let inputs: [Operand; 4] = [node.input(0).into(), dy.into(), mean.into(), inv_std.into()];
        let operands = [&inputs[..], &[dgamma.clone(), dbeta.clone()]].concat();
        let params = self.params(node.batch(), node.input_shape(0));
        recorder.dispatch(&BATCH_NORM_BACKWARD_REDUCE, &params, &operands);
        if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
            let rest = [node.parameter("weight"), dgamma, dbeta, dx.into()];
            let operands = [&inputs[..], &rest].concat();
            recorder.dispatch(
                &BATCH_NORM_BACKWARD_ELEMENTWISE,
                &BatchNormParams { accumulate, ..params },
                &operands,
            );
        }
    }
}
