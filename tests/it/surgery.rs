//! The cut is exact: with clusters forced identical, the slim network's logits equal the wide one's.

use crate::formula;
use crate::harness::gpu;
use centripetal::device::Device;
use centripetal::graph::{Coupling, Graph, GraphBuilder};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::ops::{
    Add, BatchNorm2d, Concat, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Op, ParamKind, Relu,
};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace, criteria, surgery};
use centripetal::rng::Rng;
use centripetal::{ErrorKind, Shape};
use pollster::block_on;

/// Random weights, and batch norms that are not the identity.
fn lively(graph: Graph) -> Model {
    let mut model = Model::random(graph, 3);
    let mut rng = Rng::new(9);
    for (_, name, spec) in model.graph.parameters() {
        let Some(tensor) = model.tensors.get_mut(&name) else { panic!("{name} is missing") };
        match spec.kind {
            ParamKind::Weight => {}
            ParamKind::Gamma | ParamKind::RunningVar => {
                tensor.data.iter_mut().for_each(|x| *x = 0.5 + rng.uniform())
            }
            _ => tensor.data.iter_mut().for_each(|x| *x = rng.normal() * 0.3),
        }
    }
    model
}

fn plan(clustering: Clustering) -> ClusterPlan {
    ClusterPlan {
        widths: WidthRule::All(Ratio::new(5, 8).expect("a ratio")),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 1,
    }
}

fn logits(device: &Device, model: &Model) -> Vec<f32> {
    const BATCH: usize = 3;
    let arenas = Arenas::new(device, &model.graph, &model.tensors).expect("arenas");
    let plan =
        Plan::compile(device, &model.graph, &arenas, BATCH, Mode::Evaluate, Keep::Logits).expect("a plan");
    let batch = formula::batch(0, BATCH, model.graph.input);
    plan.load(device, &batch.images, &batch.labels);
    device.run(&[plan.commands()]);
    block_on(device.read(plan.logits())).expect("logits")
}

/// Forces clusters identical, cuts, and compares; returns the slim graph.
fn check(graph: Graph, clustering: Clustering) -> Graph {
    let model = lively(graph);
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let clusters = Clusters::find(&model, &coupling, &plan(clustering)).expect("clusters");
    assert!(!clusters.is_empty(), "{} has something to cut", model.graph.name);
    let wide = surgery::snap(&model, &clusters);
    let slim = surgery::cut(&wide, &clusters).expect("cuts");
    assert!(slim.graph.macs().expect("macs") < wide.graph.macs().expect("macs"));
    let cpu = Device::cpu("test");
    for device in [Some(&cpu), gpu()].into_iter().flatten() {
        let (before, after) = (logits(device, &wide), logits(device, &slim));
        let scale = before.iter().fold(0f32, |most, x| most.max(x.abs()));
        let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(scale > 1e-3, "{}: the logits are all about zero", model.graph.name);
        assert!(
            worst <= 1e-5 * scale.max(1.0),
            "{} on {}: off by {worst} of {scale}",
            model.graph.name,
            device.info().name
        );
    }
    // The test must be able to fail: clusters that are not identical change the logits when cut.
    let hasty = surgery::cut(&model, &clusters).expect("cuts");
    let worst = logits(&cpu, &model)
        .iter()
        .zip(&logits(&cpu, &hasty))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst > 1e-3, "{}: a cut of different filters must show, {worst}", model.graph.name);
    check_deletion(&model, &coupling, &clusters, &slim.graph);
    slim.graph
}

