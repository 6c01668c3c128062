//! Speed of the CPU kernels, layer by layer, beside what the machine can do at most.
//!
//! `cargo bench --bench conv [-- WORD]`; prints GFLOP/s (two a multiply-add), best of many repetitions, with
//! one thread and with all.

use std::hint::black_box;
use std::time::{Duration, Instant};

use centripetal::device::simd::{
    Accumulate, BatchNormGradient, ConvShape, add, backward_elementwise, backward_reduce, channel_moments,
    conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient, linear_forward, linear_input_gradient,
    linear_weight_gradient, normalize, relu, relu_gradient,
};
use pulp::{Arch, Simd, WithSimd};

/// Seconds of the fastest of the runs that fit into a fraction of a second.
fn best(mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut least = Duration::MAX;
    let mut runs = 0;
    while runs < 3 || begin.elapsed() < Duration::from_millis(250) {
        let start = Instant::now();
        run();
        least = least.min(start.elapsed());
        runs += 1;
    }
    least.as_secs_f64()
}

/// A register tile that touches no memory; the answer keeps the sums alive.
struct Peak;

impl Peak {
    const STEPS: usize = 1_000_000;
    const SUMS: usize = 12;
}

impl WithSimd for Peak {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let mut sums = [simd.splat_f32s(0.0); Self::SUMS];
        let (a, b) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
        for _ in 0..Self::STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(a, *sum, b);
            }
        }
        black_box(sums);
        (2 * Self::STEPS * Self::SUMS * S::F32_LANES) as f64
    }
}

/// GFLOP/s of one core at most.
fn peak() -> f64 {
    let mut flops = 0.0;
    let seconds = best(|| flops = Arch::new().dispatch(Peak));
    flops / seconds / 1e9
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool")
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 101) as f32 * 0.01 - 0.5).collect()
}

