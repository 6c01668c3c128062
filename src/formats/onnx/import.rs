//! From the bytes of an ONNX file to a model: nodes in order, values by name, parameter names, and what is left over.

use super::constant::{Constant, Problem, count, sizes};
use super::fold::FOLDED;
use super::images::{self, Images, Numbers, Range as PixelRange, Source};
use super::output;
use super::schema::{self, ValueInfo};
use crate::data::Normalization;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::description::{self, Description};
use crate::graph::{Graph, Node, NodeId};
use crate::model::{Model, TensorData, Tensors};
use crate::ops::{ChannelPad, Input, Op};
use crate::shape::Shape;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

/// Nodes that are named in one message; the rest are counted.
const SHOWN: usize = 200;

/// Characters of what is said of one node: some lists are long.
const LONGEST: usize = 600;

/// Bytes of numbers that a file of any size may make, and how many more for each byte of its own.
const HELD: u64 = 64 << 20;
const HELD_PER_BYTE: u64 = 8;

/// The same of numbers that are looked at, times their dimensions.
const WORKED: u64 = 1 << 24;
const WORKED_PER_BYTE: u64 = 32;

/// Most bytes of numbers of one network, and most read from other files.
const MOST_BYTES: u64 = 1 << 31;

/// Largest side and number of channels of an image.
const LARGEST_SIDE: usize = 1 << 15;

/// Gives a part of a file beside the network's, by its relative path; less than the part where the file ends before.
pub type Beside<'e> = dyn FnMut(&str, Range<u64>) -> Result<Vec<u8>> + 'e;

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the network is called.
    pub name: String,
    /// Shape of an image where the file leaves it open.
    pub input: Option<Shape>,
    /// The output to take: one of the file's, or any value that a node gives. Without it one is chosen.
    pub output: Option<String>,
    /// What images are normalised with, whatever the file says.
    pub normalization: Option<Normalization>,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The network, its tensors named as in the file where those names look like PyTorch's.
    pub model: Model,
    /// What images are normalised with.
    pub images: Images,
    /// What the file says of itself, if a file of ours.
    pub description: Description,
    /// What a user should know of the reading, a sentence each.
    pub notes: Vec<String>,
}

/// How an activation's numbers lie in the file's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As the node's: images, channels, rows, columns, perhaps with sides of 1 left out or added.
    Channels,
    /// Images, rows, columns, channels, as TensorFlow has them.
    Nhwc,
    /// Images and the features of such an image.
    FlatHwc,
    /// Channels in groups, a dimension of its own.
    Groups(usize),
    /// The same with group and place in the group exchanged.
    Shuffled(usize),
    /// One number a channel, repeated for each pixel: a gate before its product.
    Repeated,
}

/// A tensor that is computed from the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Activation {
    pub(super) node: NodeId,
    /// Dimensions in the file, the batch first.
    pub(super) dims: Vec<usize>,
    pub(super) layout: Layout,
}

/// What a name in the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Constant(Rc<Constant>),
    Activation(Activation),
    /// The output of a node that could not be taken.
    Missing,
}

/// The reading under way.
pub(super) struct Importer<'a, 'e> {
    /// What the file is called.
    called: &'a str,
    /// Version of the standard operators.
    pub(super) opset: i64,
    pub(super) file: &'a schema::Graph<'a>,
    pub(super) values: HashMap<&'a str, Value>,
    /// How often each name is read.
    pub(super) uses: HashMap<&'a str, usize>,
    /// The name that is the network's output.
    output: &'a str,
    /// It, and names whose numbers are those of the output in other dimensions and are read for nothing else.
    pub(super) ending: BTreeSet<&'a str>,
    /// The name that each graph node's output was given first.
    pub(super) made: HashMap<NodeId, &'a str>,
    pub(super) nodes: Vec<Node>,
    /// Names of whole numbers that follow from the image.
    pub(super) whole: BTreeSet<&'a str>,
    /// Names of graph nodes that multiply and add by channel, as the file's own arithmetic.
    pub(super) affine: BTreeSet<String>,
    /// Nodes that are `a x + b` of their input, the same for all channels.
    pub(super) lines: HashMap<NodeId, (f32, f32)>,
    pub(super) shapes: Vec<Shape>,
    pub(super) tensors: Tensors,
    pub(super) batch: usize,
    /// What a user should know of the reading.
    pub(super) notes: Vec<String>,
    initializers: HashMap<&'a str, usize>,
    /// Of nodes, and the last number that was appended to each.
    names: BTreeMap<String, usize>,
    /// How often each name will still be read.
    unread: HashMap<&'a str, usize>,
    /// Bytes in the file, and in other files up to the last that was read.
    given: u64,
    /// Bytes of the numbers that are kept.
    held: u64,
    /// Numbers that were looked at, times their dimensions.
    worked: u64,
    external: &'e mut Beside<'e>,
    /// Where reading in each other file ended, and what was read of all.
    ends: BTreeMap<String, u64>,
    external_bytes: u64,
    /// Why reading ends here: no fault of any node.
    fatal: Option<Error>,
}

