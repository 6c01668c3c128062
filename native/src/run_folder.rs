//! The folder of a run: what runs write to it, with which settings, and what a new run may take away.

use std::fs;
use std::path::{Path, PathBuf};

use centripetal::data::Checksum;
use centripetal::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::RunArgs;
use crate::files::{self, Claim, remove};
use crate::metrics;
use crate::progress::{Console, to_json};

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
/// Folder of the checkpoints that `--keep-last`, `--keep-best` and `--on-nan rollback` keep.
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
    leave: Leave,
    resumes: bool,
    /// Whether the base that is pruned lies in it.
    at_home: bool,
    training: Option<Value>,
    /// Whether the base in it is a copy that this run made.
    copied: bool,
    /// What was in [`SETTINGS`] before.
    before: Map<String, Value>,
    /// Once the run has begun anew: files and folders of which one is there as soon as there is something to go on with.
    signs: Vec<PathBuf>,
    _claim: Claim,
}

impl RunFolder {
    /// Takes `path` for a run of `command`: to go on with, if `leave` and the same settings allow it, else to begin anew. Where
    /// the network of the bytes `base` is pruned, what the training of this very base has written stays.
    ///
    /// # Errors
    /// Those of [`files::claim`]; [`ErrorKind::Checkpoint`] naming an option that differs from that of the run to go on
    /// with; [`ErrorKind::Io`] where another run would be overwritten; [`ErrorKind::Argument`] for a base whose training has
    /// not ended.
    pub(crate) fn take(
        path: &Path,
        command: &'static str,
        mut settings: Settings,
        leave: Leave,
        base: Option<&[u8]>,
    ) -> Result<Self> {
        let made = !path.exists();
        let claim = files::claim(path)?;
        files::tidy(&path.join(KEPT));
        let at_home = match base {
            Some(base) => {
                settings.0.insert("FILE".to_owned(), checksum(base));
                let home = path.join(BASE);
                home.exists() && files::read(&home)? == base
            }
            None => false,
        };
        let before = settings_in(path);
        let resumes = match before.get(command) {
            Some(then) if leave.resume => {
                settings.check(path, then)?;
                true
            }
            _ => false,
        };
        if resumes && base.is_some() && !at_home {
            return Err(Error::new(
                ErrorKind::Checkpoint,
                format!("going on with the run in {}", path.display()),
            )
            .expected(format!("the network that is pruned in {}", path.join(BASE).display()))
            .found("none, or another one")
            .next("Begin anew with --force or another --out"));
        }
        let training = if at_home { finished(path, "train", BASE) } else { None };
        if !resumes && !leave.force {
            if before.contains_key(command) {
                refuse_overwriting(path, SETTINGS, leave)?;
            }
            let is_base = |name: &str| match name {
                REPORT => training.is_some(),
                name => at_home && OF_A_BASE.contains(&name),
            };
            OF_RUNS
                .iter()
                .filter(|name| !is_base(name))
                .try_for_each(|name| refuse_overwriting(path, name, leave))?;
            if at_home && before.contains_key("train") && training.is_none() {
                return Err(Error::new(ErrorKind::Argument, format!("writing to {}", path.display()))
                    .expected("the base of a training that has ended")
                    .found("one that may go on")
                    .next("End it by --resume, or name another folder with --out"));
            }
        }
        Ok(RunFolder {
            path: path.to_owned(),
            made,
            command,
            settings,
            leave,
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

    /// The report of the run that is to go on here, if it has already ended with the file `made`; says so.
    pub(crate) fn ended(&self, console: &Console, made: &str) -> Option<Value> {
        let report = finished(&self.path, self.command, made).filter(|_| self.resumes)?;
        console.note(&format!("{} is finished", self.path.join(made).display()));
        Some(report)
    }

    /// The report of the training of the base that is pruned here, to be kept inside the new one.
    pub(crate) fn training(&self) -> Option<&Value> {
        self.training.as_ref()
    }

    /// Begins anew: writes `base`, if one is given, takes away what other runs left, and writes down the settings. While it is
    /// at it the folder has no settings, so that nothing of another run can be taken for this one's. `signs` are files, or
    /// folders of runs inside this one, which `--force` empties; if none of them is there in the end, the run failed before
    /// there was anything to go on with, and takes away what it wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a full disk and the like. The base is written before anything but the settings is taken away.
    pub(crate) fn begin(&mut self, base: Option<&[u8]>, signs: &[&str]) -> Result<()> {
        let settings = self.path.join(SETTINGS);
        let folders: Vec<PathBuf> =
            signs.iter().map(|name| self.path.join(name)).filter(|path| path.is_dir()).collect();
        if !self.leave.force {
            signs
                .iter()
                .filter(|name| self.path.join(name).is_dir())
                .try_for_each(|name| refuse_overwriting(&self.path, name, self.leave))?;
        }
        let mut others = if self.at_home { self.before.clone() } else { Map::new() };
        others.remove(self.command);
        if self.training.is_none() {
            // Its base is pruned now, so its training does not go on.
            others.remove("train");
        }
        write_settings(&settings, &others)?;
        if let Some(base) = base.filter(|_| !self.at_home) {
            if let Err(error) = files::write(&self.path.join(BASE), base) {
                // Nothing else is gone, so the run before is still what it was.
                write_settings(&settings, &self.before)?;
                return Err(error);
            }
            self.copied = true;
        }
        folders.iter().try_for_each(|folder| clear(folder))?;
        let stays = |name: &str| match name {
            BASE => self.at_home || self.copied,
            REPORT => self.training.is_some(),
            // Only now out of date.
            PAGE => false,
            name => self.at_home && OF_A_BASE.contains(&name),
        };
        for name in OF_RUNS.iter().filter(|name| ![SETTINGS, KEPT].contains(name) && !stays(name)) {
            remove(&self.path.join(name))?;
        }
        remove_kept(&self.path.join(KEPT), if self.at_home { &[WIDE, SLIM] } else { &[BASE, WIDE, SLIM] })?;
        if let Some(training) = &self.training {
            files::write(&self.path.join(REPORT), to_json(training)?.as_bytes())?;
        }
        others.insert(self.command.to_owned(), Value::Object(self.settings.0.clone()));
        self.signs = signs.iter().map(|name| self.path.join(name)).collect();
        write_settings(&settings, &others)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed is only untidy.
        if !self.signs.is_empty() && !self.signs.iter().any(|path| path.exists()) {
            let others = if self.at_home { self.before.clone() } else { Map::new() };
            let _ = write_settings(&self.path.join(SETTINGS), &others);
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

/// A network's bytes as a setting.
pub(crate) fn checksum(bytes: &[u8]) -> Value {
    let mut checksum = Checksum::default();
    checksum.add(bytes);
    Value::String(format!("the network with checksum {:016x}", checksum.value()))
}

/// Removes the run in the folder `path`, its settings first.
fn clear(path: &Path) -> Result<()> {
    let _claim = files::claim(path)?;
    remove(&path.join(SETTINGS))?;
    OF_RUNS.iter().filter(|name| **name != KEPT).try_for_each(|name| remove(&path.join(name)))?;
    remove_kept(&path.join(KEPT), &[BASE, WIDE, SLIM])
}

/// Writes `settings`, or removes the file where there are none.
fn write_settings(path: &Path, settings: &Map<String, Value>) -> Result<()> {
    if settings.is_empty() {
        return remove(path);
    }
    files::write(path, to_json(&Value::Object(settings.clone()))?.as_bytes())
}

/// The report of a run of `phase` in the folder `path` that has ended with the file `made`: the one there, or that of a
/// base's training inside it.
pub(crate) fn finished(path: &Path, phase: &str, made: &str) -> Option<Value> {
    let report: Value = serde_json::from_slice(&files::read(&path.join(REPORT)).ok()?).ok()?;
    let training = report["training"].clone();
    [report, training].into_iter().find(|report| report["phase"] == phase && path.join(made).exists())
}

/// The settings in the folder `path`, by command; none where there is no such file, or a damaged one.
pub(crate) fn settings_in(path: &Path) -> Map<String, Value> {
    let bytes = files::read(&path.join(SETTINGS)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Whether `name` in `path` may be written by a new run.
fn refuse_overwriting(path: &Path, name: &str, leave: Leave) -> Result<()> {
    let found = path.join(name);
    if !found.exists() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Io, format!("writing to {}", path.display()))
        .expected("a folder without another run");
    Err(if leave.resume {
        error
            .found(format!("{}, and no {SETTINGS} that tells of such a run to go on with", found.display()))
            .next("Overwrite it by --force, or name another folder with --out")
    } else {
        error
            .found(found.display())
            .next("Go on with it by --resume, overwrite it by --force, or name another folder with --out")
    })
}

/// A file that is read must not be one that a run in the folder `out` overwrites or takes away; a `base` that is pruned where
/// it lies is not.
///
/// # Errors
/// [`ErrorKind::Argument`] when it is.
pub(crate) fn spare_input(doing: &str, given: &Path, out: &Path, base: bool) -> Result<()> {
    let (Ok(input), Ok(out)) = (given.canonicalize(), out.canonicalize()) else { return Ok(()) };
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    let in_out = input.parent() == Some(&*out) && OF_RUNS.contains(&&*name) && !(base && name == BASE);
    let in_kept = input.parent() == Some(&*out.join(KEPT)) && is_kept(&name, &[BASE, WIDE, SLIM]);
    if in_out || in_kept {
        return Err(Error::new(ErrorKind::Argument, format!("{doing} {}", given.display()))
            .expected("a folder in which this file is not overwritten or taken away")
            .found("its own")
            .next("Name another folder with --out"));
    }
    Ok(())
}

/// Name of the checkpoint that `--keep-last` keeps of `epoch` (from 1), beside one called `stem`.safetensors.
pub(crate) fn kept_epoch(stem: &str, epoch: u64) -> String {
    format!("{stem}-epoch-{epoch:04}.safetensors")
}

/// Name of the checkpoint that `--keep-best` keeps.
pub(crate) fn kept_best(stem: &str) -> String {
    format!("{stem}-best.safetensors")
}

/// Name of the checkpoint that `--on-nan rollback` goes back to.
pub(crate) fn kept_rollback(stem: &str) -> String {
    format!("{stem}-rollback.safetensors")
}

/// Whether `file` is a kept checkpoint of one of the files `names`.
fn is_kept(file: &str, names: &[&str]) -> bool {
    names.iter().filter_map(|name| name.strip_suffix(".safetensors")).any(|stem| {
        let epoch = file.strip_prefix(stem).and_then(|rest| rest.strip_prefix("-epoch-"));
        let epoch = epoch.and_then(|rest| rest.strip_suffix(".safetensors")?.parse().ok());
        let is_epoch = epoch.is_some_and(|epoch| file == kept_epoch(stem, epoch));
        is_epoch || [kept_best(stem), kept_rollback(stem)].iter().any(|name| name == file)
    })
}

/// Removes the kept checkpoints of the files `names`, and the folder if nothing else is in it.
fn remove_kept(folder: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_kept(&entry.file_name().to_string_lossy(), names) {
            remove(&entry.path())?;
        }
    }
    // One that is not empty stays.
    let _ = fs::remove_dir(folder);
    Ok(())
}
