// Max pooling, backward: dx = sum of dy over the windows that the pixel won. Each pixel looks at the windows over it.
//
// Shapes  dy, index [N, C, P, Q], dx [N, C, H, W], windows R x S; planes = N C
// Grid    one invocation a number of dx, folded to two dimensions
// Twin    max_pool2d_backward in src/ops/max_pool2d.rs

struct Params {
    planes: u32,
    h: u32,
    w: u32,
    p: u32,
    q: u32,
    r: u32,
    s: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// First of the windows over pixel `padded`, counted from the edge of the padding, along one axis.
fn first_over(padded: u32, window: u32, stride: u32) -> u32 {
    return (max(padded + 1u, window) - window + stride - 1u) / stride;
}

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
    let column = i % params.w + params.padding_w;
    let row = i / params.w % params.h + params.padding_h;
    let plane = i / (params.w * params.h) * params.p * params.q;
    let bottom = min(row / params.stride_h + 1u, params.p);
    let right = min(column / params.stride_w + 1u, params.q);
    let left = first_over(column, params.s, params.stride_w);
    let pixel = i % (params.w * params.h);
    var gradient = 0.0;
    for (var u = first_over(row, params.r, params.stride_h); u < bottom; u++) {
        for (var v = left; v < right; v++) {
            let window = plane + u * params.q + v;
            gradient += select(0.0, dy[window], index[window] == pixel);
        }
    }
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
