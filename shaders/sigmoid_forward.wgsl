// Sigmoid, forward: y = 1 / (1 + exp(-x)).
//
// Shapes  x, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    sigmoid_forward in src/ops/sigmoid.rs

struct Params {
    len: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
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
    // Of the size of x alone, so that exp() cannot overflow.
    let e = exp(-abs(x[i]));
    y[i] = select(1.0, e, x[i] < 0.0) / (1.0 + e);
}
