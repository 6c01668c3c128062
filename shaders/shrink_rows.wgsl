// Proximal step of group lasso: w = w max(0, 1 - amount / |row|) for every listed row; a row of one number is L1.
// Nothing once a step's loss was not finite.
//
// Shapes  rows [R, 2]: first word and length of each row; parameters: the arena
// Grid    one workgroup a row, folded to two dimensions
// Twin    shrink_rows in src/optim/sparsity.rs

struct Params {
    rows: u32,
    amount: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> metrics: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows || metrics[3] != 0u {
        return;
    }
    let first = rows[2u * row];
    let length = rows[2u * row + 1u];
    var sum = 0.0;
    for (var i = local; i < length; i += 64u) {
        sum += parameters[first + i] * parameters[first + i];
    }
    sums[local] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if local < half {
            sums[local] += sums[local + half];
        }
        workgroupBarrier();
    }
    let norm = sqrt(sums[0]);
    // A row that is zero stays so, and nothing is divided by it.
    let factor = select(0.0, 1.0 - params.amount / norm, norm > params.amount);
    for (var i = local; i < length; i += 64u) {
        parameters[first + i] *= factor;
    }
}
