// Max pooling, backward: dx = sum of dy over the windows that the pixel won. Each pixel looks at the windows over it.
//
// An invocation takes eight neighbours of a row and moves the range of windows along: division is slow, on software
// adapters slower than all the rest.
//
// Shapes  dy, index [N, C, P, Q], dx [N, C, H, W], windows R x S; planes = N C
// Grid    one invocation a strip of 8 numbers of dx, folded to two dimensions; a row begins a new strip
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
    let strips = (params.w + 7u) / 8u;
    let strip = (group.y * groups.x + group.x) * 64u + local;
    if strip >= params.planes * params.h * strips {
        return;
    }
    let line = strip / strips;
    let first_column = strip % strips * 8u;
    let plane = line / params.h * params.p * params.q;
    let row = line % params.h + params.padding_h;
    let top = first_over(row, params.r, params.stride_h);
    let bottom = min(row / params.stride_h + 1u, params.p);
    var left = first_over(first_column + params.padding_w, params.s, params.stride_w);
    var right = min((first_column + params.padding_w) / params.stride_w + 1u, params.q);
    for (var column = first_column; column < min(first_column + 8u, params.w); column++) {
        let padded = column + params.padding_w;
        if left * params.stride_w + params.s <= padded {
            left += 1u;
        }
        if right < params.q && right * params.stride_w <= padded {
            right += 1u;
        }
        let pixel = (row - params.padding_h) * params.w + column;
        var gradient = 0.0;
        for (var u = top; u < bottom; u++) {
            for (var v = left; v < right; v++) {
                let window = plane + u * params.q + v;
                gradient += select(0.0, dy[window], index[window] == pixel);
            }
        }
        let i = line * params.w + column;
        if params.accumulate == 1u {
            dx[i] += gradient;
        } else {
            dx[i] = gradient;
        }
    }
}
