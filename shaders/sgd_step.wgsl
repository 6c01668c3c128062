// SGD with momentum over the whole network at once, as torch.optim.SGD:
//   g' = g + eta*w,  v = mu*v + g',  w = w - lr*v   (Nesterov: w = w - lr*(g' + mu*v))
// Once a step's loss was not finite, nothing moves: the last good parameters stay.
//
// Shapes  gradients, parameters, momentum [len]; metrics [5], see metrics_accumulate
// Grid    one invocation a number, folded to two dimensions
// Twin    sgd_step in src/optim/sgd.rs

struct Params {
    len: u32,
    decayed: u32,
    nesterov: u32,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read> metrics: array<u32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(4) var<storage, read_write> momentum: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= params.len || metrics[3] != 0u {
        return;
    }
    var g = gradients[i];
    if i < params.decayed {
        g += params.weight_decay * parameters[i];
    }
    let v = params.momentum * momentum[i] + g;
    momentum[i] = v;
    let step = select(v, g + params.momentum * v, params.nesterov == 1u);
    parameters[i] -= params.lr * step;
}
