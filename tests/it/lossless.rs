//! The promise: whatever the schedule, a forecast that says "enough" is followed by a cut that changes nothing.

use centripetal::Shape;
use centripetal::data::{Augment, Batch, Dataset, Loader, Synthetic, synthetic};
use centripetal::device::Device;
use centripetal::graph::{Coupling, Graph, GraphBuilder};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::ops::{Add, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool, Linear, Op, Relu6};
use centripetal::optim::forecast::{
    AUTO_TARGET, Contraction, LOSSLESS, TooShort, Verdict, assess, find_strength, log_contraction,
};
use centripetal::optim::{Decay, Direction, Schedule, SgdConfig};
use centripetal::prune::cluster::within_deviation;
use centripetal::prune::surgery::{EQUAL, Operation, Rest, Statistics, merge_statistics};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{Certificate, ClusterPlan, Clustering, Clusters, LOSSLESS_LOGITS, Pace, certify};
use centripetal::rng::Rng;
use centripetal::train::{Answers, Centripetal, TrainConfig, Trainer, evaluate};
use pollster::block_on;
use std::sync::Arc;

const BATCH: usize = 8;
/// Schedules a network.
const CASES: usize = 7;

/// Networks of each kind of coupling, small enough for thousands of steps: a chain, residual sums with projections and with
/// padding, concatenations, depthwise convolutions between residual sums.
const NETWORKS: [&str; 5] = ["lenet", "resnet20", "resnet20-a", "densenet40", "inverted"];

fn graph(name: &str) -> Graph {
    let (channels, side) = if name == "lenet" { (1, 12) } else { (3, 8) };
    let shortcut = if name == "resnet20-a" { Shortcut::A } else { Shortcut::Projection };
    let width = if name == "lenet" { 1.0 } else { 0.25 };
    let config = ModelConfig { width, shortcut, ..ModelConfig::new(Shape::new(channels, side, side), 10) };
    match name.trim_end_matches("-a") {
        "inverted" => inverted(config.input),
        name => models::build(name, &config).expect("a zoo model"),
    }
}

/// Two inverted residuals, as in MobileNet V2. The zoo's own end in planes of one pixel, whose batch norms divide by next to
/// nothing for images as small as these, and so make rounding large.
fn inverted(input: Shape) -> Graph {
    let mut b = GraphBuilder::new("inverted", input);
    let conv = |b: &mut GraphBuilder, name: &str, x, conv: Conv2d| {
        let channels = conv.out_channels;
        let x = b.add(name, conv, &[x]);
        b.add(&format!("{name}_bn"), BatchNorm2d::new(channels), &[x])
    };
    let mut x = conv(&mut b, "stem", 0, Conv2d::same(input.c, 8, 3));
    for block in 0..2 {
        let name = |part: &str| format!("block{block}_{part}");
        let y = conv(&mut b, &name("expand"), x, Conv2d::same(8, 24, 1));
        let y = b.add(&name("relu1"), Relu6 {}, &[y]);
        let y = conv(&mut b, &name("depthwise"), y, Conv2d { groups: 24, ..Conv2d::same(24, 24, 3) });
        let y = b.add(&name("relu2"), Relu6 {}, &[y]);
        let y = conv(&mut b, &name("project"), y, Conv2d::same(24, 8, 1));
        x = b.add(&name("add"), Add {}, &[x, y]);
    }
    let x = b.add("pool", GlobalAvgPool {}, &[x]);
    let x = b.add("flatten", Flatten {}, &[x]);
    b.add("fc", Linear::new(8, 10), &[x]);
    b.finish()
}

/// A network with its images, trained for a moment, whose batch norms have momentum `a`.
struct Base {
    device: Arc<Device>,
    model: Model,
    clusters: Clusters,
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
}

impl Base {
    fn new(name: &str, clustering: Clustering) -> Base {
        let device = Arc::new(Device::cpu("a test"));
        let graph = graph(name);
        let input = graph.input;
        let images = Synthetic { shape: [input.c, input.h, input.w], ..Synthetic::default() };
        let data = |split, count| Arc::new(images.generate(split, count).expect("synthetic images"));
        let (train, test) = (data(synthetic::Split::Train, 256), data(synthetic::Split::Test, 96));
        let model = Model::random(graph, 1);
        let mut base = Base { device, model, clusters: Clusters::default(), train, test };
        let schedule = Schedule { base_lr: 0.05, total_steps: 96, warmup_steps: 16, decay: Decay::Constant };
        base.model = base.trained(&base.model, &schedule, SgdConfig::default(), None);
        let loader = Loader::evaluation(Arc::clone(&base.test), 32).expect("a loader");
        let evaluation =
            block_on(evaluate(&base.device, &base.model, &loader, Answers::Discard)).expect("evaluates");
        assert!(evaluation.loss < 4.0, "{name} answers with numbers of a usual size: {evaluation:?}");
        let coupling = Coupling::derive(&base.model.graph, &[]).expect("couples");
        let plan = ClusterPlan {
            widths: WidthRule::All(Ratio::new(5, 8).expect("a ratio")),
            rounding: Rounding::Floor,
            round_to: 1,
            clustering,
            pace: Pace::Pacesetter,
            frozen: Vec::new(),
            seed: 0,
        };
        base.clusters = Clusters::find(&base.model, &coupling, &plan).expect("clusters");
        base
    }

