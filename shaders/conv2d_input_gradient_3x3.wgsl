// Convolution, gradient of the input, for 3 x 3 filters with stride and dilation 1: dx[n,c,h,w] = sum over k,r,s of
// weight[k,c,r,s] * dy[n,k,h + pad_top - r, w + pad_left - s]; dy is 0 outside of the output.
//
// As conv2d_forward_3x3.wgsl, with the filters turned round: a patch of 4 rows x 8 columns for 4 channels in registers.
//
// Shapes  dy [N, K, P, Q], weight [K, C/groups, 3, 3], dx [N, C, H, W]
// Grid    a workgroup is 4 channels of one group x 64 patches
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

struct Row {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec2<f32>,
}

// Ten neighbours of one row; 0 outside.
fn load_row(image: u32, row: u32, left: u32, in_a: vec4<bool>, in_b: vec4<bool>, in_c: vec2<bool>) -> Row {
    let exists = row < params.p;
    let inside_a = in_a & vec4<bool>(exists);
    let inside_b = in_b & vec4<bool>(exists);
    let inside_c = in_c & vec2<bool>(exists);
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let first = image + row * params.q + left;
    let a = select(vec4<u32>(0u), first + ahead, inside_a);
    let b = select(vec4<u32>(0u), first + 4u + ahead, inside_b);
    let c = select(vec2<u32>(0u), first + 8u + ahead.xy, inside_c);
    return Row(
        select(vec4<f32>(0.0), vec4<f32>(dy[a.x], dy[a.y], dy[a.z], dy[a.w]), inside_a),
        select(vec4<f32>(0.0), vec4<f32>(dy[b.x], dy[b.y], dy[b.z], dy[b.w]), inside_b),
        select(vec2<f32>(0.0), vec2<f32>(dy[c.x], dy[c.y]), inside_c),
    );
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_channels + 3u) / 4u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    // Channels within the group; a tile at its edge repeats the last one and does not store it again.
    let first = tile % group_tiles * 4u;
    let c = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(group_channels - 1u));
    let patch_rows = (params.h + 3u) / 4u;
    let patch_columns = (params.w + 7u) / 8u;
    let i = index / tiles * 64u + local;
    if i >= params.n * patch_rows * patch_columns {
        return;
    }
    let n = i / (patch_rows * patch_columns);
    let h = i / patch_columns % patch_rows * 4u;
    let w = i % patch_columns * 8u;

    // Outside of the output these wrap to huge numbers, which are outside as well.
    let top = h + params.pad_top - 2u;
    let left = w + params.pad_left - 2u;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let inside_a = left + ahead < vec4<u32>(params.q);
    let inside_b = left + 4u + ahead < vec4<u32>(params.q);
    let inside_c = left + 8u + ahead.xy < vec2<u32>(params.q);
    let plane = params.h * params.w;
    let area = params.p * params.q;
    var at = (filter_group * group_filters * group_channels + c) * 9u;
    var image = (n * params.k + filter_group * group_filters) * area;
    var sum_00a = vec4<f32>(0.0);
    var sum_00b = sum_00a;
    var sum_01a = vec4<f32>(0.0);
    var sum_01b = sum_01a;
    var sum_02a = vec4<f32>(0.0);
    var sum_02b = sum_02a;
    var sum_03a = vec4<f32>(0.0);
    var sum_03b = sum_03a;
    var sum_10a = vec4<f32>(0.0);
    var sum_10b = sum_10a;
    var sum_11a = vec4<f32>(0.0);
    var sum_11b = sum_11a;
    var sum_12a = vec4<f32>(0.0);
    var sum_12b = sum_12a;
    var sum_13a = vec4<f32>(0.0);
    var sum_13b = sum_13a;
    var sum_20a = vec4<f32>(0.0);
    var sum_20b = sum_20a;
    var sum_21a = vec4<f32>(0.0);
    var sum_21b = sum_21a;
    var sum_22a = vec4<f32>(0.0);
    var sum_22b = sum_22a;
    var sum_23a = vec4<f32>(0.0);
    var sum_23b = sum_23a;
    var sum_30a = vec4<f32>(0.0);
    var sum_30b = sum_30a;
    var sum_31a = vec4<f32>(0.0);
    var sum_31b = sum_31a;
    var sum_32a = vec4<f32>(0.0);
    var sum_32b = sum_32a;
    var sum_33a = vec4<f32>(0.0);
    var sum_33b = sum_33a;
    for (var k = 0u; k < group_filters; k++) {
        // The taps of each output channel, row by row.
        let weight_00 = three_taps(at.x);
        let weight_01 = three_taps(at.x + 3u);
        let weight_02 = three_taps(at.x + 6u);
        let weight_10 = three_taps(at.y);
        let weight_11 = three_taps(at.y + 3u);
        let weight_12 = three_taps(at.y + 6u);
        let weight_20 = three_taps(at.z);
        let weight_21 = three_taps(at.z + 3u);
        let weight_22 = three_taps(at.z + 6u);
        let weight_30 = three_taps(at.w);
        let weight_31 = three_taps(at.w + 3u);
        let weight_32 = three_taps(at.w + 6u);

        let row_0 = load_row(image, top, left, inside_a, inside_b, inside_c);
        let a0_1 = vec4<f32>(row_0.a.yzw, row_0.b.x);
        let b0_1 = vec4<f32>(row_0.b.yzw, row_0.c.x);
        let a0_2 = vec4<f32>(row_0.a.zw, row_0.b.xy);
        let b0_2 = vec4<f32>(row_0.b.zw, row_0.c);
        sum_00a += weight_02.z * row_0.a + weight_02.y * a0_1 + weight_02.x * a0_2;
        sum_00b += weight_02.z * row_0.b + weight_02.y * b0_1 + weight_02.x * b0_2;
        sum_10a += weight_12.z * row_0.a + weight_12.y * a0_1 + weight_12.x * a0_2;
        sum_10b += weight_12.z * row_0.b + weight_12.y * b0_1 + weight_12.x * b0_2;
        sum_20a += weight_22.z * row_0.a + weight_22.y * a0_1 + weight_22.x * a0_2;
        sum_20b += weight_22.z * row_0.b + weight_22.y * b0_1 + weight_22.x * b0_2;
        sum_30a += weight_32.z * row_0.a + weight_32.y * a0_1 + weight_32.x * a0_2;
        sum_30b += weight_32.z * row_0.b + weight_32.y * b0_1 + weight_32.x * b0_2;

        let row_1 = load_row(image, top + 1u, left, inside_a, inside_b, inside_c);
        let a1_1 = vec4<f32>(row_1.a.yzw, row_1.b.x);
        let b1_1 = vec4<f32>(row_1.b.yzw, row_1.c.x);
        let a1_2 = vec4<f32>(row_1.a.zw, row_1.b.xy);
        let b1_2 = vec4<f32>(row_1.b.zw, row_1.c);
        sum_00a += weight_01.z * row_1.a + weight_01.y * a1_1 + weight_01.x * a1_2;
        sum_00b += weight_01.z * row_1.b + weight_01.y * b1_1 + weight_01.x * b1_2;
        sum_10a += weight_11.z * row_1.a + weight_11.y * a1_1 + weight_11.x * a1_2;
        sum_10b += weight_11.z * row_1.b + weight_11.y * b1_1 + weight_11.x * b1_2;
        sum_20a += weight_21.z * row_1.a + weight_21.y * a1_1 + weight_21.x * a1_2;
        sum_20b += weight_21.z * row_1.b + weight_21.y * b1_1 + weight_21.x * b1_2;
        sum_30a += weight_31.z * row_1.a + weight_31.y * a1_1 + weight_31.x * a1_2;
        sum_30b += weight_31.z * row_1.b + weight_31.y * b1_1 + weight_31.x * b1_2;
        sum_01a += weight_02.z * row_1.a + weight_02.y * a1_1 + weight_02.x * a1_2;
        sum_01b += weight_02.z * row_1.b + weight_02.y * b1_1 + weight_02.x * b1_2;
        sum_11a += weight_12.z * row_1.a + weight_12.y * a1_1 + weight_12.x * a1_2;
        sum_11b += weight_12.z * row_1.b + weight_12.y * b1_1 + weight_12.x * b1_2;
        sum_21a += weight_22.z * row_1.a + weight_22.y * a1_1 + weight_22.x * a1_2;
        sum_21b += weight_22.z * row_1.b + weight_22.y * b1_1 + weight_22.x * b1_2;
        sum_31a += weight_32.z * row_1.a + weight_32.y * a1_1 + weight_32.x * a1_2;
        sum_31b += weight_32.z * row_1.b + weight_32.y * b1_1 + weight_32.x * b1_2;

        let row_2 = load_row(image, top + 2u, left, inside_a, inside_b, inside_c);
        let a2_1 = vec4<f32>(row_2.a.yzw, row_2.b.x);
        let b2_1 = vec4<f32>(row_2.b.yzw, row_2.c.x);
        let a2_2 = vec4<f32>(row_2.a.zw, row_2.b.xy);
        let b2_2 = vec4<f32>(row_2.b.zw, row_2.c);
        sum_00a += weight_00.z * row_2.a + weight_00.y * a2_1 + weight_00.x * a2_2;
        sum_00b += weight_00.z * row_2.b + weight_00.y * b2_1 + weight_00.x * b2_2;
        sum_10a += weight_10.z * row_2.a + weight_10.y * a2_1 + weight_10.x * a2_2;
        sum_10b += weight_10.z * row_2.b + weight_10.y * b2_1 + weight_10.x * b2_2;
        sum_20a += weight_20.z * row_2.a + weight_20.y * a2_1 + weight_20.x * a2_2;
        sum_20b += weight_20.z * row_2.b + weight_20.y * b2_1 + weight_20.x * b2_2;
        sum_30a += weight_30.z * row_2.a + weight_30.y * a2_1 + weight_30.x * a2_2;
        sum_30b += weight_30.z * row_2.b + weight_30.y * b2_1 + weight_30.x * b2_2;
        sum_01a += weight_01.z * row_2.a + weight_01.y * a2_1 + weight_01.x * a2_2;
        sum_01b += weight_01.z * row_2.b + weight_01.y * b2_1 + weight_01.x * b2_2;
        sum_11a += weight_11.z * row_2.a + weight_11.y * a2_1 + weight_11.x * a2_2;
        sum_11b += weight_11.z * row_2.b + weight_11.y * b2_1 + weight_11.x * b2_2;
        sum_21a += weight_21.z * row_2.a + weight_21.y * a2_1 + weight_21.x * a2_2;
        sum_21b += weight_21.z * row_2.b + weight_21.y * b2_1 + weight_21.x * b2_2;
        sum_31a += weight_31.z * row_2.a + weight_31.y * a2_1 + weight_31.x * a2_2;
        sum_31b += weight_31.z * row_2.b + weight_31.y * b2_1 + weight_31.x * b2_2;
        sum_02a += weight_02.z * row_2.a + weight_02.y * a2_1 + weight_02.x * a2_2;
        sum_02b += weight_02.z * row_2.b + weight_02.y * b2_1 + weight_02.x * b2_2;
        sum_12a += weight_12.z * row_2.a + weight_12.y * a2_1 + weight_12.x * a2_2;
        sum_12b += weight_12.z * row_2.b + weight_12.y * b2_1 + weight_12.x * b2_2;
        sum_22a += weight_22.z * row_2.a + weight_22.y * a2_1 + weight_22.x * a2_2;
        sum_22b += weight_22.z * row_2.b + weight_22.y * b2_1 + weight_22.x * b2_2;
        sum_32a += weight_32.z * row_2.a + weight_32.y * a2_1 + weight_32.x * a2_2;
        sum_32b += weight_32.z * row_2.b + weight_32.y * b2_1 + weight_32.x * b2_2;

        let row_3 = load_row(image, top + 3u, left, inside_a, inside_b, inside_c);
        let a3_1 = vec4<f32>(row_3.a.yzw, row_3.b.x);
        let b3_1 = vec4<f32>(row_3.b.yzw, row_3.c.x);
        let a3_2 = vec4<f32>(row_3.a.zw, row_3.b.xy);
        let b3_2 = vec4<f32>(row_3.b.zw, row_3.c);
        sum_01a += weight_00.z * row_3.a + weight_00.y * a3_1 + weight_00.x * a3_2;
        sum_01b += weight_00.z * row_3.b + weight_00.y * b3_1 + weight_00.x * b3_2;
        sum_11a += weight_10.z * row_3.a + weight_10.y * a3_1 + weight_10.x * a3_2;
        sum_11b += weight_10.z * row_3.b + weight_10.y * b3_1 + weight_10.x * b3_2;
        sum_21a += weight_20.z * row_3.a + weight_20.y * a3_1 + weight_20.x * a3_2;
        sum_21b += weight_20.z * row_3.b + weight_20.y * b3_1 + weight_20.x * b3_2;
        sum_31a += weight_30.z * row_3.a + weight_30.y * a3_1 + weight_30.x * a3_2;
        sum_31b += weight_30.z * row_3.b + weight_30.y * b3_1 + weight_30.x * b3_2;
        sum_02a += weight_01.z * row_3.a + weight_01.y * a3_1 + weight_01.x * a3_2;
        sum_02b += weight_01.z * row_3.b + weight_01.y * b3_1 + weight_01.x * b3_2;
        sum_12a += weight_11.z * row_3.a + weight_11.y * a3_1 + weight_11.x * a3_2;
        sum_12b += weight_11.z * row_3.b + weight_11.y * b3_1 + weight_11.x * b3_2;
        sum_22a += weight_21.z * row_3.a + weight_21.y * a3_1 + weight_21.x * a3_2;
        sum_22b += weight_21.z * row_3.b + weight_21.y * b3_1 + weight_21.x * b3_2;
        sum_32a += weight_31.z * row_3.a + weight_31.y * a3_1 + weight_31.x * a3_2;
        sum_32b += weight_31.z * row_3.b + weight_31.y * b3_1 + weight_31.x * b3_2;
        sum_03a += weight_02.z * row_3.a + weight_02.y * a3_1 + weight_02.x * a3_2;
        sum_03b += weight_02.z * row_3.b + weight_02.y * b3_1 + weight_02.x * b3_2;
        sum_13a += weight_12.z * row_3.a + weight_12.y * a3_1 + weight_12.x * a3_2;
        sum_13b += weight_12.z * row_3.b + weight_12.y * b3_1 + weight_12.x * b3_2;
        sum_23a += weight_22.z * row_3.a + weight_22.y * a3_1 + weight_22.x * a3_2;
        sum_23b += weight_22.z * row_3.b + weight_22.y * b3_1 + weight_22.x * b3_2;
        sum_33a += weight_32.z * row_3.a + weight_32.y * a3_1 + weight_32.x * a3_2;
        sum_33b += weight_32.z * row_3.b + weight_32.y * b3_1 + weight_32.x * b3_2;

        let row_4 = load_row(image, top + 4u, left, inside_a, inside_b, inside_c);
        let a4_1 = vec4<f32>(row_4.a.yzw, row_4.b.x);
        let b4_1 = vec4<f32>(row_4.b.yzw, row_4.c.x);
        let a4_2 = vec4<f32>(row_4.a.zw, row_4.b.xy);
        let b4_2 = vec4<f32>(row_4.b.zw, row_4.c);
        sum_02a += weight_00.z * row_4.a + weight_00.y * a4_1 + weight_00.x * a4_2;
        sum_02b += weight_00.z * row_4.b + weight_00.y * b4_1 + weight_00.x * b4_2;
        sum_12a += weight_10.z * row_4.a + weight_10.y * a4_1 + weight_10.x * a4_2;
        sum_12b += weight_10.z * row_4.b + weight_10.y * b4_1 + weight_10.x * b4_2;
        sum_22a += weight_20.z * row_4.a + weight_20.y * a4_1 + weight_20.x * a4_2;
        sum_22b += weight_20.z * row_4.b + weight_20.y * b4_1 + weight_20.x * b4_2;
        sum_32a += weight_30.z * row_4.a + weight_30.y * a4_1 + weight_30.x * a4_2;
        sum_32b += weight_30.z * row_4.b + weight_30.y * b4_1 + weight_30.x * b4_2;
        sum_03a += weight_01.z * row_4.a + weight_01.y * a4_1 + weight_01.x * a4_2;
        sum_03b += weight_01.z * row_4.b + weight_01.y * b4_1 + weight_01.x * b4_2;
        sum_13a += weight_11.z * row_4.a + weight_11.y * a4_1 + weight_11.x * a4_2;
        sum_13b += weight_11.z * row_4.b + weight_11.y * b4_1 + weight_11.x * b4_2;
        sum_23a += weight_21.z * row_4.a + weight_21.y * a4_1 + weight_21.x * a4_2;
        sum_23b += weight_21.z * row_4.b + weight_21.y * b4_1 + weight_21.x * b4_2;
        sum_33a += weight_31.z * row_4.a + weight_31.y * a4_1 + weight_31.x * a4_2;
        sum_33b += weight_31.z * row_4.b + weight_31.y * b4_1 + weight_31.x * b4_2;

        let row_5 = load_row(image, top + 5u, left, inside_a, inside_b, inside_c);
        let a5_1 = vec4<f32>(row_5.a.yzw, row_5.b.x);
        let b5_1 = vec4<f32>(row_5.b.yzw, row_5.c.x);
        let a5_2 = vec4<f32>(row_5.a.zw, row_5.b.xy);
        let b5_2 = vec4<f32>(row_5.b.zw, row_5.c);
        sum_03a += weight_00.z * row_5.a + weight_00.y * a5_1 + weight_00.x * a5_2;
        sum_03b += weight_00.z * row_5.b + weight_00.y * b5_1 + weight_00.x * b5_2;
        sum_13a += weight_10.z * row_5.a + weight_10.y * a5_1 + weight_10.x * a5_2;
        sum_13b += weight_10.z * row_5.b + weight_10.y * b5_1 + weight_10.x * b5_2;
        sum_23a += weight_20.z * row_5.a + weight_20.y * a5_1 + weight_20.x * a5_2;
        sum_23b += weight_20.z * row_5.b + weight_20.y * b5_1 + weight_20.x * b5_2;
        sum_33a += weight_30.z * row_5.a + weight_30.y * a5_1 + weight_30.x * a5_2;
        sum_33b += weight_30.z * row_5.b + weight_30.y * b5_1 + weight_30.x * b5_2;
        at += group_channels * 9u;
        image += area;
    }
    let out = (n * params.c + filter_group * group_channels + first) * plane + h * params.w + w;
    let rows = params.h - h;
    let count = params.w - w;
    store(out, count, sum_00a, sum_00b);
    if rows > 1u { store(out + params.w, count, sum_01a, sum_01b); }
    if rows > 2u { store(out + 2u * params.w, count, sum_02a, sum_02b); }
    if rows > 3u { store(out + 3u * params.w, count, sum_03a, sum_03b); }
    if first + 1u >= group_channels {
        return;
    }
    let out_1 = out + 1u * plane;
    store(out_1, count, sum_10a, sum_10b);
    if rows > 1u { store(out_1 + params.w, count, sum_11a, sum_11b); }
    if rows > 2u { store(out_1 + 2u * params.w, count, sum_12a, sum_12b); }
    if rows > 3u { store(out_1 + 3u * params.w, count, sum_13a, sum_13b); }
    if first + 2u >= group_channels {
        return;
    }
    let out_2 = out + 2u * plane;
    store(out_2, count, sum_20a, sum_20b);
    if rows > 1u { store(out_2 + params.w, count, sum_21a, sum_21b); }
    if rows > 2u { store(out_2 + 2u * params.w, count, sum_22a, sum_22b); }
    if rows > 3u { store(out_2 + 3u * params.w, count, sum_23a, sum_23b); }
    if first + 3u >= group_channels {
        return;
    }
    let out_3 = out + 3u * plane;
    store(out_3, count, sum_30a, sum_30b);
    if rows > 1u { store(out_3 + params.w, count, sum_31a, sum_31b); }
    if rows > 2u { store(out_3 + 2u * params.w, count, sum_32a, sum_32b); }
    if rows > 3u { store(out_3 + 3u * params.w, count, sum_33a, sum_33b); }
}
