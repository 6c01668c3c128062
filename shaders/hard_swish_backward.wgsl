// Hard swish, backward: dx = dy (x / 3 + 1/2) between -3 and 3, 0 below, dy above.
//
// Shapes  x, dy, dx: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    hard_swish_backward in src/ops/hard_swish.rs

struct Params {
    len: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
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
    let slope = x[i] / 3.0 + 0.5;
    let gradient = dy[i] * select(select(slope, 1.0, x[i] >= 3.0), 0.0, x[i] <= -3.0);
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