    fn trained(&self, model: &Model, schedule: &Schedule, sgd: SgdConfig, strength: Option<f64>) -> Model {
        let centripetal = strength.map(|strength| Centripetal { clusters: self.clusters.clone(), strength });
        let config =
            TrainConfig { batch: BATCH, schedule: schedule.clone(), sgd, centripetal, sparsity: None };
        let mut trainer = Trainer::new(Arc::clone(&self.device), model.clone(), config).expect("trains");
        let loader = Loader::training(Arc::clone(&self.train), BATCH, 0, Augment::NONE).expect("a loader");
        let per_epoch = loader.batches_per_epoch();
        let mut batch = Batch::default();
        for step in 0..schedule.total_steps as usize {
            loader.fill((step / per_epoch) as u64, step % per_epoch, &mut batch).expect("a batch");
            trainer.step(&batch);
        }
        block_on(trainer.model()).expect("the model is read")
    }

    fn certificate(&self, wide: &Model) -> Certificate {
        let operation = Operation::new(wide, &self.clusters, Rest::Leave).expect("cuts");
        assert!(!matches!(operation.statistics, Statistics::Kept(_)), "{:?}", operation.statistics);
        let loader = Loader::evaluation(Arc::clone(&self.test), 32).expect("a loader");
        let clock = || 0.0;
        block_on(certify(&self.device, operation.stages(wide), &self.clusters, &loader, &clock))
            .expect("certifies")
    }
}

fn with_momentum(model: &Model, a: f32) -> Model {
    let mut model = model.clone();
    for node in &mut model.graph.nodes {
        if let Op::BatchNorm2d(norm) = &mut node.op {
            norm.momentum = a;
        }
    }
    model
}

/// A schedule by chance: 20 to 2,000 steps, of which the short are more likely.
fn schedule(rng: &mut Rng) -> Schedule {
    let total_steps = (20.0 * 100f32.powf(rng.uniform())) as u64;
    let base_lr = f64::from(0.01 * 5f32.powf(rng.uniform()));
    let decay = match rng.below(3) {
        0 => Decay::Constant,
        1 => Decay::Cosine { final_lr: 0.0 },
        _ => Decay::Step { milestones: vec![total_steps / 2, total_steps * 3 / 4], gamma: 0.1 },
    };
    Schedule { base_lr, total_steps, warmup_steps: total_steps / 10 * rng.below(2) as u64, decay }
}

#[test]
fn a_cut_that_the_forecast_calls_lossless_changes_nothing() {
    let mut rng = Rng::new(7);
    let (mut cut, mut refused) = (0, 0);
    for (index, network) in NETWORKS.into_iter().enumerate() {
        let clustering = if index % 2 == 0 { Clustering::Even } else { Clustering::default() };
        let base = Base::new(network, clustering);
        for case in 0..CASES {
            let schedule = schedule(&mut rng);
            let a = 0.01 * 100f32.powf(rng.uniform());
            let direction = if rng.below(2) == 0 { Direction::HeavyBall } else { Direction::Nesterov };
            let weight_decay = [0.0, 5e-4][rng.below(2)];
            let sgd = SgdConfig { direction, weight_decay, ..SgdConfig::default() };
            let model = with_momentum(&base.model, a);
            let begin = Contraction::of_network(&model.graph, Some(&base.clusters), &sgd);
            let what =
                format!("{network} case {case}: {direction:?}, momentum {a} of batch norm, {schedule:?}");
            match find_strength(&begin, &schedule, LOSSLESS).expect("arguments in range") {
                Ok(least) => {
                    // Without any reserve, with that of `--strength auto`, and with half as much again.
                    let judged =
                        |strength| assess(&begin, &schedule, strength, LOSSLESS).expect("in range").1;
                    let others = match case % 3 {
                        0 => None,
                        1 => find_strength(&begin, &schedule, AUTO_TARGET).expect("in range").ok(),
                        _ => Some(1.5 * least).filter(|&strength| judged(strength) == Verdict::Enough),
                    };
                    let strength = others.unwrap_or(least);
                    let (forecast, verdict) =
                        assess(&begin, &schedule, strength, LOSSLESS).expect("arguments in range");
                    assert_eq!(verdict, Verdict::Enough, "{what}");
                    let wide = base.trained(&model, &schedule, sgd, Some(strength));
                    let certificate = base.certificate(&wide);
                    for (step, compared) in certificate.steps() {
                        println!(
                            "{what}: strength {strength:.3}, {step}: {:.1e}",
                            compared.max_rel_logit_diff
                        );
                        assert_eq!(
                            compared.argmax_agreement, compared.samples,
                            "{what}, {step}: {forecast:?}"
                        );
                        assert!(
                            compared.max_rel_logit_diff <= LOSSLESS_LOGITS,
                            "{what}, {step}: {compared:?}"
                        );
                    }
                    assert!(certificate.is_lossless(), "{what}");
                    cut += 1;
                }
                Err(TooShort { steps, .. }) => {
                    assert!(steps > schedule.total_steps, "{what}");
                    let longer = schedule.stretched(steps);
                    let found = find_strength(&begin, &longer, LOSSLESS).expect("arguments in range");
                    assert!(found.is_ok(), "{what}: {steps} steps are said to be enough");
                    refused += 1;
                }
            }
        }
    }
    assert!(cut >= 10 && refused >= 5, "{cut} cut, {refused} refused: both are to be tried");
}

