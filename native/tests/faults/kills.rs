//! Runs killed at random moments and resumed, against runs that were not.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use centripetal::rng::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::table::Row;

const SMALL: &[&str] =
    &["--data", "synthetic", "--train-limit", "400", "--test-limit", "50", "--batch", "20", "--epochs", "4"];

/// As many images in more steps, so that C-SGD has time enough.
const MORE_STEPS: &[&str] =
    &["--data", "synthetic", "--train-limit", "400", "--test-limit", "50", "--batch", "4", "--epochs", "4"];

/// The command in `dir`, on the CPU unless `words` say otherwise.
pub(crate) fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_centripetal"));
    command.current_dir(dir).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !words.contains(&"--device") {
        command.args(["--device", "cpu"]);
    }
    command.env("XDG_RUNTIME_DIR", dir);
    command
}

/// Ends well, or says what was printed.
pub(crate) fn done(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Ends with exit code 1 and one error line that holds `part`, without a panic.
pub(crate) fn told(output: &Output, part: &str) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().find(|line| line.starts_with("error: "));
    match error {
        Some(line)
            if line.contains(part) && output.status.code() == Some(1) && !text.contains("panicked") =>
        {
            Ok(())
        }
        _ => Err(format!("expected an error with {part:?}, found {}: {}", output.status, text.trim())),
    }
}

/// Whether the files `names` in `a` and `b` are the same.
pub(crate) fn same(a: &Path, b: &Path, names: &[&str]) -> Result<(), String> {
    for name in names {
        let read = |dir: &Path| std::fs::read(dir.join(name)).map_err(|error| format!("{name}: {error}"));
        if read(a)? != read(b)? {
            return Err(format!("{name}: other bits"));
        }
    }
    Ok(())
}

/// A kind of run, what it is called, and the files that it must end with.
struct Kind {
    fault: &'static str,
    words: Vec<&'static str>,
    files: &'static [&'static str],
    /// Folders with a log.
    logs: &'static [&'static str],
}

