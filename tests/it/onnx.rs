//! ONNX files: those of PyTorch to PyTorch's answers, our own back again, and damaged ones to a message.

use crate::formula;
use centripetal::device::Device;
use centripetal::formats::onnx::{self, Options};
use centripetal::formats::{Description, state_dict};
use centripetal::graph::{Coupling, Graph, GraphBuilder};
use centripetal::model::Model;
use centripetal::models::{self, ModelConfig, Shortcut};
use centripetal::ops::{
    Add, AvgPool2d, BatchNorm2d, ChannelPad, Clamp, Concat, Conv2d, Divisor, Flatten, GlobalAvgPool,
    HardSigmoid, HardSwish, LeakyRelu, Linear, MaxPool2d, Mul, Op, Pad2d, Padding, ParamKind, Relu, Relu6,
    Sigmoid, Silu,
};
use centripetal::plan::{Arenas, Keep, Mode, Plan};
use centripetal::rng::Rng;
use centripetal::{Error, ErrorKind, Result, Shape, rewrite};
use pollster::block_on;
use std::ops::Range;
use std::path::Path;

const BATCH: usize = 2;

fn no_file(location: &str, _: Range<u64>) -> Result<Vec<u8>> {
    Err(Error::new(ErrorKind::Io, format!("reading {location}")).found("no such file"))
}

