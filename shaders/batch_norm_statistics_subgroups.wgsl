// As batch_norm_statistics, for adapters with subgroups: invocations that run together add without workgroup memory, so that
// one barrier is left of eight. What subgroups hand on is the mean and the squared deviations from it; their sizes are the
// adapter's. WGSL wants `enable subgroups;` here, which naga 30 does not know yet and does without.
//
// Shapes  x [N, C, H, W]; mean, inv_std, running_mean, running_var [C]; pixels = H W
// Grid    one workgroup a channel, folded to two dimensions
// Twin    batch_norm_statistics in src/ops/batch_norm2d.rs

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
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> inv_std: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_var: array<f32>;

// Of the numbers that an invocation has seen, or several together.
struct Moments {
    count: f32,
    // Less the channel's first number, so that it is small and has all its digits.
    mean: f32,
    // Sum of the squared deviations from the mean.
    squares: f32,
}

// One of each subgroup; a subgroup of one invocation would be the smallest.
var<workgroup> moments: array<Moments, 256>;

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
    var pixel = local % params.pixels;
    var n = local / params.pixels;
    var count = 0.0;
    var sum = 0.0;
    var squares = 0.0;
    var origin = 0.0;
    if n < params.n {
        origin = x[(n * params.c + c) * params.pixels + pixel];
    }
    while n < params.n {
        let deviation = x[(n * params.c + c) * params.pixels + pixel] - origin;
        sum += deviation;
        squares += deviation * deviation;
        count += 1.0;
        n += images_a_step;
        pixel += pixels_a_step;
        if pixel >= params.pixels {
            pixel -= params.pixels;
            n += 1u;
        }
    }
    let shift = sum / max(count, 1.0);
    let base = x[c * params.pixels];
    // Means as distances from one of them, so that little is lost. (Mesa's lavapipe 22.3 aborts on subgroupBroadcastFirst.)
    let own = origin - base + shift;
    let one = subgroupAdd(select(0.0, own, lane == 0u));
    let together = subgroupAdd(count);
    let middle = one + subgroupAdd(count * (own - one)) / max(together, 1.0);
    let apart = own - middle;
    let spread = subgroupAdd(max(squares - sum * shift, 0.0) + count * apart * apart);
    if lane == 0u {
        moments[subgroup] = Moments(together, middle, spread);
    }
    workgroupBarrier();
    if local == 0u {
        // The same again with those of the subgroups, in order.
        let first = moments[0].mean;
        var numbers = 0.0;
        var moved = 0.0;
        for (var i = 0u; i < subgroups; i += 1u) {
            numbers += moments[i].count;
            moved += moments[i].count * (moments[i].mean - first);
        }
        var all = Moments(numbers, first + moved / numbers, 0.0);
        for (var i = 0u; i < subgroups; i += 1u) {
            let off = moments[i].mean - all.mean;
            all.squares += moments[i].squares + moments[i].count * off * off;
        }
        let batch_mean = base + all.mean;
        let keep = 1.0 - params.momentum;
        let unbiased = all.squares / max(all.count - 1.0, 1.0);
        mean[c] = batch_mean;
        inv_std[c] = 1.0 / sqrt(all.squares / all.count + params.eps);
        running_mean[c] = keep * running_mean[c] + params.momentum * batch_mean;
        running_var[c] = keep * running_var[c] + params.momentum * unbiased;
    }
}
