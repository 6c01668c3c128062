// Copies or adds: y = x, or y = y + x. How a second consumer's gradient joins the first one's.
//
// Shapes  x, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    accumulate in src/ops/add.rs

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
    if params.accumulate == 1u {
        y[i] += x[i];
    } else {
        y[i] = x[i];
    }
}
