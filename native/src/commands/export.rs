//! `export`: a checkpoint's weights for other tools.

use centripetal::formats::state_dict;
use centripetal::{Error, ErrorKind, Result};
use serde_json::json;

use super::Scene;
use crate::args::ExportArgs;
use crate::files;
use crate::progress::bytes;

pub(super) fn run(scene: &Scene, args: &ExportArgs) -> Result<()> {
    let checkpoint = files::checkpoint(&args.file)?;
    let path = args.safetensors.display().to_string();
    if args.safetensors.exists() && !args.force {
        return Err(Error::new(ErrorKind::Io, format!("writing {path}"))
            .expected("a file that is not there yet")
            .found("one that is")
            .next("Overwrite it by --force, or name another"));
    }
    let content = state_dict::write(&checkpoint.model.tensors, None)?;
    files::write(&args.safetensors, &content)?;
    let tensors = checkpoint.model.tensors.len();
    let text = format!("{path} is written: {tensors} tensors, {}", bytes(content.len() as u64));
    scene.console.result(&text, &json!({"file": path, "tensors": tensors, "bytes": content.len()}))
}
