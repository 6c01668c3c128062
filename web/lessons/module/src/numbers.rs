//! Small sums with the library's twins: finite differences (lesson 2), the variance of numbers far from zero (lesson 4).

use crate::school::{Reply, wrong};
use centripetal::Result;
use centripetal::device::{Args, Kernel, Params};
use centripetal::ops::batch_norm2d::{BATCH_NORM_STATISTICS, BatchNormParams};
use centripetal::ops::conv2d::{CONV2D_FORWARD, CONV2D_WEIGHT_GRADIENT, Conv2dParams};
use centripetal::ops::sigmoid::{SIGMOID_BACKWARD, SIGMOID_FORWARD, SigmoidParams};
use centripetal::rng::Rng;
use serde_json::json;

fn run<P: Params>(kernel: &Kernel, params: &P, inputs: &[&[f32]], len: usize) -> Vec<f32> {
    let mut output = vec![f32::NAN; len];
    (kernel.twin)(Args::of(params, inputs, [&mut output]));
    output
}

/// Image and filter of lesson 2: 6 x 6 and 3 x 3, so that 16 pixels come out.
const CONV: Conv2dParams = Conv2dParams {
    first: 0,
    n: 1,
    c: 1,
    h: 6,
    w: 6,
    k: 1,
    r: 3,
    s: 3,
    p: 4,
    q: 4,
    stride_h: 1,
    stride_w: 1,
    pad_top: 0,
    pad_left: 0,
    dilation_h: 1,
    dilation_w: 1,
    groups: 1,
    has_bias: 0,
    accumulate: 0,
    splits: 1,
};
const OUT: usize = 16;
const SIGMOID: SigmoidParams = SigmoidParams { len: OUT as u32, accumulate: 0 };

/// What the loss says of each output: the loss is their product, summed.
fn pull() -> Vec<f32> {
    (0..OUT).map(|i| if i % 3 == 0 { 1.0 } else { -0.5 }).collect()
}

fn loss(x: &[f32], weight: &[f32]) -> f64 {
    let y = run(&CONV2D_FORWARD, &CONV, &[x, weight, &[]], OUT);
    let s = run(&SIGMOID_FORWARD, &SIGMOID, &[&y], OUT);
    s.iter().zip(pull()).map(|(s, d)| f64::from(*s) * f64::from(d)).sum()
}

/// The gradient of the nine weights by the backward twins, and by central differences of width `h`.
pub(crate) fn gradient(h: f64) -> Result<Reply> {
    if !(1e-9..=10.0).contains(&h) {
        return Err(wrong("h", &h.to_string()));
    }
    let mut rng = Rng::new(2);
    let x: Vec<f32> = (0..36).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    let weight: Vec<f32> = (0..9).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    let y = run(&CONV2D_FORWARD, &CONV, &[&x, &weight, &[]], OUT);
    let s = run(&SIGMOID_FORWARD, &SIGMOID, &[&y], OUT);
    let dy = run(&SIGMOID_BACKWARD, &SIGMOID, &[&s, &pull()], OUT);
    let backward = run(&CONV2D_WEIGHT_GRADIENT, &CONV, &[&x, &dy], 9);
    let differences = |h: f64| -> Vec<f64> {
        let moved = |i: usize, by: f64| {
            let mut weight = weight.clone();
            weight[i] = (f64::from(weight[i]) + by) as f32;
            (loss(&x, &weight), f64::from(weight[i]))
        };
        let slope = |i: usize| {
            let ((above, high), (below, low)) = (moved(i, h), moved(i, -h));
            // The step that f32 really made, not the one asked for.
            if high == low { 0.0 } else { (above - below) / (high - low) }
        };
        (0..9).map(slope).collect()
    };
    let error = |h: f64| {
        let worst = differences(h).into_iter().zip(&backward).map(|(a, b)| (a - f64::from(*b)).abs());
        worst.fold(0.0, f64::max)
    };
    let curve: Vec<(f64, f64)> =
        (-28..=4).map(|i| 10f64.powf(f64::from(i) / 4.0)).map(|h| (h, error(h))).collect();
    Ok(json!({
        "x": x, "weight": weight, "y": y, "s": s, "pull": pull(), "dy": dy, "loss": loss(&x, &weight),
        "backward": backward, "differences": differences(h), "error": error(h), "curve": curve,
    })
    .into())
}

/// Variance of `count` numbers around `mean`: by the twin of `batch_norm_statistics`, by the mean of squares less the square
/// of the mean in f32, and in f64.
pub(crate) fn variance(mean: f64, spread: f64, count: usize) -> Result<Reply> {
    if !(2..=1_000_000).contains(&count) {
        return Err(wrong("count", &count.to_string()));
    }
    let mut rng = Rng::new(4);
    let x: Vec<f32> = (0..count).map(|_| (mean + spread * f64::from(rng.normal())) as f32).collect();
    let params = BatchNormParams { n: 1, c: 1, pixels: count as u32, eps: 0.0, momentum: 1.0, accumulate: 0 };
    let (mut means, mut inv_std, mut running) = ([f32::NAN], [f32::NAN], ([0.0f32], [0.0f32]));
    let outputs: [&mut [f32]; 4] = [&mut means, &mut inv_std, &mut running.0, &mut running.1];
    (BATCH_NORM_STATISTICS.twin)(Args::of(&params, &[&x], outputs));
    let (sum, squares) = x.iter().fold((0.0f32, 0.0f32), |(sum, squares), x| (sum + x, squares + x * x));
    let one_pass = squares / count as f32 - (sum / count as f32) * (sum / count as f32);
    let exact_mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
    let exact = x.iter().map(|&x| (f64::from(x) - exact_mean).powi(2)).sum::<f64>() / count as f64;
    let twin = f64::from(inv_std[0]).powi(-2);
    let value = json!({ "mean": means[0], "twin": twin, "onePass": one_pass, "exact": exact, "unbiased": running.1[0] });
    Ok(Reply { value, arrays: vec![x] })
}
