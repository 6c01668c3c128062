// Batch norm, training: y = (x - mean) inv_std gamma + beta.
//
// Shapes  x, y [N, C, H, W]; mean, inv_std, gamma, beta [C]; pixels = H W
// Grid    one invocation a number, folded to two dimensions
// Twin    batch_norm_normalize in src/ops/batch_norm2d.rs

struct Params {
    n: u32,
    c: u32,
    pixels: u32,
    eps: f32,
    momentum: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> inv_std: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.n * params.c * params.pixels {
        return;
    }
    let c = i / params.pixels % params.c;
    y[i] = (x[i] - mean[c]) * (inv_std[c] * gamma[c]) + beta[c];
}
