//! Batch norm, a residual and ReLU in one pass: what the plan records where a graph has them in a row.
//!
//! `y = max(batch_norm(x) [+ residual], 0)`. Backward, `dz = dy where y > 0, else 0` is the gradient of batch norm's output
//! and of the residual alike; `batch_norm_backward_elementwise` goes on from it.
//! Shapes: x, residual, y `[N, C, H, W]`, all else `[C]`.

use super::BatchNorm2d;
use super::batch_norm2d::{
    BATCH_NORM_BACKWARD_ELEMENTWISE, BATCH_NORM_STATISTICS, BatchNormParams, numbers, per_channel, per_piece,
};
use crate::device::simd::{self, Residual};
use crate::device::{Args, Kernel, Params, Shader, read, wgsl, write};
use crate::plan::{NodeIo, Operand, Recorder, Tensor};

/// `y = max((x - mean) inv_std gamma + beta [+ residual], 0)`; `accumulate` is 1 to add the residual.
pub static BATCH_NORM_RELU_FORWARD: Kernel = Kernel {
    name: "batch_norm_relu_forward",
    params: BatchNormParams::FIELDS,
    bindings: &[
        read("x"),
        read("mean"),
        read("inv_std"),
        read("gamma"),
        read("beta"),
        read("residual"),
        write("y"),
    ],
    shaders: &[Shader {
        name: "batch_norm_relu_forward",
        wgsl: wgsl!("batch_norm_relu_forward"),
        workgroups: per_piece,
    }],
    twin: batch_norm_relu_forward,
    fast: Some(batch_norm_relu_forward_fast),
};

/// `dz = dy where y > 0, else 0`, `dgamma = sum of dz x_hat`, `dbeta = sum of dz`.
pub static BATCH_NORM_RELU_BACKWARD_REDUCE: Kernel = Kernel {
    name: "batch_norm_relu_backward_reduce",
    params: BatchNormParams::FIELDS,
    bindings: &[
        read("x"),
        read("y"),
        read("dy"),
        read("mean"),
        read("inv_std"),
        write("dz"),
        write("dgamma"),
        write("dbeta"),
    ],
    shaders: &[
        Shader {
            name: "batch_norm_relu_backward_reduce",
            wgsl: wgsl!("batch_norm_relu_backward_reduce"),
            workgroups: per_channel,
        },
        // wgpu offers no subgroups in browsers.
        #[cfg(feature = "native")]
        Shader {
            name: "batch_norm_relu_backward_reduce_subgroups",
            wgsl: wgsl!("batch_norm_relu_backward_reduce_subgroups"),
            workgroups: per_channel,
        },
    ],
    twin: batch_norm_relu_backward_reduce,
    fast: Some(batch_norm_relu_backward_reduce_fast),
};

fn batch_norm_relu_forward(args: Args<'_>) {
    let (p, [x, mean, inv_std, gamma, beta, residual], [y]) = args.unpack::<BatchNormParams, 6, 1>();
    for (i, (x, y)) in x.iter().zip(y).enumerate() {
        let c = i / p.pixels as usize % p.c as usize;
        let mut sum = (x - mean[c]) * (inv_std[c] * gamma[c]) + beta[c];
        if p.accumulate == 1 {
            sum += residual[i];
        }
        *y = if sum < 0.0 { 0.0 } else { sum };
    }
}

fn batch_norm_relu_backward_reduce(args: Args<'_>) {
    let (p, [x, y, dy, mean, inv_std], [dz, dgamma, dbeta]) = args.unpack::<BatchNormParams, 5, 3>();
    for ((dz, dy), y) in dz.iter_mut().zip(dy).zip(y) {
        *dz = if *y > 0.0 { *dy } else { 0.0 };
    }
    for c in 0..p.c as usize {
        let (mean, inv_std) = (f64::from(mean[c]), f64::from(inv_std[c]));
        let products = numbers(x, p, c).zip(numbers(dz, p, c)).map(|(x, dz)| (x - mean) * dz);
        dgamma[c] = (products.sum::<f64>() * inv_std) as f32;
        dbeta[c] = numbers(dz, p, c).sum::<f64>() as f32;
    }
}

