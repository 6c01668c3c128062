// Softmax cross-entropy, forward: loss = log(sum_k exp(x_k)) - x_label, and whether the largest logit is the label's.
// The largest logit is taken out first, so that exp() cannot overflow.
//
// Shapes  x [N, K], labels [N] (0xffffffff: does not count), outcome [N, 2]: loss; 1 correct, 0 wrong, -1 not counted
// Grid    one invocation a sample
// Twin    softmax_cross_entropy_forward in src/ops/softmax_cross_entropy.rs

struct Params {
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> outcome: array<f32>;

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
    if label == IGNORE {
        outcome[2u * n] = 0.0;
        outcome[2u * n + 1u] = -1.0;
        return;
    }
    let row = n * params.k;
    var largest = x[row];
    var answer = 0u;
    for (var k = 1u; k < params.k; k++) {
        if x[row + k] > largest {
            largest = x[row + k];
            answer = k;
        }
    }
    var sum = 0.0;
    for (var k = 0u; k < params.k; k++) {
        sum += exp(x[row + k] - largest);
    }
    outcome[2u * n] = (log(sum) + largest) - x[row + label];
    outcome[2u * n + 1u] = select(0.0, 1.0, answer == label);
}
