//! The session: device, data, networks. Every method is one message of the worker.

use std::sync::Arc;

use centripetal::data::{
    Augment, Batch, Dataset, InMemory, Loader, Normalization, Source, Subset, files, normalized,
};
use centripetal::device::{Device, DeviceKind, Tuning};
use centripetal::formats::{Checkpoint, Provenance, Stage};
use centripetal::graph::{Coupling, Graph};
use centripetal::model::{Model, TensorData, Tensors};
use centripetal::models::{self, ModelConfig};
use centripetal::plan::{Mode, Plan};
use centripetal::prune::surgery::{self, Operation, Rest};
use centripetal::prune::{Clusters, Comparison, Pace, certificate, certify, criteria};
use centripetal::sort;
use centripetal::train::{
    Answers, Centripetal, Classifier, Evaluation, Snapshot, TrainConfig, Trainer, check_data, evaluate,
};
use centripetal::{Error, ErrorKind, Result, Shape};
use serde_json::Value;
use wasm_bindgen::prelude::*;

use std::future::Future;
use std::pin::Pin;

use crate::device;
use crate::fault::{self, Outcome};
use crate::js::{self, clock, record};
use crate::network;
use crate::progress::Outlook;
use crate::settings::Settings;

/// Images in a batch of an evaluation.
const TEST_BATCH: usize = 100;

/// Test images of a validation during training.
const VALIDATION: usize = 256;

/// Images of a measurement of kernels: enough to tell them apart, and soon done on a software adapter.
const TUNING_BATCH: usize = 8;

/// Which network trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Base,
    Centripetal,
    Cut,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Base => "base",
            Phase::Centripetal => "centripetal",
            Phase::Cut => "cut",
        }
    }
}

/// Data, with the loaders that do not change.
#[derive(Clone)]
struct Data {
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
}

impl Data {
    fn describe(&self) -> Value {
        record! {
            "name": self.train.name(),
            "shape": self.train.shape(),
            "classes": self.train.classes(),
            "train": self.train.len(),
            "test": self.test.len(),
        }
    }

    fn test_loader(&self) -> Result<Loader> {
        Loader::evaluation(Arc::clone(&self.test), TEST_BATCH.min(self.test.len()))
    }

    fn validation_loader(&self) -> Result<Loader> {
        let count = VALIDATION.min(self.test.len());
        let part = Subset::first(Arc::clone(&self.test), count)?;
        Loader::evaluation(Arc::new(part), TEST_BATCH.min(count))
    }

    /// An image in 0..1, normalised as the network wants it.
    fn normalise(&self, pixels: &[f32]) -> Vec<f32> {
        let Normalization { mean, std } = self.train.normalization();
        let plane = pixels.len() / mean.len().max(1);
        let planes = pixels.chunks(plane.max(1)).zip(mean).zip(std);
        planes.flat_map(|((plane, mean), std)| plane.iter().map(move |x| (x - mean) / std)).collect()
    }
}

/// The networks that a run has left behind.
#[derive(Default)]
struct Kept {
    base: Option<Model>,
    wide: Option<Model>,
    slim: Option<Model>,
    l1: Option<Model>,
    clusters: Option<Clusters>,
}

/// A network in training.
struct Run {
    settings: Settings,
    data: Data,
    phase: Phase,
    trainer: Trainer,
    loader: Loader,
    batch: Batch,
    /// Steps of the phases before.
    before: u64,
    outlook: Option<Outlook>,
    kept: Kept,
    /// Sums of squares of weights and variances, and sums of variances for means, when the phase began, by name: what
    /// deviations are measured by.
    sizes: Vec<(String, f64)>,
    /// The last state known to be good.
    good: (Snapshot, Option<Outlook>),
    classifiers: Vec<(&'static str, Classifier)>,
}

/// A training session on one device.
#[wasm_bindgen]
pub struct Session {
    device: Arc<Device>,
    data: Option<Data>,
    run: Option<Run>,
    autotune: bool,
}

/// A future behind a pointer. The code of one that several methods wait for would be in the module once for each of them.
type Waiting<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

fn evaluated<'a>(
    device: &'a Device,
    model: &'a Model,
    loader: &'a Loader,
    answers: Answers,
) -> Waiting<'a, Evaluation> {
    Box::pin(evaluate(device, model, loader, answers))
}

