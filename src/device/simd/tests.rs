//! Every kernel against plain loops in f64, over a table of shapes.

use super::tile::{LEVEL, Level};
use super::*;

/// Reproducible values in [-1, 1).
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn check(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let error: f64 = got.iter().zip(expected).map(|(&got, want)| (f64::from(got) - want).powi(2)).sum();
    let power: f64 = expected.iter().map(|want| want * want).sum();
    let level = LEVEL.get();
    assert!(error <= 1e-12 * power + 1e-30, "{what}, {level:?}: NMSE {} of {power}", error / power);
}

/// Runs `check` with the best instruction set, with AVX2 where there is one, and without any.
fn at_every_level(check: impl Fn() + Sync) {
    for level in [Level::Best, Level::Avx2, Level::Scalar] {
        // Threads of their own, all held to the level.
        #[cfg(feature = "native")]
        rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .start_handler(move |_| LEVEL.set(level))
            .build()
            .expect("a thread pool")
            .install(&check);
        #[cfg(not(feature = "native"))]
        {
            LEVEL.set(level);
            check();
            LEVEL.set(Level::Best);
        }
    }
}

/// Calls `visit(x, weight, y)` with the indices of every multiply-add of a convolution.
fn visit_products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape { n, c, h, w, k, r, s, p, q, stride, padding, dilation, groups } = *shape;
    for image in 0..n {
        for filter in 0..k {
            for (row, col) in (0..p).flat_map(|row| (0..q).map(move |col| (row, col))) {
                let y = ((image * k + filter) * p + row) * q + col;
                for channel in 0..c / groups {
                    for (i, j) in (0..r).flat_map(|i| (0..s).map(move |j| (i, j))) {
                        let above = row * stride[0] + i * dilation[0];
                        let before = col * stride[1] + j * dilation[1];
                        let inside = above >= padding[0] && above - padding[0] < h;
                        if !inside || before < padding[1] || before - padding[1] >= w {
                            continue;
                        }
                        let plane = image * c + filter / (k / groups) * (c / groups) + channel;
                        let x = (plane * h + above - padding[0]) * w + before - padding[1];
                        visit(x, ((filter * (c / groups) + channel) * r + i) * s + j, y);
                    }
                }
            }
        }
    }
}

