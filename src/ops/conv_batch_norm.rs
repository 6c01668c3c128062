//! Convolution, batch norm, a residual and ReLU in one pass: what the plan records in evaluation where a graph has them
//! in a row.
//!
//! `y = act((conv2d(x, weight) - running_mean) scale + beta [+ residual])`, `scale = gamma / sqrt(running_var + eps)`.
//! Batch norm is folded where the sums leave the registers and not into the weights beforehand: parameters and running
//! statistics are then always those of this moment, though training and evaluation share them, and no second copy of
//! the weights is kept.

use super::conv2d::{CONV2D_FORWARD, Conv2dParams};
use super::{BatchNorm2d, Conv2d, workgroups_of_64};
use crate::device::simd::{self, Finish, Residual};
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::graph::NodeId;
use crate::params;
use crate::plan::{NodeIo, Operand, Recorder, Tensor};

params! {
    /// Uniform of `conv_batch_norm`.
    pub struct ConvBatchNormParams {
        /// Images.
        n: u32,
        /// Input channels.
        c: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Filters.
        k: u32,
        /// Filter height.
        r: u32,
        /// Filter width.
        s: u32,
        /// Output height.
        p: u32,
        /// Output width.
        q: u32,
        /// Vertical distance of outputs.
        stride_h: u32,
        /// Horizontal distance of outputs.
        stride_w: u32,
        /// Zero rows above the image.
        pad_top: u32,
        /// Zero columns left of the image.
        pad_left: u32,
        /// Vertical distance of taps.
        dilation_h: u32,
        /// Horizontal distance of taps.
        dilation_w: u32,
        /// Groups of channels.
        groups: u32,
        /// 1 to add the residual.
        add_residual: u32,
        /// 1 for ReLU.
        relu: u32,
        /// Added to the variance.
        eps: f32,
        /// Workgroup that a dispatch begins with: the executor runs long ones in parts. 0 in what is recorded.
        first: u32,
    }
}

impl ConvBatchNormParams {
    /// The uniform for a convolution's, with `eps` of its batch norm.
    pub fn new(conv: Conv2dParams, eps: f32, add_residual: bool, relu: bool) -> ConvBatchNormParams {
        let Conv2dParams { n, c, h, w, k, r, s, p, q, .. } = conv;
        let Conv2dParams { stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, groups, .. } = conv;
        ConvBatchNormParams {
            n,
            c,
            h,
            w,
            k,
            r,
            s,
            p,
            q,
            stride_h,
            stride_w,
            pad_top,
            pad_left,
            dilation_h,
            dilation_w,
            groups,
            add_residual: u32::from(add_residual),
            relu: u32::from(relu),
            eps,
            first: 0,
        }
    }

    /// The uniform of the convolution alone.
    pub fn conv(&self) -> Conv2dParams {
        let ConvBatchNormParams { n, c, h, w, k, r, s, p, q, .. } = *self;
        let ConvBatchNormParams { stride_h, stride_w, pad_top, pad_left, .. } = *self;
        let ConvBatchNormParams { dilation_h, dilation_w, groups, .. } = *self;
        Conv2dParams {
            n,
            c,
            h,
            w,
            k,
            r,
            s,
            p,
            q,
            stride_h,
            stride_w,
            pad_top,
            pad_left,
            dilation_h,
            dilation_w,
            groups,
            has_bias: 0,
            accumulate: 0,
            splits: 1,
            first: 0,
        }
    }
}

/// Convolution, batch norm with running statistics, residual, ReLU.
pub static CONV_BATCH_NORM: Kernel = Kernel {
    name: "conv_batch_norm",
    params: ConvBatchNormParams::FIELDS,
    bindings: &[
        read("x"),
        read("weight"),
        read("gamma"),
        read("beta"),
        read("running_mean"),
        read("running_var"),
        read("residual"),
        write("y"),
    ],
    shaders: &[
        Shader {
            name: "conv_batch_norm_3x3",
            wgsl: wgsl!("conv_batch_norm_3x3"),
            workgroups: |params| {
                let d = params_of::<ConvBatchNormParams>(params);
                if !d.conv().is_plain_3x3() {
                    return 0;
                }
                let patches = u64::from(d.n) * u64::from(d.p).div_ceil(4) * u64::from(d.q).div_ceil(8);
                u64::from(d.groups) * u64::from(d.k / d.groups).div_ceil(4) * workgroups_of_64(patches)
            },
        },
        Shader {
            name: "conv_batch_norm",
            wgsl: wgsl!("conv_batch_norm"),
            workgroups: |params| {
                let d = params_of::<ConvBatchNormParams>(params);
                let tiles = u64::from(d.groups) * u64::from(d.k / d.groups).div_ceil(4);
                tiles * (u64::from(d.n) * u64::from(d.p) * u64::from(d.q)).div_ceil(512)
            },
        },
    ],
    twin: conv_batch_norm,
    fast: Some(conv_batch_norm_fast),
};

fn conv_batch_norm(args: Args<'_>) {
    let (p, [x, weight, gamma, beta, mean, var, residual], [y]) = args.unpack::<ConvBatchNormParams, 7, 1>();
    (CONV2D_FORWARD.twin)(Args::of(&p.conv(), &[x, weight], [&mut *y]));
    for (i, y) in y.iter_mut().enumerate() {
        let k = i / (p.p * p.q) as usize % p.k as usize;
        let mut sum = (*y - mean[k]) * (gamma[k] / (var[k] + p.eps).sqrt()) + beta[k];
        if p.add_residual == 1 {
            sum += residual[i];
        }
        *y = if p.relu == 1 && sum < 0.0 { 0.0 } else { sum };
    }
}

fn conv_batch_norm_fast(args: Args<'_>) {
    let (p, [x, weight, gamma, beta, mean, var, residual], [y]) = args.unpack::<ConvBatchNormParams, 7, 1>();
    let residual = if p.add_residual == 1 { Residual::Added(residual) } else { Residual::None };
    let finish = Finish { gamma, beta, mean, variance: var, eps: p.eps, residual, relu: p.relu == 1 };
    simd::conv2d_finished(&p.conv().shape(), x, weight, finish, y);
}

/// Records the pass for the convolution `node` and the batch norm `norm_node` behind it.
pub(crate) fn forward(
    (conv, node): (&Conv2d, &NodeIo),
    (norm, norm_node): (&BatchNorm2d, NodeId),
    recorder: &mut Recorder<'_>,
    residual: Option<Tensor>,
    relu: bool,
) -> Tensor {
    let params = conv.params(node.batch(), node.input_shape(0), node.output_shape());
    let params = ConvBatchNormParams::new(params, norm.eps, residual.is_some(), relu);
    let y = recorder.tensor(node.output_words());
    let operands = [
        node.input(0).into(),
        node.parameter("weight"),
        Operand::Parameter(norm_node, "weight"),
        Operand::Parameter(norm_node, "bias"),
        Operand::Statistic(norm_node, "running_mean"),
        Operand::Statistic(norm_node, "running_var"),
        // Something has to be bound where nothing is read.
        residual.unwrap_or(node.input(0)).into(),
        y.into(),
    ];
    recorder.dispatch(&CONV_BATCH_NORM, &params, &operands);
    y
}
