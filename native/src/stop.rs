//! Ctrl-C, SIGTERM and SIGHUP: the first asks a training run to write its checkpoint, the next ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

use centripetal::{Error, ErrorKind, Result};

/// Exit code of an interrupted run.
pub(crate) const INTERRUPTED: u8 = 130;

static TRAINING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Installs the handler, which says what it does unless `quiet`.
///
/// # Errors
/// [`ErrorKind::Io`] when the system refuses.
pub(crate) fn install(quiet: bool) -> Result<()> {
    ctrlc::set_handler(move || {
        // Outside training there is nothing to save.
        if !TRAINING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        if !quiet {
            eprintln!(
                "\ninterrupted: finishing the step and writing the checkpoint (once more ends at once)"
            );
        }
    })
    .map_err(|error| Error::new(ErrorKind::Io, "installing the handler for Ctrl-C").found(error))
}

/// While this lives an interruption is asked about with [`Guard::asked`] instead of ending the process.
pub(crate) struct Guard(());

impl Guard {
    pub(crate) fn new() -> Self {
        TRAINING.store(true, Ordering::SeqCst);
        Guard(())
    }

    /// Whether the run shall stop.
    pub(crate) fn asked(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        TRAINING.store(false, Ordering::SeqCst);
    }
}