fn conv_shapes() -> Vec<ConvShape> {
    let shape = |n, [c, h, w]: [usize; 3], [k, r, s]: [usize; 3], stride, padding: usize| ConvShape {
        n,
        c,
        h,
        w,
        k,
        r,
        s,
        p: (h + 2 * padding - r) / stride + 1,
        q: (w + 2 * padding - s) / stride + 1,
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let mut shapes = Vec::new();
    for (c, k) in [(3, 16), (1, 1), (10, 20), (16, 5), (7, 7), (9, 30)] {
        for size in [32, 16, 8, 7, 14, 4, 2, 1] {
            shapes.push(shape(3, [c, size, size], [k, 3, 3], 1, 1));
            shapes.push(shape(2, [c, size, size], [k, 3, 3], 2, 1));
            shapes.push(shape(2, [c, size, size], [k, 1, 1], 1, 0));
            shapes.push(shape(5, [c, size, size], [k, 1, 1], 2, 0));
        }
    }
    let base = shape(2, [6, 13, 11], [8, 3, 3], 1, 1);
    // Filters that fill vectors of 16, an odd number of them too.
    let many = shape(19, [9, 13, 11], [47, 3, 3], 1, 1);
    shapes.extend([
        shape(1, [130, 5, 5], [9, 3, 3], 1, 1),
        shape(2, [3, 30, 26], [8, 7, 7], 2, 3),
        shape(2, [2, 12, 10], [4, 5, 3], 3, 1),
        shape(1, [2, 9, 9], [3, 2, 2], 3, 0),
        shape(1, [4, 6, 6], [4, 1, 1], 1, 2),
        shape(9, [16, 8, 8], [32, 3, 3], 1, 1),
        shape(40, [5, 8, 8], [6, 3, 3], 1, 1),
        many,
        ConvShape { k: 16, stride: [3, 2], padding: [0, 2], p: 4, q: 7, ..many },
        ConvShape { k: 62, dilation: [2, 1], padding: [2, 1], ..many },
        // As wide out as in the copy, but not where it is.
        ConvShape { p: 13, q: 9, ..base },
        // Padding above and left differs from below and right, and rows from columns.
        ConvShape { padding: [0, 2], p: 12, q: 12, ..base },
        ConvShape { padding: [2, 0], p: 13, q: 11, ..base },
        ConvShape { padding: [0, 0], p: 16, q: 14, ..base },
        ConvShape { stride: [2, 1], p: 7, q: 11, ..base },
        ConvShape { stride: [1, 3], p: 13, q: 4, ..base },
        ConvShape { stride: [2, 2], padding: [0, 0], p: 7, q: 6, ..base },
        ConvShape { dilation: [2, 3], padding: [2, 3], ..base },
        ConvShape { dilation: [2, 2], stride: [2, 2], padding: [2, 2], p: 7, q: 6, ..base },
        ConvShape { dilation: [3, 2], stride: [2, 3], padding: [1, 4], p: 5, q: 5, ..base },
        ConvShape { groups: 2, ..base },
        ConvShape { groups: 2, stride: [2, 2], p: 7, q: 6, ..base },
        ConvShape { groups: 6, k: 6, ..base },
        ConvShape { groups: 6, k: 12, stride: [2, 2], p: 7, q: 6, ..base },
    ]);
    shapes
}

#[test]
fn convolutions_match_plain_loops() {
    at_every_level(check_convolutions_match_plain_loops);
}

fn check_convolutions_match_plain_loops() {
    for shape in conv_shapes() {
        let x = noise(shape.n * shape.c * shape.h * shape.w, 1);
        let weight = noise(shape.k * shape.taps(), 2);
        let bias = noise(shape.k, 3);
        let dy = noise(shape.n * shape.k * shape.p * shape.q, 4);

        let area = shape.p * shape.q;
        let mut y: Vec<f64> = (0..dy.len()).map(|i| f64::from(bias[i / area % shape.k])).collect();
        let mut dx = vec![0.0; x.len()];
        let mut dweight = vec![0.0; weight.len()];
        visit_products(&shape, |ix, iw, iy| {
            y[iy] += f64::from(x[ix]) * f64::from(weight[iw]);
            dx[ix] += f64::from(dy[iy]) * f64::from(weight[iw]);
            dweight[iw] += f64::from(dy[iy]) * f64::from(x[ix]);
        });
        let mut dbias = vec![0.0; shape.k];
        dy.iter().enumerate().for_each(|(i, &dy)| dbias[i / area % shape.k] += f64::from(dy));

        let mut got = vec![f32::NAN; y.len()];
        conv2d_forward(&shape, &x, &weight, Some(&bias), &mut got);
        check(&format!("forward of {shape:?}"), &got, &y);

        let mut got = vec![f32::NAN; x.len()];
        conv2d_input_gradient(&shape, &dy, &weight, &mut got, Accumulate::Write);
        check(&format!("input gradient of {shape:?}"), &got, &dx);
        conv2d_input_gradient(&shape, &dy, &weight, &mut got, Accumulate::Add);
        let twice: Vec<f64> = dx.iter().map(|dx| 2.0 * dx).collect();
        check(&format!("added input gradient of {shape:?}"), &got, &twice);

        let mut got = vec![f32::NAN; weight.len()];
        conv2d_weight_gradient(&shape, &x, &dy, &mut got);
        // A single sum may nearly cancel, and one lane then rounds more than the bound, which is relative to it.
        if weight.len() == 1 && LEVEL.get() == Level::Scalar {
            continue;
        }
        check(&format!("weight gradient of {shape:?}"), &got, &dweight);

        let mut got = vec![f32::NAN; shape.k];
        conv2d_bias_gradient(&shape, &dy, &mut got);
        check(&format!("bias gradient of {shape:?}"), &got, &dbias);
    }
}

#[cfg(feature = "native")]
#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| {
            let mut bits = Vec::new();
            for shape in conv_shapes() {
                let x = noise(shape.n * shape.c * shape.h * shape.w, 1);
                let mut weight = noise(shape.k * shape.taps(), 2);
                let mut y = vec![0.0; shape.n * shape.k * shape.p * shape.q];
                let mut dx = vec![0.0; x.len()];
                conv2d_forward(&shape, &x, &weight, None, &mut y);
                conv2d_input_gradient(&shape, &y, &weight, &mut dx, Accumulate::Write);
                conv2d_weight_gradient(&shape, &x, &y, &mut weight);
                bits.extend([y, dx, weight].concat().iter().map(|x| x.to_bits()));
            }
            let (mut mean, mut variance) = (vec![0.0; 3], vec![0.0; 3]);
            channel_moments(5, 3, 777, &noise(5 * 3 * 777, 5), &mut mean, &mut variance);
            let mut product = vec![0.0; 70 * 90];
            linear_forward([70, 300, 90], &noise(70 * 300, 6), &noise(90 * 300, 7), None, &mut product);
            bits.extend([mean, variance, product].concat().iter().map(|x| x.to_bits()));
            bits
        })
    };
    let one = with(1);
    assert!(one == with(2) && one == with(7));
}