/// Keeps the filters of largest norm: the widths are those of the cut, and deleting channels that give nothing changes
/// nothing.
fn check_deletion(model: &Model, coupling: &Coupling, clusters: &Clusters, slim: &Graph) {
    let selection = criteria::largest_l1(model, coupling, clusters, Pace::Pacesetter).expect("a selection");
    let mut silent = model.clone();
    for (node, name, spec) in model.graph.parameters() {
        let Some(kept) = selection.of_node(node) else { continue };
        let tensor = silent.tensors.get_mut(&name).expect("a tensor");
        let row_len = tensor.data.len() / tensor.dims[0];
        for (row, values) in tensor.data.chunks_exact_mut(row_len).enumerate() {
            if !kept.contains(&row) && spec.kind != ParamKind::RunningVar {
                values.fill(0.0);
            }
        }
    }
    let cut = surgery::delete(&silent, &selection).expect("deletes");
    let widths = |graph: &Graph| graph.shapes().expect("shapes").iter().map(|s| s.c).collect::<Vec<_>>();
    assert_eq!(widths(&cut.graph), widths(slim), "{}", model.graph.name);
    let cpu = Device::cpu("test");
    let (before, after) = (logits(&cpu, &silent), logits(&cpu, &cut));
    let scale = before.iter().fold(0f32, |most, x| most.max(x.abs()));
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Other widths are added in another order: a few units in the last place of the largest logit.
    assert!(worst <= 1e-6 * scale.max(10.0), "{}: off by {worst} of {scale}", model.graph.name);
}

