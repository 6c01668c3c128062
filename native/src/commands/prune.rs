//! `prune`: cluster, C-SGD, cut, certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use centripetal::data::{Loader, fingerprint};
use centripetal::formats::{Checkpoint, Provenance, Stage};
use centripetal::graph::{Coupling, Node};
use centripetal::model::Model;
use centripetal::ops::Op;
use centripetal::optim::forecast::{
    self, AUTO_TARGET, Contraction, Differences, Forecast, LOSSLESS, Slowest, TooShort, Verdict, gentle_steps,
};
use centripetal::optim::{Schedule, SgdConfig};
use centripetal::plan::Mode;
use centripetal::prune::cluster::within_deviation;
use centripetal::prune::surgery::{Operation, Rest, Statistics};
use centripetal::prune::width::{Ratio, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Comparison, LOSSLESS_LOGITS, certify, target};
use centripetal::train::{Answers, Centripetal, TrainConfig, evaluate};
use centripetal::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::{Value, json};

use super::{Outcome, Scene, baseline, command, images_of, steps, test_batch_beside};
use crate::args::{Keep, Method, PruneArgs, Recipe, Strength};
use crate::metrics::{Log, Phase};
use crate::progress::{Console, bytes, grouped, percent, scaled, table, to_json};
use crate::run::{self, Collapse, Ended, Identity, Run, Start};
use crate::run_folder::{FILTERS, Leave, REPORT, RunFolder, SLIM, Settings, WIDE, spare_input};
use crate::{command_line, files, filters};

/// The command's name in settings and reports.
pub(super) const COMMAND: &str = "prune";

/// What `--keep` is when no rule is given.
fn default_keep() -> Result<Ratio> {
    Ratio::new(5, 8)
}

pub(super) fn run(scene: &Scene, args: &PruneArgs) -> Result<Outcome<()>> {
    files::rehearse_kill(&args.run.care);
    let resume = command_line::to_resume();
    let outcome = if args.keep.keep.len() > 1 || args.max_accuracy_drop.is_some() {
        steps::prune(scene, args, &resume)?
    } else {
        by_method(scene, args, &resume)?
    };
    let Outcome::Done(report) = outcome else {
        return Ok(Outcome::Interrupted);
    };
    let out = folder(args);
    let slim = out.join(SLIM).display().to_string();
    let mut text = summary(&report);
    if args.verbose {
        text += &format!("\n{}", layers(&report));
    }
    text += &format!(
        "\n{slim} is written. To look closer:\n  {}\n  {}",
        command(&["report", &out.display().to_string()]),
        command(&["eval", &slim, "--data", &args.data.data]),
    );
    scene.console.result(&text, &report)?;
    Ok(Outcome::Done(()))
}

/// Prunes once, by the method that `args` name.
///
/// # Errors
/// Those of the method.
pub(super) fn by_method(scene: &Scene, args: &PruneArgs, resume: &str) -> Result<Outcome<Value>> {
    match args.method {
        Method::Csgd if !args.from_scratch => prune(scene, args, None, resume),
        _ => baseline::prune(scene, args, resume),
    }
}

