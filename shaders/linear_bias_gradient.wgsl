// Linear layer, gradient of the bias: dbias[k] = sum over n of dy[n,k].
//
// Shapes  dy [N, K], dbias [K]
// Grid    one invocation an output: a batch is a short sum
// Twin    linear_bias_gradient in src/ops/linear.rs

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
@group(0) @binding(2) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let k = (params.first + group.y * groups.x + group.x) * 64u + local;
    if k >= params.k {
        return;
    }
    var sum = 0.0;
    for (var n = 0u; n < params.n; n++) {
        sum += dy[n * params.k + k];
    }
    dbias[k] = sum;
}
