//! `prune --keep A,B,C` and `--max-accuracy-drop`: one cut after the other, each from what the last one left.

use std::fs;
use std::path::Path;

use centripetal::prune::width::Ratio;
use centripetal::prune::{Clustering, target};
use centripetal::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::prune::{Paths, Widths, by_method, folder, read_base, take, widths};
use super::{Outcome, Scene};
use crate::args::{Keep, PruneArgs};
use crate::files;
use crate::progress::{percent, to_json};
use crate::run_folder::{REPORT, SLIM, spare_input};

/// Eighths that `--max-accuracy-drop` tries when `--keep` names none.
const EIGHTHS: [u64; 6] = [7, 6, 5, 4, 3, 2];

/// Prunes in steps, each in a folder of its own in the run's; `resume` is the command that goes on after an interruption.
pub(super) fn prune(scene: &Scene, args: &PruneArgs, resume: &str) -> Result<Outcome<Value>> {
    let name = args.file.display().to_string();
    if args.from_scratch {
        return Err(Error::new(ErrorKind::Argument, "reading --from-scratch")
            .expected("one --keep: every step would begin with random weights again")
            .found(format!("{} parts", args.keep.keep.len())));
    }
    let ratios = ratios(args)?;
    let (base, base_bytes) = read_base(&args.file)?;
    let out = folder(args);
    let paths = Paths::new(&out);
    let place = |ratio: &Ratio| format!("keep-{}-{}", ratio.numerator(), ratio.denominator());
    let places: Vec<String> = ratios.iter().map(place).collect();
    places.iter().try_for_each(|place| spare_input("pruning", &args.file, &out.join(place), false))?;
    let mut claimed = take(&out, args, &base_bytes, &[])?;
    if let Some(report) = claimed.ended(&scene.console, SLIM) {
        return Ok(Outcome::Done(report));
    }
    if !claimed.resumes() {
        claimed.begin(Some(&base_bytes), &places.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let mut file = args.file.clone();
    let mut reports: Vec<Value> = Vec::new();
    let mut steps = Vec::new();
    let mut best = None;
    let mut lost = String::new();
    for ratio in ratios {
        // Widths are parts of the base's, whatever rounding did to the step before.
        let of_base = PruneArgs {
            keep: Keep { keep: vec![ratio], keep_internal: None, widths: None, target_macs: None },
            ..args.clone()
        };
        let Widths { coupling, clusters, .. } =
            widths(&scene.console, &of_base, &name, &base.model, Clustering::Even)?;
        let folder = out.join(place(&ratio));
        let step = PruneArgs {
            file: file.clone(),
            out: Some(folder.clone()),
            computed: Some(target::widths(&coupling, &clusters)),
            ..of_base
        };
        scene.console.note(&format!("keep {ratio}, from {}", file.display()));
        let Outcome::Done(report) = by_method(scene, &step, resume)? else {
            return Ok(Outcome::Interrupted);
        };
        let reached = final_accuracy(&report);
        let before = reports.first().unwrap_or(&report)["base_accuracy"].as_f64().unwrap_or(f64::NAN);
        let taken = args.max_accuracy_drop.is_none_or(|points| 100.0 * (before - reached) <= points);
        steps.push(json!({
            "keep": ratio,
            "folder": folder.display().to_string(),
            "wide_accuracy": report["wide_accuracy"],
            "slim_accuracy": report["slim_accuracy"],
            "finetuned_accuracy": report["finetuned_accuracy"],
            "final_accuracy": reached,
            "macs_after": report["macs_after"],
            "taken": taken,
        }));
        reports.push(report);
        if !taken {
            lost = format!("{} after {ratio}, {} before", percent(reached), percent(before));
            if best.is_some() {
                scene.console.note(&format!(
                    "accuracy {lost}: more than {} points lost (--max-accuracy-drop), so the step before is the result",
                    args.max_accuracy_drop.unwrap_or(0.0)
                ));
            }
            break;
        }
        file = folder.join(SLIM);
        best = Some(reports.len() - 1);
    }
    let Some(best) = best else {
        return Err(Error::new(ErrorKind::Numeric, format!("pruning {name}"))
            .expected(format!("a step that loses at most {} points", args.max_accuracy_drop.unwrap_or(0.0)))
            .found(lost)
            .next("Begin with a --keep nearer to 1, train longer, or allow more"));
    };
    copy(&file, &paths.slim)?;
    let (first, last) = (&reports[0], &reports[best]);
    let mut report = last.clone();
    for key in [
        "base_accuracy",
        "base_loss",
        "macs_before",
        "params_before",
        "bytes_before",
        "latency_before_ms",
        "training",
    ] {
        report[key] = first[key].clone();
    }
    report["steps"] = json!(steps);
    report["command"] = json!(crate::command_line::current());
    let total = |key: &str| reports.iter().filter_map(|report| report[key].as_f64()).sum::<f64>();
    report["seconds"] = json!(total("seconds"));
    report["training_seconds"] = json!(total("training_seconds"));
    files::write(&out.join(REPORT), to_json(&report)?.as_bytes())?;
    Ok(Outcome::Done(report))
}

/// What is kept step by step, ever less.
fn ratios(args: &PruneArgs) -> Result<Vec<Ratio>> {
    let ratios = match args.keep.keep.as_slice() {
        [] if args.keep.keep_internal.is_none()
            && args.keep.widths.is_none()
            && args.keep.target_macs.is_none() =>
        {
            EIGHTHS.iter().map(|&eighths| Ratio::new(eighths, 8)).collect::<Result<Vec<_>>>()?
        }
        [] => {
            return Err(Error::new(ErrorKind::Argument, "reading --max-accuracy-drop")
                .expected("the steps of --keep, or none, with it")
                .found("--keep-internal, --widths or --target-macs, which name one step alone"));
        }
        given => given.to_vec(),
    };
    let value = |ratio: &Ratio| ratio.numerator() as f64 / ratio.denominator() as f64;
    if ratios.is_empty() || !ratios.is_sorted_by(|a, b| value(a) > value(b)) {
        return Err(Error::new(ErrorKind::Argument, "reading the steps of --keep")
            .expected("parts that each keep less than the one before, such as 13/16,11/16,5/8")
            .found(format!("{:?}", ratios.iter().map(ToString::to_string).collect::<Vec<_>>())));
    }
    Ok(ratios)
}

/// The accuracy that a run ended with.
pub(super) fn final_accuracy(report: &Value) -> f64 {
    report["finetuned_accuracy"].as_f64().or(report["slim_accuracy"].as_f64()).unwrap_or(f64::NAN)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from)
        .map_err(|error| Error::new(ErrorKind::Io, format!("reading {}", from.display())).found(error))?;
    files::write(to, &bytes)
}
