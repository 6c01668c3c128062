//! Whole networks against PyTorch: ten losses of a fixed-seed net under SGD, Nesterov and C-SGD.

use crate::formula;
use crate::harness::{gpu, twins};
use centripetal::device::{Device, DeviceChoice};
use centripetal::graph::Coupling;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::optim::{Decay, Direction, Schedule, SgdConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
use centripetal::train::{Centripetal, Classifier, TrainConfig, Trainer};
use centripetal::{ErrorKind, Shape};
use pollster::block_on;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Goldens {
    settings: Settings,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Settings {
    momentum: f64,
    weight_decay: f64,
    eps: f64,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    optimizer: String,
    lr: f64,
    losses_f64: Vec<f64>,
    deviation_f64: Option<f64>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../golden/resnet20_losses.json")).expect("the golden file is JSON")
}

/// Even clusters of every layer, as in the goldens.
fn even(model: &centripetal::model::Model, keep: (u64, u64)) -> Clusters {
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(keep.0, keep.1).expect("a ratio")),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 0,
    };
    Clusters::find(model, &coupling, &plan).expect("clusters")
}

fn trainer(device: Arc<Device>, run: &Run, settings: &Settings) -> (Trainer, usize, Shape) {
    let lenet = run.name.starts_with("lenet");
    let (batch, input) = if lenet { (8, Shape::new(1, 28, 28)) } else { (4, Shape::new(3, 32, 32)) };
    let shortcut = if run.name.contains("/a/") { Shortcut::A } else { Shortcut::Projection };
    let config = ModelConfig { shortcut, ..ModelConfig::new(input, 10) };
    let graph = models::build(if lenet { "lenet" } else { "resnet20" }, &config).expect("a zoo model");
    let model = formula::model(graph);
    let clusters = (run.optimizer == "csgd").then(|| even(&model, if lenet { (1, 2) } else { (5, 8) }));
    let config = TrainConfig {
        batch,
        schedule: Schedule { base_lr: run.lr, total_steps: 10, warmup_steps: 0, decay: Decay::Constant },
        sgd: SgdConfig {
            momentum: settings.momentum,
            direction: if run.optimizer == "nesterov" { Direction::Nesterov } else { Direction::HeavyBall },
            weight_decay: settings.weight_decay,
            ..SgdConfig::default()
        },
        centripetal: clusters.map(|clusters| Centripetal { clusters, strength: settings.eps }),
        sparsity: None,
    };
    (Trainer::new(device, model, config).expect("trains"), batch, input)
}

/// Runs the goldens whose name begins with `prefix` and compares the first `steps` losses, relative to their size.
fn check(device: &Arc<Device>, prefix: &str, steps: usize, tolerance: f64) {
    let Goldens { settings, runs } = goldens();
    let runs: Vec<Run> = runs.into_iter().filter(|run| run.name.starts_with(prefix)).collect();
    assert!(!runs.is_empty(), "no golden run begins with {prefix}");
    for run in runs {
        let (mut trainer, samples, shape) = trainer(device.clone(), &run, &settings);
        for (step, expected) in run.losses_f64.iter().enumerate() {
            trainer.step(&formula::batch(step, samples, shape));
            let metrics = block_on(trainer.metrics()).expect("metrics");
            let loss = metrics.loss_sum / metrics.samples as f64;
            let error = (loss - expected).abs() / expected.abs().max(1.0);
            assert!(
                step >= steps || error <= tolerance,
                "{} on {}: step {step}: loss {loss}, PyTorch {expected}, off by {error:e}",
                run.name,
                device.info().name
            );
        }
        if let Some(expected) = run.deviation_f64 {
            let deviations = block_on(trainer.deviation()).expect("deviation");
            let convolutions =
                |(name, _): &&(String, f64)| name.contains("conv") || name.contains("shortcut.0");
            let kernels: f64 = deviations.iter().filter(convolutions).map(|(_, chi)| chi).sum();
            let error = (kernels - expected).abs() / expected;
            assert!(error < 1e-4, "{}: deviation {kernels}, PyTorch {expected}", run.name);
        }
    }
}

#[test]
fn lenet_losses_equal_pytorchs_on_the_twins() {
    check(&Arc::new(twins()), "lenet/", 10, 1e-5);
}

