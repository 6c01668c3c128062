// Linear layer, gradient of the weights: dweight[k,c] = sum over n of dy[n,k] * x[n,c].
//
// Shapes  x [N, C], dy [N, K], dweight [K, C]
// Grid    one invocation a tile of 4 outputs x 4 inputs, held in registers
// Twin    linear_weight_gradient in src/ops/linear.rs

struct Params {
    n: u32,
    c: u32,
    k: u32,
    has_bias: u32,
    accumulate: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>;

// Element by element: an index known only at run time would move the sums from registers to memory.
fn store(row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.k {
        return;
    }
    let at = row * params.c + column;
    dweight[at] = sums.x;
    if column + 1u < params.c { dweight[at + 1u] = sums.y; }
    if column + 2u < params.c { dweight[at + 2u] = sums.z; }
    if column + 3u < params.c { dweight[at + 3u] = sums.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (params.first + group.y * groups.x + group.x) * 64u + local;
    let tiles = (params.c + 3u) / 4u;
    let first_c = i % tiles * 4u;
    let first_k = i / tiles * 4u;
    if first_k >= params.k {
        return;
    }
    // A tile at the edge repeats the last row or column and does not store it again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    var x_at = min(first_c + ahead, vec4<u32>(params.c - 1u));
    var dy_at = min(first_k + ahead, vec4<u32>(params.k - 1u));
    var sum_0 = vec4<f32>(0.0);
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    // Counted in elements of dy: Mesa's lavapipe 22.3 compiles a loop over params.n anew, and keeps it, at each dispatch.
    while dy_at.x < params.n * params.k {
        let sample = vec4<f32>(x[x_at.x], x[x_at.y], x[x_at.z], x[x_at.w]);
        sum_0 += dy[dy_at.x] * sample;
        sum_1 += dy[dy_at.y] * sample;
        sum_2 += dy[dy_at.z] * sample;
        sum_3 += dy[dy_at.w] * sample;
        x_at += params.c;
        dy_at += params.k;
    }
    store(first_k, first_c, sum_0);
    store(first_k + 1u, first_c, sum_1);
    store(first_k + 2u, first_c, sum_2);
    store(first_k + 3u, first_c, sum_3);
}
