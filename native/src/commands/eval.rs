//! `eval`: accuracy and loss of a checkpoint.

use std::sync::Arc;

use centripetal::Result;
use centripetal::data::Loader;
use centripetal::plan::Mode;
use centripetal::train::{Answers, evaluate};
use pollster::block_on;
use serde_json::json;

use super::{Scene, test_batch};
use crate::args::EvalArgs;
use crate::files;
use crate::progress::{grouped, percent};

pub(super) fn run(scene: &Scene, args: &EvalArgs) -> Result<()> {
    let name = args.file.display().to_string();
    let checkpoint = files::checkpoint(&args.file)?;
    let test = scene.open_test(&args.data, args.test_limit, args.seed, (&name, &checkpoint))?;
    let device = scene.open_device()?;
    // As in a run, so that the numbers are those of its report to the last digit.
    let batch =
        args.batch.map_or_else(|| test_batch(device.info(), test.len()), |batch| batch.min(test.len()));
    let loader = Loader::evaluation(Arc::clone(&test), batch)?;
    scene.tune(&device, &checkpoint.model.graph, batch, Mode::Evaluate)?;
    let evaluation = block_on(evaluate(&device, &checkpoint.model, &loader, Answers::Discard))?
        .finite(&format!("evaluating {name}"))?;
    let text = format!(
        "accuracy {} ({} of {})   loss {:.4}",
        percent(evaluation.accuracy()),
        grouped(evaluation.correct),
        grouped(evaluation.samples),
        evaluation.loss
    );
    let document = json!({
        "file": name,
        "data": test.name(),
        "accuracy": evaluation.accuracy(),
        "loss": evaluation.loss,
        "correct": evaluation.correct,
        "samples": evaluation.samples,
        "stage": checkpoint.provenance.stage,
        "device": device.info(),
    });
    scene.console.result(&text, &document)
}
