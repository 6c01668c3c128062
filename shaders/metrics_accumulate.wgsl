// Running sums of loss, correct answers and samples, kept on the device so that no step waits for a read-back.
// The first step whose loss is not finite is noted; the optimizer then leaves the parameters as they are.
//
// Shapes  outcome [N, 2]: loss; 1 correct, 0 wrong, -1 not counted
//         metrics [5]: loss sum (f32 bits), correct, samples, first bad step or 0, steps so far
// Grid    one invocation: N is a batch, and a fixed order gives the same bits on every run
// Twin    metrics_accumulate in src/ops/softmax_cross_entropy.rs

struct Params {
    n: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> outcome: array<f32>;
@group(0) @binding(2) var<storage, read_write> metrics: array<u32>;

@compute @workgroup_size(1)
fn main() {
    var loss = 0.0;
    var correct = 0u;
    var samples = 0u;
    for (var n = 0u; n < params.n; n++) {
        let answer = outcome[2u * n + 1u];
        if answer >= 0.0 {
            loss += outcome[2u * n];
            correct += select(0u, 1u, answer == 1.0);
            samples += 1u;
        }
    }
    metrics[0] = bitcast<u32>(bitcast<f32>(metrics[0]) + loss);
    metrics[1] += correct;
    metrics[2] += samples;
    metrics[4] += params.step;
    // By its bits: compilers may assume that floats are never NaN or infinite.
    let exponent = bitcast<u32>(loss) & 0x7f800000u;
    if metrics[3] == 0u && exponent == 0x7f800000u {
        metrics[3] = max(metrics[4], 1u);
    }
}
