// Linear layer, gradient of the input: dx[n,c] = sum over k of dy[n,k] * weight[k,c].
//
// Shapes  dy [N, K], weight [K, C], dx [N, C]
// Grid    one invocation a tile of 4 samples x 4 inputs, held in registers
// Twin    linear_input_gradient in src/ops/linear.rs

struct Params {
    n: u32,
    c: u32,
    k: u32,
    has_bias: u32,
    accumulate: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

fn store_one(at: u32, value: f32) {
    if params.accumulate == 1u {
        dx[at] += value;
    } else {
        dx[at] = value;
    }
}

// Element by element: an index known only at run time would move the sums from registers to memory.
fn store(row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.n {
        return;
    }
    let at = row * params.c + column;
    store_one(at, sums.x);
    if column + 1u < params.c { store_one(at + 1u, sums.y); }
    if column + 2u < params.c { store_one(at + 2u, sums.z); }
    if column + 3u < params.c { store_one(at + 3u, sums.w); }
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
    let first_n = i / tiles * 4u;
    if first_n >= params.n {
        return;
    }
    // A tile at the edge repeats the last row or column and does not store it again.
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);
    let n = min(first_n + ahead, vec4<u32>(params.n - 1u));
    var weight_at = min(first_c + ahead, vec4<u32>(params.c - 1u));
    var dy_at = n * params.k;
    var sum_0 = vec4<f32>(0.0);
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    for (var k = 0u; k < params.k; k++) {
        let filter_k = vec4<f32>(weight[weight_at.x], weight[weight_at.y], weight[weight_at.z], weight[weight_at.w]);
        sum_0 += dy[dy_at.x] * filter_k;
        sum_1 += dy[dy_at.y] * filter_k;
        sum_2 += dy[dy_at.z] * filter_k;
        sum_3 += dy[dy_at.w] * filter_k;
        weight_at += params.c;
        dy_at += 1u;
    }
    store(first_n, first_c, sum_0);
    store(first_n + 1u, first_c, sum_1);
    store(first_n + 2u, first_c, sum_2);
    store(first_n + 3u, first_c, sum_3);
}
