//! What the numbers of other tools' networks mean: images in the range that a file takes, the output that is logits, and
//! what a file says of itself.

use crate::onnx::raw::{bytes, flag, int, ints, node, tensor, text};
use centripetal::data::Normalization;
use centripetal::device::Device;
use centripetal::formats::onnx::{self, Imported, Options, Source};
use centripetal::formats::{Description, description};
use centripetal::graph::GraphBuilder;
use centripetal::model::Model;
use centripetal::ops::{Conv2d, GlobalAvgPool};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::{Error, ErrorKind, Result, Shape};
use pollster::block_on;
use std::ops::Range;

const FLOAT: i64 = 1;
const UINT8: i64 = 2;

/// Images of 3x4x5, two of them.
const SHAPE: Shape = Shape { c: 3, h: 4, w: 5 };
const BATCH: usize = 2;

fn no_file(location: &str, _: Range<u64>) -> Result<Vec<u8>> {
    Err(Error::new(ErrorKind::Io, format!("reading {location}")).found("no such file"))
}

/// A file over `x` of ONNX type `kind` and `dims`, with these outputs, version of the operators and metadata.
fn file_of(
    (kind, dims): (i64, &[i64]),
    outputs: &[&str],
    opset: i64,
    metadata: &[(&str, &str)],
    parts: &[Vec<u8>],
) -> Vec<u8> {
    let sides: Vec<u8> = dims.iter().flat_map(|&side| bytes(1, &int(1, side))).collect();
    let value = bytes(1, &[int(1, kind), bytes(2, &sides)].concat());
    let input = bytes(11, &[text(1, "x"), bytes(2, &value)].concat());
    let outputs: Vec<u8> = outputs.iter().flat_map(|name| bytes(12, &text(1, name))).collect();
    let graph = [parts.concat(), input, outputs].concat();
    let entry = |(key, value): &(&str, &str)| bytes(14, &[text(1, key), text(2, value)].concat());
    let metadata: Vec<u8> = metadata.iter().flat_map(entry).collect();
    [int(1, 8), bytes(7, &graph), bytes(8, &[text(1, ""), int(2, opset)].concat()), metadata].concat()
}

/// The same over floats of [1, 3, 4, 5], its output `y`.
fn file(parts: &[Vec<u8>]) -> Vec<u8> {
    file_of((FLOAT, &[1, 3, 4, 5]), &["y"], 17, &[], parts)
}

fn import_as(bytes: &[u8], options: Options) -> Result<Imported> {
    onnx::import("test.onnx", bytes, &options, &mut no_file)
}