/// Kills runs of every command that trains up to three times each, then lets them end: in the bits, the epochs of the
/// log and the kept checkpoints of runs that were not killed. `tries` runs in all, each killed at least once.
pub(crate) fn killed(tries: usize) -> Vec<Row> {
    let dir = TempDir::new().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let kept = ["--keep-last", "2", "--keep-best"];
    let run = |words: &[&'static str]| [words, SMALL, &kept].concat();
    let longer = |words: &[&'static str]| [words, MORE_STEPS, &kept].concat();
    let prune = ["prune", "base/base.safetensors", "--strength", "0.1", "--snap"];
    let l1 = ["prune", "base/base.safetensors", "--method", "l1", "--finetune", "4"];
    let kinds = [
        Kind {
            fault: "train killed (SIGKILL) and resumed",
            words: run(&["train", "lenet"]),
            files: &["base.safetensors"],
            logs: &[""],
        },
        Kind {
            fault: "prune killed (SIGKILL) and resumed",
            words: run(&prune),
            files: &["wide.safetensors", "slim.safetensors"],
            logs: &[""],
        },
        Kind {
            fault: "prune --method l1 --finetune killed (SIGKILL) and resumed",
            words: run(&l1),
            files: &["base.safetensors", "slim.safetensors"],
            logs: &[""],
        },
        Kind {
            fault: "prune in steps killed (SIGKILL) and resumed",
            words: run(&[&l1[..], &["--keep", "3/4,1/2"]].concat()),
            files: &["keep-3-4/slim.safetensors", "keep-1-2/slim.safetensors", "slim.safetensors"],
            logs: &["keep-3-4", "keep-1-2"],
        },
        Kind {
            fault: "train --squeeze killed (SIGKILL) and resumed",
            words: longer(&["train", "lenet", "--width", "1.6", "--squeeze"]),
            files: &["base.safetensors", "wide.safetensors", "slim.safetensors"],
            logs: &[""],
        },
        Kind {
            fault: "compare killed (SIGKILL) and resumed",
            words: longer(&["compare", "base/base.safetensors", "--methods", "csgd,group-lasso,scratch"]),
            files: &["csgd/slim.safetensors", "group-lasso/slim.safetensors", "scratch/slim.safetensors"],
            logs: &["csgd", "group-lasso", "scratch"],
        },
    ];
    let base = [&["train", "lenet", "--out", "base"], SMALL].concat();
    done(&command(dir.path(), &base).output().expect("starts")).expect("an undisturbed run ends well");
    let mut rng = Rng::new(1);
    let mut rows = Vec::new();
    for (index, Kind { fault, words, files, logs }) in kinds.iter().enumerate() {
        let mut row = Row::new(*fault);
        let out = |name: &'static str| [&words[..], &["--out", name]].concat();
        let _ = std::fs::remove_dir_all(at("whole"));
        let started = Instant::now();
        done(&command(dir.path(), &out("whole")).output().expect("starts"))
            .expect("an undisturbed run ends well");
        let takes = started.elapsed();
        // Often enough to be killed between, within and while writing checkpoints.
        let often = [&out("torn")[..], &["--checkpoint-minutes", "0.0005"]].concat();
        let (mut kills, mut missed) = (0, 0);
        while kills < share(tries, kinds.len(), index) && missed < 100 {
            // What is killed before its first checkpoint has nothing to go on with and begins again.
            let _ = std::fs::remove_dir_all(at("torn"));
            let mut hits = 0;
            for turn in 0..=rng.below(3) {
                let resume: &[&str] = if turn == 0 { &[] } else { &["--resume"] };
                let mut child = command(dir.path(), &[&often[..], resume].concat()).spawn().expect("starts");
                sleep(takes.mul_f64(f64::from(rng.uniform()) * 1.2));
                hits += usize::from(kill(&mut child));
            }
            if hits == 0 {
                missed += 1;
                continue;
            }
            kills += 1;
            let output = command(dir.path(), &[&often[..], &["--resume"]].concat()).output().expect("starts");
            let outcome = done(&output).and_then(|()| same(&at("whole"), &at("torn"), files));
            row.count(outcome.and_then(|()| {
                logs.iter().try_for_each(|log| same_epochs(&at("whole").join(log), &at("torn").join(log)))
            }));
        }
        rows.push(row);
    }
    rows
}

/// Kills runs before every `stride`th change to a file, where something else is in their folder: an older run that `--force`
/// gives up, or the base that is pruned; and runs that go back after a loss that is not finite. Resumed, they must end in
/// the bits of one that was not killed, or say that they cannot go on, and do so when they begin anew.
pub(crate) fn scanned(stride: usize) -> Vec<Row> {
    struct Scan {
        fault: &'static str,
        /// What is in the folder before.
        before: Vec<&'static str>,
        words: Vec<&'static str>,
        files: &'static [&'static str],
    }
    let dir = TempDir::new().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let ends_well = |words: &[&str]| {
        done(&command(dir.path(), words).output().expect("starts")).expect("an undisturbed run ends well");
    };
    let small = |words: &[&'static str]| [words, SMALL].concat();
    for (out, seed) in [("base", "0"), ("other", "7")] {
        ends_well(&[&["train", "lenet", "--seed", seed, "--out", out], SMALL].concat());
    }
    let prune = ["prune", "base/base.safetensors", "--strength", "0.1", "--snap", "--force"];
    let other = ["prune", "other/base.safetensors", "--strength", "0.1", "--snap"];
    let steps = ["--method", "l1", "--keep", "3/4,1/2"];
    let compare = ["compare", "base/base.safetensors", "--methods", "l1,scratch"];
    let scans = [
        Scan {
            fault: "train over another run, killed before a change to a file",
            before: small(&["train", "lenet", "--seed", "7", "--keep-best"]),
            words: small(&["train", "lenet", "--force"]),
            files: &["base.safetensors"],
        },
        Scan {
            fault: "train with --on-nan rollback, killed before a change to a file",
            before: Vec::new(),
            words: small(&["train", "lenet", "--lr", "20", "--warmup", "2", "--on-nan", "rollback"]),
            files: &["base.safetensors"],
        },
        Scan {
            fault: "prune over that of another base, killed before a change to a file",
            before: small(&other),
            words: small(&prune),
            files: &["base.safetensors", "wide.safetensors", "slim.safetensors"],
        },
        Scan {
            fault: "prune in its base's folder, killed before a change to a file",
            before: small(&["train", "lenet"]),
            words: small(&["prune", "torn/base.safetensors", "--strength", "0.1", "--snap"]),
            files: &["base.safetensors", "wide.safetensors", "slim.safetensors"],
        },
        Scan {
            fault: "prune in steps over others, killed before a change to a file",
            before: small(&[&other[..2], &steps, &["--finetune", "1"]].concat()),
            words: small(&[&prune[..2], &steps, &["--finetune", "2", "--force"]].concat()),
            files: &["keep-3-4/slim.safetensors", "keep-1-2/slim.safetensors", "slim.safetensors"],
        },
        Scan {
            fault: "compare over another comparison, killed before a change to a file",
            before: small(&[&compare[..], &["--seed", "3"]].concat()),
            words: small(&[&compare[..], &["--force"]].concat()),
            files: &["l1/slim.safetensors", "scratch/slim.safetensors"],
        },
    ];
    let rows = scans.iter().map(|scan| {
        let mut row = Row::new(scan.fault);
        let run = |out: &'static str, words: &[&'static str], more: &[&str]| {
            let words: Vec<&str> = words
                .iter()
                .map(|word| {
                    if *word == "torn/base.safetensors" && out == "whole" {
                        "whole/base.safetensors"
                    } else {
                        word
                    }
                })
                .collect();
            command(dir.path(), &[&words[..], &["--out", out], more].concat()).output().expect("starts")
        };
        let prepare = |out: &'static str| {
            let _ = std::fs::remove_dir_all(at(out));
            if !scan.before.is_empty() {
                done(&run(out, &scan.before, &[])).expect("an undisturbed run ends well");
            }
        };
        prepare("whole");
        done(&run("whole", &scan.words, &[])).expect("an undisturbed run ends well");
        let resumed: Vec<&str> = scan.words.iter().copied().filter(|word| *word != "--force").collect();
        let anew: Vec<&str> = resumed.iter().copied().chain(["--force"]).collect();
        for change in (1..).step_by(stride) {
            prepare("torn");
            let killed = run("torn", &scan.words, &["--rehearse-kill", &change.to_string()]);
            if killed.status.success() {
                break;
            }
            let same = || same(&at("whole"), &at("torn"), scan.files);
            let outcome = match killed.status.code() {
                Some(_) => Err(format!("not killed: {}", String::from_utf8_lossy(&killed.stderr).trim())),
                None => {
                    let output = run("torn", &resumed, &["--resume"]);
                    if output.status.success() {
                        same()
                    } else {
                        told(&output, "").and_then(|()| done(&run("torn", &anew, &[]))).and_then(|()| same())
                    }
                }
            };
            row.count(outcome.map_err(|loss| format!("change {change}: {loss}")));
        }
        row
    });
    rows.collect()
}