fn import(bytes: &[u8]) -> Result<Model> {
    let options = Options { name: "test".into(), ..Options::default() };
    onnx::import("test.onnx", bytes, &options, &mut no_file).map(|imported| imported.model)
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn logits(model: &Model) -> Vec<f32> {
    let device = Device::cpu("test");
    let arenas = Arenas::new(&device, &model.graph, &model.tensors).expect("arenas");
    let plan =
        Plan::compile(&device, &model.graph, &arenas, BATCH, Mode::Evaluate, Keep::Logits).expect("a plan");
    let batch = formula::batch(0, BATCH, model.graph.input);
    plan.load(&device, &batch.images, &[0; BATCH]);
    device.run(&[plan.commands()]);
    block_on(device.read(plan.logits())).expect("logits")
}

#[track_caller]
fn same(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let scale = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let worst = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(scale > 1e-3 && worst <= tolerance * scale, "{what}: off by {worst} of {scale}");
}

/// Random weights, and batch norms that are not the identity.
fn lively(graph: Graph) -> Model {
    let mut model = Model::random(graph, 3);
    let mut rng = Rng::new(9);
    for (_, name, spec) in model.graph.parameters() {
        let tensor = model.tensors.get_mut(&name).unwrap_or_else(|| panic!("{name} is missing"));
        match spec.kind {
            ParamKind::Weight => {}
            ParamKind::Gamma | ParamKind::RunningVar => {
                tensor.data.iter_mut().for_each(|x| *x = 0.5 + rng.uniform())
            }
            _ => tensor.data.iter_mut().for_each(|x| *x = rng.normal() * 0.3),
        }
    }
    model
}

#[test]
fn files_of_pytorch_give_pytorchs_answers() {
    let answers = state_dict::read("answers", &fixture("answers.safetensors")).expect("reads").tensors;
    for (file, name) in [
        ("squeeze_excite.onnx", "squeeze_excite"),
        ("squeeze_excite_dynamo.onnx", "squeeze_excite"),
        ("option_a.onnx", "option_a"),
        ("option_a_dynamo.onnx", "option_a"),
    ] {
        let model = import(&fixture(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        same(file, &answers[name].data, &logits(&model), 1e-5);
        let back = import(&onnx::export(&model, &Description::default()).expect("exports"))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        same(&format!("{file} and back"), &answers[name].data, &logits(&back), 1e-5);
    }
}

#[test]
fn a_file_of_keras_gives_kerass_answers() {
    let answers = state_dict::read("answers", &fixture("keras.safetensors")).expect("reads").tensors;
    let model = import(&fixture("keras.onnx")).expect("imports");
    assert_eq!(model.graph.input, Shape::new(3, 11, 14));
    let mut logits = logits(&model);
    for row in logits.chunks_exact_mut(7) {
        let mean = row.iter().sum::<f32>() / 7.0;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    same("keras.onnx", &answers["centred"].data, &logits, 1e-5);
    let back = import(&onnx::export(&model, &Description::default()).expect("exports")).expect("imports");
    assert_eq!(back.graph.macs().expect("MACs"), model.graph.macs().expect("MACs"));
}

#[test]
fn names_and_forms_are_pytorchs() {
    let model = import(&fixture("squeeze_excite.onnx")).expect("imports");
    for name in ["stem.weight", "bn.running_var", "depthwise.weight", "fc1.bias", "lin2.weight", "head.bias"]
    {
        assert!(model.tensors.contains_key(name), "{name} of {:?}", model.tensors.keys());
    }
    let count = |name: &str| model.graph.nodes.iter().filter(|node| node.op.type_name() == name).count();
    let forms = ["Silu", "HardSwish", "Mul", "HardSigmoid", "Sigmoid", "Relu6", "Flatten"].map(count);
    assert_eq!(forms, [1, 1, 2, 1, 1, 1, 0], "{:?}", model.graph.nodes);
    let shuffles: Vec<&ChannelPad> = model
        .graph
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::ChannelPad(pad) => Some(pad),
            _ => None,
        })
        .collect();
    assert_eq!(shuffles.len(), 2, "shuffle and halves are one rearrangement each");
    let model = import(&fixture("option_a.onnx")).expect("imports");
    let shortcut = model.graph.nodes.iter().find_map(|node| match &node.op {
        Op::ChannelPad(pad) => Some(pad.clone()),
        _ => None,
    });
    assert_eq!(shortcut, Some(ChannelPad::symmetric(8, 4, 4, 2)));
}

/// Every operator at least once, vectors and images mixed.
fn everything() -> Graph {
    let mut b = GraphBuilder::new("everything", Shape::new(3, 9, 11));
    let x = b.add("conv1", Conv2d { stride: [2, 1], ..Conv2d::same(3, 8, 3) }, &[0]);
    let x = b.add("bn1", BatchNorm2d::new(8), &[x]);
    let x = b.add("relu6", Relu6 {}, &[x]);
    let padding = Padding { top: 1, left: 0, bottom: 2, right: 1 };
    let y =
        b.add("grouped", Conv2d { groups: 4, padding, dilation: [1, 2], ..Conv2d::new(8, 8, [3, 3]) }, &[x]);
    let y = b.add("silu", Silu {}, &[y]);
    let y = b.add("pad", Pad2d { padding: Padding { left: 1, ..Padding::all(0) } }, &[y]);
    let y = b.add("swish", HardSwish {}, &[y]);
    let pool = MaxPool2d { stride: [2, 2], trailing: Some([1, 2]), ..MaxPool2d::new(3) };
    let a = b.add("max", pool, &[y]);
    let pool =
        AvgPool2d { stride: [2, 2], trailing: Some([1, 2]), divisor: Divisor::Pixels, ..AvgPool2d::new(3) };
    let m = b.add("mean", pool, &[y]);
    let joined = b.add("joined", Concat {}, &[a, m]);
    let source = vec![Some(3), None, Some(0), Some(15), None, Some(8), Some(7), Some(2)];
    let some = b.add("some", ChannelPad { stride: [1, 1], source }, &[joined]);
    let half = b.add("half", ChannelPad::symmetric(8, 0, 2, 2), &[some]);
    let gate = b.add("squeeze", GlobalAvgPool {}, &[half]);
    let gate = b.add("fc1", Linear::new(10, 10), &[gate]);
    let gate = b.add("gate", Sigmoid {}, &[gate]);
    let gated = b.add("gated", Mul {}, &[half, gate]);
    let twice = b.add("twice", Add {}, &[gated, half, gated]);
    let leaky = b.add("leaky", LeakyRelu { slope: 0.2 }, &[twice]);
    let flat = b.add("flatten", Flatten {}, &[leaky]);
    let x = b.add("fc2", Linear::new(10 * 2 * 3, 6), &[flat]);
    let x = b.add("norm", BatchNorm2d::new(6), &[x]);
    let x = b.add("relu", Relu {}, &[x]);
    let x = b.add("line", HardSigmoid { slope: 0.25, offset: 0.4 }, &[x]);
    let x = b.add("clamp", Clamp { low: 0.1, high: 0.9 }, &[x]);
    b.add("fc3", Linear::new(6, 5), &[x]);
    b.finish()
}

#[test]
fn what_is_exported_is_imported() {
    let config = |input| ModelConfig { width: 0.25, ..ModelConfig::new(input, 10) };
    let small = config(Shape::new(3, 32, 32));
    let mut graphs = vec![everything()];
    for name in ["lenet", "resnet18", "se_resnet18", "densenet40", "mobilenet_v2", "googlenet", "vgg16"] {
        graphs.push(models::build(name, &small).expect(name));
    }
    let option_a = ModelConfig { shortcut: Shortcut::A, ..config(Shape::new(1, 28, 28)) };
    graphs.push(models::build("resnet20", &option_a).expect("resnet20"));
    for graph in graphs {
        let model = lively(graph);
        let name = &model.graph.name;
        let expected = logits(&model);
        let back = import(&onnx::export(&model, &Description::default()).expect("exports"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        same(name, &expected, &logits(&back), 1e-5);
        if name != "everything" {
            assert_eq!(back.tensors, model.tensors, "{name}: names and numbers");
        }
        let folded = rewrite::fold_batch_norms(&model).expect("folds");
        same(&format!("{name}, folded"), &expected, &logits(&folded), 1e-4);
        let back = import(&onnx::export(&folded, &Description::default()).expect("exports"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        same(&format!("{name}, folded and back"), &expected, &logits(&back), 1e-4);
        let inserted = rewrite::insert_batch_norms(&folded).expect("inserts");
        same(&format!("{name}, batch norms inserted"), &expected, &logits(&inserted), 1e-4);
        let norms = |model: &Model| {
            model.graph.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm2d(_))).count()
        };
        assert!(norms(&folded) <= norms(&model) && norms(&inserted) > norms(&folded), "{name}");
    }
}

#[test]
fn couplings_of_an_imported_network_are_those_of_its_graph() {
    let model = import(&fixture("squeeze_excite.onnx")).expect("imports");
    let coupling = Coupling::derive(&model.graph, &[]).expect("couples");
    let node = |name: &str| model.graph.find(name).unwrap_or_else(|| panic!("no {name}"));
    let stem = coupling.groups.iter().find(|group| group.producers.contains(&node("stem"))).expect("a group");
    for gate in ["fc2", "lin2"] {
        assert!(stem.producers.contains(&node(gate)), "{gate} follows the trunk");
    }
    assert_eq!(stem.pacesetter, Some(node("stem")));
}

#[test]
fn truncated_files_are_told_and_flipped_bits_do_no_harm() {
    for name in ["squeeze_excite.onnx", "option_a_dynamo.onnx"] {
        let whole = fixture(name);
        for length in 0..whole.len() {
            assert!(import(&whole[..length]).is_err(), "{length} of {} bytes of {name}", whole.len());
        }
        let mut rng = Rng::new(1);
        let mut refused = 0;
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
            // Most of a file are weights, where a flipped bit is another weight; no outcome may be a panic.
            refused += usize::from(import(&bytes).is_err());
        }
        assert!(refused > 100, "{refused} of 3000 damaged copies of {name} are refused");
    }
}

/// Messages of protobuf, enough to write hostile files.
pub(crate) mod raw {
    pub(crate) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 127 {
            bytes.push(value as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    pub(crate) fn int(field: u64, value: i64) -> Vec<u8> {
        [varint(field << 3), varint(value as u64)].concat()
    }

    pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    pub(crate) fn text(field: u64, value: &str) -> Vec<u8> {
        bytes(field, value.as_bytes())
    }

    pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = Vec::new();
        inputs.iter().for_each(|name| message.extend(text(1, name)));
        outputs.iter().for_each(|name| message.extend(text(2, name)));
        message.extend(text(4, op));
        attributes.iter().for_each(|attribute| message.extend(bytes(5, attribute)));
        bytes(1, &message)
    }

    pub(crate) fn ints(name: &str, values: &[i64]) -> Vec<u8> {
        let mut message = text(1, name);
        values.iter().for_each(|&value| message.extend(int(8, value)));
        message.extend(int(20, 7));
        message
    }

    pub(crate) fn flag(name: &str, value: i64) -> Vec<u8> {
        [text(1, name), int(3, value), int(20, 2)].concat()
    }

    pub(crate) fn tensor(name: &str, dims: &[i64], kind: i64, data: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        dims.iter().for_each(|&side| message.extend(int(1, side)));
        message.extend([int(2, kind), text(8, name), bytes(9, data)].concat());
        bytes(5, &message)
    }

    pub(crate) fn info(field: u64, name: &str, dims: &[i64]) -> Vec<u8> {
        let mut shape = Vec::new();
        dims.iter().for_each(|&side| shape.extend(bytes(1, &int(1, side))));
        let kind = bytes(1, &[int(1, 1), bytes(2, &shape)].concat());
        bytes(field, &[text(1, name), bytes(2, &kind)].concat())
    }

    /// A file over images of 1x3x8x8 with these parts of its graph, and output `y`.
    pub(crate) fn file(parts: &[Vec<u8>]) -> Vec<u8> {
        let graph = [parts.concat(), info(11, "x", &[1, 3, 8, 8]), info(12, "y", &[])].concat();
        [int(1, 8), bytes(7, &graph), bytes(8, &[text(1, ""), int(2, 17)].concat())].concat()
    }
}

fn refusal(parts: &[Vec<u8>]) -> String {
    import(&raw::file(parts)).expect_err("a hostile file").to_string()
}

#[test]
fn hostile_files_get_a_message() {
    use raw::{ints, node, tensor};
    let floats = |count: usize| vec![0u8; 4 * count];
    let longs = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();

    let cycle = refusal(&[node("Relu", &["b"], &["y"], &[]), node("Add", &["x", "y"], &["b"], &[])]);
    assert!(cycle.contains("cycle of 2 nodes"), "{cycle}");
    let missing = refusal(&[node("Conv", &["x", "w"], &["y"], &[])]);
    assert!(missing.contains("\"w\", which nothing gives"), "{missing}");
    let twice = refusal(&[node("Relu", &["x"], &["y"], &[]), node("Relu", &["x"], &["y"], &[])]);
    assert!(twice.contains("two nodes that give \"y\""), "{twice}");
    let nothing = refusal(&[node("Relu", &["x"], &["z"], &[])]);
    assert!(nothing.contains("\"y\" that no node gives"), "{nothing}");

    for dims in [[1 << 40, 1 << 40, 3, 3], [i64::MAX, 3, 3, 3], [-1, 3, 3, 3], [1 << 20, 3, 1 << 10, 3]] {
        let huge = refusal(&[tensor("w", &dims, 1, &floats(27)), node("Conv", &["x", "w"], &["y"], &[])]);
        assert!(huge.contains("Conv") && huge.contains("\"w\""), "{huge}");
    }
    let short = refusal(&[tensor("w", &[4, 3, 3, 3], 1, &floats(7)), node("Conv", &["x", "w"], &["y"], &[])]);
    assert!(short.contains("28 bytes of numbers instead of 108 times 4"), "{short}");
    let fill = refusal(&[
        tensor("d", &[2], 7, &longs(&[1 << 40, 1 << 40])),
        node("ConstantOfShape", &["d"], &["c"], &[]),
        node("Add", &["x", "c"], &["y"], &[]),
    ]);
    assert!(fill.contains("ConstantOfShape"), "{fill}");
    let overflow = refusal(&[
        tensor("d", &[1], 7, &longs(&[i64::MAX])),
        node("Mul", &["d", "d"], &["c"], &[]),
        node("Reshape", &["x", "c"], &["y"], &[]),
    ]);
    assert!(overflow.contains("no 64-bit number"), "{overflow}");
    for (name, values) in [
        ("strides", &[0, 1][..]),
        ("strides", &[i64::MAX, 1]),
        ("pads", &[i64::MAX, 0, i64::MAX, 0]),
        ("pads", &[-1, 0, 0, 0]),
        ("pads", &[1 << 23, 0, 0, 0]),
        ("dilations", &[i64::MIN, 1]),
    ] {
        let weights = tensor("w", &[4, 3, 3, 3], 1, &floats(108));
        let wrong = refusal(&[weights, node("Conv", &["x", "w"], &["y"], &[ints(name, values)])]);
        assert!(wrong.contains("Conv"), "{wrong}");
    }
    for values in [[i64::MAX, 1], [i64::MIN, 1], [0, 0]] {
        let wrong = refusal(&[node("MaxPool", &["x"], &["y"], &[ints("kernel_shape", &values)])]);
        assert!(wrong.contains("MaxPool") && wrong.contains("kernel_shape"), "{wrong}");
    }
    // Many channels by padding, and many of those.
    let pads = tensor("p", &[8], 7, &longs(&[0, 1 << 23, 0, 0, 0, 1 << 23, 0, 0]));
    let wide = refusal(&[pads, node("Pad", &["x", "p"], &["y"], &[])]);
    assert!(wide.contains("Pad"), "{wide}");
}

#[test]
fn small_files_do_not_become_large() {
    use raw::{info, ints, node, tensor};
    let longs = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let name = |kind: &str, at: usize| format!("{kind}{at}");
    let numbered =
        |count: usize, one: &dyn Fn(usize) -> Vec<u8>| (0..count).flat_map(one).collect::<Vec<u8>>();
    let million = tensor("million", &[1], 7, &longs(&[1 << 20]));
    let last = |name: &str| node("GlobalAveragePool", &[name], &["y"], &[]);

    // Many constants, and many looks at one.
    let filled = |at: usize| node("ConstantOfShape", &["million"], &[&name("c", at)], &[]);
    let sum = |at: usize, of: &str| node("ReduceSum", &[of], &[&name("s", at)], &[ints("axes", &[0])]);
    let added = |at: usize| node("Add", &[&name("a", at), &name("s", at)], &[&name("a", at + 1)], &[]);
    let adds = [node("Relu", &["x"], &["a0"], &[]), numbered(200, &added), last("a200")].concat();
    let many = numbered(200, &|at| [filled(at), sum(at, &name("c", at))].concat());
    let looked_at = [filled(0), numbered(200, &|at| sum(at, "c0"))].concat();
    let joined = {
        let names = vec!["c0"; 9000];
        [filled(0), node("Concat", &names, &["c"], &[]), numbered(200, &|at| sum(at, "c"))].concat()
    };
    for constants in [many, looked_at, joined] {
        let costly = refusal(&[million.clone(), constants, adds.clone()]);
        assert!(
            costly.contains("more to compute beforehand than a file of this size may ask for"),
            "{costly}"
        );
    }
    // Slices of one axis again and again, and loops over what has no numbers.
    let again = tensor("zeros", &[5000], 7, &longs(&[0; 5000]));
    let ones = tensor("ones", &[5000], 7, &longs(&[1; 5000]));
    let sliced = node("Slice", &["x", "zeros", "ones", "zeros"], &["y"], &[]);
    let slices = refusal(&[again.clone(), ones.clone(), sliced]);
    assert!(slices.contains("(Slice): parts of 5000 axes of [1, 3, 8, 8]"), "{slices}");
    let nothing = tensor("w", &[1 << 28, 4, 0], 1, &[]);
    let nothing = refusal(&[nothing, again.clone(), node("Gather", &["w", "zeros"], &["y"], &[])]);
    assert!(nothing.contains("dimensions [268435456, 4, 0]"), "{nothing}");
    for op in ["Unsqueeze", "Reshape"] {
        let dims = refusal(&[ones.clone(), node(op, &["x", "ones"], &["y"], &[])]);
        assert!(dims.contains("dimensions; 16 are read"), "{dims}");
    }
    // Channels out of nothing, and a message with a list in it.
    let pads = tensor("pads", &[8], 7, &longs(&[0, 200_000, 0, 0, 0, 0, 0, 0]));
    let pad = |at: usize| node("Pad", &["x", "pads"], &[&name("p", at)], &[]);
    let names: Vec<String> = (0..30).map(|at| name("p", at)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sum = node("Sum", &names, &["sum"], &[]);
    let padded = refusal(&[pads, numbered(30, &pad), sum, last("sum")]);
    assert!(padded.contains("(Pad): with it, ") && padded.contains(" may make "), "{padded}");
    let listed = refusal(&[again, node("Pad", &["x", "zeros"], &["y"], &[])]);
    assert!(listed.contains("(Pad): pads of [0, 0,") && listed.len() < 1500, "{listed}");
    // Attributes of two bytes each, of one node and of all.
    for (nodes, attributes) in [(1, 65), (6000, 64)] {
        let empty = vec![Vec::new(); attributes];
        let relu = |at: usize| node("Relu", &[&name("r", at)], &[&name("r", at + 1)], &empty);
        let parts = refusal(&[numbered(nodes, &relu), last("r1")]);
        assert!(parts.contains("more parts than a network has"), "{parts}");
    }
    // Nodes of one name, or of none, take no longer than others.
    let relu = |at: usize| node("Relu", &[&name("r", at)], &[&name("r", at + 1)], &[]);
    let chain = [node("Relu", &["x"], &["r0"], &[]), numbered(50_000, &relu), last("r50000")];
    let model = import(&raw::file(&chain)).expect("imports");
    assert_eq!(model.graph.nodes[50_001].name, "relu_50001");
    // More than is ever read from other files: not even asked for.
    let outside = raw::bytes(13, &[raw::text(1, "location"), raw::text(2, "w")].concat());
    let dims: Vec<u8> = [1 << 27, 3, 1, 1].iter().flat_map(|&side| raw::int(1, side)).collect();
    let far = raw::bytes(5, &[dims, raw::int(2, 11), raw::text(8, "w"), outside, raw::int(14, 1)].concat());
    let beside = refusal(&[far, node("Conv", &["x", "w"], &["y"], &[]), info(13, "w", &[])]);
    assert!(beside.contains("come from other files"), "{beside}");
}

#[test]
fn numbers_in_other_files_stay_in_the_folder() {
    use raw::{bytes, int, node, text};
    let conv = node("Conv", &["x", "w"], &["z"], &[]);
    let tail = node("GlobalAveragePool", &["z"], &["y"], &[]);
    let file = |location: &str, offset: &str, length: &str| {
        let entry = |key: &str, value: &str| bytes(13, &[text(1, key), text(2, value)].concat());
        let dims: Vec<u8> = [2, 3, 1, 1].iter().flat_map(|&side| int(1, side)).collect();
        let tensor = [
            dims,
            int(2, 1),
            text(8, "w"),
            entry("location", location),
            entry("offset", offset),
            entry("length", length),
            int(14, 1),
        ];
        raw::file(&[bytes(5, &tensor.concat()), conv.clone(), tail.clone()])
    };
    let mut asked = Vec::new();
    let mut read = |location: &str, part: Range<u64>| {
        asked.push((location.to_owned(), part.clone()));
        Ok(vec![0; part.end.min(32).saturating_sub(part.start) as usize])
    };
    let mut with = |location: &str, offset: &str, length: &str| {
        onnx::import("test.onnx", &file(location, offset, length), &Options::default(), &mut read)
    };
    for location in ["weights.bin", "././weights.bin", ".//weights.bin"] {
        let model = with(location, "8", "24").expect("imports").model;
        assert_eq!(model.tensors["conv.weight"].dims, [2, 3, 1, 1]);
    }
    for location in ["../weights.bin", "/etc/passwd", "a/../../b", "C:\\weights", "", "."] {
        let error = with(location, "0", "24").expect_err(location).to_string();
        assert!(error.contains("not in the folder of the file"), "{error}");
    }
    for (offset, length) in
        [("16", "24"), ("18446744073709551615", "24"), ("-1", "24"), ("0", "20"), ("0", "x")]
    {
        assert!(with("weights.bin", offset, length).is_err(), "{offset} {length}");
    }
    let few = |part: &Range<u64>| part.end - part.start == 24;
    // What a network may take is in proportion to its numbers, also where they are in another file.
    let entry = bytes(13, &[text(1, "location"), text(2, "weights.bin")].concat());
    let dims: Vec<u8> = [192, 40_000].iter().flat_map(|&side| int(1, side)).collect();
    let weight = bytes(5, &[dims, int(2, 1), text(8, "w"), entry, int(14, 1)].concat());
    let linear = [node("Flatten", &["x"], &["f"], &[]), node("MatMul", &["f", "w"], &["y"], &[])].concat();
    let mut zeros = |_: &str, part: Range<u64>| Ok(vec![0; part.end as usize]);
    let large = raw::file(&[weight, linear]);
    let model = onnx::import("test.onnx", &large, &Options::default(), &mut zeros).expect("imports").model;
    assert_eq!(model.graph.parameter_count(), 192 * 40_000);
    assert!(asked.iter().all(|(location, part)| location == "weights.bin" && few(part)), "{asked:?}");
}

#[test]
fn written_out_forms_are_known_again() {
    use raw::{flag, node, tensor};
    let number = |name: &str, value: f32| tensor(name, &[], 1, &value.to_le_bytes());
    let sixth_first =
        [node("Mul", &["clip", "sixth"], &["gate"], &[]), node("Mul", &["x", "gate"], &["z"], &[])];
    let sixth_last =
        [node("Mul", &["x", "clip"], &["gate"], &[]), node("Div", &["gate", "six"], &["z"], &[])];
    for multiplied in [sixth_first, sixth_last] {
        let model = import(&raw::file(&[
            number("zero", 0.0),
            number("three", 3.0),
            number("six", 6.0),
            number("sixth", 1.0 / 6.0),
            node("Add", &["x", "three"], &["more"], &[]),
            node("Clip", &["more", "zero", "six"], &["clip"], &[]),
            multiplied.concat(),
            node("GlobalAveragePool", &["z"], &["means"], &[]),
            node("Softmax", &["means"], &["parts"], &[flag("axis", 1)]),
            node("Flatten", &["parts"], &["flat"], &[]),
            node("Identity", &["flat"], &["y"], &[]),
        ]))
        .expect("imports");
        let ops: Vec<&str> = model.graph.nodes.iter().map(|node| node.op.type_name()).collect();
        assert_eq!(ops, ["Input", "HardSwish", "GlobalAvgPool"]);
    }
}

/// A network without weights over the images that `logits` gives, its parts ending in `y`.
fn answers(parts: &[Vec<u8>]) -> Vec<f32> {
    let model = import(&raw::file(parts)).unwrap_or_else(|error| panic!("{error}"));
    logits(&model)
}

#[test]
fn windows_beyond_an_image_without_padding_count_its_pixels() {
    use raw::{int, ints, node, text};
    let flag = |name: &str, value: i64| [text(1, name), int(3, value), int(20, 2)].concat();
    let x = formula::batch(0, BATCH, Shape::new(3, 8, 8)).images;
    let mut means = Vec::new();
    for plane in x.chunks_exact(64) {
        for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (2 * row, 2 * column))) {
            let rows = row..8.min(row + 3);
            let under: Vec<f32> =
                rows.flat_map(|row| plane[8 * row..][column..8.min(column + 3)].to_vec()).collect();
            means.push(under.iter().sum::<f32>() / under.len() as f32);
        }
    }
    for (counts, pads) in [(0, None), (1, None), (1, Some(ints("pads", &[0; 4])))] {
        let mut attributes = vec![flag("ceil_mode", 1), flag("count_include_pad", counts)];
        attributes.extend([ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2])]);
        attributes.extend(pads);
        let pool = node("AveragePool", &["x"], &["p"], &attributes);
        let found = answers(&[pool, node("Flatten", &["p"], &["y"], &[])]);
        same(&format!("count_include_pad {counts}"), &means, &found, 1e-6);
    }
}

#[test]
fn ways_of_writing_the_same_are_read() {
    use raw::{int, ints, node, tensor, text};
    let longs = |name: &str, values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor(name, &[values.len() as i64], 7, &bytes)
    };
    let number = |name: &str, value: f32| tensor(name, &[], 1, &value.to_le_bytes());
    let index = tensor("zero", &[], 7, &0i64.to_le_bytes());
    let over = |op: &str, from: &str, to: &str, axes: &[i64], keeps: i64| {
        let keeps = [text(1, "keepdims"), int(3, keeps), int(20, 2)].concat();
        node(op, &[from], &[to], &[ints("axes", axes), keeps])
    };
    let gather = |from: &str, to: &str| {
        node("Gather", &[from, "zero"], &[to], &[[text(1, "axis"), int(3, 2), int(20, 2)].concat()])
    };
    let x = formula::batch(0, BATCH, Shape::new(3, 8, 8)).images;
    let means: Vec<f32> = x.chunks_exact(64).map(|plane| plane.iter().sum::<f32>() / 64.0).collect();
    let most: Vec<f32> =
        x.chunks_exact(64).map(|plane| plane.iter().copied().fold(f32::MIN, f32::max)).collect();
    let pixels = longs("pixels", &[0, 0, -1]);
    let flat = node("Flatten", &["k"], &["y"], &[]);
    let mean = "ReduceMean";
    for parts in [
        vec![over(mean, "x", "r", &[3], 0), over(mean, "r", "y", &[2], 0)],
        vec![over(mean, "x", "r", &[2], 0), over(mean, "r", "y", &[-1], 0)],
        vec![over(mean, "x", "r", &[3], 1), over(mean, "r", "k", &[2], 1), flat.clone()],
        vec![pixels.clone(), node("Reshape", &["x", "pixels"], &["r"], &[]), over(mean, "r", "y", &[2], 0)],
        vec![
            pixels.clone(),
            node("Reshape", &["x", "pixels"], &["r"], &[]),
            over(mean, "r", "k", &[-1], 1),
            flat.clone(),
        ],
        vec![index.clone(), over(mean, "x", "m", &[2, 3], 1), gather("m", "n"), gather("n", "y")],
    ] {
        same("means", &means, &answers(&parts), 1e-6);
    }
    for parts in [
        vec![over("ReduceMax", "x", "k", &[-1, -2], 1), flat.clone()],
        vec![over("ReduceMax", "x", "r", &[3], 0), over("ReduceMax", "r", "y", &[2], 0)],
    ] {
        same("largest", &most, &answers(&parts), 1e-6);
    }
    let rest = longs("rest", &[0, -1]);
    let twice =
        [node("Reshape", &["x", "pixels"], &["r"], &[]), node("Reshape", &["r", "rest"], &["y"], &[])];
    same("flattened", &x, &answers(&[pixels, rest, twice.concat()]), 1e-6);

    // Bounds on one side, and bounds that are computed.
    let clipped = |low: f32, high: f32| x.iter().map(|x| x.clamp(low, high)).collect::<Vec<f32>>();
    let bounds = [number("low", -0.25), number("high", 0.5), number("far", 9.0)].concat();
    for (inputs, low, high) in [
        (["x", "", "high"], f32::MIN, 0.5),
        (["x", "low", ""], -0.25, f32::MAX),
        (["x", "low", "half"], -0.25, 0.5),
    ] {
        let half = node("Clip", &["far", "low", "high"], &["half"], &[]);
        let flat = node("Flatten", &["c"], &["y"], &[]);
        let found = answers(&[bounds.clone(), half, node("Clip", &inputs, &["c"], &[]), flat]);
        same("clipped", &clipped(low, high), &found, 1e-6);
    }

    // A gate that is repeated for each pixel before its product.
    let gate =
        [node("GlobalAveragePool", &["x"], &["m"], &[]), node("Sigmoid", &["m"], &["g"], &[])].concat();
    let end = node("Flatten", &["p"], &["y"], &[]);
    let plain = answers(&[gate.clone(), node("Mul", &["x", "g"], &["p"], &[]), end.clone()]);
    for inputs in [["x", "e"], ["e", "x"]] {
        let repeated =
            [node("Shape", &["x"], &["s"], &[]), node("Expand", &["g", "s"], &["e"], &[])].concat();
        let found = answers(&[gate.clone(), repeated, node("Mul", &inputs, &["p"], &[]), end.clone()]);
        same("gated", &plain, &found, 0.0);
    }
    // It is no image of that size for anything else.
    for (op, inputs) in [("Add", &["x", "e"][..]), ("GlobalAveragePool", &["e"]), ("Flatten", &["e"])] {
        let repeated =
            [node("Shape", &["x"], &["s"], &[]), node("Expand", &["g", "s"], &["e"], &[])].concat();
        let message = refusal(&[gate.clone(), repeated, node(op, inputs, &["y"], &[])]);
        assert!(message.contains(&format!("({op})")), "{message}");
    }
}