fn snapshot(trainer: &Trainer) -> Waiting<'_, Snapshot> {
    Box::pin(trainer.snapshot())
}

fn no(what: &str, next: &str) -> Error {
    Error::new(ErrorKind::Argument, what).expected("a network").found("none yet").next(next)
}

#[wasm_bindgen]
impl Session {
    /// Opens `auto`, `gpu` or `cpu`.
    pub async fn open(choice: String) -> Outcome<Session> {
        let device = Arc::new(device::open(&choice).await?);
        Ok(Session { device, data: None, run: None, autotune: false })
    }

    /// The device as the interface `DeviceInfo`.
    pub fn device(&self) -> JsValue {
        let info = self.device.info();
        js::plain(&record! {
            "kind": match info.kind {
                DeviceKind::Cpu => "cpu",
                DeviceKind::Gpu => "gpu",
                DeviceKind::SoftwareGpu => "software-gpu",
            },
            "name": info.name.as_str(),
            "backend": info.backend.as_str(),
            "driver": info.driver.as_str(),
            "reason": info.reason.as_str(),
            "limits": js::object_of(&mut self.device.limits().iter().map(|&(name, limit)| (name, Value::from(limit))).collect::<Vec<_>>()),
        })
    }

    /// From now on a network that begins has its kernels' variants measured on this device, but for those in `table`: what
    /// [`Session::tuning`] gave on the same adapter before.
    pub fn autotune(&mut self, table: String) {
        self.autotune = true;
        if let Ok(table) = Tuning::from_json(&table) {
            // The error says that it was measured elsewhere: then it is measured anew.
            let _ = self.device.set_tuning(table);
        }
    }

    /// The variants measured so far, as text.
    pub fn tuning(&self) -> String {
        self.device.tuning().to_json()
    }

    /// Takes files that a visitor picked: `bytes` are `Uint8Array`s in the order of `names`.
    #[wasm_bindgen(js_name = useFiles)]
    pub fn use_files(&mut self, names: Vec<String>, bytes: Vec<js_sys::Uint8Array>) -> Outcome<JsValue> {
        let bytes: Vec<Vec<u8>> = bytes.iter().map(js_sys::Uint8Array::to_vec).collect();
        let sources: Vec<Source<'_>> =
            names.iter().zip(&bytes).map(|(name, bytes)| Source { name, bytes }).collect();
        let files::Splits { train, test } = files::open(&sources)?;
        Ok(self.take(Data { train, test }))
    }

    /// Takes images that the browser decoded: planes of `side` x `side` bytes, a label each. `split` is the number of
    /// images at the end that are for testing; 0 holds a sixth out.
    #[wasm_bindgen(js_name = useImages)]
    pub fn use_images(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        classes: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<u32>,
        split: usize,
    ) -> Outcome<JsValue> {
        let &[c, h, w] = shape.as_slice() else {
            return Err(Error::new(ErrorKind::Shape, "reading images").expected("C, H and W").into());
        };
        let plain = Normalization { mean: vec![0.0; c], std: vec![1.0; c] };
        let whole = InMemory::new(name, [c, h, w], classes, pixels, labels, plain)?;
        let measured = Normalization::measure(&whole, 5000)?;
        let whole = whole.with_normalization(measured)?;
        let splits = if split == 0 || split >= whole.len() {
            files::split(whole)?
        } else {
            let first = whole.len() - split;
            let indices: Vec<usize> = (first..whole.len()).collect();
            let whole: Arc<dyn Dataset> = Arc::new(whole);
            let train = Arc::new(Subset::first(Arc::clone(&whole), first)?);
            files::Splits { train, test: Arc::new(Subset::new(whole, indices)?) }
        };
        Ok(self.take(Data { train: splits.train, test: splits.test }))
    }

    fn take(&mut self, data: Data) -> JsValue {
        let described = data.describe();
        self.data = Some(data);
        js::plain(&described)
    }

    /// A random base network by `settings` (JSON). Whatever was there stays if this fails.
    pub async fn reset(&mut self, settings: String) -> Outcome<JsValue> {
        let settings = Settings::read(&settings, None)?;
        let data = self.data()?;
        let [c, h, w] = data.train.shape();
        let config = ModelConfig {
            width: settings.width,
            ..ModelConfig::new(Shape::new(c, h, w), data.train.classes().len())
        };
        let graph = models::build(&settings.model, &config)?;
        let model = Model::random(graph, settings.seed);
        let run = self.begin(settings, data, Phase::Base, model, Kept::default()).await?;
        let described = network::describe(&run.good.0.model.graph, None)?;
        self.run = Some(run);
        Ok(js::plain(&described))
    }

