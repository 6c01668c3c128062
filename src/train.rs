//! Training and evaluation: one submission a step, nothing read back inside it.

use crate::data::{Batch, Dataset, Loader};
use crate::device::{CommandList, Device, PendingRead};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::graph::Graph;
use crate::model::{Model, Tensors};
use crate::optim::csgd::{self, DeviationMeter, Table};
use crate::optim::norms::{NormMeter, Norms};
use crate::optim::{Schedule, SgdConfig, Sparsity, sgd, sparsity};
use crate::plan::{Arenas, Keep, Metrics, Mode, Plan};
use crate::prune::Clusters;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::sort;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What C-SGD adds to SGD.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Centripetal {
    /// The clusters of every node's channels.
    pub clusters: Clusters,
    /// eps, the centripetal strength.
    pub strength: f64,
}

from_json!(Centripetal { clusters, strength });

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainConfig {
    /// Images in a batch.
    pub batch: usize,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Momentum and weight decay.
    pub sgd: SgdConfig,
    /// Clusters and strength for C-SGD; `None` is plain SGD.
    pub centripetal: Option<Centripetal>,
    /// A penalty that makes filters or gammas small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<Sparsity>,
}

from_json!(TrainConfig { batch, schedule, sgd, centripetal, sparsity });

/// A network being trained on a device.
#[derive(Debug)]
pub struct Trainer {
    device: Arc<Device>,
    graph: Graph,
    config: TrainConfig,
    arenas: Arenas,
    plan: Plan,
    update: CommandList,
    table: Option<Table>,
    /// Rows under a penalty.
    penalised: usize,
    meter: Option<(DeviationMeter, CommandList)>,
    norms: NormMeter,
    evaluation: Option<Plan>,
    answering: Option<Plan>,
    step: u64,
}

/// A training run at one moment: what [`Trainer::new`] and [`Trainer::resume`] need to go on from there.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Graph, parameters and running statistics.
    pub model: Model,
    /// Momentum by parameter name.
    pub momentum: Tensors,
    /// Steps done.
    pub step: u64,
}

impl Trainer {
    /// Puts `model` on `device` and makes everything that a step needs.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] or [`ErrorKind::Numeric`] for a model that is not whole, [`ErrorKind::Argument`] for an
    /// impossible schedule, [`ErrorKind::Device`] when there is no room.
    pub fn new(device: Arc<Device>, model: Model, config: TrainConfig) -> Result<Trainer> {
        model.validate()?;
        config.schedule.validate()?;
        let arenas = Arenas::new(&device, &model.graph, &model.tensors)?;
        // The device has the numbers now.
        let Model { graph, tensors } = model;
        drop(tensors);
        let plan = Plan::compile(&device, &graph, &arenas, config.batch, Mode::Train, Keep::Logits)?;
        let mut table = None;
        let mut meter = None;
        let update = match &config.centripetal {
            None => sgd::dispatch(&config.sgd, &arenas),
            Some(centripetal) => {
                centripetal.clusters.validate(&graph)?;
                let deviation = DeviationMeter::new(&device, &arenas, &centripetal.clusters)?;
                let commands = device.record(deviation.dispatches())?;
                meter = Some((deviation, commands));
                let clusters = table.insert(Table::new(arenas.layout().trained(), &centripetal.clusters));
                csgd::dispatch(&device, &config.sgd, centripetal.strength, clusters, &arenas)?
            }
        };
        let mut update = vec![update];
        let mut penalised = 0;
        if let Some(sparsity) = &config.sparsity {
            if !(sparsity.strength.is_finite() && sparsity.strength >= 0.0) {
                return Err(Error::new(ErrorKind::Argument, "setting the strength of a penalty")
                    .expected("a number of at least 0")
                    .found(sparsity.strength));
            }
            if let Some((dispatch, rows)) = sparsity::dispatch(&device, sparsity, &graph, &arenas)? {
                update.push(dispatch);
                penalised = rows;
            }
        }
        let update = device.record(update)?;
        let norms = NormMeter::new(&device, &arenas)?;
        Ok(Trainer {
            device,
            graph,
            config,
            arenas,
            plan,
            update,
            table,
            penalised,
            meter,
            norms,
            evaluation: None,
            answering: None,
            step: 0,
        })
    }

