// Batch norm, training: mean and 1 / sqrt(var + eps) of each channel, var biased; running statistics move by momentum
// towards the mean and the unbiased variance. One pass, since reading is what takes time. E[x^2] - E[x]^2 would lose
// everything in f32 where the mean is large; so each invocation sums deviations from the first o of its n numbers. What is
// taken off for that, n (o - mean)^2, does not grow with the mean: (o - mean)^2 is one of the squared deviations that are
// summed, so it is at most n times the result. The results of two invocations are merged by the formula of Chan, Golub and
// LeVeque (1979).
//
// Shapes  x [N, C, H, W]; mean, inv_std, running_mean, running_var [C]; pixels = H W
// Grid    one workgroup a channel, folded to two dimensions
// Twin    batch_norm_statistics in src/ops/batch_norm2d.rs

struct Params {
    n: u32,
    c: u32,
    pixels: u32,
    eps: f32,
    momentum: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> inv_std: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_var: array<f32>;

// Of the numbers that an invocation has seen, or several together.
struct Moments {
    count: f32,
    // Less the channel's first number, so that it is small and has all its digits.
    mean: f32,
    // Sum of the squared deviations from the mean.
    squares: f32,
}

var<workgroup> moments: array<Moments, 256>;

// Those of the numbers of both.
fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let part = b.count / max(count, 1.0);
    let apart = b.mean - a.mean;
    return Moments(count, a.mean + apart * part, a.squares + b.squares + apart * apart * a.count * part);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let c = group.y * groups.x + group.x;
    if c >= params.c {
        return;
    }
    // Number i of the channel is pixel i % pixels of image i / pixels; counted along, since a division is slow.
    let images_a_step = 256u / params.pixels;
    let pixels_a_step = 256u % params.pixels;
    var pixel = local % params.pixels;
    var n = local / params.pixels;
    var count = 0.0;
    var sum = 0.0;
    var squares = 0.0;
    var origin = 0.0;
    if n < params.n {
        origin = x[(n * params.c + c) * params.pixels + pixel];
    }
    while n < params.n {
        let deviation = x[(n * params.c + c) * params.pixels + pixel] - origin;
        sum += deviation;
        squares += deviation * deviation;
        count += 1.0;
        n += images_a_step;
        pixel += pixels_a_step;
        if pixel >= params.pixels {
            pixel -= params.pixels;
            n += 1u;
        }
    }
    let shift = sum / max(count, 1.0);
    let base = x[c * params.pixels];
    moments[local] = Moments(count, origin - base + shift, max(squares - sum * shift, 0.0));
    // In an order that is always the same.
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local < width {
            moments[local] = merge(moments[local], moments[local + width]);
        }
    }
    if local == 0u {
        let all = moments[0];
        let batch_mean = base + all.mean;
        let keep = 1.0 - params.momentum;
        let unbiased = all.squares / max(all.count - 1.0, 1.0);
        mean[c] = batch_mean;
        inv_std[c] = 1.0 / sqrt(all.squares / all.count + params.eps);
        running_mean[c] = keep * running_mean[c] + params.momentum * batch_mean;
        running_var[c] = keep * running_var[c] + params.momentum * unbiased;
    }
}
