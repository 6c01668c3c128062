//! `import`: an ONNX file or a PyTorch state_dict becomes a checkpoint.

use std::ops::Range;
use std::path::Path;

use centripetal::data::Normalization;
use centripetal::formats::{Checkpoint, Provenance, Stage, onnx, state_dict};
use centripetal::model::{Model, Tensors};
use centripetal::models::{NAMES, Shortcut};
use centripetal::{Error, ErrorKind, Result, Shape, rewrite};
use serde_json::json;

use super::{Scene, answers, build, command};
use crate::args::ImportArgs;
use crate::files;
use crate::progress::{grouped, scaled};
use crate::run_folder::{BASE, Leave, RunFolder, Settings, spare_input};

/// Side of the images of the data sets that the zoo is made for.
const SIDE: usize = 32;

pub(super) fn run(scene: &Scene, args: &ImportArgs) -> Result<()> {
    let name = args.weights.display().to_string();
    spare_input("importing", &args.weights, &args.out, false)?;
    let content = files::read(&args.weights)?;
    let is_onnx = args.weights.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    let (model, shortcut) = if is_onnx {
        (network(scene, args, &name, &content)?, None)
    } else {
        let (model, shortcut) = state_dict(args, &name, &content)?;
        (model, Some(shortcut))
    };
    answers(&model, &format!("importing {name}"))?;
    let (input, classes) = (model.graph.input, model.graph.classes()?);
    let normalization = normalization(args, input.c)?;

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
            classes: Vec::new(),
            normalization: normalization.clone(),
            data: String::new(),
        },
        clusters: None,
        training: None,
    };
    let path = args.out.join(BASE);
    folder.begin(Some(&checkpoint.to_bytes()?), &[BASE])?;
    let path = path.display().to_string();
    let normalised = match &normalization {
        Some(Normalization { mean, std }) => {
            format!("images normalised with mean {mean:?} and deviation {std:?}")
        }
        None => "images normalised as their data set says".to_owned(),
    };
    let text = format!(
        "{architecture} for images of {input}, {classes} classes: {} MACs, {} parameters; {normalised}\n{path} is written. To test it:\n  {}",
        scaled(macs),
        grouped(parameters),
        command(&["eval", &path, "--data", "DATA"]),
    );
    let document = json!({
        "file": path,
        "model": architecture,
        "input": [input.c, input.h, input.w],
        "classes": classes,
        "shortcut": shortcut,
        "macs": macs,
        "params": parameters,
        "normalization": normalization,
    });
    scene.console.result(&text, &document)
}

/// The network in an ONNX file.
fn network(scene: &Scene, args: &ImportArgs, name: &str, content: &[u8]) -> Result<Model> {
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
    let stem = args.weights.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = args.weights.parent().unwrap_or(Path::new("")).to_owned();
    let options = onnx::Options { name: stem, input: args.input };
    let imported =
        onnx::import(name, content, &options, &mut |location, part| beside(&folder, location, part))?;
    for note in &imported.notes {
        scene.console.note(note);
    }
    if args.insert_bn { rewrite::insert_batch_norms(&imported.model) } else { Ok(imported.model) }
}

/// A part of the file at the relative path `location` in `folder`, unless a link leads elsewhere.
fn beside(folder: &Path, location: &str, part: Range<u64>) -> Result<Vec<u8>> {
    let path = folder.join(location);
    let error = || Error::new(ErrorKind::Io, format!("reading the numbers in {}", path.display()));
    let real = |path: &Path| path.canonicalize().map_err(|failure| error().found(failure));
    let home = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !real(&path)?.starts_with(real(home)?) {
        return Err(error()
            .expected("a file in the folder of the ONNX file")
            .found("a link that leads out of it")
            .next("Put the file itself there, if you trust it"));
    }
    files::read_part(&path, part)
}

/// The weights in a safetensors file, in the architecture that `--model` names.
fn state_dict(args: &ImportArgs, name: &str, content: &[u8]) -> Result<(Model, Shortcut)> {
    let architecture = args.model.as_deref().ok_or_else(|| {
        Error::new(ErrorKind::Argument, format!("importing {name}"))
            .expected("an ONNX file (.onnx), or --model with the weights of a zoo model")
            .found("neither")
            .next(format!("Name its architecture by --model: {}", NAMES.join(", ")))
    })?;
    if args.insert_bn {
        return Err(Error::new(ErrorKind::Argument, format!("importing {name}"))
            .expected("--insert-bn with an ONNX file")
            .found("a state_dict"));
    }
    let contents = state_dict::read(name, content)?;
    let guess = Guess::from(&contents.tensors);
    let missing = |what: &str| {
        Error::new(ErrorKind::Checkpoint, format!("importing {name}"))
            .expected(format!("tensors that tell {what}"))
            .found(format!("{} tensors that do not", contents.tensors.len()))
            .next("Say it by --input or --classes, if these are the weights of the model")
    };
    let input = match args.input {
        Some(input) => input,
        None => Shape::new(guess.channels.ok_or_else(|| missing("the channels of images"))?, SIDE, SIDE),
    };
    let classes = match args.classes.or(guess.classes) {
        Some(classes) => classes,
        None => return Err(missing("the number of classes")),
    };
    let shortcut = args.shortcut.unwrap_or(guess.shortcut);
    let graph = build(architecture, input, classes, args.width, shortcut)?;
    Ok((state_dict::import(name, contents.tensors, graph)?, shortcut))
}

/// What the tensors tell of the architecture.
struct Guess {
    channels: Option<usize>,
    classes: Option<usize>,
    shortcut: Shortcut,
}

impl Guess {
    /// Images have the channels of the filters that see fewest; the classes are the rows of the last linear layer (by
    /// name: `linear`, `fc`, `classifier.6`).
    fn from(tensors: &Tensors) -> Self {
        let filters = tensors.values().filter(|tensor| tensor.dims.len() == 4);
        let linear =
            tensors.iter().filter(|(name, tensor)| tensor.dims.len() == 2 && name.ends_with(".weight"));
        let index = |name: &str| -> usize {
            name.trim_end_matches(".weight")
                .rsplit('.')
                .next()
                .and_then(|part| part.parse().ok())
                .unwrap_or(0)
        };
        Guess {
            channels: filters.map(|tensor| tensor.dims[1]).min(),
            classes: linear.max_by_key(|(name, _)| index(name)).map(|(_, tensor)| tensor.dims[0]),
            shortcut: if tensors.keys().any(|name| name.contains("shortcut")) {
                Shortcut::Projection
            } else {
                Shortcut::A
            },
        }
    }
}

/// What images are normalised with: as asked, or as the public CIFAR networks for three channels.
fn normalization(args: &ImportArgs, channels: usize) -> Result<Option<Normalization>> {
    if args.mean.is_empty() {
        let usual = Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
        return Ok((channels == 3).then_some(usual));
    }
    let usable = args.mean.len() == channels
        && args.std.len() == channels
        && args.mean.iter().all(|x| x.is_finite())
        && args.std.iter().all(|x| x.is_finite() && *x > 0.0);
    if !usable {
        return Err(Error::new(ErrorKind::Argument, "reading --mean and --std")
            .expected(format!("{channels} numbers each, the deviations over 0"))
            .found(format!("{:?} and {:?}", args.mean, args.std)));
    }
    Ok(Some(Normalization { mean: args.mean.clone(), std: args.std.clone() }))
}
