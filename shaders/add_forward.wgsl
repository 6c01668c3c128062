// Sum of two tensors: y = a + b. Where the branches of a residual block meet.
//
// Shapes  a, b, y: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    add_forward in src/ops/add.rs

struct Params {
    len: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    y[i] = a[i] + b[i];
}