/// Clusters of the lenet whose filters are equal and whose statistics are not, and the reverse of each.
#[test]
fn statistics_are_merged_where_filters_are_equal_and_nowhere_else() {
    let base = Base::new(NETWORKS[0], Clustering::Even);
    let snapped = centripetal::prune::surgery::snap(&base.model, &base.clusters);
    assert_eq!(merge_statistics(&snapped, &base.clusters), Statistics::Equal);
    assert_eq!(merge_statistics(&base.model, &Clusters::default()), Statistics::Equal);

    // What a run that ended too early leaves: equal filters that remember different maps.
    let mut early = snapped.clone();
    for (name, tensor) in &mut early.tensors {
        if name.contains("running_") {
            tensor.data.clone_from(&base.model.tensors[name].data);
        }
    }
    let Statistics::Merged(merged) = merge_statistics(&early, &base.clusters) else {
        panic!("the filters are equal");
    };
    assert_eq!(merged, snapped, "their mean is that of a snap, and nothing else has moved");
    let certificate = base.certificate(&early);
    let statistics = certificate.statistics.as_ref().expect("a step of its own");
    assert!(statistics.max_rel_logit_diff > LOSSLESS_LOGITS, "{statistics:?}");
    assert!(certificate.cut.max_rel_logit_diff <= LOSSLESS_LOGITS, "{:?}", certificate.cut);
    assert_eq!(certificate.cut.accuracy_before, statistics.accuracy_after);
    assert!(!certificate.is_lossless(), "what the merging changed counts");

    // One number of one filter, one gamma, one beta.
    for (name, change, told) in [
        ("conv1.weight", 3.0 * EQUAL as f32, true),
        ("bn1.weight", 0.5, true),
        ("bn2.bias", 0.5, true),
        ("conv1.weight", EQUAL as f32, false),
    ] {
        let mut apart = early.clone();
        let tensor = apart.tensors.get_mut(name).unwrap_or_else(|| panic!("{name} is there"));
        let largest = tensor.data.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // The first filter has a twin; what is added is shared between the two.
        tensor.data[0] += change * largest;
        match merge_statistics(&apart, &base.clusters) {
            Statistics::Kept(unequal) => {
                assert!(told && unequal.tensor == name, "{unequal:?}");
                assert!(unequal.apart > EQUAL, "{unequal:?}");
                let cut = Operation::new(&apart, &base.clusters, Rest::Leave).expect("cuts");
                assert!(cut.stages(&apart).merged.is_none());
            }
            _ => assert!(!told, "{name} and {change}: not seen"),
        }
    }
}

/// What the filters do is one thing, what batch norm remembers of them another.
#[test]
fn running_statistics_are_forecast_as_they_are() {
    let base = Base::new(NETWORKS[1], Clustering::Even);
    for (direction, steps, a) in
        [(Direction::Nesterov, 60, 0.1), (Direction::HeavyBall, 240, 0.02), (Direction::Nesterov, 120, 0.5)]
    {
        let schedule =
            Schedule { base_lr: 0.02, total_steps: steps, warmup_steps: 0, decay: Decay::Constant };
        let sgd = SgdConfig { direction, weight_decay: 0.0, ..SgdConfig::default() };
        let model = with_momentum(&base.model, a);
        let begin = Contraction::of_network(&model.graph, Some(&base.clusters), &sgd);
        let forecast = log_contraction(&begin, &schedule, 1.0);
        let wide = base.trained(&model, &schedule, sgd, Some(1.0));
        let chi = |model: &Model| -> f64 {
            let parameters = model.graph.parameters();
            let statistics = parameters.iter().filter(|(_, _, spec)| !spec.kind.is_trained());
            let of = |(node, name, _): &(usize, String, _)| {
                base.clusters.of_node(*node).map_or(0.0, |partition| {
                    let tensor = &model.tensors[name];
                    within_deviation(&tensor.data, tensor.data.len() / tensor.dims[0], partition).chi
                })
            };
            statistics.map(of).sum()
        };
        let measured = (chi(&wide) / chi(&model)).ln() / 2.0;
        let foreseen = forecast.statistics_log_shrink.expect("there are batch norms");
        assert!(forecast.log_shrink < foreseen, "{forecast:?}: filters are merged sooner");
        assert!(
            (measured - foreseen).abs() < 2.0,
            "{direction:?}, {steps} steps, {a}: {measured} {foreseen}"
        );
    }
}
