//! `import`: an ONNX file or a PyTorch state_dict becomes a checkpoint.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use centripetal::data::Normalization;
use centripetal::formats::onnx::Source;
use centripetal::formats::state_dict::Unwrapped;
use centripetal::formats::{Checkpoint, Description, Kind, Provenance, Stage, description, onnx, state_dict};
use centripetal::graph::Graph;
use centripetal::model::{Model, Tensors};
use centripetal::models::{self, NAMES, Shortcut};
use centripetal::ops::Op;
use centripetal::{Error, ErrorKind, Result, Shape, rewrite};
use serde_json::json;

use super::{Scene, answers, build, command};
use crate::args::ImportArgs;
use crate::files;
use crate::progress::{grouped, scaled};
use crate::run_folder::{BASE, Leave, RunFolder, Settings, spare_input};

/// What a file gives.
struct Network {
    model: Model,
    shortcut: Option<Shortcut>,
    /// What images are normalised with, where that is from, and why.
    normalization: Option<Normalization>,
    source: Source,
    reason: String,
    description: Description,
}

pub(super) fn run(scene: &Scene, args: &ImportArgs) -> Result<()> {
    let name = args.weights.display().to_string();
    spare_input("importing", &args.weights, &args.out, false)?;
    let content = files::read(&args.weights)?;
    let network = match Kind::of(&content) {
        Kind::Safetensors => state_dict(scene, args, &name, &content)?,
        // What is no ONNX file after all gets that reader's message.
        Kind::Onnx => onnx(scene, args, &name, &content)?,
        kind => {
            return Err(Error::new(ErrorKind::Format, format!("importing {name}"))
                .expected("an ONNX file, or a state_dict in safetensors")
                .found(kind.told())
                .next(kind.way()));
        }
    };
    let Network { model, shortcut, description, .. } = network;
    answers(&model, &format!("importing {name}"))?;
    let (input, classes) = (model.graph.input, model.graph.classes()?);
    let (normalization, source, reason) = match network.normalization {
        Some(normalization) => (Some(normalization), network.source, network.reason),
        None => assumed(input.c, &network.reason),
    };
    if let Some(normalization) = &normalization {
        check_statistics(normalization, input.c)?;
    }

    let leave = Leave { resume: false, force: args.force };
    let settings = Settings::new(&json!({ "FILE": name }), &[])?;
    let mut folder = RunFolder::take(&args.out, "import", settings, leave, None)?;
    let (macs, parameters) = (model.graph.macs()?, model.graph.parameter_count());
    let architecture = model.graph.name.clone();
    let checkpoint = Checkpoint {
        model,
        provenance: Provenance {
            stage: Stage::Imported,
            seed: 0,
            classes: description.classes.clone(),
            normalization: normalization.clone(),
            data: description.data,
        },
        clusters: None,
        training: None,
    };
    let path = args.out.join(BASE);
    folder.begin(Some(&checkpoint.to_bytes()?), &[BASE])?;
    let path = path.display().to_string();
    let normalised = match &normalization {
        Some(normalization) => description::normalised(normalization),
        None => "normalised by the statistics of the data set that it is used on".to_owned(),
    };
    let names = match checkpoint.provenance.classes.as_slice() {
        [] => String::new(),
        names => format!(" ({})", super::named_classes(names)),
    };
    let text = format!(
        "{architecture} for images of {input}, {classes} classes{names}: {} MACs, {} parameters\n\
         images: {normalised} ({reason})\n{path} is written. To test it:\n  {}",
        scaled(macs),
        grouped(parameters),
        command(&["eval", &path, "--data", "DATA"]),
    );
    let document = json!({
        "file": path,
        "model": architecture,
        "input": [input.c, input.h, input.w],
        "classes": classes,
        "class_names": checkpoint.provenance.classes,
        "shortcut": shortcut,
        "macs": macs,
        "params": parameters,
        "normalization": normalization,
        "normalization_source": source.word(),
        "normalization_reason": reason,
    });
    scene.console.result(&text, &document)
}

/// What is taken where a file does not tell: the statistics of most public networks for three channels.
fn assumed(channels: usize, unknown: &str) -> (Option<Normalization>, Source, String) {
    let usual = Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
    match channels {
        3 => (
            Some(usual),
            Source::Unknown,
            format!("assumed, as of ImageNet: {unknown}; --mean and --std say it"),
        ),
        _ => (None, Source::Unknown, format!("{unknown}; --mean and --std say it")),
    }
}

/// What `--mean` and `--std` say.
fn given(args: &ImportArgs) -> Option<Normalization> {
    (!args.mean.is_empty()).then(|| Normalization { mean: args.mean.clone(), std: args.std.clone() })
}

fn check_statistics(Normalization { mean, std }: &Normalization, channels: usize) -> Result<()> {
    let usable = mean.len() == channels
        && std.len() == channels
        && mean.iter().all(|x| x.is_finite())
        && std.iter().all(|x| x.is_finite() && *x > 0.0);
    if usable {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Argument, "reading --mean and --std")
        .expected(format!("{channels} numbers each, the deviations over 0"))
        .found(format!("{mean:?} and {std:?}")))
}