/// Prunes by C-SGD as `args` say and writes the run's files: their file, or the network `untrained` that is to become it;
/// `resume` is the command that goes on after an interruption.
pub(super) fn prune(
    scene: &Scene,
    args: &PruneArgs,
    untrained: Option<Checkpoint>,
    resume: &str,
) -> Result<Outcome<Value>> {
    let console = &scene.console;
    let started = Instant::now();
    let seed = args.run.seed;
    let name = args.file.display().to_string();
    let squeezes = untrained.is_some();
    let (mut base, base_bytes) = match untrained {
        Some(base) => {
            let bytes = base.to_bytes()?;
            (base, bytes)
        }
        None => read_base(&args.file)?,
    };
    // Its momentum is of no use here, and is as large as the network.
    base.training = None;
    let splits = scene.open_data(&args.data, args.recipe.augment, seed, Some((&name, &base)))?;
    let augment = args.recipe.augment.augment(splits.train.as_ref())?;
    let train = Arc::new(Loader::training(Arc::clone(&splits.train), args.recipe.batch, seed, augment)?);
    let schedule = args.recipe.schedule(args.lr, train.batches_per_epoch())?;

    if args.finetune > 0 {
        return Err(Error::new(ErrorKind::Argument, "reading --finetune")
            .expected("another --method than csgd, whose cut loses nothing that had to be trained back")
            .found("csgd")
            .next("Give --epochs what you have"));
    }
    let Widths { coupling, plan, clusters } = widths(console, args, &name, &base.model, args.clustering)?;
    let sgd = args.recipe.sgd();
    let begin = beginning(args, &base.model, &clusters, &sgd)?;
    let per_epoch = train.batches_per_epoch() as u64;
    let gentle = gentle_steps(&base.model.graph, &clusters);
    let (strength, outlook) = strength(console, args, &begin, &schedule, (per_epoch, gentle))?;
    let config = TrainConfig {
        batch: args.recipe.batch,
        schedule,
        sgd,
        centripetal: Some(Centripetal { clusters: clusters.clone(), strength }),
        sparsity: None,
    };
    let provenance = Provenance {
        stage: Stage::Wide,
        seed,
        classes: splits.train.classes().to_vec(),
        normalization: Some(splits.train.normalization().clone()),
        data: splits.train.name().to_owned(),
    };

    let fingerprint = fingerprint(splits.train.as_ref())?;

    let out = folder(args);
    let paths = Paths::new(&out);
    let [train_images, test_images] = images_of(&splits, fingerprint)?;
    let more = [train_images, test_images, widths_of(&coupling, &clusters)];
    let mut folder = take(&out, args, &base_bytes, &more)?;
    if let Some(report) = folder.ended(console, SLIM) {
        return Ok(Outcome::Done(report));
    }
    let resumed = if folder.resumes() && paths.wide.exists() {
        let mut checkpoint = files::checkpoint(&paths.wide)?;
        let graph = &base.model.graph;
        let provenance = &provenance;
        let identity = Identity { graph, config: &config, augment, fingerprint, provenance };
        let training = run::resume(&paths.wide, &mut checkpoint, &identity)?;
        console.note(&format!(
            "going on with {} after step {} of {}",
            paths.wide.display(),
            training.step,
            config.schedule.total_steps
        ));
        Some((checkpoint.model, training))
    } else {
        if args.run.resume {
            console.note(&format!("{} is not there yet: beginning the run", paths.wide.display()));
        }
        None
    };
    let device = scene.open_device()?;
    if resumed.is_none() {
        folder.begin(Some(&base_bytes), &[WIDE])?;
    }
    drop(base_bytes);

    let test = Loader::evaluation(
        Arc::clone(&splits.test),
        test_batch_beside(device.info(), splits.test.len(), args.recipe.batch),
    )?;
    scene.tune(&device, &base.model.graph, config.batch, Mode::Train)?;
    let before = block_on(evaluate(&device, &base.model, &test, Answers::Discard))?
        .finite(&format!("testing {name} before pruning"))?;
    let groups = groups(&base.model, &coupling, &clusters);
    console.note(&format!(
        "{}: test accuracy {} before; {} of {} groups of layers become narrower{}; strength {}",
        base.model.graph.name,
        percent(before.accuracy()),
        groups.iter().filter(|group| group["width_after"] != group["width_before"]).count(),
        groups.len(),
        frozen(&args.freeze),
        four_digits(strength)
    ));

    let total = config.schedule.total_steps;
    let collapse = Collapse { start: chi(&base.model, &clusters), forecast: outlook.forecast.clone() };
    let step = resumed.as_ref().map_or(0, |(_, training)| training.step);
    let log = Log::open(&out, Phase::Csgd, step)?;
    let ended = Run {
        console,
        device,
        phase: Phase::Csgd,
        train,
        test: &test,
        augment,
        fingerprint,
        provenance: provenance.clone(),
        clusters: Some(clusters.clone()),
        path: paths.wide.clone(),
        log,
        collapse: Some(collapse),
        care: &args.run.care,
        rollbacks: 0,
        restarted_at: None,
    }
    .go(Start::new(base.model.clone(), config), resumed)?;
    let (wide, config, device, seconds) = match ended {
        Ended::Interrupted { step } => {
            scene.interrupted(&paths.wide, step, total, resume)?;
            return Ok(Outcome::Interrupted);
        }
        Ended::Finished { model, config, device, seconds, .. } => (model, config, device, seconds),
    };

    console.note("cutting and certifying");
    let rest = if args.snap { Rest::Snap } else { Rest::Leave };
    let mut operation = Operation::new(&wide, &clusters, rest)?;
    if let Statistics::Kept(unequal) = &operation.statistics {
        console.warn(&format!(
            "filters of a cluster are not yet equal: {} differs by {:.1e} of its largest number; batch norm statistics are not merged",
            unequal.tensor, unequal.apart
        ));
    }
    let checkpoint = Checkpoint {
        model: operation.slim,
        provenance: Provenance { stage: Stage::Slim, ..provenance },
        clusters: None,
        training: None,
    };
    files::write(&paths.slim, &checkpoint.to_bytes()?)?;
    files::write(&out.join(FILTERS), &filters::sheet(&base.model, &wide, &clusters)?)?;
    operation.slim = checkpoint.model;
    scene.tune(&device, &operation.slim.graph, test.batch_size(), Mode::Evaluate)?;
    let clock = || started.elapsed().as_secs_f64();
    let certificate = block_on(certify(&device, operation.stages(&wide), &clusters, &test, &clock))?;
    let cause = match &operation.statistics {
        Statistics::Kept(_) => "filters of a cluster were not yet equal",
        _ => "filters were equal, but this network makes the rounding of float32 that large",
    };
    for (step, comparison) in certificate.steps() {
        let Comparison { argmax_agreement, samples, max_rel_logit_diff, .. } = comparison;
        if argmax_agreement != samples || *max_rel_logit_diff > LOSSLESS_LOGITS || max_rel_logit_diff.is_nan()
        {
            console.warn(&format!(
                "the {step} changed {} of {} answers, and logits by up to {max_rel_logit_diff:.1e} of the largest \
                 (lossless: 0 answers and at most {LOSSLESS_LOGITS:.0e}): {cause}",
                samples - argmax_agreement,
                samples
            ));
        }
    }

    let trained = certificate.steps().next().map_or(&certificate.cut, |(_, step)| step);
    let mut report = json!({
        "phase": COMMAND,
        "method": args.method.name(),
        "command": command_line::current(),
        "base_accuracy": before.accuracy(),
        "base_loss": before.loss,
        "wide_accuracy": trained.accuracy_before,
        "wide_loss": trained.loss_before,
        "slim_accuracy": certificate.cut.accuracy_after,
        "slim_loss": certificate.cut.loss_after,
        "argmax_agreement": certificate.cut.argmax_agreement,
        "samples": certificate.cut.samples,
        "max_abs_logit_diff": certificate.cut.max_abs_logit_diff,
        "max_rel_logit_diff": certificate.cut.max_rel_logit_diff,
        "macs_before": certificate.macs_before,
        "macs_after": certificate.macs_after,
        "params_before": certificate.params_before,
        "params_after": certificate.params_after,
        "bytes_before": certificate.bytes_before,
        "bytes_after": certificate.bytes_after,
        "latency_before_ms": certificate.latency_before_ms,
        "latency_after_ms": certificate.latency_after_ms,
        "latency_batch": certificate.latency_batch,
        "lossless": certificate.is_lossless(),
        "device": device.info(),
        "seed": seed,
        "layers": certificate.layers,
        "groups": groups,
        "model": base.model.graph.name,
        "data": splits.train.name(),
        "classes": splits.train.classes(),
        "cluster_plan": plan,
        "strength": strength,
        "forecast": outlook.to_json(),
        "epochs": args.recipe.epochs,
        "config": {
            "batch": config.batch,
            "schedule": config.schedule,
            "sgd": config.sgd,
            "augment": augment,
        },
        "training_seconds": seconds,
        "seconds": started.elapsed().as_secs_f64(),
        "certificate": certificate,
        "training": folder.training(),
        "squeeze": squeezes,
        "version": env!("CARGO_PKG_VERSION"),
    });
    report["lossless_logits"] = json!(LOSSLESS_LOGITS);
    files::write(&out.join(REPORT), to_json(&report)?.as_bytes())?;
    Ok(Outcome::Done(report))
}

