//! The commands, and what several of them need.

mod baseline;
mod compare;
mod demo;
mod devices;
mod eval;
mod export;
mod import;
mod info;
mod prune;
mod report;
mod squeeze;
mod steps;
mod train;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use centripetal::data::{Dataset, Subset, fingerprint, normalized};
use centripetal::device::{Device, DeviceChoice, DeviceInfo, DeviceKind};
use centripetal::formats::Checkpoint;
use centripetal::graph::Graph;
use centripetal::model::Model;
use centripetal::models::{self, NAMES};
use centripetal::plan::Mode;
use centripetal::train::check_answers;
use centripetal::{Error, ErrorKind, Result, Shape};
use pollster::block_on;
use serde_json::{Value, json};

use crate::args::{Autotune, Cli, Command, DataArgs, Variation};
use crate::data::{self, Splits};
use crate::driver_words::hushed;
use crate::pipelines::Pipelines;
use crate::progress::{Console, grouped};
use crate::{command_line, files, tuning};

/// How a command ended.
pub(crate) enum Outcome<T> {
    /// As it should.
    Done(T),
    /// By the user, with a checkpoint written.
    Interrupted,
}

/// Runs the command that was asked for.
///
/// # Errors
/// Those of the command.
pub(crate) fn run(cli: Cli) -> Result<Outcome<()>> {
    let scene = Scene {
        console: Console::new(&cli.common),
        choice: cli.common.device,
        autotune: cli.common.autotune,
        opened: RefCell::default(),
    };
    let outcome = match cli.command {
        None => demo::run(&scene, &crate::args::DemoArgs::default()),
        Some(Command::Demo(args)) => demo::run(&scene, &args),
        Some(Command::Train(args)) => train::run(&scene, &args),
        Some(Command::Prune(args)) => prune::run(&scene, &args),
        Some(Command::Compare(args)) => compare::run(&scene, &args),
        Some(Command::Eval(args)) => eval::run(&scene, &args).map(Outcome::Done),
        Some(Command::Info(args)) => info::run(&scene, &args).map(Outcome::Done),
        Some(Command::Import(args)) => import::run(&scene, &args).map(Outcome::Done),
        Some(Command::Export(args)) => export::run(&scene, &args).map(Outcome::Done),
        Some(Command::Devices) => devices::run(&scene).map(Outcome::Done),
        Some(Command::Report(args)) => report::run(&scene, &args).map(Outcome::Done),
    }?;
    if let Some((device, pipelines)) = scene.opened.take() {
        pipelines.keep(&device);
    }
    Ok(outcome)
}

/// Where a command speaks and computes.
struct Scene {
    console: Console,
    choice: DeviceChoice,
    autotune: Autotune,
    /// The device that was opened last, if what it compiles is kept.
    opened: RefCell<Option<(Arc<Device>, Pipelines)>>,
}

impl Scene {
    /// Opens the device and says which and why.
    fn open_device(&self) -> Result<Arc<Device>> {
        let device = Arc::new(hushed(|| block_on(Device::open(self.choice)))?);
        self.console.device(device.info());
        if self.autotune == Autotune::On {
            tuning::load(&device);
            let pipelines = Pipelines::load(&device);
            self.opened.replace(pipelines.map(|pipelines| (Arc::clone(&device), pipelines)));
        }
        Ok(device)
    }

    /// Measures the kernels that `graph` needs, where that is not done yet and not turned off.
    fn tune(&self, device: &Device, graph: &Graph, batch: usize, mode: Mode) -> Result<()> {
        match self.autotune {
            Autotune::On => tuning::tune(&self.console, device, graph, batch, mode),
            Autotune::Off => Ok(()),
        }
    }

    /// Opens training and test images, limited as asked; `variation` is how those for training will be varied. For a network that exists, named for messages, they must fit
    /// it, and are normalised as it was trained with.
    fn open_data(
        &self,
        args: &DataArgs,
        variation: Variation,
        seed: u64,
        network: Option<(&str, &Checkpoint)>,
    ) -> Result<Splits> {
        let mut splits = data::open(&args.data, variation, seed)?;
        for note in &splits.notes {
            self.console.note(note);
        }
        for warning in warnings(splits.train.as_ref(), splits.test.as_ref()) {
            self.console.warn(&warning);
        }
        if let Some((name, checkpoint)) = network {
            check_fit(&self.console, name, checkpoint, splits.train.as_ref())?;
        }
        let normalization = network.and_then(|(_, checkpoint)| checkpoint.provenance.normalization.as_ref());
        for (side, limit, option) in [
            (&mut splits.train, args.train_limit, "--train-limit"),
            (&mut splits.test, args.test_limit, "--test-limit"),
        ] {
            if let Some(limit) = limit {
                *side = self.first(side, limit, option)?;
            }
            if let Some(normalization) = normalization {
                *side = normalized(Arc::clone(side), normalization)?;
            }
        }
        Ok(splits)
    }

