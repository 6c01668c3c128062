//! Files: whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use centripetal::formats::{Checkpoint, Kind};
use centripetal::{Error, ErrorKind, Result};

use crate::args::Care;

/// Largest file read as a checkpoint.
const CEILING: u64 = 8 << 30;

/// Reads `path`.
///
/// # Errors
/// [`ErrorKind::Io`] when it is not there, cannot be read or is over 8 GiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_part(path, 0..CEILING)
}

/// Reads the bytes of a file in `part`, as many of them as are there.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn read_part(path: &Path, part: Range<u64>) -> Result<Vec<u8>> {
    let error = || Error::new(ErrorKind::Io, format!("reading {}", path.display()));
    let meta = fs::metadata(path).map_err(|failure| error().found(failure))?;
    if !meta.is_file() {
        // A pipe or a device may have no end.
        let found = if meta.is_dir() { "a folder" } else { "a pipe, a device or the like" };
        return Err(error().expected("a file").found(found));
    }
    if meta.len() > CEILING {
        return Err(error().expected(format!("at most {CEILING} bytes")).found(meta.len()));
    }
    let length = part.end.min(meta.len()).saturating_sub(part.start);
    let read = || {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(part.start.min(meta.len())))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|failure: io::Error| error().found(failure))
}

/// Reads a checkpoint.
///
/// # Errors
/// Those of [`read`] and [`Checkpoint::from_bytes`].
pub(crate) fn checkpoint(path: &Path) -> Result<Checkpoint> {
    let bytes = read(path)?;
    let error =
        || Error::new(ErrorKind::Format, format!("reading {}", path.display())).expected("a checkpoint");
    match Kind::of(&bytes) {
        Kind::Safetensors | Kind::Unknown | Kind::Empty => {
            Checkpoint::from_bytes(&path.display().to_string(), &bytes)
        }
        Kind::Onnx => {
            Err(error().found("an ONNX file").next("`centripetal import` makes a checkpoint of it"))
        }
        kind => Err(error().found(kind.told()).next(kind.way())),
    }
}

/// Replaces `path` by `bytes`, so that whatever happens the old file or the new one is there, whole: written beside it,
/// synced, renamed. On failure nothing is left behind.
///
/// # Errors
/// [`ErrorKind::Io`] for a full disk, a folder that cannot be written and the like; the old file is as it was.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path);
    let written = create(&temporary, bytes).and_then(|()| {
        about_to_change();
        fs::rename(&temporary, path)
    });
    if let Err(failure) = written {
        let _ = fs::remove_file(&temporary);
        let old = if path.exists() { "The old file is as it was; make room" } else { "Make room" };
        return Err(Error::new(ErrorKind::Io, format!("writing {}", path.display()))
            .found(failure)
            .next(format!("{old}, or write to another folder with --out")));
    }
    sync_folder(path);
    Ok(())
}

fn create(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    about_to_change();
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes the file `path`, if it is there.
///
/// # Errors
/// [`ErrorKind::Io`] when it stays.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    about_to_change();
    fs::remove_file(path)
        .map_err(|failure| Error::new(ErrorKind::Io, format!("removing {}", path.display())).found(failure))
}

