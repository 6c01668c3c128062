//! The training loop of `train`, `prune` and `demo`: steps, metrics, evaluation and checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use centripetal::data::{Augment, Batch, Loader};
use centripetal::device::{Device, DeviceKind};
use centripetal::formats::{Checkpoint, Provenance, Training};
use centripetal::graph::Graph;
use centripetal::model::{Model, TensorData, Tensors};
use centripetal::optim::Decay;
use centripetal::optim::forecast::Forecast;
use centripetal::plan::{Layout, Mode, Plan};
use centripetal::prune::Clusters;
use centripetal::train::{Evaluation, TrainConfig, Trainer};
use centripetal::{Error, ErrorKind, Result};
use indicatif::ProgressBar;
use pollster::block_on;
use serde_json::{Value, json};

use crate::args::{Care, OnDeviceLoss, OnNan};
use crate::metrics::{Log, Phase};
use crate::prefetch::{BATCHES, Position, Prefetch};
use crate::progress::{Console, bytes, duration, grouped, percent};
use crate::run_folder::{KEPT, kept_best, kept_epoch, kept_rollback};
use crate::{files, stop};

/// Seconds between two looks at the device's sums: often enough for the eye, too seldom to cost anything.
const LOOK_EVERY: f64 = 0.3;

/// Measurements of the deviation in an epoch.
const DEVIATIONS_AN_EPOCH: u64 = 10;

/// Lines of the log in an epoch, so that the log of a long run stays readable.
const LINES_AN_EPOCH: u64 = 50;

/// What the deviation should be as the steps go.
pub(crate) struct Collapse {
    /// chi before the first step.
    pub(crate) start: f64,
    /// The forecast of a difference's logarithm.
    pub(crate) forecast: Forecast,
}

impl Collapse {
    /// chi forecast after `steps` steps: differences shrink by the forecast, chi by its square.
    fn chi(&self, steps: u64) -> f64 {
        let curve = &self.forecast.curve;
        let after = curve.partition_point(|&(at, _)| at < steps).min(curve.len() - 1);
        let (x1, y1) = curve[after];
        let (x0, y0) = curve[after.saturating_sub(1)];
        let part = if x1 > x0 { (steps.min(x1) - x0) as f64 / (x1 - x0) as f64 } else { 1.0 };
        self.start * (2.0 * (y0 + (y1 - y0) * part)).exp()
    }
}

/// How often a run goes back after a loss that is not finite.
const ROLLBACKS: u32 = 8;

/// A training run.
pub(crate) struct Run<'a> {
    pub(crate) console: &'a Console,
    pub(crate) device: Arc<Device>,
    pub(crate) phase: Phase,
    pub(crate) train: Arc<Loader>,
    pub(crate) test: &'a Loader,
    pub(crate) augment: Augment,
    /// Of the training images.
    pub(crate) fingerprint: u64,
    pub(crate) provenance: Provenance,
    pub(crate) clusters: Option<Clusters>,
    /// Where checkpoints go.
    pub(crate) path: PathBuf,
    pub(crate) log: Log,
    pub(crate) collapse: Option<Collapse>,
    pub(crate) care: &'a Care,
    /// As in [`Start`], now.
    pub(crate) rollbacks: u32,
    /// The step to which the run went back last.
    pub(crate) restarted_at: Option<u64>,
}

/// Where a run begins or goes on.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) model: Model,
    /// As it would be without rollbacks.
    pub(crate) config: TrainConfig,
    /// Momentum of a run that goes on.
    pub(crate) momentum: Option<Tensors>,
    /// Steps done.
    pub(crate) step: u64,
    /// How often the run has gone back after a loss that was not finite.
    pub(crate) rollbacks: u32,
    /// Whether it goes back right here.
    pub(crate) restarted: bool,
}

impl Start {
    /// The beginning of a run that trains `model` by `config`.
    pub(crate) fn new(model: Model, config: TrainConfig) -> Self {
        Start { model, config, momentum: None, step: 0, rollbacks: 0, restarted: false }
    }

    /// The run that begins here, where a checkpoint of it with `model` and `training` goes on.
    fn at(&self, model: Model, training: Training) -> Self {
        Start {
            model,
            config: self.config.clone(),
            momentum: Some(training.momentum),
            step: training.step,
            rollbacks: training.rollbacks,
            restarted: false,
        }
    }

