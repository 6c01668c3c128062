// Convolution, forward, as a matrix product: y[n,k,p,q] = bias[k] + sum over e of weight[k,e] * patch[e, pixel], where
// e counts (c, r, s) and patch[e, pixel] is x[n,c,h,w] with h = p * stride_h + r * dilation_h - pad_top, w likewise.
//
// The patches are never stored: a workgroup gathers 16 rows of them for its 128 pixels into workgroup memory, beside
// the weights of its 16 filters, and each invocation takes 4 filters x 8 pixels from there: 3 vec4 loads pay for 32
// multiply-adds, and a pixel is fetched once for 16 filters. Sixteen, since narrow networks have no more.
//
// Shapes  x [N, C, H, W], weight [K, C/groups, R, S], bias [K] (read when has_bias is 1), y [N, K, P, Q]
// Grid    a workgroup is 16 filters of one group x 128 pixels of all N*P*Q
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

// [16 rows, 16 filters] and [16 rows, 128 pixels], in fours.
var<workgroup> filters: array<vec4<f32>, 64>;
var<workgroup> patches: array<vec4<f32>, 512>;

fn store(k: u32, end: u32, pixel: vec4<u32>, value: vec4<f32>) {
    let area = params.p * params.q;
    let i = (pixel / area * params.k + k) * area + pixel % area;
    let exists = (pixel < vec4<u32>(params.n * area)) & vec4<bool>(k < end);
    if exists.x { y[i.x] = value.x; }
    if exists.y { y[i.y] = value.y; }
    if exists.z { y[i.z] = value.z; }
    if exists.w { y[i.w] = value.w; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_filters + 15u) / 16u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let filter_group = index % tiles / group_tiles;
    let first = filter_group * group_filters + index % group_tiles * 16u;
    let end = (filter_group + 1u) * group_filters;
    let first_pixel = index / tiles * 128u;
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let taps = params.r * params.s;
    let depth = group_channels * taps;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);

    // What this invocation fetches: four pixels for every second row, four filters for one row.
    let fetched = first_pixel + local % 32u * 4u + ahead;
    let exists = fetched < vec4<u32>(params.n * area);
    let image = (fetched / area * params.c + filter_group * group_channels) * plane;
    // Above the image these wrap to huge numbers, which are outside as well.
    let top = fetched % area / params.q * params.stride_h - params.pad_top;
    let left = fetched % params.q * params.stride_w - params.pad_left;
    let rows_of = min(first + local % 4u * 4u + ahead, vec4<u32>(end - 1u)) * depth;

    // What it computes: filters 4 x (local / 16) and on, pixels 4 x (local % 16) and on, and the same 64 further.
    var sum_0a = vec4<f32>(0.0);
    var sum_0b = sum_0a;
    var sum_1a = sum_0a;
    var sum_1b = sum_0a;
    var sum_2a = sum_0a;
    var sum_2b = sum_0a;
    var sum_3a = sum_0a;
    var sum_3b = sum_0a;
    for (var chunk = 0u; chunk < depth; chunk += 16u) {
        let filter_row = chunk + local / 4u;
        let at = rows_of + min(filter_row, depth - 1u);
        let fetched_filters = vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
        filters[local] = select(vec4<f32>(0.0), fetched_filters, filter_row < depth);
        for (var row = local / 32u; row < 16u; row += 2u) {
            let e = chunk + row;
            let h = top + e % taps / params.s * params.dilation_h;
            let w = left + e % params.s * params.dilation_w;
            let inside = exists & (h < vec4<u32>(params.h)) & (w < vec4<u32>(params.w)) & vec4<bool>(e < depth);
            let i = select(vec4<u32>(0u), image + e / taps * plane + h * params.w + w, inside);
            let pixels = vec4<f32>(x[i.x], x[i.y], x[i.z], x[i.w]);
            patches[row * 32u + local % 32u] = select(vec4<f32>(0.0), pixels, inside);
        }
        workgroupBarrier();
        for (var row = 0u; row < 16u; row++) {
            let factor = filters[row * 4u + local / 16u];
            let a = patches[row * 32u + local % 16u];
            let b = patches[row * 32u + local % 16u + 16u];
            sum_0a += factor.x * a;
            sum_0b += factor.x * b;
            sum_1a += factor.y * a;
            sum_1b += factor.y * b;
            sum_2a += factor.z * a;
            sum_2b += factor.z * b;
            sum_3a += factor.w * a;
            sum_3b += factor.w * b;
        }
        workgroupBarrier();
    }
    let k = first + local / 16u * 4u;
    if params.has_bias == 1u {
        let filter_of = min(k + ahead, vec4<u32>(end - 1u));
        let start = vec4<f32>(bias[filter_of.x], bias[filter_of.y], bias[filter_of.z], bias[filter_of.w]);
        sum_0a += start.x;
        sum_0b += start.x;
        sum_1a += start.y;
        sum_1b += start.y;
        sum_2a += start.z;
        sum_2b += start.z;
        sum_3a += start.w;
        sum_3b += start.w;
    }
    let pixel_a = first_pixel + local % 16u * 4u + ahead;
    let pixel_b = pixel_a + 64u;
    store(k, end, pixel_a, sum_0a);
    store(k, end, pixel_b, sum_0b);
    store(k + 1u, end, pixel_a, sum_1a);
    store(k + 1u, end, pixel_b, sum_1b);
    store(k + 2u, end, pixel_a, sum_2a);
    store(k + 2u, end, pixel_b, sum_2b);
    store(k + 3u, end, pixel_a, sum_3a);
    store(k + 3u, end, pixel_b, sum_3b);
}
