// Batch norm, training: mean and 1 / sqrt(var + eps) of each channel, var biased; running statistics move by momentum
// towards the mean and the unbiased variance. Two passes: E[x^2] - E[x]^2 loses everything in f32 where the mean is large.
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

var<workgroup> sums: array<f32, 256>;

// Sum of `value` over the workgroup, in an order that is always the same.
fn total(value: f32, local: u32) -> f32 {
    sums[local] = value;
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local < width {
            sums[local] += sums[local + width];
        }
    }
    workgroupBarrier();
    let sum = sums[0];
    // The next total overwrites sums.
    workgroupBarrier();
    return sum;
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
    let count = f32(params.n) * f32(params.pixels);
    // Numbers near the mean sum up with smaller rounding errors than large ones.
    let origin = x[c * params.pixels];
    var sum = 0.0;
    var pixel = local % params.pixels;
    for (var n = local / params.pixels; n < params.n; ) {
        let i = (n * params.c + c) * params.pixels + pixel;
        sum += x[i] - origin;
        n += images_a_step;
        pixel += pixels_a_step;
        if pixel >= params.pixels {
            pixel -= params.pixels;
            n += 1u;
        }
    }
    let batch_mean = origin + total(sum, local) / count;
    var squares = 0.0;
    pixel = local % params.pixels;
    for (var n = local / params.pixels; n < params.n; ) {
        let i = (n * params.c + c) * params.pixels + pixel;
        let deviation = x[i] - batch_mean;
        squares += deviation * deviation;
        n += images_a_step;
        pixel += pixels_a_step;
        if pixel >= params.pixels {
            pixel -= params.pixels;
            n += 1u;
        }
    }
    let all_squares = total(squares, local);
    if local == 0u {
        let keep = 1.0 - params.momentum;
        let unbiased = all_squares / max(count - 1.0, 1.0);
        mean[c] = batch_mean;
        inv_std[c] = 1.0 / sqrt(all_squares / count + params.eps);
        running_mean[c] = keep * running_mean[c] + params.momentum * batch_mean;
        running_var[c] = keep * running_var[c] + params.momentum * unbiased;
    }
}
