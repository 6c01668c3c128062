//! The training loop of `train`, `prune` and `demo`: steps, metrics, evaluation and checkpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use centripetal::data::{Augment, Batch, Loader};
use centripetal::formats::{Checkpoint, Provenance, Training};
use centripetal::graph::Graph;
use centripetal::model::Model;
use centripetal::optim::forecast::Forecast;
use centripetal::prune::Clusters;
use centripetal::train::{Evaluation, TrainConfig, Trainer};
use centripetal::{Error, ErrorKind, Result};
use indicatif::ProgressBar;
use pollster::block_on;
use serde_json::{Value, json};

use crate::metrics::{Log, Phase};
use crate::prefetch::{Position, Prefetch};
use crate::progress::{Console, duration, grouped, percent};
use crate::stop;

/// Seconds between two looks at the device's sums: often enough for the eye, too seldom to cost anything.
const LOOK_EVERY: f64 = 0.3;

/// Measurements of the deviation in an epoch.
const DEVIATIONS_AN_EPOCH: u64 = 10;

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

/// A training run.
pub(crate) struct Run<'a> {
    pub(crate) console: &'a Console,
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
}

/// How a run ended.
pub(crate) enum Ended {
    /// All steps are done; the checkpoint is written.
    Finished {
        model: Model,
        evaluation: Evaluation,
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
    looked_at: u64,
    /// Steps from one look to the next.
    stride: u64,
    loss: f64,
    correct: u64,
    samples: u64,
    images_per_second: f64,
    deviation: Option<Vec<(String, f64)>>,
    deviation_at: u64,
}

impl State {
    fn chi(&self) -> Option<f64> {
        self.deviation.as_ref().map(|layers| layers.iter().map(|(_, chi)| chi).sum())
    }
}

impl Run<'_> {
    /// Trains until the schedule ends or the user interrupts.
    ///
    /// # Errors
    /// Those of the data and the device, [`ErrorKind::Numeric`] when the loss is no longer finite, [`ErrorKind::Io`] when
    /// a file cannot be written. The last checkpoint stays as it was.
    pub(crate) fn go(&mut self, trainer: &mut Trainer) -> Result<Ended> {
        let guard = stop::Guard::new();
        let per_epoch = self.train.batches_per_epoch() as u64;
        let total = trainer.config().schedule.total_steps;
        let bar = self.console.bar(total, trainer.steps());
        bar.set_prefix(self.phase.name());
        let now = Instant::now();
        let mut state = State {
            started: now,
            looked: now,
            looked_at: trainer.steps(),
            stride: 1,
            loss: 0.0,
            correct: 0,
            samples: 0,
            images_per_second: 0.0,
            deviation: None,
            deviation_at: 0,
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
                let epoch_ends = done.is_multiple_of(per_epoch);
                if epoch_ends || guard.asked() || done - state.looked_at >= state.stride {
                    self.look(trainer, &mut state, &bar)?;
                }
                if epoch_ends {
                    last = Some(self.end_epoch(trainer, &mut state, &bar)?);
                }
                if guard.asked() {
                    if !epoch_ends {
                        self.save(trainer)?;
                    }
                    bar.finish_and_clear();
                    return Ok(Ended::Interrupted { step: done });
                }
            }
        }
        bar.finish_and_clear();
        let seconds = self.log.seconds + state.started.elapsed().as_secs_f64();
        let (model, evaluation) = match last {
            Some(last) => last,
            None => (block_on(trainer.model())?, block_on(trainer.evaluate(self.test))?),
        };
        Ok(Ended::Finished { model, evaluation, seconds })
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
        self.log.push(&line)?;
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
            "epoch {}/{}  loss {:.4}  accuracy {}{collapse}  {} images/s",
            trainer.steps().div_ceil(self.train.batches_per_epoch() as u64),
            trainer.config().schedule.total_steps / self.train.batches_per_epoch() as u64,
            state.loss / samples,
            percent(state.correct as f64 / samples),
            grouped(state.images_per_second.round() as u64),
        )
    }

    /// Evaluates, logs, writes the checkpoint.
    fn end_epoch(
        &mut self,
        trainer: &mut Trainer,
        state: &mut State,
        bar: &ProgressBar,
    ) -> Result<(Model, Evaluation)> {
        if self.phase == Phase::Csgd && state.deviation_at != trainer.steps() {
            self.measure(trainer, state)?;
        }
        let evaluation = block_on(trainer.evaluate(self.test))?;
        let model = self.save(trainer)?;
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
        Ok((model, evaluation))
    }

    /// Writes the checkpoint, unless the model is no longer finite.
    fn save(&self, trainer: &Trainer) -> Result<Model> {
        let model = block_on(trainer.model())?;
        model.validate().map_err(|error| {
            Error::new(ErrorKind::Numeric, format!("training, step {}", trainer.steps()))
                .found(error)
                .next("The checkpoint before is kept; take a smaller --lr (and a smaller --strength)")
        })?;
        let training = Training {
            config: trainer.config().clone(),
            augment: self.augment,
            images: self.train.dataset().len(),
            fingerprint: self.fingerprint,
            step: trainer.steps(),
            momentum: block_on(trainer.momentum())?,
        };
        let checkpoint = Checkpoint {
            model,
            provenance: self.provenance.clone(),
            clusters: self.clusters.clone(),
            training: Some(training),
        };
        crate::files::write(&self.path, &checkpoint.to_bytes()?)?;
        Ok(checkpoint.model)
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

/// What must be as it was for a run to go on.
pub(crate) struct Identity<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) config: &'a TrainConfig,
    pub(crate) augment: Augment,
    /// How many training images there are, and their fingerprint.
    pub(crate) images: usize,
    pub(crate) fingerprint: u64,
    pub(crate) provenance: &'a Provenance,
}