    /// Changes settings (JSON of some of them) of a run under way; says which hold at once.
    pub fn set(&mut self, changes: String) -> Outcome<JsValue> {
        let run = run_of(&mut self.run, "changing settings")?;
        let settings = Settings::read(&changes, Some(&run.settings))?;
        let given: Value = serde_json::from_str(&changes).unwrap_or_default();
        let (mut applied, mut on_reset) = (Vec::new(), Vec::new());
        for name in given.as_object().into_iter().flat_map(|given| given.keys()) {
            let live = match name.as_str() {
                "lr" => true,
                "strength" | "collapseSteps" => run.phase != Phase::Cut,
                "keep" | "clustering" => run.phase == Phase::Base,
                _ => false,
            };
            if live { applied.push(name.clone()) } else { on_reset.push(name.clone()) }
        }
        let mut next = run.settings.clone();
        next.lr = settings.lr;
        if run.phase != Phase::Cut {
            (next.strength, next.collapse_steps) = (settings.strength, settings.collapse_steps);
        }
        if run.phase == Phase::Base {
            (next.keep, next.clustering) = (settings.keep, settings.clustering);
        }
        let mut result = record! { "applied": applied, "onReset": on_reset };
        if let Some(outlook) = &run.outlook {
            let current = run.trainer.config().centripetal.as_ref().map(|c| c.strength);
            let strength = outlook.strength(&next, current)?;
            result["forecast"] = outlook.forecast(&next, strength)?;
            run.trainer.set_strength(strength)?;
        } else if run.phase == Phase::Base {
            // What would come of it. Where no strength suffices, the forecast says how long it would take.
            let outlook = Outlook::new(&next, &run.good.0.model.graph);
            result["forecast"] = outlook.forecast(&next, outlook.strength(&next, None).unwrap_or(0.0))?;
        }
        run.trainer.set_schedule(next.schedule())?;
        run.settings = next;
        Ok(js::plain(&result))
    }

    /// Submits up to `steps` steps, and says how many: in C-SGD no more than are left.
    pub fn steps(&mut self, steps: u32) -> Outcome<u32> {
        let run = run_of(&mut self.run, "training")?;
        let mut done = 0;
        while done < steps && !run.is_collapsed() {
            run.step()?;
            done += 1;
        }
        Ok(done)
    }

    /// What happened since the last look, with one wait: the interface `Progress` without its rates.
    pub async fn look(&mut self) -> Outcome<JsValue> {
        let run = run_of(&mut self.run, "training")?;
        let (metrics, deviation) = run.trainer.look().await?;
        if metrics.bad_step > 0 {
            let error = run.diagnose(metrics.bad_step).await?;
            self.restore().await?;
            return Err(error.into());
        }
        let seen = metrics.samples.max(1) as f64;
        let centripetal = run.trainer.config().centripetal.as_ref();
        let step = run.before + run.trainer.steps();
        Ok(js::plain(&record! {
            "phase": run.phase.name(),
            "step": step,
            "epoch": step as f64 / run.loader.batches_per_epoch() as f64,
            "loss": metrics.loss_sum / seen,
            "accuracy": metrics.correct as f64 / seen,
            "images": metrics.samples,
            "lr": run.settings.lr,
            "strength": centripetal.map(|c| c.strength),
            "deviation": centripetal.map(|_| total(&deviation)),
            "apart": centripetal.map(|_| run.apart(&deviation)),
            "forecast": run.outlook.as_ref().map(Outlook::log),
            "collapsed": run.is_collapsed(),
        }))
    }

    /// Notes the present state as the one to go back to.
    pub async fn keep(&mut self) -> Outcome<()> {
        let run = run_of(&mut self.run, "training")?;
        run.good = (snapshot(&run.trainer).await?, run.outlook.clone());
        Ok(())
    }

    /// Accuracy on a part of the test images.
    pub async fn validate(&mut self) -> Outcome<f64> {
        let run = run_of(&mut self.run, "validating")?;
        let loader = run.data.validation_loader()?;
        Ok(run.trainer.evaluate(&loader).await?.accuracy())
    }

