//! Batch norm, activations, pooling, concatenation, channel padding: twins against PyTorch, shaders against twins.

use crate::golden::{GOLDEN, Golden};
use crate::harness::{Output, check, compare, executors, gpu, random, run, twins};
use centripetal::device::{Kernel, Params};
use centripetal::ops::avg_pool2d::{AVG_POOL2D_BACKWARD, AVG_POOL2D_FORWARD, AvgPool2dParams};
use centripetal::ops::batch_norm_relu::BATCH_NORM_RELU_BACKWARD_REDUCE;
use centripetal::ops::batch_norm2d::{self as batch_norm, BatchNormParams};
use centripetal::ops::channel_pad::{CHANNEL_PAD_BACKWARD, CHANNEL_PAD_FORWARD, ChannelPadParams};
use centripetal::ops::clamp::{CLAMP_BACKWARD, CLAMP_FORWARD, ClampParams};
use centripetal::ops::concat::{CONCAT_BACKWARD, CONCAT_FORWARD, ConcatParams};
use centripetal::ops::global_avg_pool::{
    GLOBAL_AVG_POOL_BACKWARD, GLOBAL_AVG_POOL_FORWARD, GlobalAvgPoolParams,
};
use centripetal::ops::hard_sigmoid::{HARD_SIGMOID_BACKWARD, HARD_SIGMOID_FORWARD, HardSigmoidParams};
use centripetal::ops::hard_swish::{HARD_SWISH_BACKWARD, HARD_SWISH_FORWARD, HardSwishParams};
use centripetal::ops::leaky_relu::{LEAKY_RELU_BACKWARD, LEAKY_RELU_FORWARD, LeakyReluParams};
use centripetal::ops::max_pool2d::{MAX_POOL2D_BACKWARD, MAX_POOL2D_FORWARD, MaxPool2dParams};
use centripetal::ops::mul::{MUL_FORWARD, MUL_GATE_GRADIENT, MulParams};
use centripetal::ops::pad2d::{PAD2D_BACKWARD, PAD2D_FORWARD, Pad2dParams};
use centripetal::ops::relu::{RELU_BACKWARD, RELU_FORWARD, ReluParams};
use centripetal::ops::relu6::{RELU6_BACKWARD, RELU6_FORWARD, Relu6Params};
use centripetal::ops::sigmoid::{SIGMOID_BACKWARD, SIGMOID_FORWARD, SigmoidParams};
use centripetal::ops::silu::{SILU_BACKWARD, SILU_FORWARD, SiluParams};
use centripetal::ops::{
    AvgPool2d, BatchNorm2d, ChannelPad, Clamp, Concat, Divisor, GlobalAvgPool, HardSigmoid, LeakyRelu,
    MaxPool2d, Mul, Op, Operator, Pad2d, Padding,
};
use centripetal::shape::Shape;

/// N, C, H, W: ordinary, one image, one channel, one pixel, no multiple of a workgroup, more than one workgroup.
const EXTENTS: &[[usize; 4]] = &[
    [4, 3, 5, 5],
    [1, 3, 4, 5],
    [5, 1, 9, 7],
    [8, 3, 1, 1],
    [1, 1, 1, 1],
    [3, 17, 3, 5],
    [2, 70, 16, 17],
    [1, 2, 33, 31],
];

fn fresh(words: usize) -> Output {
    Output::Overwritten(words)
}

/// Overwrites dx, then adds to what is there.
fn check_gradient<P: Params>(
    case: &str,
    kernel: &'static Kernel,
    params: impl Fn(u32) -> P,
    inputs: &[&[f32]],
    words: usize,
) {
    check(case, kernel, &params(0), inputs, &[fresh(words)]);
    check(case, kernel, &params(1), inputs, &[Output::Updated(random(99, words))]);
}

/// The only output of the twin.
fn twin(kernel: &'static Kernel, params: &impl Params, inputs: &[&[f32]], words: usize) -> Vec<f32> {
    run(&twins(), kernel, 0, params, inputs, &[fresh(words)]).remove(0)
}