#[track_caller]
fn import(bytes: &[u8]) -> Imported {
    import_as(bytes, Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    import_as(bytes, Options::default()).expect_err("refused").to_string()
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    tensor(name, dims, FLOAT, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// Pixels of channels, rows and columns.
fn pixels() -> Vec<u8> {
    (0..BATCH * SHAPE.len()).map(|at| (at * 37 % 256) as u8).collect()
}

/// What the network answers to the pixels, normalised as the import says.
fn answers(imported: &Imported) -> Vec<f32> {
    let Normalization { mean, std } = imported.images.normalization.as_ref().expect("a normalisation");
    let plane = SHAPE.h * SHAPE.w;
    let normalise = |(at, pixel): (usize, u8)| {
        let channel = at / plane % SHAPE.c;
        (f32::from(pixel) / 255.0 - mean[channel]) / std[channel]
    };
    let images: Vec<f32> = pixels().into_iter().enumerate().map(normalise).collect();
    logits(&imported.model, &images)
}

fn logits(model: &Model, images: &[f32]) -> Vec<f32> {
    let device = Device::cpu("test");
    let arenas = Arenas::new(&device, &model.graph, &model.tensors).expect("arenas");
    let plan =
        Plan::compile(&device, &model.graph, &arenas, BATCH, Mode::Evaluate, Keep::Logits).expect("a plan");
    plan.load(&device, images, &[0; BATCH]);
    device.run(&[plan.commands()]);
    block_on(device.read(plan.logits())).expect("logits")
}

/// The means of `of(channel, pixel)` over each channel, as a network gives them that ends in a global pooling.
fn means(of: impl Fn(usize, f64) -> f64) -> Vec<f32> {
    let plane = SHAPE.h * SHAPE.w;
    let channels = pixels();
    let mean = |(at, pixels): (usize, &[u8])| {
        let sum: f64 = pixels.iter().map(|&pixel| of(at % SHAPE.c, f64::from(pixel))).sum();
        (sum / plane as f64) as f32
    };
    channels.chunks_exact(plane).enumerate().map(mean).collect()
}

#[track_caller]
fn same(what: &str, expected: &[f32], found: &[f32]) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let scale = expected.iter().fold(1f32, |most, x| most.max(x.abs()));
    for (a, b) in expected.iter().zip(found) {
        assert!((a - b).abs() <= 1e-5 * scale, "{what}: {expected:?} but {found:?}");
    }
}

const MU: [f32; 3] = [123.0, 116.0, 103.0];
const SD: [f32; 3] = [58.0, 57.0, 56.0];

fn ops(model: &Model) -> Vec<&'static str> {
    model.graph.nodes.iter().map(|node| node.op.type_name()).collect()
}

#[test]
fn bytes_are_fed_as_bytes_and_normalised_once() {
    let cast = node("Cast", &["x"], &["f"], &[flag("to", 1)]);
    let statistics = [floats("mu", &[3], &MU), floats("sd", &[3], &SD)].concat();
    let normalise = [node("Sub", &["f", "mu"], &["c"], &[]), node("Div", &["c", "sd"], &["n"], &[])].concat();
    let first = node("Transpose", &["n"], &["t"], &[ints("perm", &[0, 3, 1, 2])]);
    let last = node("GlobalAveragePool", &["t"], &["y"], &[]);
    let nhwc: &[i64] = &[1, 4, 5, 3];
    let parts = [cast.clone(), statistics, normalise, first, last.clone()];
    let imported = import(&file_of((UINT8, nhwc), &["y"], 13, &[], &parts));
    same(
        "uint8, NHWC, its own statistics",
        &means(|channel, pixel| (pixel - f64::from(MU[channel])) / f64::from(SD[channel])),
        &answers(&imported),
    );
    assert_eq!(ops(&imported.model), ["Input", "GlobalAvgPool"], "the normalisation is no part of the graph");
    assert_eq!(imported.images.source, Source::Network);
    assert!(imported.images.reason.contains("uint8"), "{}", imported.images.reason);

    // Whole numbers of other widths, moved about before they become floats, and nothing done to them.
    let transposed = node("Transpose", &["x"], &["p"], &[ints("perm", &[0, 3, 1, 2])]);
    for (kind, through) in [(UINT8, flag("to", 1)), (6, flag("to", 1)), (7, flag("to", 10))] {
        let cast = node("Cast", &["p"], &["t"], &[through]);
        let imported =
            import(&file_of((kind, nhwc), &["y"], 13, &[], &[transposed.clone(), cast, last.clone()]));
        same("bytes alone", &means(|_, pixel| pixel), &answers(&imported));
    }
    let wider = node("Cast", &["p"], &["w"], &[flag("to", 7)]);
    let floats_of = node("Cast", &["w"], &["t"], &[flag("to", 1)]);
    let imported = import(&file_of((UINT8, nhwc), &["y"], 13, &[], &[transposed, wider, floats_of, last]));
    same("bytes as int64", &means(|_, pixel| pixel), &answers(&imported));

    // Arithmetic of whole numbers wraps around, and other types are no pictures.
    let add = [tensor("one", &[], 2, &[1]), node("Add", &["x", "one"], &["b"], &[])].concat();
    let cast = node("Cast", &["b"], &["f"], &[flag("to", 1)]);
    let mean = node("GlobalAveragePool", &["f"], &["y"], &[]);
    let whole = refusal(&file_of((UINT8, &[1, 3, 4, 5]), &["y"], 13, &[], &[add, cast, mean.clone()]));
    assert!(whole.contains("(Add): of whole numbers"), "{whole}");
    let cast = node("Cast", &["x"], &["f"], &[flag("to", 1)]);
    for (kind, told) in [(3, "int8"), (4, "uint16"), (8, "text"), (9, "truth values")] {
        let parts = [cast.clone(), mean.clone()];
        let refused = refusal(&file_of((kind, &[1, 3, 4, 5]), &["y"], 13, &[], &parts));
        assert!(refused.contains(&format!("the input \"x\" of {told}")), "{refused}");
    }
}

#[test]
fn floats_that_a_network_normalises_are_fed_in_its_range() {
    let mean = |from: &str| node("GlobalAveragePool", &[from], &["y"], &[]);
    let by = |op: &str, from: &str, to: &str, values: &[f32], dims: &[i64]| {
        let name = format!("{to}.by");
        [floats(&name, dims, values), node(op, &[from, &name], &[to], &[])].concat()
    };
    let (unit_mean, unit_std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let normalised = |channel: usize, pixel: f64| {
        (pixel / 255.0 - f64::from(unit_mean[channel])) / f64::from(unit_std[channel])
    };
    let chw: &[i64] = &[3, 1, 1];
    let unit = [by("Sub", "u", "c", &unit_mean, chw), by("Div", "c", "n", &unit_std, chw)].concat();
    let named = |from: &str| node("Identity", &[from], &["u"], &[]);
    for (what, parts, expected) in [
        (
            "0 to 255, divided, then ImageNet's",
            vec![by("Div", "x", "s", &[255.0], &[]), named("s"), unit.clone(), mean("n")],
            means(normalised),
        ),
        ("0 to 1, then ImageNet's", vec![named("x"), unit, mean("n")], means(normalised)),
        (
            "0 to 255 as 0 to 1",
            vec![by("Mul", "x", "s", &[1.0 / 255.0], &[]), mean("s")],
            means(|_, p| p / 255.0),
        ),
        (
            "0 to 255 as -1 to 1",
            vec![by("Mul", "x", "s", &[1.0 / 127.5], &[1]), by("Add", "s", "n", &[-1.0], &[]), mean("n")],
            means(|_, p| p / 127.5 - 1.0),
        ),
        (
            "0 to 1 as -1 to 1",
            vec![by("Sub", "x", "s", &[0.5], &[]), by("Mul", "s", "n", &[2.0], &[]), mean("n")],
            means(|_, p| p / 127.5 - 1.0),
        ),
        (
            "means alone",
            vec![by("Sub", "x", "n", &MU, chw), mean("n")],
            means(|channel, p| p - f64::from(MU[channel])),
        ),
    ] {
        let imported = import(&file(&parts));
        same(what, &expected, &answers(&imported));
        assert_eq!(ops(&imported.model), ["Input", "GlobalAvgPool"], "{what}");
        assert_eq!(imported.images.source, Source::Network, "{what}");
        assert!(imported.model.tensors.is_empty(), "{what}");
    }

    // What is more than a normalisation stays, and is fed the range that it fits.
    let upside_down = vec![by("Mul", "x", "s", &[-1.0], &[]), by("Add", "s", "n", &[255.0], &[]), mean("n")];
    let twice = vec![
        by("Div", "x", "s", &[255.0], &[]),
        node("Sigmoid", &["s"], &["g"], &[]),
        node("GlobalAveragePool", &["x"], &["m"], &[]),
        node("Mul", &["s", "m"], &["p"], &[]),
        mean("p"),
    ];
    let order: Vec<u8> = [2i64, 1, 0].iter().flat_map(|at| at.to_le_bytes()).collect();
    let reversed = vec![
        tensor("bgr", &[3], 7, &order),
        node("Gather", &["x", "bgr"], &["r"], &[flag("axis", 1)]),
        by("Sub", "r", "n", &[103.0, 116.0, 123.0], chw),
        mean("n"),
    ];
    let plain = means(|_, p| p);
    let squared: Vec<f32> = plain.iter().map(|mean| mean * mean / 255.0).collect();
    let minus_means = means(|channel, p| p - f64::from(MU[channel]));
    let swapped: Vec<f32> = minus_means.chunks_exact(3).flat_map(|row| [row[2], row[1], row[0]]).collect();
    for (what, parts, expected, nodes) in [
        ("upside down", upside_down, means(|_, p| 255.0 - p), 3),
        ("read twice", twice, squared, 5),
        ("blue first", reversed, swapped, 4),
    ] {
        let imported = import(&file(&parts));
        same(what, &expected, &answers(&imported));
        assert_eq!(imported.model.graph.nodes.len(), nodes, "{what}: {:?}", ops(&imported.model));
        assert_eq!(
            imported.images.normalization,
            Some(Normalization { mean: vec![0.0; 3], std: vec![1.0 / 255.0; 3] })
        );
    }

    // A batch norm of the images themselves stays as it is.
    let norm = |means: &[f32; 3], variances: &[f32; 3]| {
        vec![
            floats("g", &[3], &[1.0, 2.0, 0.5]),
            floats("b", &[3], &[0.0, 1.0, -1.0]),
            floats("m", &[3], means),
            floats("v", &[3], variances),
            node("BatchNormalization", &["x", "g", "b", "m", "v"], &["n"], &[]),
            mean("n"),
        ]
    };
    let imported = import(&file(&norm(&MU, &SD.map(|x| x * x))));
    let scaled = |channel: usize, p: f64| {
        let x = (p - f64::from(MU[channel])) / (f64::from(SD[channel] * SD[channel]) + 1e-5).sqrt();
        x * [1.0, 2.0, 0.5][channel] + [0.0, 1.0, -1.0][channel]
    };
    same("batch norm of bytes", &means(scaled), &answers(&imported));
    assert_eq!(ops(&imported.model), ["Input", "BatchNorm2d", "GlobalAvgPool"]);
    let imported = import(&file(&norm(&unit_mean, &unit_std.map(|x| x * x))));
    assert_eq!(imported.images.normalization, Some(Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] }));

    // What fits neither range is left alone and told.
    let inception = vec![
        by("Mul", "x", "s", &[0.458, 0.448, 0.45], chw),
        by("Add", "s", "n", &[-0.03, -0.088, -0.188], chw),
        mean("n"),
    ];
    for parts in [inception, norm(&[0.01, -0.02, 0.03], &[0.98, 1.02, 1.0])] {
        let imported = import(&file(&parts));
        assert_eq!((imported.images.normalization, imported.images.source), (None, Source::Unknown));
        assert!(
            imported.images.reason.contains("assumed to be normalised already"),
            "{}",
            imported.images.reason
        );
    }
    let imported = import(&file(&[mean("x")]));
    assert_eq!((imported.images.normalization, imported.images.source), (None, Source::Unknown));
}