/// The network in an ONNX file.
fn onnx(scene: &Scene, args: &ImportArgs, name: &str, content: &[u8]) -> Result<Network> {
    let option = match (&args.model, args.classes, args.shortcut) {
        (Some(_), ..) => Some("--model"),
        (_, Some(_), _) => Some("--classes"),
        (.., Some(_)) => Some("--shortcut"),
        _ => (args.width != 1.0).then_some("--width"),
    };
    if let Some(option) = option {
        return Err(Error::new(ErrorKind::Argument, format!("importing {name}"))
            .expected(
                "an ONNX file without --model, --width, --classes and --shortcut, which it tells itself",
            )
            .found(option));
    }
    let options = onnx::Options {
        name: args.weights.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        input: args.input,
        output: args.output.clone(),
        normalization: given(args),
    };
    let imported =
        onnx::import(name, content, &options, &mut |location, part| beside(&args.weights, location, part))?;
    for note in &imported.notes {
        scene.console.note(note);
    }
    let model = if args.insert_bn { rewrite::insert_batch_norms(&imported.model)? } else { imported.model };
    let onnx::Images { normalization, source, reason } = imported.images;
    Ok(Network { model, shortcut: None, normalization, source, reason, description: imported.description })
}

/// A part of the file at the relative path `location` beside the ONNX file `network`. What leads out of its folder is refused,
/// but for two ways in which the files of one network lie elsewhere together: the ONNX file is a link, and the other file is
/// beside what it leads to; or both are links of a Hugging Face cache into its `blobs`.
fn beside(network: &Path, location: &str, part: Range<u64>) -> Result<Vec<u8>> {
    let folder = match network.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let path = folder.join(location);
    let error = || {
        Error::new(ErrorKind::Io, format!("reading {}", path.display()))
            .expected(format!("the file in which {} keeps its numbers", network.display()))
    };
    let home = folder.canonicalize().map_err(|failure| error().found(failure))?;
    let file = network.canonicalize().map_err(|failure| error().found(failure))?;
    // Beside the real file: as if that one had been named.
    let real_home = file.parent().unwrap_or(&home);
    let within = |path: &Path, home: &Path| path.canonicalize().ok().filter(|real| real.starts_with(home));
    let real = within(&path, &home)
        .or_else(|| within(&real_home.join(location), real_home))
        .or_else(|| path.canonicalize().ok().filter(|real| is_in_blobs(&home, &file, real)));
    if let Some(real) = real {
        return files::read_part(&real, part);
    }
    match path.canonicalize() {
        Ok(_) => Err(error()
            .found("a link that leads out of its folder")
            .next("Put the file itself there, if you trust it")),
        Err(failure) => {
            let links = path.symlink_metadata().is_ok();
            let found =
                if links { format!("a link to what is not there ({failure})") } else { failure.to_string() };
            let mut places = vec![home.display().to_string()];
            if real_home != home {
                places.push(real_home.display().to_string());
            }
            let next = format!(
                "The file was looked for in {}. It belongs to the ONNX file (exporters write networks in two files, such as \
                 network.onnx and network.onnx.data): copy or download both",
                places.join(" and in ")
            );
            Err(error().found(found).next(next))
        }
    }
}

/// Whether `data` and the ONNX file, both links followed, lie side by side in the `blobs` of the Hugging Face cache in whose
/// `snapshots` the link to it is, below `home`.
fn is_in_blobs(home: &Path, network: &Path, data: &Path) -> bool {
    let Some(blobs) = network.parent().filter(|blobs| blobs.file_name() == Some(OsStr::new("blobs"))) else {
        return false;
    };
    let snapshots: PathBuf = blobs.with_file_name("snapshots");
    data.parent() == Some(blobs) && home.starts_with(snapshots)
}