    /// Goes on from a checkpoint's momentum and step; the model given to [`Trainer::new`] is its model.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when the momentum does not fit.
    pub fn resume(&mut self, momentum: &Tensors, step: u64) -> Result<()> {
        self.arenas.upload_momentum(&self.device, momentum)?;
        self.step = step;
        self.reset_metrics();
        Ok(())
    }

    /// Replaces the learning rate from the next step on; steps go on being counted from the start of the run.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for an impossible schedule; the old one then stays.
    pub fn set_schedule(&mut self, schedule: Schedule) -> Result<()> {
        schedule.validate()?;
        self.config.schedule = schedule;
        Ok(())
    }

    /// Replaces the centripetal strength from the next step on; nothing without clusters.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a strength that is not finite or below 0.
    pub fn set_strength(&mut self, strength: f64) -> Result<()> {
        if !(strength.is_finite() && strength >= 0.0) {
            return Err(Error::new(ErrorKind::Argument, "setting the centripetal strength")
                .expected("a number of at least 0")
                .found(strength));
        }
        if let Some(centripetal) = &mut self.config.centripetal {
            centripetal.strength = strength;
        }
        Ok(())
    }

    /// One step on a whole batch: forward, backward and update in one submission.
    pub fn step(&mut self, batch: &Batch) {
        let lr = self.config.schedule.lr(self.step);
        match (&self.config.centripetal, &self.table) {
            (Some(centripetal), Some(table)) => {
                let params = csgd::params(&self.config.sgd, centripetal.strength, table, &self.arenas, lr);
                self.device.set_params(&mut self.update, 0, &params);
            }
            _ => {
                self.device.set_params(&mut self.update, 0, &sgd::params(&self.config.sgd, &self.arenas, lr))
            }
        }
        if let Some(sparsity) = self.config.sparsity.as_ref().filter(|_| self.penalised > 0) {
            self.device.set_params(&mut self.update, 1, &sparsity::params(sparsity, self.penalised, lr));
        }
        self.plan.load(&self.device, &batch.images, &batch.labels);
        self.device.run(&[self.plan.commands(), &self.update]);
        self.step += 1;
    }

    /// Starts reading the sums since the last reset, and resets them; parse with [`Arenas::parse_metrics`].
    pub fn take_metrics(&mut self) -> PendingRead {
        let pending = self.device.read_later(&self.arenas.metrics().all());
        self.reset_metrics();
        pending
    }

