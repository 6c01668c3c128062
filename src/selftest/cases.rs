//! The table of cases: for each kernel the ordinary, and what goes wrong first.
//!
//! Sizes are no multiples of a workgroup, there is more than one workgroup, one of everything, each flag both ways.

use super::{Case, Output, Scope};
use crate::data::IGNORE;
use crate::device::{Kernel, Params};
use crate::ops::add::{ACCUMULATE, ADD_FORWARD, AccumulateParams, AddParams};
use crate::ops::avg_pool2d::{AVG_POOL2D_BACKWARD, AVG_POOL2D_FORWARD, AvgPool2dParams};
use crate::ops::batch_norm_relu::{BATCH_NORM_RELU_BACKWARD_REDUCE, BATCH_NORM_RELU_FORWARD};
use crate::ops::batch_norm2d::{
    BATCH_NORM_BACKWARD_ELEMENTWISE, BATCH_NORM_BACKWARD_REDUCE, BATCH_NORM_INFERENCE, BATCH_NORM_NORMALIZE,
    BATCH_NORM_STATISTICS, BatchNormParams,
};
use crate::ops::channel_pad::{CHANNEL_PAD_BACKWARD, CHANNEL_PAD_FORWARD, ChannelPadParams};
use crate::ops::clamp::{CLAMP_BACKWARD, CLAMP_FORWARD, ClampParams};
use crate::ops::concat::{CONCAT_BACKWARD, CONCAT_FORWARD, ConcatParams};
use crate::ops::conv_batch_norm::{CONV_BATCH_NORM, ConvBatchNormParams};
use crate::ops::conv2d::{
    CONV2D_BIAS_GRADIENT, CONV2D_FORWARD, CONV2D_INPUT_GRADIENT, CONV2D_WEIGHT_GRADIENT, Conv2dParams,
    SUM_PARTIALS, SumPartialsParams,
};
use crate::ops::global_avg_pool::{GLOBAL_AVG_POOL_BACKWARD, GLOBAL_AVG_POOL_FORWARD, GlobalAvgPoolParams};
use crate::ops::hard_sigmoid::{HARD_SIGMOID_BACKWARD, HARD_SIGMOID_FORWARD, HardSigmoidParams};
use crate::ops::hard_swish::{HARD_SWISH_BACKWARD, HARD_SWISH_FORWARD, HardSwishParams};
use crate::ops::leaky_relu::{LEAKY_RELU_BACKWARD, LEAKY_RELU_FORWARD, LeakyReluParams};
use crate::ops::linear::{
    LINEAR_BIAS_GRADIENT, LINEAR_FORWARD, LINEAR_INPUT_GRADIENT, LINEAR_WEIGHT_GRADIENT, LinearParams,
};
use crate::ops::max_pool2d::{MAX_POOL2D_BACKWARD, MAX_POOL2D_FORWARD, MaxPool2dParams};
use crate::ops::mul::{MUL_FORWARD, MUL_GATE_GRADIENT, MulParams};
use crate::ops::pad2d::{PAD2D_BACKWARD, PAD2D_FORWARD, Pad2dParams};
use crate::ops::relu::{RELU_BACKWARD, RELU_FORWARD, ReluParams};
use crate::ops::relu6::{RELU6_BACKWARD, RELU6_FORWARD, Relu6Params};
use crate::ops::sigmoid::{SIGMOID_BACKWARD, SIGMOID_FORWARD, SigmoidParams};
use crate::ops::silu::{SILU_BACKWARD, SILU_FORWARD, SiluParams};
use crate::ops::softmax_cross_entropy::{
    METRICS_ACCUMULATE, MetricsParams, SOFTMAX_CROSS_ENTROPY_BACKWARD, SOFTMAX_CROSS_ENTROPY_FORWARD,
    SoftmaxCrossEntropyParams,
};
use crate::ops::{Conv2d, Padding};
use crate::optim::csgd::{CLUSTER_DEVIATION, CSGD_STEP, CsgdParams, DeviationParams};
use crate::optim::norms::{SUM_OF_SQUARES, SumOfSquaresParams};
use crate::optim::sgd::{SGD_STEP, SgdParams};
use crate::optim::sparsity::{SHRINK_ROWS, ShrinkParams};
use crate::rng::Rng;