#[test]
fn what_a_user_or_the_metadata_says_of_images_wins() {
    let parts = [
        floats("mu", &[3, 1, 1], &MU),
        node("Sub", &["x", "mu"], &["n"], &[]),
        node("GlobalAveragePool", &["n"], &["y"], &[]),
    ];
    let given = Normalization { mean: vec![0.1, 0.2, 0.3], std: vec![0.5; 3] };
    let options = Options { normalization: Some(given.clone()), ..Options::default() };
    let imported = import_as(&file(&parts), options).expect("imports");
    assert_eq!((&imported.images.normalization, imported.images.source), (&Some(given), Source::Given));
    let fed = |channel: usize, p: f64| (p / 255.0 - [0.1, 0.2, 0.3][channel]) / 0.5 - f64::from(MU[channel]);
    same("given", &means(fed), &answers(&imported));
    assert!(imported.images.reason.contains("which normalise images too"), "{}", imported.images.reason);

    let pool = [node("GlobalAveragePool", &["x"], &["y"], &[])];
    for (range, std) in [("NominalRange_0_255", 1.0 / 255.0), ("Normalized_0_1", 1.0)] {
        let metadata = [("Image.NominalPixelRange", range), ("author", "somebody")];
        let imported = import(&file_of((FLOAT, &[1, 3, 4, 5]), &["y"], 17, &metadata, &pool));
        assert_eq!(
            imported.images.normalization,
            Some(Normalization { mean: vec![0.0; 3], std: vec![std; 3] })
        );
    }
    let bgr = [("Image.BitmapPixelFormat", "Bgr8"), ("Image.NominalPixelRange", "NominalRange_0_255")];
    let imported = import(&file_of((FLOAT, &[1, 3, 4, 5]), &["y"], 17, &bgr, &pool));
    let swapped: Vec<f32> =
        means(|_, p| p).chunks_exact(3).flat_map(|row| [row[2], row[1], row[0]]).collect();
    same("BGR", &swapped, &answers(&imported));
    assert!(imported.notes[0].contains("BGR"), "{:?}", imported.notes);
}