/// Reads the network in the ONNX file called `name`. `external` is asked where a file keeps its numbers apart.
///
/// # Errors
/// [`ErrorKind::Format`] when the bytes are no whole ONNX file, or naming every node that cannot be taken, with its
/// operator and what about it; [`ErrorKind::Shape`] when the image's shape is open and not given; those of the model's
/// validation.
pub fn import(name: &str, bytes: &[u8], options: &Options, external: &mut Beside<'_>) -> Result<Imported> {
    let error = |kind| Error::new(kind, format!("reading {name}"));
    let damaged = |damage: &str| {
        error(ErrorKind::Format)
            .expected("a whole ONNX file")
            .found(damage)
            .next("The file is truncated, damaged or of another format")
    };
    let file = schema::Model::parse(bytes).map_err(damaged)?;
    let graph = file.graph.as_ref().ok_or_else(|| damaged("no network in it"))?;
    if file.opset <= 0 {
        return Err(damaged("no version of ONNX's standard operators"));
    }
    let description = described(name, &file, options)?;
    if graph.outputs.is_empty() {
        return Err(damaged("a network without an output"));
    }
    let (output, choice) = output::chosen(graph, options.output.as_deref()).map_err(|found| {
        let names: Vec<&str> = graph.outputs.iter().take(SHOWN).map(|output| output.name).collect();
        error(ErrorKind::Argument)
            .expected(format!("one of its outputs {names:?}, or what a node within it gives"))
            .found(found)
            .next("Name another by --output, or leave it out")
    })?;
    let mut notes: Vec<String> = choice.into_iter().collect();
    let order = order(graph, output).map_err(|found| {
        error(ErrorKind::Format)
            .expected("nodes that each read what earlier ones give")
            .found(found)
            .next("The file is damaged, or was written by a tool with a fault")
    })?;
    let initializers: HashMap<&str, usize> =
        graph.initializers.iter().enumerate().map(|(at, tensor)| (tensor.name, at)).collect();
    let images: Vec<&ValueInfo<'_>> =
        graph.inputs.iter().filter(|input| !initializers.contains_key(input.name)).collect();
    let [image] = images.as_slice() else {
        let names: Vec<&str> = images.iter().map(|input| input.name).collect();
        return Err(error(ErrorKind::Format)
            .expected("one input, the images")
            .found(format!("{} inputs {names:?}", names.len()))
            .next("Export the classifier alone"));
    };
    let (batch, shape, layout) = image_shape(image, graph, options).map_err(|found| {
        error(ErrorKind::Shape)
            .expected("images of one shape")
            .found(format!("{} of {found}", image.name))
            .next("Say the shape by --input CxHxW, or export the network with a fixed one")
    })?;
    let numbers = images::numbers(image).map_err(|found| {
        error(ErrorKind::Format)
            .expected("images of floats, or of bytes (uint8)")
            .found(format!("the input {:?} of {found}", image.name))
            .next("Export the network with an input of floats")
    })?;
    let dims = match layout {
        Layout::Nhwc => vec![batch, shape.h, shape.w, shape.c],
        _ => vec![batch, shape.c, shape.h, shape.w],
    };
    let mut importer = Importer {
        called: name,
        opset: file.opset,
        file: graph,
        values: HashMap::from([(image.name, Value::Activation(Activation { node: 0, dims, layout }))]),
        uses: HashMap::new(),
        output,
        ending: BTreeSet::new(),
        made: HashMap::from([(0, image.name)]),
        nodes: vec![Node { name: "input".into(), op: Op::Input(Input {}), inputs: Vec::new() }],
        whole: BTreeSet::new(),
        affine: BTreeSet::new(),
        lines: HashMap::new(),
        shapes: vec![shape],
        tensors: Tensors::new(),
        batch,
        notes,
        initializers,
        names: BTreeMap::from([("input".to_owned(), 1)]),
        unread: HashMap::new(),
        given: bytes.len() as u64,
        held: 0,
        worked: 0,
        external,
        ends: BTreeMap::new(),
        external_bytes: 0,
        fatal: None,
    };
    if numbers != Numbers::Floats {
        importer.whole.insert(image.name);
    }
    if metadata(&file, "Image.BitmapPixelFormat") == Some("Bgr8") && shape.c == 3 {
        importer.reverse_channels(image.name);
    }
    let problems = importer.lower_all(&order);
    if let Some(fatal) = importer.fatal.take() {
        return Err(fatal);
    }
    if !problems.is_empty() {
        return Err(error(ErrorKind::Format)
            .expected("a convolutional classifier of the operators that README.md lists")
            .found(told(&problems))
            .next("Export the network without them, or ask for them to be read"));
    }
    let last = match importer.values.get(output) {
        Some(Value::Activation(activation)) if activation.node > 0 => activation.clone(),
        _ => return Err(damaged("an output that does not follow from the images")),
    };
    notes = std::mem::take(&mut importer.notes);
    let affine = std::mem::take(&mut importer.affine);
    let mut model = importer.finish(last.node, &options.name);
    model.validate()?;
    let classes = model.graph.classes()?;
    if model.graph.shapes()?[model.graph.output()].pixels() != 1 || last.layout == Layout::Repeated {
        return Err(error(ErrorKind::Shape)
            .expected("one number a class")
            .found(format!("an output of {:?}, {classes} numbers", last.dims))
            .next("Only classifiers are read; export one without what follows its logits"));
    }
    answers(name, output, &model)?;
    let images = if let Some(given) = &options.normalization {
        images::given(&model, &affine, numbers, given.clone())
    } else if let Some(described) = &description.normalization {
        let reason = "as its metadata says".to_owned();
        Images { normalization: Some(described.clone()), source: Source::Described, reason }
    } else {
        let stated = metadata(&file, "Image.NominalPixelRange").and_then(PixelRange::from_metadata);
        images::normalization(&mut model, &affine, numbers, stated)
    };
    if let (Some(normalization), Source::Described) = (&images.normalization, images.source)
        && normalization.mean.len() != model.graph.input.c
    {
        let found = format!("{} of them", normalization.mean.len());
        let expected = format!("a mean and a deviation for each of {} channels", model.graph.input.c);
        return Err(misdescribed(name, &found).expected(expected));
    }
    if description.classes.len() > classes {
        let found = format!("{} class names", description.classes.len());
        return Err(misdescribed(name, &found).expected(format!("at most {classes}, one for each output")));
    }
    Ok(Imported { model, images, description, notes })
}

