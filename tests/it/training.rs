//! Whole networks against PyTorch: ten losses of a fixed-seed net under SGD, Nesterov and C-SGD.

use crate::formula;
use crate::harness::{gpu, twins};
use centripetal::device::{Device, DeviceChoice};
use centripetal::graph::Coupling;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::optim::{Decay, Direction, Schedule, SgdConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
use centripetal::train::{Centripetal, TrainConfig, Trainer};
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
