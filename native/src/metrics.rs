//! `metrics.jsonl`: one JSON object a line, as a run goes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use centripetal::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::files;

/// Name of the file in the folder of a run.
pub(crate) const FILE: &str = "metrics.jsonl";

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Base training.
    Train,
    /// Centripetal SGD.
    Csgd,
    /// Training under a penalty that makes filters small.
    Sparse,
    /// The narrow architecture from random weights.
    Scratch,
    /// After a cut.
    Finetune,
}

impl Phase {
    /// Its name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Train => "train",
            Phase::Csgd => "csgd",
            Phase::Sparse => "sparse",
            Phase::Scratch => "scratch",
            Phase::Finetune => "finetune",
        }
    }

    /// Whether the lines of a phase called `name` come before those of this one.
    fn follows(self, name: &str) -> bool {
        match self {
            Phase::Train => false,
            Phase::Csgd | Phase::Sparse | Phase::Scratch => name == Phase::Train.name(),
            Phase::Finetune => [Phase::Train, Phase::Sparse].iter().any(|phase| phase.name() == name),
        }
    }
}

/// The open file.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Seconds that the phase took before this process.
    pub(crate) seconds: f64,
    /// The best test accuracy of the phase so far; negative infinity before the first.
    pub(crate) best: f64,
}

/// What is looked at when a log is gone on with; the rest of a line may be long.
#[derive(Deserialize)]
struct Seen {
    phase: String,
    step: Option<u64>,
    seconds: Option<f64>,
    test_accuracy: Option<f64>,
}

impl Log {
    /// Opens the log of the folder `dir` for `phase`, from whose step `step` the run goes on: later lines, which an
    /// interrupted run wrote after its last checkpoint, are dropped, and so are those of later phases.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read or written.
    pub(crate) fn open(dir: &Path, phase: Phase, step: u64) -> Result<Self> {
        let path = dir.join(FILE);
        let mut text = String::new();
        let (mut seconds, mut best) = (0.0, f64::NEG_INFINITY);
        for line in read(&path)?.lines() {
            let Ok(seen) = serde_json::from_str::<Seen>(line) else { continue };
            let ours = seen.phase == phase.name() && step > 0 && seen.step.is_some_and(|at| at <= step);
            if !ours && !phase.follows(&seen.phase) {
                continue;
            }
            text += line;
            text.push('\n');
            if ours {
                seconds = seen.seconds.unwrap_or(seconds);
                best = seen.test_accuracy.map_or(best, |accuracy| accuracy.max(best));
            }
        }
        files::write(&path, text.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| Error::new(ErrorKind::Io, format!("opening {}", path.display())).found(error))?;
        Ok(Log { path, file, seconds, best })
    }

    /// Makes what was written last through a power cut.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the disk fails.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| {
            Error::new(ErrorKind::Io, format!("writing {}", self.path.display())).found(error)
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the disk is full and the like.
    pub(crate) fn push(&mut self, line: &Value) -> Result<()> {
        files::about_to_change();
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| {
            Error::new(ErrorKind::Io, format!("writing {}", self.path.display()))
                .found(error)
                .next("The last checkpoint is kept; make room and go on with --resume")
        })
    }
}

/// The lines of the log in `dir`; none if there is no log. A line that broke off is left out.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be read.
pub(crate) fn load(dir: &Path) -> Result<Vec<Value>> {
    let text = read(&dir.join(FILE))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn read(path: &Path) -> Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    let bytes = files::read(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resumed_log_forgets_what_came_after_the_checkpoint() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(dir.path(), Phase::Train, 0).expect("opens");
        for step in [1, 5, 9] {
            log.push(&json!({"phase": "train", "step": step, "seconds": step})).expect("writes");
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(FILE))
            .and_then(|mut file| file.write_all(b"{\"phase\":\"train\",\"st"))
            .expect("writes");
        let log = Log::open(dir.path(), Phase::Train, 5).expect("opens");
        assert_eq!((log.seconds, log.best), (5.0, f64::NEG_INFINITY));
        let steps =
            |dir| load(dir).expect("reads").iter().map(|line| line["step"].clone()).collect::<Vec<_>>();
        assert_eq!(steps(dir.path()), [1, 5]);
        let mut csgd = Log::open(dir.path(), Phase::Csgd, 0).expect("opens");
        csgd.push(&json!({"phase": "csgd", "step": 2, "seconds": 1})).expect("writes");
        assert_eq!(steps(dir.path()), [1, 5, 2]);
        Log::open(dir.path(), Phase::Train, 0).expect("opens");
        assert!(steps(dir.path()).is_empty());
    }
}