    /// The sums since the last reset, which this is another of.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn metrics(&mut self) -> Result<Metrics> {
        let pending = self.take_metrics();
        Ok(Arenas::parse_metrics(&pending.wait().await?))
    }

    /// [`Trainer::metrics`] and [`Trainer::deviation`] by a single read-back, which can cost a tenth of a second in a browser.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn look(&mut self) -> Result<(Metrics, Vec<(String, f64)>)> {
        let mut slices = vec![self.arenas.metrics().all()];
        if let Some((meter, commands)) = &self.meter {
            self.device.run(&[commands]);
            slices.extend(meter.results());
        }
        let pending = self.device.gather_later(&slices);
        self.reset_metrics();
        let words = pending.wait().await?;
        let (metrics, chi) = words.split_at(slices[0].words());
        let deviation =
            self.meter.as_ref().map_or_else(Vec::new, |(meter, _)| meter.parse(&self.arenas, chi));
        Ok((Arenas::parse_metrics(metrics), deviation))
    }

    /// The run as it is now, with a single wait.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let (tensors, momentum) = self.arenas.download_all(&self.device).await?;
        let model = Model { graph: self.graph.clone(), tensors };
        Ok(Snapshot { model, momentum, step: self.step })
    }

    /// Parameters and running statistics by full name as they are now, with a single wait; names that are not there are
    /// left out.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn read(&self, names: &[&str]) -> Result<Tensors> {
        self.arenas.read(&self.device, names).await
    }

    /// The logits of one image (normalised, C*H*W) by the parameters as they are now. Resets the metrics.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn answer(&mut self, image: &[f32]) -> Result<Vec<f32>> {
        let plan = match self.answering.take() {
            Some(plan) => plan,
            None => Plan::compile(&self.device, &self.graph, &self.arenas, 1, Mode::Evaluate, Keep::Logits)?,
        };
        let logits = run_answer(&self.device, &plan, image).await;
        self.answering = Some(plan);
        self.reset_metrics();
        logits
    }

    fn reset_metrics(&self) {
        self.arenas.reset_metrics(&self.device, self.step as u32);
    }

    /// chi of every tensor: parameters, then running statistics. Empty without clusters.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn deviation(&self) -> Result<Vec<(String, f64)>> {
        let Some((meter, commands)) = &self.meter else { return Ok(Vec::new()) };
        self.device.run(&[commands]);
        meter.read(&self.device, &self.arenas).await
    }

    /// Norms of the last step's gradient, of parameters and momentum.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn norms(&self) -> Result<Norms> {
        self.norms.read(&self.device).await
    }

    /// Accuracy and loss on `loader` with the running statistics. Resets the metrics.
    ///
    /// # Errors
    /// Those of the loader and the device.
    pub async fn evaluate(&mut self, loader: &Loader) -> Result<Evaluation> {
        let plan = match self.evaluation.take() {
            Some(plan) if plan.batch() == loader.batch_size() => plan,
            _ => Plan::compile(
                &self.device,
                &self.graph,
                &self.arenas,
                loader.batch_size(),
                Mode::Evaluate,
                Keep::Logits,
            )?,
        };
        let evaluation = run_evaluation(&self.device, &self.arenas, &plan, loader, None).await;
        self.evaluation = Some(plan);
        self.reset_metrics();
        evaluation
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn model(&self) -> Result<Model> {
        Ok(Model { graph: self.graph.clone(), tensors: self.arenas.download(&self.device).await? })
    }

    /// The momentum as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn momentum(&self) -> Result<Tensors> {
        self.arenas.download_momentum(&self.device).await
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The training plan, for its memory figures.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The error for a step whose loss was not finite: names the layer where NaN or infinity first appears on `batch`.
    /// Since that step the parameters have not moved.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed meanwhile.
    pub async fn diagnose(&self, bad_step: u32, batch: &Batch) -> Result<Error> {
        let error = |layer: String| {
            Error::new(ErrorKind::Numeric, format!("training, step {bad_step}"))
                .expected("a finite loss")
                .found(format!("NaN or infinity, first in {layer}"))
                .next("The last good checkpoint is kept; take a smaller --lr (and a smaller --strength), or check the data")
        };
        let not_finite = |values: &[f32]| values.iter().any(|x| !x.is_finite());
        if not_finite(&batch.images) {
            return Ok(error("the images".into()));
        }
        let tensors = self.arenas.download(&self.device).await?;
        let graph = &self.graph;
        for (_, name, spec) in graph.parameters() {
            if spec.kind.is_trained() && tensors.get(&name).is_some_and(|tensor| not_finite(&tensor.data)) {
                return Ok(error(format!("the parameters {name}")));
            }
        }
        let arenas = Arenas::new(&self.device, graph, &tensors)?;
        let plan =
            Plan::compile(&self.device, graph, &arenas, self.config.batch, Mode::Train, Keep::Everything)?;
        plan.load(&self.device, &batch.images, &batch.labels);
        self.device.run(&[plan.commands()]);
        for (id, node) in graph.nodes.iter().enumerate().skip(1) {
            if let Some(value) = plan.value(id)
                && not_finite(&self.device.read(value).await?)
            {
                return Ok(error(format!("the output of {} ({})", node.name, node.op.type_name())));
            }
        }
        Ok(error("the loss".into()))
    }
}

/// Accuracy and loss over a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Right answers.
    pub correct: u64,
    /// Images.
    pub samples: u64,
    /// All logits, `[samples, classes]`, if they were asked for.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Right answers over images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// This evaluation, unless the loss is NaN or infinite: such a network answers nothing, whatever its accuracy. `doing` is
    /// what was being done, for the error.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`].
    pub fn finite(self, doing: &str) -> Result<Evaluation> {
        if self.loss.is_finite() {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Numeric, doing)
            .expected("a finite loss on the test images")
            .found(self.loss)
            .next("The numbers inside the network are too large. Train it with a smaller learning rate"))
    }
}

/// Refuses a network whose answers to an image of noise, normalised as it should be, are not finite numbers.
///
/// # Errors
/// [`ErrorKind::Numeric`] naming what was being done; those of the model's validation and the device.
pub async fn check_answers(device: &Arc<Device>, model: &Model, doing: &str) -> Result<()> {
    let mut rng = Rng::new(0);
    let image: Vec<f32> = (0..model.graph.input.len()).map(|_| rng.normal()).collect();
    let logits = Classifier::new(Arc::clone(device), model)?.answer(&image).await?;
    if let Some(bad) = logits.iter().find(|x| !x.is_finite()) {
        return Err(Error::new(ErrorKind::Numeric, doing)
            .expected("a network whose answers are finite numbers")
            .found(format!("{bad} for an image of noise"))
            .next("The numbers inside the network are too large. Train it with a smaller learning rate"));
    }
    Ok(())
}