/// The entry `key` of the file's metadata.
fn metadata<'a>(file: &schema::Model<'a>, key: &str) -> Option<&'a str> {
    file.metadata.iter().find(|(known, _)| *known == key).map(|(_, text)| *text)
}

/// What our own export notes in a file.
fn described(name: &str, file: &schema::Model<'_>, options: &Options) -> Result<Description> {
    let Some(text) = metadata(file, description::KEY) else { return Ok(Description::default()) };
    let mut description = Description::from_text(text)
        .map_err(|found| misdescribed(name, &found).expected("what `centripetal export` writes there"))?;
    if options.output.is_some() {
        // Of another value nobody knows what its numbers stand for.
        description.classes.clear();
    }
    Ok(description)
}

fn misdescribed(name: &str, found: &str) -> Error {
    Error::new(ErrorKind::Format, format!("reading the metadata entry {} of {name}", description::KEY))
        .found(found)
        .next("Export the network again, or take the entry out of the file")
}

/// Complains of outputs that are no logits of one class an image.
fn answers(name: &str, output: &str, model: &Model) -> Result<()> {
    let classes = model.graph.classes()?;
    let ends_in = &model.graph.nodes[model.graph.output()].op;
    let is_sigmoid = matches!(ends_in, Op::Sigmoid(_) | Op::HardSigmoid(_));
    let error = || Error::new(ErrorKind::Shape, format!("reading {name}"));
    if classes < 2 {
        let what = if is_sigmoid { "one sigmoid" } else { "one number" };
        return Err(error()
            .expected("a logit for each of at least two classes")
            .found(format!("the output {output:?} of {what} an image, a yes-or-no answer"))
            .next(
                "Give the network two outputs and a softmax: with z before the sigmoid, softmax of [0, z] is the same answer, so                  put a row of zeros before the last layer's weights and a zero before its bias, and export it again",
            ));
    }
    if is_sigmoid {
        return Err(error()
            .expected("logits of one class an image, with or without a softmax at the end")
            .found(format!("the output {output:?} of {classes} sigmoids, each an answer of its own"))
            .next(
                "If every image has one class, take what the sigmoid reads for the logits: by --output NAME, or export the network                  without it. Several labels an image cannot be trained",
            ));
    }
    Ok(())
}