    /// The trainer to go on with.
    fn trainer(self, device: &Arc<Device>) -> Result<Trainer> {
        let config = slowed(&self.config, self.rollbacks);
        let mut trainer = Trainer::new(Arc::clone(device), self.model, config)?;
        if let Some(momentum) = &self.momentum {
            trainer.resume(momentum, self.step)?;
        }
        Ok(trainer)
    }
}

/// `config` at half the learning rate for each of `rollbacks`. Filters are pulled together as before: what counts there
/// is the product of rate and strength.
fn slowed(config: &TrainConfig, rollbacks: u32) -> TrainConfig {
    let factor = f64::from(rollbacks).exp2();
    let mut config = config.clone();
    config.schedule.base_lr /= factor;
    if let Decay::Cosine { final_lr } = &mut config.schedule.decay {
        *final_lr /= factor;
    }
    if let Some(centripetal) = &mut config.centripetal {
        centripetal.strength *= factor;
    }
    config
}

/// How a run ended.
#[expect(clippy::large_enum_variant, reason = "there is one a run")]
pub(crate) enum Ended {
    /// All steps are done; the checkpoint is written.
    Finished {
        model: Model,
        evaluation: Evaluation,
        /// As it was in the end: rollbacks lower the learning rate.
        config: TrainConfig,
        /// That it ended on: not the one it began on, if that was lost.
        device: Arc<Device>,
        /// Of the whole phase, resumed parts included.
        seconds: f64,
    },
    /// On request, after this many steps; the checkpoint is written.
    Interrupted { step: u64 },
}

/// Sums and clocks of a run under way.
struct State {
    started: Instant,
    looked: Instant,
    saved: Instant,
    looked_at: u64,
    /// Steps from one look to the next.
    stride: u64,
    loss: f64,
    correct: u64,
    samples: u64,
    images_per_second: f64,
    /// Seconds of waiting for batches since the last look, and part of the epoch's time.
    waited: f64,
    waited_in_epoch: f64,
    epoch: Instant,
    deviation: Option<Vec<(String, f64)>>,
    deviation_at: u64,
    logged_at: u64,
}

impl State {
    /// Whether the checkpoint is to be written between epochs, now that `step` steps are done.
    fn is_due(&self, care: &Care, step: u64) -> bool {
        // Looked at first, so that nothing that has already failed is written.
        self.looked_at == step && self.saved.elapsed().as_secs_f64() >= care.checkpoint_minutes * 60.0
    }

    /// What a user is told of the waiting for batches in this epoch: nothing where it is next to none.
    fn told_waiting(&self) -> String {
        let part = self.waited_in_epoch / self.epoch.elapsed().as_secs_f64().max(1e-9);
        if part < 0.01 {
            String::new()
        } else {
            format!("  {:.0} % waiting for images", (100.0 * part).min(100.0))
        }
    }

    fn chi(&self) -> Option<f64> {
        self.deviation.as_ref().map(|layers| layers.iter().map(|(_, chi)| chi).sum())
    }
}

