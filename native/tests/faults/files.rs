//! Damaged files, given to every reader: no panic, no hang, no memory beyond a ceiling. The readers are those of the fuzz
//! targets, the whole files their seeds, and whatever broke a reader once is tried again first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use centripetal::rng::Rng;
use serde_json::json;
use tempfile::TempDir;

use super::damage::{Format, damage};
use super::kills::command;
use super::table::Row;
use crate::MEMORY;
use crate::entries::{ENTRIES, Entry};

/// No file may take longer.
const PATIENCE: Duration = Duration::from_secs(2);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

/// The files in `folder`, by name; none if there is no folder.
fn all(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("reads")).collect()
}

fn format(entry: &Entry) -> Format {
    match entry.name {
        "checkpoint" | "state_dict" => Format::Safetensors,
        "onnx" => Format::Protobuf,
        "widths" | "tuning" => Format::Text,
        _ => Format::Bytes,
    }
}

/// Ends this program, with a message, when a reader takes memory beyond all measure, before the machine suffers, or does not
/// come back.
fn guard() {
    const MOST: usize = 2 << 30;
    const LONGEST: Duration = Duration::from_secs(60);
    let end = |what: String| {
        let file = CURRENT.lock().map_or_else(|_| "a file".to_owned(), |name| name.clone());
        eprintln!("lost: a reader {what} for {file}");
        std::process::exit(1);
    };
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(2));
            let used = MEMORY.current_usage();
            if used > MOST {
                end(format!("took {used} bytes"));
            }
            let since = SINCE.lock().ok().and_then(|since| *since);
            if since.is_some_and(|since| since.elapsed() > LONGEST) {
                end(format!("hangs, {LONGEST:?} by now,"));
            }
        }
    });
}

/// What is being read.
static CURRENT: Mutex<String> = Mutex::new(String::new());

/// Since when.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);

/// Damages files for each reader in `tries` ways, all readers together.
pub(crate) fn broken(tries: usize, seed: u64) -> Vec<Row> {
    guard();
    // A panic is counted here; its message would only clutter.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let each = tries.div_ceil(ENTRIES.len());
    let rows = ENTRIES.iter().map(|entry| {
        let mut row = Row::new(format!("files damaged: {}", entry.name));
        let mut seeds = all(&fuzz().join("corpus").join(entry.name));
        if entry.name == "onnx" {
            let folder = fuzz().join("../onnx");
            let theirs = ["squeeze_excite.onnx", "option_a.onnx", "squeeze_excite_dynamo.onnx"];
            seeds.extend(theirs.map(|name| std::fs::read(folder.join(name)).expect("reads")));
        }
        *CURRENT.lock().expect("a name") = format!("a whole file of {}", entry.name);
        for seed in &seeds {
            let outcome = survives(entry, seed);
            let whole = outcome.and_then(|read| read.map_err(|error| format!("a whole file: {error}")));
            row.count(whole);
        }
        for bytes in all(&fuzz().join("regressions").join(entry.name)) {
            *CURRENT.lock().expect("a name") = format!("a regression of {}", entry.name);
            row.count(survives(entry, &bytes).map(drop).map_err(|loss| format!("a regression: {loss}")));
        }
        let mut rng = Rng::new(seed);
        for index in 0..each {
            let (bytes, how) = damage(format(entry), &seeds, &mut rng);
            *CURRENT.lock().expect("a name") = format!("{}, file {index} of seed {seed}, {how}", entry.name);
            let outcome = survives(entry, &bytes).map(drop);
            row.count(outcome.map_err(|loss| {
                let path = std::env::temp_dir().join(format!("centripetal-{}-{index}", entry.name));
                let kept = std::fs::write(&path, &bytes).map(|()| path.display().to_string());
                format!("{how}: {loss} ({})", kept.unwrap_or_default())
            }));
        }
        row
    });
    let rows = rows.collect();
    std::panic::set_hook(hook);
    rows
}

/// A message or a file that is still readable (which of them); never a panic, a hang or a flood.
fn survives(entry: &Entry, bytes: &[u8]) -> Result<Result<(), String>, String> {
    let first = try_once(entry, bytes);
    // On a machine that is busy a file may wait; one that hangs hangs again.
    if first.as_ref().is_err_and(|loss| loss.starts_with("took longer")) {
        try_once(entry, bytes)
    } else {
        first
    }
}

fn try_once(entry: &Entry, bytes: &[u8]) -> Result<Result<(), String>, String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let started = Instant::now();
    *SINCE.lock().expect("a time") = Some(started);
    let outcome = catch_unwind(AssertUnwindSafe(|| (entry.read)(bytes)));
    *SINCE.lock().expect("a time") = None;
    let (took, took_memory) = (started.elapsed(), MEMORY.peak_usage().saturating_sub(before));
    let outcome = match outcome {
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied());
            return Err(format!("a panic: {}", what.unwrap_or("no message")));
        }
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
    };
    if outcome.as_ref().is_err_and(String::is_empty) {
        return Err("an empty message".to_owned());
    }
    if took > PATIENCE {
        return Err(format!("took longer than {PATIENCE:?}: {took:?}"));
    }
    if took_memory > entry.ceiling {
        return Err(format!("took {took_memory} bytes, over the ceiling of {}", entry.ceiling));
    }
    Ok(outcome)
}

/// Damaged reports and logs, given to the command: a page or a message.
pub(crate) fn reports(tries: usize) -> Vec<Row> {
    let mut row = Row::new("files damaged: report.json and metrics.jsonl of a run");
    let dir = TempDir::new().expect("a folder");
    let train = ["train", "lenet", "--data", "synthetic", "--train-limit", "100", "--test-limit", "50"];
    let words = [&train[..], &["--batch", "20", "--epochs", "1", "--out", "run"]].concat();
    let output = command(dir.path(), &words).output().expect("starts");
    assert!(output.status.success(), "an undisturbed run ends well");
    let at = |name: &str| dir.path().join("run").join(name);
    let names = ["report.json", "metrics.jsonl"];
    let whole = names.map(|name| vec![std::fs::read(at(name)).expect("reads")]);
    let mut rng = Rng::new(11);
    for _ in 0..tries {
        let which = rng.below(2);
        for (name, whole) in names.iter().zip(&whole) {
            std::fs::write(at(name), &whole[0]).expect("writes");
        }
        let (bytes, how) = damage(Format::Text, &whole[which], &mut rng);
        std::fs::write(at(names[which]), &bytes).expect("writes");
        let started = Instant::now();
        let output = command(dir.path(), &["report", "run", "--json"]).output().expect("starts");
        let err = String::from_utf8_lossy(&output.stderr);
        let told =
            err.lines().any(|line| line.starts_with("error: ")) && !err.contains("a fault in centripetal");
        let outcome = match output.status.code() {
            Some(0) if serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok() => Ok(()),
            Some(1) if told => Ok(()),
            code => Err(format!("{how} ({}): {code:?} {err}", json!(String::from_utf8_lossy(&bytes)))),
        };
        let slow = started.elapsed() > PATIENCE;
        row.count(
            outcome.and_then(|()| if slow { Err(format!("took {:?}", started.elapsed())) } else { Ok(()) }),
        );
    }
    vec![row]
}
