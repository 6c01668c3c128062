//! The measured kernel variants, kept in the user's cache folder: `centripetal/tune-ADAPTER.json`.
//!
//! Whatever goes wrong with the file costs a measurement, never a run.

use std::path::PathBuf;
use std::time::Instant;

use centripetal::Result;
use centripetal::device::{Device, DeviceInfo, DeviceKind, Tuning};
use centripetal::graph::Graph;
use centripetal::plan::{Mode, Plan};
use pollster::block_on;

use crate::files;
use crate::progress::Console;

/// The file of an adapter; `None` where the system names no cache folder.
pub(crate) fn path(info: &DeviceInfo) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || folder("HOME");
    let cache = folder("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            home().map(|home| home.join("Library/Caches"))
        } else {
            home().map(|home| home.join(".cache"))
        }
    })?;
    let words =
        info.name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    Some(cache.join("centripetal").join(format!("tune-{name}.json")))
}

/// Gives `device` what was measured on its adapter before. A file that is not there, damaged or of another driver or
/// version is as good as none.
pub(crate) fn load(device: &Device) {
    let kept = path(device.info()).and_then(|path| files::read(&path).ok());
    let text = kept.and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(tuning) = text.and_then(|text| Tuning::from_json(&text).ok()) {
        // The error says that it was measured elsewhere: then it is measured anew.
        let _ = device.set_tuning(tuning);
    }
}

/// Measures what `graph` needs and the table lacks, and keeps the table.
///
/// # Errors
/// Those of [`Plan::tune`].
pub(crate) fn tune(
    console: &Console,
    device: &Device,
    graph: &Graph,
    batch: usize,
    mode: Mode,
) -> Result<()> {
    if device.info().kind == DeviceKind::Cpu {
        return Ok(());
    }
    let started = Instant::now();
    let clock = || started.elapsed().as_secs_f64();
    let measured = block_on(Plan::tune(device, graph, batch, mode, &clock))?;
    if measured == 0 {
        return Ok(());
    }
    let seconds = clock();
    let kept = path(device.info()).is_some_and(|path| {
        let made = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok());
        made && files::write(&path, device.tuning().to_json().as_bytes()).is_ok()
    });
    console.note(&format!("measured which kernels are fastest here: {measured} shapes in {seconds:.1} s"));
    if !kept {
        console.warn(
            "the measured choice of kernels could not be kept, so a resumed run may round otherwise; set XDG_CACHE_HOME \
             to a folder that can be written, or use --autotune off",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_by_the_adapter() {
        let mut info = Device::cpu("test").info().clone();
        info.name = "llvmpipe (LLVM 15.0.6, 256 bits)/../x".to_owned();
        let name =
            path(&info).and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        // Without a home there is no file.
        assert!(name.is_none_or(|name| name == "tune-llvmpipe-llvm-15-0-6-256-bits-x.json"));
    }
}