/// The weights in a safetensors file, in the architecture that `--model` names.
fn state_dict(scene: &Scene, args: &ImportArgs, name: &str, content: &[u8]) -> Result<Network> {
    let contents = state_dict::read(name, content)?;
    let architecture = args.model.as_deref().ok_or_else(|| {
        let found = if contents.metadata.contains_key("centripetal") {
            "a checkpoint, which needs no import, and no --model"
        } else {
            "a safetensors file, and no --model"
        };
        Error::new(ErrorKind::Argument, format!("importing {name}"))
            .expected("an ONNX file (.onnx), or --model with the weights of a zoo model in safetensors")
            .found(found)
            .next(format!("Name its architecture by --model: {}", NAMES.join(", ")))
    })?;
    let option = if args.insert_bn { Some("--insert-bn") } else { args.output.as_ref().map(|_| "--output") };
    if let Some(option) = option {
        return Err(Error::new(ErrorKind::Argument, format!("importing {name}"))
            .expected(format!("{option} with an ONNX file"))
            .found("a state_dict"));
    }
    let description = match contents.metadata.get(description::KEY) {
        None => Description::default(),
        Some(text) => Description::from_text(text).map_err(|found| {
            Error::new(ErrorKind::Format, format!("reading the metadata of {name}"))
                .expected(format!("what `centripetal export` writes as {}", description::KEY))
                .found(found)
                .next("Export the network again")
        })?,
    };
    let usual = models::usual_input(architecture).unwrap_or(Shape::new(3, 32, 32));
    let shortcut = args.shortcut.unwrap_or_else(|| shortcut(&contents.tensors));
    // Names depend on neither the images nor the classes.
    let named = build(architecture, usual, 10, args.width, shortcut)?;
    let unwrapped = state_dict::unwrapped(contents.tensors, &named);
    if !unwrapped.prefix.is_empty() {
        scene.console.note(&format!("{:?} in front of the tensors' names is left out", unwrapped.prefix));
    }
    let (first, last) = (first_filters(&named), last_layer(&named));
    let side = |layer: &str, axis: usize| unwrapped.tensors.get(layer)?.dims.get(axis).copied();
    let Some(classes) = args.classes.or_else(|| side(&last, 0)) else {
        return misfit(name, unwrapped, named, &last);
    };
    if classes < 2 {
        return Err(Error::new(ErrorKind::Shape, format!("importing {name}"))
            .expected("at least two classes")
            .found(format!("{classes}, a yes-or-no answer of one number"))
            .next(
                "Give the network two outputs and train it with cross-entropy; with z its output now, softmax of [0, z] is the \
                 same answer as sigmoid of z: put a row of zeros before the last layer's weights, a zero before its bias",
            ));
    }
    let input = match (args.input, description.input) {
        (Some(input), _) => input,
        (None, Some(input)) => input,
        (None, None) => {
            let Some(channels) = side(&first, 1) else { return misfit(name, unwrapped, named, &first) };
            let fits = |side: &usize| {
                build(architecture, Shape::new(channels, *side, *side), classes, args.width, shortcut)
                    .is_ok_and(|graph| has_linears_of(&graph, &unwrapped.tensors))
            };
            let side = SIDES.iter().copied().filter(|&side| side != usual.h);
            let side = std::iter::once(usual.h).chain(side).find(fits).unwrap_or(usual.h);
            let input = Shape::new(channels, side, side);
            scene.console.note(&format!(
                "images of {input} are assumed, {}; --input CxHxW says another size",
                if side == usual.h {
                    format!("as is usual for {architecture}")
                } else {
                    "which the linear layers fit".to_owned()
                }
            ));
            input
        }
    };
    let graph = build(architecture, input, classes, args.width, shortcut)?;
    let model = state_dict::fit(name, unwrapped, graph)?;
    if description.classes.len() > classes {
        return Err(Error::new(ErrorKind::Format, format!("importing {name}"))
            .expected(format!("at most {classes} class names, one for each output"))
            .found(format!("{} in its metadata", description.classes.len()))
            .next("Export the network again"));
    }
    let (normalization, source, reason) = match (given(args), &description.normalization) {
        (Some(given), _) => (Some(given), Source::Given, "as --mean and --std say"),
        (None, Some(described)) => (Some(described.clone()), Source::Described, "as its metadata says"),
        (None, None) => (None, Source::Unknown, "a state_dict does not say how images are normalised"),
    };
    Ok(Network {
        model,
        shortcut: Some(shortcut),
        normalization,
        source,
        reason: reason.to_owned(),
        description,
    })
}

/// Complains of tensors without `layer`, by which those of the other layers that are missing are named too.
fn misfit(name: &str, unwrapped: Unwrapped, graph: Graph, layer: &str) -> Result<Network> {
    state_dict::fit(name, unwrapped, graph)?;
    Err(Error::new(ErrorKind::Checkpoint, format!("importing {name}"))
        .expected(format!("the tensor {layer}"))
        .found("tensors without it")
        .next("Another --model may be the right one"))
}

/// Sides of images that are tried where a linear layer's width depends on them.
const SIDES: [usize; 8] = [32, 28, 224, 64, 96, 128, 160, 256];

/// Option A has no weights in its shortcuts.
fn shortcut(tensors: &Tensors) -> Shortcut {
    if tensors.keys().any(|name| name.contains("shortcut")) { Shortcut::Projection } else { Shortcut::A }
}

/// The weights of the convolution that reads the images: of depthwise ones the others say nothing of the channels.
fn first_filters(graph: &Graph) -> String {
    let first = graph.nodes.iter().find(|node| matches!(node.op, Op::Conv2d(_)));
    first.map_or(String::new(), |node| format!("{}.weight", node.name))
}

/// The weights of the layer that gives the logits.
fn last_layer(graph: &Graph) -> String {
    let last = graph.nodes.iter().rfind(|node| matches!(node.op, Op::Linear(_) | Op::Conv2d(_)));
    last.map_or(String::new(), |node| format!("{}.weight", node.name))
}

/// Whether the linear layers of `graph` are as wide as the file's.
fn has_linears_of(graph: &Graph, tensors: &Tensors) -> bool {
    let linear = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Linear(linear) => Some((format!("{}.weight", node.name), linear.in_features)),
        _ => None,
    });
    linear.into_iter().all(|(name, inputs)| {
        tensors.get(&name).is_none_or(|tensor| tensor.dims.get(1).is_none_or(|&found| found == inputs))
    })
}
