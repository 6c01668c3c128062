// As batch_norm_relu_backward_reduce, for adapters with subgroups: invocations that run together add without workgroup
// memory, so that one barrier is left of twenty. The size of a subgroup is the adapter's. WGSL
// wants `enable subgroups;` here, which naga 30 does not know yet and does without.
//
// Shapes  x, y, dy, dz [N, C, H, W]; mean, inv_std, dgamma, dbeta [C]; pixels = H W
// Grid    one workgroup a channel, folded to two dimensions
// Twin    batch_norm_relu_backward_reduce in src/ops/batch_norm_relu.rs

struct Params {
    n: u32,
    c: u32,
    pixels: u32,
    eps: f32,
    momentum: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read> inv_std: array<f32>;
@group(0) @binding(6) var<storage, read_write> dz: array<f32>;
@group(0) @binding(7) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(8) var<storage, read_write> dbeta: array<f32>;

// Both sums of each subgroup; a subgroup of one invocation would be the smallest.
var<workgroup> sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let c = group.y * groups.x + group.x;
    if c >= params.c {
        return;
    }
    // Number i of the channel is pixel i % pixels of image i / pixels; counted along, since a division is slow.
    let images_a_step = 256u / params.pixels;
    let pixels_a_step = 256u % params.pixels;
    let batch_mean = mean[c];
    var products = 0.0;
    var sum = 0.0;
    var pixel = local % params.pixels;
    for (var n = local / params.pixels; n < params.n; ) {
        let i = (n * params.c + c) * params.pixels + pixel;
        let gradient = select(0.0, dy[i], y[i] > 0.0);
        dz[i] = gradient;
        products += (x[i] - batch_mean) * gradient;
        sum += gradient;
        n += images_a_step;
        pixel += pixels_a_step;
        if pixel >= params.pixels {
            pixel -= params.pixels;
            n += 1u;
        }
    }
    let both = subgroupAdd(vec2<f32>(products, sum));
    if lane == 0u {
        sums[subgroup] = both;
    }
    workgroupBarrier();
    if local == 0u {
        // In an order that is always the same.
        var all = sums[0];
        for (var i = 1u; i < subgroups; i += 1u) {
            all += sums[i];
        }
        dgamma[c] = all.x * inv_std[c];
        dbeta[c] = all.y;
    }
}
