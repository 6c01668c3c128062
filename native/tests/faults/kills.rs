//! Runs killed at random moments and resumed, against runs that were not.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use centripetal::rng::Rng;
use tempfile::TempDir;

use super::table::Row;

const SMALL: &[&str] =
    &["--data", "synthetic", "--train-limit", "400", "--test-limit", "50", "--batch", "20", "--epochs", "4"];

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

/// Kills runs of `train` and of `prune` up to three times each, then lets them end.
pub(crate) fn killed(tries: usize) -> Vec<Row> {
    let dir = TempDir::new().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let train = |out: &'static str| [&["train", "lenet", "--out", out][..], SMALL].concat();
    let prune = |out: &'static str| {
        let words = ["prune", "whole/base.safetensors", "--strength", "0.1", "--out", out];
        [&words[..], SMALL].concat()
    };
    let timed = |words: &[&str]| {
        let started = Instant::now();
        done(&command(dir.path(), words).output().expect("starts")).expect("an undisturbed run ends well");
        started.elapsed()
    };
    let whole = timed(&train("whole"));
    let pruned = timed(&prune("pruned"));
    let kinds = [
        ("train killed (SIGKILL) and resumed", train("torn"), whole, "whole", &["base.safetensors"][..]),
        (
            "prune killed (SIGKILL) and resumed",
            prune("torn"),
            pruned,
            "pruned",
            &["wide.safetensors", "slim.safetensors"][..],
        ),
    ];
    let mut rng = Rng::new(1);
    let mut rows = Vec::new();
    for (fault, words, takes, reference, names) in kinds {
        let mut row = Row::new(fault);
        // Often enough to be killed between, within and while writing checkpoints.
        let often = [&words[..], &["--checkpoint-minutes", "0.0005"]].concat();
        for _ in 0..tries.div_ceil(2) {
            // What is killed before its first checkpoint has nothing to go on with and begins again.
            let _ = std::fs::remove_dir_all(at("torn"));
            let mut resumed = false;
            for _ in 0..=rng.below(3) {
                let resume: &[&str] = if resumed { &["--resume"] } else { &[] };
                let mut child = command(dir.path(), &[&often[..], resume].concat()).spawn().expect("starts");
                sleep(takes.mul_f64(f64::from(rng.uniform()) * 1.2));
                kill(&mut child);
                resumed = true;
            }
            let output = command(dir.path(), &[&often[..], &["--resume"]].concat()).output().expect("starts");
            row.count(done(&output).and_then(|()| same(&at(reference), &at("torn"), names)));
        }
        rows.push(row);
    }
    rows
}

fn kill(child: &mut Child) {
    // One that has just ended cannot be killed any more.
    let _ = child.kill();
    let _ = child.wait();
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