#[test]
fn activations() {
    for len in [1, 63, 64, 65, 1000] {
        let case = format!("{len} numbers");
        let mut x: Vec<f32> = random(1, len).iter().map(|x| x * 9.0).collect();
        x[0] = 0.0;
        let dy = random(2, len);
        let len = len as u32;
        let relu = |accumulate| ReluParams { len, accumulate };
        let relu6 = |accumulate| Relu6Params { len, accumulate };
        let leaky = |accumulate| LeakyReluParams { len, slope: 0.2, accumulate };
        check(&case, &RELU_FORWARD, &relu(0), &[&x], &[fresh(x.len())]);
        check(&case, &RELU6_FORWARD, &relu6(0), &[&x], &[fresh(x.len())]);
        check(&case, &LEAKY_RELU_FORWARD, &leaky(0), &[&x], &[fresh(x.len())]);
        check_gradient(&case, &RELU_BACKWARD, relu, &[&x, &dy], x.len());
        check_gradient(&case, &RELU6_BACKWARD, relu6, &[&x, &dy], x.len());
        check_gradient(&case, &LEAKY_RELU_BACKWARD, leaky, &[&x, &dy], x.len());
        let sigmoid = |accumulate| SigmoidParams { len, accumulate };
        let silu = |accumulate| SiluParams { len, accumulate };
        let hard_sigmoid = |accumulate| HardSigmoidParams { len, slope: 0.2, offset: 0.5, accumulate };
        let hard_swish = |accumulate| HardSwishParams { len, accumulate };
        let clamp = |accumulate| ClampParams { len, low: -1.0, high: 2.0, accumulate };
        check(&case, &SIGMOID_FORWARD, &sigmoid(0), &[&x], &[fresh(x.len())]);
        check(&case, &SILU_FORWARD, &silu(0), &[&x], &[fresh(x.len())]);
        check(&case, &HARD_SIGMOID_FORWARD, &hard_sigmoid(0), &[&x], &[fresh(x.len())]);
        check(&case, &HARD_SWISH_FORWARD, &hard_swish(0), &[&x], &[fresh(x.len())]);
        check(&case, &CLAMP_FORWARD, &clamp(0), &[&x], &[fresh(x.len())]);
        check_gradient(&case, &SIGMOID_BACKWARD, sigmoid, &[&random(3, x.len()), &dy], x.len());
        check_gradient(&case, &SILU_BACKWARD, silu, &[&x, &dy], x.len());
        check_gradient(&case, &HARD_SIGMOID_BACKWARD, hard_sigmoid, &[&x, &dy], x.len());
        check_gradient(&case, &HARD_SWISH_BACKWARD, hard_swish, &[&x, &dy], x.len());
        check_gradient(&case, &CLAMP_BACKWARD, clamp, &[&x, &dy], x.len());
    }
}

#[test]
fn sigmoids_of_large_numbers_do_not_overflow() {
    let x = [-200.0, -20.0, 0.0, 20.0, 200.0];
    let fast = centripetal::device::Device::cpu("test");
    for device in [Some(&twins()), Some(&fast), gpu()].into_iter().flatten() {
        let sigmoid = SigmoidParams { len: 5, accumulate: 0 };
        let y = run(device, &SIGMOID_FORWARD, 0, &sigmoid, &[&x], &[fresh(5)]).remove(0);
        compare("sigmoid", &[0.0, 2.061_153_6e-9, 0.5, 1.0, 1.0], &y, GOLDEN);
        let silu = SiluParams { len: 5, accumulate: 0 };
        let y = run(device, &SILU_FORWARD, 0, &silu, &[&x], &[fresh(5)]).remove(0);
        compare("silu", &[0.0, -4.122_307e-8, 0.0, 20.0, 200.0], &y, GOLDEN);
        let dx = run(device, &SILU_BACKWARD, 0, &silu, &[&x, &[1.0; 5]], &[fresh(5)]).remove(0);
        compare("gradient of silu", &[0.0, -3.916_192e-8, 0.5, 1.0, 1.0], &dx, GOLDEN);
    }
}

#[test]
fn products() {
    for &[n, c, h, w] in EXTENTS {
        for (gate, spread) in [(n * c * h * w, 1), (n * c, h * w)] {
            let case = format!("{n}x{c}x{h}x{w}, gate of {gate}");
            let len = n * c * h * w;
            let (a, dy, gate) = (random(1, len), random(2, len), random(3, gate));
            let params = |accumulate| MulParams { len: len as u32, spread: spread as u32, accumulate };
            check_gradient(&case, &MUL_FORWARD, params, &[&a, &gate], len);
            check_gradient(&case, &MUL_GATE_GRADIENT, params, &[&a, &dy], gate.len());
        }
    }
}

#[test]
fn padding() {
    for &[n, c, h, w] in EXTENTS {
        let x_shape = Shape::new(c, h, w);
        for [top, left, bottom, right] in [[0, 0, 0, 0], [1, 1, 1, 1], [2, 0, 1, 3]] {
            let pad = Pad2d { padding: Padding { top, left, bottom, right } };
            let y_shape = pad.output_shape(&[x_shape]).expect("a shape");
            let case = format!("{n} of {x_shape}, {pad:?}");
            let params = pad.params(n, x_shape, y_shape);
            let (x, dy) = (random(1, n * x_shape.len()), random(2, n * y_shape.len()));
            check(&case, &PAD2D_FORWARD, &params, &[&x], &[fresh(dy.len())]);
            let params = |accumulate| Pad2dParams { accumulate, ..params };
            check_gradient(&case, &PAD2D_BACKWARD, params, &[&dy], x.len());
        }
    }
}