/// The files that a pruning run writes.
pub(super) struct Paths {
    pub(super) wide: PathBuf,
    pub(super) slim: PathBuf,
}

impl Paths {
    pub(super) fn new(out: &Path) -> Self {
        Paths { wide: out.join(WIDE), slim: out.join(SLIM) }
    }
}

/// `--out`, or the folder of the file.
pub(super) fn folder(args: &PruneArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        let parent = args.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    })
}

/// Reads the network to prune, and keeps its bytes.
///
/// # Errors
/// Those of [`files::checkpoint`].
pub(super) fn read_base(path: &Path) -> Result<(Checkpoint, Vec<u8>)> {
    let bytes = files::read(path)?;
    Ok((Checkpoint::from_bytes(&path.display().to_string(), &bytes)?, bytes))
}

/// Takes the folder `out` to prune the network of the bytes `base`, as `args` and `more` settings describe.
///
/// # Errors
/// Those of [`RunFolder::take`].
pub(super) fn take(out: &Path, args: &PruneArgs, base: &[u8], more: &[(&str, Value)]) -> Result<RunFolder> {
    spare_input("pruning", &args.file, out, true)?;
    RunFolder::take(out, COMMAND, Settings::new(args, more)?, Leave::from(&args.run), Some(base))
}

/// The widths that layers get, as a setting.
pub(super) fn widths_of(coupling: &Coupling, clusters: &Clusters) -> (&'static str, Value) {
    let widths: Vec<String> = target::widths(coupling, clusters).values().map(ToString::to_string).collect();
    ("widths (--keep, --widths, --target-macs, --freeze)", json!(widths.join(" ")))
}

