//! `prune --method` and `--from-scratch`: what C-SGD is compared with. Filters are chosen and deleted, the network is trained on
//! if that is asked for, and the accuracy is told before and after each.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use centripetal::data::{Augment, Loader, fingerprint};
use centripetal::device::Device;
use centripetal::formats::{Checkpoint, Provenance, Stage};
use centripetal::model::Model;
use centripetal::optim::Sparsity;
use centripetal::plan::Mode;
use centripetal::prune::criteria::{self, Evidence};
use centripetal::prune::{Clustering, Clusters, Stages, certify, surgery};
use centripetal::train::{Answers, Evaluation, TrainConfig, evaluate, sensitivities};
use centripetal::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::{Value, json};

use super::prune::{COMMAND, Paths, Widths, folder, groups, read_base, take, widths, widths_of};
use super::{Outcome, Scene, images_of, test_batch_beside};
use crate::args::{PruneArgs, Strength};
use crate::metrics::{self, Log, Phase};
use crate::progress::{percent, to_json};
use crate::run::{self, Ended, Identity, Run, Start};
use crate::run_folder::{REPORT, SLIM, WIDE};
use crate::{command_line, files};

/// What all trainings of one run share.
struct Setting<'a> {
    scene: &'a Scene,
    args: &'a PruneArgs,
    out: &'a Path,
    train: Arc<Loader>,
    test: &'a Loader,
    augment: Augment,
    fingerprint: u64,
    provenance: Provenance,
    /// That in use: another one, once the first is lost.
    device: Arc<Device>,
    resume: &'a str,
}

/// A trained network.
struct Trained {
    model: Model,
    evaluation: Evaluation,
    seconds: f64,
}