/// The part of `tries` that is tried of the kind `index` of `kinds`: at least one.
fn share(tries: usize, kinds: usize, index: usize) -> usize {
    (tries / kinds + usize::from(index < tries % kinds)).max(1)
}

/// Whether the logs in `a` and `b` tell the same of every epoch, and the same checkpoints are kept.
fn same_epochs(a: &Path, b: &Path) -> Result<(), String> {
    let epochs = |dir: &Path| -> Result<Vec<Value>, String> {
        let text = std::fs::read_to_string(dir.join("metrics.jsonl")).map_err(|error| error.to_string())?;
        let lines =
            text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")));
        let lines = lines.collect::<Result<Vec<Value>, String>>()?.into_iter();
        let of = |line: Value| json!([line["phase"], line["step"], line["test_accuracy"], line["test_loss"]]);
        Ok(lines.filter(|line| !line["test_accuracy"].is_null()).map(of).collect())
    };
    let (whole, torn) = (epochs(a)?, epochs(b)?);
    if whole.is_empty() || whole != torn {
        return Err(format!("epochs in the log: {torn:?} instead of {whole:?}"));
    }
    let kept = |dir: &Path| {
        let files = std::fs::read_dir(dir.join("checkpoints")).map_err(|error| error.to_string())?;
        let mut names: Vec<_> =
            files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok::<_, String>(names)
    };
    let names = kept(a)?;
    if names != kept(b)? {
        return Err(format!("checkpoints kept: {:?} instead of {names:?}", kept(b)?));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    same(&a.join("checkpoints"), &b.join("checkpoints"), &names)
}

/// Kills `child`; whether it was still running.
fn kill(child: &mut Child) -> bool {
    let runs = child.try_wait().is_ok_and(|ended| ended.is_none());
    // One that ends at this moment cannot be killed any more.
    let _ = child.kill();
    runs && child.wait().is_ok_and(|status| status.code().is_none())
}

/// Waits until `path` is there, while `child` runs.
pub(crate) fn appears(path: &Path, child: &mut Child) -> Result<(), String> {
    let started = Instant::now();
    while !path.exists() {
        if started.elapsed() > Duration::from_secs(60) || child.try_wait().is_ok_and(|ended| ended.is_some())
        {
            return Err(format!("{} does not appear", path.display()));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
