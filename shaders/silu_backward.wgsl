// SiLU, backward: dx = dy s (1 + x (1 - s)) with s = sigmoid(x).
//
// Shapes  x, dy, dx: any, len numbers each
// Grid    one invocation a number, folded to two dimensions
// Twin    silu_backward in src/ops/silu.rs

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
    let e = exp(-abs(x[i]));
    let s = select(1.0, e, x[i] < 0.0) / (1.0 + e);
    let gradient = dy[i] * s * (1.0 + x[i] * (1.0 - s));
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