/// What is tied, and what it becomes.
pub(super) struct Widths {
    pub(super) coupling: Coupling,
    pub(super) plan: ClusterPlan,
    pub(super) clusters: Clusters,
}

/// The widths that `args` ask of `model`, which is called `name`, and clusters for them.
pub(super) fn widths(
    console: &Console,
    args: &PruneArgs,
    name: &str,
    model: &Model,
    clustering: Clustering,
) -> Result<Widths> {
    let coupling = Coupling::derive(&model.graph, &args.freeze)?;
    let mut plan = ClusterPlan {
        widths: WidthRule::All(default_keep()?),
        rounding: args.rounding,
        round_to: args.round_to,
        clustering,
        pace: args.pace.into(),
        frozen: args.freeze.clone(),
        seed: args.run.seed,
    };
    plan.widths = match (&args.computed, args.keep.target_macs) {
        (Some(computed), _) => target::rule(&coupling, computed),
        (None, Some(part)) => {
            let kept = target::ratio_for_macs(model, &coupling, &plan, part)?;
            console.note(&format!(
                "--target-macs {part}: every layer that may shrink keeps {kept} of its filters"
            ));
            WidthRule::All(kept)
        }
        (None, None) => width_rule(&args.keep)?,
    };
    let clusters = Clusters::find(model, &coupling, &plan)?;
    if clusters.is_empty() {
        return Err(Error::new(ErrorKind::Argument, format!("pruning {name}"))
            .expected("at least one layer that becomes narrower")
            .found("all of them keep their width")
            .next("Keep less, or freeze fewer layers"));
    }
    Ok(Widths { coupling, plan, clusters })
}

fn width_rule(keep: &Keep) -> Result<WidthRule> {
    match (keep.keep.first(), keep.keep_internal, &keep.widths) {
        (Some(&ratio), ..) => Ok(WidthRule::All(ratio)),
        (_, Some(ratio), _) => Ok(WidthRule::Internal(ratio)),
        (.., Some(path)) => {
            let name = path.display().to_string();
            let text = String::from_utf8(files::read(path)?).map_err(|_| {
                Error::new(ErrorKind::Format, format!("reading the widths in {name}"))
                    .expected("UTF-8 text")
                    .found("other bytes")
            })?;
            WidthRule::parse_file(&name, &text)
        }
        (None, None, None) => default_keep().map(WidthRule::All),
    }
}

/// What is said of layers that are left as they are on request.
fn frozen(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", without {} (--freeze)", names.join(", ")) }
}

