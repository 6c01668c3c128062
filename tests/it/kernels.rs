//! Every kernel against its twin, case by case.

use crate::harness::{Output, check, check_fast, check_shaders, random};
use centripetal::device::{Kernel, Params};
use centripetal::ops::conv2d::{self, Conv2dParams, SumPartialsParams};
use centripetal::ops::linear::{self, LinearParams};
use centripetal::ops::{Conv2d, Op, Padding};
use centripetal::shape::Shape;

/// Images, height and width, and the convolution on them.
struct ConvCase(&'static str, [usize; 3], Conv2d);

fn conv_cases() -> Vec<ConvCase> {
    let same = Conv2d::same;
    vec![
        ConvCase("ordinary", [2, 8, 8], same(8, 8, 3)),
        ConvCase("several workgroups", [3, 17, 19], same(5, 9, 3)),
        ConvCase("stride 2", [2, 8, 8], Conv2d { stride: [2, 2], ..same(4, 8, 3) }),
        ConvCase("stride 2, odd size", [2, 9, 7], Conv2d { stride: [2, 2], ..same(4, 6, 3) }),
        ConvCase("stride 3 and 2", [2, 11, 9], Conv2d { stride: [3, 2], ..same(3, 4, 3) }),
        ConvCase("stride over the filter", [2, 9, 9], Conv2d { stride: [3, 3], ..Conv2d::new(3, 4, [2, 2]) }),
        ConvCase("no padding", [2, 7, 8], Conv2d::new(4, 5, [3, 3])),
        ConvCase(
            "asymmetric padding",
            [2, 6, 7],
            Conv2d { padding: Padding { top: 2, left: 0, bottom: 1, right: 3 }, ..Conv2d::new(3, 5, [3, 3]) },
        ),
        ConvCase(
            "padding over the filter",
            [1, 3, 3],
            Conv2d { padding: Padding::all(4), ..Conv2d::new(2, 3, [2, 2]) },
        ),
        ConvCase("1x1", [2, 7, 5], Conv2d::new(6, 7, [1, 1])),
        ConvCase("1x1, stride 2", [2, 8, 8], Conv2d { stride: [2, 2], ..Conv2d::new(6, 7, [1, 1]) }),
        ConvCase("5x5", [2, 9, 9], same(3, 6, 5)),
        ConvCase("3x1", [2, 6, 9], Conv2d::new(3, 4, [3, 1])),
        ConvCase(
            "1x5",
            [2, 6, 9],
            Conv2d { padding: Padding { left: 2, right: 2, ..Padding::all(0) }, ..Conv2d::new(3, 4, [1, 5]) },
        ),
        ConvCase(
            "dilation 2",
            [2, 9, 10],
            Conv2d { dilation: [2, 2], padding: Padding::all(2), ..Conv2d::new(3, 5, [3, 3]) },
        ),
        ConvCase(
            "dilation 2 and 3, stride 2",
            [2, 11, 12],
            Conv2d {
                dilation: [2, 3],
                stride: [2, 2],
                padding: Padding::all(2),
                ..Conv2d::new(3, 5, [3, 3])
            },
        ),
        ConvCase("2 groups", [2, 7, 7], Conv2d { groups: 2, ..same(6, 10, 3) }),
        ConvCase("4 groups, stride 2", [2, 8, 6], Conv2d { groups: 4, stride: [2, 2], ..same(8, 4, 3) }),
        ConvCase("depthwise", [2, 7, 9], Conv2d { groups: 6, ..same(6, 6, 3) }),
        ConvCase(
            "depthwise, multiplier 2, stride 2",
            [2, 8, 8],
            Conv2d { groups: 5, stride: [2, 2], ..same(5, 10, 3) },
        ),
        ConvCase("N = 1", [1, 6, 5], same(5, 3, 3)),
        ConvCase("C = 1", [2, 8, 7], same(1, 6, 5)),
        ConvCase("K = 1", [2, 8, 7], same(3, 1, 3)),
        ConvCase("one of everything", [1, 1, 1], Conv2d::new(1, 1, [1, 1])),
        ConvCase("10 to 10", [2, 12, 12], same(10, 10, 3)),
        ConvCase("20 to 20", [1, 9, 9], same(20, 20, 3)),
        ConvCase("40 to 40", [1, 8, 8], same(40, 40, 3)),
        ConvCase("10 to 20, stride 2", [2, 12, 12], Conv2d { stride: [2, 2], ..same(10, 20, 3) }),
    ]
}

impl ConvCase {
    fn params(&self) -> Conv2dParams {
        let ConvCase(name, [n, h, w], conv) = self;
        let input = Shape::new(conv.in_channels, *h, *w);
        let output = Op::from(conv.clone()).operator().output_shape(&[input]);
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
        conv.params(*n, input, output)
    }
}

/// Numbers in x, weight and y.
fn conv_words(d: &Conv2dParams) -> [usize; 3] {
    [(d.n * d.c * d.h * d.w) as usize, d.weights(), (d.n * d.k * d.p * d.q) as usize]
}

#[test]
fn conv2d_forward() {
    for case in conv_cases() {
        let d = case.params();
        let [x, weight, y] = conv_words(&d);
        let (x, weight, bias) = (random(1, x), random(2, weight), random(3, d.k as usize));
        for has_bias in [0, 1] {
            let d = Conv2dParams { has_bias, ..d };
            check(case.0, &conv2d::CONV2D_FORWARD, &d, &[&x, &weight, &bias], &[Output::Overwritten(y)]);
        }
    }
}

#[test]
fn conv2d_input_gradient() {
    for case in conv_cases() {
        let d = case.params();
        let [x, weight, y] = conv_words(&d);
        let (dy, weight) = (random(1, y), random(2, weight));
        for (accumulate, dx) in [(0, Output::Overwritten(x)), (1, Output::Updated(random(3, x)))] {
            let d = Conv2dParams { accumulate, ..d };
            check(case.0, &conv2d::CONV2D_INPUT_GRADIENT, &d, &[&dy, &weight], &[dx]);
        }
    }
}

#[test]
fn conv2d_weight_gradient() {
    for case in conv_cases() {
        let d = case.params();
        let [x, weight, y] = conv_words(&d);
        let (x, dy) = (random(1, x), random(2, y));
        let kernel = &conv2d::CONV2D_WEIGHT_GRADIENT;
        check_fast(case.0, kernel, &d, &[&x, &dy], &[Output::Overwritten(weight)]);
        // One more split than there are rows: the last one is empty.
        for splits in [1, 3, d.n * d.p + 1] {
            let partials = Output::Overwritten(weight * splits as usize);
            check_shaders(case.0, kernel, &Conv2dParams { splits, ..d }, &[&x, &dy], &[partials]);
        }
    }
}

#[test]
fn conv2d_bias_gradient() {
    for case in conv_cases() {
        let d = case.params();
        let [_, _, y] = conv_words(&d);
        let dbias = Output::Overwritten(d.k as usize);
        check(case.0, &conv2d::CONV2D_BIAS_GRADIENT, &d, &[&random(1, y)], &[dbias]);
    }
}

#[test]
fn sum_partials() {
    for (len, splits) in [(1, 1), (70, 1), (64, 5), (1000, 17)] {
        let params = SumPartialsParams { len, splits };
        let partials = random(1, (len * splits) as usize);
        let case = format!("{splits} splits of {len}");
        check(&case, &conv2d::SUM_PARTIALS, &params, &[&partials], &[Output::Overwritten(len as usize)]);
    }
}

/// A kernel with its uniform, inputs and outputs.
type Call<'a> = (&'static Kernel, LinearParams, Vec<&'a [f32]>, Vec<Output>);

#[test]
fn linear() {
    let sizes = [[1, 1, 1], [1, 7, 5], [3, 1, 4], [4, 8, 4], [6, 65, 10], [33, 40, 20], [130, 17, 9]];
    for [n, c, k] in sizes {
        let case = format!("N {n}, C {c}, K {k}");
        let (x, weight, bias) = (random(1, n * c), random(2, k * c), random(3, k));
        let dy = random(4, n * k);
        let d = LinearParams { n: n as u32, c: c as u32, k: k as u32, has_bias: 0, accumulate: 0, first: 0 };
        let added = LinearParams { has_bias: 1, accumulate: 1, ..d };
        let fresh = |words| vec![Output::Overwritten(words)];
        let sum = vec![Output::Updated(random(5, n * c))];
        let table: [Call<'_>; 6] = [
            (&linear::LINEAR_FORWARD, d, vec![&x, &weight, &bias], fresh(n * k)),
            (&linear::LINEAR_FORWARD, added, vec![&x, &weight, &bias], fresh(n * k)),
            (&linear::LINEAR_INPUT_GRADIENT, d, vec![&dy, &weight], fresh(n * c)),
            (&linear::LINEAR_INPUT_GRADIENT, added, vec![&dy, &weight], sum),
            (&linear::LINEAR_WEIGHT_GRADIENT, d, vec![&x, &dy], fresh(k * c)),
            (&linear::LINEAR_BIAS_GRADIENT, d, vec![&dy], fresh(k)),
        ];
        for (kernel, params, inputs, outputs) in table {
            check(&case, kernel, &params, &inputs, &outputs);
        }
    }
}

/// A kernel's uniform is declared in Rust and in WGSL; the two must agree field by field.
#[test]
fn uniforms_are_the_same_in_both_languages() {
    assert_eq!(Conv2dParams::FIELDS.len() * 4, size_of::<Conv2dParams>());
    for kernel in centripetal::ops::KERNELS {
        for shader in kernel.shaders {
            let expected: Vec<String> =
                kernel.params.iter().map(|f| format!("{}: {},", f.name, f.scalar)).collect();
            let body = shader.wgsl.split_once("struct Params {").and_then(|(_, rest)| rest.split_once('}'));
            let found: Vec<&str> =
                body.map_or("", |(body, _)| body).lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            assert_eq!(found, expected, "{}", shader.name);
        }
    }
}