fn batch_norm_relu_forward_fast(args: Args<'_>) {
    let (p, [x, mean, inv_std, gamma, beta, residual], [y]) = args.unpack::<BatchNormParams, 6, 1>();
    let residual = if p.accumulate == 1 { Residual::Added(residual) } else { Residual::None };
    simd::normalize_relu(p.c as usize, p.pixels as usize, x, [mean, inv_std, gamma, beta], residual, y);
}

fn batch_norm_relu_backward_reduce_fast(args: Args<'_>) {
    let (p, [x, y, dy, mean, inv_std], [dz, dgamma, dbeta]) = args.unpack::<BatchNormParams, 5, 3>();
    let (n, c, pixels) = p.extents();
    simd::relu_backward_reduce([n, c, pixels], [x, y, dy], [mean, inv_std], dz, dgamma, dbeta);
}

/// Records statistics and the fused pass for the batch norm `node`; returns ReLU's output.
pub(crate) fn forward(
    norm: &BatchNorm2d,
    recorder: &mut Recorder<'_>,
    node: &NodeIo,
    residual: Option<Tensor>,
) -> Tensor {
    let params = norm.params(node.batch(), node.input_shape(0));
    let x = node.input(0);
    let y = recorder.tensor(node.output_words());
    let [mean, inv_std] = [(); 2].map(|()| recorder.tensor(norm.channels));
    let [running_mean, running_var] = ["running_mean", "running_var"].map(|name| node.statistic(name));
    let statistics = [x.into(), mean.into(), inv_std.into(), running_mean, running_var];
    recorder.dispatch(&BATCH_NORM_STATISTICS, &params, &statistics);
    let operands = [
        x.into(),
        mean.into(),
        inv_std.into(),
        node.parameter("weight"),
        node.parameter("bias"),
        // Something has to be bound where nothing is read.
        residual.unwrap_or(x).into(),
        y.into(),
    ];
    let params = BatchNormParams { accumulate: u32::from(residual.is_some()), ..params };
    recorder.dispatch(&BATCH_NORM_RELU_FORWARD, &params, &operands);
    recorder.save(node, mean);
    recorder.save(node, inv_std);
    y
}

/// Records the gradients of the batch norm `node` from ReLU's output `y` and its gradient `dy`; returns the gradient of
/// batch norm's output, which is also that of the residual.
pub(crate) fn backward(
    norm: &BatchNorm2d,
    recorder: &mut Recorder<'_>,
    node: &NodeIo,
    y: Tensor,
    dy: Tensor,
) -> Tensor {
    let &[mean, inv_std] = recorder.saved(node) else { panic!("forward keeps mean and inv_std") };
    let params = norm.params(node.batch(), node.input_shape(0));
    let x: Operand = node.input(0).into();
    let dz = recorder.tensor(node.output_words());
    let [dgamma, dbeta] = ["weight", "bias"].map(|name| node.gradient(name));
    let operands = [
        x.clone(),
        y.into(),
        dy.into(),
        mean.into(),
        inv_std.into(),
        dz.into(),
        dgamma.clone(),
        dbeta.clone(),
    ];
    recorder.dispatch(&BATCH_NORM_RELU_BACKWARD_REDUCE, &params, &operands);
    if let Some((dx, accumulate)) = recorder.input_gradient(node, 0) {
        let operands =
            [x, dz.into(), mean.into(), inv_std.into(), node.parameter("weight"), dgamma, dbeta, dx.into()];
        let params = BatchNormParams { accumulate, ..params };
        recorder.dispatch(&BATCH_NORM_BACKWARD_ELEMENTWISE, &params, &operands);
    }
    dz
}