/// A node that cannot be taken, and why.
struct Objection<'a> {
    node: &'a str,
    op: &'a str,
    problem: Problem,
}

/// All that cannot be taken, nodes with the same objection side by side.
fn told(objections: &[Objection<'_>]) -> String {
    let mut kinds: Vec<(&Objection<'_>, Vec<String>)> = Vec::new();
    for objection in objections.iter().take(SHOWN) {
        let name = format!("{:?}", objection.node);
        let like = |(first, _): &&mut (&Objection<'_>, Vec<String>)| {
            first.op == objection.op && first.problem == objection.problem
        };
        match kinds.iter_mut().find(like) {
            Some((_, names)) => names.push(name),
            None => kinds.push((objection, vec![name])),
        }
    }
    let mut parts: Vec<String> = kinds
        .iter()
        .map(|(first, names)| {
            let what = if names.len() == 1 { "node" } else { "nodes" };
            format!("{what} {} ({}): {}", names.join(", "), first.op, first.problem)
        })
        .collect();
    if let more @ 1.. = objections.len().saturating_sub(SHOWN) {
        parts.push(format!("and {more} nodes more"));
    }
    parts.join("; ")
}

/// The places of the nodes that `output` needs, each after those that it reads.
fn order(graph: &schema::Graph<'_>, output: &str) -> std::result::Result<Vec<usize>, String> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        for name in node.outputs.iter().filter(|name| !name.is_empty()) {
            if producer.insert(name, at).is_some() {
                return Err(format!("two nodes that give {name:?}"));
            }
        }
    }
    let given: BTreeSet<&str> = graph
        .initializers
        .iter()
        .map(|tensor| tensor.name)
        .chain(graph.inputs.iter().map(|input| input.name))
        .collect();
    let mut needed = BTreeSet::new();
    let mut stack: Vec<usize> = producer.get(output).copied().into_iter().collect();
    if stack.is_empty() {
        return Err(format!("an output {output:?} that no node gives"));
    }
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut waiting: HashMap<usize, usize> = HashMap::new();
    while let Some(at) = stack.pop() {
        if !needed.insert(at) {
            continue;
        }
        for name in graph.nodes[at].inputs.iter().filter(|name| !name.is_empty()) {
            match producer.get(name) {
                Some(&from) => {
                    readers.entry(from).or_default().push(at);
                    *waiting.entry(at).or_insert(0) += 1;
                    stack.push(from);
                }
                None if given.contains(name) => {}
                None => {
                    let node = &graph.nodes[at];
                    return Err(format!(
                        "node {:?} ({}) that reads {name:?}, which nothing gives",
                        node.name, node.op
                    ));
                }
            }
        }
    }
    let mut ready: BTreeSet<usize> = needed.iter().copied().filter(|at| !waiting.contains_key(at)).collect();
    let mut order = Vec::with_capacity(needed.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for &reader in readers.get(&at).into_iter().flatten() {
            if let Some(left) = waiting.get_mut(&reader) {
                *left -= 1;
                if *left == 0 {
                    ready.insert(reader);
                }
            }
        }
    }
    if order.len() < needed.len() {
        return Err(format!("a cycle of {} nodes", needed.len() - order.len()));
    }
    Ok(order)
}

