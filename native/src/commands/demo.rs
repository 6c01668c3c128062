//! `demo`: the whole method on embedded data, explained as it goes.

use std::time::Instant;

use centripetal::{Error, ErrorKind, Result};
use clap::Parser;
use serde_json::json;

use super::{Outcome, Scene, command, prune, train};
use crate::args::{Cli, Command, DemoArgs};
use crate::progress::{duration, to_json};
use crate::run_folder::{BASE, FILTERS, REPORT, SLIM, WIDE, finished, settings_in};
use crate::{command_line, files};

/// Tuned so that two CPU cores need one to two minutes.
const TRAIN: &[&str] =
    &["--width", "2", "--epochs", "8", "--batch", "50", "--lr", "0.05", "--weight-decay", "5e-4"];
const PRUNE: &[&str] =
    &["--keep", "5/8", "--epochs", "8", "--batch", "50", "--lr", "0.03", "--weight-decay", "5e-4"];

pub(super) fn run(scene: &Scene, args: &DemoArgs) -> Result<Outcome<()>> {
    let console = &scene.console;
    let started = Instant::now();
    let begin = begin(args)?;
    let out = args.out.display().to_string();
    let seed = args.seed.to_string();
    let shared = ["--data", "embedded", "--seed", &seed, "--out", &out, begin];
    let base = args.out.join(BASE).display().to_string();
    let training = [&["train", "lenet"], TRAIN, &shared].concat();
    let pruning = [&["prune", &base], PRUNE, &shared].concat();

    console.note(
        "1. Train. A small network learns 5,000 images of clothes (part of Fashion-MNIST) by ordinary SGD.",
    );
    console.note(&format!("   $ {}", command(&training)));
    let Command::Train(mut train_args) = parsed(&training) else { unreachable!("it is a train command") };
    train_args.run.demo = true;
    let again = command_line::current();
    if let Outcome::Interrupted = train::train(scene, &train_args, &again)? {
        return Ok(Outcome::Interrupted);
    }
    console.note(
        "2. Cluster and collapse. The filters of each layer are clustered to 5/8 of their number, and centripetal SGD \
         pulls those of a cluster together, while training goes on, until they are identical: the deviation falls to \
         nothing.\n\
         3. Cut. All but one of a cluster go; the next layer's inputs are summed. Then the certificate compares both \
         networks on 1,000 test images.",
    );
    console.note(&format!("   $ {}", command(&pruning)));
    let Command::Prune(mut prune_args) = parsed(&pruning) else { unreachable!("it is a prune command") };
    prune_args.run.demo = true;
    let Outcome::Done(mut report) = prune::prune(scene, &prune_args, None, &again)? else {
        return Ok(Outcome::Interrupted);
    };
    report["phase"] = json!("demo");
    report["command"] = json!(command_line::current());
    report["seconds"] = json!(started.elapsed().as_secs_f64());
    files::write(&args.out.join(REPORT), to_json(&report)?.as_bytes())?;

    let text = format!(
        "{}\n{} in {}: {BASE}, {WIDE}, {SLIM}, {REPORT}, {FILTERS}. What to try next:\n  {}\n  {}\n  {}",
        prune::summary(&report),
        out,
        duration(started.elapsed().as_secs_f64()),
        command(&["report", &out]),
        command(&["prune", &base, "--data", "embedded", "--keep", "1/2", "--out", "runs/half"]),
        command(&["info", &args.out.join(SLIM).display().to_string(), "--couplings"]),
    );
    console.result(&text, &report)?;
    Ok(Outcome::Done(()))
}

/// The command that the demo shows, so that what is shown is what runs.
fn parsed(words: &[&str]) -> Command {
    match Cli::try_parse_from(std::iter::once("centripetal").chain(words.iter().copied())) {
        Ok(Cli { command: Some(command), .. }) => command,
        other => panic!("the demo's command is a command: {other:?}"),
    }
}

/// How the demo begins in its folder: it goes on with one that was interrupted, overwrites what an earlier one left, and
/// nothing else.
fn begin(args: &DemoArgs) -> Result<&'static str> {
    let out = &args.out;
    let names = std::fs::read_dir(out).map_or(0, |entries| entries.count());
    if names == 0 {
        return Ok("--force");
    }
    let settings = settings_in(out);
    if settings.is_empty() || settings.values().any(|run| run["--demo"] != true) {
        return Err(Error::new(ErrorKind::Io, format!("writing the demo to {}", out.display()))
            .expected("an empty folder or that of an earlier demo")
            .found(format!("{names} other files"))
            .next("Name another folder with --out"));
    }
    let ended = finished(out, "demo", SLIM).is_some();
    Ok(if ended || settings["train"]["--seed"] != args.seed { "--force" } else { "--resume" })
}
