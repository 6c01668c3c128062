//! `report`: a web page of a run.

use centripetal::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::Scene;
use crate::args::ReportArgs;
use crate::progress::bytes;
use crate::run_folder::{FILTERS, PAGE, REPORT};
use crate::{files, html, metrics};

pub(super) fn run(scene: &Scene, args: &ReportArgs) -> Result<()> {
    let path = args.dir.join(REPORT);
    if !path.exists() {
        return Err(Error::new(ErrorKind::Io, format!("making a page of {}", args.dir.display()))
            .expected(format!("the folder of a finished run, with a {REPORT}"))
            .found("none")
            .next(
                "`train`, `prune` and `demo` write it at the end; go on with an interrupted run by --resume",
            ));
    }
    let report: Value = serde_json::from_slice(&files::read(&path)?).map_err(|error| {
        Error::new(ErrorKind::Format, format!("reading {}", path.display()))
            .expected("the report of a run")
            .found(error)
    })?;
    let filters = args.dir.join(FILTERS);
    let filters = filters.exists().then(|| files::read(&filters)).transpose()?;
    let page = html::render(&report, &metrics::load(&args.dir)?, filters.as_deref());
    let path = args.dir.join(PAGE);
    files::write(&path, page.as_bytes())?;
    let path = path.display().to_string();
    let text = format!("{path} is written ({}); open it in a browser", bytes(page.len() as u64));
    scene.console.result(&text, &json!({"file": path, "bytes": page.len()}))
}
