// Convolution, gradient of the input, for filters 3 wide with stride 1 both ways and dilation 1 along the row:
// dx[n,c,h,w] = sum over k,r,s of weight[k,c,r,s] * dy[n,k,h + pad_top - r*dilation_h, w + pad_left - s].
//
// As conv2d_forward_rows.wgsl: an invocation holds a strip of 8 neighbours in a row for 8 channels, loads 10 gradients
// for one (k, r) and uses each for three taps, now from right to left.
//
// Shapes  dy [N, K, P, Q], weight [K, C/groups, R, 3], dx [N, C, H, W]
// Grid    a workgroup is 8 channels of one group x 64 strips of 8 pixels; a row begins a new strip
// Twin    conv2d_input_gradient in src/ops/conv2d.rs

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

fn three_taps(at: u32) -> vec3<f32> {
    return vec3<f32>(weight[at], weight[at + 1u], weight[at + 2u]);
}

fn write(i: u32, value: f32) {
    if params.accumulate == 1u {
        dx[i] += value;
    } else {
        dx[i] = value;
    }
}

// Pixels of the strip that begins at dx[i], of which the row has `count`.
fn store(i: u32, count: u32, a: vec4<f32>, b: vec4<f32>) {
    if count > 0u { write(i + 0u, a.x); }
    if count > 1u { write(i + 1u, a.y); }
    if count > 2u { write(i + 2u, a.z); }
    if count > 3u { write(i + 3u, a.w); }
    if count > 4u { write(i + 4u, b.x); }
    if count > 5u { write(i + 5u, b.y); }
    if count > 6u { write(i + 6u, b.z); }
    if count > 7u { write(i + 7u, b.w); }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_channels + 7u) / 8u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    // Channels within the group.
    let first = tile % group_tiles * 8u;
    let strips = (params.w + 7u) / 8u;
    let strip = index / tiles * 64u + local;
    if strip >= params.n * params.h * strips {
        return;
    }
    let n = strip / (params.h * strips);
    let h = strip / strips % params.h;
    let w = strip % strips * 8u;

    // What the third tap meets. Left of the image this wraps to a huge number, which is outside as well.
    let left = w + params.pad_left - 2u;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let inside_a = left + ahead < vec4<u32>(params.q);
    let inside_b = left + 4u + ahead < vec4<u32>(params.q);
    let inside_c = left + 8u + ahead.xy < vec2<u32>(params.q);
    let area = params.p * params.q;
    let image = (n * params.k + filter_group * group_filters) * area;
    let taps = params.r * 3u;
    let filter_size = group_channels * taps;
    // A tile at the edge of its group repeats the last channel and does not store it again.
    let channel_0 = min(first + 0u, group_channels - 1u) * taps;
    let channel_1 = min(first + 1u, group_channels - 1u) * taps;
    let channel_2 = min(first + 2u, group_channels - 1u) * taps;
    let channel_3 = min(first + 3u, group_channels - 1u) * taps;
    let channel_4 = min(first + 4u, group_channels - 1u) * taps;
    let channel_5 = min(first + 5u, group_channels - 1u) * taps;
    let channel_6 = min(first + 6u, group_channels - 1u) * taps;
    let channel_7 = min(first + 7u, group_channels - 1u) * taps;
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
    for (var r = 0u; r < params.r; r++) {
        let p = h + params.pad_top - r * params.dilation_h;
        if p >= params.p {
            continue;
        }
        let row = image + p * params.q + left;
        var dy_a = select(vec4<u32>(0u), row + ahead, inside_a);
        var dy_b = select(vec4<u32>(0u), row + 4u + ahead, inside_b);
        var dy_c = select(vec2<u32>(0u), row + 8u + ahead.xy, inside_c);
        var tap = filter_group * group_filters * filter_size + r * 3u;
        for (var k = 0u; k < group_filters; k++) {
            // For the third tap; those for the second and first lie one and two pixels further.
            let a2 = select(vec4<f32>(0.0), vec4<f32>(dy[dy_a.x], dy[dy_a.y], dy[dy_a.z], dy[dy_a.w]), inside_a);
            let b2 = select(vec4<f32>(0.0), vec4<f32>(dy[dy_b.x], dy[dy_b.y], dy[dy_b.z], dy[dy_b.w]), inside_b);
            let rest = select(vec2<f32>(0.0), vec2<f32>(dy[dy_c.x], dy[dy_c.y]), inside_c);
            let a1 = vec4<f32>(a2.yzw, b2.x);
            let b1 = vec4<f32>(b2.yzw, rest.x);
            let a0 = vec4<f32>(a2.zw, b2.xy);
            let b0 = vec4<f32>(b2.zw, rest);
            let weight_0 = three_taps(channel_0 + tap);
            sum_0a += weight_0.x * a0 + weight_0.y * a1 + weight_0.z * a2;
            sum_0b += weight_0.x * b0 + weight_0.y * b1 + weight_0.z * b2;
            let weight_1 = three_taps(channel_1 + tap);
            sum_1a += weight_1.x * a0 + weight_1.y * a1 + weight_1.z * a2;
            sum_1b += weight_1.x * b0 + weight_1.y * b1 + weight_1.z * b2;
            let weight_2 = three_taps(channel_2 + tap);
            sum_2a += weight_2.x * a0 + weight_2.y * a1 + weight_2.z * a2;
            sum_2b += weight_2.x * b0 + weight_2.y * b1 + weight_2.z * b2;
            let weight_3 = three_taps(channel_3 + tap);
            sum_3a += weight_3.x * a0 + weight_3.y * a1 + weight_3.z * a2;
            sum_3b += weight_3.x * b0 + weight_3.y * b1 + weight_3.z * b2;
            let weight_4 = three_taps(channel_4 + tap);
            sum_4a += weight_4.x * a0 + weight_4.y * a1 + weight_4.z * a2;
            sum_4b += weight_4.x * b0 + weight_4.y * b1 + weight_4.z * b2;
            let weight_5 = three_taps(channel_5 + tap);
            sum_5a += weight_5.x * a0 + weight_5.y * a1 + weight_5.z * a2;
            sum_5b += weight_5.x * b0 + weight_5.y * b1 + weight_5.z * b2;
            let weight_6 = three_taps(channel_6 + tap);
            sum_6a += weight_6.x * a0 + weight_6.y * a1 + weight_6.z * a2;
            sum_6b += weight_6.x * b0 + weight_6.y * b1 + weight_6.z * b2;
            let weight_7 = three_taps(channel_7 + tap);
            sum_7a += weight_7.x * a0 + weight_7.y * a1 + weight_7.z * a2;
            sum_7b += weight_7.x * b0 + weight_7.y * b1 + weight_7.z * b2;
            dy_a += area;
            dy_b += area;
            dy_c += area;
            tap += filter_size;
        }
    }
    let plane = params.h * params.w;
    let at = ((n * params.c + filter_group * group_channels + first) * params.h + h) * params.w + w;
    let count = params.w - w;
    store(at, count, sum_0a, sum_0b);
    if first + 1u < group_channels { store(at + 1u * plane, count, sum_1a, sum_1b); }
    if first + 2u < group_channels { store(at + 2u * plane, count, sum_2a, sum_2b); }
    if first + 3u < group_channels { store(at + 3u * plane, count, sum_3a, sum_3b); }
    if first + 4u < group_channels { store(at + 4u * plane, count, sum_4a, sum_4b); }
    if first + 5u < group_channels { store(at + 5u * plane, count, sum_5a, sum_5b); }
    if first + 6u < group_channels { store(at + 6u * plane, count, sum_6a, sum_6b); }
    if first + 7u < group_channels { store(at + 7u * plane, count, sum_7a, sum_7b); }
}
