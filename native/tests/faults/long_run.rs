//! Thousands of steps in one process: memory must not grow.

use std::sync::Arc;

use centripetal::Shape;
use centripetal::data::synthetic::Split;
use centripetal::data::{Augment, Batch, Loader, Synthetic};
use centripetal::device::{Device, DeviceChoice};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::train::{TrainConfig, Trainer};
use pollster::block_on;
use tempfile::TempDir;

use super::kills::{command, done};
use super::table::Row;
use crate::MEMORY;

/// Growth allowed of the process, in kB: what an allocator's habits may add.
const SLACK: u64 = 8 << 10;

/// Growth allowed of what Rust has allocated, in bytes: all of it ours and wgpu's, none of it the driver's.
const SLACK_OF_OURS: usize = 64 << 10;

/// Trains for `steps` steps on the CPU and on a GPU.
pub(crate) fn grown(steps: usize) -> Vec<Row> {
    let fault = |device: &str| format!("memory growth over {steps} steps, {device}");
    if resident("self").is_none() {
        return vec![Row::skipped(fault("all devices"), "the system does not tell resident memory")];
    }
    let mut cpu = Row::new(fault("CPU"));
    cpu.count(train(Device::cpu("a test"), steps));
    let gpu = if std::env::var("CENTRIPETAL_SKIP_GPU").is_ok_and(|value| value == "1") {
        Row::skipped(fault("GPU"), "CENTRIPETAL_SKIP_GPU=1")
    } else {
        match block_on(Device::open(DeviceChoice::Gpu)) {
            Ok(device) => {
                let name = device.info().name.clone();
                let mut row = Row::new(fault(&name));
                row.count(train(device, steps));
                row
            }
            Err(error) => {
                let mut row = Row::new(fault("GPU"));
                row.count(Err(error.to_string()));
                row
            }
        }
    };
    let mut whole =
        Row::new(format!("memory growth over {steps} steps of `train`, its log and checkpoints, CPU"));
    whole.count(command_grows(steps));
    vec![cpu, gpu, whole]
}

/// Watches the command from outside while it trains for `steps` steps.
fn command_grows(steps: usize) -> Result<(), String> {
    const PER_EPOCH: usize = 100;
    let dir = TempDir::new().map_err(|error| error.to_string())?;
    let epochs = (steps / PER_EPOCH).to_string();
    let words = ["train", "lenet", "--data", "synthetic", "--train-limit", "400", "--test-limit", "20"];
    let more =
        ["--batch", "4", "--checkpoint-minutes", "0.001", "--keep-last", "2", "--out", "run", "--epochs"];
    let mut child = command(dir.path(), &[&words[..], &more, &[&epochs]].concat())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        samples.extend(resident(&child.id().to_string()));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    done(&child.wait_with_output().map_err(|error| error.to_string())?)?;
    if samples.len() < 20 {
        return Err(format!("only {} looks at the memory", samples.len()));
    }
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    // The last look may be at a process that is ending.
    let (early, late) = (samples.len() / 5, samples.len() * 4 / 5);
    let (early, late) = (median(&samples[early..2 * early]), median(&samples[late..samples.len() - 1]));
    if late <= early + SLACK {
        return Ok(());
    }
    Err(format!("resident memory of the command went from {early} to {late} kB"))
}

fn train(device: Device, steps: usize) -> Result<(), String> {
    let text = |error: centripetal::Error| error.to_string();
    let images = Synthetic { shape: [1, 8, 8], ..Synthetic::default() };
    let data = Arc::new(images.generate(Split::Train, 64).map_err(text)?);
    let graph = models::build("lenet", &ModelConfig::new(Shape::new(1, 8, 8), 10)).map_err(text)?;
    let schedule =
        Schedule { base_lr: 0.01, total_steps: steps as u64, warmup_steps: 0, decay: Decay::Constant };
    let config =
        TrainConfig { batch: 4, schedule, sgd: SgdConfig::default(), centripetal: None, sparsity: None };
    let loader = Loader::training(data, 4, 0, Augment::NONE).map_err(text)?;
    let mut trainer = Trainer::new(Arc::new(device), Model::random(graph, 0), config).map_err(text)?;
    let mut batch = Batch::default();
    let mut early = None;
    for step in 0..steps {
        loader.fill((step / 16) as u64, step % 16, &mut batch).map_err(text)?;
        trainer.step(&batch);
        if step % 10 == 9 {
            let metrics = block_on(trainer.metrics()).map_err(text)?;
            if metrics.bad_step > 0 {
                return Err(format!("the loss is not finite at step {}", metrics.bad_step));
            }
        }
        // By then pools and caches have what they need.
        if step == steps / 5 {
            early = resident("self").zip(Some(MEMORY.current_usage()));
        }
    }
    let Some(((early, ours_early), late)) = early.zip(resident("self")) else {
        return Err("resident memory is not told".to_owned());
    };
    let ours_late = MEMORY.current_usage();
    if late <= early + SLACK && ours_late <= ours_early + SLACK_OF_OURS {
        return Ok(());
    }
    Err(format!(
        "resident memory went from {early} to {late} kB, what Rust has of it from {ours_early} to {ours_late} bytes"
    ))
}

/// Resident memory of a process in kB, where the system tells (Linux).
fn resident(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