/// `number` with four digits, without an exponent where that is short.
fn four_digits(number: f64) -> String {
    match number.abs() {
        0.001..1.0 => format!("{number:.5}"),
        1.0..1000.0 => format!("{number:.3}"),
        _ => format!("{number:.3e}"),
    }
}

/// What the forecast says.
struct Outlook {
    forecast: Forecast,
    verdict: Verdict,
    /// Steps from which the run would be gentle.
    gentle: u64,
}

impl Outlook {
    fn to_json(&self) -> Value {
        json!({
            "log_shrink": self.forecast.log_shrink,
            "statistics_log_shrink": self.forecast.statistics_log_shrink,
            "curve": self.forecast.curve,
            "merged_at": self.forecast.merged_at,
            "stability": self.forecast.stability,
            "verdict": self.verdict,
            "lossless_from": LOSSLESS,
            "gentle_from": self.gentle,
        })
    }
}

/// The differences before the first step.
///
/// # Errors
/// [`ErrorKind::Argument`] for a batch norm whose statistics never move, unless --snap makes them equal.
fn beginning(args: &PruneArgs, model: &Model, clusters: &Clusters, sgd: &SgdConfig) -> Result<Contraction> {
    let mut differences = Differences::of_network(&model.graph, Some(clusters), sgd);
    if differences.statistics == Some(0.0) {
        let stands = |node: &&Node| matches!(&node.op, Op::BatchNorm2d(norm) if norm.momentum == 0.0);
        let name = model.graph.nodes.iter().find(stands).map_or("", |node| &node.name);
        if !args.snap {
            return Err(Error::new(ErrorKind::Argument, format!("pruning {}", args.file.display()))
                .expected("batch norms whose running statistics follow the data, so that those of equal filters become equal")
                .found(format!("momentum 0 in {name}"))
                .next("Export the network with another momentum, such as PyTorch's 0.1; or give --snap, which makes them equal before the cut"));
        }
        differences.statistics = None;
    }
    Ok(Contraction::new(sgd.momentum, sgd.direction, &differences))
}

/// Epochs from which on --strength auto finds a strength: at least `guess`, which takes warm-up and milestones for parts of the
/// run. They are epochs of their own, so it is tried; `None` where none of the lengths tried is enough.
fn epochs_needed(args: &PruneArgs, begin: &Contraction, per_epoch: u64, guess: u64) -> Option<u64> {
    const TRIES: usize = 40;
    let is_enough = |&epochs: &u64| {
        let recipe = Recipe { epochs: epochs as usize, ..args.recipe.clone() };
        let schedule = recipe.schedule(args.lr, per_epoch as usize);
        schedule
            .is_ok_and(|schedule| matches!(forecast::find_strength(begin, &schedule, AUTO_TARGET), Ok(Ok(_))))
    };
    let longer = |epochs: &u64| Some(epochs + epochs.div_ceil(20));
    std::iter::successors(Some(guess), longer).take(TRIES).find(is_enough)
}