/// Takes the training state out of `checkpoint`, which is read from `path`, after checking that it is of the same run.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] naming the option that differs.
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
    let (then, config) = (&training.config, now.config);
    let show = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let strength = |config: &TrainConfig| config.centripetal.as_ref().map(|c| c.strength);
    let clusters = |config: &TrainConfig| config.centripetal.as_ref().map(|c| c.clusters.clone());
    let options = [
        ("--seed", show(&checkpoint.provenance.seed), show(&now.provenance.seed)),
        ("--data", show(&checkpoint.provenance.data), show(&now.provenance.data)),
        ("training images (--data, --train-limit)", show(&training.images), show(&now.images)),
        ("--batch", show(&then.batch), show(&config.batch)),
        ("--lr", show(&then.schedule.base_lr), show(&config.schedule.base_lr)),
        (
            "steps (--epochs, --batch and --train-limit)",
            show(&then.schedule.total_steps),
            show(&config.schedule.total_steps),
        ),
        ("--warmup", show(&then.schedule.warmup_steps), show(&config.schedule.warmup_steps)),
        ("--schedule", show(&then.schedule.decay), show(&config.schedule.decay)),
        ("--momentum", show(&then.sgd.momentum), show(&config.sgd.momentum)),
        ("--nesterov", show(&then.sgd.direction), show(&config.sgd.direction)),
        ("--weight-decay", show(&then.sgd.weight_decay), show(&config.sgd.weight_decay)),
        ("--decay-all", show(&then.sgd.decay), show(&config.sgd.decay)),
        ("--augment", show(&training.augment), show(&now.augment)),
        ("--strength", show(&strength(then)), show(&strength(config))),
    ];
    let differs = |what: &str, then: &str, now: &str| {
        Err(error()
            .expected(format!("{what} as in the run so far, {then}"))
            .found(now)
            .next("Give the same options as before, or begin anew with --force or another --out"))
    };
    if checkpoint.model.graph != *now.graph {
        return differs("the network", &summary(&checkpoint.model.graph), &summary(now.graph));
    }
    for (what, then, now) in &options {
        if then != now {
            return differs(what, then, now);
        }
    }
    if training.fingerprint != now.fingerprint {
        return differs("the training images", "those of other data", "these");
    }
    if checkpoint.provenance.normalization != now.provenance.normalization {
        return differs("the normalisation of images", "that of other data", "that of these");
    }
    if clusters(then) != clusters(config) {
        return differs(
            "clusters (FILE, --keep, --clustering, --pace, --freeze)",
            "those in the file",
            "other ones",
        );
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
    fn the_forecast_deviation_is_the_square_between_its_points() {
        let forecast = Forecast {
            log_shrink: -4.0,
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