    /// Goes back to the last good state on this device.
    pub async fn restore(&mut self) -> Outcome<()> {
        if let Some(run) = &mut self.run {
            let rebuilt: Waiting<'_, ()> = Box::pin(run.rebuild(&self.device));
            rebuilt.await?;
        }
        Ok(())
    }

    /// Opens a new device and goes on there from the last good state.
    pub async fn recover(&mut self, choice: String) -> Outcome<JsValue> {
        let device = Arc::new(device::open(&choice).await?);
        if let Some(run) = &mut self.run {
            let rebuilt: Waiting<'_, ()> = Box::pin(run.rebuild(&device));
            rebuilt.await?;
        }
        self.device = device;
        Ok(self.device())
    }

    /// The error for which the device can no longer be used, if there is one.
    pub fn fault(&self) -> JsValue {
        self.device.fault().map_or(JsValue::UNDEFINED, |error| js::plain(&fault::to_json(&error)))
    }

    /// Destroys the device, as a driver's reset would.
    #[wasm_bindgen(js_name = loseDevice)]
    pub fn lose_device(&self) {
        self.device.destroy();
    }

    /// Clusters the filters and begins C-SGD.
    pub async fn cluster(&mut self) -> Outcome<JsValue> {
        let run = run_of(&mut self.run, "clustering")?;
        if run.phase != Phase::Base {
            return Err(wrong_phase("clustering the filters", "a base network", run.phase).into());
        }
        let base = snapshot(&run.trainer).await?.model;
        let settings = run.settings.clone();
        let coupling = Coupling::derive(&base.graph, &[])?;
        let clusters = Clusters::find(&base, &coupling, &settings.cluster_plan()?)?;
        if clusters.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "clustering the filters")
                .expected("at least one layer that becomes narrower")
                .found(format!("none, with keep {}", settings.keep))
                .next("Keep less")
                .into());
        }
        let outlook = Outlook::new(&settings, &base.graph);
        let strength = outlook.strength(&settings, None)?;
        let mut result = record! {
            "forecast": outlook.forecast(&settings, strength)?,
            "network": network::describe(&base.graph, Some(&clusters))?,
            "widths": network::widths(&base, &clusters),
        };
        let kept = Kept { base: Some(base.clone()), clusters: Some(clusters), ..Kept::default() };
        let (data, before) = (run.data.clone(), run.before + run.trainer.steps());
        let mut next = self.begin(settings, data, Phase::Centripetal, base, kept).await?;
        next.before = before;
        next.measure(&mut result).await?;
        self.run = Some(next);
        Ok(js::plain(&result))
    }

    /// The filters of `layers` as they are now, by one read-back: a list of the interface `FilterView`.
    pub async fn filters(&mut self, layers: Vec<String>) -> Outcome<JsValue> {
        let run = run_of(&mut self.run, "showing filters")?;
        let names: Vec<String> =
            layers.iter().flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = run.trainer.read(&names).await?;
        let views: Result<Vec<JsValue>> = layers.iter().map(|layer| run.view(layer, &found)).collect();
        Ok(js::list(views?))
    }

    /// Cuts, and certifies what the cut changed. The slim network is then the one that trains.
    pub async fn cut(&mut self) -> Outcome<JsValue> {
        let device = Arc::clone(&self.device);
        let run = run_of(&mut self.run, "cutting")?;
        let Some(clusters) = run.kept.clusters.clone().filter(|_| run.phase == Phase::Centripetal) else {
            return Err(wrong_phase("cutting", "a network that was clustered", run.phase).into());
        };
        let wide = snapshot(&run.trainer).await?.model;
        let operation = Operation::new(&wide, &clusters, Rest::Leave)?;
        let loader = run.data.test_loader()?;
        let base = match &run.kept.base {
            Some(base) => evaluated(&device, base, &loader, Answers::Discard).await?.accuracy(),
            None => f64::NAN,
        };
        let certificate = certify(&device, operation.stages(&wide), &clusters, &loader, &clock).await?;
        let slim = operation.slim;
        let (cut, merged) = (&certificate.cut, certificate.statistics.as_ref());
        let whole = |name: fn(&Comparison) -> f64| merged.map_or(0.0, name).max(name(cut));
        let result = record! {
            "certificate": record! {
                "samples": cut.samples,
                "baseAccuracy": base,
                "wideAccuracy": merged.unwrap_or(cut).accuracy_before,
                "slimAccuracy": cut.accuracy_after,
                "argmaxAgreement": cut.argmax_agreement.min(merged.map_or(u64::MAX, |step| step.argmax_agreement)),
                "maxAbsLogitDiff": whole(|step| step.max_abs_logit_diff),
                "maxRelLogitDiff": whole(|step| step.max_rel_logit_diff),
                "macsBefore": certificate.macs_before,
                "macsAfter": certificate.macs_after,
                "paramsBefore": certificate.params_before,
                "paramsAfter": certificate.params_after,
                "bytesBefore": certificate.bytes_before,
                "bytesAfter": certificate.bytes_after,
                "latencyBeforeMs": certificate.latency_before_ms,
                "latencyAfterMs": certificate.latency_after_ms,
                "lossless": certificate.is_lossless(),
                "layers": js::camel_case(serde_json::to_value(&certificate.layers).unwrap_or_default()),
            },
            "network": network::describe(&slim.graph, None)?,
        };
        let kept = Kept {
            base: run.kept.base.clone(),
            wide: Some(wide),
            slim: Some(slim.clone()),
            l1: run.kept.l1.clone(),
            clusters: Some(clusters),
        };
        let (settings, data) = (run.settings.clone(), run.data.clone());
        let before = run.before + run.trainer.steps();
        let mut next = self.begin(settings, data, Phase::Cut, slim, kept).await?;
        next.before = before;
        self.run = Some(next);
        Ok(js::plain(&result))
    }

    /// Cuts the base network to the same widths by the L1 norm of its filters, and compares it with the base.
    #[wasm_bindgen(js_name = compareL1)]
    pub async fn compare_l1(&mut self) -> Outcome<JsValue> {
        let device = Arc::clone(&self.device);
        let run = run_of(&mut self.run, "comparing with the L1 norm")?;
        let (Some(base), Some(clusters)) = (&run.kept.base, &run.kept.clusters) else {
            return Err(
                wrong_phase("comparing with the L1 norm", "a network that was clustered", run.phase).into()
            );
        };
        let coupling = Coupling::derive(&base.graph, &[])?;
        let selection = criteria::largest_l1(base, &coupling, clusters, Pace::Pacesetter)?;
        let cut = surgery::delete(base, &selection)?;
        let loader = run.data.test_loader()?;
        let before = evaluated(&device, base, &loader, Answers::Keep).await?;
        let after = evaluated(&device, &cut, &loader, Answers::Keep).await?;
        let compared = certificate::compare(&before, &after);
        let result = record! {
            "comparison": record! {
                "method": "l1",
                "samples": compared.samples,
                "baseAccuracy": compared.accuracy_before,
                "accuracy": compared.accuracy_after,
                "argmaxAgreement": compared.argmax_agreement,
                "maxAbsLogitDiff": compared.max_abs_logit_diff,
                "macsAfter": cut.graph.macs()?,
                "widths": network::widths(base, clusters),
            },
            "network": network::describe(&cut.graph, None)?,
        };
        run.kept.l1 = Some(cut);
        run.classifiers.retain(|(name, _)| *name != "l1");
        Ok(js::plain(&result))
    }

    /// What every network that exists says of an image, pixels in 0..1: `{ network, logits, probabilities, milliseconds }`.
    pub async fn classify(&mut self, pixels: Vec<f32>) -> Outcome<JsValue> {
        let device = Arc::clone(&self.device);
        let run = run_of(&mut self.run, "classifying an image")?;
        let image = run.data.normalise(&pixels);
        let current = if run.phase == Phase::Cut { "slim" } else { "wide" };
        let mut answers = Vec::new();
        for name in ["wide", "slim", "l1"] {
            let kept = match name {
                "wide" => &run.kept.wide,
                "slim" => &run.kept.slim,
                _ => &run.kept.l1,
            };
            if name != current
                && !run.classifiers.iter().any(|(known, _)| *known == name)
                && let Some(model) = kept
            {
                run.classifiers.push((name, Classifier::new(Arc::clone(&device), model)?));
            }
            let started = clock();
            let logits = if name == current {
                run.trainer.answer(&image).await?
            } else if let Some((_, classifier)) = run.classifiers.iter().find(|(known, _)| *known == name) {
                classifier.answer(&image).await?
            } else {
                continue;
            };
            let plain = record! { "network": name, "milliseconds": (clock() - started) * 1e3 };
            let probabilities = softmax(&logits);
            let entries = [("logits", js::floats(&logits)), ("probabilities", js::floats(&probabilities))];
            answers.push(js::object(&plain, entries));
        }
        Ok(js::list(answers))
    }

    /// Test image `index`: `{ pixels, label }`, pixels in 0..1.
    #[wasm_bindgen(js_name = testImage)]
    pub fn test_image(&self, index: usize) -> Outcome<JsValue> {
        let test = self.data()?.test;
        if index >= test.len() {
            return Err(Error::new(ErrorKind::Argument, "showing a test image")
                .expected(format!("a number below {}", test.len()))
                .found(index)
                .into());
        }
        let mut bytes = vec![0; test.shape().iter().product()];
        test.image(index, &mut bytes)?;
        let pixels: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        Ok(js::object(&record! { "label": test.label(index) }, [("pixels", js::floats(&pixels))]))
    }

    /// Accuracy and loss of the current network on all test images.
    pub async fn evaluate(&mut self) -> Outcome<JsValue> {
        let run = run_of(&mut self.run, "evaluating")?;
        let loader = run.data.test_loader()?;
        let evaluation = run.trainer.evaluate(&loader).await?;
        Ok(js::plain(&record! {
            "accuracy": evaluation.accuracy(),
            "loss": evaluation.loss,
            "samples": evaluation.samples,
        }))
    }

    /// The checkpoint of `base`, `wide` or `slim` as bytes of a file.
    pub async fn save(&mut self, which: String) -> Outcome<Vec<u8>> {
        let run = run_of(&mut self.run, "saving")?;
        let (stage, phase, kept) = match which.as_str() {
            "base" => (Stage::Base, Phase::Base, &run.kept.base),
            "wide" => (Stage::Wide, Phase::Centripetal, &run.kept.wide),
            "slim" => (Stage::Slim, Phase::Cut, &run.kept.slim),
            _ => {
                return Err(Error::new(ErrorKind::Argument, "saving")
                    .expected("base, wide or slim")
                    .found(which)
                    .into());
            }
        };
        let model = if run.phase == phase { Some(snapshot(&run.trainer).await?.model) } else { kept.clone() };
        let Some(model) = model else {
            return Err(Error::new(ErrorKind::Argument, format!("saving the {which} network"))
                .expected("one that exists")
                .found(format!("a run in the phase {}", run.phase.name()))
                .into());
        };
        let provenance = Provenance {
            stage,
            seed: run.settings.seed,
            classes: run.data.train.classes().to_vec(),
            normalization: Some(run.data.train.normalization().clone()),
            data: run.data.train.name().to_owned(),
        };
        let clusters = run.kept.clusters.clone().filter(|_| stage == Stage::Wide);
        let checkpoint = Checkpoint { model, provenance, clusters, training: None };
        Ok(checkpoint.to_bytes()?)
    }

    /// Makes the network of a checkpoint the current one, with `settings` (JSON) for its training.
    pub async fn load(&mut self, name: String, bytes: Vec<u8>, settings: String) -> Outcome<JsValue> {
        let settings = Settings::read(&settings, None)?;
        let checkpoint = Checkpoint::from_bytes(&name, &bytes)?;
        let mut data = self.data()?;
        let Checkpoint { model, provenance, clusters, .. } = checkpoint;
        check_data(data.train.as_ref(), model.graph.input, model.graph.classes()?)?;
        if let Some(normalization) = &provenance.normalization {
            data.train = normalized(data.train, normalization)?;
            data.test = normalized(data.test, normalization)?;
        }
        let seed = provenance.seed;
        let width = zoo_width(&model.graph);
        let name = model.graph.name.clone();
        let settings = Settings { model: name, seed, width: width.unwrap_or(settings.width), ..settings };
        let (phase, kept) = match (provenance.stage, clusters) {
            (Stage::Wide, Some(clusters)) => {
                (Phase::Centripetal, Kept { clusters: Some(clusters), ..Kept::default() })
            }
            (Stage::Slim, _) => (Phase::Cut, Kept { slim: Some(model.clone()), ..Kept::default() }),
            _ => (Phase::Base, Kept::default()),
        };
        let mut shown = record! { "model": settings.model.as_str(), "seed": seed, "batch": settings.batch };
        if let Some(width) = width {
            shown["width"] = width.into();
        }
        let mut result = record! {
            "network": network::describe(&model.graph, kept.clusters.as_ref())?,
            "phase": phase.name(),
            "settings": shown,
        };
        if let Some(clusters) = &kept.clusters {
            result["widths"] = network::widths(&model, clusters);
        }
        let run = self.begin(settings, data, phase, model, kept).await?;
        if let (Some(outlook), Some(centripetal)) = (&run.outlook, &run.trainer.config().centripetal) {
            result["forecast"] = outlook.forecast(&run.settings, centripetal.strength)?;
            run.measure(&mut result).await?;
        }
        self.run = Some(run);
        Ok(js::plain(&result))
    }
}

