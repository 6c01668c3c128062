//! Every call of the lessons, natively, and the numbers that the lessons' text states.
//!
//! A number is asserted twice: that the text has it ([`Lesson::states`]), and that the library computes it. Evaluations may
//! differ by a few of a thousand pictures between machines, whose vector units add in different orders, training by more.

#[path = "school/formulas.rs"]
mod formulas;

use centripetal::device::Device;
use centripetal::graph::{Coupling, Graph};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::ops::conv2d::Padding;
use centripetal::ops::{BatchNorm2d, Conv2d, Operator};
use centripetal::optim::forecast::{
    AUTO_TARGET, Contraction, Differences, LOSSLESS, TooShort, Verdict, assess, auto_strength,
};
use centripetal::optim::{Decay, Direction, Schedule};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace, surgery};
use centripetal::{Result, Shape};
use centripetal_lessons::{Reply, School};
use serde_json::{Value, json};
use std::path::Path;

fn clock() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

fn read(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn school() -> School {
    let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
    let names = names.map(|name| format!("{name}-ubyte.gz"));
    let files: Vec<Vec<u8>> = names.iter().map(|name| read(&format!("src/data/embedded/{name}"))).collect();
    let [base, wide] = ["base", "wide"].map(|name| read(&format!("web/lessons/data/{name}.safetensors")));
    let mut school = School::new(Device::cpu("a test"), clock);
    school.load(&base, &wide, &names, &files).expect("the networks and their data load");
    school
}

fn call(school: &mut School, name: &str, arguments: &Value, arrays: Vec<Vec<f32>>) -> Result<Reply> {
    pollster::block_on(school.call(name, arguments, arrays))
}

fn value(school: &mut School, name: &str, arguments: Value) -> Value {
    call(school, name, &arguments, Vec::new()).unwrap_or_else(|error| panic!("{name}: {error}")).value
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// `1234567` as the text has it: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).expect("digits")).collect();
    parts.join(",")
}

/// The twin of `kernel`; `arrays` are what it reads, then, if given, what its outputs hold before.
fn twin(kernel: &str, params: Value, arrays: Vec<Vec<f32>>, writes: &[usize]) -> Reply {
    let arguments = json!({ "kernel": kernel, "params": params, "writes": writes });
    let mut school = School::new(Device::cpu("a test"), clock);
    call(&mut school, "twin", &arguments, arrays).unwrap_or_else(|error| panic!("{kernel}: {error}"))
}

/// Sizes of a convolution of `x` by `conv` for the kernels.
fn conv_params(conv: &Conv2d, batch: usize, x: Shape) -> (Value, Shape) {
    let y = conv.output_shape(&[x]).expect("fits");
    let params = json!({
        "n": batch, "c": x.c, "h": x.h, "w": x.w, "k": y.c, "r": conv.kernel[0], "s": conv.kernel[1], "p": y.h, "q": y.w,
        "stride_h": conv.stride[0], "stride_w": conv.stride[1], "pad_top": conv.padding.top, "pad_left": conv.padding.left,
        "dilation_h": conv.dilation[0], "dilation_w": conv.dilation[1], "groups": conv.groups, "splits": 1,
    });
    (params, y)
}

fn near(found: &Value, stated: f64, tolerance: f64) {
    assert!((number(found) - stated).abs() <= tolerance, "{found}, but the text says {stated}");
}

struct Lesson(String);

impl Lesson {
    fn open(name: &str) -> Lesson {
        let text = String::from_utf8(read(&format!("web/lessons/{name}.html"))).expect("UTF-8");
        Lesson(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn states(&self, sentence: &str) {
        assert!(self.0.contains(sentence), "the text no longer says \"{sentence}\"");
    }
}

#[test]
fn finite_differences_have_two_ends() {
    let (school, lesson) = (&mut school(), Lesson::open("02-backward"));
    let found = value(school, "gradient", json!({ "h": 0.02 }));
    for (a, b) in found["backward"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(found["differences"].as_array().into_iter().flatten())
    {
        near(a, number(b), 1e-4);
    }
    let curve: Vec<(f64, f64)> = serde_json::from_value(found["curve"].clone()).expect("pairs");
    let at = |h: f64| curve.iter().find(|(x, _)| (x / h - 1.0).abs() < 0.01).expect("a point").1;
    lesson.states("ten times the step, a hundred times the error");
    assert!((50.0..200.0).contains(&(at(1.0) / at(0.1))), "{} {}", at(1.0), at(0.1));
    lesson.states("This error grows with \\( 1 / h \\)");
    assert!((3.0..30.0).contains(&(at(1e-5) / at(1e-4))), "{} {}", at(1e-5), at(1e-4));
    lesson.states("here near 0.02,");
    let best = curve.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("points").0;
    assert!((0.01..0.04).contains(&best), "{best}");
    let weights = value(school, "scale", json!({ "keep": "1", "batch": 1 }))["paramsBefore"].as_u64();
    let weights = weights.expect("a count");
    lesson.states(&format!("{} weights", grouped(weights)));
    lesson.states(&format!("run {} times for a single step", grouped(2 * weights)));
    let teacher = Lesson::open("teacher");
    teacher.states("the cube root of the precision of float32, 10<sup>−7</sup>, which is 0.005");
    assert_eq!(format!("{:.3}", f32::EPSILON.cbrt()), "0.005");
}

#[test]
fn each_gradient_of_a_convolution_takes_as_many_products_as_the_convolution() {
    let lesson = Lesson::open("02-backward");
    lesson.states("all gradients for about twice the multiply-adds of one forward pass");
    lesson.states("Each of the two takes as many multiply-adds as the convolution itself");
    lesson.states("about three forward passes: one forward, two backward");
    let ones = |len: usize| vec![1.0f32; len];
    let (batch, x) = (2, Shape::new(3, 9, 8));
    for conv in
        [Conv2d::new(3, 4, [3, 3]), Conv2d { stride: [2, 1], dilation: [1, 2], ..Conv2d::new(3, 5, [3, 2]) }]
    {
        let (params, y) = conv_params(&conv, batch, x);
        let (pixels, outputs) = (batch * x.c * x.h * x.w, batch * y.c * y.h * y.w);
        let weights = conv.out_channels * conv.in_channels * conv.kernel[0] * conv.kernel[1];
        // Where all numbers are 1 every product adds 1, so a sum over all results counts the products.
        let products = |kernel: &str, arrays: Vec<Vec<f32>>, len: usize| -> u64 {
            let found = twin(kernel, params.clone(), arrays, &[len]).arrays;
            found[0].iter().map(|&x| f64::from(x)).sum::<f64>() as u64
        };
        let macs = batch as u64 * conv.macs(&[x], y);
        assert_eq!(products("conv2d_forward", vec![ones(pixels), ones(weights), Vec::new()], outputs), macs);
        assert_eq!(products("conv2d_input_gradient", vec![ones(outputs), ones(weights)], pixels), macs);
        assert_eq!(products("conv2d_weight_gradient", vec![ones(pixels), ones(outputs)], weights), macs);
    }
}

#[test]
fn a_convolution_has_the_size_that_the_formula_says() {
    let lesson = Lesson::open("01-convolution");
    lesson.states("With H = 6, R = 3 and nothing else, P is 4.");
    lesson.states("3 parts in 100,000");
    assert_eq!(centripetal::selftest::MAX_WORST, 3e-5);
    let side = |conv: Conv2d, side: usize| conv.output_shape(&[Shape::new(1, side, side)]).expect("fits").h;
    assert_eq!(side(Conv2d::new(1, 1, [3, 3]), 6), 4);
    lesson.states(
        r"\[ P = \frac{H + 2 \, \text{pad} - \text{dilation} \cdot (R - 1) - 1}{\text{stride}} + 1 \]",
    );
    lesson.states("rounded down");
    let mut tried = 0;
    for (h, r) in (6..14usize).flat_map(|h| (1..6usize).map(move |r| (h, r))) {
        for (stride, pad, dilation) in (0..18).map(|i| (1 + i % 3, i / 3 % 3, 1 + i / 9)) {
            let Some(room) = (h + 2 * pad).checked_sub(dilation * (r - 1) + 1) else { continue };
            let conv = Conv2d {
                stride: [stride; 2],
                padding: Padding::all(pad),
                dilation: [dilation; 2],
                ..Conv2d::new(1, 1, [r, r])
            };
            assert_eq!(
                side(conv, h),
                room / stride + 1,
                "H {h}, R {r}, stride {stride}, pad {pad}, dilation {dilation}"
            );
            tried += 1;
        }
    }
    assert!(tried > 500, "{tried}");
    lesson.states("a quarter of the outputs is left, roughly");
    let outputs = |stride| side(Conv2d { stride: [stride; 2], ..Conv2d::new(1, 1, [3, 3]) }, 6).pow(2);
    assert_eq!(outputs(1), 4 * outputs(2));
    lesson
        .states(r"Each of the \( N \cdot K \cdot P \cdot Q \) outputs needs \( C \cdot R \cdot S \) of them");
    let conv = Conv2d::same(3, 5, 3);
    assert_eq!(conv.macs(&[Shape::new(3, 7, 6)], Shape::new(5, 7, 6)), 5 * 7 * 6 * 3 * 3 * 3);
}

#[test]
fn what_a_filter_sees_is_as_large_as_the_text_says() {
    let (lesson, teacher) = (Lesson::open("01-convolution"), Lesson::open("teacher"));
    let answer = |conv: &Conv2d, side: usize, x: Vec<f32>, weight: &[f32]| {
        let (params, y) = conv_params(conv, 1, Shape::new(1, side, side));
        let arrays = vec![x, weight.to_vec(), Vec::new()];
        twin("conv2d_forward", params, arrays, &[y.h * y.w]).arrays.swap_remove(0)
    };
    lesson.states("The nine taps move apart, and the filter sees 5 × 5 pixels with nine weights");
    teacher.states("With dilation 2 the filter covers 5 × 5 pixels, so without padding a picture of 6 × 6 gives 2 × 2 outputs");
    let wide = Conv2d { dilation: [2, 2], ..Conv2d::new(1, 1, [3, 3]) };
    assert_eq!(wide.output_shape(&[Shape::new(1, 6, 6)]).expect("fits"), Shape::new(1, 2, 2));
    // A picture with one pixel after another lit: which of them does the one output see?
    let seen = |&pixel: &usize| {
        let lit = (0..25).map(|i| f32::from(u8::from(i == pixel))).collect();
        answer(&wide, 5, lit, &[1.0; 9]) == [1.0]
    };
    let seen: Vec<usize> = (0..25).filter(seen).collect();
    assert_eq!(seen.len(), 9);
    assert_eq!((seen[0], seen[8]), (0, 24));
    lesson.states("Set the padding to 1, and all of the picture comes out");
    teacher.states("With a padding of 1 and the middle tap alone, the picture comes out unchanged");
    let picture: Vec<f32> = (0..36).map(|i| i as f32).collect();
    let middle: Vec<f32> = (0..9).map(|tap| f32::from(u8::from(tap == 4))).collect();
    assert_eq!(answer(&Conv2d::same(1, 1, 3), 6, picture.clone(), &middle), picture);
}

#[test]
fn the_kernels_load_and_multiply_as_often_as_stated() {
    let lesson = Lesson::open("03-gpu");
    lesson.states("A dimension of the grid ends at 65,535 workgroups");
    assert_eq!(centripetal::device::MAX_WORKGROUPS, 65_535);
    let shader = |name: &str| String::from_utf8(read(&format!("shaders/{name}.wgsl"))).expect("UTF-8");
    lesson.states("8 filters × 8 pixels");
    lesson.states("16 variables of four numbers");
    let text = shader("conv2d_forward");
    let sums =
        text.lines().filter(|line| line.trim_start().starts_with("sum_") && line.contains("+=")).count();
    assert_eq!(sums * 4, 64);
    // The innermost loop: what it loads, and the products that it makes of it.
    let innermost = |text: &str, start: &str| {
        let body = text.split(start).nth(1).expect("the loop");
        body[..body.find("        }\n").expect("its end")].to_owned()
    };
    let body = innermost(&text, "for (var c = 0u; c < group_channels; c++) {");
    let count = |body: &str, what: &str| body.matches(what).count();
    let loads = 4 * count(&body, "= load(") + count(&body, "= weight[");
    let products = 4 * count(&body, "+= weight_");
    assert_eq!((loads, products), (8 + 8, 64));
    lesson.states(
        r"\[ \frac{64 \; \text{multiply-adds}}{8 + 8 \; \text{loads}} = 4 \;\; \text{instead of} \;\; \frac{1}{2} \]",
    );
    lesson.states("one multiply-add, for which two numbers are loaded");
    assert_eq!(products as f64 / loads as f64, 4.0);
    let direct = shader("conv2d_forward_direct");
    let body = innermost(&direct, "for (var s = 0u; s < params.s; s++) {");
    assert_eq!((count(&body, "x["), count(&body, "weight["), count(&body, "sum +=")), (1, 1, 1));
    let reuse = (products as f64 / loads as f64) / (1.0 / 2.0);
    lesson.states("Eight times fewer loads");
    assert_eq!(reuse, 8.0);
    lesson.states(
        "67 TFLOP/s in float32 and reads 3.35 TB/s, which is 40 multiply-adds for each number loaded",
    );
    assert!((67.0 / 2.0 / (3.35 / 4.0) - 40.0f64).abs() < 0.5);
    lesson.states("once for 16 filters");
    assert!(shader("conv2d_forward_tiled").contains("var<workgroup> filters: array<vec4<f32>, 64>"));
    lesson.states("the pixels as two vectors of four that lie 64 pixels apart");
    assert!(shader("conv2d_forward_tiled").contains("let pixel_b = pixel_a + 64u;"));
}

#[test]
fn one_pass_loses_the_variance() {
    let (school, lesson) = (&mut school(), Lesson::open("04-batch-norm"));
    lesson.states("At a mean of 1,000 the formula even gives a <em>negative</em> variance");
    let found = value(school, "variance", json!({ "mean": 1000.0, "spread": 1.0, "count": 4096 }));
    assert!(number(&found["onePass"]) < 0.0, "{found}");
    near(&found["twin"], number(&found["exact"]), 1e-5);
    let teacher = Lesson::open("teacher");
    teacher.states("the error is as large as the variance from a mean of nearly 1,000 on");
    for (mean, large) in [(100.0, false), (500.0, false), (1000.0, true), (2000.0, true)] {
        let found = value(school, "variance", json!({ "mean": mean, "spread": 1.0, "count": 4096 }));
        let error = (number(&found["onePass"]) / number(&found["exact"]) - 1.0).abs();
        assert_eq!(error > 1.0, large, "a mean of {mean}: {error}");
    }
    teacher.states("which is 4/3 for four");
    lesson.states("with 4 numbers the two differ by a third");
    let few = value(school, "variance", json!({ "mean": 0.0, "spread": 1.0, "count": 4 }));
    near(&json!(number(&few["unbiased"]) / number(&few["twin"])), 4.0 / 3.0, 1e-5);
}

#[test]
fn batch_norm_is_what_the_formulas_say() {
    let (lesson, teacher) = (Lesson::open("04-batch-norm"), Lesson::open("teacher"));
    let norm = BatchNorm2d::new(1);
    lesson.states("is small, 0.00001, and keeps");
    assert_eq!(norm.eps, 0.00001);
    lesson.states(r"\[ \text{running} \gets 0.9 \cdot \text{running} + 0.1 \cdot \text{batch} \]");
    assert_eq!(norm.momentum, 0.1);
    let (eps, gamma, beta) = (f64::from(norm.eps), 1.7f32, -0.4f32);
    let x: Vec<f32> = (0..12).map(|i| (i as f32 * 1.3).sin() * 2.0 + 3.0).collect();
    let count = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    let (biased, unbiased) = (squares / count, squares / (count - 1.0));
    let params = json!({ "n": 1, "c": 1, "pixels": x.len(), "eps": norm.eps, "momentum": norm.momentum });
    let close = |found: f32, expected: f64| {
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} {expected}");
    };

    lesson.states("The batch is normalised by the <em>biased</em> variance, divided by \\( m \\)");
    lesson.states("takes the <em>unbiased</em> one, divided by \\( m - 1 \\)");
    let before = [vec![f32::NAN], vec![f32::NAN], vec![5.0], vec![7.0]];
    let statistics = [vec![x.clone()], before.to_vec()].concat();
    let found = twin("batch_norm_statistics", params.clone(), statistics, &[1; 4]).arrays;
    close(found[0][0], mean);
    close(found[1][0], 1.0 / (biased + eps).sqrt());
    close(found[2][0], 0.9 * 5.0 + 0.1 * mean);
    close(found[3][0], 0.9 * 7.0 + 0.1 * unbiased);

    lesson.states(r"\[ \hat x = \frac{x - \text{mean}}{\sqrt{\text{var} + \epsilon}} \;\; \text{then} \;\; y = \gamma \cdot \hat x + \beta \]");
    let inputs = vec![x.clone(), found[0].clone(), found[1].clone(), vec![gamma], vec![beta]];
    let y = twin("batch_norm_normalize", params.clone(), inputs, &[x.len()]).arrays.swap_remove(0);
    for (&y, &x) in y.iter().zip(&x) {
        close(y, f64::from(gamma) * (f64::from(x) - mean) / (biased + eps).sqrt() + f64::from(beta));
    }

    lesson.states(r"\[ y = \frac{\gamma}{\sqrt{\text{var} + \epsilon}} \cdot x + (\beta - \frac{\gamma \cdot \text{mean}}{\sqrt{\text{var} + \epsilon}}) \]");
    let (running_mean, running_var) = (2.5f32, 1.9f32);
    let inputs = vec![x.clone(), vec![gamma], vec![beta], vec![running_mean], vec![running_var]];
    let y = twin("batch_norm_inference", params, inputs, &[x.len()]).arrays.swap_remove(0);
    let scale = f64::from(gamma) / (f64::from(running_var) + eps).sqrt();
    for (&y, &x) in y.iter().zip(&x) {
        close(y, scale * f64::from(x) + (f64::from(beta) - scale * f64::from(running_mean)));
    }

    // With gamma at 0 every number is beta; the mean that comes in does not matter.
    lesson.states("every number is \\( \\beta \\)");
    teacher.states("all of them are \\( \\beta \\)");
    for offset in [0.0f32, 40.0] {
        let moved: Vec<f32> = x.iter().map(|x| x + offset).collect();
        let inputs = |gamma: f32| {
            let mean = (mean + f64::from(offset)) as f32;
            vec![moved.clone(), vec![mean], found[1].clone(), vec![gamma], vec![beta]]
        };
        let params = json!({ "n": 1, "c": 1, "pixels": x.len() });
        let of = |gamma| {
            twin("batch_norm_normalize", params.clone(), inputs(gamma), &[x.len()]).arrays.swap_remove(0)
        };
        assert!(of(0.0).iter().all(|&y| y == beta));
        let spread = of(gamma);
        let centre = spread.iter().map(|&y| f64::from(y)).sum::<f64>() / count;
        let variance = spread.iter().map(|&y| (f64::from(y) - centre).powi(2)).sum::<f64>() / count;
        teacher.states("the mean there is \\( \\beta \\) and the deviation the size of \\( \\gamma \\)");
        close(centre as f32, f64::from(beta));
        close(variance.sqrt() as f32, f64::from(gamma));
    }
}

const PLANE: &str =
    r#"{ "points": 12, "clusters": 3, "seed": 1, "kmeans": true, "momentum": 0.9, "nesterov": false }"#;

fn plane(school: &mut School, momentum: f64, nesterov: bool, changes: Value) -> Value {
    let mut start: Value = serde_json::from_str(PLANE).expect("JSON");
    start["momentum"] = json!(momentum);
    start["nesterov"] = json!(nesterov);
    value(school, "plane.reset", start);
    let mut step = json!({ "lr": 0.05, "momentum": momentum, "strength": 0.3, "decay": 0.0, "curvature": 1.0, "steps": 1 });
    for (name, change) in changes.as_object().into_iter().flatten() {
        step[name.as_str()] = change.clone();
    }
    value(school, "plane.step", step)
}

#[test]
fn differences_shrink_as_forecast_and_as_the_formula_says() {
    let (school, lesson) = (&mut school(), Lesson::open("05-sgd"));
    lesson.states("measured and forecast lie on each other");
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let found = plane(school, momentum, nesterov, json!({ "strength": 0.04, "steps": 100 }));
        near(&found["measured"], number(&found["forecast"]), 0.01);
    }
    lesson.states("the measured curve dips at every crossing");
    let found = plane(school, 0.9, false, json!({ "strength": 0.3, "steps": 150 }));
    let history: Vec<(u64, f64, f64)> = serde_json::from_value(found["history"].clone()).expect("a list");
    assert!(history.iter().all(|(_, measured, forecast)| *measured <= forecast + 0.01));
    assert!(history.iter().any(|(_, measured, forecast)| *measured < forecast - 0.5));
    // d <- (1 - tau (eps + eta)) d, without momentum.
    let found = plane(school, 0.0, false, json!({ "strength": 0.5, "decay": 0.1, "lr": 0.2, "steps": 10 }));
    near(&found["measured"], 10.0 * (1.0 - 0.2 * 0.6f64).ln(), 1e-3);
    // With momentum about the sum of rates times (eps + eta) / (1 - mu).
    let found = plane(school, 0.9, false, json!({ "strength": 0.05, "lr": 0.01, "steps": 400 }));
    near(&found["measured"], -400.0 * 0.01 * 0.05 / 0.1, 0.2);
    lesson.states("the factor is \\( 1 - 0.5 \\cdot 2 = 0 \\), and one step is enough");
    let found = plane(school, 0.0, false, json!({ "strength": 2.0, "lr": 0.5 }));
    assert!(number(&found["measured"]) < -14.0, "{}", found["measured"]);
    lesson.states("Averaging alone is not enough");
    let found = plane(school, 0.9, false, json!({ "strength": 0.0, "steps": 200 }));
    near(&found["measured"], 0.0, 1e-4);
    lesson.states("it stops falling");
    let found = plane(school, 0.9, false, json!({ "steps": 600 }));
    assert!((-22.0..-14.0).contains(&number(&found["measured"])), "{}", found["measured"]);
    lesson.states("At 0.3 the points overshoot and swing, and still arrive sooner");
    assert!(swings(school, 0.9, false, 0.05, 0.3, 0.0) && !swings(school, 0.9, false, 0.05, 0.05, 0.0));
    assert!(nats(school, 0.9, false, 0.05, 0.3, 400) > nats(school, 0.9, false, 0.05, 0.05, 400));
    lesson.states("two steps are enough here");
    let found = plane(school, 0.9, true, json!({ "strength": 2.0, "lr": 0.5, "steps": 2 }));
    assert!(number(&found["measured"]) < -14.0, "{}", found["measured"]);
    lesson.states("18 nats");
    assert_eq!(AUTO_TARGET, 18.0);
    lesson.states("one unit in the last digit");
    assert!(((-16.0f64).exp() / f64::from(f32::EPSILON) - 1.0).abs() < 0.1);
    let enough = value(
        school,
        "plane.forecast",
        json!({ "lr": 0.05, "momentum": 0.9, "strength": 0.3, "decay": 0.0, "steps": 400, "nesterov": false }),
    );
    let needed = number(&enough["needed"]);
    let met = value(
        school,
        "plane.forecast",
        json!({ "lr": 0.05, "momentum": 0.9, "strength": needed, "decay": 0.0, "steps": 400, "nesterov": false }),
    );
    assert!(number(&met["logShrink"]) <= -18.0, "{met}");
}

/// Whether two filters of a cluster pass each other on their way, by `csgd_step` itself.
fn swings(school: &mut School, momentum: f64, nesterov: bool, lr: f64, strength: f64, decay: f64) -> bool {
    let changes = json!({ "lr": lr, "strength": strength, "decay": decay, "steps": 0 });
    let mut shown = plane(school, momentum, nesterov, changes);
    let labels: Vec<usize> = serde_json::from_value(shown["labels"].clone()).expect("labels");
    let other = (1..labels.len()).find(|&i| labels[i] == labels[0]).expect("a cluster of two");
    let apart = |shown: &Value| number(&shown["points"][0][0]) - number(&shown["points"][other][0]);
    let before = apart(&shown);
    let step = json!({ "lr": lr, "momentum": momentum, "strength": strength, "decay": decay, "curvature": 1.0, "steps": 1 });
    // Ten nats from the start rounding has no say yet.
    while number(&shown["measured"]) > -10.0 {
        assert!(number(&shown["step"]) < 2000.0, "{shown}");
        shown = value(school, "plane.step", step.clone());
        if apart(&shown) * before < 0.0 {
            return true;
        }
    }
    false
}

/// How many nats nearer `steps` steps bring the filters of a cluster, by the forecast.
fn nats(school: &mut School, momentum: f64, nesterov: bool, lr: f64, strength: f64, steps: u64) -> f64 {
    let run = json!({ "lr": lr, "momentum": momentum, "strength": strength, "decay": 0.0, "steps": steps, "nesterov": nesterov });
    -number(&value(school, "plane.forecast", run)["logShrink"])
}

#[test]
fn a_constant_gradient_adds_up_to_ten_times_itself() {
    Lesson::open("05-sgd")
        .states(r"adds up to ten times itself, since \( 1 + 0.9 + 0.81 + \ldots = 1 / (1 - 0.9) \)");
    let params = json!({ "len": 1, "lr": 0.1, "momentum": 0.9 });
    let (mut parameter, mut velocity) = (vec![0.0], vec![0.0]);
    for _ in 0..400 {
        let arrays = vec![vec![1.0], vec![0.0; 5], parameter, velocity];
        let found = twin("sgd_step", params.clone(), arrays, &[1, 1]).arrays;
        (parameter, velocity) = (found[0].clone(), found[1].clone());
    }
    assert!((velocity[0] - 10.0).abs() < 1e-3, "{velocity:?}");
}

#[test]
fn differences_oscillate_past_the_threshold_and_then_shrink_no_faster() {
    let (school, lesson) = (&mut school(), Lesson::open("05-sgd"));
    lesson.states(
        r"with plain momentum and a constant rate, once the rate times strength plus weight decay, \( \tau (\epsilon + \eta) \), is past \( (1 - \sqrt{\mu})^2 \), differences oscillate",
    );
    for momentum in [0.5, 0.9f64] {
        let threshold = (1.0 - momentum.sqrt()).powi(2);
        for (lr, decay) in [(0.05, 0.0), (0.05, 0.01), (0.5, 0.002)] {
            for part in [0.8, 0.9, 0.95, 1.3, 2.0, 5.0, 20.0] {
                let strength = part * threshold / lr - decay;
                let swinging = swings(school, momentum, false, lr, strength, decay);
                assert_eq!(
                    swinging,
                    part > 1.0,
                    "momentum {momentum}, rate {lr}, decay {decay}, {part} of the threshold"
                );
            }
        }
    }
    lesson.states("no strength makes them lose more than");
    lesson.states("It looks ahead, and that bound is not its own");
    const STEPS: u64 = 4000;
    for momentum in [0.5, 0.9, 0.95f64] {
        let (threshold, most) = ((1.0 - momentum.sqrt()).powi(2), -momentum.ln() / 2.0);
        let limit = 2.0 * (1.0 + momentum);
        let rate = |school: &mut School, nesterov, pull| {
            nats(school, momentum, nesterov, 1.0, pull, STEPS) / STEPS as f64
        };
        for i in 1..20 {
            let weaker = f64::from(i) / 20.0;
            let found = rate(school, false, weaker * threshold);
            assert!(found < most, "momentum {momentum}, {weaker} of the threshold: {found}");
            let found = rate(school, false, threshold * (limit / threshold).powf(weaker));
            assert!(
                (found - most).abs() < 2e-3,
                "momentum {momentum}, {weaker} of the way to the limit: {found}, not {most}"
            );
        }
        let nesterov = (1..60).map(|i| rate(school, true, f64::from(i) / 60.0)).fold(0.0, f64::max);
        assert!(nesterov > 2.0 * most, "momentum {momentum}: {nesterov}");
    }
    lesson.states(&format!("\\( -\\ln(\\mu) / 2 \\), {:.3} nats", -0.9f64.ln() / 2.0));
    // Between the two thresholds plain momentum swings and Nesterov's does not.
    let pull = ((1.0 - 0.5f64.sqrt()).powi(2) + (0.5f64 / 1.5).powi(2)) / 2.0;
    assert!(
        swings(school, 0.5, false, 0.5, pull / 0.5, 0.0) && !swings(school, 0.5, true, 0.5, pull / 0.5, 0.0)
    );
}

/// Differences of gamma and beta, which weight decay does not help, at the begin of a training.
fn heavy_ball(momentum: f64) -> Contraction {
    Contraction::new(momentum, Direction::HeavyBall, &Differences::of_weights(0.0))
}

#[test]
fn a_schedule_of_200_steps_is_as_short_as_the_lab_says() {
    let teacher = Lesson::open("teacher");
    let momentum = 0.9f64;
    let bound = -momentum.ln() / 2.0;
    teacher.states(&format!("with momentum 0.9 and a constant rate a step loses {bound:.3} nats at most"));
    let (in_all, enough) = (200.0 * bound, (LOSSLESS / bound).ceil());
    teacher.states(&format!("That is {in_all:.1} in 200 steps, and {LOSSLESS} in {enough}."));
    // The command of the lab: two epochs of 5,000 pictures in batches of 50, all else as by default.
    teacher.states("--epochs 2 --batch 50 --lr 0.03 --strength 0.001");
    let decay = Decay::Cosine { final_lr: 0.0 };
    let schedule = Schedule { base_lr: 0.03, total_steps: 200, warmup_steps: 0, decay };
    let begin = heavy_ball(momentum);
    let (forecast, verdict) = assess(&begin, &schedule, 0.001, LOSSLESS).expect("arguments in range");
    let Verdict::TooShort(TooShort { steps, .. }) = verdict else { panic!("{verdict:?}") };
    teacher.states(&format!(
        "shrink by e^{:.1} in 200 steps, where e^{LOSSLESS} is needed",
        -forecast.log_shrink
    ));
    // The command counts the statistics of the network's batch norms too.
    let kinds = Differences { decays: vec![0.0, 1e-4], statistics: Some(0.1) };
    let network = Contraction::new(momentum, Direction::HeavyBall, &kinds);
    let (_, verdict) = assess(&network, &schedule, 0.001, LOSSLESS).expect("arguments in range");
    let Verdict::TooShort(TooShort { steps: with_statistics, .. }) = verdict else { panic!("{verdict:?}") };
    teacher.states(&format!("--strength auto --epochs {} would do, or", with_statistics.div_ceil(100)));
    teacher.states(&format!("which lag behind, and so asks for {with_statistics} steps"));
    let refused = auto_strength(&begin, &schedule, LOSSLESS).expect_err("too short").to_string();
    let best = refused.split("reaches e^").nth(1).and_then(|rest| rest.split(['\n', ' ', ';']).next());
    let best: f64 = best
        .and_then(|best| best.trim_end_matches(['.', ',']).parse().ok())
        .unwrap_or_else(|| panic!("{refused}"));
    teacher.states(&format!(
        "reaches {best:.1} nats in 200 steps of this cosine, and {LOSSLESS} in about {steps}"
    ));
    teacher.states("varies by a nat or so");
    assert!((best - in_all).abs() < 1.0, "{best} {in_all}");
    let longer = |steps| auto_strength(&begin, &schedule.stretched(steps), LOSSLESS);
    assert!(longer(steps).is_ok() && longer(steps - 10).is_err());
}

#[test]
fn clusters_of_conv2_are_as_far_apart_as_stated() {
    let (school, lesson) = (&mut school(), Lesson::open("06-clusters"));
    lesson.states("\\( \\chi \\) is 17.2 for k-means, 22.5 for even and 22.6 for imbalanced clusters");
    for (method, chi) in [("kmeans", 17.2), ("even", 22.5), ("imbalanced", 22.6)] {
        let found = value(
            school,
            "cluster",
            json!({ "layer": "conv2", "method": method, "keep": 8, "seed": 0, "curve": true }),
        );
        near(&found["chi"], chi, 0.051);
        near(&found["curve"][15], 0.0, 0.0);
        assert_eq!(found["survivors"][0], 0);
    }
    lesson.states("saves about a quarter of the way");
    let chi = |school: &mut School, method: &str| {
        let asked = json!({ "layer": "conv2", "method": method, "keep": 8, "seed": 0, "curve": false });
        number(&value(school, "cluster", asked)["chi"])
    };
    for control in ["even", "imbalanced"] {
        let saved = 1.0 - chi(school, "kmeans") / chi(school, control);
        assert!((saved - 0.25).abs() < 0.03, "{control}: {saved}");
    }
    lesson.states("gets 86.3 % of 1,000 others right");
    let layers = value(school, "layers", json!({}));
    let whole = json!({ "group": layers[0]["group"], "keep": 8, "method": "l1" });
    near(&value(school, "sensitivity", whole)["accuracy"], 0.863, 0.002);
    // Other beginnings of k-means: about as good.
    lesson.states("hardly better and hardly worse");
    for seed in 1..6 {
        let found = value(
            school,
            "cluster",
            json!({ "layer": "conv2", "method": "kmeans", "keep": 8, "seed": seed, "curve": false }),
        );
        near(&found["chi"], 17.2, 1.0);
    }
}

#[test]
fn a_cut_is_exact_until_one_number_differs() {
    let (school, lesson) = (&mut school(), Lesson::open("07-surgery"));
    let mut cut =
        |tensor: &str, delta: f64| value(school, "surgery", json!({ "tensor": tensor, "delta": delta }));
    let exact = cut("bn1.weight", 0.0);
    assert_eq!(exact["agreement"], 1000);
    lesson.states("the logits agree to about 0.00001");
    assert!(number(&exact["maxLogitDiff"]) < 3e-5, "{exact}");
    lesson.states("from 290,080 to 88,592, by 69.5 %; the parameters from 9,122 to 4,278");
    assert_eq!((&exact["macsBefore"], &exact["macsAfter"]), (&json!(290_080), &json!(88_592)));
    assert_eq!((&exact["paramsBefore"], &exact["paramsAfter"]), (&json!(9122), &json!(4278)));
    assert!((1.0 - 88_592.0 / 290_080.0 - 0.695f64).abs() < 5e-4);
    lesson.states("85.7 % of the test pictures right");
    near(&exact["accuracyAfter"], 0.857, 0.002);
    for sum in exact["sums"].as_array().into_iter().flatten() {
        let before: f64 = sum["before"].as_array().into_iter().flatten().map(number).sum();
        near(&sum["after"], before, 1e-6);
    }
    lesson.states("A difference of 0.1 in a single \\( \\gamma \\) changes 10 of 1,000 answers, in a \\( \\beta \\) 15, in a mean 25, in a variance 12");
    lesson.states("0.1 on all nine weights of a filter changes 49");
    let teacher = Lesson::open("teacher");
    teacher.states("0.01, the slider’s first step, changes 11 answers of 1,000");
    teacher.states(
        "The same step changes 3 by a variance or a mean, and none by a \\( \\gamma \\) or \\( \\beta \\)",
    );
    let all = [
        ("conv1.weight", 11.0),
        ("bn1.running_var", 3.0),
        ("bn1.running_mean", 3.0),
        ("bn1.weight", 0.0),
        ("bn1.bias", 0.0),
    ];
    teacher.states("none by a \\( \\gamma \\) or \\( \\beta \\), which need 0.02");
    let mut changes =
        |tensor: &str, delta: f64| 1000 - cut(tensor, delta)["agreement"].as_u64().expect("a count");
    let first = all.map(|(tensor, stated)| {
        let found = changes(tensor, 0.01);
        near(&json!(found), stated, if stated == 0.0 { 0.0 } else { 1.0 });
        found
    });
    let block = String::from_utf8(read("web/lessons/blocks/surgery.ts")).expect("UTF-8");
    assert!(block.contains("{ least: 0, most: 0.5, step: 0.01, start: 0 }"), "the slider's steps");
    teacher.states("The filter is the most delicate");
    assert!(first[1..3].iter().all(|&found| first[0] > found && found > 0), "{first:?}");
    for tensor in ["bn1.weight", "bn1.bias"] {
        assert!(changes(tensor, 0.02) > 0, "{tensor}");
    }
    let larger = [
        ("conv1.weight", 49.0),
        ("bn1.running_mean", 25.0),
        ("bn1.bias", 15.0),
        ("bn1.running_var", 12.0),
        ("bn1.weight", 10.0),
    ]
    .map(|(tensor, stated)| {
        let found = changes(tensor, 0.1);
        near(&json!(found), stated, 1.0);
        found
    });
    // As the text has them in order, from the most to the least.
    assert!(larger.is_sorted_by(|more, less| more > less), "{larger:?}");
}

#[test]
fn channels_are_tied_as_the_text_says() {
    let (school, lesson) = (&mut school(), Lesson::open("08-couplings"));
    let mut group_of = |model: &str, node: &str| -> Value {
        let found = value(school, "couplings", json!({ "model": model }));
        let nodes = found["nodes"].as_array().expect("a list");
        let node = nodes.iter().find(|entry| entry["name"] == node).expect("the layer");
        found["groups"][node["groups"][0].as_u64().expect("a number") as usize].clone()
    };
    let count = |group: &Value| group["members"].as_array().expect("a list").len();
    lesson.states("through all of stage 1. Take <code>layer1.0.conv1</code>: three layers");
    let stage = group_of("resnet20", "conv1");
    assert!(
        stage["members"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|name| !name.as_str().expect("a name").starts_with("layer2"))
    );
    assert!(stage["followers"].as_array().expect("a list").contains(&json!("layer1.2.conv2")), "{stage}");
    assert_eq!(count(&group_of("resnet20", "layer1.0.conv1")), 3);
    assert!(group_of("resnet20", "linear")["frozen"].is_string());
    lesson.states("they run through all three stages");
    let run = group_of("resnet20 a", "conv1");
    for stage in ["layer1.", "layer2.", "layer3."] {
        assert!(
            run["members"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|name| name.as_str().expect("a name").starts_with(stage)),
            "{run}"
        );
    }
    lesson.states("each channel becomes 49 numbers");
    let lenet = models::build("lenet", &ModelConfig::new(Shape::new(1, 28, 28), 10)).expect("builds");
    let pooled = lenet.shapes().expect("shapes")[lenet.find("pool2").expect("a layer")];
    assert_eq!(pooled.h * pooled.w, 49);
    let school = &mut self::school();
    for node in ["conv1", "layer1.0.conv1", "layer2.0.conv2"] {
        let alone = value(school, "cut-alone", json!({ "model": "resnet20", "node": node }));
        assert_eq!(alone["done"], false, "{node}");
    }
    let input = value(school, "cut-alone", json!({ "model": "lenet", "node": "input" }));
    assert!(input["why"].as_str().is_some_and(|why| why.contains("one channel")), "{input}");
    lesson.states("All shapes fit, and no program complains");
    lesson.states("Equal numbers of different channels are not, and the answers are wrong");
    for (model, node) in
        [("resnet20", "layer1.0.conv2"), ("resnet20", "conv1"), ("resnet20 a", "layer2.0.conv2")]
    {
        let found = value(school, "cut-apart", json!({ "model": model, "node": node }));
        assert_eq!(found["done"], true, "{found}");
        let (together, apart) = (&found["together"], &found["apart"]);
        assert_eq!(together["width"], apart["width"]);
        assert_ne!(together["clusters"], apart["clusters"]);
        assert_eq!(together["agreement"], together["samples"]);
        assert!(number(&together["relative"]) < 1e-5, "{found}");
        assert!(number(&apart["relative"]) > 0.1 && apart["agreement"] != apart["samples"], "{found}");
    }
    for (node, why) in
        [("layer1.0.conv1", "no other layer"), ("layer1.0.bn1", "no channels of its own"), ("linear", "stay")]
    {
        let found = value(school, "cut-apart", json!({ "model": "resnet20", "node": node }));
        assert!(
            found["done"] == false && found["why"].as_str().is_some_and(|text| text.contains(why)),
            "{found}"
        );
    }
    let together = value(school, "cut-together", json!({ "model": "resnet20", "group": 1 }));
    assert_eq!(together["done"], true);
    assert!(number(&together["macsAfter"]) < number(&together["macsBefore"]));
    assert_eq!(value(school, "cut-together", json!({ "model": "resnet20", "group": 0 }))["done"], false);
    lesson.states("is channel \\( i + 8 \\) of the second");
    lesson.states("is channel \\( i + 16 \\) of the third");
    let graph = models::build(
        "resnet20",
        &ModelConfig { shortcut: models::Shortcut::A, ..ModelConfig::new(Shape::new(3, 32, 32), 10) },
    );
    let graph = graph.expect("builds");
    let coupling = Coupling::derive(&graph, &[]).expect("derives");
    let group =
        coupling.groups.iter().find(|group| group.pacesetter == graph.find("conv1")).expect("its group");
    for (name, channels) in [("layer2.2.conv2", 8..24), ("layer3.2.conv2", 24..40)] {
        let node = graph.find(name).expect("a layer");
        let member = group.members.iter().find(|member| member.node == node).expect("it is tied");
        assert_eq!(member.channels, channels.collect::<Vec<_>>());
    }
}

#[test]
fn zeroing_and_identity_end_as_the_table_says() {
    let (school, lesson) = (&mut school(), Lesson::open("09-zero-or-identical"));
    lesson.states("from 24 to below \\( 10^{-12} \\); what lasso leaves falls from 24 to about 9");
    lesson.states("The zeroed one loses more than 20 points");
    lesson.states("The strong one is more than 3 points worse before anything is cut");
    Lesson::open("teacher")
        .states("A lasso of 0.32 is still too weak: the cut costs far more than 10 points");
    for strength in [0.05, 0.32, 1.0] {
        let start = value(
            school,
            "duel.start",
            json!({ "steps": 400, "lr": 0.03, "lasso": strength, "keep": "1/2" }),
        );
        near(&start["history"][0]["chi"], 24.0, 0.5);
        near(&start["history"][0]["residue"], 24.0, 0.5);
        let end = value(school, "duel.step", json!({ "steps": 400 }));
        let last = end["history"].as_array().expect("a list").last().expect("an entry").clone();
        assert!(number(&last["chi"]) < 1e-12, "{last}");
        let cut = value(school, "duel.cut", json!({}));
        let (identity, zero) = (&cut["identity"], &cut["zero"]);
        assert_eq!(identity["agreement"], 1000);
        assert_eq!(identity["before"], identity["after"]);
        assert!(number(&zero["agreement"]) < 1000.0, "{cut}");
        if strength == 0.05 {
            near(&last["residue"], 9.0, 0.5);
            assert!(number(&zero["before"]) > 0.8, "{cut}");
            assert!(number(&zero["before"]) - number(&zero["after"]) > 0.2, "{cut}");
        } else if strength == 0.32 {
            assert!(number(&zero["before"]) - number(&zero["after"]) > 0.1, "{cut}");
        } else {
            assert!(number(&identity["before"]) - number(&zero["before"]) > 0.03, "{cut}");
            assert!(number(&zero["before"]) - number(&zero["after"]) < 0.1, "{cut}");
        }
    }
}

#[test]
fn merging_what_still_differs_is_worse_than_deleting() {
    let (school, lesson) = (&mut school(), Lesson::open("10-how-far"));
    lesson.states("With 7 of 8 filters of <code>conv1</code>, deleting the smallest keeps 85.9 %, merging the two nearest 72.0 %");
    let layers = value(school, "layers", json!({}));
    for (method, accuracy) in [("l1", 0.859), ("merge", 0.72)] {
        let found =
            value(school, "sensitivity", json!({ "group": layers[0]["group"], "keep": 7, "method": method }));
        near(&found["accuracy"], accuracy, 0.003);
    }
    let teacher = Lesson::open("teacher");
    teacher.states("with half of them deleted, and nothing trained, 86.7 % are still right; with half of <code>conv1</code> 63.2 %");
    for (layer, accuracy) in [(&layers[1], 0.867), (&layers[0], 0.632)] {
        let half =
            json!({ "group": layer["group"], "keep": number(&layer["width"]) as u64 / 2, "method": "l1" });
        near(&value(school, "sensitivity", half)["accuracy"], accuracy, 0.003);
    }
    lesson.states("at 1/2 has 69.5 % fewer");
    lesson.states("3.3 times fewer multiply-adds");
    let half = value(school, "scale", json!({ "keep": "1/2", "batch": 50 }));
    near(&json!(number(&half["macsBefore"]) / number(&half["macsAfter"])), 3.3, 0.05);
    assert!(number(&half["msAfter"]) > 0.0 && number(&half["msBefore"]) > 0.0, "{half}");
    lesson.states(&format!("With \\( r = 5/8 \\) that is {:.0} %", 100.0 * (5.0 / 8.0f64).powi(2)));
    lesson.states("ResNet-56 with all layers at 5/8 has 60.9 % fewer multiply-adds");
    let graph = models::build("resnet56", &ModelConfig::new(Shape::new(3, 32, 32), 10)).expect("builds");
    let model = Model::random(graph, 0);
    let coupling = Coupling::derive(&model.graph, &[]).expect("derives");
    let part = |numerator: u64, denominator: u64| {
        let plan = ClusterPlan {
            widths: WidthRule::All(Ratio::new(numerator, denominator).expect("a part")),
            rounding: Rounding::Floor,
            round_to: 1,
            clustering: Clustering::Even,
            pace: Pace::Pacesetter,
            frozen: Vec::new(),
            seed: 0,
        };
        let clusters = Clusters::find(&model, &coupling, &plan).expect("clusters");
        let slim = surgery::cut(&model, &clusters).expect("cuts");
        slim.graph.macs().expect("counts") as f64 / model.graph.macs().expect("counts") as f64
    };
    assert!((1.0 - part(5, 8) - 0.609).abs() < 5e-4, "{}", part(5, 8));
    lesson.states(r"\[ \text{MACs} \approx r^2 \cdot \text{MACs}_{\text{before}} \]");
    for eighths in 1..8 {
        let r = eighths as f64 / 8.0;
        // The first layer has the picture's channels before it: it shrinks by r alone.
        assert!((r * r..r * r + 0.01).contains(&part(eighths, 8)), "{r}: {}", part(eighths, 8));
    }
    lesson.states("near to the \\( 1 - 1/4 \\) of the formula; the first layer holds it back");
    let lenet = models::build("lenet", &ModelConfig::new(Shape::new(1, 28, 28), 10)).expect("builds");
    let shapes = lenet.shapes().expect("shapes");
    let macs_of = |name: &str| {
        let id = lenet.find(name).expect("a layer");
        let inputs: Vec<Shape> = lenet.nodes[id].inputs.iter().map(|&input| shapes[input]).collect();
        lenet.nodes[id].op.operator().macs(&inputs, shapes[id])
    };
    // Halved once in the first layer and in the last, twice in the one between.
    let halved = macs_of("conv1") / 2 + macs_of("conv2") / 4 + macs_of("fc") / 2;
    assert_eq!(half["macsAfter"], halved);
    Lesson::open("teacher").states(&format!(
        "16 filters · 8 channels · 9 taps · 14 · 14 pixels = {}.",
        grouped(macs_of("conv2"))
    ));
    lesson.states("does the work of 8 for 5");
    lesson.states("5 filters take one tile, as 8 do, and 10 take two, as 16 do");
    let tiles = |filters: usize| {
        let (params, y) = conv_params(&Conv2d::same(2, filters, 3), 1, Shape::new(2, 8, 8));
        let arrays = vec![vec![1.0; 2 * 64], vec![1.0; filters * 18], Vec::new()];
        let found = twin("conv2d_forward", params, arrays, &[y.c * 64]).value;
        number(&found["workgroups"]["conv2d_forward"])
    };
    assert_eq!([5, 8, 10, 16].map(tiles), [1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn calls_that_cannot_be_are_answered_with_a_sentence() {
    let school = &mut school();
    for (name, arguments) in [
        ("nothing", json!({})),
        ("kernel", json!({ "kernel": "nothing" })),
        ("twin", json!({ "kernel": "relu_forward", "params": {}, "writes": [] })),
        ("judge", json!({ "kernel": "relu_forward", "case": 999 })),
        ("cluster", json!({ "layer": "conv2", "method": "kmeans", "keep": 99, "seed": 0, "curve": false })),
        ("surgery", json!({ "tensor": "nothing", "delta": 0 })),
        ("plane.step", json!({})),
        ("duel.cut", json!({})),
        ("couplings", json!({ "model": "nothing" })),
    ] {
        let error = call(school, name, &arguments, Vec::new()).expect_err(name).to_string();
        assert!(error.contains("expected") && error.contains("found"), "{error}");
    }
}

#[test]
fn the_judge_finds_the_first_number_that_differs() {
    let school = &mut school();
    let cases = call(school, "cases", &json!({ "kernel": "conv2d_forward" }), Vec::new()).expect("cases");
    let first = &cases.value[0];
    let at = number(&first["inputs"]) as usize;
    let inputs = cases.arrays[..at].to_vec();
    let words: Vec<u32> = serde_json::from_value(first["words"].clone()).expect("words");
    let table = value(school, "kernel", json!({ "kernel": "conv2d_forward" }));
    let params: serde_json::Map<String, Value> = table["fields"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(words)
        .map(|(field, word)| (field["name"].as_str().expect("a name").to_owned(), json!(word)))
        .collect();
    let len = cases.arrays[at].len();
    let arguments = json!({ "kernel": "conv2d_forward", "params": params, "writes": [len] });
    let mut outputs = call(school, "twin", &arguments, inputs).expect("the twin").arrays;
    let judge = |school: &mut School, outputs: &[Vec<f32>]| {
        let arguments = json!({ "kernel": "conv2d_forward", "case": 0 });
        call(school, "judge", &arguments, outputs.to_vec()).expect("a judgement").value
    };
    assert_eq!(judge(school, &outputs)["passed"], true);
    outputs[0][5] += 1.0;
    let judged = judge(school, &outputs);
    assert_eq!((&judged["passed"], &judged["first"]["index"]), (&json!(false), &json!(5)), "{judged}");
    assert!(
        judged["first"]["place"].as_str().is_some_and(|place| place.starts_with("n 0, k 0, p ")),
        "{judged}"
    );
    outputs[0][2] = f32::NAN;
    assert_eq!(judge(school, &outputs)["first"]["index"], 2);
}