/// The strength for `schedule`, of `per_epoch` steps an epoch, and its forecast from `begin`. Runs of less than `gentle` steps
/// are warned of.
///
/// # Errors
/// [`ErrorKind::Argument`] where filters or statistics of a cluster will not become equal. With --snap a strength set by
/// hand is taken all the same, with a warning: the snap makes the cut exact and says what it changed.
fn strength(
    console: &Console,
    args: &PruneArgs,
    begin: &Contraction,
    schedule: &Schedule,
    (per_epoch, gentle): (u64, u64),
) -> Result<(f64, Outlook)> {
    let total = schedule.total_steps;
    let epochs = |steps: u64| steps.div_ceil(per_epoch.max(1));
    let longer = |short: TooShort| {
        let why = match short.slowest {
            Slowest::Filters => "No strength is enough in so few steps",
            Slowest::Statistics => {
                "Filters become equal, but the running statistics of batch norm need longer to forget how they differed"
            }
        };
        match epochs_needed(args, begin, per_epoch, epochs(short.steps)) {
            Some(enough) => {
                format!("{why}: --strength auto --epochs {enough} would do, or a smaller --batch")
            }
            None => format!(
                "{why}, nor are several times as many epochs while the rate falls so early: take later --milestones, or --schedule cosine"
            ),
        }
    };
    let shrinks = |log: f64, needed: f64| {
        format!(
            "differences that shrink by e^{:.1} in {} steps, where e^{needed} is needed",
            (-log).max(0.0),
            grouped(total)
        )
    };
    const GOES_ON: &str = "With --snap the run goes on, and the certificate states what the snap changes";
    const CHANGES: &str = "The snap will change answers";
    let strength = match args.strength {
        Strength::Fixed(strength) => strength,
        Strength::Auto => match forecast::find_strength(begin, schedule, AUTO_TARGET)? {
            Ok(strength) => strength,
            Err(short) if args.snap => short.strength,
            Err(short) => {
                return Err(Error::new(ErrorKind::Argument, "choosing --strength auto")
                    .expected("a run in which the filters of every cluster become equal")
                    .found(shrinks(-short.reached, short.needed))
                    .next(format!("{}. {GOES_ON}", longer(short))));
            }
        },
    };
    let (forecast, verdict) = forecast::assess(begin, schedule, strength, LOSSLESS)?;
    let slowest =
        forecast.statistics_log_shrink.map_or(forecast.log_shrink, |log| log.max(forecast.log_shrink));
    let (found, next) = match verdict {
        Verdict::Enough => (String::new(), String::new()),
        Verdict::Insufficient { needed } => {
            (shrinks(slowest, LOSSLESS), format!("--strength {} would do", four_digits(needed)))
        }
        Verdict::TooShort(short) => (shrinks(slowest, LOSSLESS), longer(short)),
        Verdict::Unstable { limit } => (
            "differences that grow at this learning rate".to_owned(),
            format!("Stay below --strength {}", four_digits(limit)),
        ),
    };
    if verdict != Verdict::Enough {
        if !args.snap {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("checking --strength {strength} before training"),
            )
            .expected("a strength that makes the filters of every cluster equal")
            .found(found)
            .next(format!("{next}. {GOES_ON}")));
        }
        console
            .warn(&format!("--strength {strength} will not make filters equal: {found}. {next}. {CHANGES}"));
    }
    if let Some(merged) = forecast.merged_at {
        console.note(&format!(
            "forecast: the filters of every cluster are equal from step {} of {} on; {} steps remain to recover accuracy",
            grouped(merged),
            grouped(total),
            grouped(total - merged)
        ));
    }
    if total < gentle {
        console.warn(&format!(
            "{} steps are few for C-SGD: filters merge faster than the layers behind them can follow, so accuracy falls \
             on the way, and the steps left may not win it back. About {} epochs ({} steps) would be gentle",
            grouped(total),
            grouped(epochs(gentle)),
            grouped(gentle)
        ));
    }
    Ok((strength, Outlook { forecast, verdict, gentle }))
}

/// The deviation of a whole model: what [`Trainer::deviation`] sums.
fn chi(model: &Model, clusters: &Clusters) -> f64 {
    let tensors = model.graph.parameters().into_iter().filter_map(|(node, name, _)| {
        let tensor = model.tensors.get(&name)?;
        let row_len = tensor.data.len() / tensor.dims[0].max(1);
        Some(within_deviation(&tensor.data, row_len, clusters.of_node(node)?).chi)
    });
    tensors.sum()
}

/// The groups of coupled layers that can be pruned, with their widths.
pub(super) fn groups(model: &Model, coupling: &Coupling, clusters: &Clusters) -> Vec<Value> {
    let name = |node: usize| model.graph.nodes[node].name.clone();
    let describe = |(_, group): (usize, &centripetal::graph::Group)| {
        let pacesetter = group.pacesetter?;
        let followers: Vec<String> =
            group.producers.iter().copied().filter(|&node| node != pacesetter).map(name).collect();
        Some(json!({
            "pacesetter": name(pacesetter),
            "followers": followers,
            "width_before": group.width(),
            "width_after": clusters.width_of(group),
        }))
    };
    coupling.prunable().filter_map(describe).collect()
}