#[test]
fn lenet_losses_equal_pytorchs_on_the_fast_path() {
    check(&Arc::new(Device::cpu("test")), "lenet/", 10, 1e-5);
}

#[test]
fn resnet20_losses_equal_pytorchs_on_the_fast_path() {
    check(&Arc::new(Device::cpu("test")), "resnet20_gentle/", 10, 1e-4);
}

/// At learning rate 0.05 ReLUs that flip make the runs chaotic: f32 and f64 PyTorch part ways after some steps.
#[test]
fn resnet20_losses_equal_pytorchs_at_a_high_rate_while_pytorch_equals_itself() {
    check(&Arc::new(Device::cpu("test")), "resnet20/", 4, 1e-4);
}

fn own_gpu() -> Option<Arc<Device>> {
    gpu().map(|_| Arc::new(block_on(Device::open(DeviceChoice::Gpu)).expect("opened before")))
}

#[test]
fn lenet_losses_equal_pytorchs_on_the_gpu() {
    if let Some(device) = own_gpu() {
        check(&device, "lenet/", 10, 1e-4);
    }
}

#[test]
fn resnet20_losses_equal_pytorchs_on_the_gpu() {
    if let Some(device) = own_gpu() {
        check(&device, "resnet20_gentle/a/csgd", 10, 1e-4);
        check(&device, "resnet20_gentle/projection/sgd", 10, 1e-4);
    }
}

#[test]
fn same_seed_gives_the_same_bits() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "resnet20_gentle/projection/csgd").expect("a golden run");
    let train = || {
        let (mut trainer, samples, shape) = trainer(Arc::new(Device::cpu("test")), run, &settings);
        (0..2).for_each(|step| trainer.step(&formula::batch(step, samples, shape)));
        block_on(trainer.model()).expect("a model")
    };
    assert_eq!(train(), train());
}

#[test]
fn how_long_dispatches_may_be_changes_no_bit() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "resnet20_gentle/projection/csgd").expect("a golden run");
    let train = |longest: Option<u64>| {
        let device = own_gpu()?;
        longest.into_iter().for_each(|longest| device.set_longest(longest));
        let (mut trainer, samples, shape) = trainer(device, run, &settings);
        (0..2).for_each(|step| trainer.step(&formula::batch(step, samples, shape)));
        Some(block_on(trainer.model()).expect("a model"))
    };
    assert!(train(None) == train(Some(200_000)));
}

#[test]
fn a_loss_that_is_not_finite_is_located_and_moves_nothing() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "lenet/csgd").expect("a golden run");
    let devices = [Some(Arc::new(Device::cpu("test"))), own_gpu()];
    for device in devices.into_iter().flatten() {
        let (mut trainer, samples, shape) = trainer(device, run, &settings);
        trainer.step(&formula::batch(0, samples, shape));
        let good = block_on(trainer.model()).expect("a model");
        let mut bad = formula::batch(1, samples, shape);
        // Large enough that the second convolution overflows, and no sooner.
        bad.images[0] = f32::MAX;
        trainer.step(&bad);
        trainer.step(&formula::batch(2, samples, shape));
        let metrics = block_on(trainer.metrics()).expect("metrics");
        assert_eq!(metrics.bad_step, 2, "counted from one");
        let after = block_on(trainer.model()).expect("a model");
        for (name, tensor) in good.tensors.iter().filter(|(name, _)| !name.contains("running")) {
            assert_eq!(tensor, &after.tensors[name], "{name} moved");
        }
        let error = block_on(trainer.diagnose(metrics.bad_step, &bad)).expect("diagnoses");
        assert_eq!(error.kind(), ErrorKind::Numeric);
        let text = error.to_string();
        assert!(text.contains("step 2") && (text.contains("bn1") || text.contains("conv1")), "{text}");
    }
}