/// What to do with the logits of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Read them all back.
    Keep,
    /// Leave them on the device.
    Discard,
}

/// Evaluates `model` on `device`.
///
/// # Errors
/// Those of the model's validation, the loader and the device.
pub async fn evaluate(
    device: &Device,
    model: &Model,
    loader: &Loader,
    answers: Answers,
) -> Result<Evaluation> {
    let mut logits = Vec::new();
    let keep = &mut |_: &[u32], rows: &[f32]| logits.extend_from_slice(rows);
    let seen: Option<Seen<'_>> = if answers == Answers::Keep { Some(keep) } else { None };
    let evaluation = evaluate_seen(device, model, loader, seen).await?;
    Ok(Evaluation { logits, ..evaluation })
}

/// Evaluates `model` on `device`, and shows `seen` the labels of every batch and their logits, `[labels, classes]`.
///
/// # Errors
/// Those of the model's validation, the loader and the device.
pub async fn evaluate_each(
    device: &Device,
    model: &Model,
    loader: &Loader,
    seen: Seen<'_>,
) -> Result<Evaluation> {
    evaluate_seen(device, model, loader, Some(seen)).await
}

/// Who is shown labels and logits.
pub type Seen<'a> = &'a mut dyn FnMut(&[u32], &[f32]);

async fn evaluate_seen(
    device: &Device,
    model: &Model,
    loader: &Loader,
    seen: Option<Seen<'_>>,
) -> Result<Evaluation> {
    model.validate()?;
    let arenas = Arenas::new(device, &model.graph, &model.tensors)?;
    let plan =
        Plan::compile(device, &model.graph, &arenas, loader.batch_size(), Mode::Evaluate, Keep::Logits)?;
    run_evaluation(device, &arenas, &plan, loader, seen).await
}

/// The class that a network answers by `logits`: the first of the largest, as the loss counts it; `None` where none is a
/// number.
pub fn answered(logits: &[f32]) -> Option<usize> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == largest)
}

/// A network on a device that answers one image at a time.
#[derive(Debug)]
pub struct Classifier {
    device: Arc<Device>,
    plan: Plan,
}

impl Classifier {
    /// Puts `model` on `device`.
    ///
    /// # Errors
    /// Those of the model's validation and the device.
    pub fn new(device: Arc<Device>, model: &Model) -> Result<Classifier> {
        model.validate()?;
        let arenas = Arenas::new(&device, &model.graph, &model.tensors)?;
        let plan = Plan::compile(&device, &model.graph, &arenas, 1, Mode::Evaluate, Keep::Logits)?;
        Ok(Classifier { device, plan })
    }

    /// The logits of one image (normalised, C*H*W).
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device failed.
    pub async fn answer(&self, image: &[f32]) -> Result<Vec<f32>> {
        run_answer(&self.device, &self.plan, image).await
    }
}

async fn run_answer(device: &Device, plan: &Plan, image: &[f32]) -> Result<Vec<f32>> {
    let shape = plan.shapes()[0];
    if image.len() != shape.len() {
        return Err(Error::new(ErrorKind::Shape, "classifying an image")
            .expected(format!("{} numbers, an image of {shape}", shape.len()))
            .found(image.len()));
    }
    plan.load(device, image, &[]);
    device.run(&[plan.commands()]);
    device.read(plan.logits()).await
}

