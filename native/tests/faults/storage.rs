//! Disks that fill up and folders that become read-only under a run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::kills::{appears, command, done, same, told};
use super::table::Row;

const RUN: &[&str] = &[
    "train",
    "lenet",
    "--data",
    "synthetic",
    "--train-limit",
    "400",
    "--test-limit",
    "50",
    "--batch",
    "20",
    "--epochs",
    "6",
    "--checkpoint-minutes",
    "0.0005",
    "--out",
];

fn run(out: &str) -> Vec<&str> {
    [RUN, &[out]].concat()
}

/// A file system of `size` in memory at `dir`; only root may.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(dir: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(dir);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Mount(dir))
    }

    fn read_only(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.0);
        mount.output().is_ok_and(|output| output.status.success())
    }

    fn writable(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,rw"]).arg(self.0);
        mount.output().is_ok_and(|output| output.status.success())
    }

    fn resize(&self, size: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(self.0);
        mount.output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily, since a failed run may not have closed its files yet.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// What must be there after a fault: the checkpoint as it was, whole; and with room again the run goes on to the same
/// bits.
fn goes_on(dir: &Path, out: &str) -> Result<(), String> {
    let base = format!("{out}/base.safetensors");
    if dir.join(&base).exists() {
        done(&command(dir, &["eval", &base, "--data", "synthetic"]).output().expect("starts"))?;
    }
    done(&command(dir, &[&run(out)[..], &["--resume"]].concat()).output().expect("starts"))?;
    same(&dir.join("whole"), &dir.join(out), &["base.safetensors"])
}

/// Runs in folders with too little room: for the first checkpoint, for the second beside the first, for the log.
pub(crate) fn full(tries: usize) -> Vec<Row> {
    const FAULT: &str = "disk full (a file system in memory), then room made";
    let dir = folder();
    let mut row = Row::new(FAULT);
    let whole = command(dir.path(), &run("whole")).output().expect("starts");
    done(&whole).expect("an undisturbed run ends well");
    let size = std::fs::metadata(dir.path().join("whole/base.safetensors")).expect("it").len() / 1024;
    for index in 0..tries {
        let out = format!("full-{index}");
        let at = dir.path().join(&out);
        // From less than one checkpoint to one and some of the next.
        let room = size / 2 + size * index as u64 / tries as u64;
        let Some(mount) = Mount::new(&at, &format!("{room}k")) else {
            row.skip_rest("needs root and tmpfs");
            break;
        };
        let output = command(dir.path(), &run(&out)).output().expect("starts");
        // Of the checkpoint or of the log, whichever found no room.
        let outcome = told(&output, &format!("writing {out}")).and_then(|()| {
            if !mount.resize("50m") {
                return Err("the file system cannot be enlarged".to_owned());
            }
            goes_on(dir.path(), &out)
        });
        row.count(outcome);
    }
    vec![row]
}

/// Folders that turn read-only while a run writes to them.
pub(crate) fn read_only(tries: usize) -> Vec<Row> {
    const FAULT: &str = "folder made read-only under a run, then writable again";
    let dir = folder();
    let mut row = Row::new(FAULT);
    done(&command(dir.path(), &run("whole")).output().expect("starts"))
        .expect("an undisturbed run ends well");
    for index in 0..tries {
        let out = format!("locked-{index}");
        let at = dir.path().join(&out);
        let Some(mount) = Mount::new(&at, "50m") else {
            row.skip_rest("needs root and tmpfs");
            break;
        };
        let mut child = command(dir.path(), &run(&out)).spawn().expect("starts");
        let outcome = appears(&at.join("base.safetensors"), &mut child).and_then(|()| {
            // A file system with a file open for writing is busy; checkpoints close theirs, so soon it is not.
            let locked = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(2));
                lock(&mount, &at)
            });
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if !locked {
                return Err("the folder cannot be made read-only".to_owned());
            }
            told(&output, "writing")?;
            if !unlock(&mount, &at) {
                return Err("the folder cannot be made writable again".to_owned());
            }
            goes_on(dir.path(), &out)
        });
        row.count(outcome);
    }
    vec![row]
}

/// The log stays open for writing all the time, so the file system itself is never free to be remounted: the folder is
/// made immutable where that is known, else remounted.
fn lock(mount: &Mount<'_>, at: &Path) -> bool {
    chattr("+i", at) || mount.read_only()
}

fn unlock(mount: &Mount<'_>, at: &Path) -> bool {
    chattr("-i", at) || mount.writable()
}

fn chattr(flag: &str, at: &Path) -> bool {
    Command::new("chattr").arg(flag).arg(at).output().is_ok_and(|output| output.status.success())
}
