//! The folder of a run: what runs write to it, with which settings, and what a new run may take away.

use std::fs;
use std::path::{Path, PathBuf};

use centripetal::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::RunArgs;
use crate::files::{self, Claim};
use crate::metrics;
use crate::progress::to_json;

/// The network before pruning.
pub(crate) const BASE: &str = "base.safetensors";
/// The network that a method trains before the cut.
pub(crate) const WIDE: &str = "wide.safetensors";
/// The network after the cut.
pub(crate) const SLIM: &str = "slim.safetensors";
/// What came of the run, written when it ends.
pub(crate) const REPORT: &str = "report.json";
/// Filters before and after C-SGD.
pub(crate) const FILTERS: &str = "filters.png";
/// The page that `report` makes.
pub(crate) const PAGE: &str = "report.html";
/// Folder of the checkpoints that `--keep-last` and `--keep-best` keep.
pub(crate) const KEPT: &str = "checkpoints";
/// The results of `compare`.
pub(crate) const RESULTS: &str = "compare.json";
/// Its page.
pub(crate) const COMPARISON: &str = "compare.html";
/// Its table.
pub(crate) const TABLE: &str = "compare.csv";
/// The options of the runs in the folder, by command.
const SETTINGS: &str = "settings.json";

/// What is a run's: a new run leaves it alone, or is told by `--force` to take it away.
const OF_RUNS: [&str; 12] =
    [BASE, WIDE, SLIM, REPORT, FILTERS, PAGE, metrics::FILE, SETTINGS, KEPT, RESULTS, COMPARISON, TABLE];

/// Those of them that belong to a base and stay when it is pruned where it lies.
const OF_A_BASE: [&str; 6] = [BASE, REPORT, PAGE, metrics::FILE, SETTINGS, KEPT];

/// Whether a run may go on with another one or overwrite it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Leave {
    pub(crate) resume: bool,
    pub(crate) force: bool,
}

impl From<&RunArgs> for Leave {
    fn from(args: &RunArgs) -> Self {
        Leave { resume: args.resume, force: args.force }
    }
}

/// The options of a run that decide what comes of it, by their names: with the same ones it can go on.
#[derive(Debug, Clone)]
pub(crate) struct Settings(Map<String, Value>);

impl Settings {
    /// The options of `args`, whose fields have the names of the options, and `more`, by their names in messages.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for one that is no JSON.
    pub(crate) fn new(args: &impl Serialize, more: &[(&str, Value)]) -> Result<Self> {
        let failure =
            |error: String| Error::new(ErrorKind::Argument, "writing down the options").found(error);
        let options = serde_json::to_value(args).map_err(|error| failure(error.to_string()))?;
        let Value::Object(options) = options else { return Err(failure(options.to_string())) };
        let named =
            |name: String| if name.starts_with(char::is_uppercase) { name } else { format!("--{name}") };
        let options = options.into_iter().map(|(name, value)| (named(name), value));
        Ok(Settings(
            options.chain(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect(),
        ))
    }

    /// Checks that a run with the settings `then`, in `path`, goes on with these.
    fn check(&self, path: &Path, then: &Value) -> Result<()> {
        let show = |value: &Value| match value {
            Value::Null => "not given".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let then = then.as_object().cloned().unwrap_or_default();
        let names = self.0.keys().chain(then.keys());
        let differs = |name: &&String| self.0.get(*name) != then.get(*name);
        match names.into_iter().find(differs) {
            None => Ok(()),
            Some(name) => {
                let of = |map: &Map<String, Value>| show(map.get(name).unwrap_or(&Value::Null));
                Err(Error::new(ErrorKind::Checkpoint, format!("going on with the run in {}", path.display()))
                    .expected(format!("{name} as in the run so far, {}", of(&then)))
                    .found(of(&self.0))
                    .next("Give the same options as before, or begin anew with --force or another --out"))
            }
        }
    }
}

/// A folder that a run has taken for itself.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Whether it was not there before.
    made: bool,
    command: &'static str,
    settings: Settings,
    resumes: bool,
    at_home: bool,
    training: Option<Value>,
    /// Whether the base in it is a copy that this run made.
    copied: bool,
    /// What was in [`SETTINGS`] before.
    before: Map<String, Value>,
    /// Once the run has begun anew: files of which one is there as soon as there is something to go on with.
    signs: Vec<PathBuf>,
    _claim: Claim,
}

impl RunFolder {
    /// Takes `path` for a run of `command`: to go on with, if `leave` and the same settings allow it, else to begin anew.
    /// `at_home` says that the folder is that of the very base that is pruned, whose files stay.
    ///
    /// # Errors
    /// Those of [`files::claim`]; [`ErrorKind::Checkpoint`] naming an option that differs from that of the run to go on
    /// with; [`ErrorKind::Io`] where another run would be overwritten.
    pub(crate) fn take(
        path: &Path,
        command: &'static str,
        settings: Settings,
        leave: Leave,
        at_home: bool,
    ) -> Result<Self> {
        let made = !path.exists();
        let claim = files::claim(path)?;
        files::tidy(&path.join(KEPT));
        let before = before(path);
        let resumes = match before.get(command) {
            Some(then) if leave.resume => {
                settings.check(path, then)?;
                true
            }
            _ => false,
        };
        let training = if at_home { finished(path, "train", BASE) } else { None };
        if !resumes && !leave.force {
            let is_base = |name: &str| match name {
                REPORT => training.is_some(),
                name => at_home && OF_A_BASE.contains(&name),
            };
            OF_RUNS
                .iter()
                .filter(|name| !is_base(name))
                .try_for_each(|name| refuse_overwriting(path, name))?;
        }
        Ok(RunFolder {
            path: path.to_owned(),
            made,
            command,
            settings,
            resumes,
            at_home,
            training,
            copied: false,
            before,
            signs: Vec::new(),
            _claim: claim,
        })
    }

