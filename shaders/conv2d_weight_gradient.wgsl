// Convolution, gradient of the weights: dweight[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w]
// with h = p * stride_h + r * dilation_h - pad_top, w likewise, over those p and q for which (h, w) is in the image.
//
// The sum is long and its results are few, so its N*P rows are cut into splits; each split has its own partial sums,
// and sum_partials.wgsl adds them in order: the same bits on every run, without atomics. An invocation holds a tile of
// 4 filters x 4 channels for one tap (r, s) in registers. For one tap the pixels inside of the image are a rectangle,
// so there is no border test in the loop.
//
// Shapes  x [N, C, H, W], dy [N, K, P, Q], partials [splits, K, C/groups, R, S]
// Grid    one invocation a split, 4 filters of a group, 4 channels of a group, tap; taps run fastest
// Twin    conv2d_weight_gradient in src/ops/conv2d.rs

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
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

// The first output that reads at or past the image's edge: least p with p * stride + tap >= limit.
fn first_output(limit: u32, tap: u32, stride: u32) -> u32 {
    return (max(limit, tap) - tap + stride - 1u) / stride;
}

// Element by element: an index known only at run time would move the sums from registers to memory.
fn store(at: u32, taps: u32, channels: u32, sums: vec4<f32>) {
    partials[at] = sums.x;
    if channels > 1u { partials[at + taps] = sums.y; }
    if channels > 2u { partials[at + 2u * taps] = sums.z; }
    if channels > 3u { partials[at + 3u * taps] = sums.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let channel_tiles = (group_channels + 3u) / 4u;
    let filter_tiles = (group_filters + 3u) / 4u;
    let taps = params.r * params.s;
    let i = (params.first + group.y * groups.x + group.x) * 64u + local;
    let s = i % params.s;
    let r = i / params.s % params.r;
    let channel_tile = i / taps % channel_tiles;
    let filter_tile = i / (taps * channel_tiles) % filter_tiles;
    let filter_group = i / (taps * channel_tiles * filter_tiles) % params.groups;
    let split = i / (taps * channel_tiles * filter_tiles * params.groups);
    if split >= params.splits {
        return;
    }
    // A tile at the edge of its group repeats the last filter and channel and does not store them again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let k = min(filter_tile * 4u + ahead, vec4<u32>(group_filters - 1u));
    let c = min(channel_tile * 4u + ahead, vec4<u32>(group_channels - 1u));
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let dy_plane = (filter_group * group_filters + k) * area;
    let x_plane = (filter_group * group_channels + c) * plane;

    let tap_h = r * params.dilation_h;
    let tap_w = s * params.dilation_w;
    let first_p = first_output(params.pad_top, tap_h, params.stride_h);
    let end_p = first_output(params.pad_top + params.h, tap_h, params.stride_h);
    let first_q = first_output(params.pad_left, tap_w, params.stride_w);
    let end_q = min(first_output(params.pad_left + params.w, tap_w, params.stride_w), params.q);

    let rows = params.n * params.p;
    let split_rows = (rows + params.splits - 1u) / params.splits;
    let end_row = min((split + 1u) * split_rows, rows);
    // Only one number of the tile is wanted then: four times fewer loads.
    let depthwise = group_channels == 1u && group_filters == 1u;
    var sum_0 = vec4<f32>(0.0);
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    for (var row = split * split_rows; row < end_row; row++) {
        let n = row / params.p;
        let p = row % params.p;
        if p < first_p || p >= end_p {
            continue;
        }
        let h = p * params.stride_h + tap_h - params.pad_top;
        var dy_at = n * params.k * area + dy_plane + p * params.q + first_q;
        var x_at = n * params.c * plane + x_plane + h * params.w
            + (first_q * params.stride_w + tap_w - params.pad_left);
        if depthwise {
            for (var q = first_q; q < end_q; q++) {
                sum_0.x += dy[dy_at.x] * x[x_at.x];
                dy_at.x += 1u;
                x_at.x += params.stride_w;
            }
            continue;
        }
        for (var q = first_q; q < end_q; q++) {
            let value = vec4<f32>(x[x_at.x], x[x_at.y], x[x_at.z], x[x_at.w]);
            sum_0 += dy[dy_at.x] * value;
            sum_1 += dy[dy_at.y] * value;
            sum_2 += dy[dy_at.z] * value;
            sum_3 += dy[dy_at.w] * value;
            dy_at += 1u;
            x_at += params.stride_w;
        }
    }
    let filters = min(group_filters - filter_tile * 4u, 4u);
    let channels = min(group_channels - channel_tile * 4u, 4u);
    let first_filter = split * params.k + filter_group * group_filters + filter_tile * 4u;
    let at = (first_filter * group_channels + channel_tile * 4u) * taps + r * params.s + s;
    let next = group_channels * taps;
    store(at, taps, channels, sum_0);
    if filters > 1u { store(at + next, taps, channels, sum_1); }
    if filters > 2u { store(at + 2u * next, taps, channels, sum_2); }
    if filters > 3u { store(at + 3u * next, taps, channels, sum_3); }
}