#[test]
fn nan_comes_through_activations_and_max_pooling() {
    let x = [f32::NAN, -1.0, 2.0, 7.0];
    let relu = ReluParams { len: 4, accumulate: 0 };
    let relu6 = Relu6Params { len: 4, accumulate: 0 };
    let leaky = LeakyReluParams { len: 4, slope: 0.5, accumulate: 0 };
    let hard_sigmoid = HardSigmoidParams { len: 4, slope: 0.2, offset: 0.5, accumulate: 0 };
    let clamp = ClampParams { len: 4, low: -1.0, high: 1.0, accumulate: 0 };
    let windows = MaxPool2d { stride: [1, 1], kernel: [1, 2], ..MaxPool2d::new(1) };
    let pool = windows.params(1, Shape::new(1, 1, 4), Shape::new(1, 1, 3));
    let fast = centripetal::device::Device::cpu("test");
    for device in [Some(&twins()), Some(&fast), gpu()].into_iter().flatten() {
        let relu = run(device, &RELU_FORWARD, 0, &relu, &[&x], &[fresh(4)]);
        let relu6 = run(device, &RELU6_FORWARD, 0, &relu6, &[&x], &[fresh(4)]);
        let leaky = run(device, &LEAKY_RELU_FORWARD, 0, &leaky, &[&x], &[fresh(4)]);
        let pooled = run(device, &MAX_POOL2D_FORWARD, 0, &pool, &[&x], &[fresh(3), fresh(3)]);
        let gates = [
            run(device, &SIGMOID_FORWARD, 0, &SigmoidParams { len: 4, accumulate: 0 }, &[&x], &[fresh(4)]),
            run(device, &SILU_FORWARD, 0, &SiluParams { len: 4, accumulate: 0 }, &[&x], &[fresh(4)]),
            run(device, &HARD_SIGMOID_FORWARD, 0, &hard_sigmoid, &[&x], &[fresh(4)]),
            run(
                device,
                &HARD_SWISH_FORWARD,
                0,
                &HardSwishParams { len: 4, accumulate: 0 },
                &[&x],
                &[fresh(4)],
            ),
            run(device, &CLAMP_FORWARD, 0, &clamp, &[&x], &[fresh(4)]),
        ];
        for y in gates.iter().chain([&relu, &relu6, &leaky, &pooled]) {
            assert!(y[0][0].is_nan(), "{y:?} on {}", device.info().name);
        }
        assert_eq!(relu[0][1..], [0.0, 2.0, 7.0]);
        assert_eq!(relu6[0][1..], [0.0, 2.0, 6.0]);
        assert_eq!(leaky[0][1..], [-0.5, 2.0, 7.0]);
        assert_eq!(pooled[0][1..], [2.0, 7.0]);
    }
}

fn check_batch_norm(extents: [usize; 4]) {
    let [n, c, h, w] = extents;
    let case = format!("{extents:?}");
    let len = n * c * h * w;
    let params = BatchNorm2d::new(c).params(n, Shape::new(c, h, w));
    let x: Vec<f32> = random(1, len).iter().map(|x| x * 2.0 + 0.5).collect();
    let (dy, gamma, beta, running_mean) = (random(2, len), random(3, c), random(4, c), random(5, c));
    let running_var: Vec<f32> = random(6, c).iter().map(|x| x + 1.5).collect();
    let outputs =
        [fresh(c), fresh(c), Output::Updated(running_mean.clone()), Output::Updated(running_var.clone())];
    check(&case, &batch_norm::BATCH_NORM_STATISTICS, &params, &[&x], &outputs);
    let statistics = run(&twins(), &batch_norm::BATCH_NORM_STATISTICS, 0, &params, &[&x], &outputs);
    let (mean, inv_std) = (&statistics[0], &statistics[1]);
    let inputs: [&[f32]; 5] = [&x, mean, inv_std, &gamma, &beta];
    check(&case, &batch_norm::BATCH_NORM_NORMALIZE, &params, &inputs, &[fresh(len)]);
    let inputs: [&[f32]; 5] = [&x, &gamma, &beta, &running_mean, &running_var];
    check(&case, &batch_norm::BATCH_NORM_INFERENCE, &params, &inputs, &[fresh(len)]);
    let inputs: [&[f32]; 4] = [&x, &dy, mean, inv_std];
    check(&case, &batch_norm::BATCH_NORM_BACKWARD_REDUCE, &params, &inputs, &[fresh(c), fresh(c)]);
    // With a ReLU behind, which let pass what is positive in y.
    let y: Vec<f32> = random(7, len);
    let through: [&[f32]; 5] = [&x, &y, &dy, mean, inv_std];
    check(&case, &BATCH_NORM_RELU_BACKWARD_REDUCE, &params, &through, &[fresh(len), fresh(c), fresh(c)]);
    let sums =
        run(&twins(), &batch_norm::BATCH_NORM_BACKWARD_REDUCE, 0, &params, &inputs, &[fresh(c), fresh(c)]);
    check_gradient(
        &case,
        &batch_norm::BATCH_NORM_BACKWARD_ELEMENTWISE,
        |accumulate| BatchNormParams { accumulate, ..params },
        &[&x, &dy, mean, inv_std, &gamma, &sums[0], &sums[1]],
        len,
    );
}