/// Changes to files until the process dies, as `--rehearse-kill` asks.
static CHANGES_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Does what `care` asks of it.
pub(crate) fn rehearse_kill(care: &Care) {
    CHANGES_LEFT.store(care.rehearse_kill.unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Called before every change to a file.
pub(crate) fn about_to_change() {
    if CHANGES_LEFT.fetch_sub(1, Ordering::Relaxed) <= 1 {
        std::process::abort();
    }
}

/// A name beside `path` that nobody else has.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

/// Makes a rename last through a power cut; only Unix opens folders, and the file is whole without it.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Makes the folder `dir` if it is not there and checks that files can be written to it.
///
/// # Errors
/// [`ErrorKind::Io`] when they cannot.
pub(crate) fn prepare_folder(dir: &Path) -> Result<()> {
    let error = |failure| {
        Error::new(ErrorKind::Io, format!("preparing the folder {}", dir.display()))
            .expected("a folder that can be written")
            .found(failure)
            .next("Name another with --out")
    };
    fs::create_dir_all(dir).map_err(error)?;
    let probe = beside(&dir.join("probe"));
    let written = create(&probe, b"probe");
    let _ = fs::remove_file(&probe);
    written.map_err(error)
}

/// A run's claim on its folder; ends when it is dropped or the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held open for its lock")] Option<File>);

/// Prepares the folder `dir` as [`prepare_folder`] and claims it for this run. What a killed run left half written is
/// removed.
///
/// # Errors
/// Those of [`prepare_folder`], and [`ErrorKind::Io`] when another run has claimed it.
pub(crate) fn claim(dir: &Path) -> Result<Claim> {
    prepare_folder(dir)?;
    let claim = match lockable(dir).map(|file| (file.try_lock(), file)) {
        Ok((Ok(()), file)) => Claim(Some(file)),
        Ok((Err(TryLockError::WouldBlock), _)) => {
            return Err(Error::new(ErrorKind::Io, format!("claiming the folder {}", dir.display()))
                .expected("a folder that no other run is writing to")
                .found("one in use by another centripetal")
                .next("Wait for it, or name another folder with --out"));
        }
        // Some network file systems have no locks.
        Ok((Err(TryLockError::Error(_)), _)) | Err(_) => Claim(None),
    };
    tidy(dir);
    Ok(claim)
}

/// Removes from the claimed folder `dir`, or one in it, what a killed run left half written.
pub(crate) fn tidy(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_half_written(&entry.file_name().to_string_lossy())) {
        // What cannot be removed is only untidy.
        let _ = fs::remove_file(entry.path());
    }
}

/// What is locked: on Unix the folder itself, which leaves no file behind; elsewhere folders cannot be opened.
fn lockable(dir: &Path) -> std::io::Result<File> {
    if cfg!(unix) {
        File::open(dir)
    } else {
        OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(".lock"))
    }
}

/// Whether `name` is one that [`beside`] gives.
fn is_half_written(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let mark = inner.and_then(|inner| inner.rsplit_once('.')).and_then(|(_, mark)| mark.split_once('-'));
    mark.is_some_and(|(process, count)| digits(process) && digits(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("lists")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writing_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        for content in [b"one".as_slice(), b"two"] {
            write(&path, content).expect("writes");
            assert_eq!(read(&path).expect("reads"), content);
        }
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_failure_leaves_things_as_they_were() {
        let dir = tempfile::tempdir().expect("a folder");
        // A folder in the way makes the rename fail after the temporary file was written.
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("makes a folder");
        fs::write(path.join("inside"), "x").expect("writes");
        let error = write(&path, b"new").expect_err("a folder is in the way");
        assert!(error.to_string().starts_with(&format!("writing {}: ", path.display())), "{error}");
        assert_eq!(names(dir.path()), ["taken"]);
        let error = write(&dir.path().join("no/such/folder"), b"new").expect_err("no folder");
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn folders_are_made_and_checked() {
        let dir = tempfile::tempdir().expect("a folder");
        let inner = dir.path().join("a/b");
        prepare_folder(&inner).expect("makes it");
        assert!(names(&inner).is_empty());
        fs::write(dir.path().join("file"), "x").expect("writes");
        let error = prepare_folder(&dir.path().join("file/inner")).expect_err("a file is in the way");
        assert!(error.to_string().contains("expected a folder that can be written"), "{error}");
        assert!(read(dir.path()).expect_err("a folder").to_string().contains("found a folder"));
    }

    #[test]
    fn a_folder_belongs_to_one_run_and_is_tidied() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [".base.safetensors.123-0.tmp", "notes.tmp", ".hidden.tmp", "report.json"] {
            fs::write(dir.path().join(name), "x").expect("writes");
        }
        let claim = claim(dir.path()).expect("claims");
        assert_eq!(names(dir.path()), [".hidden.tmp", "notes.tmp", "report.json"]);
        let error = super::claim(dir.path()).expect_err("claimed").to_string();
        assert!(error.contains("in use by another centripetal"), "{error}");
        drop(claim);
        super::claim(dir.path()).expect("free again");
    }
}