impl Session {
    fn data(&self) -> Result<Data> {
        self.data.clone().ok_or_else(|| {
            Error::new(ErrorKind::Data, "making a network")
                .expected("images to learn from")
                .found("none")
                .next("Take the data that comes with the page, or pick files")
        })
    }

    fn begin(
        &self,
        settings: Settings,
        data: Data,
        phase: Phase,
        model: Model,
        kept: Kept,
    ) -> Waiting<'_, Run> {
        Box::pin(self.begin_now(settings, data, phase, model, kept))
    }

    async fn begin_now(
        &self,
        settings: Settings,
        data: Data,
        phase: Phase,
        model: Model,
        kept: Kept,
    ) -> Result<Run> {
        let loader = Loader::training(Arc::clone(&data.train), settings.batch, settings.seed, Augment::NONE)?;
        let outlook = (phase == Phase::Centripetal).then(|| Outlook::new(&settings, &model.graph));
        let clusters = kept.clusters.as_ref().filter(|_| phase == Phase::Centripetal);
        let centripetal = match (&outlook, clusters) {
            (Some(outlook), Some(clusters)) => {
                let strength = outlook.strength(&settings, None)?;
                Some(Centripetal { clusters: clusters.clone(), strength })
            }
            _ => None,
        };
        let config = TrainConfig {
            batch: settings.batch,
            schedule: settings.schedule(),
            sgd: settings.sgd(),
            centripetal,
            sparsity: None,
        };
        if self.autotune {
            for mode in [Mode::Train, Mode::Evaluate] {
                Plan::tune(&self.device, &model.graph, TUNING_BATCH.min(settings.batch), mode, &clock)
                    .await?;
            }
        }
        let mut trainer = Trainer::new(Arc::clone(&self.device), model, config)?;
        // A first evaluation compiles what evaluates, and shows at once what the device cannot do.
        trainer.evaluate(&data.validation_loader()?).await?;
        let snapshot = snapshot(&trainer).await?;
        let square = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let size = |(name, tensor): (&String, &TensorData)| {
            // A mean is as far off as it is of its channel's deviation, the root of its variance.
            if let Some(norm) = name.strip_suffix(".running_mean") {
                let variances = snapshot.model.tensors.get(&format!("{norm}.running_var"))?;
                return Some((name.clone(), variances.data.iter().map(|&x| f64::from(x)).sum()));
            }
            let is_measured = name.ends_with(".weight") || name.ends_with(".running_var");
            is_measured.then(|| (name.clone(), square(&tensor.data)))
        };
        let sizes = sort::gather(snapshot.model.tensors.iter().filter_map(size));
        Ok(Run {
            sizes,
            settings,
            data,
            phase,
            trainer,
            loader,
            batch: Batch::default(),
            before: 0,
            good: (snapshot, outlook.clone()),
            outlook,
            kept,
            classifiers: Vec::new(),
        })
    }
}