#[test]
fn batch_norm() {
    EXTENTS.iter().for_each(|extents| check_batch_norm(*extents));
}

#[test]
fn batch_norm_channels_fold_into_the_second_dimension() {
    check_batch_norm([2, 65_537, 1, 1]);
}

#[test]
fn batch_statistics_survive_a_mean_much_larger_than_the_deviation() {
    let (n, x_shape) = (8, Shape::new(2, 16, 16));
    let params = BatchNorm2d::new(2).params(n, x_shape);
    let mut x: Vec<f32> = random(1, n * x_shape.len()).iter().map(|x| x + 10_000.0).collect();
    // The first number of a channel, from which others' deviations may be taken, is far from all of them.
    x[256] = -20_000.0;
    let outputs = [fresh(2), fresh(2), Output::Updated(vec![0.0; 2]), Output::Updated(vec![0.0; 2])];
    for (device, variant) in executors(&batch_norm::BATCH_NORM_STATISTICS) {
        let found = run(device, &batch_norm::BATCH_NORM_STATISTICS, variant, &params, &[&x], &outputs);
        for c in 0..2 {
            let numbers = (0..n).flat_map(|image| &x[(image * 2 + c) * 256..][..256]).map(|x| f64::from(*x));
            let mean = numbers.clone().sum::<f64>() / 2048.0;
            let squares = numbers.map(|x| (x - mean).powi(2)).sum::<f64>();
            let inv_std = (squares / 2048.0 + 1e-5).powf(-0.5);
            let place = format!("channel {c}, variant {variant} on {}", device.info().name);
            assert!((f64::from(found[0][c]) - mean).abs() < 2e-3, "{place}: mean {}", found[0][c]);
            assert!((f64::from(found[1][c]) / inv_std - 1.0).abs() < 1e-4, "{place}: {}", found[1][c]);
            let moved = f64::from(found[3][c]) / (0.1 * squares / 2047.0);
            assert!((moved - 1.0).abs() < 1e-4, "{place}: running variance off by {moved}");
        }
    }
}

#[test]
fn one_number_a_channel_has_no_variance() {
    let params = BatchNorm2d::new(2).params(1, Shape::new(2, 1, 1));
    let outputs = [fresh(2), fresh(2), Output::Updated(vec![1.0; 2]), Output::Updated(vec![1.0; 2])];
    for (device, variant) in executors(&batch_norm::BATCH_NORM_STATISTICS) {
        let found =
            run(device, &batch_norm::BATCH_NORM_STATISTICS, variant, &params, &[&[3.0, -4.0]], &outputs);
        assert_eq!(found[0], [3.0, -4.0]);
        compare("running_mean", &[1.2, 0.5], &found[2], GOLDEN);
        compare("running_var", &[0.9, 0.9], &found[3], GOLDEN);
    }
}

/// Window, stride and padding, each vertical and horizontal.
const WINDOWS: &[[[usize; 2]; 3]] = &[
    [[2, 2], [2, 2], [0, 0]],
    [[3, 3], [2, 2], [1, 1]],
    [[3, 3], [1, 1], [1, 1]],
    [[1, 1], [2, 2], [0, 0]],
    [[2, 3], [3, 1], [1, 0]],
    [[4, 2], [5, 3], [2, 1]],
];

