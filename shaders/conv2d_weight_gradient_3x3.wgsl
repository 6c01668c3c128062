// Convolution, gradient of the weights, for 3 x 3 filters with stride and dilation 1: dweight[k,c,r,s] = sum over n,p,q
// of dy[n,k,p,q] * x[n,c,p + r - pad_top, q + s - pad_left], over those p and q for which that pixel is in the image.
//
// Splits as in conv2d_weight_gradient.wgsl. An invocation holds 8 filters x 4 channels x all 9 taps in registers and
// walks along a row of gradients and the three rows of pixels under it: 20 loads pay for 288 multiply-adds.
//
// Shapes  x [N, C, H, W], dy [N, K, P, Q], partials [splits, K, C/groups, 3, 3]
// Grid    one invocation a split, 8 filters of a group, 4 channels of a group; channels run fastest
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

// A pixel of four channels; 0 outside of the image.
fn load(line: vec4<u32>, column: u32, row_exists: bool) -> vec4<f32> {
    let inside = row_exists && column < params.w;
    let i = select(vec4<u32>(0u), line + column, inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[i.x], x[i.y], x[i.z], x[i.w]), inside);
}

// A row of taps of one filter, for the first `channels` channels.
fn store(at: u32, channels: u32, left: vec4<f32>, middle: vec4<f32>, right: vec4<f32>) {
    if channels > 0u {
        partials[at] = left.x;
        partials[at + 1u] = middle.x;
        partials[at + 2u] = right.x;
    }
    if channels > 1u {
        partials[at + 9u] = left.y;
        partials[at + 10u] = middle.y;
        partials[at + 11u] = right.y;
    }
    if channels > 2u {
        partials[at + 18u] = left.z;
        partials[at + 19u] = middle.z;
        partials[at + 20u] = right.z;
    }
    if channels > 3u {
        partials[at + 27u] = left.w;
        partials[at + 28u] = middle.w;
        partials[at + 29u] = right.w;
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
    let channel_tile = i % channel_tiles;
    let filter_tile = i / channel_tiles % filter_tiles;
    let filter_group = i / (channel_tiles * filter_tiles) % params.groups;
    let split = i / (channel_tiles * filter_tiles * params.groups);
    if split >= params.splits {
        return;
    }
    // A tile at the edge of its group repeats the last filter and channel and does not store them again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let c = filter_group * group_channels + min(channel_tile * 4u + ahead, vec4<u32>(group_channels - 1u));
    let k_a = filter_group * group_filters + min(filter_tile * 8u + ahead, vec4<u32>(group_filters - 1u));
    let k_b = filter_group * group_filters + min(filter_tile * 8u + 4u + ahead, vec4<u32>(group_filters - 1u));
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let rows = params.n * params.p;
    let split_rows = (rows + params.splits - 1u) / params.splits;
    let end_row = min((split + 1u) * split_rows, rows);
    var left_00 = vec4<f32>(0.0);
    var middle_00 = vec4<f32>(0.0);
    var right_00 = vec4<f32>(0.0);
    var left_01 = vec4<f32>(0.0);
    var middle_01 = vec4<f32>(0.0);
    var right_01 = vec4<f32>(0.0);
    var left_02 = vec4<f32>(0.0);
    var middle_02 = vec4<f32>(0.0);
    var right_02 = vec4<f32>(0.0);
    var left_10 = vec4<f32>(0.0);
    var middle_10 = vec4<f32>(0.0);
    var right_10 = vec4<f32>(0.0);
    var left_11 = vec4<f32>(0.0);
    var middle_11 = vec4<f32>(0.0);
    var right_11 = vec4<f32>(0.0);
    var left_12 = vec4<f32>(0.0);
    var middle_12 = vec4<f32>(0.0);
    var right_12 = vec4<f32>(0.0);
    var left_20 = vec4<f32>(0.0);
    var middle_20 = vec4<f32>(0.0);
    var right_20 = vec4<f32>(0.0);
    var left_21 = vec4<f32>(0.0);
    var middle_21 = vec4<f32>(0.0);
    var right_21 = vec4<f32>(0.0);
    var left_22 = vec4<f32>(0.0);
    var middle_22 = vec4<f32>(0.0);
    var right_22 = vec4<f32>(0.0);
    var left_30 = vec4<f32>(0.0);
    var middle_30 = vec4<f32>(0.0);
    var right_30 = vec4<f32>(0.0);
    var left_31 = vec4<f32>(0.0);
    var middle_31 = vec4<f32>(0.0);
    var right_31 = vec4<f32>(0.0);
    var left_32 = vec4<f32>(0.0);
    var middle_32 = vec4<f32>(0.0);
    var right_32 = vec4<f32>(0.0);
    var left_40 = vec4<f32>(0.0);
    var middle_40 = vec4<f32>(0.0);
    var right_40 = vec4<f32>(0.0);
    var left_41 = vec4<f32>(0.0);
    var middle_41 = vec4<f32>(0.0);
    var right_41 = vec4<f32>(0.0);
    var left_42 = vec4<f32>(0.0);
    var middle_42 = vec4<f32>(0.0);
    var right_42 = vec4<f32>(0.0);
    var left_50 = vec4<f32>(0.0);
    var middle_50 = vec4<f32>(0.0);
    var right_50 = vec4<f32>(0.0);
    var left_51 = vec4<f32>(0.0);
    var middle_51 = vec4<f32>(0.0);
    var right_51 = vec4<f32>(0.0);
    var left_52 = vec4<f32>(0.0);
    var middle_52 = vec4<f32>(0.0);
    var right_52 = vec4<f32>(0.0);
    var left_60 = vec4<f32>(0.0);
    var middle_60 = vec4<f32>(0.0);
    var right_60 = vec4<f32>(0.0);
    var left_61 = vec4<f32>(0.0);
    var middle_61 = vec4<f32>(0.0);
    var right_61 = vec4<f32>(0.0);
    var left_62 = vec4<f32>(0.0);
    var middle_62 = vec4<f32>(0.0);
    var right_62 = vec4<f32>(0.0);
    var left_70 = vec4<f32>(0.0);
    var middle_70 = vec4<f32>(0.0);
    var right_70 = vec4<f32>(0.0);
    var left_71 = vec4<f32>(0.0);
    var middle_71 = vec4<f32>(0.0);
    var right_71 = vec4<f32>(0.0);
    var left_72 = vec4<f32>(0.0);
    var middle_72 = vec4<f32>(0.0);
    var right_72 = vec4<f32>(0.0);
    for (var row = split * split_rows; row < end_row; row++) {
        let n = row / params.p;
        let p = row % params.p;
        // Outside of the image these wrap to huge numbers, which are outside as well; so do columns.
        let h = p - params.pad_top;
        let exists_0 = h < params.h;
        let exists_1 = h + 1u < params.h;
        let exists_2 = h + 2u < params.h;
        let line_0 = (n * params.c + c) * plane + h * params.w;
        let line_1 = line_0 + params.w;
        let line_2 = line_1 + params.w;
        var dy_a = (n * params.k + k_a) * area + p * params.q;
        var dy_b = (n * params.k + k_b) * area + p * params.q;
        var column = 0u - params.pad_left;
        var x_left_0 = load(line_0, column, exists_0);
        var x_middle_0 = load(line_0, column + 1u, exists_0);
        var x_left_1 = load(line_1, column, exists_1);
        var x_middle_1 = load(line_1, column + 1u, exists_1);
        var x_left_2 = load(line_2, column, exists_2);
        var x_middle_2 = load(line_2, column + 1u, exists_2);
        for (var q = 0u; q < params.q; q++) {
            let x_right_0 = load(line_0, column + 2u, exists_0);
            let x_right_1 = load(line_1, column + 2u, exists_1);
            let x_right_2 = load(line_2, column + 2u, exists_2);
            let dy_0 = dy[dy_a.x];
            left_00 += dy_0 * x_left_0;
            middle_00 += dy_0 * x_middle_0;
            right_00 += dy_0 * x_right_0;
            left_01 += dy_0 * x_left_1;
            middle_01 += dy_0 * x_middle_1;
            right_01 += dy_0 * x_right_1;
            left_02 += dy_0 * x_left_2;
            middle_02 += dy_0 * x_middle_2;
            right_02 += dy_0 * x_right_2;
            let dy_1 = dy[dy_a.y];
            left_10 += dy_1 * x_left_0;
            middle_10 += dy_1 * x_middle_0;
            right_10 += dy_1 * x_right_0;
            left_11 += dy_1 * x_left_1;
            middle_11 += dy_1 * x_middle_1;
            right_11 += dy_1 * x_right_1;
            left_12 += dy_1 * x_left_2;
            middle_12 += dy_1 * x_middle_2;
            right_12 += dy_1 * x_right_2;
            let dy_2 = dy[dy_a.z];
            left_20 += dy_2 * x_left_0;
            middle_20 += dy_2 * x_middle_0;
            right_20 += dy_2 * x_right_0;
            left_21 += dy_2 * x_left_1;
            middle_21 += dy_2 * x_middle_1;
            right_21 += dy_2 * x_right_1;
            left_22 += dy_2 * x_left_2;
            middle_22 += dy_2 * x_middle_2;
            right_22 += dy_2 * x_right_2;
            let dy_3 = dy[dy_a.w];
            left_30 += dy_3 * x_left_0;
            middle_30 += dy_3 * x_middle_0;
            right_30 += dy_3 * x_right_0;
            left_31 += dy_3 * x_left_1;
            middle_31 += dy_3 * x_middle_1;
            right_31 += dy_3 * x_right_1;
            left_32 += dy_3 * x_left_2;
            middle_32 += dy_3 * x_middle_2;
            right_32 += dy_3 * x_right_2;
            let dy_4 = dy[dy_b.x];
            left_40 += dy_4 * x_left_0;
            middle_40 += dy_4 * x_middle_0;
            right_40 += dy_4 * x_right_0;
            left_41 += dy_4 * x_left_1;
            middle_41 += dy_4 * x_middle_1;
            right_41 += dy_4 * x_right_1;
            left_42 += dy_4 * x_left_2;
            middle_42 += dy_4 * x_middle_2;
            right_42 += dy_4 * x_right_2;
            let dy_5 = dy[dy_b.y];
            left_50 += dy_5 * x_left_0;
            middle_50 += dy_5 * x_middle_0;
            right_50 += dy_5 * x_right_0;
            left_51 += dy_5 * x_left_1;
            middle_51 += dy_5 * x_middle_1;
            right_51 += dy_5 * x_right_1;
            left_52 += dy_5 * x_left_2;
            middle_52 += dy_5 * x_middle_2;
            right_52 += dy_5 * x_right_2;
            let dy_6 = dy[dy_b.z];
            left_60 += dy_6 * x_left_0;
            middle_60 += dy_6 * x_middle_0;
            right_60 += dy_6 * x_right_0;
            left_61 += dy_6 * x_left_1;
            middle_61 += dy_6 * x_middle_1;
            right_61 += dy_6 * x_right_1;
            left_62 += dy_6 * x_left_2;
            middle_62 += dy_6 * x_middle_2;
            right_62 += dy_6 * x_right_2;
            let dy_7 = dy[dy_b.w];
            left_70 += dy_7 * x_left_0;
            middle_70 += dy_7 * x_middle_0;
            right_70 += dy_7 * x_right_0;
            left_71 += dy_7 * x_left_1;
            middle_71 += dy_7 * x_middle_1;
            right_71 += dy_7 * x_right_1;
            left_72 += dy_7 * x_left_2;
            middle_72 += dy_7 * x_middle_2;
            right_72 += dy_7 * x_right_2;
            x_left_0 = x_middle_0;
            x_middle_0 = x_right_0;
            x_left_1 = x_middle_1;
            x_middle_1 = x_right_1;
            x_left_2 = x_middle_2;
            x_middle_2 = x_right_2;
            column += 1u;
            dy_a += 1u;
            dy_b += 1u;
        }
    }
    let filters = group_filters - filter_tile * 8u;
    let channels = group_channels - channel_tile * 4u;
    let first_filter = split * params.k + filter_group * group_filters + filter_tile * 8u;
    let filter_size = group_channels * 9u;
    let at_0 = first_filter * filter_size + channel_tile * 36u;
    store(at_0, channels, left_00, middle_00, right_00);
    store(at_0 + 3u, channels, left_01, middle_01, right_01);
    store(at_0 + 6u, channels, left_02, middle_02, right_02);
    if filters <= 1u {
        return;
    }
    let at_1 = at_0 + filter_size;
    store(at_1, channels, left_10, middle_10, right_10);
    store(at_1 + 3u, channels, left_11, middle_11, right_11);
    store(at_1 + 6u, channels, left_12, middle_12, right_12);
    if filters <= 2u {
        return;
    }
    let at_2 = at_1 + filter_size;
    store(at_2, channels, left_20, middle_20, right_20);
    store(at_2 + 3u, channels, left_21, middle_21, right_21);
    store(at_2 + 6u, channels, left_22, middle_22, right_22);
    if filters <= 3u {
        return;
    }
    let at_3 = at_2 + filter_size;
    store(at_3, channels, left_30, middle_30, right_30);
    store(at_3 + 3u, channels, left_31, middle_31, right_31);
    store(at_3 + 6u, channels, left_32, middle_32, right_32);
    if filters <= 4u {
        return;
    }
    let at_4 = at_3 + filter_size;
    store(at_4, channels, left_40, middle_40, right_40);
    store(at_4 + 3u, channels, left_41, middle_41, right_41);
    store(at_4 + 6u, channels, left_42, middle_42, right_42);
    if filters <= 5u {
        return;
    }
    let at_5 = at_4 + filter_size;
    store(at_5, channels, left_50, middle_50, right_50);
    store(at_5 + 3u, channels, left_51, middle_51, right_51);
    store(at_5 + 6u, channels, left_52, middle_52, right_52);
    if filters <= 6u {
        return;
    }
    let at_6 = at_5 + filter_size;
    store(at_6, channels, left_60, middle_60, right_60);
    store(at_6 + 3u, channels, left_61, middle_61, right_61);
    store(at_6 + 6u, channels, left_62, middle_62, right_62);
    if filters <= 7u {
        return;
    }
    let at_7 = at_6 + filter_size;
    store(at_7, channels, left_70, middle_70, right_70);
    store(at_7 + 3u, channels, left_71, middle_71, right_71);
    store(at_7 + 6u, channels, left_72, middle_72, right_72);
}
