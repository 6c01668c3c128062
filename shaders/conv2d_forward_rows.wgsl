// Convolution, forward, for filters 3 wide with stride and dilation 1 along the row (any height, stride and dilation
// down the image): y[n,k,p,q] = bias[k] + sum over c,r,s of weight[k,c,r,s] * x[n,c,h,w]
// with h = p * stride_h + r * dilation_h - pad_top, w = q + s - pad_left; x is 0 outside of the image.
//
// An invocation holds a strip of 8 neighbours in a row for 8 filters. For one (c, r) it loads 10 pixels and uses each
// for three taps: 34 loads pay for 192 multiply-adds. No workgroup memory and no barriers.
//
// Shapes  x [N, C, H, W], weight [K, C/groups, R, 3], bias [K] (read when has_bias is 1), y [N, K, P, Q]
// Grid    a workgroup is 8 filters of one group x 64 strips of 8 pixels; a row begins a new strip
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

fn three_taps(at: u32) -> vec3<f32> {
    return vec3<f32>(weight[at], weight[at + 1u], weight[at + 2u]);
}

// Pixels of the strip that begins at y[i], of which the row has `count`.
fn store(i: u32, count: u32, a: vec4<f32>, b: vec4<f32>) {
    if count > 0u { y[i + 0u] = a.x; }
    if count > 1u { y[i + 1u] = a.y; }
    if count > 2u { y[i + 2u] = a.z; }
    if count > 3u { y[i + 3u] = a.w; }
    if count > 4u { y[i + 4u] = b.x; }
    if count > 5u { y[i + 5u] = b.y; }
    if count > 6u { y[i + 6u] = b.z; }
    if count > 7u { y[i + 7u] = b.w; }
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
    let strips = (params.q + 7u) / 8u;
    let strip = index / tiles * 64u + local;
    if strip >= params.n * params.p * strips {
        return;
    }
    let n = strip / (params.p * strips);
    let p = strip / strips % params.p;
    let q = strip % strips * 8u;

    // Left of the image this wraps to a huge number, which is outside as well.
    let left = q - params.pad_left;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let inside_a = left + ahead < vec4<u32>(params.w);
    let inside_b = left + 4u + ahead < vec4<u32>(params.w);
    let inside_c = left + 8u + ahead.xy < vec2<u32>(params.w);
    let plane = params.h * params.w;
    let image = (n * params.c + filter_group * group_channels) * plane;
    let taps = params.r * 3u;
    // A tile at the edge of its group repeats the last filter and does not store it again.
    let filter_0 = min(first + 0u, end - 1u) * group_channels * taps;
    let filter_1 = min(first + 1u, end - 1u) * group_channels * taps;
    let filter_2 = min(first + 2u, end - 1u) * group_channels * taps;
    let filter_3 = min(first + 3u, end - 1u) * group_channels * taps;
    let filter_4 = min(first + 4u, end - 1u) * group_channels * taps;
    let filter_5 = min(first + 5u, end - 1u) * group_channels * taps;
    let filter_6 = min(first + 6u, end - 1u) * group_channels * taps;
    let filter_7 = min(first + 7u, end - 1u) * group_channels * taps;
    var sum_0a = vec4<f32>(0.0);
    var sum_0b = vec4<f32>(0.0);
    var sum_1a = vec4<f32>(0.0);
    var sum_1b = vec4<f32>(0.0);
    var sum_2a = vec4<f32>(0.0);
    var sum_2b = vec4<f32>(0.0);
    var sum_3a = vec4<f32>(0.0);
    var sum_3b = vec4<f32>(0.0);
    var sum_4a = vec4<f32>(0.0);
    var sum_4b = vec4<f32>(0.0);
    var sum_5a = vec4<f32>(0.0);
    var sum_5b = vec4<f32>(0.0);
    var sum_6a = vec4<f32>(0.0);
    var sum_6b = vec4<f32>(0.0);
    var sum_7a = vec4<f32>(0.0);
    var sum_7b = vec4<f32>(0.0);
    if params.has_bias == 1u {
        sum_0a = vec4<f32>(bias[min(first + 0u, end - 1u)]);
        sum_0b = sum_0a;
        sum_1a = vec4<f32>(bias[min(first + 1u, end - 1u)]);
        sum_1b = sum_1a;
        sum_2a = vec4<f32>(bias[min(first + 2u, end - 1u)]);
        sum_2b = sum_2a;
        sum_3a = vec4<f32>(bias[min(first + 3u, end - 1u)]);
        sum_3b = sum_3a;
        sum_4a = vec4<f32>(bias[min(first + 4u, end - 1u)]);
        sum_4b = sum_4a;
        sum_5a = vec4<f32>(bias[min(first + 5u, end - 1u)]);
        sum_5b = sum_5a;
        sum_6a = vec4<f32>(bias[min(first + 6u, end - 1u)]);
        sum_6b = sum_6a;
        sum_7a = vec4<f32>(bias[min(first + 7u, end - 1u)]);
        sum_7b = sum_7a;
    }
    for (var r = 0u; r < params.r; r++) {
        let h = p * params.stride_h + r * params.dilation_h - params.pad_top;
        if h >= params.h {
            continue;
        }
        let row = image + h * params.w + left;
        var x_a = select(vec4<u32>(0u), row + ahead, inside_a);
        var x_b = select(vec4<u32>(0u), row + 4u + ahead, inside_b);
        var x_c = select(vec2<u32>(0u), row + 8u + ahead.xy, inside_c);
        var tap = r * 3u;
        for (var c = 0u; c < group_channels; c++) {
            // For the first tap; those for the second and third lie one and two pixels further.
            let a0 = select(vec4<f32>(0.0), vec4<f32>(x[x_a.x], x[x_a.y], x[x_a.z], x[x_a.w]), inside_a);
            let b0 = select(vec4<f32>(0.0), vec4<f32>(x[x_b.x], x[x_b.y], x[x_b.z], x[x_b.w]), inside_b);
            let rest = select(vec2<f32>(0.0), vec2<f32>(x[x_c.x], x[x_c.y]), inside_c);
            let a1 = vec4<f32>(a0.yzw, b0.x);
            let b1 = vec4<f32>(b0.yzw, rest.x);
            let a2 = vec4<f32>(a0.zw, b0.xy);
            let b2 = vec4<f32>(b0.zw, rest);
            let weight_0 = three_taps(filter_0 + tap);
            sum_0a += weight_0.x * a0 + weight_0.y * a1 + weight_0.z * a2;
            sum_0b += weight_0.x * b0 + weight_0.y * b1 + weight_0.z * b2;
            let weight_1 = three_taps(filter_1 + tap);
            sum_1a += weight_1.x * a0 + weight_1.y * a1 + weight_1.z * a2;
            sum_1b += weight_1.x * b0 + weight_1.y * b1 + weight_1.z * b2;
            let weight_2 = three_taps(filter_2 + tap);
            sum_2a += weight_2.x * a0 + weight_2.y * a1 + weight_2.z * a2;
            sum_2b += weight_2.x * b0 + weight_2.y * b1 + weight_2.z * b2;
            let weight_3 = three_taps(filter_3 + tap);
            sum_3a += weight_3.x * a0 + weight_3.y * a1 + weight_3.z * a2;
            sum_3b += weight_3.x * b0 + weight_3.y * b1 + weight_3.z * b2;
            let weight_4 = three_taps(filter_4 + tap);
            sum_4a += weight_4.x * a0 + weight_4.y * a1 + weight_4.z * a2;
            sum_4b += weight_4.x * b0 + weight_4.y * b1 + weight_4.z * b2;
            let weight_5 = three_taps(filter_5 + tap);
            sum_5a += weight_5.x * a0 + weight_5.y * a1 + weight_5.z * a2;
            sum_5b += weight_5.x * b0 + weight_5.y * b1 + weight_5.z * b2;
            let weight_6 = three_taps(filter_6 + tap);
            sum_6a += weight_6.x * a0 + weight_6.y * a1 + weight_6.z * a2;
            sum_6b += weight_6.x * b0 + weight_6.y * b1 + weight_6.z * b2;
            let weight_7 = three_taps(filter_7 + tap);
            sum_7a += weight_7.x * a0 + weight_7.y * a1 + weight_7.z * a2;
            sum_7b += weight_7.x * b0 + weight_7.y * b1 + weight_7.z * b2;
            x_a += plane;
            x_b += plane;
            x_c += plane;
            tap += taps;
        }
    }
    let area = params.p * params.q;
    let at = ((n * params.k + first) * params.p + p) * params.q + q;
    let count = params.q - q;
    store(at, count, sum_0a, sum_0b);
    if first + 1u < end { store(at + 1u * area, count, sum_1a, sum_1b); }
    if first + 2u < end { store(at + 2u * area, count, sum_2a, sum_2b); }
    if first + 3u < end { store(at + 3u * area, count, sum_3a, sum_3b); }
    if first + 4u < end { store(at + 4u * area, count, sum_4a, sum_4b); }
    if first + 5u < end { store(at + 5u * area, count, sum_5a, sum_5b); }
    if first + 6u < end { store(at + 6u * area, count, sum_6a, sum_6b); }
    if first + 7u < end { store(at + 7u * area, count, sum_7a, sum_7b); }
}