#[test]
fn max_pooling() {
    for &[n, c, h, w] in EXTENTS {
        let x_shape = Shape::new(c, h, w);
        let x_len = n * x_shape.len();
        // Few values, so that there are ties: the first one must win everywhere.
        let x: Vec<f32> = random(1, x_len).iter().map(|x| (x * 3.0).round()).collect();
        // Windows that stick out at the end, too, as where sizes are rounded up.
        let windows =
            WINDOWS.iter().flat_map(|window| [None, Some([1, 1])].map(|trailing| (window, trailing)));
        for (&[kernel, stride, padding], trailing) in windows {
            let pool = MaxPool2d { kernel, stride, padding, trailing };
            let Ok(y_shape) = pool.output_shape(&[x_shape]) else { continue };
            let case = format!("{n} of {x_shape}, {pool:?}");
            let params = pool.params(n, x_shape, y_shape);
            let y_len = n * y_shape.len();
            let outputs = [fresh(y_len), fresh(y_len)];
            check(&case, &MAX_POOL2D_FORWARD, &params, &[&x], &outputs);
            let index = run(&twins(), &MAX_POOL2D_FORWARD, 0, &params, &[&x], &outputs).remove(1);
            if let Some(gpu) = gpu() {
                // As integers: as floats, small indices are all next to 0.
                let found = run(gpu, &MAX_POOL2D_FORWARD, 0, &params, &[&x], &outputs).remove(1);
                let bits = |index: &[f32]| index.iter().map(|i| i.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&index), "{case}: index");
            }
            let dy = random(2, y_len);
            let params = |accumulate| MaxPool2dParams { accumulate, ..params };
            check_gradient(&case, &MAX_POOL2D_BACKWARD, params, &[&dy, &index], x_len);
        }
    }
}

#[test]
fn the_first_of_equal_numbers_wins_a_max_pooling() {
    let params = MaxPool2d::new(2).params(1, Shape::new(1, 2, 2), Shape::new(1, 1, 1));
    let found =
        run(&twins(), &MAX_POOL2D_FORWARD, 0, &params, &[&[1.0, 5.0, 5.0, 5.0]], &[fresh(1), fresh(1)]);
    assert_eq!((found[0][0], found[1][0].to_bits()), (5.0, 1));
}

#[test]
fn average_pooling() {
    for &[n, c, h, w] in EXTENTS {
        let x_shape = Shape::new(c, h, w);
        let x = random(1, n * x_shape.len());
        for &[kernel, stride, padding] in WINDOWS {
            for divisor in [Divisor::Window, Divisor::Pixels] {
                let pool = AvgPool2d { kernel, stride, padding, divisor, trailing: None };
                let Ok(y_shape) = pool.output_shape(&[x_shape]) else { continue };
                let case = format!("{n} of {x_shape}, {pool:?}");
                let params = pool.params(n, x_shape, y_shape);
                let dy = random(2, n * y_shape.len());
                check(&case, &AVG_POOL2D_FORWARD, &params, &[&x], &[fresh(dy.len())]);
                let params = |accumulate| AvgPool2dParams { accumulate, ..params };
                check_gradient(&case, &AVG_POOL2D_BACKWARD, params, &[&dy], x.len());
            }
        }
        let case = format!("{n} of {x_shape}");
        let params = GlobalAvgPool {}.params(n, x_shape);
        check(&case, &GLOBAL_AVG_POOL_FORWARD, &params, &[&x], &[fresh(n * c)]);
        let params = |accumulate| GlobalAvgPoolParams { accumulate, ..params };
        check_gradient(&case, &GLOBAL_AVG_POOL_BACKWARD, params, &[&random(3, n * c)], x.len());
    }
}

#[test]
fn concatenation() {
    for (n, x_len, y_len, offset) in [(1, 1, 1, 0), (2, 5, 12, 7), (3, 65, 200, 64), (4, 70, 70, 0)] {
        let case = format!("{x_len} at {offset} of {y_len}");
        let params = |accumulate| ConcatParams { n, x_len, y_len, offset, accumulate };
        let (x, y) = (random(1, (n * x_len) as usize), random(2, (n * y_len) as usize));
        // What other inputs put into y must stay.
        check(&case, &CONCAT_FORWARD, &params(0), &[&x], &[Output::Updated(y.clone())]);
        check_gradient(&case, &CONCAT_BACKWARD, params, &[&y], x.len());
    }
}

