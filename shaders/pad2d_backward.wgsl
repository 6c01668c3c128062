// Padding, backward: dx is the part of dy that lies over the image.
//
// Shapes  dy [N, C, P, Q], dx [N, C, H, W]; planes = N C
// Grid    one invocation a number of dx, folded to two dimensions
// Twin    pad2d_backward in src/ops/pad2d.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
    top: u32,
    left: u32,
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
    if i >= params.planes * params.h * params.w {
        return;
    }
    let column = i % params.w;
    let row = i / params.w % params.h;
    let plane = i / (params.w * params.h) * params.p * params.q;
    let gradient = dy[plane + (row + params.top) * params.q + column + params.left];
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
