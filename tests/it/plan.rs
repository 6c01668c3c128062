//! Whole plans: gradients where branches part and meet, memory sharing, constants, modes.

use crate::harness::{Tolerance, compare, gpu, random, twins};
use centripetal::device::{Device, DeviceChoice};
use centripetal::graph::{Graph, GraphBuilder, NodeId};
use centripetal::model::{Model, Tensors};
use centripetal::ops::{
    Add, AvgPool2d, BatchNorm2d, ChannelPad, Clamp, Concat, Conv2d, Divisor, Flatten, GlobalAvgPool,
    HardSigmoid, HardSwish, LeakyRelu, Linear, MaxPool2d, Mul, Pad2d, Padding, Relu, Relu6, Sigmoid, Silu,
};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::rng::Rng;
use centripetal::shape::Shape;

const BATCH: usize = 4;
const CLASSES: usize = 3;
const IMAGE: Shape = Shape::new(2, 6, 6);

/// Two roundings of the same network.
const NETWORK: Tolerance = Tolerance { nmse: 1e-8, worst: 1e-3 };

/// A network from the image to its last feature map; pooling and a linear layer follow.
fn network(name: &str, body: impl FnOnce(&mut GraphBuilder) -> NodeId) -> Graph {
    let mut graph = GraphBuilder::new(name, IMAGE);
    let last = body(&mut graph);
    let unfinished = graph.finish();
    let channels = unfinished.shapes().unwrap_or_else(|error| panic!("{name}: {error}"))[last].c;
    let mut graph = GraphBuilder::new(name, IMAGE);
    for node in &unfinished.nodes[1..] {
        graph.add(&node.name, node.op.clone(), &node.inputs);
    }
    let pooled = graph.add("pool", GlobalAvgPool {}, &[last]);
    graph.add("fc", Linear::new(channels, CLASSES), &[pooled]);
    graph.finish()
}

/// A 3x3 convolution of the image to four channels, batch norm.
fn stem(graph: &mut GraphBuilder) -> NodeId {
    let conv = graph.add("conv1", Conv2d::same(2, 4, 3), &[0]);
    graph.add("bn1", BatchNorm2d::new(4), &[conv])
}

/// Convolution and batch norm, four channels to four.
fn block(graph: &mut GraphBuilder, name: &str, x: NodeId) -> NodeId {
    let conv = graph.add(&format!("{name}.conv"), Conv2d::same(4, 4, 3), &[x]);
    graph.add(&format!("{name}.bn"), BatchNorm2d::new(4), &[conv])
}