    /// The first `limit` images, with a warning where they come class by class, as those of a folder do, and classes lack.
    fn first(&self, images: &Arc<dyn Dataset>, limit: usize, option: &str) -> Result<Arc<dyn Dataset>> {
        let part = Subset::first(Arc::clone(images), limit)?;
        let mut labels: Vec<u32> = (0..part.len()).map(|index| part.label(index)).collect();
        let (len, classes, sorted) = (labels.len(), part.classes().len(), labels.is_sorted());
        labels.dedup();
        if sorted && labels.len() < classes.min(len) && len < images.len() {
            self.console.warn(&format!(
                "{option} {limit} takes the first images, which come class by class: {} of {classes} classes; raise it",
                labels.len()
            ));
        }
        Ok(Arc::new(part))
    }

    /// As [`Scene::open_data`], but opens the test images alone where they are files of their own.
    fn open_test(
        &self,
        spec: &str,
        limit: Option<usize>,
        seed: u64,
        (name, checkpoint): (&str, &Checkpoint),
    ) -> Result<Arc<dyn Dataset>> {
        let (mut test, notes) = data::open_test(spec, seed)?;
        for note in &notes {
            self.console.note(note);
        }
        check_fit(&self.console, name, checkpoint, test.as_ref())?;
        if let Some(limit) = limit {
            test = self.first(&test, limit, "--test-limit")?;
        }
        match &checkpoint.provenance.normalization {
            Some(normalization) => normalized(test, normalization),
            None => Ok(test),
        }
    }

    /// Tells of an interruption at `step`, with the checkpoint `path` written.
    fn interrupted(&self, path: &Path, step: u64, total: u64, next: &str) -> Result<()> {
        let path = path.display().to_string();
        let text =
            format!("interrupted after step {step} of {total}; {path} is written. To go on:\n  {next}");
        let document = json!({
            "interrupted": true, "step": step, "steps": total, "checkpoint": path, "resume": next,
        });
        self.console.result(&text, &document)
    }
}

/// Images in a batch of an evaluation and of the latency measurement, of `images` in all.
fn test_batch(device: &DeviceInfo, images: usize) -> usize {
    most_tested(device).min(images)
}

/// The same beside training with `batch` images: no more than those, where memory may be short.
fn test_batch_beside(device: &DeviceInfo, images: usize, batch: usize) -> usize {
    test_batch(device, images).min(batch)
}

fn most_tested(device: &DeviceInfo) -> usize {
    match device.kind {
        DeviceKind::Cpu | DeviceKind::SoftwareGpu => MOST_TESTED_ON_CPU,
        DeviceKind::Gpu => 256,
    }
}

/// Images in a batch of an evaluation on a CPU.
const MOST_TESTED_ON_CPU: usize = 32;

/// Checks that the network takes the images of `data` and has a logit for every class; warns of classes of other names.
fn check_fit(console: &Console, name: &str, checkpoint: &Checkpoint, data: &dyn Dataset) -> Result<()> {
    let graph = &checkpoint.model.graph;
    let [c, h, w] = data.shape();
    let doing = || format!("using {name} on {}", data.name());
    let images = Shape::new(c, h, w);
    if graph.input != images {
        return Err(Error::new(ErrorKind::Shape, doing())
            .expected(format!("images of {}, which the network takes", graph.input))
            .found(images)
            .next("Is this the data that the network was trained on?"));
    }
    let (classes, needed) = (graph.classes()?, data.classes().len());
    if classes < needed {
        return Err(Error::new(ErrorKind::Shape, doing())
            .expected(format!("at most {classes} classes, which the network knows"))
            .found(needed)
            .next("Is this the data that the network was trained on?"));
    }
    if classes > needed {
        console.warn(&format!("{name} knows {classes} classes, {} has {needed}", data.name()));
    }
    let known = &checkpoint.provenance.classes;
    if let Some((class, (ours, theirs))) = known
        .iter()
        .zip(data.classes())
        .enumerate()
        .find(|(_, (ours, theirs))| ours != theirs && data::composed(ours) != data::composed(theirs))
    {
        console.warn(&format!(
            "{name} was trained on {}, whose class {class} is {ours:?}; in {} it is {theirs:?}. Answers count as right by \
             number, whatever the names",
            checkpoint.provenance.data,
            data.name()
        ));
    }
    Ok(())
}

/// How many times the images of another class a class may have before it is worth a word.
const IMBALANCE: usize = 10;