#[test]
fn channel_padding() {
    for &[n, c, h, w] in EXTENTS {
        let x_shape = Shape::new(c, h, w);
        let mixed = ChannelPad { stride: [1, 3], source: vec![None, Some(c - 1), None] };
        for pad in [ChannelPad::symmetric(c, 4, 4, 2), ChannelPad::symmetric(c, 0, 3, 1), mixed] {
            let case = format!("{n} of {x_shape}, {pad:?}");
            let y_shape = pad.output_shape(&[x_shape]).unwrap_or_else(|error| panic!("{case}: {error}"));
            let params = pad.params(n, x_shape, y_shape);
            let (x, dy) = (random(1, n * x_shape.len()), random(2, n * y_shape.len()));
            let (source, destination) = (pad.source(), pad.destination(c));
            let source = bytemuck::cast_slice(&source);
            check(&case, &CHANNEL_PAD_FORWARD, &params, &[&x, source], &[fresh(dy.len())]);
            let params = |accumulate| ChannelPadParams { accumulate, ..params };
            let inputs: [&[f32]; 2] = [&dy, bytemuck::cast_slice(&destination)];
            check_gradient(&case, &CHANNEL_PAD_BACKWARD, params, &inputs, x.len());
        }
    }
}

/// N and the shape of one image.
fn images(golden: &Golden, name: &str) -> (usize, Shape) {
    let [n, c, h, w] = golden.dims(name);
    (n, Shape::new(c, h, w))
}

/// The output shape that the operator states, checked against the golden one.
fn output_shape(golden: &Golden, op: &dyn Operator, x: Shape) -> Shape {
    let y = op.output_shape(&[x]).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
    assert_eq!(y, images(golden, "y").1, "{}", golden.name);
    y
}

fn expect(golden: &Golden, name: &str, found: &[f32]) {
    compare(&format!("{}/{name}", golden.name), golden.tensor(name), found, GOLDEN);
}

#[test]
fn batch_norm_is_pytorchs() {
    for golden in Golden::cases("batch_norm") {
        let (n, shape) = images(&golden, "x");
        let c = shape.c;
        let norm =
            BatchNorm2d { channels: c, eps: golden.config("eps"), momentum: golden.config("momentum") };
        let params = norm.params(n, shape);
        let of = |name: &str| golden.tensor(name);
        let (x, dy, gamma, beta) = (of("x"), of("dy"), of("weight"), of("bias"));
        let before = ["running_mean", "running_var"].map(|name| Output::Updated(of(name).to_vec()));
        let [running_mean, running_var] = before;
        let outputs = [fresh(c), fresh(c), running_mean, running_var];
        let statistics = run(&twins(), &batch_norm::BATCH_NORM_STATISTICS, 0, &params, &[x], &outputs);
        expect(&golden, "running_mean_after", &statistics[2]);
        expect(&golden, "running_var_after", &statistics[3]);
        let (mean, inv_std) = (&statistics[0], &statistics[1]);
        let normalize = [x, mean, inv_std, gamma, beta];
        expect(&golden, "y", &twin(&batch_norm::BATCH_NORM_NORMALIZE, &params, &normalize, x.len()));
        let inputs = ["x", "weight", "bias", "running_mean", "running_var"];
        golden.check(&batch_norm::BATCH_NORM_INFERENCE, &params, &inputs, "y_eval");
        let reduce = [x, dy, mean, inv_std];
        let outputs = [fresh(c), fresh(c)];
        let sums = run(&twins(), &batch_norm::BATCH_NORM_BACKWARD_REDUCE, 0, &params, &reduce, &outputs);
        expect(&golden, "dweight", &sums[0]);
        expect(&golden, "dbias", &sums[1]);
        let inputs = [x, dy, mean, inv_std, gamma, &sums[0], &sums[1]];
        let dx = twin(&batch_norm::BATCH_NORM_BACKWARD_ELEMENTWISE, &params, &inputs, x.len());
        expect(&golden, "dx", &dx);
    }
}