/// Every case of every kernel, the same on every call.
pub fn cases() -> Vec<Case> {
    let mut table = Table { cases: Vec::new() };
    table.elementwise();
    table.gates();
    table.convolutions();
    table.linear();
    table.batch_norm();
    table.pooling();
    table.channels();
    table.padding();
    table.loss();
    table.optimizers();
    table.cases
}

/// Lengths of tensors of any shape: one number, one workgroup and a bit, several.
const LENGTHS: [u32; 3] = [1, 70, 1000];

/// `len` numbers in [-1, 1), the same for the same `seed`.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| 2.0 * rng.uniform() - 1.0).collect()
}

/// Numbers in [0.5, 1.5): variances, their inverse roots, gammas.
fn positive(seed: u64, len: usize) -> Vec<f32> {
    random(seed, len).iter().map(|x| 1.0 + 0.5 * x).collect()
}

/// Integers as the words of a buffer.
fn words(integers: &[u32]) -> Vec<f32> {
    bytemuck::cast_slice(integers).to_vec()
}

/// An output that the kernel must write all over.
fn fresh(len: usize) -> Output {
    Output { before: vec![f32::NAN; len], integers: 0..0 }
}

/// An output that the kernel adds to, or writes only a part of.
fn updated(before: Vec<f32>) -> Output {
    Output { before, integers: 0..0 }
}

/// An output that is overwritten when `accumulate` is 0, else added to.
fn gradient(accumulate: u32, len: usize) -> Output {
    if accumulate == 1 { updated(random(9, len)) } else { fresh(len) }
}

fn pooled(extent: u32, window: u32, stride: u32, padding: u32) -> u32 {
    (extent + 2 * padding - window) / stride + 1
}

struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn add(
        &mut self,
        kernel: &'static Kernel,
        name: &str,
        params: &impl Params,
        inputs: &[&[f32]],
        outputs: &[Output],
    ) -> &mut Case {
        let at = self.cases.len();
        self.cases.push(Case {
            kernel,
            name: name.to_owned(),
            params: bytemuck::bytes_of(params).to_vec(),
            inputs: inputs.iter().map(|input| input.to_vec()).collect(),
            outputs: outputs.to_vec(),
            scope: Scope::Everywhere,
        });
        &mut self.cases[at]
    }

    fn elementwise(&mut self) {
        for len in LENGTHS {
            let numbers = len as usize;
            let (a, b) = (random(1, numbers), random(2, numbers));
            let name = format!("{len} numbers");
            self.add(&ADD_FORWARD, &name, &AddParams { len }, &[&a, &b], &[fresh(numbers)]);
            // ReLU6 needs numbers on both sides of 6.
            let wide: Vec<f32> = a.iter().map(|x| 9.0 * x).collect();
            for accumulate in [0, 1] {
                let out = [gradient(accumulate, numbers)];
                self.add(&ACCUMULATE, &name, &AccumulateParams { len, accumulate }, &[&a], &out);
                let relu = ReluParams { len, accumulate };
                self.add(&RELU_BACKWARD, &name, &relu, &[&a, &b], &out);
                let relu6 = Relu6Params { len, accumulate };
                self.add(&RELU6_BACKWARD, &name, &relu6, &[&wide, &b], &out);
                let leaky = LeakyReluParams { len, slope: 0.1, accumulate };
                self.add(&LEAKY_RELU_BACKWARD, &name, &leaky, &[&a, &b], &out);
            }
            let out = [fresh(numbers)];
            self.add(&RELU_FORWARD, &name, &ReluParams { len, accumulate: 0 }, &[&a], &out);
            self.add(&RELU6_FORWARD, &name, &Relu6Params { len, accumulate: 0 }, &[&wide], &out);
            let leaky = LeakyReluParams { len, slope: 0.1, accumulate: 0 };
            self.add(&LEAKY_RELU_FORWARD, &name, &leaky, &[&a], &out);
        }
    }

    fn gates(&mut self) {
        for len in LENGTHS {
            let numbers = len as usize;
            let name = format!("{len} numbers");
            // Numbers on both sides of the bends at -3 and 3, and outputs on both sides of 0 and 1.
            let wide: Vec<f32> = random(1, numbers).iter().map(|x| 5.0 * x).collect();
            let (dy, outputs) = (random(2, numbers), random(3, numbers));
            let (slope, offset, low, high) = (0.2, 0.5, -0.4, 0.6);
            for accumulate in [0, 1] {
                let out = [gradient(accumulate, numbers)];
                let params = SigmoidParams { len, accumulate };
                self.add(&SIGMOID_BACKWARD, &name, &params, &[&outputs, &dy], &out);
                self.add(&SILU_BACKWARD, &name, &SiluParams { len, accumulate }, &[&wide, &dy], &out);
                let params = HardSigmoidParams { len, slope, offset, accumulate };
                self.add(&HARD_SIGMOID_BACKWARD, &name, &params, &[&outputs, &dy], &out);
                let params = HardSwishParams { len, accumulate };
                self.add(&HARD_SWISH_BACKWARD, &name, &params, &[&wide, &dy], &out);
                let params = ClampParams { len, low, high, accumulate };
                self.add(&CLAMP_BACKWARD, &name, &params, &[&outputs, &dy], &out);
            }
            let (out, accumulate) = ([fresh(numbers)], 0);
            self.add(&SIGMOID_FORWARD, &name, &SigmoidParams { len, accumulate }, &[&wide], &out);
            self.add(&SILU_FORWARD, &name, &SiluParams { len, accumulate }, &[&wide], &out);
            let params = HardSigmoidParams { len, slope, offset, accumulate };
            self.add(&HARD_SIGMOID_FORWARD, &name, &params, &[&wide], &out);
            self.add(&HARD_SWISH_FORWARD, &name, &HardSwishParams { len, accumulate }, &[&wide], &out);
            self.add(&CLAMP_FORWARD, &name, &ClampParams { len, low, high, accumulate }, &[&wide], &out);
        }
        for (gates, spread) in [(1, 1), (70, 1), (6, 49), (70, 9)] {
            let (len, name) = (gates * spread, format!("{gates} gates of {spread} numbers"));
            let (a, dy) = (random(1, len as usize), random(2, len as usize));
            let gate = random(3, gates as usize);
            for accumulate in [0, 1] {
                let params = MulParams { len, spread, accumulate };
                self.add(&MUL_FORWARD, &name, &params, &[&a, &gate], &[gradient(accumulate, a.len())]);
                let dgate = [gradient(accumulate, gate.len())];
                self.add(&MUL_GATE_GRADIENT, &name, &params, &[&a, &dy], &dgate);
            }
        }
    }

    fn convolutions(&mut self) {
        for (name, [n, h, w], conv) in convolutions() {
            let d = conv_params(n, [h, w], &conv);
            let x = random(1, (d.n * d.c * d.h * d.w) as usize);
            let dy = random(2, (d.n * d.k * d.p * d.q) as usize);
            let (weight, bias) = (random(3, d.weights()), random(4, d.k as usize));
            for flag in [0, 1] {
                let with = Conv2dParams { has_bias: flag, accumulate: flag, ..d };
                let y = [fresh(dy.len())];
                self.add(&CONV2D_FORWARD, name, &with, &[&x, &weight, &bias], &y);
                let dx = [gradient(flag, x.len())];
                self.add(&CONV2D_INPUT_GRADIENT, name, &with, &[&dy, &weight], &dx);
            }
            let k = bias.len();
            let (gamma, mean, var) = (positive(5, k), random(6, k), positive(7, k));
            for flag in [false, true] {
                let fused = ConvBatchNormParams::new(d, 1e-5, flag, flag);
                let inputs: [&[f32]; 7] = [&x, &weight, &gamma, &bias, &mean, &var, &dy];
                self.add(&CONV_BATCH_NORM, name, &fused, &inputs, &[fresh(dy.len())]);
            }
            self.add(&CONV2D_BIAS_GRADIENT, name, &d, &[&dy], &[fresh(bias.len())]);
            self.add(&CONV2D_WEIGHT_GRADIENT, name, &d, &[&x, &dy], &[fresh(weight.len())]);
            // One more split than there are rows: the last one is empty.
            for splits in [3, d.n * d.p + 1] {
                let split = Conv2dParams { splits, ..d };
                let partials = [fresh(weight.len() * splits as usize)];
                let case = self.add(&CONV2D_WEIGHT_GRADIENT, name, &split, &[&x, &dy], &partials);
                case.scope = Scope::Gpu;
            }
        }
        for (len, splits) in [(1, 1), (70, 1), (64, 5), (1000, 17)] {
            let name = format!("{splits} splits of {len}");
            let partials = random(1, (len * splits) as usize);
            let params = SumPartialsParams { len, splits };
            self.add(&SUM_PARTIALS, &name, &params, &[&partials], &[fresh(len as usize)]);
        }
    }

    fn linear(&mut self) {
        for [n, c, k] in [[1, 1, 1], [1, 7, 5], [6, 65, 10], [33, 40, 20]] {
            let name = format!("N {n}, C {c}, K {k}");
            let (x, dy, weight, bias) = (random(1, n * c), random(2, n * k), random(3, k * c), random(4, k));
            let (n32, c32, k32) = (n as u32, c as u32, k as u32);
            let d = LinearParams { n: n32, c: c32, k: k32, has_bias: 0, accumulate: 0, first: 0 };
            for flag in [0, 1] {
                let d = LinearParams { has_bias: flag, accumulate: flag, ..d };
                self.add(&LINEAR_FORWARD, &name, &d, &[&x, &weight, &bias], &[fresh(n * k)]);
                self.add(&LINEAR_INPUT_GRADIENT, &name, &d, &[&dy, &weight], &[gradient(flag, n * c)]);
            }
            self.add(&LINEAR_WEIGHT_GRADIENT, &name, &d, &[&x, &dy], &[fresh(k * c)]);
            self.add(&LINEAR_BIAS_GRADIENT, &name, &d, &[&dy], &[fresh(k)]);
        }
    }

    fn batch_norm(&mut self) {
        for [n, c, pixels] in [[2, 3, 35], [1, 1, 300], [4, 70, 1], [3, 5, 256]] {
            let name = format!("N {n}, C {c}, {pixels} pixels");
            let numbers = n * c * pixels;
            // So far from zero that E[x^2] - E[x]^2 is seen to fail.
            let x: Vec<f32> = random(1, numbers).iter().map(|x| x + 300.0).collect();
            let dy = random(2, numbers);
            let mean: Vec<f32> = random(3, c).iter().map(|x| x + 300.0).collect();
            let (inv_std, gamma, beta) = (positive(4, c), positive(5, c), random(6, c));
            let (dgamma, dbeta) = (random(7, c), random(8, c));
            let params = |accumulate| BatchNormParams {
                n: n as u32,
                c: c as u32,
                pixels: pixels as u32,
                eps: 1e-5,
                momentum: 0.1,
                accumulate,
            };
            let statistics = [fresh(c), fresh(c), updated(random(9, c)), updated(positive(10, c))];
            self.add(&BATCH_NORM_STATISTICS, &name, &params(0), &[&x], &statistics);
            let inputs: [&[f32]; 5] = [&x, &mean, &inv_std, &gamma, &beta];
            self.add(&BATCH_NORM_NORMALIZE, &name, &params(0), &inputs, &[fresh(numbers)]);
            let inputs: [&[f32]; 5] = [&x, &gamma, &beta, &mean, &inv_std];
            self.add(&BATCH_NORM_INFERENCE, &name, &params(0), &inputs, &[fresh(numbers)]);
            let inputs: [&[f32]; 4] = [&x, &dy, &mean, &inv_std];
            self.add(&BATCH_NORM_BACKWARD_REDUCE, &name, &params(0), &inputs, &[fresh(c), fresh(c)]);
            let residual = random(11, numbers);
            for accumulate in [0, 1] {
                let inputs: [&[f32]; 6] = [&x, &mean, &inv_std, &gamma, &beta, &residual];
                self.add(&BATCH_NORM_RELU_FORWARD, &name, &params(accumulate), &inputs, &[fresh(numbers)]);
            }
            let inputs: [&[f32]; 5] = [&x, &residual, &dy, &mean, &inv_std];
            let outputs = [fresh(numbers), fresh(c), fresh(c)];
            self.add(&BATCH_NORM_RELU_BACKWARD_REDUCE, &name, &params(0), &inputs, &outputs);
            for accumulate in [0, 1] {
                let inputs: [&[f32]; 7] = [&x, &dy, &mean, &inv_std, &gamma, &dgamma, &dbeta];
                let dx = [gradient(accumulate, numbers)];
                self.add(&BATCH_NORM_BACKWARD_ELEMENTWISE, &name, &params(accumulate), &inputs, &dx);
            }
        }
    }

    fn pooling(&mut self) {
        for (name, planes, [h, w], [r, s], [stride_h, stride_w], [padding_h, padding_w]) in [
            ("side by side", 6, [8, 8], [2, 2], [2, 2], [0, 0]),
            ("overlapping, padded", 4, [9, 7], [3, 3], [2, 2], [1, 1]),
            ("pixels left over", 3, [7, 10], [2, 3], [3, 2], [0, 1]),
            ("one of everything", 1, [1, 1], [1, 1], [1, 1], [0, 0]),
        ] {
            let p = pooled(h, r, stride_h, padding_h);
            let q = pooled(w, s, stride_w, padding_w);
            let (pixels, windows) = ((planes * h * w) as usize, (planes * p * q) as usize);
            let (x, dy) = (random(1, pixels), random(2, windows));
            let most = |accumulate| MaxPool2dParams {
                planes,
                h,
                w,
                p,
                q,
                r,
                s,
                stride_h,
                stride_w,
                padding_h,
                padding_w,
                accumulate,
            };
            let outputs = [fresh(windows), Output { integers: 0..windows, ..fresh(windows) }];
            let index = self.add(&MAX_POOL2D_FORWARD, name, &most(0), &[&x], &outputs).expected().remove(1);
            for accumulate in [0, 1] {
                let dx = [gradient(accumulate, pixels)];
                self.add(&MAX_POOL2D_BACKWARD, name, &most(accumulate), &[&dy, &index], &dx);
            }
            for flag in [0, 1] {
                let mean = AvgPool2dParams {
                    planes,
                    h,
                    w,
                    p,
                    q,
                    r,
                    s,
                    stride_h,
                    stride_w,
                    padding_h,
                    padding_w,
                    count_padding: flag,
                    accumulate: flag,
                };
                self.add(&AVG_POOL2D_FORWARD, name, &mean, &[&x], &[fresh(windows)]);
                self.add(&AVG_POOL2D_BACKWARD, name, &mean, &[&dy], &[gradient(flag, pixels)]);
            }
        }
        for (planes, pixels) in [(1, 1), (6, 49), (70, 9)] {
            let name = format!("{planes} planes of {pixels}");
            let numbers = (planes * pixels) as usize;
            let (x, dy) = (random(1, numbers), random(2, planes as usize));
            for accumulate in [0, 1] {
                let params = GlobalAvgPoolParams { planes, pixels, accumulate };
                let dx = [gradient(accumulate, numbers)];
                self.add(&GLOBAL_AVG_POOL_BACKWARD, &name, &params, &[&dy], &dx);
            }
            let params = GlobalAvgPoolParams { planes, pixels, accumulate: 0 };
            self.add(&GLOBAL_AVG_POOL_FORWARD, &name, &params, &[&x], &[fresh(planes as usize)]);
        }
    }

    fn channels(&mut self) {
        const NONE: u32 = u32::MAX;
        // Output channel of each input channel, and the reverse: zeros at both ends, one channel dropped.
        let (source, destination) = ([NONE, 2, 0, 3, NONE], [2, NONE, 1, 3]);
        for (name, [h, w], [stride_h, stride_w]) in
            [("stride 1", [5u32, 7], [1u32, 1]), ("stride 2, odd size", [7, 9], [2, 2])]
        {
            let (n, c, k) = (2, destination.len() as u32, source.len() as u32);
            let (p, q) = (h.div_ceil(stride_h), w.div_ceil(stride_w));
            let (x, dy) = (random(1, (n * c * h * w) as usize), random(2, (n * k * p * q) as usize));
            for accumulate in [0, 1] {
                let params = ChannelPadParams { n, c, h, w, k, p, q, stride_h, stride_w, accumulate };
                let dx = [gradient(accumulate, x.len())];
                self.add(&CHANNEL_PAD_BACKWARD, name, &params, &[&dy, &words(&destination)], &dx);
            }
            let params = ChannelPadParams { n, c, h, w, k, p, q, stride_h, stride_w, accumulate: 0 };
            self.add(&CHANNEL_PAD_FORWARD, name, &params, &[&x, &words(&source)], &[fresh(dy.len())]);
        }
        for (name, n, x_len, y_len, offset) in [
            ("the first of two", 3, 35, 105, 0),
            ("the last of two", 3, 70, 105, 35),
            ("the only one", 1, 9, 9, 0),
        ] {
            let (x, y) = (random(1, (n * x_len) as usize), random(2, (n * y_len) as usize));
            for accumulate in [0, 1] {
                let params = ConcatParams { n, x_len, y_len, offset, accumulate };
                self.add(&CONCAT_BACKWARD, name, &params, &[&y], &[gradient(accumulate, x.len())]);
            }
            let params = ConcatParams { n, x_len, y_len, offset, accumulate: 0 };
            self.add(&CONCAT_FORWARD, name, &params, &[&x], &[updated(y.clone())]);
        }
    }

    fn padding(&mut self) {
        for (name, planes, [h, w], [top, left, bottom, right]) in [
            ("each side another", 6, [5, 7], [1, 2, 0, 3]),
            ("below and right", 4, [8, 8], [0, 0, 1, 1]),
            ("none of one pixel", 1, [1, 1], [0, 0, 0, 0]),
        ] {
            let (p, q) = (top + h + bottom, left + w + right);
            let (x, dy) = (random(1, (planes * h * w) as usize), random(2, (planes * p * q) as usize));
            let params = |accumulate| Pad2dParams { planes, h, w, p, q, top, left, accumulate };
            for accumulate in [0, 1] {
                let dx = [gradient(accumulate, x.len())];
                self.add(&PAD2D_BACKWARD, name, &params(accumulate), &[&dy], &dx);
            }
            self.add(&PAD2D_FORWARD, name, &params(0), &[&x], &[fresh(dy.len())]);
        }
    }

    fn loss(&mut self) {
        for (name, n, k, scale) in [
            ("10 classes", 5, 10, 4.0),
            ("many samples", 70, 3, 1.0),
            ("logits that overflow exp()", 4, 7, 300.0),
        ] {
            let x: Vec<f32> = random(1, n * k).iter().map(|x| scale * x).collect();
            let mut labels: Vec<u32> = (0..n).map(|n| (n * 5 % k) as u32).collect();
            labels[n - 1] = IGNORE;
            let inputs: [&[f32]; 2] = [&x, &words(&labels)];
            let params = SoftmaxCrossEntropyParams { n: n as u32, k: k as u32 };
            self.add(&SOFTMAX_CROSS_ENTROPY_FORWARD, name, &params, &inputs, &[fresh(2 * n)]);
            self.add(&SOFTMAX_CROSS_ENTROPY_BACKWARD, name, &params, &inputs, &[fresh(n * k)]);
        }
        let infinite = [1.5, 1.0, f32::INFINITY, 0.0];
        for (name, step, outcome) in [
            ("a step", 1, [0.25, 1.0, 1.5, 0.0, 9.0, -1.0, 2.0, 1.0].as_slice()),
            ("an evaluation", 0, &[0.75, 0.0]),
            ("a loss that is not finite", 1, &infinite),
        ] {
            let mut before = vec![2.5];
            before.extend(words(&[7, 11, 0, 3]));
            let metrics = [Output { before, integers: 1..5 }];
            let params = MetricsParams { n: outcome.len() as u32 / 2, step };
            self.add(&METRICS_ACCUMULATE, name, &params, &[outcome], &metrics);
        }
    }

    fn optimizers(&mut self) {
        const ROW: u32 = 27;
        let clusters: [&[u32]; 4] = [&[0, 3], &[1], &[2, 4, 6], &[5]];
        let (segments, members) = segments(&clusters, ROW);
        let arena = 7 * ROW;
        let numbers = arena as usize;
        let (gradients, parameters) = (random(1, numbers), random(2, numbers));
        let state = [updated(parameters.clone()), updated(random(3, numbers))];
        let (lr, momentum, weight_decay) = (0.1, 0.9, 0.01);
        let decayed = 5 * ROW;
        for (name, first_bad_step, nesterov) in
            [("heavy ball", 0, 0), ("Nesterov", 0, 1), ("after a loss that was not finite", 8, 0)]
        {
            let metrics = words(&[0, 0, 0, first_bad_step, 9]);
            let sgd = SgdParams { len: arena, decayed, nesterov, lr, momentum, weight_decay };
            self.add(&SGD_STEP, name, &sgd, &[&gradients, &metrics], &state);
            let csgd = CsgdParams {
                items: clusters.len() as u32 * ROW,
                segments: clusters.len() as u32,
                decayed,
                nesterov,
                lr,
                momentum,
                weight_decay,
                strength: 0.3,
            };
            let inputs: [&[f32]; 4] = [&gradients, &metrics, &segments, &members];
            self.add(&CSGD_STEP, name, &csgd, &inputs, &state);
        }
        // A row longer than a workgroup, one of one number, and one that is shrunk to nothing.
        let rows = words(&[0, 100, 100, 1, 110, 27]);
        for first_bad_step in [0, 8] {
            let metrics = words(&[0, 0, 0, first_bad_step, 9]);
            let params = ShrinkParams { rows: 3, amount: 0.4 };
            let mut before = parameters.clone();
            before[110..137].iter_mut().for_each(|x| *x *= 0.01);
            self.add(&SHRINK_ROWS, "rows of 1 to 100", &params, &[&metrics, &rows], &[updated(before)]);
        }
        let params = DeviationParams { segments: clusters.len() as u32 };
        let inputs: [&[f32]; 3] = [&segments, &members, &parameters];
        self.add(&CLUSTER_DEVIATION, "clusters of 1 to 3", &params, &inputs, &[fresh(clusters.len())]);
        let (segments, members) = self::segments(&[&[0, 1, 2, 3, 4, 5, 6]], 200);
        let (params, values) = (DeviationParams { segments: 1 }, random(4, 7 * 200));
        let inputs: [&[f32]; 3] = [&segments, &members, &values];
        self.add(&CLUSTER_DEVIATION, "rows longer than a workgroup", &params, &inputs, &[fresh(1)]);

        for (name, len, parts) in [("fewer parts than numbers", 1000, 96), ("a part a number", 33, 33)] {
            let params = SumOfSquaresParams { len, parts };
            self.add(&SUM_OF_SQUARES, name, &params, &[&random(5, len as usize)], &[fresh(parts as usize)]);
        }
    }
}

