// Channel padding, forward: y[n, k, p, q] = x[n, source[k], p stride_h, q stride_w], 0 where source[k] is NONE.
//
// Shapes  x [N, C, H, W], source [K], y [N, K, P, Q]
// Grid    one invocation a number of y, folded to two dimensions
// Twin    channel_pad_forward in src/ops/channel_pad.rs

struct Params {
    n: u32,
    c: u32,
    h: u32,
    w: u32,
    k: u32,
    p: u32,
    q: u32,
    stride_h: u32,
    stride_w: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> source: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const NONE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.n * params.k * params.p * params.q {
        return;
    }
    let column = i % params.q;
    let row = i / params.q % params.p;
    let plane = i / (params.q * params.p);
    let channel = source[plane % params.k];
    if channel == NONE {
        y[i] = 0.0;
        return;
    }
    let x_plane = plane / params.k * params.c + channel;
    y[i] = x[(x_plane * params.h + row * params.stride_h) * params.w + column * params.stride_w];
}
