// Batch norm, training, with what follows it: y = max((x - mean) inv_std gamma + beta [+ residual], 0). One pass where
// batch_norm_normalize, add_forward and relu_forward would read and write the tensor three times.
//
// Shapes  x, residual, y [N, C, H, W]; mean, inv_std, gamma, beta [C]; pixels = H W; accumulate = 1 adds the residual
// Grid    one workgroup of 64 for 256 pixels of an image's channel, folded to two dimensions: an invocation reads what
//         belongs to the channel once for its 4 pixels
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
    let pieces = (params.pixels + 255u) / 256u;
    let piece = group.y * groups.x + group.x;
    let plane = piece / pieces;
    if plane >= params.n * params.c {
        return;
    }
    let c = plane % params.c;
    let scale = inv_std[c] * gamma[c];
    let batch_mean = mean[c];
    let shift = beta[c];
    let start = piece % pieces * 256u;
    let first = plane * params.pixels + start;
    let end = first + min(params.pixels - start, 256u);
    for (var i = first + local; i < end; i += 64u) {
        var sum = (x[i] - batch_mean) * scale + shift;
        if params.accumulate == 1u {
            sum += residual[i];
        }
        // Not max(): a NaN must come through to be found.
        y[i] = select(sum, 0.0, sum < 0.0);
    }
}