/// The tables of C-SGD over rows of `row` words: first item, first member, members, row length; first word of each row.
fn segments(clusters: &[&[u32]], row: u32) -> (Vec<f32>, Vec<f32>) {
    let (mut segments, mut members) = (Vec::new(), Vec::new());
    for (i, cluster) in (0..).zip(clusters) {
        segments.extend([i * row, members.len() as u32, cluster.len() as u32, row]);
        members.extend(cluster.iter().map(|member| member * row));
    }
    (words(&segments), words(&members))
}

/// Images, height and width, and the convolution on them.
fn convolutions() -> [(&'static str, [u32; 3], Conv2d); 10] {
    let same = Conv2d::same;
    let new = |c, k| Conv2d::new(c, k, [3, 3]);
    let uneven = Padding { top: 2, left: 0, bottom: 1, right: 3 };
    [
        ("ordinary", [2, 8, 8], same(8, 8, 3)),
        ("several workgroups", [3, 17, 19], same(5, 9, 3)),
        ("stride 2, odd size", [2, 9, 7], Conv2d { stride: [2, 2], ..same(4, 6, 3) }),
        ("stride 3 and 2", [2, 11, 9], Conv2d { stride: [3, 2], ..same(3, 4, 3) }),
        ("uneven padding", [2, 6, 7], Conv2d { padding: uneven, ..new(3, 5) }),
        ("1x1, stride 2", [2, 8, 8], Conv2d { stride: [2, 2], ..Conv2d::new(6, 7, [1, 1]) }),
        ("dilation 2 and 3", [2, 11, 12], Conv2d { dilation: [2, 3], padding: Padding::all(2), ..new(3, 5) }),
        ("2 groups", [2, 7, 7], Conv2d { groups: 2, ..same(6, 10, 3) }),
        ("depthwise, multiplier 2", [2, 8, 8], Conv2d { groups: 5, ..same(5, 10, 3) }),
        ("one of everything", [1, 1, 1], Conv2d::new(1, 1, [1, 1])),
    ]
}

fn conv_params(n: u32, [h, w]: [u32; 2], conv: &Conv2d) -> Conv2dParams {
    let [r, s] = conv.kernel.map(|side| side as u32);
    let [stride_h, stride_w] = conv.stride.map(|stride| stride as u32);
    let [dilation_h, dilation_w] = conv.dilation.map(|dilation| dilation as u32);
    let pad = conv.padding;
    let (pad_rows, pad_columns) = ((pad.top + pad.bottom) as u32, (pad.left + pad.right) as u32);
    Conv2dParams {
        n,
        c: conv.in_channels as u32,
        h,
        w,
        k: conv.out_channels as u32,
        r,
        s,
        p: (h + pad_rows - dilation_h * (r - 1) - 1) / stride_h + 1,
        q: (w + pad_columns - dilation_w * (s - 1) - 1) / stride_w + 1,
        stride_h,
        stride_w,
        pad_top: pad.top as u32,
        pad_left: pad.left as u32,
        dilation_h,
        dilation_w,
        groups: conv.groups as u32,
        has_bias: 0,
        accumulate: 0,
        splits: 1,
        first: 0,
    }
}