/// Prunes as `args` say and writes the run's files; `resume` is the command that goes on after an interruption.
pub(super) fn prune(scene: &Scene, args: &PruneArgs, resume: &str) -> Result<Outcome<Value>> {
    let console = &scene.console;
    let started = Instant::now();
    let seed = args.run.seed;
    let name = args.file.display().to_string();
    if args.snap {
        return Err(Error::new(ErrorKind::Argument, "reading --snap")
            .expected("--method csgd, whose clusters it moves onto their means")
            .found("another method, which has none"));
    }
    for (option, is_given) in [
        ("--strength", args.strength != Strength::Auto),
        ("--clustering", args.clustering != Clustering::default()),
    ] {
        if is_given {
            console.warn(&format!("{option} is for --method csgd; this method has no use for it"));
        }
    }
    let trains_before =
        args.from_scratch || args.method.criterion().is_some_and(|criterion| criterion.penalty().is_some());
    if !trains_before && args.finetune == 0 {
        console.note("this method trains nothing before the cut (--epochs is not used), nor after it without --finetune");
    }
    let method = if args.from_scratch { "scratch".to_owned() } else { args.method.name() };
    let (mut base, base_bytes) = read_base(&args.file)?;
    // Its momentum is of no use here, and is as large as the network.
    base.training = None;
    let splits = scene.open_data(&args.data, args.recipe.augment, seed, Some((&name, &base)))?;
    let augment = args.recipe.augment.augment(splits.train.as_ref())?;
    let train = Arc::new(Loader::training(Arc::clone(&splits.train), args.recipe.batch, seed, augment)?);
    // Of clusters the widths alone matter here.
    let Widths { coupling, plan, clusters } = widths(console, args, &name, &base.model, Clustering::Even)?;

    let out = folder(args);
    let paths = Paths::new(&out);
    let fingerprint = fingerprint(splits.train.as_ref())?;
    let [train_images, test_images] = images_of(&splits, fingerprint)?;
    let more = [train_images, test_images, widths_of(&coupling, &clusters)];
    let mut claimed = take(&out, args, &base_bytes, &more)?;
    if let Some(report) = claimed.ended(console, SLIM) {
        return Ok(Outcome::Done(report));
    }
    let device = scene.open_device()?;
    if !(claimed.resumes() && (paths.wide.exists() || paths.slim.exists())) {
        claimed.begin(Some(&base_bytes), &[WIDE, SLIM])?;
    }
    drop(base_bytes);
    let test = Loader::evaluation(
        Arc::clone(&splits.test),
        test_batch_beside(device.info(), splits.test.len(), args.recipe.batch),
    )?;
    scene.tune(&device, &base.model.graph, args.recipe.batch, Mode::Train)?;
    let before = block_on(evaluate(&device, &base.model, &test, Answers::Discard))?
        .finite(&format!("testing {} before pruning", args.file.display()))?;
    console.note(&format!(
        "{}: test accuracy {} before; {method}",
        base.model.graph.name,
        percent(before.accuracy())
    ));
    let mut setting = Setting {
        scene,
        args,
        out: &out,
        train,
        test: &test,
        augment,
        fingerprint,
        provenance: Provenance {
            stage: Stage::Wide,
            seed,
            classes: splits.train.classes().to_vec(),
            normalization: Some(splits.train.normalization().clone()),
            data: splits.train.name().to_owned(),
        },
        device: Arc::clone(&device),
        resume,
    };

    let mut seconds = 0.0;
    let mut epochs = 0;
    let mut wide = base.model.clone();
    let (slim, cut) = match args.method.criterion().filter(|_| !args.from_scratch) {
        None => {
            let graph = surgery::cut(&base.model, &clusters)?.graph;
            scene.tune(&setting.device, &graph, args.recipe.batch, Mode::Train)?;
            let random = Model::random(graph, seed);
            epochs += args.recipe.epochs;
            let trained = setting.train(Phase::Scratch, random, args.recipe.epochs, None, &paths.slim)?;
            let Outcome::Done(trained) = trained else { return Ok(Outcome::Interrupted) };
            seconds += trained.seconds;
            (trained.model, trained.evaluation)
        }
        Some(criterion) => {
            if let Some(penalty) = criterion.penalty() {
                let sparsity = Some(Sparsity { penalty, strength: args.sparsity });
                epochs += args.recipe.epochs;
                let trained =
                    setting.train(Phase::Sparse, wide, args.recipe.epochs, sparsity, &paths.wide)?;
                let Outcome::Done(trained) = trained else { return Ok(Outcome::Interrupted) };
                seconds += trained.seconds;
                wide = trained.model;
            }
            let mut evidence = Evidence { seed, ..Evidence::default() };
            if criterion == criteria::Criterion::Taylor {
                let looked_at = sensitivities(&setting.device, &wide, &setting.train, args.taylor_batches);
                evidence.sensitivities = block_on(looked_at)?;
            }
            let selection =
                criteria::select(&wide, &coupling, &clusters, args.pace.into(), criterion, &evidence)?;
            let slim = surgery::delete(&wide, &selection)?;
            scene.tune(&setting.device, &slim.graph, args.recipe.batch, Mode::Train)?;
            let cut = block_on(evaluate(&setting.device, &slim, &test, Answers::Discard))?;
            (slim, cut)
        }
    };
    let clock = || started.elapsed().as_secs_f64();
    let stages = Stages { trained: &wide, merged: None, snapped: None, slim: &slim };
    let certificate = block_on(certify(&setting.device, stages, &Clusters::default(), &test, &clock))?;
    let compared = &certificate.cut;
    if !args.from_scratch {
        console.note(&format!(
            "accuracy {} before the cut, {} after it",
            percent(compared.accuracy_before),
            percent(cut.accuracy())
        ));
    }
    let mut last = slim;
    let mut finetuned = None;
    if args.finetune > 0 {
        epochs += args.finetune;
        let trained = setting.train(Phase::Finetune, last, args.finetune, None, &paths.slim)?;
        let Outcome::Done(trained) = trained else { return Ok(Outcome::Interrupted) };
        seconds += trained.seconds;
        last = trained.model;
        finetuned = Some(trained.evaluation);
    }
    let provenance = Provenance { stage: Stage::Slim, ..setting.provenance.clone() };
    let checkpoint = Checkpoint { model: last, provenance, clusters: None, training: None };
    files::write(&paths.slim, &checkpoint.to_bytes()?)?;

    let report = json!({
        "phase": COMMAND,
        "method": method,
        "paper": args.method.criterion().filter(|_| !args.from_scratch).map(|criterion| criterion.paper()),
        "command": command_line::current(),
        "base_accuracy": before.accuracy(),
        "base_loss": before.loss,
        "wide_accuracy": (!args.from_scratch).then_some(compared.accuracy_before),
        "wide_loss": (!args.from_scratch).then_some(compared.loss_before),
        "slim_accuracy": cut.accuracy(),
        "slim_loss": cut.loss,
        "finetuned_accuracy": finetuned.as_ref().map(Evaluation::accuracy),
        "finetuned_loss": finetuned.as_ref().map(|evaluation| evaluation.loss),
        "finetune_epochs": args.finetune,
        "argmax_agreement": (!args.from_scratch).then_some(compared.argmax_agreement),
        "samples": compared.samples,
        "max_abs_logit_diff": (!args.from_scratch).then_some(compared.max_abs_logit_diff),
        "macs_before": certificate.macs_before,
        "macs_after": certificate.macs_after,
        "params_before": certificate.params_before,
        "params_after": certificate.params_after,
        "bytes_before": certificate.bytes_before,
        "bytes_after": certificate.bytes_after,
        "latency_before_ms": certificate.latency_before_ms,
        "latency_after_ms": certificate.latency_after_ms,
        "latency_batch": certificate.latency_batch,
        "lossless": false,
        "device": setting.device.info(),
        "seed": seed,
        "layers": certificate.layers,
        "groups": groups(&base.model, &coupling, &clusters),
        "model": base.model.graph.name,
        "data": splits.train.name(),
        "classes": splits.train.classes(),
        "cluster_plan": plan,
        "epochs": epochs,
        "lr": args.lr,
        "training_seconds": seconds,
        "seconds": started.elapsed().as_secs_f64(),
        "training": claimed.training(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    files::write(&out.join(REPORT), to_json(&report)?.as_bytes())?;
    Ok(Outcome::Done(report))
}

impl Setting<'_> {
    /// Trains `model` for `epochs`, or goes on with the training in the checkpoint `path`.
    fn train(
        &mut self,
        phase: Phase,
        model: Model,
        epochs: usize,
        sparsity: Option<Sparsity>,
        path: &Path,
    ) -> Result<Outcome<Trained>> {
        let args = self.args;
        let mut recipe = args.recipe.clone();
        recipe.epochs = epochs;
        let config = TrainConfig {
            batch: recipe.batch,
            schedule: recipe.schedule(args.lr, self.train.batches_per_epoch())?,
            sgd: recipe.sgd(),
            centripetal: None,
            sparsity,
        };
        let stage = if phase == Phase::Sparse { Stage::Wide } else { Stage::Slim };
        let provenance = Provenance { stage, ..self.provenance.clone() };
        let total = config.schedule.total_steps;
        let origin = Start::new(model, config);
        let mut resumed = None;
        if args.run.resume && path.exists() {
            let mut checkpoint = files::checkpoint(path)?;
            let Some(step) = checkpoint.training.as_ref().map(|training| training.step) else {
                // The run was stopped between its last two files.
                return self.trained(phase, checkpoint.model);
            };
            let identity = Identity {
                graph: &origin.model.graph,
                config: &origin.config,
                augment: self.augment,
                fingerprint: self.fingerprint,
                provenance: &provenance,
            };
            let training = run::resume(path, &mut checkpoint, &identity)?;
            if step == total {
                return self.trained(phase, checkpoint.model);
            }
            self.scene
                .console
                .note(&format!("going on with {} after step {step} of {total}", path.display()));
            resumed = Some((checkpoint.model, training));
        }
        let log = Log::open(self.out, phase, resumed.as_ref().map_or(0, |(_, training)| training.step))?;
        let ended = Run {
            console: &self.scene.console,
            device: Arc::clone(&self.device),
            phase,
            train: Arc::clone(&self.train),
            test: self.test,
            augment: self.augment,
            fingerprint: self.fingerprint,
            provenance,
            clusters: None,
            path: path.to_owned(),
            log,
            collapse: None,
            care: &args.run.care,
            rollbacks: 0,
            restarted_at: None,
        }
        .go(origin, resumed)?;
        Ok(match ended {
            Ended::Interrupted { step } => {
                self.scene.interrupted(path, step, total, self.resume)?;
                Outcome::Interrupted
            }
            Ended::Finished { model, evaluation, seconds, device, .. } => {
                self.device = device;
                Outcome::Done(Trained { model, evaluation, seconds })
            }
        })
    }
    /// `model`, whose training in `phase` had ended before this process.
    fn trained(&self, phase: Phase, model: Model) -> Result<Outcome<Trained>> {
        let evaluation = block_on(evaluate(&self.device, &model, self.test, Answers::Discard))?
            .finite("testing the network")?;
        let log = metrics::load(self.out)?;
        let last = log.iter().rev().find(|line| line["phase"] == phase.name());
        let seconds = last.and_then(|line| line["seconds"].as_f64()).unwrap_or(0.0);
        Ok(Outcome::Done(Trained { model, evaluation, seconds }))
    }
}
