//! `train`: base training by SGD.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use centripetal::data::{Loader, fingerprint};
use centripetal::formats::{Provenance, Stage};
use centripetal::model::Model;
use centripetal::plan::Mode;
use centripetal::train::TrainConfig;
use centripetal::{Error, ErrorKind, Result, Shape};
use serde_json::{Value, json};

use super::{Named, Outcome, Scene, build, command, images_of, named, prune, squeeze, test_batch_beside};
use crate::args::TrainArgs;
use crate::metrics::{Log, Phase};
use crate::progress::{duration, grouped, percent, scaled, to_json};
use crate::run::{self, Ended, Identity, Run, Start};
use crate::run_folder::{BASE, Leave, REPORT, RunFolder, SLIM, Settings, spare_input};
use crate::{command_line, files};

/// Its name in settings and report.
const COMMAND: &str = "train";

pub(super) fn run(scene: &Scene, args: &TrainArgs) -> Result<Outcome<()>> {
    files::rehearse_kill(&args.run.care);
    let out = folder(args);
    if args.squeeze {
        let Outcome::Done(report) = squeeze::train(scene, args, &out, &command_line::to_resume())? else {
            return Ok(Outcome::Interrupted);
        };
        let slim = out.join(SLIM).display().to_string();
        let text = format!(
            "{}\n{slim} is written. To test it:\n  {}",
            prune::summary(&report),
            command(&["eval", &slim, "--data", &args.data.data]),
        );
        scene.console.result(&text, &report)?;
        return Ok(Outcome::Done(()));
    }
    let Outcome::Done(report) = train(scene, args, &command_line::to_resume())? else {
        return Ok(Outcome::Interrupted);
    };
    let accuracy = percent(report["base_accuracy"].as_f64().unwrap_or(0.0));
    let base = out.join(BASE).display().to_string();
    let text = format!(
        "test accuracy {accuracy} after {} epochs, {}\n{base} is written. To prune it:\n  {}",
        args.recipe.epochs,
        duration(report["seconds"].as_f64().unwrap_or(0.0)),
        command(&["prune", &base, "--data", &args.data.data, "--keep", "5/8"]),
    );
    scene.console.result(&text, &report)?;
    Ok(Outcome::Done(()))
}

