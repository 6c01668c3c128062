// Hard sigmoid, backward: dx = slope dy where 0 < y < 1, else 0.
//
// Shapes  y, dy, dx: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    hard_sigmoid_backward in src/ops/hard_sigmoid.rs

struct Params {
    len: u32,
    slope: f32,
    offset: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

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
    let gradient = select(0.0, params.slope * dy[i], y[i] > 0.0 && y[i] < 1.0);
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
