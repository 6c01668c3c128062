// ReLU6, forward: y = min(max(x, 0), 6).
//
// Shapes  x, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    relu6_forward in src/ops/relu6.rs

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
    // Not clamp(): WGSL leaves open what it makes of NaN, and a NaN must come through to be found.
    y[i] = select(select(x[i], 6.0, x[i] > 6.0), 0.0, x[i] < 0.0);
}
