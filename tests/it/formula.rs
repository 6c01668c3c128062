//! Weights and images by formula, shared with tests/golden/make.py so that none need to be stored.

use centripetal::data::Batch;
use centripetal::graph::Graph;
use centripetal::model::{Model, TensorData};
use centripetal::ops::ParamKind;
use centripetal::rng::split_mix;
use centripetal::shape::Shape;

/// Uniform in [0, 1): FNV-1a 64 of the tag plus the index, mixed.
fn uniform(tag: &str, index: usize) -> f32 {
    let hash = tag.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut state = hash.wrapping_add(index as u64);
    (split_mix(&mut state) >> 40) as f32 / (1u32 << 24) as f32
}

/// `len` numbers in [-scale, scale).
pub(crate) fn signed(tag: &str, len: usize, scale: f64) -> Vec<f32> {
    (0..len).map(|index| (2.0 * uniform(tag, index) - 1.0) * scale as f32).collect()
}

/// `graph` with the weights of the goldens.
pub(crate) fn model(graph: Graph) -> Model {
    let mut model = Model::random(graph, 0);
    for (id, name, spec) in model.graph.parameters() {
        let linear = model.graph.nodes[id].op.type_name() == "Linear";
        let fan_in = model.tensors[&format!("{}.weight", model.graph.nodes[id].name)].dims[1..]
            .iter()
            .product::<usize>();
        let scale = match spec.kind {
            ParamKind::Weight | ParamKind::Bias if linear => 1.0 / (fan_in as f64).sqrt(),
            ParamKind::Weight => (6.0 / fan_in as f64).sqrt(),
            _ => continue,
        };
        let data = signed(&name, spec.len(), scale);
        model.tensors.insert(name, TensorData { dims: spec.dims, data });
    }
    model
}

/// The batch of step `step`.
pub(crate) fn batch(step: usize, samples: usize, shape: Shape) -> Batch {
    let labels = (0..samples).map(|n| (uniform(&format!("y{step}"), n) * 10.0) as u32).collect();
    Batch { images: signed(&format!("x{step}"), samples * shape.len(), 1.7), labels, samples }
}

#[test]
fn known_answers() {
    let first: Vec<f64> = (0..3).map(|i| f64::from(uniform("x0", i))).collect();
    assert_eq!(first, [0.5032548308372498, 0.5743194222450256, 0.082766592502594]);
    let weights = signed("conv1.weight", 3, (6.0f64 / 27.0).sqrt());
    assert_eq!(weights, [0.042_497_06, -0.400_868_5, 0.433_709_95]);
}
