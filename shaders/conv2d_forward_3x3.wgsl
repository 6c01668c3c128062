// Convolution, forward, for 3 x 3 filters with stride and dilation 1: y[n,k,p,q] = bias[k] + sum over c,r,s of
// weight[k,c,r,s] * x[n,c,p + r - pad_top, q + s - pad_left]; x is 0 outside of the image.
//
// An invocation holds a patch of 4 rows x 8 columns for 4 filters. For one channel it loads 6 rows of 10 pixels and 36
// weights, and all three rows and columns of taps meet them in registers: 96 loads pay for 1152 multiply-adds. No
// workgroup memory and no barriers.
//
// Shapes  x [N, C, H, W], weight [K, C/groups, 3, 3], bias [K] (read when has_bias is 1), y [N, K, P, Q]
// Grid    a workgroup is 4 filters of one group x 64 patches
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

struct Row {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec2<f32>,
}

// Ten neighbours of one row; 0 outside.
fn load_row(image: u32, row: u32, left: u32, in_a: vec4<bool>, in_b: vec4<bool>, in_c: vec2<bool>) -> Row {
    let exists = row < params.h;
    let inside_a = in_a & vec4<bool>(exists);
    let inside_b = in_b & vec4<bool>(exists);
    let inside_c = in_c & vec2<bool>(exists);
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let first = image + row * params.w + left;
    let a = select(vec4<u32>(0u), first + ahead, inside_a);
    let b = select(vec4<u32>(0u), first + 4u + ahead, inside_b);
    let c = select(vec2<u32>(0u), first + 8u + ahead.xy, inside_c);
    return Row(
        select(vec4<f32>(0.0), vec4<f32>(x[a.x], x[a.y], x[a.z], x[a.w]), inside_a),
        select(vec4<f32>(0.0), vec4<f32>(x[b.x], x[b.y], x[b.z], x[b.w]), inside_b),
        select(vec2<f32>(0.0), vec2<f32>(x[c.x], x[c.y]), inside_c),
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
    let group_tiles = (group_filters + 3u) / 4u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    // Filters within the group; a tile at its edge repeats the last one and does not store it again.
    let first = tile % group_tiles * 4u;
    let k = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(group_filters - 1u));
    let patch_rows = (params.p + 3u) / 4u;
    let patch_columns = (params.q + 7u) / 8u;
    let i = index / tiles * 64u + local;
    if i >= params.n * patch_rows * patch_columns {
        return;
    }
    let n = i / (patch_rows * patch_columns);
    let p = i / patch_columns % patch_rows * 4u;
    let q = i % patch_columns * 8u;

    // Outside of the image these wrap to huge numbers, which are outside as well.
    let top = p - params.pad_top;
    let left = q - params.pad_left;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let inside_a = left + ahead < vec4<u32>(params.w);
    let inside_b = left + 4u + ahead < vec4<u32>(params.w);
    let inside_c = left + 8u + ahead.xy < vec2<u32>(params.w);
    let plane = params.h * params.w;
    let area = params.p * params.q;
    var at = (filter_group * group_filters + k) * group_channels * 9u;
    var image = (n * params.c + filter_group * group_channels) * plane;
    var start = vec4<f32>(0.0);
    if params.has_bias == 1u {
        let of_bias = filter_group * group_filters + k;
        start = vec4<f32>(bias[of_bias.x], bias[of_bias.y], bias[of_bias.z], bias[of_bias.w]);
    }
    var sum_00a = vec4<f32>(start.x);
    var sum_00b = sum_00a;
    var sum_01a = vec4<f32>(start.x);
    var sum_01b = sum_01a;
    var sum_02a = vec4<f32>(start.x);
    var sum_02b = sum_02a;
    var sum_03a = vec4<f32>(start.x);
    var sum_03b = sum_03a;
    var sum_10a = vec4<f32>(start.y);
    var sum_10b = sum_10a;
    var sum_11a = vec4<f32>(start.y);
    var sum_11b = sum_11a;
    var sum_12a = vec4<f32>(start.y);
    var sum_12b = sum_12a;
    var sum_13a = vec4<f32>(start.y);
    var sum_13b = sum_13a;
    var sum_20a = vec4<f32>(start.z);
    var sum_20b = sum_20a;
    var sum_21a = vec4<f32>(start.z);
    var sum_21b = sum_21a;
    var sum_22a = vec4<f32>(start.z);
    var sum_22b = sum_22a;
    var sum_23a = vec4<f32>(start.z);
    var sum_23b = sum_23a;
    var sum_30a = vec4<f32>(start.w);
    var sum_30b = sum_30a;
    var sum_31a = vec4<f32>(start.w);
    var sum_31b = sum_31a;
    var sum_32a = vec4<f32>(start.w);
    var sum_32b = sum_32a;
    var sum_33a = vec4<f32>(start.w);
    var sum_33b = sum_33a;
    for (var c = 0u; c < group_channels; c++) {
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
        sum_00a += weight_00.x * row_0.a + weight_00.y * a0_1 + weight_00.z * a0_2;
        sum_00b += weight_00.x * row_0.b + weight_00.y * b0_1 + weight_00.z * b0_2;
        sum_10a += weight_10.x * row_0.a + weight_10.y * a0_1 + weight_10.z * a0_2;
        sum_10b += weight_10.x * row_0.b + weight_10.y * b0_1 + weight_10.z * b0_2;
        sum_20a += weight_20.x * row_0.a + weight_20.y * a0_1 + weight_20.z * a0_2;
        sum_20b += weight_20.x * row_0.b + weight_20.y * b0_1 + weight_20.z * b0_2;
        sum_30a += weight_30.x * row_0.a + weight_30.y * a0_1 + weight_30.z * a0_2;
        sum_30b += weight_30.x * row_0.b + weight_30.y * b0_1 + weight_30.z * b0_2;

        let row_1 = load_row(image, top + 1u, left, inside_a, inside_b, inside_c);
        let a1_1 = vec4<f32>(row_1.a.yzw, row_1.b.x);
        let b1_1 = vec4<f32>(row_1.b.yzw, row_1.c.x);
        let a1_2 = vec4<f32>(row_1.a.zw, row_1.b.xy);
        let b1_2 = vec4<f32>(row_1.b.zw, row_1.c);
        sum_00a += weight_01.x * row_1.a + weight_01.y * a1_1 + weight_01.z * a1_2;
        sum_00b += weight_01.x * row_1.b + weight_01.y * b1_1 + weight_01.z * b1_2;
        sum_10a += weight_11.x * row_1.a + weight_11.y * a1_1 + weight_11.z * a1_2;
        sum_10b += weight_11.x * row_1.b + weight_11.y * b1_1 + weight_11.z * b1_2;
        sum_20a += weight_21.x * row_1.a + weight_21.y * a1_1 + weight_21.z * a1_2;
        sum_20b += weight_21.x * row_1.b + weight_21.y * b1_1 + weight_21.z * b1_2;
        sum_30a += weight_31.x * row_1.a + weight_31.y * a1_1 + weight_31.z * a1_2;
        sum_30b += weight_31.x * row_1.b + weight_31.y * b1_1 + weight_31.z * b1_2;
        sum_01a += weight_00.x * row_1.a + weight_00.y * a1_1 + weight_00.z * a1_2;
        sum_01b += weight_00.x * row_1.b + weight_00.y * b1_1 + weight_00.z * b1_2;
        sum_11a += weight_10.x * row_1.a + weight_10.y * a1_1 + weight_10.z * a1_2;
        sum_11b += weight_10.x * row_1.b + weight_10.y * b1_1 + weight_10.z * b1_2;
        sum_21a += weight_20.x * row_1.a + weight_20.y * a1_1 + weight_20.z * a1_2;
        sum_21b += weight_20.x * row_1.b + weight_20.y * b1_1 + weight_20.z * b1_2;
        sum_31a += weight_30.x * row_1.a + weight_30.y * a1_1 + weight_30.z * a1_2;
        sum_31b += weight_30.x * row_1.b + weight_30.y * b1_1 + weight_30.z * b1_2;

        let row_2 = load_row(image, top + 2u, left, inside_a, inside_b, inside_c);
        let a2_1 = vec4<f32>(row_2.a.yzw, row_2.b.x);
        let b2_1 = vec4<f32>(row_2.b.yzw, row_2.c.x);
        let a2_2 = vec4<f32>(row_2.a.zw, row_2.b.xy);
        let b2_2 = vec4<f32>(row_2.b.zw, row_2.c);
        sum_00a += weight_02.x * row_2.a + weight_02.y * a2_1 + weight_02.z * a2_2;
        sum_00b += weight_02.x * row_2.b + weight_02.y * b2_1 + weight_02.z * b2_2;
        sum_10a += weight_12.x * row_2.a + weight_12.y * a2_1 + weight_12.z * a2_2;
        sum_10b += weight_12.x * row_2.b + weight_12.y * b2_1 + weight_12.z * b2_2;
        sum_20a += weight_22.x * row_2.a + weight_22.y * a2_1 + weight_22.z * a2_2;
        sum_20b += weight_22.x * row_2.b + weight_22.y * b2_1 + weight_22.z * b2_2;
        sum_30a += weight_32.x * row_2.a + weight_32.y * a2_1 + weight_32.z * a2_2;
        sum_30b += weight_32.x * row_2.b + weight_32.y * b2_1 + weight_32.z * b2_2;
        sum_01a += weight_01.x * row_2.a + weight_01.y * a2_1 + weight_01.z * a2_2;
        sum_01b += weight_01.x * row_2.b + weight_01.y * b2_1 + weight_01.z * b2_2;
        sum_11a += weight_11.x * row_2.a + weight_11.y * a2_1 + weight_11.z * a2_2;
        sum_11b += weight_11.x * row_2.b + weight_11.y * b2_1 + weight_11.z * b2_2;
        sum_21a += weight_21.x * row_2.a + weight_21.y * a2_1 + weight_21.z * a2_2;
        sum_21b += weight_21.x * row_2.b + weight_21.y * b2_1 + weight_21.z * b2_2;
        sum_31a += weight_31.x * row_2.a + weight_31.y * a2_1 + weight_31.z * a2_2;
        sum_31b += weight_31.x * row_2.b + weight_31.y * b2_1 + weight_31.z * b2_2;
        sum_02a += weight_00.x * row_2.a + weight_00.y * a2_1 + weight_00.z * a2_2;
        sum_02b += weight_00.x * row_2.b + weight_00.y * b2_1 + weight_00.z * b2_2;
        sum_12a += weight_10.x * row_2.a + weight_10.y * a2_1 + weight_10.z * a2_2;
        sum_12b += weight_10.x * row_2.b + weight_10.y * b2_1 + weight_10.z * b2_2;
        sum_22a += weight_20.x * row_2.a + weight_20.y * a2_1 + weight_20.z * a2_2;
        sum_22b += weight_20.x * row_2.b + weight_20.y * b2_1 + weight_20.z * b2_2;
        sum_32a += weight_30.x * row_2.a + weight_30.y * a2_1 + weight_30.z * a2_2;
        sum_32b += weight_30.x * row_2.b + weight_30.y * b2_1 + weight_30.z * b2_2;

        let row_3 = load_row(image, top + 3u, left, inside_a, inside_b, inside_c);
        let a3_1 = vec4<f32>(row_3.a.yzw, row_3.b.x);
        let b3_1 = vec4<f32>(row_3.b.yzw, row_3.c.x);
        let a3_2 = vec4<f32>(row_3.a.zw, row_3.b.xy);
        let b3_2 = vec4<f32>(row_3.b.zw, row_3.c);
        sum_01a += weight_02.x * row_3.a + weight_02.y * a3_1 + weight_02.z * a3_2;
        sum_01b += weight_02.x * row_3.b + weight_02.y * b3_1 + weight_02.z * b3_2;
        sum_11a += weight_12.x * row_3.a + weight_12.y * a3_1 + weight_12.z * a3_2;
        sum_11b += weight_12.x * row_3.b + weight_12.y * b3_1 + weight_12.z * b3_2;
        sum_21a += weight_22.x * row_3.a + weight_22.y * a3_1 + weight_22.z * a3_2;
        sum_21b += weight_22.x * row_3.b + weight_22.y * b3_1 + weight_22.z * b3_2;
        sum_31a += weight_32.x * row_3.a + weight_32.y * a3_1 + weight_32.z * a3_2;
        sum_31b += weight_32.x * row_3.b + weight_32.y * b3_1 + weight_32.z * b3_2;
        sum_02a += weight_01.x * row_3.a + weight_01.y * a3_1 + weight_01.z * a3_2;
        sum_02b += weight_01.x * row_3.b + weight_01.y * b3_1 + weight_01.z * b3_2;
        sum_12a += weight_11.x * row_3.a + weight_11.y * a3_1 + weight_11.z * a3_2;
        sum_12b += weight_11.x * row_3.b + weight_11.y * b3_1 + weight_11.z * b3_2;
        sum_22a += weight_21.x * row_3.a + weight_21.y * a3_1 + weight_21.z * a3_2;
        sum_22b += weight_21.x * row_3.b + weight_21.y * b3_1 + weight_21.z * b3_2;
        sum_32a += weight_31.x * row_3.a + weight_31.y * a3_1 + weight_31.z * a3_2;
        sum_32b += weight_31.x * row_3.b + weight_31.y * b3_1 + weight_31.z * b3_2;
        sum_03a += weight_00.x * row_3.a + weight_00.y * a3_1 + weight_00.z * a3_2;
        sum_03b += weight_00.x * row_3.b + weight_00.y * b3_1 + weight_00.z * b3_2;
        sum_13a += weight_10.x * row_3.a + weight_10.y * a3_1 + weight_10.z * a3_2;
        sum_13b += weight_10.x * row_3.b + weight_10.y * b3_1 + weight_10.z * b3_2;
        sum_23a += weight_20.x * row_3.a + weight_20.y * a3_1 + weight_20.z * a3_2;
        sum_23b += weight_20.x * row_3.b + weight_20.y * b3_1 + weight_20.z * b3_2;
        sum_33a += weight_30.x * row_3.a + weight_30.y * a3_1 + weight_30.z * a3_2;
        sum_33b += weight_30.x * row_3.b + weight_30.y * b3_1 + weight_30.z * b3_2;

        let row_4 = load_row(image, top + 4u, left, inside_a, inside_b, inside_c);
        let a4_1 = vec4<f32>(row_4.a.yzw, row_4.b.x);
        let b4_1 = vec4<f32>(row_4.b.yzw, row_4.c.x);
        let a4_2 = vec4<f32>(row_4.a.zw, row_4.b.xy);
        let b4_2 = vec4<f32>(row_4.b.zw, row_4.c);
        sum_02a += weight_02.x * row_4.a + weight_02.y * a4_1 + weight_02.z * a4_2;
        sum_02b += weight_02.x * row_4.b + weight_02.y * b4_1 + weight_02.z * b4_2;
        sum_12a += weight_12.x * row_4.a + weight_12.y * a4_1 + weight_12.z * a4_2;
        sum_12b += weight_12.x * row_4.b + weight_12.y * b4_1 + weight_12.z * b4_2;
        sum_22a += weight_22.x * row_4.a + weight_22.y * a4_1 + weight_22.z * a4_2;
        sum_22b += weight_22.x * row_4.b + weight_22.y * b4_1 + weight_22.z * b4_2;
        sum_32a += weight_32.x * row_4.a + weight_32.y * a4_1 + weight_32.z * a4_2;
        sum_32b += weight_32.x * row_4.b + weight_32.y * b4_1 + weight_32.z * b4_2;
        sum_03a += weight_01.x * row_4.a + weight_01.y * a4_1 + weight_01.z * a4_2;
        sum_03b += weight_01.x * row_4.b + weight_01.y * b4_1 + weight_01.z * b4_2;
        sum_13a += weight_11.x * row_4.a + weight_11.y * a4_1 + weight_11.z * a4_2;
        sum_13b += weight_11.x * row_4.b + weight_11.y * b4_1 + weight_11.z * b4_2;
        sum_23a += weight_21.x * row_4.a + weight_21.y * a4_1 + weight_21.z * a4_2;
        sum_23b += weight_21.x * row_4.b + weight_21.y * b4_1 + weight_21.z * b4_2;
        sum_33a += weight_31.x * row_4.a + weight_31.y * a4_1 + weight_31.z * a4_2;
        sum_33b += weight_31.x * row_4.b + weight_31.y * b4_1 + weight_31.z * b4_2;

        let row_5 = load_row(image, top + 5u, left, inside_a, inside_b, inside_c);
        let a5_1 = vec4<f32>(row_5.a.yzw, row_5.b.x);
        let b5_1 = vec4<f32>(row_5.b.yzw, row_5.c.x);
        let a5_2 = vec4<f32>(row_5.a.zw, row_5.b.xy);
        let b5_2 = vec4<f32>(row_5.b.zw, row_5.c);
        sum_03a += weight_02.x * row_5.a + weight_02.y * a5_1 + weight_02.z * a5_2;
        sum_03b += weight_02.x * row_5.b + weight_02.y * b5_1 + weight_02.z * b5_2;
        sum_13a += weight_12.x * row_5.a + weight_12.y * a5_1 + weight_12.z * a5_2;
        sum_13b += weight_12.x * row_5.b + weight_12.y * b5_1 + weight_12.z * b5_2;
        sum_23a += weight_22.x * row_5.a + weight_22.y * a5_1 + weight_22.z * a5_2;
        sum_23b += weight_22.x * row_5.b + weight_22.y * b5_1 + weight_22.z * b5_2;
        sum_33a += weight_32.x * row_5.a + weight_32.y * a5_1 + weight_32.z * a5_2;
        sum_33b += weight_32.x * row_5.b + weight_32.y * b5_1 + weight_32.z * b5_2;
        at += 9u;
        image += plane;
    }
    let out = (n * params.k + filter_group * group_filters + first) * area + p * params.q + q;
    let rows = params.p - p;
    let count = params.q - q;
    store(out, count, sum_00a, sum_00b);
    if rows > 1u { store(out + params.q, count, sum_01a, sum_01b); }
    if rows > 2u { store(out + 2u * params.q, count, sum_02a, sum_02b); }
    if rows > 3u { store(out + 3u * params.q, count, sum_03a, sum_03b); }
    if first + 1u >= group_filters {
        return;
    }
    let out_1 = out + 1u * area;
    store(out_1, count, sum_10a, sum_10b);
    if rows > 1u { store(out_1 + params.q, count, sum_11a, sum_11b); }
    if rows > 2u { store(out_1 + 2u * params.q, count, sum_12a, sum_12b); }
    if rows > 3u { store(out_1 + 3u * params.q, count, sum_13a, sum_13b); }
    if first + 2u >= group_filters {
        return;
    }
    let out_2 = out + 2u * area;
    store(out_2, count, sum_20a, sum_20b);
    if rows > 1u { store(out_2 + params.q, count, sum_21a, sum_21b); }
    if rows > 2u { store(out_2 + 2u * params.q, count, sum_22a, sum_22b); }
    if rows > 3u { store(out_2 + 3u * params.q, count, sum_23a, sum_23b); }
    if first + 3u >= group_filters {
        return;
    }
    let out_3 = out + 3u * area;
    store(out_3, count, sum_30a, sum_30b);
    if rows > 1u { store(out_3 + params.q, count, sum_31a, sum_31b); }
    if rows > 2u { store(out_3 + 2u * params.q, count, sum_32a, sum_32b); }
    if rows > 3u { store(out_3 + 3u * params.q, count, sum_33a, sum_33b); }
}