impl Run<'_> {
    /// Trains until the schedule ends or the user interrupts; from `origin` on, or from where `resumed`, network and state of
    /// a checkpoint, goes on.
    ///
    /// # Errors
    /// Those of the data and the device, [`ErrorKind::Numeric`] when the loss is no longer finite, [`ErrorKind::Io`] when
    /// a file cannot be written. The last checkpoint stays as it was.
    pub(crate) fn go(&mut self, origin: Start, resumed: Option<(Model, Training)>) -> Result<Ended> {
        let guard = stop::Guard::new();
        let mut needed = Needed::of(&origin.model.graph, origin.config.batch, self.test.batch_size())?;
        if self.phase != Phase::Train {
            // The base, with which the result is compared.
            needed.host +=
                origin.model.tensors.values().map(|tensor| tensor.data.len() as u64 * 4).sum::<u64>();
        }
        let is_cpu = self.device.info().kind == DeviceKind::Cpu;
        self.console.note(&format!(
            "memory for batches of {}: {}",
            origin.config.batch,
            if is_cpu {
                bytes(needed.device + needed.host)
            } else {
                format!("{} of the GPU, {} beside it", bytes(needed.device), bytes(needed.host))
            }
        ));
        let goes_back =
            self.care.on_nan == OnNan::Rollback || self.care.on_device_loss == OnDeviceLoss::Cpu && !is_cpu;
        let (graph, batch) = (origin.model.graph.clone(), origin.config.batch);
        let smaller = |error| smaller(error, &graph, batch);
        let mut written = resumed.is_some();
        let (origin, mut start) = match resumed {
            Some((model, training)) => {
                let start = origin.at(model, training);
                (origin, start)
            }
            // Nobody will ask for where it began, so nobody has to keep it.
            None if !goes_back => return self.attempt(origin, &mut written, &guard).map_err(smaller),
            None => (origin.clone(), origin),
        };
        loop {
            match self.attempt(start.clone(), &mut written, &guard).map_err(smaller) {
                Err(error) => start = self.recover(error, &origin, start, written)?,
                ended => return ended,
            }
        }
    }

    /// Trains from `start` on; `written` says whether this run has written its checkpoint.
    fn attempt(&mut self, start: Start, written: &mut bool, guard: &stop::Guard) -> Result<Ended> {
        self.rollbacks = start.rollbacks;
        self.restarted_at = start.restarted.then_some(start.step);
        let (step, restarted) = (start.step, start.restarted);
        let mut trainer = start.trainer(&self.device)?;
        if !*written || restarted {
            // So that there is something to go back to, and a full disk is told now and not in an hour.
            let checkpoint = self.checkpoint(&trainer)?;
            self.keep_for_rollback(&checkpoint)?;
            files::write(&self.path, &checkpoint)?;
            *written = true;
        }
        if restarted {
            self.log = Log::open(self.folder(), self.phase, step)?;
        }
        self.train(&mut trainer, guard)
    }

    /// Where to go on after `error`, if the user wants to: after a loss that was not finite at the end of the last epoch
    /// (whatever checkpoints were written since, so that a run that was killed goes back to the same step), after the loss of
    /// a GPU at the last checkpoint, if it is `written` by this run.
    fn recover(&mut self, error: Error, origin: &Start, start: Start, written: bool) -> Result<Start> {
        let slower = error.kind() == ErrorKind::Numeric
            && self.care.on_nan == OnNan::Rollback
            && start.rollbacks < ROLLBACKS;
        let elsewhere = is_of_device(&error)
            && self.care.on_device_loss == OnDeviceLoss::Cpu
            && self.device.info().kind != DeviceKind::Cpu;
        if !(slower || elsewhere) {
            return Err(error);
        }
        let from = if slower { self.rollback_path() } else { self.path.clone() };
        let checkpoint = if written && from.exists() { Some(files::checkpoint(&from)?) } else { None };
        let mut next = match checkpoint.map(|checkpoint| (checkpoint.model, checkpoint.training)) {
            // From where it has gone back before and failed again it was on its way to that: better from where the run began.
            Some((_, Some(training)))
                if slower && training.restarted && training.rollbacks == start.rollbacks =>
            {
                origin.clone()
            }
            Some((model, Some(training))) => origin.at(model, training),
            _ => origin.clone(),
        };
        next.rollbacks = start.rollbacks + u32::from(slower);
        next.restarted = slower;
        let what = if slower {
            format!("with the learning rate {}", slowed(&next.config, next.rollbacks).schedule.base_lr)
        } else {
            self.device = Arc::new(Device::cpu("the GPU failed, and --on-device-loss cpu"));
            self.console.device(self.device.info());
            self.log = Log::open(self.folder(), self.phase, next.step)?;
            "on the CPU".to_owned()
        };
        self.console.warn(&format!("{error}. Going on after step {} {what}", next.step));
        Ok(next)
    }

    /// Trains until the schedule ends, the user interrupts or something fails.
    fn train(&mut self, trainer: &mut Trainer, guard: &stop::Guard) -> Result<Ended> {
        let per_epoch = self.train.batches_per_epoch() as u64;
        let total = trainer.config().schedule.total_steps;
        let bar = self.console.bar(total, trainer.steps());
        bar.set_prefix(self.phase.name());
        let now = Instant::now();
        let mut state = State {
            started: now,
            looked: now,
            saved: now,
            looked_at: trainer.steps(),
            stride: 1,
            loss: 0.0,
            correct: 0,
            samples: 0,
            images_per_second: 0.0,
            waited: 0.0,
            waited_in_epoch: 0.0,
            epoch: now,
            deviation: None,
            deviation_at: 0,
            logged_at: trainer.steps(),
        };
        let mut last = None;
        if trainer.steps() < total {
            if self.phase == Phase::Csgd {
                self.measure(trainer, &mut state)?;
                if trainer.steps() == 0 {
                    let line = self.line(trainer, &state, per_epoch);
                    self.log.push(&line)?;
                }
            }
            let start =
                Position { epoch: trainer.steps() / per_epoch, step: (trainer.steps() % per_epoch) as usize };
            let mut prefetch = Prefetch::new(Arc::clone(&self.train), start)?;
            let mut batch = Batch::default();
            while trainer.steps() < total {
                prefetch.next(&mut batch)?;
                trainer.step(&batch);
                let done = trainer.steps();
                if self.care.rehearse_device_loss == Some(done) {
                    self.device.destroy();
                }
                let epoch_ends = done.is_multiple_of(per_epoch);
                if epoch_ends || guard.asked() || done - state.looked_at >= state.stride {
                    state.waited = prefetch.take_waited().as_secs_f64();
                    state.waited_in_epoch += state.waited;
                    self.look(trainer, &mut state, &bar)?;
                }
                if epoch_ends {
                    let ended = self.end_epoch(trainer, &mut state, &bar);
                    last = Some(ended.inspect_err(|_| bar.finish_and_clear())?);
                } else if guard.asked() || state.is_due(self.care, done) {
                    self.save(trainer)?;
                    state.saved = Instant::now();
                }
                if guard.asked() {
                    bar.finish_and_clear();
                    return Ok(Ended::Interrupted { step: done });
                }
            }
        }
        bar.finish_and_clear();
        let seconds = self.log.seconds + state.started.elapsed().as_secs_f64();
        let evaluation = match last {
            Some(evaluation) => evaluation,
            None => block_on(trainer.evaluate(self.test))?.finite("testing the network")?,
        };
        let model = block_on(trainer.model())?;
        let (config, device) = (trainer.config().clone(), Arc::clone(&self.device));
        Ok(Ended::Finished { model, evaluation, config, device, seconds })
    }

    /// Reads the sums since the last look, and shows and logs them.
    fn look(&mut self, trainer: &mut Trainer, state: &mut State, bar: &ProgressBar) -> Result<()> {
        let metrics = block_on(trainer.metrics())?;
        if metrics.bad_step > 0 {
            bar.finish_and_clear();
            return Err(self.diagnose(trainer, metrics.bad_step)?);
        }
        let steps = trainer.steps() - state.looked_at;
        let elapsed = state.looked.elapsed().as_secs_f64().max(1e-9);
        state.images_per_second = metrics.samples as f64 / elapsed;
        state.loss += metrics.loss_sum;
        state.correct += metrics.correct;
        state.samples += metrics.samples;
        let fitting = (LOOK_EVERY * steps as f64 / elapsed).round() as u64;
        state.stride = fitting.clamp(1, state.stride * 4);

        let per_epoch = self.train.batches_per_epoch() as u64;
        if self.phase == Phase::Csgd
            && trainer.steps() * DEVIATIONS_AN_EPOCH / per_epoch
                != state.deviation_at * DEVIATIONS_AN_EPOCH / per_epoch
        {
            self.measure(trainer, state)?;
        }
        let mut line = self.line(trainer, state, per_epoch);
        let seen = metrics.samples.max(1) as f64;
        line["loss"] = json!(metrics.loss_sum / seen);
        line["accuracy"] = json!(metrics.correct as f64 / seen);
        line["waiting"] = json!((state.waited / elapsed).min(1.0));
        let norms = block_on(trainer.norms())?;
        line["gradient_norm"] = json!(norms.gradient);
        line["update_ratio"] = json!(line["lr"].as_f64().map(|lr| lr * norms.momentum / norms.parameters));
        let part = |step: u64| step * LINES_AN_EPOCH / per_epoch;
        if part(trainer.steps()) != part(state.logged_at) {
            self.log.push(&line)?;
            state.logged_at = trainer.steps();
        }
        bar.set_position(trainer.steps());
        bar.set_message(self.describe(trainer, state));
        state.looked = Instant::now();
        state.looked_at = trainer.steps();
        Ok(())
    }

    fn measure(&self, trainer: &Trainer, state: &mut State) -> Result<()> {
        state.deviation = Some(block_on(trainer.deviation())?);
        state.deviation_at = trainer.steps();
        Ok(())
    }

    /// A line of the log without loss and accuracy.
    fn line(&self, trainer: &Trainer, state: &State, per_epoch: u64) -> Value {
        let step = trainer.steps();
        json!({
            "phase": self.phase.name(),
            "epoch": step as f64 / per_epoch as f64,
            "step": step,
            "lr": trainer.config().schedule.lr(step.saturating_sub(1)),
            "loss": null,
            "accuracy": null,
            "deviation": state.chi(),
            "images_per_second": state.images_per_second,
            "seconds": self.log.seconds + state.started.elapsed().as_secs_f64(),
        })
    }

    fn describe(&self, trainer: &Trainer, state: &State) -> String {
        let samples = state.samples.max(1) as f64;
        let collapse = match (state.chi(), &self.collapse) {
            (Some(chi), Some(collapse)) => {
                format!("  deviation {chi:.1e} (forecast {:.1e})", collapse.chi(state.deviation_at))
            }
            (Some(chi), None) => format!("  deviation {chi:.1e}"),
            (None, _) => String::new(),
        };
        format!(
            "epoch {}/{}  loss {:.4}  accuracy {}{collapse}  {} images/s{}",
            trainer.steps().div_ceil(self.train.batches_per_epoch() as u64),
            trainer.config().schedule.total_steps / self.train.batches_per_epoch() as u64,
            state.loss / samples,
            percent(state.correct as f64 / samples),
            grouped(state.images_per_second.round() as u64),
            state.told_waiting(),
        )
    }

    /// Evaluates, logs, writes the checkpoint: that last, so that a run killed in between does all of it again.
    fn end_epoch(
        &mut self,
        trainer: &mut Trainer,
        state: &mut State,
        bar: &ProgressBar,
    ) -> Result<Evaluation> {
        if self.phase == Phase::Csgd && state.deviation_at != trainer.steps() {
            self.measure(trainer, state)?;
        }
        let epoch = trainer.steps().div_ceil(self.train.batches_per_epoch() as u64);
        let evaluation = block_on(trainer.evaluate(self.test))?
            .finite(&format!("testing the network after epoch {epoch}"))?;
        let checkpoint = self.checkpoint(trainer)?;
        let mut line = self.line(trainer, state, self.train.batches_per_epoch() as u64);
        let samples = state.samples.max(1) as f64;
        line["loss"] = json!(state.loss / samples);
        line["accuracy"] = json!(state.correct as f64 / samples);
        line["test_loss"] = json!(evaluation.loss);
        line["test_accuracy"] = json!(evaluation.accuracy());
        if let Some(layers) = &state.deviation {
            line["deviation_layers"] = layers.iter().map(|(name, chi)| (name.clone(), json!(chi))).collect();
        }
        self.log.push(&line)?;
        self.log.sync()?;
        let epoch = trainer.steps() / self.train.batches_per_epoch() as u64;
        self.keep_for_rollback(&checkpoint)?;
        self.keep(epoch, evaluation.accuracy() > self.log.best, &checkpoint)?;
        self.log.best = self.log.best.max(evaluation.accuracy());
        files::write(&self.path, &checkpoint)?;
        drop(checkpoint);
        state.saved = Instant::now();
        let told = format!(
            "{} {}  test loss {:.4}  test accuracy {}  {}",
            self.phase.name(),
            self.describe(trainer, state),
            evaluation.loss,
            percent(evaluation.accuracy()),
            duration(self.log.seconds + state.started.elapsed().as_secs_f64()),
        );
        self.console.above(bar, &told);
        (state.loss, state.correct, state.samples) = (0.0, 0, 0);
        state.looked = Instant::now();
        (state.waited_in_epoch, state.epoch) = (0.0, state.looked);
        Ok(evaluation)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn rollback_path(&self) -> PathBuf {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        self.folder().join(KEPT).join(kept_rollback(&stem))
    }

    /// Keeps the checkpoint `bytes` to go back to, where that is asked for.
    fn keep_for_rollback(&self, bytes: &[u8]) -> Result<()> {
        if self.care.on_nan != OnNan::Rollback {
            return Ok(());
        }
        files::prepare_folder(&self.folder().join(KEPT))?;
        files::write(&self.rollback_path(), bytes)
    }

    /// Keeps the checkpoint `bytes` of `epoch` (from 1), the `best` so far or not, as --keep-last and --keep-best ask.
    fn keep(&self, epoch: u64, best: bool, bytes: &[u8]) -> Result<()> {
        let (last, best) = (self.care.keep_last, best && self.care.keep_best);
        if last == 0 && !best {
            return Ok(());
        }
        let folder = self.folder().join(KEPT);
        files::prepare_folder(&folder)?;
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        if last > 0 {
            files::write(&folder.join(kept_epoch(&stem, epoch)), bytes)?;
            if let Some(old) = epoch.checked_sub(last as u64) {
                files::remove(&folder.join(kept_epoch(&stem, old)))?;
            }
        }
        if best {
            files::write(&folder.join(kept_best(&stem)), bytes)?;
        }
        Ok(())
    }

    /// Writes the checkpoint.
    fn save(&self, trainer: &Trainer) -> Result<()> {
        files::write(&self.path, &self.checkpoint(trainer)?)
    }

    /// The bytes of the checkpoint, unless the model is no longer finite.
    fn checkpoint(&self, trainer: &Trainer) -> Result<Vec<u8>> {
        let model = block_on(trainer.model())?;
        let broken = |tensor: &TensorData| tensor.data.iter().any(|x| !x.is_finite());
        if let Some((name, _)) = model.tensors.iter().find(|(_, tensor)| broken(tensor)) {
            return Err(Error::new(ErrorKind::Numeric, format!("training, step {}", trainer.steps()))
                .expected("finite parameters and statistics")
                .found(format!("NaN or infinity in {name}"))
                .next("The checkpoint before is kept; take a smaller --lr (and a smaller --strength)"));
        }
        let training = Training {
            config: trainer.config().clone(),
            augment: self.augment,
            images: self.train.dataset().len(),
            fingerprint: self.fingerprint,
            rollbacks: self.rollbacks,
            restarted: self.restarted_at == Some(trainer.steps()),
            step: trainer.steps(),
            momentum: block_on(trainer.momentum())?,
        };
        let checkpoint = Checkpoint {
            model,
            provenance: self.provenance.clone(),
            clusters: self.clusters.clone(),
            training: Some(training),
        };
        checkpoint.to_bytes()
    }

    /// The error for the step `bad_step` (counted from 1), on the batch that it was.
    fn diagnose(&self, trainer: &Trainer, bad_step: u32) -> Result<Error> {
        let per_epoch = self.train.batches_per_epoch() as u64;
        let step = u64::from(bad_step) - 1;
        let mut batch = Batch::default();
        self.train.fill(step / per_epoch, (step % per_epoch) as usize, &mut batch)?;
        block_on(trainer.diagnose(bad_step, &batch))
    }
}

