// Product, backward: dgate = sum of dy a over the `spread` numbers that a number of the gate covers.
//
// Shapes  a, dy: any, len numbers each; dgate: len / spread numbers
// Grid    one invocation a number of dgate, folded to two dimensions: planes are small where networks gate them
// Twin    mul_gate_gradient in src/ops/mul.rs

struct Params {
    len: u32,
    spread: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.len / params.spread {
        return;
    }
    var gradient = 0.0;
    for (var k = 0u; k < params.spread; k++) {
        gradient += dy[i * params.spread + k] * a[i * params.spread + k];
    }
    if params.accumulate == 1u {
        dgate[i] += gradient;
    } else {
        dgate[i] = gradient;
    }
}
