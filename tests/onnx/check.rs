//! What `check.py` asks of the library for one ONNX file: its logits; a cut of forced-identical filters, logits again; and
//! both networks as ONNX.
//!
//! `cargo run --release --example onnx_check -- FILE.onnx IMAGES.safetensors OUT`

use centripetal::device::Device;
use centripetal::formats::{Description, onnx, state_dict};
use centripetal::graph::Coupling;
use centripetal::model::{Model, TensorData, Tensors};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::prune::width::{Ratio, Rounding, WidthRule};
use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace, surgery};
use centripetal::{Error, ErrorKind, Result, rewrite};
use pollster::block_on;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn io(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, what).found(error)
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, images, out] = arguments.as_slice() else {
        return Err(Error::new(ErrorKind::Argument, "reading the arguments").expected("FILE IMAGES OUT"));
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| io(&path.display().to_string(), error));
    let (path, out) = (Path::new(file), Path::new(out));
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let options = onnx::Options { name, ..Default::default() };
    let imported = onnx::import(file, &read(path)?, &options, &mut |location, part| {
        let mut file = std::fs::File::open(folder.join(location)).map_err(|error| io(location, error))?;
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(part.start))
            .and_then(|_| file.take(part.end - part.start).read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|error| io(location, error))
    })?;
    for note in &imported.notes {
        println!("note: {note}");
    }
    let wide = imported.model;
    println!("{} MACs, {} parameters", wide.graph.macs()?, wide.graph.parameter_count());
    let images = state_dict::read(images, &read(Path::new(images))?)?.tensors.remove("images");
    let images = images.ok_or_else(|| Error::new(ErrorKind::Data, "reading images").found("none"))?;

    let coupling = Coupling::derive(&wide.graph, &[])?;
    let plan = ClusterPlan {
        widths: WidthRule::All(Ratio::new(5, 8)?),
        rounding: Rounding::Floor,
        round_to: 1,
        clustering: Clustering::Even,
        pace: Pace::Pacesetter,
        frozen: Vec::new(),
        seed: 0,
    };
    let clusters = Clusters::find(&wide, &coupling, &plan)?;
    let identical = surgery::snap(&wide, &clusters);
    let slim = surgery::cut(&identical, &clusters)?;
    println!("slim: {} MACs, {} parameters", slim.graph.macs()?, slim.graph.parameter_count());

    let description = Description { normalization: imported.images.normalization, ..Description::default() };
    let mut logits = Tensors::new();
    for (name, model) in [("wide", &wide), ("identical", &identical), ("slim", &slim)] {
        logits.insert(name.to_owned(), forward(model, &images)?);
        let write = |name: &str, content: Vec<u8>| {
            let path = out.join(name);
            std::fs::write(&path, content).map_err(|error| io(&path.display().to_string(), error))
        };
        write(&format!("{name}.onnx"), onnx::export(model, &description)?)?;
        write(
            &format!("{name}-folded.onnx"),
            onnx::export(&rewrite::fold_batch_norms(model)?, &description)?,
        )?;
    }
    let content = state_dict::write(&logits, None)?;
    std::fs::write(out.join("logits.safetensors"), content).map_err(|error| io("logits", error))
}

fn forward(model: &Model, images: &TensorData) -> Result<TensorData> {
    let device = Device::cpu("check");
    let batch = images.dims[0];
    let arenas = Arenas::new(&device, &model.graph, &model.tensors)?;
    let plan = Plan::compile(&device, &model.graph, &arenas, batch, Mode::Evaluate, Keep::Logits)?;
    plan.load(&device, &images.data, &vec![0; batch]);
    device.run(&[plan.commands()]);
    let data = block_on(device.read(plan.logits()))?;
    Ok(TensorData { dims: vec![batch, data.len() / batch], data })
}
