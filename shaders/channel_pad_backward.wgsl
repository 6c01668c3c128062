// Channel padding, backward: dx = dy at the pixels taken, through the inverse channel map; else 0.
//
// Shapes  dy [N, K, P, Q], destination [C] (NONE: no output channel comes from it), dx [N, C, H, W]
// Grid    one invocation a number of dx, folded to two dimensions
// Twin    channel_pad_backward in src/ops/channel_pad.rs

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> destination: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

const NONE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.n * params.c * params.h * params.w {
        return;
    }
    let column = i % params.w;
    let row = i / params.w % params.h;
    let plane = i / (params.w * params.h);
    let channel = destination[plane % params.c];
    var gradient = 0.0;
    if channel != NONE && row % params.stride_h == 0u && column % params.stride_w == 0u {
        let y_plane = plane / params.c * params.k + channel;
        gradient = dy[(y_plane * params.p + row / params.stride_h) * params.q + column / params.stride_w];
    }
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
