//! `compare`: several methods on one base and one budget, as a table, a page and a CSV file.

use std::path::Path;

use centripetal::formats::{Checkpoint, Provenance, Stage};
use centripetal::prune::Clustering;
use centripetal::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::steps::final_accuracy;
use super::{Outcome, Scene, command, prune, squeeze};
use crate::args::{CompareArgs, Contender, Method, PruneArgs, Strength};
use crate::progress::{grouped, percent, scaled, table, to_json};
use crate::run_folder::{
    BASE, COMPARISON, Leave, RESULTS, RunFolder, Settings, TABLE, checksum, spare_input,
};
use crate::{command_line, files, html};

pub(super) fn run(scene: &Scene, args: &CompareArgs) -> Result<Outcome<()>> {
    files::rehearse_kill(&args.run.care);
    let name = args.file.display().to_string();
    if args.keep.keep.len() > 1 {
        return Err(Error::new(ErrorKind::Argument, "reading --keep")
            .expected("one part, to which every method cuts at once")
            .found(format!("{} parts", args.keep.keep.len()))
            .next("Compare at one of them at a time; `prune` cuts in steps"));
    }
    let bytes = files::read(&args.file)?;
    let base = Checkpoint::from_bytes(&name, &bytes)?;
    let names: Vec<String> = args.methods.iter().map(|contender| contender.name()).collect();
    spare_input("comparing on", &args.file, &args.out, false)?;
    names.iter().try_for_each(|name| spare_input("comparing on", &args.file, &args.out.join(name), false))?;
    let settings = Settings::new(args, &[("FILE", checksum(&bytes))])?;
    let mut folder = RunFolder::take(&args.out, "compare", settings, Leave::from(&args.run), None)?;
    if !folder.resumes() {
        folder.begin(None, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let resume = command_line::to_resume();
    let earlier = rows_of(&args.out.join(RESULTS));
    let (mut rows, mut table) = (Vec::new(), Vec::new());
    for (index, &contender) in args.methods.iter().enumerate() {
        let pruning = pruning(args, contender);
        scene.console.note(&format!("== {}", contender.name()));
        let outcome = match contender {
            Contender::Squeeze => {
                let provenance = Provenance { stage: Stage::Base, ..base.provenance.clone() };
                squeeze::from_random(scene, base.model.graph.clone(), provenance, &pruning, &resume)?
            }
            _ => prune::by_method(scene, &pruning, &resume)?,
        };
        let Outcome::Done(report) = outcome else {
            return Ok(Outcome::Interrupted);
        };
        rows.push(row(&report, contender));
        // After every method, with what is known of others, so that nothing is lost when a later one fails.
        let done: Vec<String> = args.methods[..=index].iter().map(|contender| contender.name()).collect();
        let others = earlier.iter().filter(|row| !done.iter().any(|name| row["method"] == **name));
        table = rows.iter().chain(others).cloned().collect();
        write(args, &base, &table)?;
    }
    let text = format!(
        "{}\n{} and {} are written in {}",
        told(&table),
        COMPARISON,
        TABLE,
        command(&["compare"]).replace("centripetal compare", &args.out.display().to_string())
    );
    scene.console.result(&text, &json!({"rows": table}))?;
    Ok(Outcome::Done(()))
}

/// The rows of an earlier comparison in the file `path`; none where there is no such file, or a damaged one.
fn rows_of(path: &Path) -> Vec<Value> {
    let document: Value = serde_json::from_slice(&files::read(path).unwrap_or_default()).unwrap_or_default();
    document["rows"].as_array().cloned().unwrap_or_default()
}

/// How `contender` spends the budget.
fn pruning(args: &CompareArgs, contender: Contender) -> PruneArgs {
    let mut recipe = args.recipe.clone();
    let (all, half) = (recipe.epochs, recipe.epochs.div_ceil(2));
    let from_random = matches!(contender, Contender::Scratch | Contender::Squeeze);
    let finetune = match contender {
        Contender::Csgd | Contender::Scratch | Contender::Squeeze => 0,
        Contender::BnScale | Contender::GroupLasso => all - half,
        _ => all,
    };
    recipe.epochs = match contender {
        Contender::BnScale | Contender::GroupLasso => half,
        _ if from_random => args.scratch_epochs.unwrap_or(all),
        _ => all,
    };
    let out = args.out.join(contender.name());
    PruneArgs {
        // Squeeze has random weights of its own for a base.
        file: if contender == Contender::Squeeze { out.join(BASE) } else { args.file.clone() },
        data: args.data.clone(),
        keep: args.keep.clone(),
        method: contender.method().unwrap_or(Method::Csgd),
        finetune,
        from_scratch: contender == Contender::Scratch,
        sparsity: args.sparsity,
        taylor_batches: 32,
        max_accuracy_drop: None,
        recipe,
        lr: if from_random { args.scratch_lr.unwrap_or(args.lr) } else { args.lr },
        strength: Strength::Auto,
        clustering: if contender == Contender::Squeeze { Clustering::Even } else { Clustering::default() },
        pace: args.pace,
        rounding: Default::default(),
        round_to: 1,
        freeze: args.freeze.clone(),
        snap: false,
        verbose: false,
        run: args.run.clone(),
        out: Some(out),
        computed: None,
    }
}

/// What the table says of a method.
fn row(report: &Value, contender: Contender) -> Value {
    let random = matches!(contender, Contender::Scratch | Contender::Squeeze);
    json!({
        "method": contender.name(),
        "paper": match contender {
            Contender::Csgd | Contender::Squeeze => json!("Ding et al., CVPR 2019, arXiv:1904.03837"),
            _ => report["paper"].clone(),
        },
        "epochs": report["epochs"],
        "epochs_after_cut": report["finetune_epochs"].as_u64().unwrap_or(0),
        "base_accuracy": if random { Value::Null } else { report["base_accuracy"].clone() },
        "before_cut": report["wide_accuracy"],
        "after_cut": report["slim_accuracy"],
        "final_accuracy": final_accuracy(report),
        "macs": report["macs_after"],
        "macs_before": report["macs_before"],
        "params": report["params_after"],
        "equal_answers": report["argmax_agreement"],
        "samples": report["samples"],
        "training_seconds": report["training_seconds"],
    })
}

/// Columns: heading, key, and how a number is shown.
type Column = (&'static str, &'static str, fn(&Value) -> String);

fn accuracy(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, percent)
}

fn whole(value: &Value) -> String {
    value.as_u64().map_or_else(String::new, grouped)
}

fn short(value: &Value) -> String {
    value.as_u64().map_or_else(String::new, scaled)
}

const COLUMNS: [Column; 9] = [
    ("method", "method", |value| value.as_str().unwrap_or_default().to_owned()),
    ("epochs", "epochs", whole),
    ("of them after the cut", "epochs_after_cut", whole),
    ("base", "base_accuracy", accuracy),
    ("before the cut", "before_cut", accuracy),
    ("after the cut", "after_cut", accuracy),
    ("in the end", "final_accuracy", accuracy),
    ("MACs", "macs", short),
    ("parameters", "params", whole),
];

fn cells(rows: &[Value]) -> Vec<Vec<String>> {
    let heading = COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()).collect();
    let line = |row: &Value| COLUMNS.iter().map(|(_, key, show)| show(&row[*key])).collect();
    std::iter::once(heading).chain(rows.iter().map(line)).collect()
}