/// Trains as `args` say and writes the run's files; `resume` is the command that goes on after an interruption.
pub(super) fn train(scene: &Scene, args: &TrainArgs, resume: &str) -> Result<Outcome<Value>> {
    let console = &scene.console;
    let seed = args.run.seed;
    let named = named(&args.model)?;
    let stored = match &named {
        Named::File(checkpoint) => Some((args.model.as_str(), checkpoint.as_ref())),
        Named::Zoo(_) => None,
    };
    let stored_file = stored.is_some();
    let splits = scene.open_data(&args.data, args.recipe.augment, seed, stored)?;
    let model = model(args, named, splits.train.shape(), splits.train.classes().len())?;
    let augment = args.recipe.augment.augment(splits.train.as_ref())?;
    let train = Arc::new(Loader::training(Arc::clone(&splits.train), args.recipe.batch, seed, augment)?);
    let config = TrainConfig {
        batch: args.recipe.batch,
        schedule: args.recipe.schedule(args.lr, train.batches_per_epoch())?,
        sgd: args.recipe.sgd(),
        centripetal: None,
        sparsity: None,
    };
    let provenance = Provenance {
        stage: Stage::Base,
        seed,
        classes: splits.train.classes().to_vec(),
        normalization: Some(splits.train.normalization().clone()),
        data: splits.train.name().to_owned(),
    };

    let fingerprint = fingerprint(splits.train.as_ref())?;

    let out = folder(args);
    let path = out.join(BASE);
    if stored_file && !args.run.resume {
        spare_input("training from", Path::new(&args.model), &out, false)?;
    }
    let settings = Settings::new(args, &images_of(&splits, fingerprint)?)?;
    let mut folder = RunFolder::take(&out, COMMAND, settings, Leave::from(&args.run), None)?;
    if let Some(report) = folder.ended(console, BASE) {
        return Ok(Outcome::Done(report));
    }
    let resumed = if folder.resumes() && path.exists() {
        let mut checkpoint = files::checkpoint(&path)?;
        let graph = &model.graph;
        let provenance = &provenance;
        let identity = Identity { graph, config: &config, augment, fingerprint, provenance };
        let training = run::resume(&path, &mut checkpoint, &identity)?;
        console.note(&format!(
            "going on with {} after step {} of {}",
            path.display(),
            training.step,
            config.schedule.total_steps
        ));
        Some((checkpoint.model, training))
    } else {
        if args.run.resume {
            console.note(&format!("{} is not there yet: beginning the run", path.display()));
        }
        None
    };
    let device = scene.open_device()?;
    if resumed.is_none() {
        folder.begin(None, &[BASE])?;
    }

    let (macs, parameters) = (model.graph.macs()?, model.graph.parameter_count());
    console.note(&format!(
        "{}: {} MACs an image, {} parameters; {} training images, {} test images",
        model.graph.name,
        scaled(macs),
        grouped(parameters),
        grouped(splits.train.len() as u64),
        grouped(splits.test.len() as u64)
    ));
    let test = Loader::evaluation(
        Arc::clone(&splits.test),
        test_batch_beside(device.info(), splits.test.len(), args.recipe.batch),
    )?;
    let total = config.schedule.total_steps;
    scene.tune(&device, &model.graph, config.batch, Mode::Train)?;
    let step = resumed.as_ref().map_or(0, |(_, training)| training.step);
    let log = Log::open(&out, Phase::Train, step)?;
    let ended = Run {
        console,
        device,
        phase: Phase::Train,
        train,
        test: &test,
        augment,
        fingerprint,
        provenance,
        clusters: None,
        path: path.clone(),
        log,
        collapse: None,
        care: &args.run.care,
        rollbacks: 0,
        restarted_at: None,
    }
    .go(Start::new(model, config), resumed)?;
    let (evaluation, config, device, seconds) = match ended {
        Ended::Interrupted { step } => {
            scene.interrupted(&path, step, total, resume)?;
            return Ok(Outcome::Interrupted);
        }
        Ended::Finished { evaluation, config, device, seconds, .. } => (evaluation, config, device, seconds),
    };
    let report = json!({
        "phase": COMMAND,
        "command": command_line::current(),
        "base_accuracy": evaluation.accuracy(),
        "base_loss": evaluation.loss,
        "samples": evaluation.samples,
        "macs": macs,
        "params": parameters,
        "model": args.model,
        "data": splits.train.name(),
        "classes": splits.train.classes(),
        "epochs": args.recipe.epochs,
        "config": config,
        "augment": augment,
        "seed": seed,
        "seconds": seconds,
        "device": device.info(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    files::write(&out.join(REPORT), to_json(&report)?.as_bytes())?;
    Ok(Outcome::Done(report))
}

/// The network to begin with.
fn model(args: &TrainArgs, named: Named, shape: [usize; 3], data_classes: usize) -> Result<Model> {
    match named {
        Named::File(checkpoint) => {
            if args.width.is_some() || args.classes.is_some() || args.shortcut.is_some() {
                return Err(Error::new(ErrorKind::Argument, format!("beginning with {}", args.model))
                    .expected("a zoo name with --width, --classes or --shortcut")
                    .found("a checkpoint, which has its own"));
            }
            Ok(checkpoint.model)
        }
        Named::Zoo(name) => {
            let classes = args.classes.unwrap_or(data_classes);
            if classes < data_classes {
                return Err(Error::new(ErrorKind::Argument, format!("--classes {classes}"))
                    .expected(format!("at least {data_classes}, which the data has"))
                    .found(classes));
            }
            let [c, h, w] = shape;
            let shortcut = args.shortcut.unwrap_or_default();
            let graph = build(&name, Shape::new(c, h, w), classes, args.width.unwrap_or(1.0), shortcut)?;
            Ok(Model::random(graph, args.run.seed))
        }
    }
}

/// `--out`, or `runs/MODEL-DATA`.
fn folder(args: &TrainArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        let model = Path::new(&args.model).file_stem().unwrap_or_default().to_string_lossy();
        let data = args.data.data.split([':', '@']).next().unwrap_or_default();
        Path::new("runs").join(format!("{model}-{data}"))
    })
}
