// Convolution, forward, the formula as it stands: y[n,k,p,q] = bias[k] + sum over c,r,s of weight[k,c,r,s] * x[n,c,h,w]
// with h = p * stride_h + r * dilation_h - pad_top, w likewise; x is 0 outside of the image. For reading: every
// multiply-add costs two loads here, where conv2d_forward.wgsl keeps a tile in registers.
//
// Shapes  x [N, C, H, W], weight [K, C/groups, R, S], bias [K] (read when has_bias is 1), y [N, K, P, Q]
// Grid    one invocation a number of y, folded to two dimensions
// Twin    conv2d_forward in src/ops/conv2d.rs

struct Params {
    n: u32,
    c: u32,
    h: u32,
    w: u32,
    k: u32,
    r: u32,
    s: u32,
    p: u32,
    q: u32,
    stride_h: u32,
    stride_w: u32,
    pad_top: u32,
    pad_left: u32,
    dilation_h: u32,
    dilation_w: u32,
    groups: u32,
    has_bias: u32,
    accumulate: u32,
    splits: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (params.first + group.y * groups.x + group.x) * 64u + local;
    let area = params.p * params.q;
    if i >= params.n * params.k * area {
        return;
    }
    let n = i / (params.k * area);
    let k = i / area % params.k;
    let p = i % area / params.q;
    let q = i % params.q;
    let group_channels = params.c / params.groups;
    let first_channel = k / (params.k / params.groups) * group_channels;

    var sum = 0.0;
    if params.has_bias == 1u {
        sum = bias[k];
    }
    for (var c = 0u; c < group_channels; c++) {
        for (var r = 0u; r < params.r; r++) {
            // Above the image this wraps to a huge number, which is outside as well.
            let h = p * params.stride_h + r * params.dilation_h - params.pad_top;
            for (var s = 0u; s < params.s; s++) {
                let w = q * params.stride_w + s * params.dilation_w - params.pad_left;
                if h < params.h && w < params.w {
                    let pixel = x[((n * params.c + first_channel + c) * params.h + h) * params.w + w];
                    sum += weight[((k * group_channels + c) * params.r + r) * params.s + s] * pixel;
                }
            }
        }
    }
    y[i] = sum;
}