/// What the cut changed, as text.
pub(super) fn summary(report: &Value) -> String {
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let whole = |name: &str| report[name].as_u64().unwrap_or(0);
    let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
    let accuracy = |name: &str| percent(number(name));
    let loss = |name: &str| format!("{:.4}", number(name));
    let trained = match report["method"].as_str() {
        None | Some("csgd") => "after C-SGD",
        Some(_) => "before the cut",
    };
    let scratch = report["method"] == "scratch";
    let slim = if scratch { "narrow, from scratch" } else { "after the cut" };
    let stages = [("base", "base"), (trained, "wide"), (slim, "slim"), ("after fine-tuning", "finetuned")];
    let mut columns = [cells(&[""]), cells(&["accuracy"]), cells(&["loss"])];
    for (heading, stage) in stages {
        if report[format!("{stage}_accuracy")].is_number() {
            columns[0].push(heading.to_owned());
            columns[1].push(accuracy(&format!("{stage}_accuracy")));
            columns[2].push(loss(&format!("{stage}_loss")));
        }
    }
    let answers = table(&columns);
    let saving = |before: f64, after: f64| format!("-{:.1} %", 100.0 * (1.0 - after / before.max(1.0)));
    let row = |label: &str, show: fn(u64) -> String, before: &str, after: &str| {
        let change = saving(whole(before) as f64, whole(after) as f64);
        cells(&[label, &show(whole(before)), &show(whole(after)), &change])
    };
    let (before, after) = (number("latency_before_ms"), number("latency_after_ms"));
    let cost = table(&[
        cells(&["", "before", "after", ""]),
        row("MACs an image", scaled, "macs_before", "macs_after"),
        row("parameters", grouped, "params_before", "params_after"),
        row("size", bytes, "bytes_before", "bytes_after"),
        cells(&[
            "ms an image",
            &format!("{before:.4}"),
            &format!("{after:.4}"),
            &format!("{:.2}x as fast", before / after),
        ]),
    ]);
    let equal = |step: &str, comparison: &Value| {
        format!(
            "\nequal answers before and after the {step}: {} of {}; largest difference of a logit: {:.1e}",
            grouped(comparison["argmax_agreement"].as_u64().unwrap_or(0)),
            grouped(comparison["samples"].as_u64().unwrap_or(0)),
            comparison["max_abs_logit_diff"].as_f64().unwrap_or(f64::NAN),
        )
    };
    let step = |name: &str, key: &str| {
        let comparison = &report["certificate"][key];
        if comparison.is_object() { equal(name, comparison) } else { String::new() }
    };
    let merged = step("merging of batch norm statistics", "statistics");
    let snap = step("snap", "snap");
    let cut = if report["argmax_agreement"].is_number() { equal("cut", report) } else { String::new() };
    let steps: String = report["steps"].as_array().into_iter().flatten().map(told_step).collect();
    format!("{steps}{answers}{merged}{snap}{cut}\n\n{cost}")
}

/// One step of several, as a line.
fn told_step(step: &Value) -> String {
    let taken = if step["taken"] == json!(false) { "; it is given up" } else { "" };
    format!(
        "keep {}: accuracy {} before, {} after the cut, {} in the end{taken}\n",
        step["keep"].as_str().unwrap_or("?"),
        percent(step["wide_accuracy"].as_f64().unwrap_or(f64::NAN)),
        percent(step["slim_accuracy"].as_f64().unwrap_or(f64::NAN)),
        percent(step["final_accuracy"].as_f64().unwrap_or(f64::NAN)),
    )
}

/// Layer by layer, as text.
fn layers(report: &Value) -> String {
    let Ok(layers) = serde_json::from_value::<Vec<Value>>(report["layers"].clone()) else {
        return String::new();
    };
    let header = ["layer", "", "width", "MACs", "chi kernel", "gamma", "beta", "mean", "variance"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for layer in layers {
        let text = |name: &str| layer[name].as_str().unwrap_or_default().to_owned();
        let pair = |before: &str, after: &str| {
            let show = |name: &str| scaled(layer[name].as_u64().unwrap_or(0));
            format!("{} -> {}", show(before), show(after))
        };
        let chi = |name: &str| layer[name].as_f64().map_or(String::new(), |chi| format!("{chi:.0e}"));
        rows.push(vec![
            text("name"),
            text("op"),
            pair("width_before", "width_after"),
            pair("macs_before", "macs_after"),
            chi("deviation_kernel"),
            chi("deviation_gamma"),
            chi("deviation_beta"),
            chi("deviation_mean"),
            chi("deviation_variance"),
        ]);
    }
    table(&rows)
}