/// Bytes that a run takes at most; without clusters, data sets that are kept in memory, and some tens of MB for the program
/// and what its kernels keep at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Parameters, gradients, momentum, running statistics, activations of training and of evaluation, and their images.
    pub(crate) device: u64,
    /// Batches that wait, and a checkpoint while it is written: parameters, momentum, and both as a file.
    pub(crate) host: u64,
}

impl Needed {
    /// For training with `batch` images a step and testing with `test_batch`.
    pub(crate) fn of(graph: &Graph, batch: usize, test_batch: usize) -> Result<Needed> {
        let layout = Layout::new(graph);
        let trained = layout.trained_words() as u64 * 4;
        let statistics: u64 = layout.statistics().iter().map(|entry| entry.spec.len() as u64 * 4).sum();
        let images = |images: usize| (images * graph.input.len()) as u64 * 4;
        let training = Plan::memory_of(graph, batch, Mode::Train)?.activations;
        let evaluation = Plan::memory_of(graph, test_batch, Mode::Evaluate)?.activations;
        Ok(Needed {
            device: 3 * trained + statistics + training + evaluation + images(batch) + images(test_batch),
            host: 2 * (2 * trained + statistics) + BATCHES as u64 * images(batch) + images(test_batch),
        })
    }
}

/// `error`, and if it is for want of memory, with a batch that does with half or less, in buffers that WebGPU binds.
fn smaller(error: Error, graph: &Graph, batch: usize) -> Error {
    /// Most bytes of one buffer in the WebGPU baseline.
    const MOST: u64 = 128 << 20;
    if error.kind() != ErrorKind::OutOfMemory {
        return error;
    }
    let of = |batch: usize| {
        Some((Needed::of(graph, batch, batch).ok()?.device, Plan::memory_of(graph, batch, Mode::Train).ok()?))
    };
    let fits = |batch: &usize| of(*batch).is_some_and(|(_, plan)| plan.largest <= MOST);
    let halves =
        std::iter::successors(Some(batch / 2), |batch| Some(batch / 2)).take_while(|&batch| batch > 0);
    let Some(found) = halves.into_iter().find(fits) else { return error };
    match (of(found), of(batch)) {
        (Some((less, _)), Some((now, _))) => error.next(format!(
            "Take --batch {found}, which needs {} instead of {}, or --device cpu",
            bytes(less),
            bytes(now)
        )),
        _ => error,
    }
}