/// The deviation of all tensors together.
fn total(deviation: &[(String, f64)]) -> f64 {
    deviation.iter().map(|(_, chi)| chi).sum()
}

/// The width factor with which the zoo makes `graph`, if it does.
fn zoo_width(graph: &Graph) -> Option<f64> {
    let classes = graph.classes().ok()?;
    let build = |width| {
        models::build(&graph.name, &ModelConfig { width, ..ModelConfig::new(graph.input, classes) }).ok()
    };
    let first = |graph: &Graph| graph.shapes().ok()?.get(1).map(|shape| shape.c as f64);
    let width = first(graph)? / first(&build(1.0)?)?;
    (build(width)? == *graph).then_some(width)
}

fn run_of<'a>(run: &'a mut Option<Run>, doing: &str) -> Result<&'a mut Run> {
    run.as_mut().ok_or_else(|| no(doing, "Make a network first (reset), or load one"))
}

fn wrong_phase(doing: &str, expected: &str, phase: Phase) -> Error {
    let found = match phase {
        Phase::Base => "a base network",
        Phase::Centripetal => "one that is clustered already",
        Phase::Cut => "one that was cut already",
    };
    Error::new(ErrorKind::Argument, doing).expected(expected).found(found)
}

impl Run {
    /// Whether C-SGD has done all of its steps.
    fn is_collapsed(&self) -> bool {
        self.phase == Phase::Centripetal && self.trainer.steps() >= self.settings.collapse_steps
    }

