// Concatenation over channels, forward: copies one input to its channels of y; one dispatch an input.
//
// Shapes  x [N, C_i, H, W], y [N, sum of C_i, H, W]; x_len = C_i H W, y_len = sum of C_i H W
// Grid    one invocation a number of x, folded to two dimensions
// Twin    concat_forward in src/ops/concat.rs

struct Params {
    n: u32,
    x_len: u32,
    y_len: u32,
    offset: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.n * params.x_len {
        return;
    }
    let n = i / params.x_len;
    y[n * params.y_len + params.offset + (i - n * params.x_len)] = x[i];
}
