// Global average pooling, backward: dx = dy / (H W), the same for all pixels of a plane.
//
// Shapes  dy [N, C, 1, 1], dx [N, C, H, W]; planes = N C, pixels = H W
// Grid    one invocation a number of dx, folded to two dimensions
// Twin    global_avg_pool_backward in src/ops/global_avg_pool.rs

struct Params {
    planes: u32,
    pixels: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.planes * params.pixels {
        return;
    }
    let gradient = dy[i / params.pixels] / f32(params.pixels);
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
