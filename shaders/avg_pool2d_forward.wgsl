// Average pooling, forward: the mean of each window, over R S or over the pixels of the image under it.
//
// Shapes  x [N, C, H, W], y [N, C, P, Q], windows R x S; planes = N C
// Grid    one invocation a window, folded to two dimensions
// Twin    avg_pool2d_forward in src/ops/avg_pool2d.rs

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
    count_padding: u32,
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
    let top = max(row * params.stride_h, params.padding_h) - params.padding_h;
    let bottom = min(row * params.stride_h + params.r - params.padding_h, params.h);
    let left = max(column * params.stride_w, params.padding_w) - params.padding_w;
    let right = min(column * params.stride_w + params.s - params.padding_w, params.w);
    var sum = 0.0;
    for (var row_in = top; row_in < bottom; row_in++) {
        for (var column_in = left; column_in < right; column_in++) {
            sum += x[plane + row_in * params.w + column_in];
        }
    }
    if params.count_padding == 1u {
        y[i] = sum / (f32(params.r) * f32(params.s));
    } else {
        y[i] = sum / f32((bottom - top) * (right - left));
    }
}
