// Matrix product, for measuring an adapter: y = a b. A workgroup brings tiles of 64 x 16 and 16 x 64 into workgroup memory;
// an invocation holds 4 x 4 results in registers.
//
// Shapes  a [M, K], b [K, N], y [M, N]; all three sizes multiples of 64, in fours
// Grid    one workgroup a tile of 64 x 64

struct Params {
    m: u32,
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// [64, 16] and [16, 64], in fours.
var<workgroup> rows: array<vec4<f32>, 256>;
var<workgroup> columns: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles = params.n / 64u;
    let row = group.x / tiles * 64u;
    let column = group.x % tiles * 16u;
    let a_stride = params.k / 4u;
    let b_stride = params.n / 4u;
    let x = local % 16u;
    let first = local / 16u * 4u;
    var sum_0 = vec4<f32>(0.0);
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    for (var k = 0u; k < a_stride; k += 4u) {
        rows[local] = a[(row + local / 4u) * a_stride + k + local % 4u];
        columns[local] = b[(k * 4u + local / 16u) * b_stride + column + x];
        workgroupBarrier();
        for (var four = 0u; four < 4u; four++) {
            let b_0 = columns[four * 64u + x];
            let b_1 = columns[four * 64u + 16u + x];
            let b_2 = columns[four * 64u + 32u + x];
            let b_3 = columns[four * 64u + 48u + x];
            let a_0 = rows[first * 4u + four];
            let a_1 = rows[first * 4u + 4u + four];
            let a_2 = rows[first * 4u + 8u + four];
            let a_3 = rows[first * 4u + 12u + four];
            sum_0 += a_0.x * b_0 + a_0.y * b_1 + a_0.z * b_2 + a_0.w * b_3;
            sum_1 += a_1.x * b_0 + a_1.y * b_1 + a_1.z * b_2 + a_1.w * b_3;
            sum_2 += a_2.x * b_0 + a_2.y * b_1 + a_2.z * b_2 + a_2.w * b_3;
            sum_3 += a_3.x * b_0 + a_3.y * b_1 + a_3.z * b_2 + a_3.w * b_3;
        }
        workgroupBarrier();
    }
    y[(row + first) * b_stride + column + x] = sum_0;
    y[(row + first + 1u) * b_stride + column + x] = sum_1;
    y[(row + first + 2u) * b_stride + column + x] = sum_2;
    y[(row + first + 3u) * b_stride + column + x] = sum_3;
}