#[test]
fn the_largest_filters_stay() {
    let mut b = GraphBuilder::new("norms", Shape::new(1, 4, 4));
    let x = b.add("conv", Conv2d::same(1, 4, 1), &[0]);
    let x = b.add("pool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("fc", Linear::new(4, 2), &[x]);
    let mut model = Model::random(b.finish(), 0);
    model.tensors.get_mut("conv.weight").expect("filters").data = vec![0.1, -3.0, 2.0, -0.2];
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let half = WidthRule::All(Ratio::new(1, 2).expect("a ratio"));
    let clusters = Clusters::find(&model, &coupling, &ClusterPlan { widths: half, ..plan(Clustering::Even) })
        .expect("clusters");
    let selection = criteria::largest_l1(&model, &coupling, &clusters, Pace::Joint).expect("a selection");
    assert_eq!(selection.of_node(1), Some(&[1, 2][..]));
    let cut = surgery::delete(&model, &selection).expect("deletes");
    assert_eq!(cut.tensors["conv.weight"].data, [-3.0, 2.0]);
    let [wide, slim] = [&model, &cut].map(|model| &model.tensors["fc.weight"].data);
    assert_eq!(slim[..], [wide[1], wide[2], wide[5], wide[6]]);
}

fn widths(graph: &Graph, names: &[&str]) -> Vec<usize> {
    let shapes = graph.shapes().expect("shapes");
    names.iter().map(|name| shapes[graph.find(name).unwrap_or_else(|| panic!("no {name}"))].c).collect()
}

fn zoo(name: &str, shortcut: Shortcut, input: Shape) -> Graph {
    models::build(name, &ModelConfig { shortcut, ..ModelConfig::new(input, 10) }).expect("a zoo model")
}

#[test]
fn chain_with_flatten_and_linear() {
    let slim = check(zoo("lenet", Shortcut::Projection, Shape::new(1, 12, 12)), Clustering::default());
    assert_eq!(widths(&slim, &["conv1", "bn2", "flatten", "fc"]), [5, 10, 90, 10]);
}

#[test]
fn residual_stages_with_projections() {
    for clustering in [Clustering::default(), Clustering::Even, Clustering::Imbalanced] {
        let slim = check(zoo("resnet20", Shortcut::Projection, Shape::new(3, 8, 8)), clustering);
        let names =
            ["conv1", "layer1.2.conv2", "layer2.0.conv1", "layer2.0.shortcut.0", "layer3.1.bn2", "linear"];
        assert_eq!(widths(&slim, &names), [10, 10, 20, 20, 40, 10]);
    }
}

#[test]
fn residual_stages_with_option_a() {
    let slim = check(zoo("resnet20", Shortcut::A, Shape::new(3, 8, 8)), Clustering::default());
    let names = ["conv1", "layer2.0.conv1", "layer2.0.conv2", "layer2.0.shortcut", "layer3.0.conv2"];
    assert_eq!(widths(&slim, &names), [10, 20, 20, 20, 40]);
}

#[test]
fn bottlenecks() {
    check(zoo("resnet164", Shortcut::Projection, Shape::new(3, 8, 8)), Clustering::Even);
}

#[test]
fn hidden_linear_layers() {
    let config = ModelConfig { width: 0.125, ..ModelConfig::new(Shape::new(3, 64, 64), 10) };
    let slim = check(models::build("vgg16", &config).expect("vgg16"), Clustering::default());
    assert_eq!(widths(&slim, &["features.0", "features.40", "flatten", "classifier.0"]), [5, 40, 160, 40]);
}

#[test]
fn every_architecture_of_the_zoo_is_cut_without_loss() {
    for (name, width, kept) in [
        ("resnet18", 0.25, vec![("layer3.1.conv2", 40), ("layer4.0.downsample.0", 80), ("fc", 10)]),
        ("resnet50", 0.25, vec![("layer1.0.conv3", 40), ("layer4.2.conv2", 80)]),
        ("se_resnet18", 0.25, vec![("layer4.1.se.fc2", 80), ("layer4.1.se.fc1", 5)]),
        ("se_resnet50", 0.25, vec![("layer1.0.se.mul", 40), ("layer2.0.se.fc2", 80)]),
        ("densenet40", 0.5, vec![("features.conv0", 5), ("features.denseblock1.denselayer1.conv1", 3)]),
        ("densenet121", 0.25, vec![("features.denseblock4.denselayer16.conv1", 20)]),
        ("vgg16_bn", 0.0625, vec![("features.40", 20), ("classifier.3", 160)]),
        ("mobilenet_v1", 0.25, vec![("model.1.0", 5), ("model.13.3", 160)]),
        ("mobilenet_v2", 0.5, vec![("features.18.0", 400)]),
        (
            "googlenet",
            0.25,
            vec![("inception3a.concat", 10 + 20 + 5 + 5), ("inception5b.branch2.1.conv", 60)],
        ),
    ] {
        let config = ModelConfig { width, ..ModelConfig::new(Shape::new(3, 32, 32), 10) };
        let graph = models::build(name, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let slim = check(graph, Clustering::Even);
        for (layer, expected) in kept {
            assert_eq!(widths(&slim, &[layer]), [expected], "{layer} of {name}");
        }
    }
}

fn conv(b: &mut GraphBuilder, name: &str, conv: Conv2d, x: usize) -> usize {
    let channels = conv.out_channels;
    let x = b.add(name, conv, &[x]);
    let x = b.add(&format!("{name}.bn"), BatchNorm2d::new(channels), &[x]);
    b.add(&format!("{name}.relu"), Relu {}, &[x])
}

fn head(mut b: GraphBuilder, x: usize, channels: usize) -> Graph {
    let x = b.add("pool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("fc", Linear::new(channels, 10), &[x]);
    b.finish()
}

#[test]
fn dense_concatenation_with_batch_norm_behind_it() {
    let mut b = GraphBuilder::new("dense", Shape::new(3, 6, 6));
    let stem = conv(&mut b, "stem", Conv2d::same(3, 8, 3), 0);
    let mut x = stem;
    let mut channels = 8;
    for layer in 0..3 {
        let norm = b.add(&format!("{layer}.norm"), BatchNorm2d::new(channels), &[x]);
        let relu = b.add(&format!("{layer}.relu"), Relu {}, &[norm]);
        let grown = b.add(&format!("{layer}.conv"), Conv2d::same(channels, 8, 3), &[relu]);
        x = b.add(&format!("{layer}.concat"), Concat {}, &[x, grown]);
        channels += 8;
    }
    let slim = check(head(b, x, channels), Clustering::default());
    assert_eq!(widths(&slim, &["stem", "0.conv", "2.norm", "2.concat"]), [5, 5, 15, 20]);
}

#[test]
fn inception_branches() {
    let mut b = GraphBuilder::new("inception", Shape::new(3, 6, 6));
    let stem = conv(&mut b, "stem", Conv2d::same(3, 8, 3), 0);
    let one = conv(&mut b, "one", Conv2d::same(8, 8, 1), stem);
    let three = conv(&mut b, "three", Conv2d::same(8, 16, 3), stem);
    let pooled = b.add("pooled", MaxPool2d { stride: [1, 1], padding: [1, 1], ..MaxPool2d::new(3) }, &[stem]);
    let joined = b.add("joined", Concat {}, &[one, three, pooled]);
    let last = conv(&mut b, "last", Conv2d::same(32, 8, 1), joined);
    let slim = check(head(b, last, 8), Clustering::default());
    assert_eq!(widths(&slim, &["one", "three", "pooled", "joined"]), [5, 10, 5, 20]);
}

#[test]
fn depthwise_follows_and_grouped_shrinks_alike() {
    for (groups, out) in [(16, 16), (16, 32), (2, 16), (4, 16)] {
        let mut b = GraphBuilder::new(&format!("groups {groups} to {out}"), Shape::new(3, 6, 6));
        let first = conv(&mut b, "first", Conv2d::same(3, 16, 3), 0);
        let middle = conv(&mut b, "middle", Conv2d { groups, ..Conv2d::same(16, out, 3) }, first);
        let last = conv(&mut b, "last", Conv2d::same(out, 8, 1), middle);
        let slim = check(head(b, last, 8), Clustering::default());
        let Op::Conv2d(middle) = &slim.nodes[slim.find("middle").expect("middle")].op else {
            panic!("a convolution")
        };
        if groups == 16 {
            assert_eq!((middle.groups, middle.in_channels, middle.out_channels), (10, 10, 10 * out / 16));
        } else {
            let part = 16 / groups * 5 / 8 * groups;
            assert_eq!((middle.groups, middle.in_channels, middle.out_channels), (groups, part, part));
        }
    }
}

#[test]
fn one_node_feeding_both_sides_of_a_concatenation() {
    let mut b = GraphBuilder::new("twice", Shape::new(3, 6, 6));
    let stem = conv(&mut b, "stem", Conv2d::same(3, 8, 3), 0);
    let twice = b.add("twice", Concat {}, &[stem, stem]);
    let other = conv(&mut b, "other", Conv2d::same(8, 16, 3), stem);
    let sum = b.add("sum", Add {}, &[twice, other]);
    check(head(b, sum, 16), Clustering::default());
}

#[test]
fn frozen_layers_and_the_output_keep_their_channels() {
    let model = lively(zoo("resnet20", Shortcut::Projection, Shape::new(3, 8, 8)));
    let coupling = Coupling::derive(&model.graph, &["layer2.1.conv2".to_owned()]).expect("couples");
    let clusters = Clusters::find(&model, &coupling, &plan(Clustering::Even)).expect("clusters");
    let slim = surgery::cut(&surgery::snap(&model, &clusters), &clusters).expect("cuts").graph;
    let names = ["conv1", "layer2.0.shortcut.0", "layer2.2.conv2", "layer2.2.conv1", "linear"];
    assert_eq!(widths(&slim, &names), [10, 32, 32, 20, 10]);
    let error = Coupling::derive(&model.graph, &["layer9".to_owned()]).expect_err("no such layer");
    assert_eq!(error.kind(), ErrorKind::Argument);
}

#[test]
fn internal_layers_only_leave_residual_streams_alone() {
    let model = lively(zoo("resnet20", Shortcut::A, Shape::new(3, 8, 8)));
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let rule = WidthRule::Internal(Ratio::new(1, 2).expect("a ratio"));
    let clusters = Clusters::find(&model, &coupling, &ClusterPlan { widths: rule, ..plan(Clustering::Even) })
        .expect("clusters");
    let slim = surgery::cut(&surgery::snap(&model, &clusters), &clusters).expect("cuts").graph;
    let names = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer3.2.conv1", "layer3.2.conv2"];
    assert_eq!(widths(&slim, &names), [16, 8, 16, 32, 64]);
}

#[test]
fn the_paper_s_pacesetters_follow_from_the_graph() {
    let graph = zoo("resnet20", Shortcut::Projection, Shape::new(3, 8, 8));
    let coupling = Coupling::derive(&graph, &[]).expect("couples");
    let pace = |layer: &str| {
        let node = graph.find(layer).expect("a layer");
        let group = coupling.groups.iter().find(|group| group.producers.contains(&node)).expect("a group");
        group.pacesetter.map(|node| graph.nodes[node].name.as_str())
    };
    assert_eq!(pace("layer1.2.conv2"), Some("conv1"));
    assert_eq!(pace("layer2.2.conv2"), Some("layer2.0.shortcut.0"));
    assert_eq!(pace("layer3.0.conv2"), Some("layer3.0.shortcut.0"));
    assert_eq!(pace("layer3.0.conv1"), Some("layer3.0.conv1"));
}

#[test]
fn macs_and_parameters_are_the_published_ones() {
    let cifar = Shape::new(3, 32, 32);
    let count = |name: &str| {
        let graph = zoo(name, Shortcut::Projection, cifar);
        (graph.macs().expect("macs") as f64 / 1e6, graph.parameter_count())
    };
    for (name, macs) in [("resnet20", 40.8), ("resnet56", 125.7), ("resnet110", 253.1), ("vgg16", 313.5)] {
        let (found, _) = count(name);
        assert!((found - macs).abs() / macs < 5e-3, "{name}: {found} M");
    }
    assert_eq!(zoo("resnet20", Shortcut::A, cifar).parameter_count(), 269_722);
    assert_eq!(zoo("resnet56", Shortcut::A, cifar).parameter_count(), 853_018);
    // 13/16, 11/16, 5/8 and 1/2 of ResNet-56 leave 66.1, 47.3, 39.1 and 25.1 % of its MACs (CSGD.md section 4).
    for (keep, cut) in [((13, 16), 33.9), ((11, 16), 52.7), ((5, 8), 60.9), ((1, 2), 74.9)] {
        let model = Model::random(zoo("resnet56", Shortcut::Projection, cifar), 0);
        let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
        let rule = WidthRule::All(Ratio::new(keep.0, keep.1).expect("a ratio"));
        let plan = ClusterPlan { widths: rule, ..plan(Clustering::Even) };
        let clusters = Clusters::find(&model, &coupling, &plan).expect("clusters");
        let slim = surgery::cut(&model, &clusters).expect("cuts").graph;
        let gone =
            100.0 * (1.0 - slim.macs().expect("macs") as f64 / model.graph.macs().expect("macs") as f64);
        assert!((gone - cut).abs() < 0.1, "{keep:?}: {gone} % gone");
    }
}

/// Parameters as torchvision and timm state them; the multiply-accumulates in 10^9 that they publish.
#[test]
fn sizes_at_224_pixels_are_the_published_ones() {
    for (name, parameters, giga) in [
        ("resnet18", 11_689_512, 1.81),
        ("resnet34", 21_797_672, 3.66),
        ("resnet50", 25_557_032, 4.09),
        ("resnet101", 44_549_160, 7.80),
        ("se_resnet18", 11_778_592, 1.82),
        ("se_resnet50", 28_088_024, 4.09),
        ("densenet121", 7_978_856, 2.83),
        ("vgg16_bn", 138_365_992, 15.47),
        ("mobilenet_v1", 4_231_976, 0.569),
        ("mobilenet_v2", 3_504_872, 0.30),
        ("googlenet", 6_624_904, 1.50),
    ] {
        let graph = models::build(name, &ModelConfig::new(Shape::new(3, 224, 224), 1000)).expect(name);
        assert_eq!(graph.parameter_count(), parameters, "{name}");
        let found = graph.macs().expect("macs") as f64 / 1e9;
        assert!((found - giga).abs() <= 0.006, "{name}: {found} 10^9 multiply-accumulates");
    }
    let graph = zoo("densenet40", Shortcut::Projection, Shape::new(3, 32, 32));
    assert_eq!(graph.parameter_count(), 1_019_722);
}

#[test]
fn a_number_of_channels_is_refused_where_a_layer_is_in_several_groups() {
    let rule = || WidthRule::parse_file("widths", "layer3.*.conv2 40").expect("parses");
    let find = |shortcut| {
        let model = lively(zoo("resnet20", shortcut, Shape::new(3, 8, 8)));
        let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
        Clusters::find(&model, &coupling, &ClusterPlan { widths: rule(), ..plan(Clustering::Even) })
    };
    let error = find(Shortcut::A).expect_err("three groups");
    assert!(error.to_string().contains("layer3.*.conv2") && error.to_string().contains("5/8"), "{error}");
    assert!(find(Shortcut::Projection).is_ok());
}
