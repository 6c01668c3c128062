// Matrix product, for measuring an adapter: y = a b. No workgroup memory; an invocation holds 8 x 8 results in registers.
//
// Shapes  a [M, K], b [K, N], y [M, N]; all three sizes multiples of 64, in fours
// Grid    one invocation a tile of 8 x 8

struct Params {
    m: u32,
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = group.x * 64u + local;
    let tiles = params.n / 8u;
    let row = i / tiles * 8u;
    let column = i % tiles * 2u;
    let a_stride = params.k / 4u;
    let b_stride = params.n / 4u;
    var left: array<vec4<f32>, 8>;
    var right: array<vec4<f32>, 8>;
    for (var k = 0u; k < a_stride; k++) {
        let b_at = k * 4u * b_stride + column;
        let b_0l = b[b_at];
        let b_0r = b[b_at + 1u];
        let b_1l = b[b_at + b_stride];
        let b_1r = b[b_at + b_stride + 1u];
        let b_2l = b[b_at + 2u * b_stride];
        let b_2r = b[b_at + 2u * b_stride + 1u];
        let b_3l = b[b_at + 3u * b_stride];
        let b_3r = b[b_at + 3u * b_stride + 1u];
        let a_0 = a[row * a_stride + k];
        let a_1 = a[(row + 1u) * a_stride + k];
        let a_2 = a[(row + 2u) * a_stride + k];
        let a_3 = a[(row + 3u) * a_stride + k];
        let a_4 = a[(row + 4u) * a_stride + k];
        let a_5 = a[(row + 5u) * a_stride + k];
        let a_6 = a[(row + 6u) * a_stride + k];
        let a_7 = a[(row + 7u) * a_stride + k];
        left[0] += a_0.x * b_0l + a_0.y * b_1l + a_0.z * b_2l + a_0.w * b_3l;
        right[0] += a_0.x * b_0r + a_0.y * b_1r + a_0.z * b_2r + a_0.w * b_3r;
        left[1] += a_1.x * b_0l + a_1.y * b_1l + a_1.z * b_2l + a_1.w * b_3l;
        right[1] += a_1.x * b_0r + a_1.y * b_1r + a_1.z * b_2r + a_1.w * b_3r;
        left[2] += a_2.x * b_0l + a_2.y * b_1l + a_2.z * b_2l + a_2.w * b_3l;
        right[2] += a_2.x * b_0r + a_2.y * b_1r + a_2.z * b_2r + a_2.w * b_3r;
        left[3] += a_3.x * b_0l + a_3.y * b_1l + a_3.z * b_2l + a_3.w * b_3l;
        right[3] += a_3.x * b_0r + a_3.y * b_1r + a_3.z * b_2r + a_3.w * b_3r;
        left[4] += a_4.x * b_0l + a_4.y * b_1l + a_4.z * b_2l + a_4.w * b_3l;
        right[4] += a_4.x * b_0r + a_4.y * b_1r + a_4.z * b_2r + a_4.w * b_3r;
        left[5] += a_5.x * b_0l + a_5.y * b_1l + a_5.z * b_2l + a_5.w * b_3l;
        right[5] += a_5.x * b_0r + a_5.y * b_1r + a_5.z * b_2r + a_5.w * b_3r;
        left[6] += a_6.x * b_0l + a_6.y * b_1l + a_6.z * b_2l + a_6.w * b_3l;
        right[6] += a_6.x * b_0r + a_6.y * b_1r + a_6.z * b_2r + a_6.w * b_3r;
        left[7] += a_7.x * b_0l + a_7.y * b_1l + a_7.z * b_2l + a_7.w * b_3l;
        right[7] += a_7.x * b_0r + a_7.y * b_1r + a_7.z * b_2r + a_7.w * b_3r;
    }
    for (var i = 0u; i < 8u; i++) {
        y[(row + i) * b_stride + column] = left[i];
        y[(row + i) * b_stride + column + 1u] = right[i];
    }
}
