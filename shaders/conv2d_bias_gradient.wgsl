// Convolution, gradient of the bias: dbias[k] = sum over n,p,q of dy[n,k,p,q].
//
// Shapes  dy [N, K, P, Q], dbias [K]
// Grid    one workgroup a filter: 64 sums of every 64th pixel, then a tree in workgroup memory, in fixed order
// Twin    conv2d_bias_gradient in src/ops/conv2d.rs

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dbias: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let k = params.first + group.y * groups.x + group.x;
    if k >= params.k {
        return;
    }
    let area = params.p * params.q;
    var sum = 0.0;
    for (var pixel = local; pixel < params.n * area; pixel += 64u) {
        sum += dy[(pixel / area * params.k + k) * area + pixel % area];
    }
    sums[local] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            sums[local] += sums[local + half];
        }
    }
    if local == 0u {
        dbias[k] = sums[0];
    }
}
