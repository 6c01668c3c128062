// Max pooling, forward: the largest number of each window and its index in the plane. The first one wins, a NaN always.
//
// Shapes  x [N, C, H, W], y, index [N, C, P, Q], windows R x S; planes = N C
// Grid    one invocation a window, folded to two dimensions
// Twin    max_pool2d_forward in src/ops/max_pool2d.rs

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
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;

// By its bits: compilers may assume that floats are never NaN.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

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
    var best = top * params.w + left;
    var largest = x[plane + best];
    for (var row_in = top; row_in < bottom; row_in++) {
        for (var column_in = left; column_in < right; column_in++) {
            let candidate = x[plane + row_in * params.w + column_in];
            if candidate > largest || is_nan(candidate) {
                largest = candidate;
                best = row_in * params.w + column_in;
            }
        }
    }
    y[i] = largest;
    index[i] = best;
}
