// Hard sigmoid, forward: y = min(max(slope x + offset, 0), 1).
//
// Shapes  x, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    hard_sigmoid_forward in src/ops/hard_sigmoid.rs

struct Params {
    len: u32,
    slope: f32,
    offset: f32,
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
    let line = params.slope * x[i] + params.offset;
    // Not min() and max(): WGSL leaves open what they make of NaN, and a NaN must come through to be found.
    y[i] = select(select(line, 1.0, line > 1.0), 0.0, line < 0.0);
}
