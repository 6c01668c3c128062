// Convolution, gradient of the weights, as a matrix product: dweight[k,e] = sum over pixels of dy[k, pixel] *
// patch[e, pixel], where e counts (c, r, s) and patch[e, pixel] is x[n,c,h,w] with
// h = p * stride_h + r * dilation_h - pad_top, w likewise, or 0 outside of the image.
//
// Splits as in conv2d_weight_gradient.wgsl. A workgroup brings 16 pixels at a time into workgroup memory, for 16
// filters and for 64 weights of each; an invocation takes 4 x 4 of them: 2 vec4 loads pay for 16 multiply-adds.
//
// Shapes  x [N, C, H, W], dy [N, K, P, Q], partials [splits, K, C/groups, R, S]
// Grid    a workgroup is a split, 16 filters of one group x 64 weights; weights run fastest
// Twin    conv2d_weight_gradient in src/ops/conv2d.rs

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
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

// [16 pixels, 16 filters] and [16 pixels, 64 weights], in fours.
var<workgroup> gradients: array<vec4<f32>, 64>;
var<workgroup> patches: array<vec4<f32>, 256>;
// Of each weight: its channel's plane, and where its tap lies.
var<workgroup> taps: array<vec3<u32>, 64>;

fn pixel_at(image: u32, h: u32, w: u32, tap: vec3<u32>, exists: bool) -> f32 {
    let row = h + tap.y;
    let column = w + tap.z;
    if exists && row < params.h && column < params.w {
        return x[image + tap.x + row * params.w + column];
    }
    return 0.0;
}

fn store(at: u32, count: u32, value: vec4<f32>) {
    if count > 0u { partials[at] = value.x; }
    if count > 1u { partials[at + 1u] = value.y; }
    if count > 2u { partials[at + 2u] = value.z; }
    if count > 3u { partials[at + 3u] = value.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let filter_size = group_channels * params.r * params.s;
    let weight_tiles = (filter_size + 63u) / 64u;
    let filter_tiles = (group_filters + 15u) / 16u;
    let index = params.first + group.y * groups.x + group.x;
    let weight_tile = index % weight_tiles;
    let filter_tile = index / weight_tiles % filter_tiles;
    let filter_group = index / (weight_tiles * filter_tiles) % params.groups;
    let split = index / (weight_tiles * filter_tiles * params.groups);
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let rows = params.n * params.p;
    let split_rows = (rows + params.splits - 1u) / params.splits;
    let end_pixel = min((split + 1u) * split_rows, rows) * params.q;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);

    // Above the image these wrap to huge numbers, which are outside as well.
    let e = min(weight_tile * 64u + local, filter_size - 1u);
    taps[local] = vec3<u32>(
        (filter_group * group_channels + e / (params.r * params.s)) * plane,
        e / params.s % params.r * params.dilation_h - params.pad_top,
        e % params.s * params.dilation_w - params.pad_left,
    );
    let fetched = min(filter_tile * 16u + local / 16u * 4u + ahead, vec4<u32>(group_filters - 1u));
    let filters = (filter_group * group_filters + fetched) * area;
    var sum_0 = vec4<f32>(0.0);
    var sum_1 = sum_0;
    var sum_2 = sum_0;
    var sum_3 = sum_0;
    workgroupBarrier();
    // The bound is the same for the whole workgroup, also where the split is past the end.
    for (var chunk = split * split_rows * params.q; chunk < end_pixel; chunk += 16u) {
        // Neighbours fetch neighbours: this invocation takes one pixel, four filters, sixteen weights.
        let pixel = chunk + local % 16u;
        let exists = pixel < end_pixel;
        let n = pixel / area;
        let h = pixel % area / params.q * params.stride_h;
        let w = pixel % params.q * params.stride_w;
        let at = select(vec4<u32>(0u), filters + n * params.k * area + pixel % area, vec4<bool>(exists));
        let fetched_gradients = vec4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]);
        gradients[local % 16u * 4u + local / 16u] = select(vec4<f32>(0.0), fetched_gradients, exists);
        let image = n * params.c * plane;
        for (var four = local / 16u; four < 16u; four += 4u) {
            patches[local % 16u * 16u + four] = vec4<f32>(
                pixel_at(image, h, w, taps[four * 4u], exists),
                pixel_at(image, h, w, taps[four * 4u + 1u], exists),
                pixel_at(image, h, w, taps[four * 4u + 2u], exists),
                pixel_at(image, h, w, taps[four * 4u + 3u], exists),
            );
        }
        workgroupBarrier();
        for (var row = 0u; row < 16u; row++) {
            let factor = gradients[row * 4u + local / 16u];
            let value = patches[row * 16u + local % 16u];
            sum_0 += factor.x * value;
            sum_1 += factor.y * value;
            sum_2 += factor.z * value;
            sum_3 += factor.w * value;
        }
        workgroupBarrier();
    }
    if split >= params.splits {
        return;
    }
    let first = filter_tile * 16u + local / 16u * 4u;
    let first_weight = weight_tile * 64u + local % 16u * 4u;
    let count = max(filter_size, first_weight) - first_weight;
    let at = (split * params.k + filter_group * group_filters + first) * filter_size + first_weight;
    if first < group_filters { store(at, count, sum_0); }
    if first + 1u < group_filters { store(at + filter_size, count, sum_1); }
    if first + 2u < group_filters { store(at + 2u * filter_size, count, sum_2); }
    if first + 3u < group_filters { store(at + 3u * filter_size, count, sum_3); }
}
