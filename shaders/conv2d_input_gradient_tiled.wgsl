// Convolution, gradient of the input, as a matrix product, for stride 1: dx[n,c,h,w] = sum over e of
// weight[k,c,r,s] * patch[e, pixel], where e counts (k, r, s) and patch[e, pixel] is dy[n,k,p,q] with
// p = h + pad_top - r * dilation_h, q likewise, or 0 outside of the output.
//
// As conv2d_forward_tiled.wgsl: 16 rows of patches for 128 pixels in workgroup memory, beside the weights of 16
// channels; an invocation takes 4 channels x 8 pixels from there.
//
// Shapes  dy [N, K, P, Q], weight [K, C/groups, R, S], dx [N, C, H, W]
// Grid    a workgroup is 16 channels of one group x 128 pixels of all N*H*W
// Twin    conv2d_input_gradient in src/ops/conv2d.rs

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
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// [16 rows, 16 channels] and [16 rows, 128 pixels], in fours.
var<workgroup> channels: array<vec4<f32>, 64>;
var<workgroup> patches: array<vec4<f32>, 512>;

fn write(i: u32, value: f32) {
    if params.accumulate == 1u {
        dx[i] += value;
    } else {
        dx[i] = value;
    }
}

fn store(c: u32, end: u32, pixel: vec4<u32>, value: vec4<f32>) {
    let plane = params.h * params.w;
    let i = (pixel / plane * params.c + c) * plane + pixel % plane;
    let exists = (pixel < vec4<u32>(params.n * plane)) & vec4<bool>(c < end);
    if exists.x { write(i.x, value.x); }
    if exists.y { write(i.y, value.y); }
    if exists.z { write(i.z, value.z); }
    if exists.w { write(i.w, value.w); }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_channels = params.c / params.groups;
    let group_filters = params.k / params.groups;
    let group_tiles = (group_channels + 15u) / 16u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let filter_group = index % tiles / group_tiles;
    // Channels within the group.
    let first = index % group_tiles * 16u;
    let first_pixel = index / tiles * 128u;
    let area = params.p * params.q;
    let plane = params.h * params.w;
    let taps = params.r * params.s;
    let depth = group_filters * taps;
    let ahead = vec4<u32>(0u, 1u, 2u, 3u);

    // What this invocation fetches: four pixels for every second row, four channels for one row.
    let fetched = first_pixel + local % 32u * 4u + ahead;
    let exists = fetched < vec4<u32>(params.n * plane);
    let image = (fetched / plane * params.k + filter_group * group_filters) * area;
    let bottom = fetched % plane / params.w + params.pad_top;
    let right = fetched % params.w + params.pad_left;
    let columns = min(first + local % 4u * 4u + ahead, vec4<u32>(group_channels - 1u)) * taps;

    // What it computes: channels 4 x (local / 16) and on, pixels 4 x (local % 16) and on, and the same 64 further.
    var sum_0a = vec4<f32>(0.0);
    var sum_0b = sum_0a;
    var sum_1a = sum_0a;
    var sum_1b = sum_0a;
    var sum_2a = sum_0a;
    var sum_2b = sum_0a;
    var sum_3a = sum_0a;
    var sum_3b = sum_0a;
    for (var chunk = 0u; chunk < depth; chunk += 16u) {
        let channel_row = min(chunk + local / 4u, depth - 1u);
        let first_weight = (filter_group * group_filters + channel_row / taps) * group_channels * taps;
        let at = first_weight + columns + channel_row % taps;
        let fetched_channels = vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
        channels[local] = select(vec4<f32>(0.0), fetched_channels, chunk + local / 4u < depth);
        for (var row = local / 32u; row < 16u; row += 2u) {
            let e = chunk + row;
            // Above the output these wrap to huge numbers, which are outside as well.
            let p = bottom - e % taps / params.s * params.dilation_h;
            let q = right - e % params.s * params.dilation_w;
            let inside = exists & (p < vec4<u32>(params.p)) & (q < vec4<u32>(params.q)) & vec4<bool>(e < depth);
            let i = select(vec4<u32>(0u), image + e / taps * area + p * params.q + q, inside);
            let gradients = vec4<f32>(dy[i.x], dy[i.y], dy[i.z], dy[i.w]);
            patches[row * 32u + local % 32u] = select(vec4<f32>(0.0), gradients, inside);
        }
        workgroupBarrier();
        for (var row = 0u; row < 16u; row++) {
            let factor = channels[row * 4u + local / 16u];
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
    let c = filter_group * group_channels + first + local / 16u * 4u;
    let end = (filter_group + 1u) * group_channels;
    let pixel_a = first_pixel + local % 16u * 4u + ahead;
    let pixel_b = pixel_a + 64u;
    store(c, end, pixel_a, sum_0a);
    store(c, end, pixel_b, sum_0b);
    store(c + 1u, end, pixel_a, sum_1a);
    store(c + 1u, end, pixel_b, sum_1b);
    store(c + 2u, end, pixel_a, sum_2a);
    store(c + 2u, end, pixel_b, sum_2b);
    store(c + 3u, end, pixel_a, sum_3a);
    store(c + 3u, end, pixel_b, sum_3b);
}