/// The batch size that the file assumes, the shape of an image, and where its channels are.
fn image_shape(
    image: &ValueInfo<'_>,
    graph: &schema::Graph<'_>,
    options: &Options,
) -> std::result::Result<(usize, Shape, Layout), String> {
    let dims = image.dims.as_deref().unwrap_or_default();
    let told = || {
        let sides: Vec<String> =
            dims.iter().map(|side| side.map_or_else(|| "?".to_owned(), |side| side.to_string())).collect();
        format!("[{}]", sides.join(", "))
    };
    if dims.len() != 4 {
        if let (true, Some(shape)) = (dims.is_empty(), options.input) {
            return Ok((1, shape, Layout::Channels));
        }
        return Err(told());
    }
    // Batches and sides of 0 or -1 are open too, as some tools write them.
    let side = |at: usize| match dims[at] {
        Some(side) if side > 0 => {
            usize::try_from(side).ok().filter(|&side| side <= LARGEST_SIDE).ok_or_else(told).map(Some)
        }
        _ => Ok(None),
    };
    let batch = side(0)?.unwrap_or(1);
    let [second, third, fourth] = [side(1)?, side(2)?, side(3)?];
    // TensorFlow's networks begin by moving the channels, perhaps after normalising; without that, a picture has few of them.
    let mut pictures = BTreeSet::from([image.name]);
    let mut moves = false;
    for node in &graph.nodes {
        let perm = match node.attribute("perm") {
            Some(schema::Attribute::Ints(perm)) => perm.as_slice(),
            _ => &[],
        };
        if node.inputs.iter().any(|name| pictures.contains(name)) {
            match node.op {
                "Transpose" => moves |= perm == [0, 3, 1, 2],
                "Cast" | "Identity" | "Add" | "Sub" | "Mul" | "Div" => pictures.extend(&node.outputs),
                _ => {}
            }
        }
    }
    let few = |side: Option<usize>| side.is_some_and(|side| side <= 4);
    let last = moves || (few(fourth) && !few(second));
    let stated = if last { [fourth, second, third] } else { [second, third, fourth] };
    let layout = if last { Layout::Nhwc } else { Layout::Channels };
    let shape = match (stated, options.input) {
        ([Some(c), Some(h), Some(w)], None) => Shape::new(c, h, w),
        (stated, Some(given)) => {
            let fits = stated
                .iter()
                .zip([given.c, given.h, given.w])
                .all(|(side, given)| side.is_none_or(|side| side == given));
            if !fits {
                return Err(format!("{}, which is not {given}", told()));
            }
            given
        }
        (_, None) => return Err(told()),
    };
    Ok((batch, shape, layout))
}

