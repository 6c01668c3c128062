//! `export`: a checkpoint for other tools.

use std::path::Path;

use centripetal::formats::{Description, description, onnx, state_dict};
use centripetal::{Error, ErrorKind, Result, rewrite};
use serde_json::{Value, json};

use super::{Scene, answers};
use crate::args::ExportArgs;
use crate::files;
use crate::progress::bytes;

pub(super) fn run(scene: &Scene, args: &ExportArgs) -> Result<()> {
    let checkpoint = files::checkpoint(&args.file)?;
    answers(&checkpoint.model, &format!("exporting {}", args.file.display()))?;
    for path in [&args.safetensors, &args.onnx].into_iter().flatten().filter(|path| path.exists()) {
        if !args.force {
            return Err(Error::new(ErrorKind::Io, format!("writing {}", path.display()))
                .expected("a file that is not there yet")
                .found("one that is")
                .next("Overwrite it by --force, or name another"));
        }
    }
    let folded;
    let model = if args.fold_bn {
        folded = rewrite::fold_batch_norms(&checkpoint.model)?;
        &folded
    } else {
        &checkpoint.model
    };
    let tensors = model.tensors.len();
    let (input, outputs) = (model.graph.input, model.graph.classes()?);
    let description = Description::of(&checkpoint.provenance, input);
    let usage = description.usage(input, outputs);
    let (mut text, mut written) = (Vec::new(), Vec::new());
    let mut write = |path: &Path, content: &[u8]| -> Result<()> {
        files::write(path, content)?;
        let path = path.display().to_string();
        text.push(format!("{path} is written: {tensors} tensors, {}", bytes(content.len() as u64)));
        written.push(json!({
            "file": path,
            "tensors": tensors,
            "bytes": content.len(),
            "normalization": description.normalization,
            "class_names": description.classes,
            "usage": usage,
        }));
        Ok(())
    };
    if let Some(path) = &args.safetensors {
        write(
            path,
            &state_dict::write(
                &model.tensors,
                Some((description::KEY, description.to_text(input, outputs))),
            )?,
        )?;
    }
    if let Some(path) = &args.onnx {
        write(path, &onnx::export(model, &description)?)?;
    }
    text.push(format!("to run it: {usage}. The file says so itself, in its metadata {}", description::KEY));
    if !description.classes.is_empty() {
        text.push(format!("classes: {}", super::named_classes(&description.classes)));
    }
    let document = match written.as_slice() {
        [one] => one.clone(),
        _ => Value::Array(written),
    };
    scene.console.result(&text.join("\n"), &document)
}
