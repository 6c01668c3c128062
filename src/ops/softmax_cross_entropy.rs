//! Softmax cross-entropy, the loss (`torch.nn.functional.cross_entropy`), summed with the correct answers on the device.
//!
//! `loss_n = log(sum_k exp(x_nk)) - x_n,label`, `dx = (softmax(x) - onehot(label)) / N`. Shapes: x `[N, K]`, labels `[N]`.
//! Samples labelled `IGNORE` (padding of a partial batch) count for nothing.

use super::workgroups_of_64;
use crate::data::IGNORE;
use crate::device::{Args, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::params;
use crate::plan::{Mode, Recorder, Tensor};

params! {
    /// Uniform of the two softmax kernels.
    pub struct SoftmaxCrossEntropyParams {
        /// Samples.
        n: u32,
        /// Classes.
        k: u32,
    }
}

params! {
    /// Uniform of `metrics_accumulate`.
    pub struct MetricsParams {
        /// Samples.
        n: u32,
        /// 1 when a run is a training step, which the step counter counts.
        step: u32,
    }
}

/// Loss of every sample, and whether its largest logit is the label's.
pub static SOFTMAX_CROSS_ENTROPY_FORWARD: Kernel = Kernel {
    name: "softmax_cross_entropy_forward",
    params: SoftmaxCrossEntropyParams::FIELDS,
    bindings: &[read("x"), read("labels"), write("outcome")],
    shaders: &[Shader {
        name: "softmax_cross_entropy_forward",
        wgsl: wgsl!("softmax_cross_entropy_forward"),
        workgroups: per_sample,
    }],
    twin: softmax_cross_entropy_forward,
    fast: None,
};

/// Gradient of the mean loss with respect to the logits.
pub static SOFTMAX_CROSS_ENTROPY_BACKWARD: Kernel = Kernel {
    name: "softmax_cross_entropy_backward",
    params: SoftmaxCrossEntropyParams::FIELDS,
    bindings: &[read("x"), read("labels"), write("dx")],
    shaders: &[Shader {
        name: "softmax_cross_entropy_backward",
        wgsl: wgsl!("softmax_cross_entropy_backward"),
        workgroups: per_sample,
    }],
    twin: softmax_cross_entropy_backward,
    fast: None,
};

/// Adds a batch's outcomes to the running sums, and notes the first step whose loss is not finite.
pub static METRICS_ACCUMULATE: Kernel = Kernel {
    name: "metrics_accumulate",
    params: MetricsParams::FIELDS,
    bindings: &[read("outcome"), write("metrics")],
    shaders: &[Shader { name: "metrics_accumulate", wgsl: wgsl!("metrics_accumulate"), workgroups: |_| 1 }],
    twin: metrics_accumulate,
    fast: None,
};

fn per_sample(params: &[u8]) -> u64 {
    workgroups_of_64(params_of::<SoftmaxCrossEntropyParams>(params).n.into())
}

/// What an outcome says of a sample that does not count.
const NOT_COUNTED: f32 = -1.0;

fn softmax_cross_entropy_forward(args: Args<'_>) {
    let (p, [x, labels], [outcome]) = args.unpack::<SoftmaxCrossEntropyParams, 2, 1>();
    let labels: &[u32] = bytemuck::cast_slice(labels);
    for n in 0..p.n as usize {
        let row = &x[n * p.k as usize..][..p.k as usize];
        let (loss, correct) = if labels[n] == IGNORE {
            (0.0, NOT_COUNTED)
        } else {
            let label = labels[n] as usize;
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|x| (x - largest).exp()).sum();
            let answer = (0..row.len()).find(|&k| row[k] == largest);
            ((sum.ln() + largest) - row[label], if answer == Some(label) { 1.0 } else { 0.0 })
        };
        outcome[2 * n] = loss;
        outcome[2 * n + 1] = correct;
    }
}

fn softmax_cross_entropy_backward(args: Args<'_>) {
    let (p, [x, labels], [dx]) = args.unpack::<SoftmaxCrossEntropyParams, 2, 1>();
    let labels: &[u32] = bytemuck::cast_slice(labels);
    for n in 0..p.n as usize {
        let row = &x[n * p.k as usize..][..p.k as usize];
        let gradient = &mut dx[n * p.k as usize..][..p.k as usize];
        if labels[n] == IGNORE {
            gradient.fill(0.0);
            continue;
        }
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|x| (x - largest).exp()).sum();
        for (k, (gradient, x)) in gradient.iter_mut().zip(row).enumerate() {
            let target = if k == labels[n] as usize { 1.0 } else { 0.0 };
            *gradient = ((x - largest).exp() / sum - target) / p.n as f32;
        }
    }
}

fn metrics_accumulate(args: Args<'_>) {
    let (p, [outcome], [metrics]) = args.unpack::<MetricsParams, 1, 1>();
    let (mut loss, mut correct, mut samples) = (0.0, 0, 0);
    for sample in outcome[..2 * p.n as usize].chunks_exact(2) {
        if sample[1] != NOT_COUNTED {
            loss += sample[0];
            correct += u32::from(sample[1] == 1.0);
            samples += 1;
        }
    }
    metrics[0] += loss;
    let words: &mut [u32] = bytemuck::cast_slice_mut(metrics);
    words[1] += correct;
    words[2] += samples;
    words[4] += p.step;
    if words[3] == 0 && !loss.is_finite() {
        words[3] = words[4].max(1);
    }
}

/// Records the loss after the logits, and in training the whole backward pass.
pub(crate) fn record(
    recorder: &mut Recorder<'_>,
    logits: Tensor,
    labels: Tensor,
    metrics: Tensor,
    classes: usize,
) {
    let n = recorder.batch();
    let params = SoftmaxCrossEntropyParams { n: n as u32, k: classes as u32 };
    let outcome = recorder.tensor(2 * n);
    recorder.dispatch(
        &SOFTMAX_CROSS_ENTROPY_FORWARD,
        &params,
        &[logits.into(), labels.into(), outcome.into()],
    );
    let step = u32::from(recorder.mode() == Mode::Train);
    recorder.dispatch(
        &METRICS_ACCUMULATE,
        &MetricsParams { n: n as u32, step },
        &[outcome.into(), metrics.into()],
    );
    if recorder.mode() == Mode::Train {
        let gradient = recorder.tensor(n * classes);
        recorder.dispatch(
            &SOFTMAX_CROSS_ENTROPY_BACKWARD,
            &params,
            &[logits.into(), labels.into(), gradient.into()],
        );
        recorder.backward(gradient);
    }
}
