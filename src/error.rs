//! The one error type: what was being done, what was expected, what was found, what to do next.

use serde::Serialize;
use std::fmt;

/// Result of everything in this crate that a user's file, machine or flag can make fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of thing went wrong; callers branch on this, people read [`Error`]'s text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A data set or image could not be used.
    Data,
    /// A file's bytes are not what its format says.
    Format,
    /// Shapes, channel counts or class counts do not fit together.
    Shape,
    /// A checkpoint is of another architecture, version or run.
    Checkpoint,
    /// No usable device, or the device failed.
    Device,
    /// There is no room for it: smaller batches may do.
    OutOfMemory,
    /// The device is gone (a driver's reset, a browser's decision): another one can be opened.
    DeviceLost,
    /// NaN or infinity where a finite number is needed.
    Numeric,
    /// An argument is outside what it can mean.
    Argument,
    /// Reading or writing a file failed.
    Io,
}

/// An error a user can act on. One pointer: it passes through many hands, and hardly ever exists.
#[derive(Debug, Clone, Serialize)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, Serialize)]
struct Parts {
    kind: ErrorKind,
    doing: String,
    expected: Option<String>,
    found: Option<String>,
    next: Option<String>,
}

impl Error {
    /// An error of `kind` that happened while `doing` ("reading the labels of t10k-labels-idx1-ubyte").
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Error::of(kind, doing.into())
    }

    /// What would have been right ("2051 in the first four bytes").
    #[must_use]
    pub fn expected(self, expected: impl fmt::Display) -> Self {
        self.with(|parts| &mut parts.expected, &expected)
    }

    /// What was there instead.
    #[must_use]
    pub fn found(self, found: impl fmt::Display) -> Self {
        self.with(|parts| &mut parts.found, &found)
    }

    /// What the user can do about it.
    #[must_use]
    pub fn next(self, next: impl fmt::Display) -> Self {
        self.with(|parts| &mut parts.next, &next)
    }

    // Not inlined: errors are made in many places, and none is in a hurry.
    #[cold]
    #[inline(never)]
    fn of(kind: ErrorKind, doing: String) -> Self {
        Error(Box::new(Parts { kind, doing, expected: None, found: None, next: None }))
    }

    #[cold]
    #[inline(never)]
    fn with(mut self, part: fn(&mut Parts) -> &mut Option<String>, text: &dyn fmt::Display) -> Self {
        *part(&mut self.0) = Some(text.to_string());
        self
    }

    /// The kind, for callers that branch.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { doing, expected, found, next, .. } = &*self.0;
        f.write_str(doing)?;
        match (expected, found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(found)) => write!(f, ": {found}")?,
            (None, None) => {}
        }
        match next {
            Some(next) => write!(f, ". {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_sentence() {
        let error = Error::new(ErrorKind::Format, "reading train-labels")
            .expected("magic 2049")
            .found("2051")
            .next("Are images and labels swapped?");
        assert_eq!(
            error.to_string(),
            "reading train-labels: expected magic 2049, found 2051. Are images and labels swapped?"
        );
    }
}