/// Whether `error` is one that another device might not have.
fn is_of_device(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Device | ErrorKind::DeviceLost | ErrorKind::OutOfMemory)
}

/// What a checkpoint must be of for a run to go on with it, beside the [settings](crate::run_folder::Settings).
pub(crate) struct Identity<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) config: &'a TrainConfig,
    pub(crate) augment: Augment,
    /// Of the training images.
    pub(crate) fingerprint: u64,
    pub(crate) provenance: &'a Provenance,
}

/// Takes the training state out of `checkpoint`, which is read from `path`, after checking that it is of the same run.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] naming what differs.
pub(crate) fn resume(
    path: &std::path::Path,
    checkpoint: &mut Checkpoint,
    now: &Identity<'_>,
) -> Result<Training> {
    let error = || Error::new(ErrorKind::Checkpoint, format!("going on with {}", path.display()));
    let training = checkpoint.training.take().ok_or_else(|| {
        error()
            .expected("the state of a training run")
            .found("a network alone")
            .next("Begin a run with --force, or with another --out")
    })?;
    let config = &slowed(now.config, training.rollbacks);
    let then = &training.config;
    let clusters = |config: &TrainConfig| config.centripetal.as_ref().map(|c| c.clusters.clone());
    let differs = |what: &str, then: &str, now: &str| {
        Err(error()
            .expected(format!("{what} as in the run so far, {then}"))
            .found(now)
            .next("Give the same options as before, or begin anew with --force or another --out"))
    };
    if checkpoint.model.graph != *now.graph {
        return differs("the network", &summary(&checkpoint.model.graph), &summary(now.graph));
    }
    if training.fingerprint != now.fingerprint {
        return differs("the training images", "those of other data", "these");
    }
    if checkpoint.provenance.normalization != now.provenance.normalization {
        return differs("the normalisation of images", "that of other data", "that of these");
    }
    if clusters(then) != clusters(config) {
        return differs("the clusters", "those in the file", "other ones");
    }
    let seed = (checkpoint.provenance.seed, now.provenance.seed);
    if then != config || training.augment != now.augment || seed.0 != seed.1 {
        let show = |config: &TrainConfig, augment, seed| {
            let TrainConfig { batch, schedule, sgd, sparsity, .. } = config;
            let strength = config.centripetal.as_ref().map(|c| c.strength);
            format!(
                "seed {seed}, batches of {batch}, {schedule:?}, {sgd:?}, strength {strength:?}, {sparsity:?}, {augment:?}"
            )
        };
        let (then, now) = (show(then, training.augment, seed.0), show(config, now.augment, seed.1));
        return differs("the way of training", &then, &now);
    }
    Ok(training)
}

