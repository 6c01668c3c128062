// Product, forward: y = a gate, where each number of the gate covers `spread` numbers of a. Also its gradient to a.
//
// Shapes  a, y: any, len numbers each; gate: len / spread numbers (spread 1: as a; spread H W: one number a plane)
// Grid    one invocation a number of y, folded to two dimensions
// Twin    mul_forward in src/ops/mul.rs

struct Params {
    len: u32,
    spread: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
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
    let product = a[i] * gate[i / params.spread];
    if params.accumulate == 1u {
        y[i] += product;
    } else {
        y[i] = product;
    }
}
