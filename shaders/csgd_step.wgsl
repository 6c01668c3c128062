// Centripetal SGD over the whole network at once (Ding et al., CVPR 2019, eq. 3). For filter j of cluster H:
//   g' = mean_H(g) + eta*w_j + eps*(w_j - mean_H(w)),  v = mu*v + g',  w_j = w_j - lr*v
// (Nesterov: w_j = w_j - lr*(g' + mu*v)). Every member gets the same averaged gradient, so a difference between two members
// is multiplied by 1 - lr*(eta + eps) a step without momentum. A cluster of one is sgd_step, bit for bit.
//
// Shapes  gradients, parameters, momentum: the arena; metrics [5], see metrics_accumulate
//         segments [segments, 4]: first item, first member, members, row length; ascending in first item
//         members: first word of each row
// Grid    one invocation an item: one column of one cluster, averaged over its members
// Twin    csgd_step in src/optim/csgd.rs

struct Params {
    items: u32,
    segments: u32,
    decayed: u32,
    nesterov: u32,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    strength: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read> metrics: array<u32>;
@group(0) @binding(3) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> members: array<u32>;
@group(0) @binding(5) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(6) var<storage, read_write> momentum: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let item = (group.y * groups.x + group.x) * 64u + local;
    if item >= params.items || metrics[3] != 0u {
        return;
    }
    // The last segment that begins at or before this item.
    var low = 0u;
    var high = params.segments;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if segments[middle].x <= item {
            low = middle;
        } else {
            high = middle;
        }
    }
    let segment = segments[low];
    let column = item - segment.x;
    let first = segment.y;
    let end = segment.y + segment.z;

    var gradient = 0.0;
    var mean = 0.0;
    for (var m = first; m < end; m++) {
        let i = members[m] + column;
        gradient += gradients[i];
        mean += parameters[i];
    }
    gradient /= f32(segment.z);
    mean /= f32(segment.z);

    for (var m = first; m < end; m++) {
        let i = members[m] + column;
        var g = gradient;
        if i < params.decayed {
            g += params.weight_decay * parameters[i];
        }
        if segment.z > 1u {
            g += params.strength * (parameters[i] - mean);
        }
        let v = params.momentum * momentum[i] + g;
        momentum[i] = v;
        let step = select(v, g + params.momentum * v, params.nesterov == 1u);
        parameters[i] -= params.lr * step;
    }
}
