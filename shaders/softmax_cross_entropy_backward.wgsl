// Softmax cross-entropy, backward: dx = (softmax(x) - onehot(label)) / N, the gradient of the mean loss.
//
// Shapes  x, dx [N, K], labels [N] (0xffffffff: does not count, gradient 0)
// Grid    one invocation a sample
// Twin    softmax_cross_entropy_backward in src/ops/softmax_cross_entropy.rs

struct Params {
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

const IGNORE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * 64u + local;
    if n >= params.n {
        return;
    }
    let label = labels[n];
    let row = n * params.k;
    var largest = x[row];
    for (var k = 1u; k < params.k; k++) {
        largest = max(largest, x[row + k]);
    }
    var sum = 0.0;
    for (var k = 0u; k < params.k; k++) {
        sum += exp(x[row + k] - largest);
    }
    for (var k = 0u; k < params.k; k++) {
        let target_k = select(0.0, 1.0, k == label);
        let gradient = (exp(x[row + k] - largest) / sum - target_k) / f32(params.n);
        dx[row + k] = select(gradient, 0.0, label == IGNORE);
    }
}
