// Convolution and what follows it in evaluation, in one pass: batch norm, a residual, ReLU.
//
// y = act((sum over c, r, s of weight x - running_mean) scale + beta [+ residual]), scale = gamma / sqrt(running_var + eps),
// act = max(_, 0) if relu = 1. The sums are those of conv2d_forward; see there for the tile, which is half as high here.
//
// Shapes  x [N, C, H, W]; weight [K, C/groups, R, S]; gamma, beta, running_mean, running_var [K]; residual, y [N, K, P, Q]
// Grid    a workgroup has 4 filters of one group and 512 pixels, an invocation 4 x 8 of them
// Twin    conv_batch_norm in src/ops/conv_batch_norm.rs

struct Params {
    n: u32,
    c: u32,
    h: u32,
    w: u32,
    k: u32,
    r: u32,
    s: u32,
    p: u32,
    q: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    groups: u32,
    add_residual: u32,
    relu: u32,
    eps: f32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read> running_mean: array<f32>;
@group(0) @binding(6) var<storage, read> running_var: array<f32>;
@group(0) @binding(7) var<storage, read> residual: array<f32>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

fn load(i: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(x[i.x], x[i.y], x[i.z], x[i.w]), inside);
}

// Batch norm, residual and ReLU of one number, at its place in y.
fn finish(i: u32, value: f32) {
    var sum = value;
    if params.add_residual == 1u {
        sum += residual[i];
    }
    y[i] = select(sum, 0.0, params.relu == 1u && sum < 0.0);
}

fn store(k: u32, pixel: vec4<u32>, value: vec4<f32>) {
    let area = params.p * params.q;
    let i = (pixel / area * params.k + k) * area + pixel % area;
    let exists = pixel < vec4<u32>(params.n * area);
    let normal = (value - running_mean[k]) * (gamma[k] / sqrt(running_var[k] + params.eps)) + beta[k];
    if exists.x { finish(i.x, normal.x); }
    if exists.y { finish(i.y, normal.y); }
    if exists.z { finish(i.z, normal.z); }
    if exists.w { finish(i.w, normal.w); }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_filters + 3u) / 4u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    let first = filter_group * group_filters + tile % group_tiles * 4u;
    let end = (filter_group + 1u) * group_filters;
    // A tile at the edge of its group repeats the last filter and does not store it again.
    let k = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(end - 1u));

    let area = params.p * params.q;
    let pixel_a = index / tiles * 512u + local + vec4<u32>(0u, 64u, 128u, 192u);
    let pixel_b = pixel_a + 256u;
    if pixel_a.x >= params.n * area {
        return;
    }
    let plane = params.h * params.w;
    let image_a = (pixel_a / area * params.c + filter_group * group_channels) * plane;
    let image_b = (pixel_b / area * params.c + filter_group * group_channels) * plane;
    let top_a = pixel_a % area / params.q * params.stride_h - params.pad_top;
    let top_b = pixel_b % area / params.q * params.stride_h - params.pad_top;
    let left_a = pixel_a % params.q * params.stride_w - params.pad_left;
    let left_b = pixel_b % params.q * params.stride_w - params.pad_left;
    let exists_b = pixel_b < vec4<u32>(params.n * area);

    var sum_0a = vec4<f32>(0.0);
    var sum_0b = sum_0a;
    var sum_1a = sum_0a;
    var sum_1b = sum_0a;
    var sum_2a = sum_0a;
    var sum_2b = sum_0a;
    var sum_3a = sum_0a;
    var sum_3b = sum_0a;
    let taps = params.r * params.s;
    for (var r = 0u; r < params.r; r++) {
        // Above the image this wraps to huge numbers, which are outside as well.
        let h_a = top_a + r * params.dilation_h;
        let h_b = top_b + r * params.dilation_h;
        for (var s = 0u; s < params.s; s++) {
            let w_a = left_a + s * params.dilation_w;
            let w_b = left_b + s * params.dilation_w;
            let inside_a = (h_a < vec4<u32>(params.h)) & (w_a < vec4<u32>(params.w));
            let inside_b = (h_b < vec4<u32>(params.h)) & (w_b < vec4<u32>(params.w)) & exists_b;
            var x_a = select(vec4<u32>(0u), image_a + h_a * params.w + w_a, inside_a);
            var x_b = select(vec4<u32>(0u), image_b + h_b * params.w + w_b, inside_b);
            var at = k * (group_channels * taps) + (r * params.s + s);
            for (var c = 0u; c < group_channels; c++) {
                let value_a = load(x_a, inside_a);
                let value_b = load(x_b, inside_b);
                let weight_0 = weight[at.x];
                let weight_1 = weight[at.y];
                let weight_2 = weight[at.z];
                let weight_3 = weight[at.w];
                sum_0a += weight_0 * value_a;
                sum_0b += weight_0 * value_b;
                sum_1a += weight_1 * value_a;
                sum_1b += weight_1 * value_b;
                sum_2a += weight_2 * value_a;
                sum_2b += weight_2 * value_b;
                sum_3a += weight_3 * value_a;
                sum_3b += weight_3 * value_b;
                x_a += plane;
                x_b += plane;
                at += taps;
            }
        }
    }
    store(first, pixel_a, sum_0a);
    store(first, pixel_b, sum_0b);
    if first + 1u < end {
        store(first + 1u, pixel_a, sum_1a);
        store(first + 1u, pixel_b, sum_1b);
    }
    if first + 2u < end {
        store(first + 2u, pixel_a, sum_2a);
        store(first + 2u, pixel_b, sum_2b);
    }
    if first + 3u < end {
        store(first + 3u, pixel_a, sum_3a);
        store(first + 3u, pixel_b, sum_3b);
    }
}
