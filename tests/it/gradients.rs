//! Whole graphs: gradients against finite differences of the loss, and the same on every executor.

use crate::harness::{Tolerance, compare, gpu, random, twins};
use centripetal::device::Device;
use centripetal::graph::{Graph, GraphBuilder};
use centripetal::model::{Model, Tensors};
use centripetal::ops::{Add, Bias, Conv2d, Linear, Padding};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::shape::Shape;

const BATCH: usize = 5;

/// Sums of several layers in other orders.
const SEVERAL_LAYERS: Tolerance = Tolerance { nmse: 1e-10, worst: 1e-4 };

/// The mean loss of one batch and its gradients.
fn loss_and_gradients(device: &Device, model: &Model) -> (f64, Tensors) {
    let run = async {
        let arenas = Arenas::new(device, &model.graph, &model.tensors)?;
        let plan = Plan::compile(device, &model.graph, &arenas, BATCH, Mode::Train, Keep::Logits)?;
        let labels: Vec<u32> = (0..BATCH as u32).map(|n| n % plan.classes() as u32).collect();
        plan.load(device, &random(11, BATCH * model.graph.input.len()), &labels);
        arenas.reset_metrics(device, 0);
        device.run(&[plan.commands()]);
        let metrics = Arenas::parse_metrics(&device.read(&arenas.metrics().all()).await?);
        Ok::<_, centripetal::Error>((
            metrics.loss_sum / BATCH as f64,
            arenas.download_gradients(device).await?,
        ))
    };
    pollster::block_on(run).unwrap_or_else(|error| panic!("{}: {error}", model.graph.name))
}

/// Checks the gradients of `graph` at random weights: on the twins by central differences of the loss along random
/// directions, one for each parameter; on the fast path and the GPU by the twins' gradients.
///
/// The graph should be smooth: near the kink of a ReLU the differences mean nothing.
pub(crate) fn check_graph(graph: Graph) {
    let model = Model::random(graph, 3);
    let (_, gradients) = loss_and_gradients(&twins(), &model);
    for (name, gradient) in &gradients {
        const STEP: f32 = 1e-2;
        let direction = random(13, gradient.data.len());
        let moved = |step: f32| {
            let mut model = model.clone();
            let tensor = model.tensors.get_mut(name).unwrap_or_else(|| panic!("{name} has no tensor"));
            tensor.data.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
            loss_and_gradients(&twins(), &model).0
        };
        let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
        let products = gradient.data.iter().zip(&direction).map(|(g, d)| f64::from(g * d));
        let expected: f64 = products.sum();
        let scale = gradient.data.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!(
            (slope - expected).abs() < 2e-3 * scale + 2e-4,
            "{name}: slope {slope}, gradient gives {expected} (norm {scale})"
        );
    }
    let fast = Device::cpu("test");
    for (executor, device) in [("fast path", Some(&fast)), ("GPU", gpu())] {
        let Some(device) = device else { continue };
        let (_, found) = loss_and_gradients(device, &model);
        for (name, gradient) in &gradients {
            let what = format!("{name} of {} ({executor})", model.graph.name);
            compare(&what, &gradient.data, &found[name].data, SEVERAL_LAYERS);
        }
    }
}

#[test]
fn convolutions_and_linear() {
    let mut graph = GraphBuilder::new("convolutions", Shape::new(3, 9, 8));
    let stem = Conv2d::same(3, 6, 3);
    let stem = graph.add("stem", stem, &[graph.input()]);
    let grouped = Conv2d { groups: 2, stride: [2, 2], bias: Bias::Without, ..Conv2d::same(6, 8, 3) };
    let grouped = graph.add("grouped", grouped, &[stem]);
    let branch = graph.add("branch", Conv2d::new(8, 8, [1, 1]), &[grouped]);
    let depthwise = Conv2d { groups: 8, ..Conv2d::same(8, 8, 3) };
    let depthwise = graph.add("depthwise", depthwise, &[grouped]);
    let sum = graph.add("sum", Add {}, &[branch, depthwise, grouped]);
    let whole = Conv2d { padding: Padding { top: 1, ..Padding::all(0) }, ..Conv2d::new(8, 12, [6, 4]) };
    let whole = graph.add("whole", whole, &[sum]);
    let hidden = graph.add("hidden", Linear { bias: Bias::Without, ..Linear::new(12, 7) }, &[whole]);
    graph.add("classifier", Linear::new(7, 4), &[hidden]);
    let graph = graph.finish();
    let json = serde_json::to_string(&graph).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(serde_json::from_str::<Graph>(&json).ok().as_ref(), Some(&graph), "{json}");
    check_graph(graph);
}
