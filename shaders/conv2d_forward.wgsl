// Convolution, forward: y[n,k,p,q] = bias[k] + sum over c,r,s of weight[k,c,r,s] * x[n,c,h,w]
// with h = p * stride_h + r * dilation_h - pad_top, w likewise; x is 0 outside of the image.
//
// An invocation holds a tile of 8 filters x 8 pixels in registers: 16 loads pay for 64 multiply-adds. No workgroup
// memory: software adapters pay dearly for barriers. The border test depends on (r, s) alone, so it stays out of the
// loop over channels. All invocations of a workgroup share their filters, so loads of weights are uniform.
//
// Shapes  x [N, C, H, W], weight [K, C/groups, R, S], bias [K] (read when has_bias is 1), y [N, K, P, Q]
// Grid    a workgroup is 8 filters of one group x 512 pixels of all N*P*Q, neighbours in neighbouring invocations
// Twin    conv2d_forward in src/ops/conv2d.rs

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
    has_bias: u32,
    accumulate: u32,
    splits: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn load(i: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(x[i.x], x[i.y], x[i.z], x[i.w]), inside);
}

fn store(k: u32, pixel: vec4<u32>, value: vec4<f32>) {
    let area = params.p * params.q;
    let i = (pixel / area * params.k + k) * area + pixel % area;
    let exists = pixel < vec4<u32>(params.n * area);
    if exists.x { y[i.x] = value.x; }
    if exists.y { y[i.y] = value.y; }
    if exists.z { y[i.z] = value.z; }
    if exists.w { y[i.w] = value.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_filters + 7u) / 8u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    let first = filter_group * group_filters + tile % group_tiles * 8u;
    let end = (filter_group + 1u) * group_filters;
    // A tile at the edge of its group repeats the last filter and does not store it again.
    let k_a = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(end - 1u));
    let k_b = min(vec4<u32>(first + 4u, first + 5u, first + 6u, first + 7u), vec4<u32>(end - 1u));

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

    var start_a = vec4<f32>(0.0);
    var start_b = vec4<f32>(0.0);
    if params.has_bias == 1u {
        start_a = vec4<f32>(bias[k_a.x], bias[k_a.y], bias[k_a.z], bias[k_a.w]);
        start_b = vec4<f32>(bias[k_b.x], bias[k_b.y], bias[k_b.z], bias[k_b.w]);
    }
    var sum_0a = vec4<f32>(start_a.x);
    var sum_0b = sum_0a;
    var sum_1a = vec4<f32>(start_a.y);
    var sum_1b = sum_1a;
    var sum_2a = vec4<f32>(start_a.z);
    var sum_2b = sum_2a;
    var sum_3a = vec4<f32>(start_a.w);
    var sum_3b = sum_3a;
    var sum_4a = vec4<f32>(start_b.x);
    var sum_4b = sum_4a;
    var sum_5a = vec4<f32>(start_b.y);
    var sum_5b = sum_5a;
    var sum_6a = vec4<f32>(start_b.z);
    var sum_6b = sum_6a;
    var sum_7a = vec4<f32>(start_b.w);
    var sum_7b = sum_7a;
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
            var at_a = k_a * (group_channels * taps) + (r * params.s + s);
            var at_b = k_b * (group_channels * taps) + (r * params.s + s);
            for (var c = 0u; c < group_channels; c++) {
                let value_a = load(x_a, inside_a);
                let value_b = load(x_b, inside_b);
                let weight_0 = weight[at_a.x];
                let weight_1 = weight[at_a.y];
                let weight_2 = weight[at_a.z];
                let weight_3 = weight[at_a.w];
                let weight_4 = weight[at_b.x];
                let weight_5 = weight[at_b.y];
                let weight_6 = weight[at_b.z];
                let weight_7 = weight[at_b.w];
                sum_0a += weight_0 * value_a;
                sum_0b += weight_0 * value_b;
                sum_1a += weight_1 * value_a;
                sum_1b += weight_1 * value_b;
                sum_2a += weight_2 * value_a;
                sum_2b += weight_2 * value_b;
                sum_3a += weight_3 * value_a;
                sum_3b += weight_3 * value_b;
                sum_4a += weight_4 * value_a;
                sum_4b += weight_4 * value_b;
                sum_5a += weight_5 * value_a;
                sum_5b += weight_5 * value_b;
                sum_6a += weight_6 * value_a;
                sum_6b += weight_6 * value_b;
                sum_7a += weight_7 * value_a;
                sum_7b += weight_7 * value_b;
                x_a += plane;
                x_b += plane;
                at_a += taps;
                at_b += taps;
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
    if first + 4u < end {
        store(first + 4u, pixel_a, sum_4a);
        store(first + 4u, pixel_b, sum_4b);
    }
    if first + 5u < end {
        store(first + 5u, pixel_a, sum_5a);
        store(first + 5u, pixel_b, sum_5b);
    }
    if first + 6u < end {
        store(first + 6u, pixel_a, sum_6a);
        store(first + 6u, pixel_b, sum_6b);
    }
    if first + 7u < end {
        store(first + 7u, pixel_a, sum_7a);
        store(first + 7u, pixel_b, sum_7b);
    }
}
