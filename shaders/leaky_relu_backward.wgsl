// Leaky ReLU, backward: dx = dy where y > 0, else slope dy. As slope >= 0, the output tells the sign of x.
//
// Shapes  y, dy, dx: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    leaky_relu_backward in src/ops/leaky_relu.rs

struct Params {
    len: u32,
    slope: f32,
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
    let gradient = select(params.slope * dy[i], dy[i], y[i] > 0.0);
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