impl<'a> Importer<'a, '_> {
    /// Takes the nodes in `order`; returns those that could not be taken. Of nodes behind these only what they state is
    /// looked at: their operators and attributes.
    fn lower_all(&mut self, order: &[usize]) -> Vec<Objection<'a>> {
        let file = self.file;
        *self.uses.entry(self.output).or_insert(0) += 1;
        for &at in order {
            for name in &file.nodes[at].inputs {
                *self.uses.entry(name).or_insert(0) += 1;
            }
        }
        // From the back: a name belongs to the end if its only reader passes it on to there.
        if self.uses.get(self.output) == Some(&1) {
            self.ending.insert(self.output);
        }
        for &at in order.iter().rev() {
            let node = &file.nodes[at];
            let passes = ["Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];
            let ends = node.outputs.first().is_some_and(|output| self.ending.contains(output));
            if let (true, true, Some(name)) = (ends, passes.contains(&node.op), node.inputs.first())
                && self.uses.get(name) == Some(&1)
            {
                self.ending.insert(name);
            }
        }
        self.unread = self.uses.clone();
        let mut problems: Vec<Objection<'_>> = Vec::new();
        for &at in order {
            let node = &file.nodes[at];
            let lost = node.inputs.iter().any(|name| matches!(self.values.get(name), Some(Value::Missing)));
            if self.fatal.is_some() {
                break;
            }
            let values = if lost { self.check(node, &FOLDED).map(|()| Vec::new()) } else { self.lower(node) };
            let values = values.unwrap_or_else(|problem| {
                let name = if node.name.is_empty() { node.outputs.first() } else { Some(&node.name) };
                let problem = if problems.len() < SHOWN { shortened(problem) } else { String::new() };
                problems.push(Objection { node: name.unwrap_or(&""), op: node.op, problem });
                Vec::new()
            });
            let mut values = values.into_iter();
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                let value = values.next().unwrap_or(Value::Missing);
                if let Value::Activation(activation) = &value {
                    self.made.entry(activation.node).or_insert(name);
                }
                self.values.insert(name, value);
            }
            node.inputs.iter().for_each(|name| self.forget(name));
        }
        problems
    }

    /// Counts one reading of `name`; after the last a constant is given up.
    fn forget(&mut self, name: &str) {
        let Some(left @ 1..) = self.unread.get_mut(name) else { return };
        *left -= 1;
        if let (0, Some(Value::Constant(constant))) = (*left, self.values.get(name)) {
            self.held = self.held.saturating_sub(constant.bytes() as u64);
            self.values.remove(name);
        }
    }

    /// Gives a constant up before its last reading is over, if this is the last.
    pub(super) fn give_up(&mut self, name: &str) {
        if let (Some(1), Some(Value::Constant(constant))) = (self.unread.get(name), self.values.get(name)) {
            self.held = self.held.saturating_sub(constant.bytes() as u64);
            self.values.remove(name);
        }
    }

    /// The constant called `name`; `None` if it is no constant.
    pub(super) fn constant(&mut self, name: &'a str) -> std::result::Result<Option<Rc<Constant>>, Problem> {
        // A node's output hides an initialiser of its name.
        let constant = match (self.values.get(name), self.initializers.get(name)) {
            (Some(Value::Constant(constant)), _) => Rc::clone(constant),
            (None, Some(&at)) => Rc::new(self.decode(&self.file.initializers[at])?),
            _ => return Ok(None),
        };
        self.work(constant.cost())?;
        Ok(Some(constant))
    }

    /// The numbers of a tensor in the file or beside it.
    pub(super) fn decode(
        &mut self,
        tensor: &'a schema::Tensor<'a>,
    ) -> std::result::Result<Constant, Problem> {
        let told = |problem: Problem| format!("{:?} has {problem}", tensor.name);
        let len = sizes(&tensor.dims).and_then(|dims| count(&dims)).map_err(told)?;
        let Some(entries) = &tensor.external else {
            self.work(len)?;
            return Constant::decode(tensor, None).map_err(told);
        };
        let entry = |key: &str| entries.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        let stated = entry("location").unwrap_or_default();
        let Some(location) = beside(stated) else {
            return Err(self.outside(
                "numbers in the file itself, or in files of its folder",
                format!("{:?} in {stated:?}, which is not in the folder of the file", tensor.name),
                "Put that file beside it and export the network again, if you trust it",
            ));
        };
        let next = "The two files belong together: copy or export both again";
        let expected = format!("the numbers of {:?} where the file says", tensor.name);
        let number = |key: &str, otherwise: u64| match entry(key) {
            Some(text) => text.parse::<u64>().map_err(|_| format!("a {key} of {text:?}")),
            None => Ok(otherwise),
        };
        let needed = len as u64 * Constant::width(tensor.data_type).map_err(told)? as u64;
        let (start, length) =
            match number("offset", 0).and_then(|start| Ok((start, number("length", needed)?))) {
                Ok(range) => range,
                Err(found) => return Err(self.outside(expected, found, next)),
            };
        let told_as = |found: &str| format!("{needed} bytes at {start} of {location:?}, {found}");
        let Some(end) = start.checked_add(needed) else {
            return Err(self.outside(expected, told_as("beyond the end of any file"), next));
        };
        if length != needed {
            return Err(self.outside(expected, told_as(&format!("not {length} as stated")), next));
        }
        self.external_bytes = self.external_bytes.saturating_add(needed);
        if self.external_bytes > MOST_BYTES {
            let found = told_as(&format!("with which more than {MOST_BYTES} come from other files"));
            return Err(self.outside(expected, found, "Networks of that size are not read"));
        }
        let part = match (self.external)(&location, start..end) {
            Ok(part) => part,
            Err(error) => {
                self.fatal = Some(error);
                return Err(Problem::new());
            }
        };
        if part.len() as u64 != needed {
            return Err(self.outside(expected, told_as(&format!("of which {} are there", part.len())), next));
        }
        let known = self.ends.entry(location).or_insert(0);
        self.given = self.given.saturating_add(end.saturating_sub(*known));
        *known = end.max(*known);
        self.work(len)?;
        Constant::decode(tensor, Some(&part)).map_err(told)
    }

    /// Ends the reading for what is wrong with a file beside.
    fn outside(&mut self, expected: impl std::fmt::Display, found: String, next: &str) -> Problem {
        let error = Error::new(ErrorKind::Format, format!("reading {}", self.called));
        self.fatal = Some(error.expected(expected).found(found).next(next));
        Problem::new()
    }

    /// Gives the network the channels of the image `name` in reverse: blue comes first where it was trained.
    fn reverse_channels(&mut self, name: &'a str) {
        let source = (0..self.shapes[0].c).rev().map(Some).collect();
        self.nodes.push(Node {
            name: "reverse_channels".to_owned(),
            op: ChannelPad { stride: [1, 1], source }.into(),
            inputs: vec![0],
        });
        self.shapes.push(self.shapes[0]);
        self.names.insert("reverse_channels".to_owned(), 1);
        if let Some(Value::Activation(image)) = self.values.get_mut(name) {
            image.node = 1;
        }
        self.made.insert(1, name);
        self.notes
            .push("its metadata says that images are BGR; their channels are reversed for it".to_owned());
    }

    /// Counts bytes of numbers that are about to be kept.
    pub(super) fn hold(&mut self, bytes: usize) -> std::result::Result<(), Problem> {
        let held = self.held.saturating_add(bytes as u64);
        let most = self.given.saturating_mul(HELD_PER_BYTE).saturating_add(HELD).min(MOST_BYTES);
        if held > most {
            return Err(format!("with it, {held} bytes of numbers; a file of this size may make {most}"));
        }
        self.held = held;
        Ok(())
    }

    /// Counts numbers that are about to be looked at.
    pub(super) fn work(&mut self, numbers: usize) -> std::result::Result<(), Problem> {
        self.worked = self.worked.saturating_add(numbers as u64);
        if self.worked > self.given.saturating_mul(WORKED_PER_BYTE).saturating_add(WORKED) {
            return Err("more to compute beforehand than a file of this size may ask for".into());
        }
        Ok(())
    }

    /// Appends a node, its shape checked.
    pub(super) fn add(
        &mut self,
        name: String,
        op: impl Into<Op>,
        inputs: &[NodeId],
    ) -> std::result::Result<NodeId, Problem> {
        let op = op.into();
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.shapes[input]).collect();
        let shape = op.operator().output_shape(&shapes).map_err(|error| error.to_string())?;
        if !crate::graph::is_sensible(shape) {
            return Err(format!("an output of {shape}"));
        }
        self.nodes.push(Node { name, op, inputs: inputs.to_vec() });
        self.shapes.push(shape);
        Ok(self.nodes.len() - 1)
    }

    /// A parameter of the node called `node`.
    pub(super) fn keep(
        &mut self,
        node: &str,
        parameter: &str,
        dims: Vec<usize>,
        data: Vec<f32>,
    ) -> std::result::Result<(), Problem> {
        let key = format!("{node}.{parameter}");
        let before = self.tensors.remove(&key).map_or(0, |before| 4 * before.data.len());
        self.held = self.held.saturating_sub(before as u64);
        self.hold(4 * data.len())?;
        self.tensors.insert(key, TensorData { dims, data });
        Ok(())
    }

    /// The name for a node of the graph: that of the module that the initialiser `weight` names (`layer1.0.conv1.weight`), else
    /// from the node's own name (`/layer1/layer1.0/conv1/Conv`).
    pub(super) fn name(&mut self, node: &schema::Node<'_>, weight: Option<&str>) -> String {
        let module = weight.and_then(|weight| weight.strip_suffix(".weight")).filter(|module| {
            !module.is_empty() && !self.names.contains_key(*module) && !module.contains("::")
        });
        let wanted = match module {
            Some(module) => module.to_owned(),
            None => module_path(node.name, node.op, weight.is_some()),
        };
        let mut name = wanted.clone();
        if let Some(&(mut count)) = self.names.get(&wanted) {
            // Where it went on the last time, so that many nodes of one name take no longer than others.
            while self.names.contains_key(&name) {
                count += 1;
                name = format!("{wanted}_{count}");
            }
            self.names.insert(wanted, count);
        }
        self.names.insert(name.clone(), 1);
        name
    }

    /// The nodes that `output` needs, it last, as a model.
    fn finish(mut self, output: NodeId, name: &str) -> Model {
        let mut needed = vec![false; self.nodes.len()];
        needed[0] = true;
        needed[output] = true;
        for id in (0..self.nodes.len()).rev().filter(|&id| id <= output) {
            if needed[id] {
                self.nodes[id].inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        let mut places = vec![0; self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, mut node) in self.nodes.into_iter().enumerate() {
            if needed[id] {
                places[id] = nodes.len();
                node.inputs.iter_mut().for_each(|input| *input = places[*input]);
                nodes.push(node);
            } else {
                for spec in node.op.operator().parameters() {
                    self.tensors.remove(&format!("{}.{}", node.name, spec.name));
                }
            }
        }
        let name = if name.is_empty() { "onnx" } else { name };
        Model { graph: Graph { name: name.to_owned(), input: self.shapes[0], nodes }, tensors: self.tensors }
    }
}

/// A module's path from the name that an exporter gave a node.
fn module_path(node: &str, op: &str, has_weight: bool) -> String {
    /// Operators that are calls and no modules, so that the operator is part of their name.
    const CALLS: [&str; 10] =
        ["Add", "Mul", "Sub", "Div", "Concat", "Flatten", "Reshape", "ReduceMean", "Slice", "Gather"];
    let parts: Vec<&str> = node.split('/').filter(|part| !part.is_empty()).collect();
    let mut path: Vec<String> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let is_op = at > 0 && at + 1 == parts.len() && part.starts_with(op);
        if is_op && (has_weight || !CALLS.contains(&op)) {
            break;
        }
        let part = if is_op { part.to_lowercase() } else { (*part).to_owned() };
        // In a sequence the last module's name is repeated in front of the index: layer1/layer1.0.
        match path.last_mut() {
            Some(last) if part.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('.')) => {
                *last = part
            }
            _ => path.push(part),
        }
    }
    if path.is_empty() { op.to_lowercase() } else { path.join(".") }
}

