// Global average pooling, forward: the mean of each plane.
//
// Shapes  x [N, C, H, W], y [N, C, 1, 1]; planes = N C, pixels = H W
// Grid    one invocation a plane, folded to two dimensions: planes are small where networks pool them
// Twin    global_avg_pool_forward in src/ops/global_avg_pool.rs

struct Params {
    planes: u32,
    pixels: u32,
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
    if i >= params.planes {
        return;
    }
    var sum = 0.0;
    for (var pixel = 0u; pixel < params.pixels; pixel++) {
        sum += x[i * params.pixels + pixel];
    }
    y[i] = sum / f32(params.pixels);
}