#[test]
fn linear_layers_match_plain_loops() {
    at_every_level(check_linear_layers_match_plain_loops);
}

fn check_linear_layers_match_plain_loops() {
    for sizes in [[1, 1, 1], [2, 3, 5], [32, 64, 10], [7, 300, 25], [67, 31, 49], [5, 600, 8], [130, 257, 33]]
    {
        let [n, c, k] = sizes;
        let (x, weight, bias, dy) = (noise(n * c, 1), noise(k * c, 2), noise(k, 3), noise(n * k, 4));
        let mut y: Vec<f64> = (0..n * k).map(|i| f64::from(bias[i % k])).collect();
        let mut dx = vec![0.0; n * c];
        let mut dweight = vec![0.0; k * c];
        for (i, j, t) in (0..n).flat_map(|i| (0..k).flat_map(move |j| (0..c).map(move |t| (i, j, t)))) {
            y[i * k + j] += f64::from(x[i * c + t]) * f64::from(weight[j * c + t]);
            dx[i * c + t] += f64::from(dy[i * k + j]) * f64::from(weight[j * c + t]);
            dweight[j * c + t] += f64::from(dy[i * k + j]) * f64::from(x[i * c + t]);
        }
        let mut got = vec![f32::NAN; n * k];
        linear_forward(sizes, &x, &weight, Some(&bias), &mut got);
        check(&format!("linear forward {sizes:?}"), &got, &y);
        let mut got = vec![f32::NAN; n * c];
        linear_input_gradient(sizes, &dy, &weight, &mut got, Accumulate::Write);
        check(&format!("linear input gradient {sizes:?}"), &got, &dx);
        linear_input_gradient(sizes, &dy, &weight, &mut got, Accumulate::Add);
        let twice: Vec<f64> = dx.iter().map(|dx| 2.0 * dx).collect();
        check(&format!("added linear input gradient {sizes:?}"), &got, &twice);
        let mut got = vec![f32::NAN; k * c];
        linear_weight_gradient(sizes, &x, &dy, &mut got);
        check(&format!("linear weight gradient {sizes:?}"), &got, &dweight);
    }
}

#[test]
fn moments_survive_a_large_offset() {
    at_every_level(check_moments_survive_a_large_offset);
}

fn check_moments_survive_a_large_offset() {
    let (n, c, hw) = (4, 3, 1030);
    let x: Vec<f32> = noise(n * c * hw, 9).iter().map(|x| 1e3 + x * 1e-1).collect();
    let (mut mean, mut variance) = (vec![f32::NAN; c], vec![f32::NAN; c]);
    channel_moments(n, c, hw, &x, &mut mean, &mut variance);
    let values = |channel: usize| {
        let x = &x;
        (0..n).flat_map(move |n| x[(n * c + channel) * hw..][..hw].iter().map(|&x| f64::from(x)))
    };
    let count = (n * hw) as f64;
    let means: Vec<f64> = (0..c).map(|channel| values(channel).sum::<f64>() / count).collect();
    let variances: Vec<f64> = (0..c)
        .map(|channel| values(channel).map(|x| (x - means[channel]).powi(2)).sum::<f64>() / count)
        .collect();
    check("mean", &mean, &means);
    check("variance", &variance, &variances);
}