/// A relative path without what says nothing, if it stays within the folder that it begins in.
fn beside(location: &str) -> Option<String> {
    let leaves = location.starts_with('/') || location.contains(['\0', '\\', ':']);
    let parts: Vec<&str> = location.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!leaves && !parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// A problem without the end of a long list in it.
fn shortened(mut problem: Problem) -> Problem {
    if let Some((end, _)) = problem.char_indices().nth(LONGEST) {
        problem.truncate(end);
        problem.push('…');
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_nodes_become_module_names() {
        for (node, op, expected) in [
            ("/layer1/layer1.0/conv1/Conv", "Conv", "layer1.0.conv1"),
            ("/conv1/Conv", "Conv", "conv1"),
            ("Conv_0", "Conv", "Conv_0"),
            ("/features/features.0/features.0.0/Conv", "Conv", "features.0.0"),
            ("/layer1/layer1.0/Add", "Add", "layer1.0.add"),
            ("/layer1/layer1.0/relu_1/Relu", "Relu", "layer1.0.relu_1"),
            ("", "Relu", "relu"),
        ] {
            assert_eq!(module_path(node, op, op == "Conv"), expected, "{node}");
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_seen() {
        for (good, plain) in [
            ("weights.bin", "weights.bin"),
            ("parts/weights.bin", "parts/weights.bin"),
            ("././parts/.//weights.bin", "parts/weights.bin"),
            ("a..b", "a..b"),
        ] {
            assert_eq!(beside(good).as_deref(), Some(plain));
        }
        for bad in [
            "",
            ".",
            "./",
            "/etc/passwd",
            "../weights.bin",
            "a/../../b",
            "..",
            "C:\\weights",
            "a\\..\\b",
            "c:w",
        ] {
            assert_eq!(beside(bad), None, "{bad}");
        }
    }
}
