//! `report`: a web page of a run.

use centripetal::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{REPORT, Scene};
use crate::args::ReportArgs;
use crate::{files, metrics};

pub(super) fn run(_scene: &Scene, args: &ReportArgs) -> Result<()> {
    let path = args.dir.join(REPORT);
    let bad = |found: String| {
        Error::new(ErrorKind::Format, format!("reading {}", path.display()))
            .expected("the report of a finished run")
            .found(found)
    };
    let bytes = files::read(&path)?;
    let _report: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let _metrics = metrics::load(&args.dir)?;
    Err(bad("no page can be made yet".into()))
}