#[test]
fn a_run_goes_on_from_its_snapshot_as_if_it_had_never_stopped() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "lenet/csgd").expect("a golden run");
    for device in [Some(Arc::new(Device::cpu("test"))), own_gpu()].into_iter().flatten() {
        let (mut first, samples, shape) = trainer(device.clone(), run, &settings);
        (0..3).for_each(|step| first.step(&formula::batch(step, samples, shape)));
        let snapshot = block_on(first.snapshot()).expect("a snapshot");
        assert_eq!(snapshot.step, 3);
        assert_eq!(snapshot.model, block_on(first.model()).expect("a model"));
        assert_eq!(snapshot.momentum, block_on(first.momentum()).expect("momentum"));
        let mut second =
            Trainer::new(device, snapshot.model, first.config().clone()).expect("the same network");
        second.resume(&snapshot.momentum, snapshot.step).expect("its momentum");
        for trainer in [&mut first, &mut second] {
            block_on(trainer.metrics()).expect("metrics");
            trainer.step(&formula::batch(3, samples, shape));
        }
        let (a, b) = (block_on(first.look()).expect("looks"), block_on(second.look()).expect("looks"));
        assert_eq!(a, b);
        assert_eq!(a.1, block_on(first.deviation()).expect("deviation"));
        assert_eq!((a.0.samples, a.1.is_empty()), (samples as u64, false));
    }
}

#[test]
fn rate_and_strength_change_from_the_next_step_on() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "lenet/csgd").expect("a golden run");
    let device = Arc::new(Device::cpu("test"));
    let (mut steered, samples, shape) = trainer(device.clone(), run, &settings);
    let mut config = steered.config().clone();
    config.schedule.base_lr /= 2.0;
    let Some(centripetal) = &mut config.centripetal else { panic!("a run with clusters") };
    centripetal.strength *= 3.0;
    steered.set_strength(centripetal.strength).expect("a strength");
    steered.set_schedule(config.schedule.clone()).expect("a schedule");
    let start = block_on(steered.model()).expect("a model");
    let mut set = Trainer::new(device, start.clone(), config.clone()).expect("a trainer");
    for trainer in [&mut steered, &mut set] {
        (0..3).for_each(|step| trainer.step(&formula::batch(step, samples, shape)));
    }
    let end = block_on(steered.model()).expect("a model");
    assert_eq!(end, block_on(set.model()).expect("a model"));
    assert_ne!(end, start);
    for strength in [f64::NAN, -1.0] {
        assert_eq!(steered.set_strength(strength).expect_err("no strength").kind(), ErrorKind::Argument);
    }
    let endless = Schedule { total_steps: 0, ..config.schedule };
    assert_eq!(steered.set_schedule(endless).expect_err("no steps").kind(), ErrorKind::Argument);
}

#[test]
fn a_classifier_and_the_trainer_answer_alike_and_single_tensors_are_those_of_the_model() {
    let Goldens { settings, runs } = goldens();
    let run = runs.iter().find(|run| run.name == "lenet/sgd").expect("a golden run");
    for device in [Some(Arc::new(Device::cpu("test"))), own_gpu()].into_iter().flatten() {
        let (mut trainer, samples, shape) = trainer(device.clone(), run, &settings);
        trainer.step(&formula::batch(0, samples, shape));
        let model = block_on(trainer.model()).expect("a model");
        let classifier = Classifier::new(device, &model).expect("a classifier");
        let image = &formula::batch(1, 1, shape).images;
        let answer = block_on(trainer.answer(image)).expect("logits");
        assert_eq!(answer.len(), 10);
        assert_eq!(answer, block_on(classifier.answer(image)).expect("logits"));
        assert_eq!(block_on(trainer.metrics()).expect("metrics").samples, 0, "an answer is no training");
        let error = block_on(classifier.answer(&image[1..])).expect_err("not an image");
        assert_eq!(error.kind(), ErrorKind::Shape);
        let read = block_on(trainer.read(&["conv1.weight", "bn1.running_mean", "nothing"])).expect("tensors");
        assert_eq!(read.len(), 2);
        read.iter().for_each(|(name, tensor)| assert_eq!(tensor, &model.tensors[name]));
    }
}

#[test]
fn a_destroyed_device_says_so_and_takes_no_other_with_it() {
    let Some(device) = own_gpu() else { return };
    assert!(device.fault().is_none());
    assert!(!device.limits().is_empty());
    let buffer = device.buffer("test", 64).expect("a buffer");
    device.destroy();
    let error = block_on(device.read(&buffer.all())).expect_err("the device is gone");
    assert_eq!(error.kind(), ErrorKind::DeviceLost);
    assert_eq!(device.fault().expect("a fault").kind(), ErrorKind::DeviceLost);
    let other = own_gpu().expect("another device");
    let buffer = other.buffer("test", 64).expect("a buffer");
    assert_eq!(block_on(other.read(&buffer.all())).expect("zeros"), [0.0; 64]);
}