fn conv(n: usize, [c, k]: [usize; 2], size: usize, filter: usize, stride: usize) -> ConvShape {
    let padding = filter / 2;
    let out = (size + 2 * padding - filter) / stride + 1;
    ConvShape {
        n,
        c,
        h: size,
        w: size,
        k,
        r: filter,
        s: filter,
        p: out,
        q: out,
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// All kernels of a training step of ResNet-20 on 32 images, without the update and the loss: the convolutions
/// with batch normalisation and ReLU behind each, forward and backward.
struct Step {
    layers: Vec<ConvShape>,
    activation: Vec<f32>,
    weight: Vec<f32>,
    outputs: std::sync::Mutex<[Vec<f32>; 3]>,
}

impl Step {
    fn new() -> Self {
        let mut layers = vec![conv(32, [3, 16], 32, 3, 1)];
        for (stage, width) in [16, 32, 64].into_iter().enumerate() {
            let size = 32 >> stage;
            if stage > 0 {
                layers.push(conv(32, [width / 2, width], 2 * size, 3, 2));
            }
            layers.extend(vec![conv(32, [width, width], size, 3, 1); if stage > 0 { 5 } else { 6 }]);
        }
        let floats = 32 * 16 * 1024;
        Step {
            layers,
            activation: values(floats),
            weight: values(64 * 64 * 9),
            outputs: [floats, floats, 64 * 64 * 9].map(|len| vec![0.0; len]).into(),
        }
    }

    fn flops(&self) -> f64 {
        // The first layer needs no input gradient.
        let all: usize = self.layers.iter().map(|shape| 3 * shape.macs()).sum();
        2.0 * (all - self.layers[0].macs()) as f64
    }

    fn run(&self) {
        let mut outputs = self.outputs.lock().expect("no panic in another step");
        let [y, z, dweight] = &mut *outputs;
        let (mut mean, mut variance) = ([0.0; 64], [0.0; 64]);
        let scale = [0.5; 64];
        for (i, shape) in self.layers.iter().enumerate() {
            let ConvShape { n, c, h, w, k, p, q, .. } = *shape;
            let (x, weight) = (&self.activation[..n * c * h * w], &self.weight[..k * c * shape.r * shape.s]);
            let (mean, variance, scale) = (&mut mean[..k], &mut variance[..k], &scale[..k]);
            let out = n * k * p * q;
            conv2d_forward(shape, x, weight, None, &mut y[..out]);
            channel_moments(n, k, p * q, &y[..out], mean, variance);
            normalize(k, p * q, &y[..out], mean, scale, scale, &mut z[..out]);
            relu(&z[..out], &mut y[..out]);
            if i % 2 == 0 && i > 0 {
                add(&y[..out], &self.activation[..out], &mut z[..out]);
            }
            relu_gradient(&y[..out], &self.activation[..out], &mut z[..out], Accumulate::Write);
            backward_reduce(n, k, p * q, &z[..out], &y[..out], scale, scale, mean, variance);
            let channels = BatchNormGradient {
                mean,
                inverse_deviation: scale,
                gamma: scale,
                dgamma: scale,
                dbeta: scale,
                count: n * p * q,
            };
            let accumulate = Accumulate::Write;
            backward_elementwise(
                k,
                p * q,
                &self.activation[..out],
                &z[..out],
                channels,
                &mut y[..out],
                accumulate,
            );
            conv2d_weight_gradient(shape, x, &y[..out], &mut dweight[..weight.len()]);
            if i > 0 {
                conv2d_input_gradient(shape, &y[..out], weight, &mut z[..x.len()], Accumulate::Write);
            }
        }
    }
}

fn main() {
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let pools = [pool(1), pool(all)];
    let peak = peak();
    println!("peak of one core: {peak:.1} GFLOP/s; columns: 1 thread, {all} threads, share of peak with 1\n");
    let line = |name: &str, flops: f64, run: &mut (dyn FnMut() + Send)| {
        if !name.contains(&word) {
            return;
        }
        let [one, many] = [0, 1].map(|i| flops / 1e9 / pools[i].install(|| best(&mut *run)));
        let [ms, ms_many] = [one, many].map(|rate| flops / rate / 1e6);
        println!("{name:<44} {one:8.1} {many:8.1} {:6.0} % {ms:9.3} ms {ms_many:9.3} ms", one / peak * 100.0);
    };

    let cifar = [
        conv(32, [3, 16], 32, 3, 1),
        conv(32, [16, 16], 32, 3, 1),
        conv(32, [16, 32], 32, 3, 2),
        conv(32, [16, 32], 32, 1, 2),
        conv(32, [32, 32], 16, 3, 1),
        conv(32, [32, 64], 16, 3, 2),
        conv(32, [64, 64], 8, 3, 1),
        conv(32, [10, 10], 32, 3, 1),
        conv(32, [20, 20], 16, 3, 1),
        conv(32, [40, 40], 8, 3, 1),
        conv(32, [1, 6], 28, 5, 1),
        conv(2, [3, 64], 224, 7, 2),
        conv(2, [64, 64], 56, 1, 1),
        conv(2, [64, 64], 56, 3, 1),
        conv(2, [64, 256], 56, 1, 1),
        conv(4, [128, 128], 28, 3, 1),
        conv(4, [256, 512], 28, 1, 2),
        conv(4, [256, 256], 14, 3, 1),
        conv(4, [512, 512], 7, 3, 1),
        conv(4, [512, 2048], 7, 1, 1),
        conv(32, [512, 512], 2, 3, 1),
        ConvShape { groups: 32, ..conv(32, [32, 32], 16, 3, 1) },
    ];
    for shape in cifar {
        let ConvShape { n, c, h, k, r, stride, groups, .. } = shape;
        let name = format!("{n}x{c}x{h}x{h} -> {k}, {r}x{r} stride {} groups {groups}", stride[0]);
        let x = values(n * c * h * h);
        let mut weight = values(k * c / groups * r * r);
        let mut y = values(n * k * shape.p * shape.q);
        let flops = 2.0 * shape.macs() as f64;
        line(&format!("{name} y"), flops, &mut || conv2d_forward(&shape, &x, &weight, None, &mut y));
        let mut dx = x.clone();
        line(&format!("{name} dx"), flops, &mut || {
            conv2d_input_gradient(&shape, &y, &weight, &mut dx, Accumulate::Write);
        });
        line(&format!("{name} dw"), flops, &mut || conv2d_weight_gradient(&shape, &x, &y, &mut weight));
    }
    for sizes in [[1024, 1024, 1024], [32, 64, 10], [32, 2048, 1000], [256, 784, 300]] {
        let [n, c, k] = sizes;
        let name = format!("linear {n}x{c} -> {k}");
        let (mut x, mut weight, mut y) = (values(n * c), values(k * c), values(n * k));
        let flops = 2.0 * (n * c * k) as f64;
        line(&format!("{name} y"), flops, &mut || linear_forward(sizes, &x, &weight, None, &mut y));
        line(&format!("{name} dx"), flops, &mut || {
            linear_input_gradient(sizes, &y, &weight, &mut x, Accumulate::Write);
        });
        line(&format!("{name} dw"), flops, &mut || linear_weight_gradient(sizes, &x, &y, &mut weight));
    }

    let step = Step::new();
    line("ResNet-20 training step of 32 images, no update", step.flops(), &mut || step.run());

    println!("\nmemory-bound kernels on 32x16x32x32, GB/s read and written");
    let [n, c, hw] = [32, 16, 1024];
    let bytes = 4.0 * (n * c * hw) as f64;
    let (x, dy, mut y) = (values(n * c * hw), values(n * c * hw), values(n * c * hw));
    let (mut mean, mut variance, scale) = (values(c), values(c), values(c));
    line("moments", bytes, &mut || channel_moments(n, c, hw, &x, &mut mean, &mut variance));
    line("normalize", 2.0 * bytes, &mut || normalize(c, hw, &x, &scale, &scale, &scale, &mut y));
    line("backward_reduce", 2.0 * bytes, &mut || {
        backward_reduce(n, c, hw, &x, &dy, &scale, &scale, &mut mean, &mut variance);
    });
    let channels = BatchNormGradient {
        mean: &scale,
        inverse_deviation: &scale,
        gamma: &scale,
        dgamma: &scale,
        dbeta: &scale,
        count: n * hw,
    };
    line("backward_elementwise", 3.0 * bytes, &mut || {
        backward_elementwise(c, hw, &x, &dy, channels, &mut y, Accumulate::Write);
    });
    line("relu", 2.0 * bytes, &mut || relu(&x, &mut y));
    line("relu_gradient", 3.0 * bytes, &mut || relu_gradient(&x, &dy, &mut y, Accumulate::Write));
    line("add", 3.0 * bytes, &mut || add(&x, &dy, &mut y));
}