#[test]
fn activations_are_pytorchs() {
    for golden in Golden::cases("relu") {
        let params = ReluParams { len: golden.tensor("x").len() as u32, accumulate: 0 };
        golden.check(&RELU_FORWARD, &params, &["x"], "y");
        golden.check(&RELU_BACKWARD, &params, &["y", "dy"], "dx");
    }
    for golden in Golden::cases("relu6") {
        let params = Relu6Params { len: golden.tensor("x").len() as u32, accumulate: 0 };
        golden.check(&RELU6_FORWARD, &params, &["x"], "y");
        golden.check(&RELU6_BACKWARD, &params, &["y", "dy"], "dx");
    }
    for golden in Golden::cases("leaky_relu") {
        let slope = golden.config("negative_slope");
        let params = LeakyReluParams { len: golden.tensor("x").len() as u32, slope, accumulate: 0 };
        golden.check(&LEAKY_RELU_FORWARD, &params, &["x"], "y");
        golden.check(&LEAKY_RELU_BACKWARD, &params, &["y", "dy"], "dx");
    }
    let len = |golden: &Golden| golden.tensor("x").len() as u32;
    for golden in Golden::cases("sigmoid") {
        let params = SigmoidParams { len: len(&golden), accumulate: 0 };
        golden.check(&SIGMOID_FORWARD, &params, &["x"], "y");
        golden.check(&SIGMOID_BACKWARD, &params, &["y", "dy"], "dx");
    }
    for golden in Golden::cases("silu") {
        let params = SiluParams { len: len(&golden), accumulate: 0 };
        golden.check(&SILU_FORWARD, &params, &["x"], "y");
        golden.check(&SILU_BACKWARD, &params, &["x", "dy"], "dx");
    }
    for golden in Golden::cases("hard_sigmoid") {
        let HardSigmoid { slope, offset } = HardSigmoid::default();
        let params = HardSigmoidParams { len: len(&golden), slope, offset, accumulate: 0 };
        golden.check(&HARD_SIGMOID_FORWARD, &params, &["x"], "y");
        golden.check(&HARD_SIGMOID_BACKWARD, &params, &["y", "dy"], "dx");
    }
    for golden in Golden::cases("hard_swish") {
        let params = HardSwishParams { len: len(&golden), accumulate: 0 };
        golden.check(&HARD_SWISH_FORWARD, &params, &["x"], "y");
        golden.check(&HARD_SWISH_BACKWARD, &params, &["x", "dy"], "dx");
    }
    for golden in Golden::cases("clamp") {
        let (low, high) = (golden.config("low"), golden.config("high"));
        let params = ClampParams { len: len(&golden), low, high, accumulate: 0 };
        golden.check(&CLAMP_FORWARD, &params, &["x"], "y");
        golden.check(&CLAMP_BACKWARD, &params, &["y", "dy"], "dx");
    }
}

#[test]
fn products_and_padding_are_pytorchs() {
    for golden in Golden::cases("mul") {
        let (len, gate) = (golden.tensor("a").len(), golden.tensor("gate").len());
        let params = MulParams { len: len as u32, spread: (len / gate) as u32, accumulate: 0 };
        golden.check(&MUL_FORWARD, &params, &["a", "gate"], "y");
        golden.check(&MUL_FORWARD, &params, &["dy", "gate"], "da");
        golden.check(&MUL_GATE_GRADIENT, &params, &["a", "dy"], "dgate");
    }
    for golden in Golden::cases("pad2d") {
        let [top, left, bottom, right] = ["top", "left", "bottom", "right"].map(|side| golden.config(side));
        let pad = Pad2d { padding: Padding { top, left, bottom, right } };
        let (n, x_shape) = images(&golden, "x");
        let params = pad.params(n, x_shape, output_shape(&golden, &pad, x_shape));
        golden.check(&PAD2D_FORWARD, &params, &["x"], "y");
        golden.check(&PAD2D_BACKWARD, &params, &["dy"], "dx");
    }
}

#[test]
fn poolings_are_pytorchs() {
    let pair = |golden: &Golden, key: &str| [golden.config::<usize>(key); 2];
    for golden in Golden::cases("max_pool2d") {
        let [kernel, stride, padding] = ["kernel_size", "stride", "padding"].map(|key| pair(&golden, key));
        // Sizes that round up have one window more, which hangs over by one pixel in the one case that has them.
        let ceil: Option<bool> = golden.config("ceil_mode");
        let pool = MaxPool2d { kernel, stride, padding, trailing: ceil.map(|_| [1, 1]) };
        let (n, x_shape) = images(&golden, "x");
        let params = pool.params(n, x_shape, output_shape(&golden, &pool, x_shape));
        let (x, dy) = (golden.tensor("x"), golden.tensor("dy"));
        let outputs = [fresh(dy.len()), fresh(dy.len())];
        let found = run(&twins(), &MAX_POOL2D_FORWARD, 0, &params, &[x], &outputs);
        expect(&golden, "y", &found[0]);
        expect(&golden, "dx", &twin(&MAX_POOL2D_BACKWARD, &params, &[dy, &found[1]], x.len()));
    }
    for golden in Golden::cases("avg_pool2d") {
        let [kernel, stride, padding] = ["kernel_size", "stride", "padding"].map(|key| pair(&golden, key));
        let divisor = if golden.config("count_include_pad") { Divisor::Window } else { Divisor::Pixels };
        let pool = AvgPool2d { kernel, stride, padding, divisor, trailing: None };
        let (n, x_shape) = images(&golden, "x");
        let params = pool.params(n, x_shape, output_shape(&golden, &pool, x_shape));
        golden.check(&AVG_POOL2D_FORWARD, &params, &["x"], "y");
        golden.check(&AVG_POOL2D_BACKWARD, &params, &["dy"], "dx");
    }
    for golden in Golden::cases("global_avg_pool") {
        let (n, x_shape) = images(&golden, "x");
        output_shape(&golden, &GlobalAvgPool {}, x_shape);
        let params = GlobalAvgPool {}.params(n, x_shape);
        golden.check(&GLOBAL_AVG_POOL_FORWARD, &params, &["x"], "y");
        golden.check(&GLOBAL_AVG_POOL_BACKWARD, &params, &["dy"], "dx");
    }
}

