// Convolution, gradient of the input: dx[n,c,h,w] = sum over k,r,s of weight[k,c,r,s] * dy[n,k,p,q], over those (r, s)
// for which p = (h + pad_top - r * dilation_h) / stride_h is a whole number and in the image, q likewise.
//
// An invocation holds a tile of 8 channels x 8 pixels in registers, as conv2d_forward.wgsl does. With a stride, a pixel
// meets only those taps that divide well. A workgroup therefore takes pixels of one class, (h mod stride_h,
// w mod stride_w): whether a tap fits is then the same for all of it, and no zeros are multiplied.
//
// Shapes  dy [N, K, P, Q], weight [K, C/groups, R, S], dx [N, C, H, W]
// Grid    a workgroup is 8 channels of one group x 512 pixels of one class
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

fn load(i: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(dy[i.x], dy[i.y], dy[i.z], dy[i.w]), inside);
}

fn write(i: u32, value: f32) {
    if params.accumulate == 1u {
        dx[i] += value;
    } else {
        dx[i] = value;
    }
}

fn store(i: vec4<u32>, exists: vec4<bool>, value: vec4<f32>) {
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
    let group_tiles = (group_channels + 7u) / 8u;
    let tiles = group_tiles * params.groups;
    let index = params.first + group.y * groups.x + group.x;
    let tile = index % tiles;
    let filter_group = tile / group_tiles;
    // Channels within the group; a tile at its edge repeats the last one and does not store it again.
    let first = tile % group_tiles * 8u;
    let c_a = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(group_channels - 1u));
    let c_b = min(vec4<u32>(first + 4u, first + 5u, first + 6u, first + 7u), vec4<u32>(group_channels - 1u));

    // The pixels of a class form an image of rows x columns; the smaller classes leave its last row or column empty.
    let rows = (params.h + params.stride_h - 1u) / params.stride_h;
    let columns = (params.w + params.stride_w - 1u) / params.stride_w;
    let class_area = rows * columns;
    let blocks = (params.n * class_area + 511u) / 512u;
    let block = index / tiles % blocks;
    let class_index = index / tiles / blocks;
    let class_h = class_index / params.stride_w;
    let class_w = class_index % params.stride_w;
    if class_h >= params.stride_h {
        return;
    }
    let pixel_a = block * 512u + local + vec4<u32>(0u, 64u, 128u, 192u);
    let pixel_b = pixel_a + 256u;
    let row_a = pixel_a % class_area / columns;
    let row_b = pixel_b % class_area / columns;
    let column_a = pixel_a % columns;
    let column_b = pixel_b % columns;
    let h_a = row_a * params.stride_h + class_h;
    let h_b = row_b * params.stride_h + class_h;
    let w_a = column_a * params.stride_w + class_w;
    let w_b = column_b * params.stride_w + class_w;
    let all = vec4<u32>(params.n * class_area);
    let exists_a = (pixel_a < all) & (h_a < vec4<u32>(params.h)) & (w_a < vec4<u32>(params.w));
    let exists_b = (pixel_b < all) & (h_b < vec4<u32>(params.h)) & (w_b < vec4<u32>(params.w));
    let area = params.p * params.q;
    let first_filter = filter_group * group_filters;
    let image_a = (pixel_a / class_area * params.k + first_filter) * area;
    let image_b = (pixel_b / class_area * params.k + first_filter) * area;

    var sum_0a = vec4<f32>(0.0);
    var sum_0b = sum_0a;
    var sum_1a = sum_0a;
    var sum_1b = sum_0a;
    var sum_2a = sum_0a;
    var sum_2b = sum_0a;
    var sum_3a = sum_0a;
    var sum_3b = sum_0a;
    var sum_4a = sum_0a;
    var sum_4b = sum_0a;
    var sum_5a = sum_0a;
    var sum_5b = sum_0a;
    var sum_6a = sum_0a;
    var sum_6b = sum_0a;
    var sum_7a = sum_0a;
    var sum_7b = sum_0a;
    let taps = params.r * params.s;
    let filter_size = group_channels * taps;
    let stride = vec2<i32>(i32(params.stride_h), i32(params.stride_w));
    for (var r = 0u; r < params.r; r++) {
        let distance_h = i32(class_h + params.pad_top) - i32(r * params.dilation_h);
        if distance_h % stride.x != 0 {
            continue;
        }
        // Above the image this wraps to huge numbers, which are outside as well.
        let p_a = row_a + u32(distance_h / stride.x);
        let p_b = row_b + u32(distance_h / stride.x);
        for (var s = 0u; s < params.s; s++) {
            let distance_w = i32(class_w + params.pad_left) - i32(s * params.dilation_w);
            if distance_w % stride.y != 0 {
                continue;
            }
            let q_a = column_a + u32(distance_w / stride.y);
            let q_b = column_b + u32(distance_w / stride.y);
            let inside_a = (p_a < vec4<u32>(params.p)) & (q_a < vec4<u32>(params.q)) & exists_a;
            let inside_b = (p_b < vec4<u32>(params.p)) & (q_b < vec4<u32>(params.q)) & exists_b;
            var dy_a = select(vec4<u32>(0u), image_a + p_a * params.q + q_a, inside_a);
            var dy_b = select(vec4<u32>(0u), image_b + p_b * params.q + q_b, inside_b);
            var at_a = first_filter * filter_size + c_a * taps + (r * params.s + s);
            var at_b = first_filter * filter_size + c_b * taps + (r * params.s + s);
            for (var k = 0u; k < group_filters; k++) {
                let value_a = load(dy_a, inside_a);
                let value_b = load(dy_b, inside_b);
                let weight_0 = weight[at_a.x];
                let weight_1 = weight[at_a.y];
                let weight_2 = weight[at_a.z];
                let weight_3 = weight[at_a.w];
                let weight_4 = weight[at_b.x];
                let weight_5 = weight[at_b.y];
                let weight_6 = weight[at_b.z];
                let weight_7 = weight[at_b.w];
                sum_0a += weight_0 * value_a;
                sum_0b += weight_0 * value_b;
                sum_1a += weight_1 * value_a;
                sum_1b += weight_1 * value_b;
                sum_2a += weight_2 * value_a;
                sum_2b += weight_2 * value_b;
                sum_3a += weight_3 * value_a;
                sum_3b += weight_3 * value_b;
                sum_4a += weight_4 * value_a;
                sum_4b += weight_4 * value_b;
                sum_5a += weight_5 * value_a;
                sum_5b += weight_5 * value_b;
                sum_6a += weight_6 * value_a;
                sum_6b += weight_6 * value_b;
                sum_7a += weight_7 * value_a;
                sum_7b += weight_7 * value_b;
                dy_a += area;
                dy_b += area;
                at_a += filter_size;
                at_b += filter_size;
            }
        }
    }
    let plane = params.h * params.w;
    let channel = filter_group * group_channels + first;
    let dx_a = (pixel_a / class_area * params.c + channel) * plane + h_a * params.w + w_a;
    let dx_b = (pixel_b / class_area * params.c + channel) * plane + h_b * params.w + w_b;
    store(dx_a, exists_a, sum_0a);
    store(dx_b, exists_b, sum_0b);
    if first + 1u < group_channels {
        store(dx_a + plane, exists_a, sum_1a);
        store(dx_b + plane, exists_b, sum_1b);
    }
    if first + 2u < group_channels {
        store(dx_a + 2u * plane, exists_a, sum_2a);
        store(dx_b + 2u * plane, exists_b, sum_2b);
    }
    if first + 3u < group_channels {
        store(dx_a + 3u * plane, exists_a, sum_3a);
        store(dx_b + 3u * plane, exists_b, sum_3b);
    }
    if first + 4u < group_channels {
        store(dx_a + 4u * plane, exists_a, sum_4a);
        store(dx_b + 4u * plane, exists_b, sum_4b);
    }
    if first + 5u < group_channels {
        store(dx_a + 5u * plane, exists_a, sum_5a);
        store(dx_b + 5u * plane, exists_b, sum_5b);
    }
    if first + 6u < group_channels {
        store(dx_a + 6u * plane, exists_a, sum_6a);
        store(dx_b + 6u * plane, exists_b, sum_6b);
    }
    if first + 7u < group_channels {
        store(dx_a + 7u * plane, exists_a, sum_7a);
        store(dx_b + 7u * plane, exists_b, sum_7b);
    }
}
