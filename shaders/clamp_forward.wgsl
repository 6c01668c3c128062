// Clamp, forward: y = min(max(x, low), high).
//
// Shapes  x, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    clamp_forward in src/ops/clamp.rs

struct Params {
    len: u32,
    low: f32,
    high: f32,
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
    // Not min() and max(): WGSL leaves open what they make of NaN, and a NaN must come through to be found.
    y[i] = select(select(x[i], params.high, x[i] > params.high), params.low, x[i] < params.low);
}
