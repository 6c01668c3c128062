// Padding, forward: y[row, column] = x[row - top, column - left], 0 outside the image.
//
// Shapes  x [N, C, H, W], y [N, C, P, Q]; planes = N C
// Grid    one invocation a number of y, folded to two dimensions
// Twin    pad2d_forward in src/ops/pad2d.rs

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
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.planes * params.p * params.q {
        return;
    }
    let column = i % params.q;
    let row = i / params.q % params.p;
    let plane = i / (params.q * params.p) * params.h * params.w;
    y[i] = 0.0;
    if row >= params.top && row < params.top + params.h && column >= params.left && column < params.left + params.w {
        y[i] = x[plane + (row - params.top) * params.w + column - params.left];
    }
}