fn told(rows: &[Value]) -> String {
    table(&cells(rows))
}

/// Writes the results so far.
fn write(args: &CompareArgs, base: &Checkpoint, rows: &[Value]) -> Result<()> {
    let document = json!({
        "command": command_line::current(),
        "model": base.model.graph.name,
        "data": args.data.data,
        "lr": args.lr,
        "seed": args.run.seed,
        "rows": rows,
        "version": env!("CARGO_PKG_VERSION"),
    });
    files::write(&args.out.join(RESULTS), to_json(&document)?.as_bytes())?;
    let title = format!("{} on {}: pruning methods compared", base.model.graph.name, base.provenance.data);
    let page = html::comparison(&title, &cells(rows), rows, &command_line::current());
    files::write(&args.out.join(COMPARISON), page.as_bytes())?;
    files::write(&args.out.join(TABLE), csv(rows).as_bytes())
}

/// The rows as comma-separated values, numbers in full (RFC 4180).
fn csv(rows: &[Value]) -> String {
    const KEYS: [&str; 14] = [
        "method",
        "paper",
        "epochs",
        "epochs_after_cut",
        "base_accuracy",
        "before_cut",
        "after_cut",
        "final_accuracy",
        "macs",
        "macs_before",
        "params",
        "equal_answers",
        "samples",
        "training_seconds",
    ];
    let field = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut text = KEYS.join(",") + "\r\n";
    for row in rows {
        let fields: Vec<String> = KEYS.iter().map(|key| field(&row[*key])).collect();
        text += &(fields.join(",") + "\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let row = json!({"method": "l1", "paper": "Li et al., \"ICLR\"", "epochs": 3, "after_cut": 0.5});
        let text = csv(&[row]);
        let line = text.lines().nth(1).unwrap_or_default();
        assert_eq!(line, "l1,\"Li et al., \"\"ICLR\"\"\",3,,,,0.5,,,,,,,");
    }
}
