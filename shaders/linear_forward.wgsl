// Linear layer, forward: y[n,k] = bias[k] + sum over c of x[n,c] * weight[k,c].
//
// Shapes  x [N, C], weight [K, C], bias [K] (read when has_bias is 1), y [N, K]
// Grid    one invocation a tile of 4 samples x 4 outputs, held in registers
// Twin    linear_forward in src/ops/linear.rs

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
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

// Element by element: an index known only at run time would move the sums from registers to memory.
fn store(row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.n {
        return;
    }
    let at = row * params.k + column;
    y[at] = sums.x;
    if column + 1u < params.k { y[at + 1u] = sums.y; }
    if column + 2u < params.k { y[at + 2u] = sums.z; }
    if column + 3u < params.k { y[at + 3u] = sums.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (params.first + group.y * groups.x + group.x) * 64u + local;
    let tiles = (params.k + 3u) / 4u;
    let first_k = i % tiles * 4u;
    let first_n = i / tiles * 4u;
    if first_n >= params.n {
        return;
    }
    // A tile at the edge repeats the last row and does not store it again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let k = min(first_k + ahead, vec4<u32>(params.k - 1u));
    let n = min(first_n + ahead, vec4<u32>(params.n - 1u));
    var sum_0 = vec4<f32>(0.0);
    if params.has_bias == 1u {
        sum_0 = vec4<f32>(bias[k.x], bias[k.y], bias[k.z], bias[k.w]);
    }
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    var weight_at = k * params.c;
    var x_at = n * params.c;
    for (var c = 0u; c < params.c; c++) {
        let filters = vec4<f32>(weight[weight_at.x], weight[weight_at.y], weight[weight_at.z], weight[weight_at.w]);
        sum_0 += x[x_at.x] * filters;
        sum_1 += x[x_at.y] * filters;
        sum_2 += x[x_at.z] * filters;
        sum_3 += x[x_at.w] * filters;
        weight_at += 1u;
        x_at += 1u;
    }
    store(first_n, first_k, sum_0);
    store(first_n + 1u, first_k, sum_1);
    store(first_n + 2u, first_k, sum_2);
    store(first_n + 3u, first_k, sum_3);
}