    /// Whether a run with these settings began here before.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }

    /// The report of the training of the base that is pruned here, to be kept inside the new one.
    pub(crate) fn training(&self) -> Option<&Value> {
        self.training.as_ref()
    }

    /// Begins anew: writes `base`, if one is given, takes away what other runs left, and writes down the settings. If none
    /// of `signs` is there in the end, the run failed before there was anything to go on with, and takes away what it wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a full disk and the like. The base is written before anything is taken away.
    pub(crate) fn begin(&mut self, base: Option<&[u8]>, signs: &[&str]) -> Result<()> {
        if let Some(base) = base.filter(|_| !self.at_home) {
            files::write(&self.path.join(BASE), base)?;
            self.copied = true;
        }
        let stays = |name: &str| match name {
            // The base of before is as good as none until another takes its place.
            BASE => true,
            REPORT => self.training.is_some(),
            // Only now out of date.
            PAGE => false,
            name => self.at_home && OF_A_BASE.contains(&name),
        };
        for name in OF_RUNS.iter().filter(|name| **name != KEPT && !stays(name)) {
            remove(&self.path.join(name))?;
        }
        remove_kept(&self.path.join(KEPT), if self.at_home { &[WIDE, SLIM] } else { &[BASE, WIDE, SLIM] })?;
        if let Some(training) = &self.training {
            files::write(&self.path.join(REPORT), to_json(training)?.as_bytes())?;
        }
        let mut all = if self.at_home { self.before.clone() } else { Map::new() };
        all.insert(self.command.to_owned(), Value::Object(self.settings.0.clone()));
        self.signs = signs.iter().map(|name| self.path.join(name)).collect();
        files::write(&self.path.join(SETTINGS), to_json(&Value::Object(all))?.as_bytes())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed is only untidy.
        if !self.signs.is_empty() && !self.signs.iter().any(|path| path.exists()) {
            let settings = self.path.join(SETTINGS);
            let _ = match to_json(&Value::Object(self.before.clone())) {
                Ok(text) if self.at_home && !self.before.is_empty() => {
                    files::write(&settings, text.as_bytes())
                }
                _ => remove(&settings),
            };
            if !self.at_home {
                let _ = remove(&self.path.join(metrics::FILE));
            }
            if self.copied {
                let _ = remove(&self.path.join(BASE));
            }
        }
        if self.made {
            // Only an empty one goes.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The report of a run of `phase` in the folder `path` that has ended with the file `made`: the one there, or that of a
/// base's training inside it.
pub(crate) fn finished(path: &Path, phase: &str, made: &str) -> Option<Value> {
    let report: Value = serde_json::from_slice(&files::read(&path.join(REPORT)).ok()?).ok()?;
    let training = report["training"].clone();
    [report, training].into_iter().find(|report| report["phase"] == phase && path.join(made).exists())
}

/// The settings in the folder `path`; none where there is no such file, or a damaged one.
fn before(path: &Path) -> Map<String, Value> {
    let bytes = files::read(&path.join(SETTINGS)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Whether `name` in `path` may be written by a new run.
///
/// # Errors
/// [`ErrorKind::Io`] when something of that name is there.
pub(crate) fn refuse_overwriting(path: &Path, name: &str) -> Result<()> {
    let found = path.join(name);
    if !found.exists() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("writing to {}", path.display()))
        .expected("a folder without another run")
        .found(found.display())
        .next("Go on with it by --resume, overwrite it by --force, or name another folder with --out"))
}

/// A file that is read must not be one of `names` in `out`, which the run overwrites.
///
/// # Errors
/// [`ErrorKind::Argument`] when it is.
pub(crate) fn spare_input(doing: &str, input: &Path, out: &Path, names: &[&str]) -> Result<()> {
    let same = |path: &Path| matches!((input.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if names.iter().any(|name| same(&out.join(name))) {
        return Err(Error::new(ErrorKind::Argument, format!("{doing} {}", input.display()))
            .expected("a folder in which this file is not overwritten")
            .found("its own")
            .next("Name another folder with --out"));
    }
    Ok(())
}

/// Removes the file `path`, if it is there.
///
/// # Errors
/// [`ErrorKind::Io`] when it stays.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(failure) if path.exists() => {
            Err(Error::new(ErrorKind::Io, format!("removing {} of the run before", path.display()))
                .found(failure))
        }
        _ => Ok(()),
    }
}

/// Name of the checkpoint that `--keep-last` keeps of `epoch` (from 1), beside one called `stem`.safetensors.
pub(crate) fn kept_epoch(stem: &str, epoch: u64) -> String {
    format!("{stem}-epoch-{epoch:04}.safetensors")
}

/// Name of the checkpoint that `--keep-best` keeps.
pub(crate) fn kept_best(stem: &str) -> String {
    format!("{stem}-best.safetensors")
}

/// Removes the kept checkpoints of the files `names`, and the folder if nothing else is in it.
fn remove_kept(folder: &Path, names: &[&str]) -> Result<()> {
    let is_kept = |file: &str| {
        names.iter().filter_map(|name| name.strip_suffix(".safetensors")).any(|stem| {
            let epoch = file.strip_prefix(stem).and_then(|rest| rest.strip_prefix("-epoch-"));
            let epoch = epoch.and_then(|rest| rest.strip_suffix(".safetensors")?.parse().ok());
            file == kept_best(stem) || epoch.is_some_and(|epoch| file == kept_epoch(stem, epoch))
        })
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_kept(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    // One that is not empty stays.
    let _ = fs::remove_dir(folder);
    Ok(())
}
