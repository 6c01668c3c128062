// How far each cluster is from collapsed: chi = sum over members and columns of (w - mean)^2.
//
// Shapes  segments [segments, 4]: first item, first member, members, row length; members: first word of each row
//         rows: the arena; deviation [segments]
// Grid    one workgroup a segment; its 64 invocations share the columns and add up in a fixed order
// Twin    cluster_deviation in src/optim/csgd.rs

struct Params {
    segments: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> members: array<u32>;
@group(0) @binding(3) var<storage, read> rows: array<f32>;
@group(0) @binding(4) var<storage, read_write> deviation: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * groups.x + group.x;
    // Past the end the last segment is computed again and not written: barriers need all invocations.
    let segment = segments[min(index, params.segments - 1u)];
    var sum = 0.0;
    if segment.z > 1u {
        for (var column = local; column < segment.w; column += 64u) {
            var mean = 0.0;
            for (var m = segment.y; m < segment.y + segment.z; m++) {
                mean += rows[members[m] + column];
            }
            mean /= f32(segment.z);
            for (var m = segment.y; m < segment.y + segment.z; m++) {
                let distance = rows[members[m] + column] - mean;
                sum += distance * distance;
            }
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    if local == 0u && index < params.segments {
        var total = 0.0;
        for (var k = 0u; k < 64u; k++) {
            total += partial[k];
        }
        deviation[index] = total;
    }
}
