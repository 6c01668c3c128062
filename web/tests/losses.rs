//! Ten losses of a fixed seed, a line of JSON: what the browser tests compare the page's losses with.
//!
//! `cargo run --release --example losses -- gpu` (or `cpu`); the settings are those of `session.spec.ts`.

use centripetal::data::{Augment, Batch, Loader, embedded};
use centripetal::device::Device;
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
use centripetal::train::{Centripetal, TrainConfig, Trainer};
use centripetal::{Result, Shape};
use std::sync::Arc;

const BATCH: usize = 32;
const SEED: u64 = 7;
const LR: f64 = 0.02;
const STRENGTH: f64 = 0.2;

fn main() -> Result<()> {
    let choice = std::env::args().nth(1).unwrap_or_else(|| "auto".to_owned());
    let device = Arc::new(pollster::block_on(Device::open(choice.parse()?))?);
    let (train, _) = embedded()?;
    let loader = Loader::training(Arc::new(train), BATCH, SEED, Augment::NONE)?;
    let graph = models::build("lenet", &ModelConfig::new(Shape::new(1, 28, 28), 10))?;
    let model = Model::random(graph, SEED);
    let config = TrainConfig {
        batch: BATCH,
        schedule: Schedule { base_lr: LR, total_steps: 1000, warmup_steps: 0, decay: Decay::Constant },
        sgd: SgdConfig { weight_decay: 5e-4, ..SgdConfig::default() },
        centripetal: None,
        sparsity: None,
    };
    let mut trainer = Trainer::new(Arc::clone(&device), model, config.clone())?;
    let sgd = losses(&mut trainer, &loader)?;

    let base = pollster::block_on(trainer.model())?;
    let coupling = Coupling::derive(&base.graph, &[])?;
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(5, 8)?),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: SEED,
    };
    let clusters = Clusters::find(&base, &coupling, &plan)?;
    let centripetal = Some(Centripetal { clusters, strength: STRENGTH });
    let mut trainer = Trainer::new(Arc::clone(&device), base, TrainConfig { centripetal, ..config })?;
    let csgd = losses(&mut trainer, &loader)?;
    let report = serde_json::json!({ "device": device.info(), "sgd": sgd, "csgd": csgd });
    println!("{report}");
    Ok(())
}

fn losses(trainer: &mut Trainer, loader: &Loader) -> Result<Vec<f64>> {
    let mut batch = Batch::default();
    let mut losses = Vec::new();
    for step in 0..10 {
        loader.fill(0, step, &mut batch)?;
        trainer.step(&batch);
        let metrics = pollster::block_on(trainer.metrics())?;
        losses.push(metrics.loss_sum / metrics.samples as f64);
    }
    Ok(losses)
}