/// A network of ours with all that is known of it.
fn ours() -> (Model, Description) {
    let mut b = GraphBuilder::new("ours", SHAPE);
    let x = b.add("conv", Conv2d::new(3, 2, [1, 1]), &[0]);
    b.add("pool", GlobalAvgPool {}, &[x]);
    let description = Description {
        input: Some(SHAPE),
        normalization: Some(Normalization { mean: vec![0.1, 0.2, 0.7], std: vec![0.3, 0.4, 1.0 / 255.0] }),
        classes: vec!["Ätna".to_owned(), "a \"b\"".to_owned()],
        data: "folder@5:x".to_owned(),
    };
    (Model::random(b.finish(), 4), description)
}

#[test]
fn what_is_exported_says_what_to_feed_and_is_read_back() {
    let (model, description) = ours();
    let exported = onnx::export(&model, &description).expect("exports");
    assert_eq!(exported, onnx::export(&model, &description).expect("exports"), "same model, same bytes");
    let imported = import(&exported);
    assert_eq!(imported.description, description);
    assert_eq!(
        (imported.images.normalization, imported.images.source),
        (description.normalization.clone(), Source::Described)
    );
    assert_eq!(imported.model.tensors, model.tensors);
    for part in ["float32 [batch, 3, 4, 5], RGB, (pixel / 255 - mean) / deviation", "\"mean\":[0.1,0.2,0.7]"]
    {
        assert!(exported.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
    let given = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
    let options = Options { normalization: Some(given.clone()), ..Options::default() };
    let imported = import_as(&exported, options).expect("imports");
    assert_eq!((imported.images.normalization, imported.images.source), (Some(given), Source::Given));
    assert_eq!(imported.description.classes, description.classes);
    let nothing = import(&onnx::export(&model, &Description::default()).expect("exports"));
    assert_eq!(nothing.images.source, Source::Unknown);
}

#[test]
fn a_description_that_cannot_be_is_refused() {
    let pool = [node("GlobalAveragePool", &["x"], &["y"], &[])];
    for (entry, told) in [
        ("{", "EOF"),
        (r#"{"input":{"mean":[0.5],"std":[0.5]}}"#, "a mean and a deviation for each of 3 channels"),
        (r#"{"input":{"mean":[0.5,0.5,0.5],"std":[0.5,0.5,-1]}}"#, "positive deviation"),
        (r#"{"input":{},"output":{"classes":["a","b","c","d"]}}"#, "at most 3, one for each output"),
    ] {
        let metadata = [(description::KEY, entry)];
        let refused = refusal(&file_of((FLOAT, &[1, 3, 4, 5]), &["y"], 17, &metadata, &pool));
        assert!(refused.contains(told) && refused.contains(description::KEY), "{refused}");
    }
}

#[test]
fn only_the_softmax_over_the_classes_is_left_out() {
    let pool = node("GlobalAveragePool", &["x"], &["m"], &[]);
    let flat = node("Flatten", &["m"], &["v"], &[]);
    let last = node("Transpose", &["m"], &["v"], &[ints("perm", &[0, 2, 3, 1])]);
    let vector = vec![pool.clone(), flat];
    let map = vec![pool.clone(), node("Identity", &["m"], &["v"], &[])];
    let nhwc = vec![pool, last];
    for op in ["Softmax", "LogSoftmax"] {
        for (what, before, opset, axis, is_read) in [
            ("[N, C]", &vector, 13, Some(1), true),
            ("[N, C]", &vector, 13, Some(-1), true),
            ("[N, C]", &vector, 13, None, true),
            ("[N, C]", &vector, 13, Some(0), false),
            ("[N, C]", &vector, 13, Some(-2), false),
            ("[N, C]", &vector, 13, Some(2), false),
            ("[N, C]", &vector, 11, None, true),
            ("[N, C]", &vector, 11, Some(-1), true),
            ("[N, C]", &vector, 11, Some(0), false),
            ("[N, C]", &vector, 11, Some(2), false),
            ("[N, C, 1, 1]", &map, 13, Some(1), true),
            ("[N, C, 1, 1]", &map, 13, Some(-3), true),
            ("[N, C, 1, 1]", &map, 13, None, false),
            ("[N, C, 1, 1]", &map, 13, Some(2), false),
            ("[N, C, 1, 1]", &map, 13, Some(0), false),
            ("[N, C, 1, 1]", &map, 11, None, true),
            ("[N, C, 1, 1]", &map, 11, Some(2), false),
            ("[N, 1, 1, C]", &nhwc, 13, None, true),
            ("[N, 1, 1, C]", &nhwc, 13, Some(1), false),
            ("[N, 1, 1, C]", &nhwc, 11, None, true),
            ("[N, 1, 1, C]", &nhwc, 11, Some(3), true),
        ] {
            let attributes: Vec<Vec<u8>> = axis.into_iter().map(|axis| flag("axis", axis)).collect();
            let mut parts = before.clone();
            parts.push(node(op, &["v"], &["s"], &attributes));
            parts.push(node("Flatten", &["s"], &["d"], &[]));
            parts.push(node("Dropout", &["d"], &["y"], &[]));
            let what = format!("{op} over axis {axis:?} of {what}, version {opset}");
            match import_as(&file_of((FLOAT, &[1, 3, 4, 5]), &["y"], opset, &[], &parts), Options::default())
            {
                Ok(imported) => {
                    assert!(is_read, "{what} is read");
                    assert_eq!(ops(&imported.model), ["Input", "GlobalAvgPool"], "{what}");
                    let note = format!("its last {op} is left out");
                    assert!(imported.notes.iter().any(|found| found.contains(&note)), "{:?}", imported.notes);
                }
                Err(error) => {
                    assert!(!is_read, "{what}: {error}");
                    assert!(error.to_string().contains(&format!("({op}): ")), "{error}");
                }
            }
        }
    }
    let twice =
        [vector.clone(), vec![node("Softmax", &["v"], &["s"], &[]), node("Softmax", &["s"], &["y"], &[])]];
    let refused = refusal(&file(&twice.concat()));
    assert!(refused.contains("node \"s\" (Softmax): in the middle of the network"), "{refused}");
    // One that something else reads too is no last one.
    let read = [node("Softmax", &["v"], &["s"], &[]), node("Mul", &["s", "s"], &["y"], &[])].concat();
    let refused = refusal(&file(&[vector.concat(), read]));
    assert!(refused.contains("(Softmax): in the middle of the network"), "{refused}");
    // A temperature goes into the logits.
    let cold = [
        floats("t", &[], &[2.0]),
        node("Div", &["v", "t"], &["c"], &[]),
        node("Softmax", &["c"], &["y"], &[]),
    ];
    let options = Options {
        normalization: Some(Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] }),
        ..Options::default()
    };
    let imported = import_as(&file(&[vector.concat(), cold.concat()]), options).expect("imports");
    same("temperature", &means(|_, p| p / 255.0 / 2.0), &answers(&imported));
    // Answers instead of logits say how to get at these.
    for op in ["ArgMax", "Hardmax", "TopK", "Exp"] {
        let refused = refusal(&file(&[vector.concat(), node(op, &["v"], &["y"], &[])]));
        assert!(
            refused.contains(&format!("({op}): not an operator that is read; --output \"v\"")),
            "{refused}"
        );
    }
}

#[test]
fn yes_or_no_answers_and_several_labels_are_no_classes() {
    let weight = |rows: i64| floats("w", &[rows, 3], &vec![0.5; 3 * rows as usize]);
    let parts = |rows: i64, end: &str| {
        let linear = node("Gemm", &["v", "w"], &["z"], &[flag("transB", 1)]);
        let head = [node("GlobalAveragePool", &["x"], &["m"], &[]), node("Flatten", &["m"], &["v"], &[])];
        vec![weight(rows), head.concat(), linear, node(end, &["z"], &["y"], &[])]
    };
    for end in ["Sigmoid", "HardSigmoid", "Identity", "Softmax"] {
        let refused = refusal(&file(&parts(1, end)));
        assert!(refused.contains("a yes-or-no answer") && refused.contains("softmax of [0, z]"), "{refused}");
    }
    for end in ["Sigmoid", "HardSigmoid"] {
        let refused = refusal(&file(&parts(4, end)));
        assert!(refused.contains("of 4 sigmoids") && refused.contains("--output"), "{refused}");
        let options = Options { output: Some("z".to_owned()), ..Options::default() };
        let imported = import_as(&file(&parts(4, end)), options).expect("imports");
        assert_eq!(ops(&imported.model), ["Input", "GlobalAvgPool", "Linear"]);
    }
}

#[test]
fn of_several_outputs_the_logits_are_taken_and_the_choice_is_told() {
    let linear = |from: &str, name: &str, rows: i64, columns: i64| {
        let weight = format!("{name}.w");
        let size = (rows * columns) as usize;
        [
            floats(&weight, &[rows, columns], &vec![0.25; size]),
            node("Gemm", &[from, &weight], &[name], &[flag("transB", 1)]),
        ]
        .concat()
    };
    let trunk = [node("GlobalAveragePool", &["x"], &["m"], &[]), node("Flatten", &["m"], &["features"], &[])]
        .concat();
    let logits = linear("features", "logits", 4, 3);
    let probabilities = node("Softmax", &["logits"], &["probabilities"], &[]);
    let label = node("ArgMax", &["logits"], &["label"], &[]);
    let embedding = linear("features", "embedding", 5, 3);
    let upon = linear("embedding", "upon", 6, 5);
    let head = linear("features", "head", 7, 3);
    let map = [floats("k", &[5, 3, 1, 1], &[0.5; 15]), node("Conv", &["x", "k"], &["map"], &[])].concat();
    let pooled = node("GlobalAveragePool", &["map"], &["pooled"], &[]);
    for (parts, outputs, taken, classes) in [
        (vec![&trunk, &logits], vec!["features", "logits"], "logits", 4),
        (vec![&trunk, &logits], vec!["logits", "features"], "logits", 4),
        (vec![&trunk, &logits, &label, &probabilities], vec!["label", "probabilities"], "probabilities", 4),
        (vec![&trunk, &embedding, &upon], vec!["embedding", "upon"], "upon", 6),
        // Heads of training beside the logits.
        (vec![&trunk, &logits, &head, &embedding], vec!["logits", "head", "embedding"], "logits", 4),
        (vec![&trunk, &logits], vec!["features", "m"], "features", 3),
        // A convolution whose maps are pooled last.
        (vec![&map, &pooled], vec!["map", "pooled"], "pooled", 5),
        (vec![&map, &pooled], vec!["pooled", "map"], "pooled", 5),
    ] {
        let parts: Vec<Vec<u8>> = parts.into_iter().cloned().collect();
        let bytes = file_of((FLOAT, &[1, 3, 4, 5]), &outputs, 17, &[], &parts);
        let imported = import(&bytes);
        assert_eq!(imported.model.graph.classes().expect("classes"), classes, "{outputs:?}");
        let note = &imported.notes[0];
        let named = outputs.iter().all(|output| note.contains(&format!("{output:?}")));
        assert!(named && note.contains("is taken") && note.contains("--output NAME"), "{taken}: {note}");
    }
    let bytes = file_of((FLOAT, &[1, 3, 4, 5]), &["features", "upon"], 17, &[], &[trunk, embedding, upon]);
    for (output, classes, told) in
        [("features", 3, "its output"), ("embedding", 5, "within the network"), ("m", 3, "within")]
    {
        let options = Options { output: Some(output.to_owned()), ..Options::default() };
        let imported = import_as(&bytes, options).expect("imports");
        assert_eq!(imported.model.graph.classes().expect("classes"), classes);
        assert!(imported.notes[0].contains(told), "{:?}", imported.notes);
    }
    for output in ["nosuch", "x", "upon.w", ""] {
        let options = Options { output: Some(output.to_owned()), ..Options::default() };
        let error = import_as(&bytes, options).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("[\"features\", \"upon\"]"), "{error}");
    }
}

#[test]
fn a_missing_file_of_weights_is_named_and_no_operator_is_blamed() {
    let entry = bytes(13, &[text(1, "location"), text(2, "network.onnx.data")].concat());
    let dims: Vec<u8> = [2, 3, 1, 1].iter().flat_map(|&side| int(1, side)).collect();
    let weight =
        |entry: &[u8]| bytes(5, &[&dims[..], &int(2, 1), &text(8, "w"), entry, &int(14, 1)].concat());
    let conv = node("Conv", &["x", "w"], &["c"], &[]);
    let parts =
        |entry: &[u8]| vec![weight(entry), conv.clone(), node("GlobalAveragePool", &["c"], &["y"], &[])];
    let missing = refusal(&file(&parts(&entry)));
    assert_eq!(missing, "reading network.onnx.data: no such file");
    let outside = bytes(13, &[text(1, "location"), text(2, "../w")].concat());
    let refused = refusal(&file(&parts(&outside)));
    assert!(refused.contains("not in the folder of the file") && !refused.contains("operators"), "{refused}");
    let mut short = |_: &str, _: Range<u64>| Ok(vec![0; 20]);
    let refused = onnx::import("test.onnx", &file(&parts(&entry)), &Options::default(), &mut short);
    let refused = refused.expect_err("short").to_string();
    assert!(
        refused.contains("the numbers of \"w\"") && refused.contains("of which 20 are there"),
        "{refused}"
    );
}

#[test]
fn a_written_out_hard_sigmoid_keeps_its_slope() {
    let number = |name: &str, value: f32| floats(name, &[], &[value]);
    let numbers =
        [number("three", 3.0), number("two", 2.0), number("zero", 0.0), number("six", 6.0)].concat();
    let parts = [
        numbers,
        node("Add", &["x", "three"], &["a"], &[]),
        node("Mul", &["a", "two"], &["b"], &[]),
        node("Clip", &["b", "zero", "six"], &["c"], &[]),
        node("Div", &["c", "six"], &["d"], &[]),
        node("GlobalAveragePool", &["d"], &["y"], &[]),
    ];
    let given = Normalization { mean: vec![0.5; 3], std: vec![0.125; 3] };
    let options = Options { normalization: Some(given), ..Options::default() };
    let imported = import_as(&file(&parts), options).expect("imports");
    let expected = means(|_, p| (2.0 * ((p / 255.0 - 0.5) / 0.125 + 3.0)).clamp(0.0, 6.0) / 6.0);
    same("relu6(2 (x + 3)) / 6", &expected, &answers(&imported));
}
