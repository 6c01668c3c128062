// Batch norm, training, with what follows it: y = max((x - mean) inv_std gamma + beta [+ residual], 0). One pass where
// batch_norm_normalize, add_forward and relu_forward would read and write the tensor three times.
//
// Shapes  x, residual, y [N, C, H, W]; mean, inv_std, gamma, beta [C]; pixels = H W; accumulate = 1 adds the residual
// Grid    one invocation a number, folded to two dimensions
// Twin    batch_norm_relu_forward in src/ops/batch_norm_relu.rs

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
@group(0) @binding(6) var<storage, read> residual: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

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
    var sum = (x[i] - mean[c]) * (inv_std[c] * gamma[c]) + beta[c];
    if params.accumulate == 1u {
        sum += residual[i];
    }
    // Not max(): a NaN must come through to be found.
    y[i] = select(sum, 0.0, sum < 0.0);
}
