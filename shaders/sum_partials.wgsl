// Sum of partial sums in fixed order: y[i] = sum over splits of partials[split, i]. The second half of a long reduction.
//
// Shapes  partials [splits, len], y [len]
// Grid    one invocation a number of y, folded to two dimensions
// Twin    sum_partials in src/ops/conv2d.rs

struct Params {
    len: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.len {
        return;
    }
    var sum = 0.0;
    for (var split = 0u; split < params.splits; split++) {
        sum += partials[split * params.len + i];
    }
    y[i] = sum;
}
