// Average pooling, backward: dx = sum of dy / divisor over the windows over the pixel.
//
// Shapes  dy [N, C, P, Q], dx [N, C, H, W], windows R x S; planes = N C
// Grid    one invocation a number of dx, folded to two dimensions
// Twin    avg_pool2d_backward in src/ops/avg_pool2d.rs

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

// First of the windows over pixel `padded`, counted from the edge of the padding, along one axis.
fn first_over(padded: u32, window: u32, stride: u32) -> u32 {
    return (max(padded + 1u, window) - window + stride - 1u) / stride;
}

// What window `o` counts along one axis: its size, or the pixels of the image under it.
fn counted(o: u32, window: u32, stride: u32, padding: u32, extent: u32) -> f32 {
    let start = max(o * stride, padding) - padding;
    let end = min(o * stride + window - padding, extent);
    return f32(select(end - start, window, params.count_padding == 1u));
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
    var gradient = 0.0;
    for (var u = first_over(row, params.r, params.stride_h); u < bottom; u++) {
        let rows = counted(u, params.r, params.stride_h, params.padding_h, params.h);
        for (var v = left; v < right; v++) {
            let columns = counted(v, params.s, params.stride_w, params.padding_w, params.w);
            gradient += dy[plane + u * params.q + v] / (rows * columns);
        }
    }
    if params.accumulate == 1u {
        dx[i] += gradient;
    } else {
        dx[i] = gradient;
    }
}