#[test]
fn concatenation_is_pytorchs() {
    for golden in Golden::cases("concat") {
        let (n, y_shape) = images(&golden, "y");
        let mut y = vec![f32::NAN; n * y_shape.len()];
        let mut offset = 0;
        for (name, gradient) in [("a", "da"), ("b", "db")] {
            let x_len = images(&golden, name).1.len() as u32;
            let y_len = y_shape.len() as u32;
            let params = ConcatParams { n: n as u32, x_len, y_len, offset, accumulate: 0 };
            let outputs = [Output::Updated(y)];
            y = run(&twins(), &CONCAT_FORWARD, 0, &params, &[golden.tensor(name)], &outputs).remove(0);
            golden.check(&CONCAT_BACKWARD, &params, &["dy"], gradient);
            offset += x_len;
        }
        expect(&golden, "y", &y);
    }
}

#[test]
fn channel_padding_is_pytorchs() {
    for golden in Golden::cases("channel_pad") {
        let (n, x_shape) = images(&golden, "x");
        let [before, after, stride] = ["before", "after", "stride"].map(|key| golden.config(key));
        let pad = ChannelPad::symmetric(x_shape.c, before, after, stride);
        let params = pad.params(n, x_shape, output_shape(&golden, &pad, x_shape));
        let (x, dy) = (golden.tensor("x"), golden.tensor("dy"));
        let (source, destination) = (pad.source(), pad.destination(x_shape.c));
        let source = bytemuck::cast_slice(&source);
        expect(&golden, "y", &twin(&CHANNEL_PAD_FORWARD, &params, &[x, source], dy.len()));
        let destination = bytemuck::cast_slice(&destination);
        expect(&golden, "dx", &twin(&CHANNEL_PAD_BACKWARD, &params, &[dy, destination], x.len()));
    }
}

#[test]
fn misfitting_inputs_are_errors() {
    let x = Shape::new(3, 8, 6);
    let refuses = |op: &dyn Operator, inputs: &[Shape]| assert!(op.output_shape(inputs).is_err());
    refuses(&BatchNorm2d::new(4), &[x]);
    refuses(&BatchNorm2d { eps: f32::NAN, ..BatchNorm2d::new(3) }, &[x]);
    refuses(&BatchNorm2d { momentum: -0.1, ..BatchNorm2d::new(3) }, &[x]);
    refuses(&LeakyRelu { slope: -1.0 }, &[x]);
    refuses(&Clamp { low: 1.0, high: 1.0 }, &[x]);
    refuses(&HardSigmoid { slope: 0.0, offset: 0.5 }, &[x]);
    refuses(&Mul {}, &[x, Shape::new(3, 8, 1)]);
    refuses(&Mul {}, &[Shape::new(3, 1, 1), x]);
    refuses(&Pad2d { padding: Padding { top: usize::MAX, ..Padding::all(0) } }, &[x]);
    refuses(&MaxPool2d::new(7), &[x]);
    refuses(&MaxPool2d { trailing: Some([3, 3]), ..MaxPool2d::new(3) }, &[x]);
    refuses(&AvgPool2d { padding: [2, 2], ..AvgPool2d::new(2) }, &[x]);
    refuses(&Concat {}, &[x, Shape::new(3, 8, 5)]);
    refuses(&ChannelPad { stride: [0, 1], source: vec![Some(0)] }, &[x]);
    refuses(&ChannelPad { stride: [1, 1], source: vec![Some(3)] }, &[x]);
    refuses(&ChannelPad { stride: [1, 1], source: vec![Some(1), None, Some(1)] }, &[x]);
}

#[test]
fn what_a_configuration_leaves_out_is_pytorchs_default() {
    let parse =
        |text: &str| serde_json::from_str::<Op>(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(parse(r#"{"type":"BatchNorm2d","channels":3}"#), BatchNorm2d::new(3).into());
    assert_eq!(parse(r#"{"type":"LeakyRelu"}"#), LeakyRelu { slope: 0.01 }.into());
    assert_eq!(parse(r#"{"type":"MaxPool2d","kernel":[2,2],"stride":[2,2]}"#), MaxPool2d::new(2).into());
    assert_eq!(parse(r#"{"type":"AvgPool2d","kernel":[2,2],"stride":[2,2]}"#), AvgPool2d::new(2).into());
}
