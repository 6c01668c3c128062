// Convolution, gradient of the weights, for filters 3 wide with dilation 1 along the row:
// dweight[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w] with h = p * stride_h + r * dilation_h - pad_top,
// w = q * stride_w + s - pad_left, over those p and q for which (h, w) is in the image.
//
// Splits as in conv2d_weight_gradient.wgsl. An invocation holds 8 filters x 4 channels x the 3 taps of a filter's row
// in registers and walks along the pixels: with stride 1 each is loaded once, and is right, middle and left neighbour.
// 12 loads pay for 96 multiply-adds.
//
// Shapes  x [N, C, H, W], dy [N, K, P, Q], partials [splits, K, C/groups, R, 3]
// Grid    one invocation a split, 8 filters of a group, 4 channels of a group, row of taps; rows run fastest
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

// A pixel of four channels; 0 outside of the row.
fn load(line: vec4<u32>, column: u32) -> vec4<f32> {
    let inside = column < params.w;
    let i = line + select(0u, column, inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[i.x], x[i.y], x[i.z], x[i.w]), inside);
}

// The sums of one filter: a row of taps for each of the first `channels` channels, `stride` apart.
fn store(at: u32, stride: u32, channels: u32, left: vec4<f32>, middle: vec4<f32>, right: vec4<f32>) {
    if channels > 0u {
        partials[at] = left.x;
        partials[at + 1u] = middle.x;
        partials[at + 2u] = right.x;
    }
    if channels > 1u {
        partials[at + stride] = left.y;
        partials[at + stride + 1u] = middle.y;
        partials[at + stride + 2u] = right.y;
    }
    if channels > 2u {
        partials[at + 2u * stride] = left.z;
        partials[at + 2u * stride + 1u] = middle.z;
        partials[at + 2u * stride + 2u] = right.z;
    }
    if channels > 3u {
        partials[at + 3u * stride] = left.w;
        partials[at + 3u * stride + 1u] = middle.w;
        partials[at + 3u * stride + 2u] = right.w;
    }
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
    let filter_tiles = (group_filters + 7u) / 8u;
    let i = (params.first + group.y * groups.x + group.x) * 64u + local;
    let r = i % params.r;
    let channel_tile = i / params.r % channel_tiles;
    let filter_tile = i / (params.r * channel_tiles) % filter_tiles;
    let filter_group = i / (params.r * channel_tiles * filter_tiles) % params.groups;
    let split = i / (params.r * channel_tiles * filter_tiles * params.groups);
    if split >= params.splits {
        return;
    }
    // A tile at the edge of its group repeats the last filter and channel and does not store them again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let c = min(channel_tile * 4u + ahead, vec4<u32>(group_channels - 1u));
    let k_a = min(filter_tile * 8u + ahead, vec4<u32>(group_filters - 1u));
    let k_b = min(filter_tile * 8u + 4u + ahead, vec4<u32>(group_filters - 1u));
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let rows = params.n * params.p;
    let split_rows = (rows + params.splits - 1u) / params.splits;
    let end_row = min((split + 1u) * split_rows, rows);
    var left_0 = vec4<f32>(0.0);
    var middle_0 = vec4<f32>(0.0);
    var right_0 = vec4<f32>(0.0);
    var left_1 = vec4<f32>(0.0);
    var middle_1 = vec4<f32>(0.0);
    var right_1 = vec4<f32>(0.0);
    var left_2 = vec4<f32>(0.0);
    var middle_2 = vec4<f32>(0.0);
    var right_2 = vec4<f32>(0.0);
    var left_3 = vec4<f32>(0.0);
    var middle_3 = vec4<f32>(0.0);
    var right_3 = vec4<f32>(0.0);
    var left_4 = vec4<f32>(0.0);
    var middle_4 = vec4<f32>(0.0);
    var right_4 = vec4<f32>(0.0);
    var left_5 = vec4<f32>(0.0);
    var middle_5 = vec4<f32>(0.0);
    var right_5 = vec4<f32>(0.0);
    var left_6 = vec4<f32>(0.0);
    var middle_6 = vec4<f32>(0.0);
    var right_6 = vec4<f32>(0.0);
    var left_7 = vec4<f32>(0.0);
    var middle_7 = vec4<f32>(0.0);
    var right_7 = vec4<f32>(0.0);
    for (var row = split * split_rows; row < end_row; row++) {
        let n = row / params.p;
        let p = row % params.p;
        // Outside of the image this wraps to huge numbers; so do columns.
        let h = p * params.stride_h + r * params.dilation_h - params.pad_top;
        if h >= params.h {
            continue;
        }
        let line = (n * params.c + filter_group * group_channels + c) * plane + h * params.w;
        var dy_a = (n * params.k + filter_group * group_filters + k_a) * area + p * params.q;
        var dy_b = (n * params.k + filter_group * group_filters + k_b) * area + p * params.q;
        var x_left = load(line, 0u - params.pad_left);
        var x_middle = load(line, 1u - params.pad_left);
        for (var q = 0u; q < params.q; q++) {
            let column = q * params.stride_w - params.pad_left;
            if params.stride_w > 1u {
                x_left = load(line, column);
                x_middle = load(line, column + 1u);
            }
            let x_right = load(line, column + 2u);
            let dy_0 = dy[dy_a.x];
            left_0 += dy_0 * x_left;
            middle_0 += dy_0 * x_middle;
            right_0 += dy_0 * x_right;
            let dy_1 = dy[dy_a.y];
            left_1 += dy_1 * x_left;
            middle_1 += dy_1 * x_middle;
            right_1 += dy_1 * x_right;
            let dy_2 = dy[dy_a.z];
            left_2 += dy_2 * x_left;
            middle_2 += dy_2 * x_middle;
            right_2 += dy_2 * x_right;
            let dy_3 = dy[dy_a.w];
            left_3 += dy_3 * x_left;
            middle_3 += dy_3 * x_middle;
            right_3 += dy_3 * x_right;
            let dy_4 = dy[dy_b.x];
            left_4 += dy_4 * x_left;
            middle_4 += dy_4 * x_middle;
            right_4 += dy_4 * x_right;
            let dy_5 = dy[dy_b.y];
            left_5 += dy_5 * x_left;
            middle_5 += dy_5 * x_middle;
            right_5 += dy_5 * x_right;
            let dy_6 = dy[dy_b.z];
            left_6 += dy_6 * x_left;
            middle_6 += dy_6 * x_middle;
            right_6 += dy_6 * x_right;
            let dy_7 = dy[dy_b.w];
            left_7 += dy_7 * x_left;
            middle_7 += dy_7 * x_middle;
            right_7 += dy_7 * x_right;
            x_left = x_middle;
            x_middle = x_right;
            dy_a += 1u;
            dy_b += 1u;
        }
    }
    let filters = group_filters - filter_tile * 8u;
    let channels = group_channels - channel_tile * 4u;
    let first_filter = split * params.k + filter_group * group_filters + filter_tile * 8u;
    let stride = params.r * 3u;
    let filter_size = group_channels * stride;
    let at = first_filter * filter_size + channel_tile * 4u * stride + r * 3u;
    store(at, stride, channels, left_0, middle_0, right_0);
    if filters > 1u { store(at + 1u * filter_size, stride, channels, left_1, middle_1, right_1); }
    if filters > 2u { store(at + 2u * filter_size, stride, channels, left_2, middle_2, right_2); }
    if filters > 3u { store(at + 3u * filter_size, stride, channels, left_3, middle_3, right_3); }
    if filters > 4u { store(at + 4u * filter_size, stride, channels, left_4, middle_4, right_4); }
    if filters > 5u { store(at + 5u * filter_size, stride, channels, left_5, middle_5, right_5); }
    if filters > 6u { store(at + 6u * filter_size, stride, channels, left_6, middle_6, right_6); }
    if filters > 7u { store(at + 7u * filter_size, stride, channels, left_7, middle_7, right_7); }
}
