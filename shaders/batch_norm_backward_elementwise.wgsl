// Batch norm, backward: dx = gamma inv_std (dy - dbeta / M - x_hat dgamma / M), x_hat = (x - mean) inv_std, M = N H W.
//
// Shapes  x, dy, dx [N, C, H, W]; mean, inv_std, gamma, dgamma, dbeta [C]; pixels = H W
// Grid    one workgroup of 64 for 256 pixels of an image's channel, folded to two dimensions: an invocation reads what
//         belongs to the channel once for its 4 pixels
// Twin    batch_norm_backward_elementwise in src/ops/batch_norm2d.rs

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
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> inv_std: array<f32>;
@group(0) @binding(5) var<storage, read> gamma: array<f32>;
@group(0) @binding(6) var<storage, read> dgamma: array<f32>;
@group(0) @binding(7) var<storage, read> dbeta: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;

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
    let count = f32(params.n) * f32(params.pixels);
    let batch_mean = mean[c];
    let deviation = inv_std[c];
    let scale = gamma[c] * deviation;
    let shift = dbeta[c] / count;
    let slope = dgamma[c] / count;
    let start = piece % pieces * 256u;
    let first = plane * params.pixels + start;
    let end = first + min(params.pixels - start, 256u);
    for (var i = first + local; i < end; i += 64u) {
        let x_hat = (x[i] - batch_mean) * deviation;
        let gradient = scale * (dy[i] - shift - x_hat * slope);
        if params.accumulate == 1u {
            dx[i] += gradient;
        } else {
            dx[i] = gradient;
        }
    }
}