fn summary(graph: &Graph) -> String {
    format!("{} for {} images with {} parameters", graph.name, graph.input, grouped(graph.parameter_count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::optim::forecast::Stability;

    #[test]
    fn numbers_in_json_come_back_to_the_last_bit() {
        let mut rng = centripetal::rng::Rng::new(3);
        for _ in 0..10_000 {
            let number = f64::from(rng.uniform()) / f64::from(rng.uniform() + 1e-3) * 1.1;
            let back: f64 = serde_json::from_str(&json!(number).to_string()).expect("a number");
            assert_eq!(back.to_bits(), number.to_bits(), "{number}");
        }
    }

    #[test]
    fn the_forecast_deviation_is_the_square_between_its_points() {
        let forecast = Forecast {
            log_shrink: -4.0,
            statistics_log_shrink: None,
            merged_at: None,
            curve: vec![(0, 0.0), (10, -2.0), (20, -4.0)],
            stability: Stability::Stable,
        };
        let collapse = Collapse { start: 3.0, forecast };
        for (steps, log) in [(0, 0.0), (5, -1.0), (10, -2.0), (15, -3.0), (20, -4.0), (99, -4.0)] {
            let expected = 3.0 * f64::exp(2.0 * log);
            let found = collapse.chi(steps);
            assert!((found - expected).abs() < 1e-12, "{steps}: {found} {expected}");
        }
    }
}