/// What is likely to spoil a training on `train` that is tested on `test`: one class alone, classes that one side lacks,
/// classes of very different sizes.
fn warnings(train: &dyn Dataset, test: &dyn Dataset) -> Vec<String> {
    let names = train.classes();
    let count = |data: &dyn Dataset| {
        let mut counts = vec![0usize; names.len()];
        (0..data.len()).for_each(|index| counts[data.label(index) as usize] += 1);
        counts
    };
    let (trained, tested) = (count(train), count(test));
    let mut warnings = Vec::new();
    let there: Vec<usize> = (0..names.len()).filter(|&class| trained[class] > 0).collect();
    if let [class] = there[..] {
        warnings.push(format!(
            "all {} training images are of one class, {}: a network learns nothing from them but to say so",
            grouped(train.len() as u64),
            names[class]
        ));
    }
    for (counts, others, side, other) in
        [(&trained, &tested, "training", "test"), (&tested, &trained, "test", "training")]
    {
        let lacking: Vec<&str> = (0..names.len())
            .filter(|&class| counts[class] == 0 && others[class] > 0)
            .map(|class| names[class].as_str())
            .collect();
        if !lacking.is_empty() {
            warnings.push(format!("{} {other} images but no {side} images", some(&lacking)));
        }
    }
    let by_count = |&class: &usize| trained[class];
    if let (Some(least), Some(most)) =
        (there.iter().copied().min_by_key(by_count), there.iter().copied().max_by_key(by_count))
        && trained[most] >= IMBALANCE * trained[least]
    {
        warnings.push(format!(
            "{} has {} training images and {} has {}, {:.0} to 1: the accuracy of all images says little about small classes; \
             eval states that of each",
            names[most],
            grouped(trained[most] as u64),
            names[least],
            grouped(trained[least] as u64),
            trained[most] as f64 / trained[least] as f64
        ));
    }
    warnings
}

/// The beginning of a sentence about classes of these names.
fn some(names: &[&str]) -> String {
    const NAMED: usize = 5;
    match names {
        [name] => format!("the class {name} has"),
        _ if names.len() <= NAMED => format!("the classes {} have", names.join(", ")),
        _ => format!("{} classes ({}, ...) have", names.len(), names[..NAMED].join(", ")),
    }
}

/// The images of `splits`, whose training images have the fingerprint `training`, as settings: by them a run knows its data
/// again.
fn images_of(splits: &Splits, training: u64) -> Result<[(&'static str, Value); 2]> {
    let tell = |data: &dyn Dataset, fingerprint: u64| {
        json!(format!("{}, {}, checksum {fingerprint:016x}", data.name(), data.len()))
    };
    Ok([
        ("the training images", tell(splits.train.as_ref(), training)),
        ("the test images", tell(splits.test.as_ref(), fingerprint(splits.test.as_ref())?)),
    ])
}

/// A model named on the command line.
enum Named {
    /// An architecture.
    Zoo(String),
    /// A checkpoint.
    File(Box<Checkpoint>),
}

/// Tells a zoo name from a file.
fn named(model: &str) -> Result<Named> {
    if NAMES.contains(&model) {
        return Ok(Named::Zoo(model.to_owned()));
    }
    let path = Path::new(model);
    if !path.exists() {
        return Err(Error::new(ErrorKind::Argument, "choosing a model")
            .expected(format!("{} or the path of a checkpoint", NAMES.join(", ")))
            .found(format!("{model}, which is no file either")));
    }
    files::checkpoint(path).map(|checkpoint| Named::File(Box::new(checkpoint)))
}

/// Builds a zoo model.
fn build(name: &str, input: Shape, classes: usize, width: f64, shortcut: models::Shortcut) -> Result<Graph> {
    let of = |input| {
        models::build(
            name,
            &models::ModelConfig { width, shortcut, ..models::ModelConfig::new(input, classes) },
        )
    };
    of(input).map_err(|error| {
        // Which layer has nothing left to look at says little: how large an image must be can be tried.
        let mut sides = 1..=LARGEST_TRIED;
        match sides.find(|&side| of(Shape::new(input.c, side, side)).is_ok()) {
            Some(side) if error.kind() == ErrorKind::Shape && input.h.min(input.w) < side => {
                Error::new(ErrorKind::Shape, format!("building {name}"))
                    .expected(format!("images of at least {side} x {side} pixels"))
                    .found(format!("{} x {}", input.h, input.w))
                    .next(format!("Images of a folder are resized by --data folder@{side}:DIR"))
            }
            _ => error,
        }
    })
}

/// Refuses a network whose answers are not finite numbers, while `doing` something that would pass it on.
///
/// # Errors
/// Those of [`check_answers`].
fn answers(model: &Model, doing: &str) -> Result<()> {
    block_on(check_answers(&Arc::new(Device::cpu("one image is answered")), model, doing))
}

/// Side of an image to which a network's smallest is looked for.
const LARGEST_TRIED: usize = 512;

/// The names of classes in a line.
fn named_classes(names: &[String]) -> String {
    const NAMED: usize = 10;
    let more = names.len().saturating_sub(NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", names[..names.len().min(NAMED)].join(", "))
}

/// A command that the user can type, for `next` lines.
fn command(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| command_line::quoted(word)).collect();
    format!("centripetal {}", quoted.join(" "))
}