#[test]
fn batch_norm_matches_its_formula() {
    at_every_level(check_batch_norm_matches_its_formula);
}

fn check_batch_norm_matches_its_formula() {
    for [n, c, hw] in [[2, 3, 5], [3, 1, 64], [4, 10, 1], [1, 2, 1000]] {
        let (x, dy) = (noise(n * c * hw, 1), noise(n * c * hw, 2));
        let (mean, gamma) = (noise(c, 3), noise(c, 4));
        let inverse: Vec<f32> = noise(c, 5).iter().map(|x| 1.5 + x).collect();
        let beta = noise(c, 6);
        let channel = |i: usize| i / hw % c;
        let xhat =
            |i: usize| (f64::from(x[i]) - f64::from(mean[channel(i)])) * f64::from(inverse[channel(i)]);
        let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
        for (i, &dy) in dy.iter().enumerate() {
            dgamma[channel(i)] += f64::from(dy) * xhat(i);
            dbeta[channel(i)] += f64::from(dy);
        }
        let (mut got_dgamma, mut got_dbeta) = (vec![f32::NAN; c], vec![f32::NAN; c]);
        backward_reduce(n, c, hw, &x, &dy, &mean, &inverse, &mut got_dgamma, &mut got_dbeta);
        check("dgamma", &got_dgamma, &dgamma);
        check("dbeta", &got_dbeta, &dbeta);

        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let mut got = vec![f32::NAN; x.len()];
        normalize(c, hw, &x, &mean, &scale, &beta, &mut got);
        let y: Vec<f64> = (0..x.len())
            .map(|i| f64::from(gamma[channel(i)]) * xhat(i) + f64::from(beta[channel(i)]))
            .collect();
        check("normalize", &got, &y);

        let count = n * hw;
        let dx: Vec<f64> = (0..x.len())
            .map(|i| {
                let (k, m) = (channel(i), count as f64);
                let scale = f64::from(gamma[k]) * f64::from(inverse[k]);
                scale * (f64::from(dy[i]) - dbeta[k] / m - xhat(i) * dgamma[k] / m)
            })
            .collect();
        let channels = BatchNormGradient {
            mean: &mean,
            inverse_deviation: &inverse,
            gamma: &gamma,
            dgamma: &got_dgamma,
            dbeta: &got_dbeta,
            count,
        };
        let mut got = vec![f32::NAN; x.len()];
        backward_elementwise(c, hw, &x, &dy, channels, &mut got, Accumulate::Write);
        check("batch norm dx", &got, &dx);
        backward_elementwise(c, hw, &x, &dy, channels, &mut got, Accumulate::Add);
        check("added batch norm dx", &got, &dx.iter().map(|dx| 2.0 * dx).collect::<Vec<_>>());
    }
}

#[test]
fn elementwise_kernels_do_what_they_say() {
    at_every_level(check_elementwise_kernels_do_what_they_say);
}

fn check_elementwise_kernels_do_what_they_say() {
    let (x, dy) = (noise(40_001, 1), noise(40_001, 2));
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let mut got = vec![f32::NAN; x.len()];
    relu(&x, &mut got);
    check("relu", &got, &wide(&x).iter().map(|x| x.max(0.0)).collect::<Vec<_>>());
    add(&x, &dy, &mut got);
    check("add", &got, &wide(&x).iter().zip(wide(&dy)).map(|(a, b)| a + b).collect::<Vec<_>>());
    relu_gradient(&x, &dy, &mut got, Accumulate::Write);
    let gated: Vec<f64> =
        x.iter().zip(&dy).map(|(&x, &dy)| if x > 0.0 { f64::from(dy) } else { 0.0 }).collect();
    check("relu gradient", &got, &gated);
    relu_gradient(&x, &dy, &mut got, Accumulate::Add);
    check("added relu gradient", &got, &gated.iter().map(|dx| 2.0 * dx).collect::<Vec<_>>());
}
