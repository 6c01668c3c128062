// Squared norm of a long vector, in parts: partials[i] = sum over k of x[i + k parts]^2. The host adds the parts.
//
// Shapes  x [len], partials [parts]
// Grid    one invocation a part; neighbours read neighbouring numbers, so that memory is read in one sweep
// Twin    sum_of_squares in src/optim/norms.rs

struct Params {
    len: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let part = (group.y * groups.x + group.x) * 64u + local;
    if part >= params.parts {
        return;
    }
    var sum = 0.0;
    for (var i = part; i < params.len; i += params.parts) {
        sum += x[i] * x[i];
    }
    partials[part] = sum;
}