#[test]
fn batch_norms_written_for_training_are_read_and_told() {
    use raw::{int, node, tensor, text};
    let numbers = |name: &str| tensor(name, &[3], 1, &[0.5f32; 3].map(f32::to_le_bytes).concat());
    let training = [text(1, "training_mode"), int(3, 1), int(20, 2)].concat();
    let norm = node("BatchNormalization", &["x", "g", "b", "m", "v"], &["z", "mean", "var"], &[training]);
    let dropout = node("Dropout", &["means"], &["y"], &[]);
    let parts = [norm, node("GlobalAveragePool", &["z"], &["means"], &[]), dropout];
    let file = raw::file(&[["g", "b", "m", "v"].map(numbers).concat(), parts.concat()]);
    let read = onnx::import("test.onnx", &file, &Options::default(), &mut no_file).expect("imports");
    assert!(read.notes[0].contains("training_mode 1"), "{:?}", read.notes);
    assert_eq!(read.model.tensors.len(), 4);
}

#[test]
fn all_that_cannot_be_read_is_named_in_one_message() {
    use raw::{node, tensor};
    let message = refusal(&[
        node("Erf", &["x"], &["a"], &[]),
        node("Relu", &["x"], &["b"], &[]),
        node("Einsum", &["b", "b"], &["c"], &[]),
        node("Sin", &["a"], &["d"], &[]),
        node("Relu", &["d"], &["r"], &[]),
        node("Erf", &["r"], &["s"], &[]),
        node(
            "MaxPool",
            &["s"],
            &["t"],
            &[raw::ints("kernel_shape", &[2, 2]), raw::ints("dilations", &[2, 2])],
        ),
        node("Softmax", &["t"], &["u"], &[]),
        tensor("one", &[1, 3, 8, 8], 1, &vec![0; 4 * 192]),
        node("Add", &["b", "one"], &["e"], &[]),
        node("Concat", &["a", "c", "u", "e"], &["y"], &[]),
    ]);
    for part in [
        "nodes \"a\", \"s\" (Erf): not an operator that is read",
        "node \"c\" (Einsum)",
        "(Add)",
        "[1, 3, 8, 8]",
        "(Sin)",
        "node \"t\" (MaxPool): the attribute dilations is [2, 2]; 1 is read",
        "node \"u\" (Softmax): in the middle of the network",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!message.contains("(Relu)"), "what follows from the unreadable is not named for that: {message}");
    // Operators of constants are none of activations; behind the unreadable nobody knows which they would be.
    let to_ints = [raw::text(1, "to"), raw::int(3, 7), raw::int(20, 2)].concat();
    let message = refusal(&[
        node("Erf", &["x"], &["a"], &[]),
        node("Shape", &["a"], &["b"], &[]),
        node("Cast", &["b"], &["c"], &[to_ints]),
        node("Ceil", &["c"], &["d"], &[]),
        node("ReduceSum", &["d"], &["e"], &[]),
        node("ConstantOfShape", &["e"], &["f"], &[]),
        node("Expand", &["a", "f"], &["y"], &[]),
    ]);
    assert!(message.contains("node \"a\" (Erf): not an operator that is read"), "{message}");
    assert_eq!(message.matches(" node \"").count(), 1, "{message}");
}
