//! From a model to the bytes of an ONNX file (opset 17), which onnxruntime and others run.

use super::wire::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::description::{self, Description};
use crate::graph::NodeId;
use crate::model::Model;
use crate::ops::{Bias, Divisor, Op, Padding};
use crate::shape::Shape;
use std::collections::BTreeSet;

/// Version of ONNX's own format, and of its operators.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Most bytes of a protobuf message.
const MOST_BYTES: usize = i32::MAX as usize;

/// The model as an ONNX file: input `input` `[batch, C, H, W]`, output `logits` `[batch, classes]`, initialisers under
/// their PyTorch names. `description` says what its input and output mean, among the file's metadata and in its text for people.
/// Same model and description, same bytes.
///
/// # Errors
/// [`ErrorKind::Shape`] when the graph does not fit together; [`ErrorKind::Format`] for more than 2 GiB.
pub fn export(model: &Model, description: &Description) -> Result<Vec<u8>> {
    let shapes = model.graph.shapes()?;
    let mut writer = Writer {
        model,
        shapes: &shapes,
        graph: Message::default(),
        values: Vec::new(),
        names: BTreeSet::new(),
        extra: 0,
    };
    for id in 0..model.graph.nodes.len() {
        let value = writer.node(id);
        writer.values.push(value);
    }
    let output = model.graph.output();
    let logits = writer.vector(output);
    writer.emit("Identity", "logits", &[&logits], "logits", &[]);
    for (name, tensor) in &model.tensors {
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.initializer(name, &tensor.dims, FLOAT, &bytes);
    }
    let Shape { c, h, w } = model.graph.input;
    let mut graph = writer.graph;
    graph.text(2, &model.graph.name);
    graph.message(11, &value_info("input", &[c, h, w]));
    graph.message(12, &value_info("logits", &[shapes[output].len()]));
    let mut opset = Message::default();
    opset.text(1, "").int(2, OPSET);
    let (input, outputs) = (model.graph.input, shapes[output].len());
    let mut entry = Message::default();
    entry.text(1, description::KEY).text(2, &description.to_text(input, outputs));
    let mut file = Message::default();
    file.int(1, IR_VERSION)
        .text(2, "centripetal")
        .text(3, env!("CARGO_PKG_VERSION"))
        .text(6, &description.usage(input, outputs))
        .message(7, &graph)
        .message(8, &opset)
        .message(14, &entry);
    let bytes = file.into_bytes();
    if bytes.len() > MOST_BYTES {
        return Err(Error::new(ErrorKind::Format, format!("writing {} as ONNX", model.graph.name))
            .expected(format!("at most {MOST_BYTES} bytes, which is what the format can hold"))
            .found(bytes.len()));
    }
    Ok(bytes)
}

/// A float tensor's name and dimensions behind an open batch.
fn value_info(name: &str, dims: &[usize]) -> Message {
    let mut shape = Message::default();
    let mut batch = Message::default();
    batch.text(2, "batch");
    shape.message(1, &batch);
    for &side in dims {
        let mut dim = Message::default();
        dim.int(1, side as i64);
        shape.message(1, &dim);
    }
    let mut tensor = Message::default();
    tensor.int(1, FLOAT).message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, name).message(2, &kind);
    info
}

/// An attribute's value.
enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Ints(&'a [usize]),
}

fn attribute(name: &str, value: &Attribute<'_>) -> Message {
    let mut message = Message::default();
    message.text(1, name);
    match value {
        Attribute::Float(value) => message.float(2, *value).int(20, 1),
        Attribute::Int(value) => message.int(3, *value).int(20, 2),
        Attribute::Ints(values) => {
            values.iter().for_each(|&value| {
                message.int(8, value as i64);
            });
            message.int(20, 7)
        }
    };
    message
}

/// A node's output in the file.
#[derive(Clone)]
struct Output {
    name: String,
    /// Whether it is `[batch, features]`, and not `[batch, C, H, W]`.
    is_vector: bool,
}

struct Writer<'a> {
    model: &'a Model,
    shapes: &'a [Shape],
    graph: Message,
    values: Vec<Output>,
    /// Names of nodes so far.
    names: BTreeSet<String>,
    /// Names given to what has no node.
    extra: usize,
}

