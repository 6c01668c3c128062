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

use crate::cache;
use crate::files;
use crate::progress::Console;

fn path(info: &DeviceInfo) -> Option<PathBuf> {
    cache::path("tune", info, "json")
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
    let kept =
        path(device.info()).is_some_and(|path| cache::keep(&path, device.tuning().to_json().as_bytes()));
    console.note(&format!("measured which kernels are fastest here: {measured} shapes in {seconds:.1} s"));
    if !kept {
        console.warn(
            "the measured choice of kernels could not be kept, so a resumed run may round otherwise; set XDG_CACHE_HOME \
             to a folder that can be written, or use --autotune off",
        );
    }
    Ok(())
}