fn networks() -> Vec<Graph> {
    vec![
        network("chain of activations", |g| {
            let x = stem(g);
            let x = g.add("relu6", Relu6 {}, &[x]);
            let x = block(g, "a", x);
            g.add("leaky", LeakyRelu { slope: 0.2 }, &[x])
        }),
        network("chain of smooth activations", |g| {
            let x = stem(g);
            let x = g.add("silu", Silu {}, &[x]);
            let x = block(g, "a", x);
            let x = g.add("hard swish", HardSwish {}, &[x]);
            let x = block(g, "b", x);
            let x = g.add("clamp", Clamp { low: -0.75, high: 1.5 }, &[x]);
            let x = block(g, "c", x);
            g.add("sigmoid", Sigmoid {}, &[x])
        }),
        network("squeeze and excitation", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let y = block(g, "a", x);
            let gate = g.add("squeeze", GlobalAvgPool {}, &[y]);
            let gate = g.add("fc1", Conv2d::new(4, 2, [1, 1]), &[gate]);
            let gate = g.add("swish", Silu {}, &[gate]);
            let gate = g.add("fc2", Conv2d::new(2, 4, [1, 1]), &[gate]);
            let gate = g.add("gate", HardSigmoid { slope: 0.2, offset: 0.4 }, &[gate]);
            let y = g.add("excited", Mul {}, &[y, gate]);
            let z = g.add("product", Mul {}, &[y, x]);
            let square = g.add("square", Mul {}, &[z, z]);
            g.add("add", Add {}, &[square, z, y])
        }),
        network("padded unevenly", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let padding = Padding { top: 0, left: 2, bottom: 1, right: 1 };
            let padded = g.add("pad", Pad2d { padding }, &[x]);
            let y = g.add("conv", Conv2d { stride: [2, 2], ..Conv2d::new(4, 4, [3, 3]) }, &[padded]);
            let pool = MaxPool2d { stride: [2, 2], trailing: Some([1, 1]), ..MaxPool2d::new(3) };
            let z = g.add("max", pool, &[x]);
            let z = g.add("inner", Pad2d { padding: Padding { right: 1, ..Padding::all(0) } }, &[z]);
            let both = g.add("add", Add {}, &[y, z]);
            let again = g.add("again", Pad2d { padding }, &[both]);
            g.add("bn", BatchNorm2d::new(4), &[again])
        }),
        network("two branches added", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let (a, b) = (block(g, "a", x), block(g, "b", x));
            g.add("add", Add {}, &[a, b])
        }),
        network("a node added to itself", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let x = g.add("double", Add {}, &[x, x]);
            g.add("triple", Add {}, &[x, x, x])
        }),
        network("three consumers", |g| {
            let x = stem(g);
            let (a, b, c) =
                (block(g, "a", x), g.add("relu", Relu {}, &[x]), g.add("bn", BatchNorm2d::new(4), &[x]));
            g.add("add", Add {}, &[a, b, c])
        }),
        network("one gradient handed on to many", |g| {
            let a = stem(g);
            let b = g.add("relu", Relu {}, &[a]);
            let c = g.add("c", Add {}, &[a, b]);
            let d = g.add("d", Add {}, &[c, a]);
            let e = block(g, "e", d);
            let f = g.add("f", Add {}, &[c, d, b, e]);
            g.add("g", Add {}, &[f, c])
        }),
        network("a node concatenated with itself", |g| {
            let x = stem(g);
            let relu = g.add("relu", Relu {}, &[x]);
            let x = g.add("concat", Concat {}, &[relu, relu, x]);
            let conv = g.add("conv", Conv2d::same(12, 4, 3), &[x]);
            g.add("dense", Concat {}, &[relu, conv])
        }),
        network("residual block", |g| {
            let x = stem(g);
            let x = g.add("relu1", Relu {}, &[x]);
            let y = block(g, "a", x);
            let y = g.add("relu2", Relu {}, &[y]);
            let y = block(g, "b", y);
            let y = g.add("add", Add {}, &[y, x]);
            g.add("relu3", Relu {}, &[y])
        }),
        network("residual block with a padded shortcut", |g| {
            let x = stem(g);
            let x = g.add("relu1", Relu {}, &[x]);
            let y = g.add("conv", Conv2d { stride: [2, 2], ..Conv2d::same(4, 8, 3) }, &[x]);
            let y = g.add("bn", BatchNorm2d::new(8), &[y]);
            let shortcut = g.add("shortcut", ChannelPad::symmetric(4, 2, 2, 2), &[x]);
            let y = g.add("add", Add {}, &[y, shortcut]);
            let y = g.add("relu2", Relu {}, &[y]);
            let source = vec![Some(7), None, Some(0), Some(3)];
            g.add("rearranged", ChannelPad { stride: [1, 2], source }, &[y])
        }),
        network("poolings side by side", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let a = g.add("max", MaxPool2d { stride: [2, 2], padding: [1, 1], ..MaxPool2d::new(3) }, &[x]);
            let average = AvgPool2d {
                stride: [2, 2],
                trailing: Some([2, 2]),
                divisor: Divisor::Pixels,
                ..AvgPool2d::new(3)
            };
            let b = g.add("average", average, &[x]);
            g.add("concat", Concat {}, &[a, b])
        }),
        network("flattened beside a pooling", |g| {
            let x = stem(g);
            let x = g.add("relu", Relu {}, &[x]);
            let flat = g.add("flatten", Flatten {}, &[x]);
            let a = g.add("fc1", Linear::new(4 * 36, 5), &[flat]);
            let pooled = g.add("pool0", GlobalAvgPool {}, &[x]);
            let b = g.add("fc2", Linear::new(4, 5), &[pooled]);
            let sum = g.add("add", Add {}, &[a, b]);
            let again = g.add("flatten again", Flatten {}, &[sum]);
            g.add("norm", BatchNorm2d::new(5), &[again])
        }),
        network("the image in several places", |g| {
            let flat = g.add("flatten", Flatten {}, &[0]);
            let a = g.add("fc1", Linear::new(72, 2), &[flat]);
            let conv = g.add("conv", Conv2d::same(2, 2, 3), &[0]);
            let sum = g.add("add", Add {}, &[conv, 0]);
            let b = g.add("pool0", GlobalAvgPool {}, &[sum]);
            g.add("concat", Concat {}, &[a, b])
        }),
        network("a branch that leads nowhere", |g| {
            let x = stem(g);
            block(g, "unused", x);
            g.add("relu", Relu {}, &[x])
        }),
    ]
}

