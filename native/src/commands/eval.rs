//! `eval`: accuracy and loss of a checkpoint, and how well it knows each class.

use std::sync::Arc;

use centripetal::Result;
use centripetal::data::Loader;
use centripetal::plan::Mode;
use centripetal::train::{answered, evaluate_each};
use pollster::block_on;
use serde_json::{Value, json};

use super::{Scene, test_batch};
use crate::args::EvalArgs;
use crate::files;
use crate::progress::{grouped, percent, table};

/// Classes of which the table shows all; of more, the weakest.
const SHOWN: usize = 20;

/// Classes of which all pairs are counted.
const PAIRED: usize = 100;

/// How often the images of each class were answered with which class.
struct Confusion {
    /// As the data name them.
    classes: Vec<String>,
    /// A row a class, a column an answer; the last for images without any, whose logits are no numbers.
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    fn new(classes: &[String], answers: usize) -> Self {
        Confusion { classes: classes.to_vec(), counts: vec![vec![0; answers + 1]; classes.len()] }
    }

    fn add(&mut self, labels: &[u32], logits: &[f32]) {
        for (&label, row) in labels.iter().zip(logits.chunks_exact(logits.len() / labels.len().max(1))) {
            let answer = answered(row).unwrap_or(row.len());
            self.counts[label as usize][answer] += 1;
        }
    }

    /// Right answers and images of a class.
    fn of(&self, class: usize) -> (u64, u64) {
        (self.counts[class][class], self.counts[class].iter().sum())
    }

    fn accuracy(&self, class: usize) -> Option<f64> {
        let (correct, samples) = self.of(class);
        (samples > 0).then(|| correct as f64 / samples as f64)
    }

    fn text(&self) -> String {
        let mut shown: Vec<usize> = (0..self.classes.len()).collect();
        let many = shown.len() > SHOWN;
        if many {
            let rank = |&class: &usize| self.accuracy(class).unwrap_or(f64::INFINITY);
            shown.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
            shown.truncate(SHOWN);
        }
        let title = if many { "weakest classes" } else { "class" };
        let mut rows = vec![["class", "accuracy", "right", "images"].map(str::to_owned).to_vec()];
        rows[0][0] = title.to_owned();
        rows.extend(shown.iter().map(|&class| {
            let (correct, samples) = self.of(class);
            let accuracy = self.accuracy(class).map_or_else(|| "no images".to_owned(), percent);
            vec![self.classes[class].clone(), accuracy, grouped(correct), grouped(samples)]
        }));
        table(&rows)
    }

    fn document(&self) -> Value {
        let classes = self.classes.iter().enumerate().map(|(class, name)| {
            let (correct, samples) = self.of(class);
            json!({ "name": name, "accuracy": self.accuracy(class), "correct": correct, "samples": samples })
        });
        classes.collect()
    }
}

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
    let mut confusion = Confusion::new(test.classes(), checkpoint.model.graph.classes()?);
    let seen = &mut |labels: &[u32], logits: &[f32]| confusion.add(labels, logits);
    let evaluation = block_on(evaluate_each(&device, &checkpoint.model, &loader, seen))?
        .finite(&format!("evaluating {name}"))?;
    let text = format!(
        "accuracy {} ({} of {})   loss {:.4}\n\n{}",
        percent(evaluation.accuracy()),
        grouped(evaluation.correct),
        grouped(evaluation.samples),
        evaluation.loss,
        confusion.text()
    );
    let pairs = (confusion.classes.len() <= PAIRED).then_some(&confusion.counts);
    let document = json!({
        "file": name,
        "data": test.name(),
        "accuracy": evaluation.accuracy(),
        "loss": evaluation.loss,
        "correct": evaluation.correct,
        "samples": evaluation.samples,
        "classes": confusion.document(),
        "confusion": pairs,
        "stage": checkpoint.provenance.stage,
        "device": device.info(),
    });
    scene.console.answer(&text, &document)
}