impl Writer<'_> {
    fn emit(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Attribute<'_>)],
    ) {
        // Runtimes want every node under a name of its own; outputs have one.
        let name = if self.names.insert(name.to_owned()) { name } else { output };
        let mut node = Message::default();
        inputs.iter().for_each(|input| {
            node.text(1, input);
        });
        node.text(2, output).text(3, name).text(4, op);
        for (name, value) in attributes {
            node.message(5, &attribute(name, value));
        }
        self.graph.message(1, &node);
    }

    fn initializer(&mut self, name: &str, dims: &[usize], kind: i64, bytes: &[u8]) {
        let mut tensor = Message::default();
        dims.iter().for_each(|&side| {
            tensor.int(1, side as i64);
        });
        tensor.int(2, kind).text(8, name).bytes(9, bytes);
        self.graph.message(5, &tensor);
    }

    fn fresh(&mut self, what: &str) -> String {
        self.extra += 1;
        format!("{what}:{}", self.extra)
    }

    fn ints(&mut self, what: &str, values: &[i64]) -> String {
        let name = self.fresh(what);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.initializer(&name, &[values.len()], INT64, &bytes);
        name
    }

    fn number(&mut self, what: &str, value: f32) -> String {
        let name = self.fresh(what);
        self.initializer(&name, &[], FLOAT, &value.to_le_bytes());
        name
    }

    /// The output of `id` as `[batch, features]`.
    fn vector(&mut self, id: NodeId) -> String {
        let value = self.values[id].clone();
        if value.is_vector {
            return value.name;
        }
        let name = self.fresh(&value.name);
        self.emit("Flatten", &name, &[&value.name], &name, &[("axis", Attribute::Int(1))]);
        name
    }

    /// The output of `id` as `[batch, C, H, W]`.
    fn image(&mut self, id: NodeId) -> String {
        let value = self.values[id].clone();
        if !value.is_vector {
            return value.name;
        }
        let (axes, name) = (self.ints("axes", &[2, 3]), self.fresh(&value.name));
        self.emit("Unsqueeze", &name, &[&value.name, &axes], &name, &[]);
        name
    }

    /// Writes what computes node `id`, and says where its output is.
    fn node(&mut self, id: NodeId) -> Output {
        let node = &self.model.graph.nodes[id];
        if id == 0 {
            return Output { name: "input".into(), is_vector: false };
        }
        // Names of nodes need not differ in a graph; those of values must.
        let name = format!("{}/{id}", node.name);
        let parameter = |parameter: &str| format!("{}.{parameter}", node.name);
        let inputs = node.inputs.clone();
        let all_vectors = inputs.iter().all(|&input| self.values[input].is_vector);
        let mut is_vector = all_vectors;
        match &node.op {
            Op::Input(_) => {}
            Op::Conv2d(conv) => {
                let x = self.image(inputs[0]);
                let (weight, bias) = (parameter("weight"), parameter("bias"));
                let mut operands = vec![x.as_str(), &weight];
                if conv.bias == Bias::With {
                    operands.push(&bias);
                }
                let Padding { top, left, bottom, right } = conv.padding;
                let attributes = [
                    ("kernel_shape", Attribute::Ints(&conv.kernel)),
                    ("strides", Attribute::Ints(&conv.stride)),
                    ("pads", Attribute::Ints(&[top, left, bottom, right])),
                    ("dilations", Attribute::Ints(&conv.dilation)),
                    ("group", Attribute::Int(conv.groups as i64)),
                ];
                self.emit("Conv", &node.name, &operands, &name, &attributes);
                is_vector = false;
            }
            Op::Linear(linear) => {
                let x = self.vector(inputs[0]);
                let (weight, bias) = (parameter("weight"), parameter("bias"));
                let mut operands = vec![x.as_str(), &weight];
                if linear.bias == Bias::With {
                    operands.push(&bias);
                }
                self.emit("Gemm", &node.name, &operands, &name, &[("transB", Attribute::Int(1))]);
                is_vector = true;
            }
            Op::BatchNorm2d(norm) => {
                let x = self.values[inputs[0]].name.clone();
                let [weight, bias, mean, var] =
                    ["weight", "bias", "running_mean", "running_var"].map(parameter);
                let attributes = [
                    ("epsilon", Attribute::Float(norm.eps)),
                    ("momentum", Attribute::Float(1.0 - norm.momentum)),
                ];
                let operands = [x.as_str(), &weight, &bias, &mean, &var];
                self.emit("BatchNormalization", &node.name, &operands, &name, &attributes);
            }
            Op::Relu(_) => self.unary(id, "Relu", &name, &[]),
            Op::Relu6(_) => self.clip(id, &name, 0.0, 6.0),
            Op::Clamp(clamp) => self.clip(id, &name, clamp.low, clamp.high),
            Op::LeakyRelu(leaky) => {
                self.unary(id, "LeakyRelu", &name, &[("alpha", Attribute::Float(leaky.slope))])
            }
            Op::Sigmoid(_) => self.unary(id, "Sigmoid", &name, &[]),
            Op::HardSigmoid(line) => {
                let attributes =
                    [("alpha", Attribute::Float(line.slope)), ("beta", Attribute::Float(line.offset))];
                self.unary(id, "HardSigmoid", &name, &attributes);
            }
            Op::HardSwish(_) => self.unary(id, "HardSwish", &name, &[]),
            Op::Silu(_) => {
                let gate = self.fresh(&name);
                self.unary(id, "Sigmoid", &gate, &[]);
                let x = self.values[inputs[0]].name.clone();
                self.emit("Mul", &node.name, &[&x, &gate], &name, &[]);
            }
            Op::MaxPool2d(pool) => {
                self.pool(
                    id,
                    "MaxPool",
                    &name,
                    [pool.kernel, pool.stride, pool.padding],
                    pool.trailing,
                    None,
                );
                is_vector = false;
            }
            Op::AvgPool2d(pool) => {
                let geometry = [pool.kernel, pool.stride, pool.padding];
                self.pool(id, "AveragePool", &name, geometry, pool.trailing, Some(pool.divisor));
                is_vector = false;
            }
            Op::GlobalAvgPool(_) => {
                let x = self.image(inputs[0]);
                self.emit("GlobalAveragePool", &node.name, &[&x], &name, &[]);
                is_vector = false;
            }
            Op::Flatten(_) => {
                let x = self.values[inputs[0]].name.clone();
                self.emit("Flatten", &node.name, &[&x], &name, &[("axis", Attribute::Int(1))]);
                is_vector = true;
            }
            Op::Add(_) => {
                let parts = self.alike(&inputs, all_vectors);
                let mut sum = parts[0].clone();
                for (at, part) in parts.iter().enumerate().skip(1) {
                    let last = at + 1 == parts.len();
                    let next = if last { name.clone() } else { self.fresh(&name) };
                    self.emit("Add", if last { &node.name } else { &next }, &[&sum, part], &next, &[]);
                    sum = next;
                }
            }
            Op::Mul(_) => {
                let parts = self.alike(&inputs, all_vectors);
                self.emit("Mul", &node.name, &[&parts[0], &parts[1]], &name, &[]);
            }
            Op::Concat(_) => {
                let parts = self.alike(&inputs, all_vectors);
                let operands: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.emit("Concat", &node.name, &operands, &name, &[("axis", Attribute::Int(1))]);
            }
            Op::Pad2d(pad) => {
                let x = self.image(inputs[0]);
                let Padding { top, left, bottom, right } = pad.padding;
                let sides = [0, 0, top, left, 0, 0, bottom, right].map(|side| side as i64);
                let pads = self.ints("pads", &sides);
                self.emit("Pad", &node.name, &[&x, &pads], &name, &[]);
                is_vector = false;
            }
            Op::ChannelPad(pad) => {
                self.channel_pad(id, &name, pad.stride, &pad.source);
                is_vector = false;
            }
        }
        Output { name, is_vector }
    }

    /// The inputs in one form: vectors if all of them are, else images.
    fn alike(&mut self, inputs: &[NodeId], all_vectors: bool) -> Vec<String> {
        let form = |&input: &NodeId| if all_vectors { self.vector(input) } else { self.image(input) };
        inputs.iter().map(form).collect()
    }

    fn unary(&mut self, id: NodeId, op: &str, output: &str, attributes: &[(&str, Attribute<'_>)]) {
        let node = &self.model.graph.nodes[id];
        let x = self.values[node.inputs[0]].name.clone();
        self.emit(op, &node.name, &[&x], output, attributes);
    }

    fn clip(&mut self, id: NodeId, output: &str, low: f32, high: f32) {
        let node = &self.model.graph.nodes[id];
        let x = self.values[node.inputs[0]].name.clone();
        let (low, high) = (self.number("low", low), self.number("high", high));
        self.emit("Clip", &node.name, &[&x, &low, &high], output, &[]);
    }

    fn pool(
        &mut self,
        id: NodeId,
        op: &str,
        output: &str,
        [kernel, stride, padding]: [[usize; 2]; 3],
        trailing: Option<[usize; 2]>,
        divisor: Option<Divisor>,
    ) {
        let node = &self.model.graph.nodes[id];
        let input = self.shapes[node.inputs[0]];
        let x = self.image(node.inputs[0]);
        let mut end = trailing.unwrap_or(padding);
        // No more than the last window reaches, which others than ours ask for.
        let shape = self.shapes[id];
        for (side, (extent, windows)) in [(input.h, shape.h), (input.w, shape.w)].into_iter().enumerate() {
            let reached = (windows - 1) * stride[side] + kernel[side];
            end[side] = end[side].min(reached.saturating_sub(extent + padding[side]));
        }
        let pads = [padding[0], padding[1], end[0], end[1]];
        let mut attributes = vec![
            ("kernel_shape", Attribute::Ints(&kernel)),
            ("strides", Attribute::Ints(&stride)),
            ("pads", Attribute::Ints(&pads)),
        ];
        if let Some(divisor) = divisor {
            attributes.push(("count_include_pad", Attribute::Int(i64::from(divisor == Divisor::Window))));
        }
        self.emit(op, &node.name, &[&x], output, &attributes);
    }

    /// Pixels by `Slice`; channels in order between zeros by `Pad`, in any other order by `Gather` with a channel of zeros
    /// at the end.
    fn channel_pad(&mut self, id: NodeId, output: &str, stride: [usize; 2], source: &[Option<usize>]) {
        let node = &self.model.graph.nodes[id];
        let channels = self.shapes[node.inputs[0]].c;
        let mut x = self.image(node.inputs[0]);
        if stride != [1, 1] {
            let [starts, ends] = [[0, 0], [i64::MAX; 2]].map(|sides| self.ints("slice", &sides));
            let (axes, steps) =
                (self.ints("axes", &[2, 3]), self.ints("steps", &stride.map(|step| step as i64)));
            let sliced = self.fresh(output);
            self.emit("Slice", &sliced, &[&x, &starts, &ends, &axes, &steps], &sliced, &[]);
            x = sliced;
        }
        let before = source.iter().take_while(|source| source.is_none()).count();
        let in_order = source.iter().skip(before).take(channels).copied().eq((0..channels).map(Some));
        let after = source.len().saturating_sub(before + channels);
        if in_order && source.iter().skip(before + channels).all(Option::is_none) {
            let pads = self.ints("pads", &[0, before as i64, 0, 0, 0, after as i64, 0, 0]);
            self.emit("Pad", &node.name, &[&x, &pads], output, &[]);
            return;
        }
        if source.contains(&None) {
            let (pads, padded) = (self.ints("pads", &[0, 0, 0, 0, 0, 1, 0, 0]), self.fresh(output));
            self.emit("Pad", &padded, &[&x, &pads], &padded, &[]);
            x = padded;
        }
        let places: Vec<i64> = source.iter().map(|source| source.unwrap_or(channels) as i64).collect();
        let places = self.ints("channels", &places);
        self.emit("Gather", &node.name, &[&x, &places], output, &[("axis", Attribute::Int(1))]);
    }
}