/// A plan with its parameters, images and labels in place.
struct Bench<'a> {
    device: &'a Device,
    arenas: Arenas,
    plan: Plan,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device, model: &Model, mode: Mode, keep: Keep) -> Self {
        let fail = |error| panic!("{}: {error}", model.graph.name);
        let arenas = Arenas::new(device, &model.graph, &model.tensors).unwrap_or_else(fail);
        let plan = Plan::compile(device, &model.graph, &arenas, BATCH, mode, keep);
        let plan = plan.unwrap_or_else(|error| panic!("{}: {error}", model.graph.name));
        plan.load(device, &random(7, BATCH * IMAGE.len()), &[0, 2, 1, 2]);
        Bench { device, arenas, plan }
    }

    /// Mean loss with `tensors` as parameters.
    fn loss(&self, tensors: &Tensors) -> f64 {
        let uploaded = self.arenas.upload(self.device, tensors);
        uploaded.unwrap_or_else(|error| panic!("{error}"));
        self.arenas.reset_metrics(self.device, 0);
        self.device.run(&[self.plan.commands()]);
        let words = self.read(&self.arenas.metrics().all());
        Arenas::parse_metrics(&words).loss_sum / BATCH as f64
    }

    fn gradients(&self) -> Tensors {
        pollster::block_on(self.arenas.download_gradients(self.device))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn tensors(&self) -> Tensors {
        pollster::block_on(self.arenas.download(self.device)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn read(&self, slice: &centripetal::device::BufferSlice) -> Vec<f32> {
        pollster::block_on(self.device.read(slice)).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Random parameters; unlike at the start of a training, no gamma is 1 and no beta 0.
fn model(graph: Graph) -> Model {
    let mut model = Model::random(graph, 5);
    for (i, (name, tensor)) in model.tensors.iter_mut().enumerate() {
        if tensor.dims.len() == 1 && !name.contains("running") {
            for (x, noise) in tensor.data.iter_mut().zip(random(100 + i as u64, 1000)) {
                *x += 0.4 * noise;
            }
        }
    }
    model
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for graph in networks() {
        let model = model(graph);
        let twins = twins();
        let bench = Bench::new(&twins, &model, Mode::Train, Keep::Logits);
        bench.loss(&model.tensors);
        let gradients = bench.gradients();
        for (seed, (name, gradient)) in gradients.iter().enumerate() {
            let mut rng = Rng::new(seed as u64);
            let direction: Vec<f32> =
                gradient.data.iter().map(|_| if rng.below(2) == 0 { 1.0 } else { -1.0 }).collect();
            let slope: f64 =
                gradient.data.iter().zip(&direction).map(|(x, along)| f64::from(x * along)).sum();
            let moved = |distance: f32| {
                let mut tensors = model.tensors.clone();
                let tensor = tensors.get_mut(name).expect("a gradient's parameter");
                for (x, along) in tensor.data.iter_mut().zip(&direction) {
                    *x += distance * along;
                }
                bench.loss(&tensors)
            };
            // A long step crosses kinks of ReLU, a short one drowns in rounding; a wrong gradient fails at all lengths.
            let differences = [8e-3, 2e-3, 5e-4].map(|length: f32| {
                let step = length / (direction.len() as f32).sqrt();
                (moved(step) - moved(-step)) / (2.0 * f64::from(step))
            });
            let size = gradient.data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!(
                differences.iter().any(|difference| (slope - difference).abs() < 0.01 * size + 5e-4),
                "{}, {name}: slope {slope}, finite differences {differences:?}",
                model.graph.name
            );
        }
    }
}

#[test]
fn sharing_memory_changes_nothing() {
    for graph in networks() {
        let model = model(graph);
        let twins = twins();
        let [shared, kept] = [Keep::Logits, Keep::Everything].map(|keep| {
            let bench = Bench::new(&twins, &model, Mode::Train, keep);
            let loss = bench.loss(&model.tensors);
            let outcome = (loss, bench.read(bench.plan.logits()), bench.gradients(), bench.tensors());
            (outcome, bench.plan.memory().activations)
        });
        assert_eq!(shared.0, kept.0, "{}", model.graph.name);
        assert!(shared.1 < kept.1, "{}: {} and {} bytes", model.graph.name, shared.1, kept.1);
    }
}

#[test]
fn every_executor_gives_the_same_gradients() {
    let fast = Device::cpu("test");
    for graph in networks() {
        let model = model(graph);
        let name = &model.graph.name;
        let twins = twins();
        let expected = Bench::new(&twins, &model, Mode::Train, Keep::Logits);
        let loss = expected.loss(&model.tensors);
        for device in [Some(&fast), gpu()].into_iter().flatten() {
            let bench = Bench::new(device, &model, Mode::Train, Keep::Logits);
            let found = bench.loss(&model.tensors);
            let place = format!("{name} on {}", device.info().name);
            assert!((loss - found).abs() < 1e-5, "{place}: loss {found} instead of {loss}");
            for (what, expected, found) in [
                ("gradient", expected.gradients(), bench.gradients()),
                ("tensor", expected.tensors(), bench.tensors()),
            ] {
                for ((name, expected), found) in expected.iter().zip(found.values()) {
                    // A bias before a batch norm has no gradient but rounding.
                    if expected.data.iter().any(|x| x.abs() > 1e-5) {
                        compare(&format!("{place}: {what} of {name}"), &expected.data, &found.data, NETWORK);
                    }
                }
            }
        }
    }
}

#[test]
fn training_moves_running_statistics_and_evaluation_nothing() {
    let mut found = networks().into_iter().filter(|graph| graph.name == "residual block");
    let model = model(found.next().expect("a residual block"));
    for device in [Some(&twins()), gpu()].into_iter().flatten() {
        let training = Bench::new(device, &model, Mode::Train, Keep::Logits);
        training.loss(&model.tensors);
        let trained = training.tensors();
        for (name, tensor) in &trained {
            let moved = tensor != &model.tensors[name];
            assert_eq!(moved, name.contains("running"), "{name} on {}", device.info().name);
        }
        let evaluation = Bench::new(device, &model, Mode::Evaluate, Keep::Logits);
        let first = evaluation.loss(&trained);
        let logits = evaluation.read(evaluation.plan.logits());
        assert_eq!(evaluation.loss(&trained), first);
        assert_eq!(evaluation.tensors(), trained);
        assert_ne!(logits, training.read(training.plan.logits()), "batch statistics in evaluation");
    }
}

#[test]
fn variants_are_measured_once_and_the_table_decides_the_bits() {
    if gpu().is_none() {
        return;
    }
    let open =
        || pollster::block_on(Device::open(DeviceChoice::Gpu)).unwrap_or_else(|error| panic!("{error}"));
    let start = std::time::Instant::now();
    let clock = || start.elapsed().as_secs_f64();
    let mut found = networks().into_iter().filter(|graph| graph.name == "residual block");
    let model = model(found.next().expect("a residual block"));
    let tune = |device: &Device, mode| {
        pollster::block_on(Plan::tune(device, &model.graph, BATCH, mode, &clock))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let first = open();
    assert!(tune(&first, Mode::Train) > 0);
    assert_eq!(tune(&first, Mode::Train), 0, "all is known");
    let tuning = first.tuning();
    assert!(tuning.choices.keys().any(|class| class.starts_with("conv2d_weight_gradient ")), "{tuning:?}");

    let second = open();
    second.set_tuning(tuning.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tune(&second, Mode::Train), 0, "the table was taken over");
    let benches = [&first, &second].map(|device| Bench::new(device, &model, Mode::Train, Keep::Logits));
    for dispatch in benches[1].plan.commands().dispatches() {
        let shader = dispatch.kernel.shaders[dispatch.variant].name;
        let can_run = |variant: &usize| second.can_run(&dispatch.kernel.shaders[*variant]);
        let measured = dispatch.kernel.variants(&dispatch.params).filter(can_run).count() > 1;
        assert!(!measured || tuning.choices.values().any(|name| name == shader), "{shader} was not chosen");
    }
    let [a, b] = benches.map(|bench| (bench.loss(&model.tensors), bench.gradients()));
    assert_eq!(a, b, "the same table, the same bits");

    // The CPU has no variants.
    assert_eq!(tune(&twins(), Mode::Train), 0);
}
