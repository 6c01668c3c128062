//! What a graphics driver prints by itself while a device is opened.
//!
//! Mesa's layer that orders adapters asks the Wayland library for a display, which prints `error: XDG_RUNTIME_DIR is invalid or
//! not set in the environment.` where there is none, as on servers. Nothing is wrong then, but it reads like an error of ours.
//! The layer asks because wgpu enables the surfaces of all displays, and environment variables cannot be set safely in a
//! process that runs: so what is printed meanwhile goes through a pipe, and that line stays there.

/// Does `open`, without that line.
#[cfg(target_os = "linux")]
pub(crate) fn hushed<T>(open: impl FnOnce() -> T) -> T {
    use std::fs::File;
    use std::io::{self, BufRead, BufReader, Write};
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use nix::unistd::dup2_stderr;

    /// The word by which the line is known.
    const WORD: &[u8] = b"XDG_RUNTIME_DIR";
    /// Longest wait for what is still in the pipe: a driver may have kept its end.
    const WAIT: Duration = Duration::from_millis(200);

    /// Gives standard error back, also after a panic.
    struct Back(File);
    impl Drop for Back {
        fn drop(&mut self) {
            let _ = dup2_stderr(&self.0);
        }
    }

    // A relative path, or an empty one, is as if there were none.
    if std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|path| std::path::Path::new(&path).is_absolute()) {
        return open();
    }
    let piped = || -> io::Result<(Back, File, io::PipeReader)> {
        let own = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let copy = own.try_clone()?;
        let (reader, writer) = io::pipe()?;
        dup2_stderr(&writer)?;
        Ok((Back(own), copy, reader))
    };
    let Ok((back, mut own, reader)) = piped() else { return open() };
    let (done, finished) = mpsc::channel::<()>();
    let passing = thread::Builder::new().name("driver words".to_owned()).spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if !line.windows(WORD.len()).any(|part| part == WORD) {
                let _ = own.write_all(&line);
            }
            line.clear();
        }
        drop(done);
    });
    let result = open();
    drop(back);
    if passing.is_ok() {
        let _ = finished.recv_timeout(WAIT);
    }
    result
}

/// Does `open`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn hushed<T>(open: impl FnOnce() -> T) -> T {
    open()
}