    fn step(&mut self) -> Result<()> {
        let at = self.trainer.steps();
        self.fill(at)?;
        self.trainer.step(&self.batch);
        if let (Some(outlook), Some(centripetal)) = (&mut self.outlook, &self.trainer.config().centripetal) {
            outlook.step(&self.settings, centripetal.strength);
        }
        Ok(())
    }

    /// How far members of clusters are from their means, relative to the size of the tensor: the worst of weights and running
    /// statistics.
    fn apart(&self, deviation: &[(String, f64)]) -> f64 {
        let size_of =
            |name: &String| self.sizes.iter().find(|(known, _)| known == name).map(|(_, size)| *size);
        let relative =
            |(name, chi): &(String, f64)| size_of(name).filter(|&size| size > 0.0).map(|size| chi / size);
        deviation.iter().filter_map(relative).fold(0.0, f64::max).sqrt()
    }

    /// Adds what the clusters differ by now.
    async fn measure(&self, result: &mut Value) -> Result<()> {
        let deviation = self.trainer.deviation().await?;
        result["deviation"] = total(&deviation).into();
        result["apart"] = self.apart(&deviation).into();
        Ok(())
    }

    /// The filters of `layer` among the tensors `found`.
    fn view(&self, layer: &str, found: &Tensors) -> Result<JsValue> {
        let graph = &self.good.0.model.graph;
        let (Some(node), Some(filters)) = (graph.find(layer), found.get(&format!("{layer}.weight"))) else {
            return Err(Error::new(ErrorKind::Argument, "showing filters")
                .expected(format!("a layer of {} with filters", graph.name))
                .found(layer));
        };
        let rows = filters.dims[0];
        let clusters = self.kept.clusters.as_ref().filter(|_| self.phase == Phase::Centripetal);
        let (owner, survivors) = match clusters.and_then(|clusters| clusters.of_node(node)) {
            Some(partition) => (partition.cluster_of(), partition.survivors()),
            None => ((0..rows).collect(), (0..rows).collect()),
        };
        let plain = record! {
            "layer": layer,
            "rows": rows,
            "rowLength": filters.data.len() / rows.max(1),
            "shape": filters.dims.as_slice(),
        };
        let view = js::object(
            &plain,
            [
                ("clusters", js::integers(&owner)),
                ("survivors", js::integers(&survivors)),
                ("weights", js::floats(&filters.data)),
            ],
        );
        if let Some(bias) = found.get(&format!("{layer}.bias")) {
            let _ = js_sys::Reflect::set(&view, &"biases".into(), &js::floats(&bias.data));
        }
        Ok(view)
    }

    fn fill(&mut self, step: u64) -> Result<()> {
        let per_epoch = self.loader.batches_per_epoch() as u64;
        self.loader.fill(step / per_epoch, (step % per_epoch) as usize, &mut self.batch)
    }

    async fn diagnose(&mut self, bad_step: u32) -> Result<Error> {
        self.fill(u64::from(bad_step).saturating_sub(1))?;
        self.trainer.diagnose(bad_step + self.before as u32, &self.batch).await
    }

    /// The trainer of the last good state on `device`.
    async fn rebuild(&mut self, device: &Arc<Device>) -> Result<()> {
        let (snapshot, outlook) = &self.good;
        let mut config = self.trainer.config().clone();
        config.schedule = self.settings.schedule();
        let mut trainer = Trainer::new(Arc::clone(device), snapshot.model.clone(), config)?;
        trainer.resume(&snapshot.momentum, snapshot.step)?;
        device.finish().await?;
        self.trainer = trainer;
        self.outlook.clone_from(outlook);
        self.classifiers.clear();
        Ok(())
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.iter().map(|x| x / sum).collect()
}