/// For each row of each weight tensor `(gradient . weights)^2`, summed over the first `batches` batches of `loader`: how much the
/// loss would change to first order if the filter went (Molchanov et al., CVPR 2019).
///
/// # Errors
/// Those of the model's validation, the loader and the device.
pub async fn sensitivities(
    device: &Device,
    model: &Model,
    loader: &Loader,
    batches: usize,
) -> Result<BTreeMap<String, Vec<f64>>> {
    model.validate()?;
    check_data(loader.dataset().as_ref(), model.graph.input, model.graph.classes()?)?;
    let arenas = Arenas::new(device, &model.graph, &model.tensors)?;
    let plan = Plan::compile(device, &model.graph, &arenas, loader.batch_size(), Mode::Train, Keep::Logits)?;
    let mut batch = Batch::default();
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for index in 0..batches.min(loader.batches_per_epoch()) {
        loader.fill(0, index, &mut batch)?;
        plan.load(device, &batch.images, &batch.labels);
        device.run(&[plan.commands()]);
        let gradients = arenas.download_gradients(device).await?;
        for (name, gradient) in gradients.iter().filter(|(name, _)| name.ends_with(".weight")) {
            let Some(weights) = model.tensors.get(name) else { continue };
            let rows = weights.dims[0];
            let row_len = weights.data.len() / rows.max(1);
            let sums = sums.entry(name.clone()).or_insert_with(|| vec![0.0; rows]);
            let pairs =
                gradient.data.chunks_exact(row_len.max(1)).zip(weights.data.chunks_exact(row_len.max(1)));
            for (sum, (gradient, weights)) in sums.iter_mut().zip(pairs) {
                let change: f64 =
                    gradient.iter().zip(weights).map(|(g, w)| f64::from(*g) * f64::from(*w)).sum();
                *sum += change.powi(2);
            }
        }
    }
    Ok(sums)
}

/// Refuses data that a network of `classes` logits and images of `input` cannot answer.
///
/// # Errors
/// [`ErrorKind::Shape`] naming both sides.
pub fn check_data(data: &dyn Dataset, input: Shape, classes: usize) -> Result<()> {
    let fail = |expected: String, found: String| {
        Error::new(ErrorKind::Shape, format!("giving {} to the network", data.name()))
            .expected(expected)
            .found(found)
            .next("Is this the data set that the network was made for?")
    };
    let [c, h, w] = data.shape();
    if Shape::new(c, h, w) != input {
        return Err(fail(format!("images of {input}"), format!("{c}x{h}x{w}")));
    }
    if data.classes().len() > classes {
        return Err(fail(format!("at most {classes} classes"), data.classes().len().to_string()));
    }
    Ok(())
}

async fn run_evaluation(
    device: &Device,
    arenas: &Arenas,
    plan: &Plan,
    loader: &Loader,
    mut seen: Option<Seen<'_>>,
) -> Result<Evaluation> {
    check_data(loader.dataset().as_ref(), plan.shapes()[0], plan.classes())?;
    let mut batch = Batch::default();
    let (mut loss, mut correct, mut samples) = (0.0, 0, 0);
    for index in 0..loader.batches_per_epoch() {
        loader.fill(0, index, &mut batch)?;
        arenas.reset_metrics(device, 0);
        plan.load(device, &batch.images, &batch.labels);
        device.run(&[plan.commands()]);
        if let Some(seen) = &mut seen {
            let rows = device.read(plan.logits()).await?;
            seen(&batch.labels[..batch.samples], &rows[..batch.samples * plan.classes()]);
        }
        // Read batch by batch and summed in f64: the mean over a whole data set would round in f32.
        let metrics = Arenas::parse_metrics(&device.read(&arenas.metrics().all()).await?);
        loss += metrics.loss_sum;
        correct += metrics.correct;
        samples += metrics.samples;
    }
    Ok(Evaluation { loss: loss / samples.max(1) as f64, correct, samples, logits: Vec::new() })
}

/// Measures inference: the median seconds of a batch of `batch` images over `runs` runs, by `clock` (seconds).
///
/// # Errors
/// Those of the model's validation and the device.
pub async fn latency(
    device: &Device,
    models: &[&Model],
    batch: &Batch,
    runs: usize,
    clock: &dyn Fn() -> f64,
) -> Result<Vec<f64>> {
    let mut plans = Vec::new();
    for model in models {
        let arenas = Arenas::new(device, &model.graph, &model.tensors)?;
        let size = batch.labels.len();
        let plan = Plan::compile(device, &model.graph, &arenas, size, Mode::Evaluate, Keep::Logits)?;
        plan.load(device, &batch.images, &batch.labels);
        plans.push((arenas, plan, Vec::new()));
    }
    // Interleaved, so that a machine that slows down slows all of them; the first round warms up.
    for run in 0..=runs {
        for (_, plan, times) in &mut plans {
            let start = clock();
            device.run(&[plan.commands()]);
            device.finish().await?;
            if run > 0 {
                times.push(clock() - start);
            }
        }
    }
    let median = |mut times: Vec<f64>| {
        sort::by(&mut times, f64::total_cmp);
        times[times.len() / 2]
    };
    Ok(plans.into_iter().map(|(_, _, times)| median(times)).collect())
}
