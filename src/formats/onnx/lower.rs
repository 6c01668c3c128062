//! What each ONNX operator becomes: nodes of the graph, another view of an activation, or a constant.

use super::constant::{Constant, MOST_SPREAD, Problem, count, few};
use super::fold::FOLDED;
use super::images::MOVING;
use super::import::{Activation, Importer, Layout, Value};
use super::schema::{Attribute, Node, is_standard};
use crate::graph::NodeId;
use crate::ops::{
    Add, AvgPool2d, BatchNorm2d, Bias, ChannelPad, Clamp, Concat, Conv2d, Divisor, Flatten, GlobalAvgPool,
    HardSigmoid, HardSwish, LeakyRelu, Linear, MaxPool2d, Mul, Op, Pad2d, Padding, Relu, Relu6, Sigmoid,
    Silu,
};
use crate::shape::Shape;
use std::rc::Rc;

/// Largest filter side, stride, dilation and padding that is looked at: arithmetic with them stays exact.
const LARGEST_STEP: i64 = 1 << 24;

/// The operators that are read over activations.
const READ: [&str; 40] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "PRelu",
    "Pad",
    "ReduceMax",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Transpose",
    "Unsqueeze",
];

pub(super) type Outcome<T> = std::result::Result<T, Problem>;

pub(super) fn int(node: &Node<'_>, name: &str, otherwise: i64) -> Outcome<i64> {
    match node.attribute(name) {
        None => Ok(otherwise),
        Some(Attribute::Int(value)) => Ok(*value),
        Some(_) => Err(format!("the attribute {name} is no whole number")),
    }
}

pub(super) fn float(node: &Node<'_>, name: &str, otherwise: f32) -> Outcome<f32> {
    match node.attribute(name) {
        None => Ok(otherwise),
        Some(Attribute::Float(value)) => Ok(*value),
        Some(_) => Err(format!("the attribute {name} is no number")),
    }
}

pub(super) fn ints<'n>(node: &'n Node<'_>, name: &str) -> Outcome<Option<&'n [i64]>> {
    match node.attribute(name) {
        None => Ok(None),
        Some(Attribute::Ints(values)) => Ok(Some(values)),
        Some(_) => Err(format!("the attribute {name} is no list of whole numbers")),
    }
}

fn text<'n>(node: &'n Node<'_>, name: &str, otherwise: &'n str) -> Outcome<&'n str> {
    match node.attribute(name) {
        None => Ok(otherwise),
        Some(Attribute::Text(value)) => Ok(value),
        Some(_) => Err(format!("the attribute {name} is no text")),
    }
}

/// Two sizes, vertical and horizontal.
fn pair(node: &Node<'_>, name: &str, otherwise: usize) -> Outcome<[usize; 2]> {
    let Some(values) = ints(node, name)? else { return Ok([otherwise; 2]) };
    match values {
        [a, b] if [a, b].iter().all(|side| (1..=LARGEST_STEP).contains(*side)) => {
            Ok([*a as usize, *b as usize])
        }
        _ => Err(format!("the attribute {name} is {values:?}; two sizes over 0 are read")),
    }
}

/// An axis counted from the front.
pub(super) fn axis(value: i64, rank: usize) -> Outcome<usize> {
    let from_front = if value < 0 { value.checked_add(rank as i64) } else { Some(value) };
    from_front
        .and_then(|value| usize::try_from(value).ok())
        .filter(|&value| value < rank)
        .ok_or_else(|| format!("axis {value} of {rank} dimensions"))
}

fn about(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-6
}

fn transposed(weight: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| weight[row * columns + column])).collect()
}

/// How windows lie over an image: padding above and left, below and right, and how many there are.
struct Windows {
    begin: [usize; 2],
    end: [usize; 2],
}

fn padding_rule<'n>(node: &'n Node<'_>) -> Outcome<&'n str> {
    match text(node, "auto_pad", "NOTSET")? {
        rule @ ("NOTSET" | "" | "VALID" | "SAME_UPPER" | "SAME_LOWER") => Ok(rule),
        other => Err(format!("the attribute auto_pad is {other:?}")),
    }
}

fn standard(node: &Node<'_>) -> Outcome<()> {
    if is_standard(node.domain) {
        return Ok(());
    }
    Err(format!("of the operators {:?}, of which none are read", node.domain))
}

/// The padding of a convolution or pooling over an image of `sides`, whose windows reach over `reach` pixels.
fn windows(node: &Node<'_>, sides: [usize; 2], reach: [usize; 2], stride: [usize; 2]) -> Outcome<Windows> {
    let same = |upper: bool| {
        let mut windows = Windows { begin: [0; 2], end: [0; 2] };
        for side in 0..2 {
            let outputs = sides[side].div_ceil(stride[side]);
            let total = ((outputs - 1) * stride[side] + reach[side]).saturating_sub(sides[side]);
            let (less, more) = (total / 2, total - total / 2);
            (windows.begin[side], windows.end[side]) = if upper { (less, more) } else { (more, less) };
        }
        windows
    };
    match padding_rule(node)? {
        "VALID" => return Ok(Windows { begin: [0; 2], end: [0; 2] }),
        "SAME_UPPER" => return Ok(same(true)),
        "SAME_LOWER" => return Ok(same(false)),
        _ => {}
    }
    match ints(node, "pads")? {
        None => Ok(Windows { begin: [0; 2], end: [0; 2] }),
        Some(pads @ &[top, left, bottom, right])
            if pads.iter().all(|pad| (0..=LARGEST_STEP).contains(pad)) =>
        {
            Ok(Windows { begin: [top as usize, left as usize], end: [bottom as usize, right as usize] })
        }
        Some(pads) => Err(format!("the attribute pads is {pads:?}; four sizes of at least 0 are read")),
    }
}

impl<'a> Importer<'a, '_> {
    /// The values of a node's outputs.
    pub(super) fn lower(&mut self, node: &'a Node<'a>) -> Outcome<Vec<Value>> {
        let inputs: Vec<&str> = node.inputs.iter().copied().filter(|name| !name.is_empty()).collect();
        let (mut computed, mut sides) = (false, 0usize);
        for name in &inputs {
            if let Some(Value::Activation(x)) = self.values.get(name) {
                computed = true;
                sides = x.dims.iter().fold(sides, |sides, &side| sides.saturating_add(side));
            }
        }
        self.work(sides)?;
        if inputs.iter().any(|name| self.whole.contains(name)) {
            let to = int(node, "to", 1)?;
            match node.op {
                // Wider whole numbers are the same ones.
                "Cast" if [6, 7].contains(&to) => {
                    self.whole.extend(node.outputs.iter());
                    return Ok(vec![Value::Activation(self.activation(node, 0)?)]);
                }
                "Cast" => {}
                op if MOVING.contains(&op) => self.whole.extend(node.outputs.iter()),
                _ => return Err(
                    "of whole numbers, as its input has them; they are only moved about and cast to floats"
                        .into(),
                ),
            }
        }
        if node.op == "Shape" && computed {
            let constant = self.shape_of(node)?;
            self.hold(constant.bytes())?;
            return Ok(vec![Value::Constant(Rc::new(constant))]);
        }
        if !computed {
            standard(node)?;
            if !READ.contains(&node.op) && !FOLDED.contains(&node.op) {
                return Err("of constants alone, which is not read".into());
            }
            let folded = self.fold(node);
            // Comparing, adding and choosing go over the numbers again and again.
            let times = if node.op == "Where" { 8 } else { 1 };
            self.work(folded.as_ref().map_or(MOST_SPREAD, |constant| times * constant.cost()))?;
            let constant = folded?;
            self.hold(constant.bytes())?;
            return Ok(vec![Value::Constant(constant)]);
        }
        self.check(node, &[])?;
        if node.op == "Split" {
            return self.split(node);
        }
        self.compute(node).map(|activation| vec![Value::Activation(activation)])
    }

    /// What a node states, whatever it is given: its operator, and attributes of which not all values are read. Nothing is
    /// wrong with the operators that are `known` too.
    pub(super) fn check(&self, node: &Node<'a>, known: &[&str]) -> Outcome<()> {
        standard(node)?;
        if known.contains(&node.op) {
            return Ok(());
        }
        if !READ.contains(&node.op) {
            let ends = node.outputs.first().is_some_and(|output| self.ending.contains(output));
            let before = node.inputs.first().filter(|name| ends && !self.is_constant(name));
            return Err(match before {
                Some(name) => {
                    format!("not an operator that is read; --output {name:?} takes the network up to it")
                }
                None => "not an operator that is read".to_owned(),
            });
        }
        let only = |name: &str, otherwise: i64, read: &[i64]| match int(node, name, otherwise)? {
            value if read.contains(&value) => Ok(()),
            value => Err(format!("the attribute {name} is {value}; {} is read", read[0])),
        };
        match node.op {
            "Swish" => match float(node, "alpha", 1.0)? {
                1.0 => Ok(()),
                alpha => Err(format!("the attribute alpha is {alpha}; 1 is read")),
            },
            "Pad" => match text(node, "mode", "constant")? {
                "constant" => Ok(()),
                other => Err(format!("the attribute mode is {other:?}; constant is read")),
            },
            "MaxPool" | "AveragePool" => {
                let dilations = pair(node, "dilations", 1)?;
                if dilations != [1, 1] {
                    return Err(format!("the attribute dilations is {dilations:?}; 1 is read"));
                }
                if node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
                    return Err("places of the largest numbers as an output".into());
                }
                padding_rule(node).map(|_| ())
            }
            "Conv" => padding_rule(node).map(|_| ()),
            "Gemm" => only("transA", 0, &[0]),
            "Cast" => match int(node, "to", 1)? {
                1 | 10 | 11 | 16 => Ok(()),
                other => Err(format!("the attribute to is {other}; floats stay floats")),
            },
            "Softmax" | "LogSoftmax" => {
                if node.outputs.first().is_some_and(|output| self.ending.contains(output)) {
                    return Ok(());
                }
                Err("in the middle of the network; at its end it is left out".into())
            }
            _ => Ok(()),
        }
    }

    fn compute(&mut self, node: &'a Node<'a>) -> Outcome<Activation> {
        match node.op {
            "Conv" => self.convolution(node),
            "BatchNormalization" => self.batch_norm(node),
            "Relu" => self.unary(node, Relu {}),
            "LeakyRelu" => {
                let slope = float(node, "alpha", 0.01)?;
                self.unary(node, LeakyRelu { slope })
            }
            "PRelu" => {
                let slope = self.required(node, 1)?.scalar();
                let slope = slope.map_err(|_| "a slope for each channel; one for all is read".to_owned())?;
                self.unary(node, LeakyRelu { slope })
            }
            "Clip" => self.clip(node),
            "Sigmoid" => self.unary(node, Sigmoid {}),
            "HardSigmoid" => {
                let (slope, offset) = (float(node, "alpha", 0.2)?, float(node, "beta", 0.5)?);
                self.unary(node, HardSigmoid { slope, offset })
            }
            "HardSwish" => self.unary(node, HardSwish {}),
            "Swish" => self.unary(node, Silu {}),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" => self.global_average(node),
            "GlobalMaxPool" => {
                let (x, shape) = self.nchw(node, 0)?;
                let pool = MaxPool2d { kernel: [shape.h, shape.w], ..MaxPool2d::new(1) };
                self.pooled(node, &x, pool)
            }
            "ReduceMean" | "ReduceMax" => self.reduce(node),
            "Expand" => self.expand(node),
            "Add" | "Sum" | "Mul" | "Sub" | "Div" => self.arithmetic(node),
            "Concat" => self.concat(node),
            "Pad" => self.pad(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            "Flatten" => {
                let x = self.activation(node, 0)?;
                let at = int(node, "axis", 1)?;
                if at != 1 && axis(at, x.dims.len())? != 1 {
                    return Err(format!("the attribute axis is {at}; 1 is read"));
                }
                let dims = vec![x.dims[0], count(&x.dims[1..])?];
                self.reshape(node, &x, dims)
            }
            "Reshape" => {
                let x = self.activation(node, 0)?;
                let wanted = self.required(node, 1)?.to_ints()?;
                let dims = reshaped(&x.dims, &wanted, int(node, "allowzero", 0)? == 1)?;
                self.reshape(node, &x, dims)
            }
            "Squeeze" | "Unsqueeze" => {
                let x = self.activation(node, 0)?;
                let axes = self.axes(node)?;
                let dims = squeezed(node.op, &x.dims, axes.as_deref())?;
                self.reshape(node, &x, dims)
            }
            "Transpose" => self.transpose(node),
            "Gemm" | "MatMul" => self.linear(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Identity" | "Dropout" | "Cast" => self.activation(node, 0),
            _ => Err("not an operator that is read".into()),
        }
    }

    /// The last softmax, which is left out: its input are the logits. That holds of the one over the classes alone.
    fn softmax(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let rank = x.dims.len();
        // Before version 13 it went over all axes from the one stated.
        let (otherwise, is_flat) = if self.opset < 13 { (1, true) } else { (-1, false) };
        let stated = int(node, "axis", otherwise)?;
        let at = if is_flat && stated == rank as i64 { rank } else { axis(stated, rank)? };
        let classes = (1..rank).find(|&axis| x.dims[axis] > 1);
        let alone = classes.is_none_or(|classes| count(&x.dims[1..]) == Ok(x.dims[classes]));
        let over_classes = match classes {
            Some(classes) if is_flat => (1..=classes).contains(&at),
            Some(classes) => at == classes,
            None => at > 0,
        };
        if !alone || !over_classes {
            let what = if at == 0 { "the images of a batch" } else { "something else than the classes" };
            return Err(format!(
                "over axis {stated} of {:?}, {what}; only one over the classes is read, by leaving it out; --output {:?} takes the \
                 network up to it",
                x.dims,
                node.inputs.first().unwrap_or(&"")
            ));
        }
        let note = format!("its last {} is left out: outputs are the logits before it", node.op);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        Ok(x)
    }

    /// Whether `name` is known not to follow from the images.
    fn is_constant(&self, name: &str) -> bool {
        !matches!(self.values.get(name), Some(Value::Activation(_) | Value::Missing))
    }

    /// Input `at`, which follows from the images.
    fn activation(&self, node: &Node<'a>, at: usize) -> Outcome<Activation> {
        match node.inputs.get(at).and_then(|name| self.values.get(name)) {
            Some(Value::Activation(activation)) => Ok(activation.clone()),
            _ => Err(format!("input {at} does not follow from the images")),
        }
    }

    /// Input `at`, which is constant; `None` if it is not there.
    pub(super) fn optional(&mut self, node: &Node<'a>, at: usize) -> Outcome<Option<Rc<Constant>>> {
        let Some(&name) = node.inputs.get(at).filter(|name| !name.is_empty()) else { return Ok(None) };
        match self.constant(name)? {
            Some(constant) => Ok(Some(constant)),
            None => Err(format!("input {at}, {name:?}, is not constant")),
        }
    }

    pub(super) fn required(&mut self, node: &Node<'a>, at: usize) -> Outcome<Rc<Constant>> {
        self.optional(node, at)?.ok_or_else(|| format!("input {at} is missing"))
    }

    /// Input `at`, which is constant, without a copy of it where nothing reads it later. It can be asked for once.
    pub(super) fn owned(&mut self, node: &Node<'a>, at: usize) -> Outcome<Constant> {
        let constant = self.required(node, at)?;
        if let Some(name) = node.inputs.get(at) {
            self.give_up(name);
        }
        Ok(Rc::unwrap_or_clone(constant))
    }

    /// A constant of `len` numbers, finite or not: the model's validation tells.
    fn vector(&mut self, node: &Node<'a>, at: usize, len: usize) -> Outcome<Vec<f32>> {
        let constant = self.required(node, at)?;
        if constant.len() != len {
            return Err(format!("input {at} has {} numbers instead of {len}", constant.len()));
        }
        Ok(Rc::unwrap_or_clone(constant).into_floats())
    }

    /// The axes of an operator: an attribute, since version 13 an input.
    pub(super) fn axes(&mut self, node: &Node<'a>) -> Outcome<Option<Vec<i64>>> {
        match ints(node, "axes")? {
            Some(axes) => Ok(Some(axes.to_vec())),
            None => self.optional(node, 1)?.map(|axes| axes.to_ints()).transpose(),
        }
    }

    /// Input `at`, images of channels.
    fn nchw(&self, node: &Node<'a>, at: usize) -> Outcome<(Activation, Shape)> {
        let x = self.activation(node, at)?;
        let shape = self.shapes[x.node];
        if x.layout == Layout::Channels && x.dims == [self.batch, shape.c, shape.h, shape.w] {
            return Ok((x, shape));
        }
        Err(format!("an input of {:?}; images of channels, rows and columns are read", x.dims))
    }

    /// The numbers of one channel after the other, or a vector: what elementwise operators take together.
    fn is_plain(&self, x: &Activation) -> bool {
        let shape = self.shapes[x.node];
        match x.layout {
            Layout::Channels => {
                x.dims == [self.batch, shape.c, shape.h, shape.w]
                    || shape.pixels() == 1 && x.dims == [self.batch, shape.c]
            }
            Layout::Nhwc => true,
            _ => false,
        }
    }

    fn unary(&mut self, node: &Node<'a>, op: impl Into<Op>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let name = self.name(node, None);
        Ok(Activation { node: self.add(name, op, &[x.node])?, ..x })
    }

    fn convolution(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let (x, shape) = self.nchw(node, 0)?;
        let weight = self.owned(node, 1)?;
        let &[filters, group_channels, r, s] = weight.dims.as_slice() else {
            return Err(format!("filters of {:?}; those of two sides are read", weight.dims));
        };
        let groups = usize::try_from(int(node, "group", 1)?).map_err(|_| "a negative group".to_owned())?;
        if group_channels.checked_mul(groups) != Some(shape.c) {
            return Err(format!("{groups} groups of {group_channels} channels over an image of {shape}"));
        }
        if ints(node, "kernel_shape")?.is_some_and(|kernel| kernel != [r as i64, s as i64]) {
            return Err(format!("the attribute kernel_shape is not {r}x{s}, which the filters are"));
        }
        let (stride, dilation) = (pair(node, "strides", 1)?, pair(node, "dilations", 1)?);
        let reach = |side: usize, dilation: usize| {
            side.checked_sub(1)
                .and_then(|side| side.checked_mul(dilation))
                .and_then(|reach| reach.checked_add(1))
        };
        let (Some(down), Some(across)) = (reach(r, dilation[0]), reach(s, dilation[1])) else {
            return Err(format!("filters of {r}x{s}"));
        };
        let over = windows(node, [shape.h, shape.w], [down, across], stride)?;
        let mut padding =
            Padding { top: over.begin[0], left: over.begin[1], bottom: over.end[0], right: over.end[1] };
        // Zeros that a node of their own puts around the image are the convolution's own padding.
        let mut input = x.node;
        if let Op::Pad2d(Pad2d { padding: around }) = &self.nodes[input].op {
            padding = Padding {
                top: padding.top + around.top,
                left: padding.left + around.left,
                bottom: padding.bottom + around.bottom,
                right: padding.right + around.right,
            };
            input = self.nodes[input].inputs[0];
        }
        let bias =
            if node.inputs.get(2).is_some_and(|name| !name.is_empty()) { Bias::With } else { Bias::Without };
        let conv = Conv2d {
            in_channels: shape.c,
            out_channels: filters,
            kernel: [r, s],
            stride,
            padding,
            dilation,
            groups,
            bias,
        };
        let name = self.name(node, node.inputs.get(1).copied().or(Some("")));
        let id = self.add(name.clone(), conv, &[input])?;
        self.keep(&name, "weight", weight.dims.clone(), weight.into_floats())?;
        if bias == Bias::With {
            let bias = self.vector(node, 2, filters)?;
            self.keep(&name, "bias", vec![filters], bias)?;
        }
        Ok(self.channels(id))
    }

    /// A node's output as images of channels.
    fn channels(&self, id: NodeId) -> Activation {
        let shape = self.shapes[id];
        Activation { node: id, dims: vec![self.batch, shape.c, shape.h, shape.w], layout: Layout::Channels }
    }

    fn batch_norm(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        if x.layout != Layout::Channels || !self.is_plain(&x) {
            return Err(format!("an input of {:?}", x.dims));
        }
        if int(node, "training_mode", 0)? != 0 {
            let note = "its batch norms are written for training (training_mode 1); here they train as there, and answer by \
                their running statistics";
            if !self.notes.iter().any(|known| known == note) {
                self.notes.push(note.to_owned());
            }
        }
        let channels = self.shapes[x.node].c;
        let mut norm = BatchNorm2d::new(channels);
        norm.eps = float(node, "epsilon", norm.eps)?;
        norm.momentum = 1.0 - float(node, "momentum", 1.0 - norm.momentum)?;
        let name = self.name(node, node.inputs.get(1).copied().or(Some("")));
        let id = self.add(name.clone(), norm, &[x.node])?;
        for (at, parameter) in [(1, "weight"), (2, "bias"), (3, "running_mean"), (4, "running_var")] {
            let numbers = self.vector(node, at, channels)?;
            self.keep(&name, parameter, vec![channels], numbers)?;
        }
        Ok(Activation { node: id, ..x })
    }

    fn clip(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let mut bound = |attribute: &str, at: usize| -> Outcome<Option<f32>> {
            let value = match node.attribute(attribute) {
                Some(_) => Some(float(node, attribute, 0.0)?),
                None => self.optional(node, at)?.map(|value| value.scalar()).transpose()?,
            };
            Ok(value.filter(|value| value.abs() < f32::MAX))
        };
        match (bound("min", 1)?, bound("max", 2)?) {
            (Some(0.0), Some(6.0)) => self.unary(node, Relu6 {}),
            (Some(0.0), None) => self.unary(node, Relu {}),
            (None, None) => self.activation(node, 0),
            (low, high) => {
                let (low, high) = (low.unwrap_or(-f32::MAX), high.unwrap_or(f32::MAX));
                self.unary(node, Clamp { low, high })
            }
        }
    }

    fn pooled(&mut self, node: &Node<'a>, x: &Activation, op: impl Into<Op>) -> Outcome<Activation> {
        let name = self.name(node, None);
        let id = self.add(name, op, &[x.node])?;
        Ok(self.channels(id))
    }

    fn pool(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let (x, shape) = self.nchw(node, 0)?;
        if node.attribute("kernel_shape").is_none() {
            return Err("the attribute kernel_shape is missing".into());
        }
        let (kernel, stride) = (pair(node, "kernel_shape", 1)?, pair(node, "strides", 1)?);
        let mut input = x.node;
        let mut sides = [shape.h, shape.w];
        let Windows { mut begin, mut end } = windows(node, sides, kernel, stride)?;
        let is_max = node.op == "MaxPool";
        if let (true, Op::Pad2d(Pad2d { padding })) = (is_max, &self.nodes[input].op) {
            // Zeros never win over numbers that are not negative, so they can be the pooling's own padding.
            let source = self.nodes[input].inputs[0];
            let fits = begin[0] + padding.top < kernel[0]
                && begin[1] + padding.left < kernel[1]
                && end[0] + padding.bottom < kernel[0]
                && end[1] + padding.right < kernel[1];
            if fits && matches!(self.nodes[source].op, Op::Relu(_) | Op::Relu6(_) | Op::Sigmoid(_)) {
                begin = [begin[0] + padding.top, begin[1] + padding.left];
                end = [end[0] + padding.bottom, end[1] + padding.right];
                input = source;
                sides = [self.shapes[input].h, self.shapes[input].w];
            }
        }
        let count_padding = int(node, "count_include_pad", 0)? == 1;
        let padded = begin != [0; 2] || end != [0; 2];
        if int(node, "ceil_mode", 0)? == 1 {
            for side in 0..2 {
                let whole = sides[side] + begin[side] + end[side];
                let rest = whole
                    .checked_sub(kernel[side])
                    .ok_or_else(|| format!("windows of {kernel:?} over {shape}"))?;
                let mut steps = rest.div_ceil(stride[side]);
                // The last window must begin over the image or the padding before it.
                if steps * stride[side] >= sides[side] + begin[side] {
                    steps -= 1;
                }
                let reached = steps * stride[side] + kernel[side];
                let beyond = reached.saturating_sub(whole);
                if beyond > 0 && !is_max && count_padding && padded {
                    return Err(
                        "windows beyond the padding (ceil_mode) that count it (count_include_pad)".into()
                    );
                }
                end[side] += beyond;
            }
        }
        let even = begin == end && (0..2).all(|side| begin[side] <= kernel[side] / 2);
        let trailing = if even { None } else { Some(end) };
        if is_max {
            let name = self.name(node, None);
            let id = self.add(name, MaxPool2d { kernel, stride, padding: begin, trailing }, &[input])?;
            return Ok(self.channels(id));
        }
        if kernel == sides && begin == [0; 2] && end == [0; 2] {
            return self.pooled(node, &x, GlobalAvgPool {});
        }
        // Of windows that reach beyond an image without padding only the pixels count.
        let divisor =
            if count_padding && (padded || end == [0; 2]) { Divisor::Window } else { Divisor::Pixels };
        self.pooled(node, &x, AvgPool2d { kernel, stride, padding: begin, trailing, divisor })
    }

    fn global_average(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let (x, _) = self.nchw(node, 0)?;
        self.pooled(node, &x, GlobalAvgPool {})
    }

    /// The mean or the largest over rows and columns, or over one of them.
    fn reduce(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let (shape, rank) = (self.shapes[x.node], x.dims.len());
        let axes = self.axes(node)?.unwrap_or_default();
        let mut axes: Vec<usize> = axes.iter().map(|&at| axis(at, rank)).collect::<Outcome<_>>()?;
        axes.sort_unstable();
        let kernel = match (x.layout, axes.as_slice()) {
            (Layout::Channels, [2]) if x.dims == [self.batch, shape.c, shape.pixels()] => [shape.h, shape.w],
            (Layout::Channels, [2, 3]) | (Layout::Nhwc, [1, 2]) if rank == 4 && self.is_plain(&x) => {
                [shape.h, shape.w]
            }
            (Layout::Channels, [2]) if rank == 4 && self.is_plain(&x) => [shape.h, 1],
            (Layout::Channels, [3]) if rank == 4 && self.is_plain(&x) => [1, shape.w],
            _ => return Err(format!("axes {axes:?} of {:?}; rows and columns are read", x.dims)),
        };
        let op: Op = match node.op {
            "ReduceMax" => MaxPool2d { kernel, ..MaxPool2d::new(1) }.into(),
            _ if kernel == [shape.h, shape.w] => GlobalAvgPool {}.into(),
            _ => AvgPool2d { kernel, ..AvgPool2d::new(1) }.into(),
        };
        let name = self.name(node, None);
        let id = self.add(name, op, &[x.node])?;
        let keeps = int(node, "keepdims", 1)? == 1;
        let mut dims = x.dims.clone();
        axes.iter().for_each(|&at| dims[at] = 1);
        if !keeps {
            dims = (0..rank).filter(|at| !axes.contains(at)).map(|at| dims[at]).collect();
        }
        let layout = if keeps { x.layout } else { Layout::Channels };
        Ok(Activation { node: id, dims, layout })
    }

    /// One number a channel, repeated for each pixel.
    fn expand(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let (x, shape) = self.nchw(node, 0)?;
        let wanted = self.required(node, 1)?.to_ints()?;
        let told = || format!("{:?} as {wanted:?}; one number a channel, for each pixel, is read", x.dims);
        let sides: Vec<usize> = match wanted.len().checked_sub(4) {
            Some(0) => wanted.iter().zip(&x.dims),
            _ => return Err(told()),
        }
        .map(|(&side, &own)| usize::try_from(side).unwrap_or(0).max(own))
        .collect();
        let fits = wanted.iter().all(|side| (1..=LARGEST_STEP).contains(side));
        if fits && sides == x.dims {
            return Ok(x);
        }
        if !fits || shape.pixels() != 1 || sides[..2] != x.dims[..2] {
            return Err(told());
        }
        Ok(Activation { dims: sides, layout: Layout::Repeated, ..x })
    }

    fn arithmetic(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        if node.inputs.len() == 1 {
            return self.activation(node, 0);
        }
        let computed: Vec<usize> =
            (0..node.inputs.len()).filter(|&at| self.activation(node, at).is_ok()).collect();
        if computed.len() == node.inputs.len() {
            return self.joined(node);
        }
        let (&[at], 2) = (computed.as_slice(), node.inputs.len()) else {
            return Err("constants among several activations".into());
        };
        let x = self.activation(node, at)?;
        let other = self.required(node, 1 - at)?;
        let numbers = self.by_channel(&x, &other)?;
        let negated = |numbers: Vec<f32>| numbers.into_iter().map(|x| -x).collect();
        let (scale, offset) = match (node.op, at) {
            ("Add" | "Sum", _) => (None, Some(numbers)),
            ("Mul", _) => (Some(numbers), None),
            ("Sub", 0) => (None, Some(negated(numbers))),
            ("Sub", _) => (Some(vec![-1.0; numbers.len()]), Some(numbers)),
            ("Div", 0) => (Some(numbers.into_iter().map(|x| 1.0 / x).collect()), None),
            _ => return Err("a constant divided by an activation".into()),
        };
        self.affine(node, node.inputs[at], x, scale, offset)
    }

    /// A constant's number for each channel of `x`.
    fn by_channel(&self, x: &Activation, constant: &Constant) -> Outcome<Vec<f32>> {
        let channels = self.shapes[x.node].c;
        if constant.len() == 1 && constant.dims.len() <= x.dims.len() {
            return Ok(vec![constant.scalar()?; channels]);
        }
        let channel_axis = if x.layout == Layout::Nhwc { x.dims.len() - 1 } else { 1 };
        let lies_right = self.is_plain(x)
            && constant.len() == channels
            && constant.dims.iter().rev().enumerate().all(|(from_end, &side)| {
                side == 1 || (from_end + 1 + channel_axis == x.dims.len() && side == channels)
            });
        if !lies_right {
            return Err(format!(
                "a constant of {:?} with an activation of {:?}; one number, or one a channel, is read",
                constant.dims, x.dims
            ));
        }
        Ok(constant.floats().into_owned())
    }

    /// `scale x + offset` by channel: into the layer before if nothing else reads that, else as a depthwise 1x1 convolution.
    fn affine(
        &mut self,
        node: &Node<'a>,
        read: &'a str,
        x: Activation,
        scale: Option<Vec<f32>>,
        offset: Option<Vec<f32>>,
    ) -> Outcome<Activation> {
        let is_all = |numbers: &Option<Vec<f32>>, nothing: f32| {
            numbers.as_ref().is_none_or(|numbers| numbers.iter().all(|&x| x == nothing))
        };
        if is_all(&scale, 1.0) && is_all(&offset, 0.0) {
            return Ok(x);
        }
        let one_of = |numbers: &Option<Vec<f32>>, otherwise: f32| match numbers.as_deref() {
            None => Some(otherwise),
            Some([first, rest @ ..]) => rest.iter().all(|x| x == first).then_some(*first),
            Some([]) => None,
        };
        let same = one_of(&scale, 1.0).zip(one_of(&offset, 0.0));
        if let Some((scale, 0.0)) = same
            && about(scale, 1.0 / 6.0)
            && let Some((op, input)) = self.hard(x.node)
        {
            let name = self.name(node, None);
            return Ok(Activation { node: self.add(name, op, &[input])?, ..x });
        }
        let channels = self.shapes[x.node].c;
        let alone = self.made.get(&x.node) == Some(&read) && self.uses.get(read) == Some(&1);
        let bias = match &mut self.nodes[x.node].op {
            Op::Conv2d(conv) if alone => Some(&mut conv.bias),
            Op::Linear(linear) if alone => Some(&mut linear.bias),
            _ => None,
        };
        if let Some(bias) = bias {
            if offset.is_some() {
                *bias = Bias::With;
            }
            let name = self.nodes[x.node].name.clone();
            self.work(self.tensors.get(&format!("{name}.weight")).map_or(0, |weight| weight.data.len()))?;
            if let (Some(scale), Some(weight)) = (&scale, self.tensors.get_mut(&format!("{name}.weight"))) {
                let row_len = weight.data.len() / channels.max(1);
                for (row, scale) in weight.data.chunks_exact_mut(row_len.max(1)).zip(scale) {
                    row.iter_mut().for_each(|x| *x *= scale);
                }
            }
            let key = format!("{name}.bias");
            let known = self.tensors.get(&key).map(|tensor| tensor.data.clone());
            if known.is_some() || offset.is_some() {
                let mut sums = known.unwrap_or_else(|| vec![0.0; channels]);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = *sum * scale.as_ref().map_or(1.0, |scale| scale[k])
                        + offset.as_ref().map_or(0.0, |offset| offset[k]);
                }
                self.keep(&name, "bias", vec![channels], sums)?;
            }
            // A line of a line is one; of other numbers for each channel there is none.
            if let Some((slope, at_zero)) = self.lines.remove(&x.node)
                && let Some((scale, offset)) = same
            {
                self.lines.insert(x.node, (slope * scale, at_zero * scale + offset));
            }
            return Ok(x);
        }
        let name = self.name(node, None);
        let conv = Conv2d { groups: channels, ..Conv2d::new(channels, channels, [1, 1]) };
        let id = self.add(name.clone(), conv, &[x.node])?;
        self.affine.insert(name.clone());
        self.keep(&name, "weight", vec![channels, 1, 1, 1], scale.unwrap_or_else(|| vec![1.0; channels]))?;
        self.keep(&name, "bias", vec![channels], offset.unwrap_or_else(|| vec![0.0; channels]))?;
        if let Some(same) = same {
            self.lines.insert(id, same);
        }
        Ok(Activation { node: id, ..x })
    }

    /// What a sixth of node `id` is if that is `relu6(a x + b)`, or `x relu6(x + 3)`: a hard sigmoid or a hard swish, and of
    /// which node. Exporters write them out where their version of the operators has none.
    fn hard(&self, id: NodeId) -> Option<(Op, NodeId)> {
        let ramp = |id: NodeId| {
            let Op::Relu6(_) = &self.nodes[id].op else { return None };
            let below = self.nodes[id].inputs[0];
            Some(match self.lines.get(&below) {
                Some(&(slope, offset)) => (self.nodes[below].inputs[0], slope, offset),
                None => (below, 1.0, 0.0),
            })
        };
        if let Some((input, slope, offset)) = ramp(id) {
            return Some((HardSigmoid { slope: slope / 6.0, offset: offset / 6.0 }.into(), input));
        }
        let Op::Mul(_) = &self.nodes[id].op else { return None };
        let &[a, b] = self.nodes[id].inputs.as_slice() else { return None };
        [(a, b), (b, a)]
            .into_iter()
            .find_map(|(x, gate)| (ramp(gate) == Some((x, 1.0, 3.0))).then(|| (HardSwish {}.into(), x)))
    }

    /// The sum or product of activations.
    fn joined(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let mut parts: Vec<Activation> =
            (0..node.inputs.len()).map(|at| self.activation(node, at)).collect::<Outcome<_>>()?;
        // A product takes a gate as it was before it was repeated for each pixel.
        let repeated = parts.iter().position(|part| part.layout == Layout::Repeated);
        if let ("Mul", [a, b], Some(at)) = (node.op, parts.as_slice(), repeated)
            && a.dims == b.dims
        {
            parts[at] = self.channels(parts[at].node);
        }
        let shape = |x: &Activation| self.shapes[x.node];
        let told = || {
            let dims: Vec<String> = parts.iter().map(|part| format!("{:?}", part.dims)).collect();
            format!(
                "inputs of {}; equal ones, or one number a channel for a product, are read",
                dims.join(" and ")
            )
        };
        if parts.iter().any(|part| !self.is_plain(part) || part.layout != parts[0].layout) {
            return Err(told());
        }
        let alike = parts.iter().all(|part| part.dims == parts[0].dims);
        match (node.op, parts.as_slice()) {
            ("Add" | "Sum", _) if alike => {
                let ids: Vec<NodeId> = parts.iter().map(|part| part.node).collect();
                let name = self.name(node, None);
                Ok(Activation { node: self.add(name, Add {}, &ids)?, ..parts[0].clone() })
            }
            ("Mul", [a, b]) => {
                if let Some(op) = self.gated(a, b).or_else(|| self.gated(b, a)) {
                    let x = if self.nodes[b.node].inputs.first() == Some(&a.node) { a } else { b };
                    let (name, x) = (self.name(node, None), x.clone());
                    return Ok(Activation { node: self.add(name, op, &[x.node])?, ..x });
                }
                let is_gate = |gate: &Activation, x: &Activation| {
                    gate.dims.len() == x.dims.len() && shape(gate) == Shape::new(shape(x).c, 1, 1)
                };
                let (x, gate) = match (alike || is_gate(b, a), is_gate(a, b)) {
                    (true, _) => (a, b),
                    (_, true) => (b, a),
                    _ => return Err(told()),
                };
                let (inputs, x) = ([x.node, gate.node], x.clone());
                let name = self.name(node, None);
                Ok(Activation { node: self.add(name, Mul {}, &inputs)?, ..x })
            }
            _ => Err(told()),
        }
    }

    /// SiLU or hard swish, if `gate` is a sigmoid of `x`.
    fn gated(&self, x: &Activation, gate: &Activation) -> Option<Op> {
        let of = &self.nodes[gate.node];
        if of.inputs != [x.node] || x.dims != gate.dims {
            return None;
        }
        match &of.op {
            Op::Sigmoid(_) => Some(Silu {}.into()),
            Op::HardSigmoid(line) if about(line.slope, 1.0 / 6.0) && about(line.offset, 0.5) => {
                Some(HardSwish {}.into())
            }
            _ => None,
        }
    }

    fn concat(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let parts: Vec<Activation> = (0..node.inputs.len())
            .map(|at| self.activation(node, at))
            .collect::<Outcome<_>>()
            .map_err(|_| "constants beside activations".to_owned())?;
        let first = &parts[0];
        let rank = first.dims.len();
        let at = axis(int(node, "axis", 1)?, rank)?;
        let channel_axis = if first.layout == Layout::Nhwc { rank - 1 } else { 1 };
        let fits =
            |part: &Activation| self.is_plain(part) && part.layout == first.layout && part.dims.len() == rank;
        if at != channel_axis || !parts.iter().all(fits) {
            return Err(format!(
                "the attribute axis is {at} of {:?}; that of the channels is read",
                first.dims
            ));
        }
        let ids: Vec<NodeId> = parts.iter().map(|part| part.node).collect();
        let mut dims = first.dims.clone();
        let layout = first.layout;
        let name = self.name(node, None);
        let id = self.add(name, Concat {}, &ids)?;
        dims[channel_axis] = self.shapes[id].c;
        Ok(Activation { node: id, dims, layout })
    }

    /// The axis of `x` that rows, columns or channels are on: 0 for channels, then rows and columns.
    fn axis_of(x: &Activation, at: usize) -> Option<usize> {
        match (x.layout, at) {
            (_, 0) => None,
            (Layout::Nhwc, 3) | (Layout::Channels, 1) => Some(0),
            (Layout::Nhwc, 1) | (Layout::Channels, 2) => Some(1),
            (Layout::Nhwc, 2) | (Layout::Channels, 3) => Some(2),
            _ => None,
        }
    }

    fn dims_of(&self, id: NodeId, like: &Activation) -> Activation {
        let Shape { c, h, w } = self.shapes[id];
        let dims = match like.layout {
            Layout::Nhwc => vec![self.batch, h, w, c],
            _ if like.dims.len() == 2 => vec![self.batch, c],
            _ => vec![self.batch, c, h, w],
        };
        Activation { node: id, dims, layout: like.layout }
    }

    fn pad(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        if !self.is_plain(&x) {
            return Err(format!("an input of {:?}", x.dims));
        }
        let value = match node.attribute("value") {
            Some(_) => float(node, "value", 0.0)?,
            None => self.optional(node, 2)?.map_or(Ok(0.0), |value| value.scalar())?,
        };
        if value != 0.0 {
            return Err(format!("padding with {value}; with zeros is read"));
        }
        let pads = match (ints(node, "pads")?, ints(node, "paddings")?) {
            (Some(pads), _) | (None, Some(pads)) => pads.to_vec(),
            (None, None) => self.required(node, 1)?.to_ints()?,
        };
        let rank = x.dims.len();
        let axes: Vec<usize> = match self.optional(node, 3)? {
            Some(axes) => axes.to_ints()?.iter().map(|&at| axis(at, rank)).collect::<Outcome<_>>()?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() || pads.iter().any(|pad| !(0..=LARGEST_STEP).contains(pad)) {
            return Err(format!("pads of {pads:?}; sizes of at least 0 for each side are read"));
        }
        let mut sides = [[0usize; 2]; 3];
        for (place, &at) in axes.iter().enumerate() {
            let around = [pads[place] as usize, pads[axes.len() + place] as usize];
            match Self::axis_of(&x, at) {
                Some(side) => sides[side] = around,
                None if around == [0, 0] => {}
                None => return Err(format!("pads of {pads:?}, some of them between images")),
            }
        }
        let [[before, after], [top, bottom], [left, right]] = sides;
        self.work(before + after)?;
        let mut id = x.node;
        let padding = Padding { top, left, bottom, right };
        if padding != Padding::default() {
            let name = self.name(node, None);
            id = self.add(name, Pad2d { padding }, &[id])?;
        }
        if before + after > 0 {
            let zeros = |count: usize| std::iter::repeat_n(None, count);
            let channels = self.shapes[id].c;
            let source = zeros(before).chain((0..channels).map(Some)).chain(zeros(after)).collect();
            id = self.rearranged(node, id, [1, 1], source)?;
        }
        Ok(self.dims_of(id, &x))
    }

    /// Channels rearranged and pixels subsampled; a rearrangement of a rearrangement is one.
    fn rearranged(
        &mut self,
        node: &Node<'a>,
        id: NodeId,
        stride: [usize; 2],
        source: Vec<Option<usize>>,
    ) -> Outcome<NodeId> {
        let (mut input, mut pad) = (id, ChannelPad { stride, source });
        if let Op::ChannelPad(before) = &self.nodes[id].op {
            let composed = pad.source.iter().map(|source| source.and_then(|channel| before.source[channel]));
            let steps = |side: usize| before.stride[side].checked_mul(stride[side]);
            if let (Some(down), Some(across)) = (steps(0), steps(1)) {
                pad = ChannelPad { stride: [down, across], source: composed.collect() };
                input = self.nodes[id].inputs[0];
            }
        }
        self.hold(size_of_val(pad.source.as_slice()))?;
        let name = self.name(node, None);
        self.add(name, pad, &[input])
    }

    fn slice(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        if !self.is_plain(&x) {
            return Err(format!("an input of {:?}", x.dims));
        }
        let mut id = x.node;
        let mut stride = [1; 2];
        let mut kept: Option<Vec<Option<usize>>> = None;
        for (at, places) in self.slices(node, &x.dims)? {
            let side = x.dims[at];
            let step = places.get(1).map_or(side, |second| second.saturating_sub(places[0])).max(1);
            let from_the_first = places.iter().copied().eq((0..side).step_by(step));
            match Self::axis_of(&x, at) {
                _ if from_the_first && step == 1 => {}
                Some(0) => kept = Some(places.into_iter().map(Some).collect()),
                Some(row_or_column) if from_the_first => stride[row_or_column - 1] = step,
                _ => {
                    return Err(format!(
                        "a part of axis {at} of {:?}; every so many pixels, and any channels, are read",
                        x.dims
                    ));
                }
            }
        }
        let channels = self.shapes[id].c;
        if stride != [1, 1] || kept.is_some() {
            let source = kept.unwrap_or_else(|| (0..channels).map(Some).collect());
            id = self.rearranged(node, id, stride, source)?;
        }
        Ok(self.dims_of(id, &x))
    }

    /// The places that a slice takes along each of its axes.
    pub(super) fn slices(&mut self, node: &Node<'a>, dims: &[usize]) -> Outcome<Vec<(usize, Vec<usize>)>> {
        let (starts, ends) = match (ints(node, "starts")?, ints(node, "ends")?) {
            (Some(starts), Some(ends)) => (starts.to_vec(), ends.to_vec()),
            _ => (self.required(node, 1)?.to_ints()?, self.required(node, 2)?.to_ints()?),
        };
        if starts.len() > dims.len() {
            return Err(format!("parts of {} axes of {dims:?}", starts.len()));
        }
        let axes = match ints(node, "axes")? {
            Some(axes) => Some(axes.to_vec()),
            None => self.optional(node, 3)?.map(|axes| axes.to_ints()).transpose()?,
        };
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.optional(node, 4)?.map(|steps| steps.to_ints()).transpose()?;
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("starts, ends, axes and steps of different lengths".into());
        }
        let mut slices = Vec::new();
        for (((start, end), at), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let at = axis(at, dims.len())?;
            let side = dims[at] as i64;
            let place = |place: i64| if place < 0 { place.saturating_add(side) } else { place };
            let places: Vec<usize> = match usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX) {
                0 => return Err("a step of 0".into()),
                step_size if step > 0 => {
                    let [start, end] = [start, end].map(|at| place(at).clamp(0, side) as usize);
                    (start..end.max(start)).step_by(step_size).collect()
                }
                step_size => {
                    // Backwards: an end before the first place takes the first one too.
                    let start = (place(start).clamp(-1, side - 1) + 1) as usize;
                    let end = if end < -side { 0 } else { (place(end).clamp(-1, side - 1) + 1) as usize };
                    (end..start.max(end)).rev().step_by(step_size).collect()
                }
            };
            if places.is_empty() {
                return Err(format!("nothing of axis {at}"));
            }
            slices.push((at, places));
        }
        Ok(slices)
    }

    fn gather(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let indices = self.required(node, 1)?;
        let at = axis(int(node, "axis", 0)?, x.dims.len())?;
        if at > 0 && x.dims[at] == 1 && indices.dims.is_empty() {
            places(&indices.to_ints()?, 1)?;
            let mut dims = x.dims.clone();
            dims.remove(at);
            return self.reshape(node, &x, dims);
        }
        if !self.is_plain(&x) || Self::axis_of(&x, at) != Some(0) || indices.dims.len() != 1 {
            return Err(format!("entries of axis {at} of {:?}; channels are read", x.dims));
        }
        let channels = self.shapes[x.node].c;
        let source = places(&indices.to_ints()?, channels)?.into_iter().map(Some).collect();
        let id = self.rearranged(node, x.node, [1, 1], source)?;
        Ok(self.dims_of(id, &x))
    }

    fn split(&mut self, node: &'a Node<'a>) -> Outcome<Vec<Value>> {
        let x = self.activation(node, 0)?;
        let at = axis(int(node, "axis", 0)?, x.dims.len())?;
        if !self.is_plain(&x) || Self::axis_of(&x, at) != Some(0) {
            return Err(format!("axis {at} of {:?}; that of the channels is read", x.dims));
        }
        let (channels, parts) = (self.shapes[x.node].c, node.outputs.len().max(1));
        let sizes = match ints(node, "split")? {
            Some(sizes) => Some(sizes.to_vec()),
            None => self.optional(node, 1)?.map(|sizes| sizes.to_ints()).transpose()?,
        };
        let even = channels.div_ceil(parts) as i64;
        let sizes = sizes.unwrap_or_else(|| {
            (0..parts as i64).map(|part| even.min(channels as i64 - part * even).max(0)).collect()
        });
        let fits = sizes.len() == parts && sizes.iter().all(|&size| size > 0 && size <= channels as i64);
        if !fits || sizes.iter().sum::<i64>() != channels as i64 {
            return Err(format!("parts of {sizes:?} out of {channels} channels"));
        }
        let mut values = Vec::new();
        let mut start = 0;
        for size in sizes {
            let end = start + size as usize;
            let id = self.rearranged(node, x.node, [1, 1], (start..end).map(Some).collect())?;
            values.push(Value::Activation(self.dims_of(id, &x)));
            start = end;
        }
        Ok(values)
    }

    /// The same numbers in other dimensions.
    fn reshape(&mut self, node: &Node<'a>, x: &Activation, dims: Vec<usize>) -> Outcome<Activation> {
        let shape = self.shapes[x.node];
        let told = || format!("{:?} as {dims:?}; flattening, and sides of 1, are read", x.dims);
        if dims == x.dims {
            return Ok(x.clone());
        }
        if dims.first() != Some(&self.batch) {
            return Err(told());
        }
        let canonical = [self.batch, shape.c, shape.h, shape.w];
        let inner = || dims[1..].iter().product::<usize>();
        match x.layout {
            Layout::Channels | Layout::Nhwc if shape.pixels() == 1 => {
                Ok(Activation { node: x.node, dims, layout: Layout::Channels })
            }
            Layout::Channels if dims.len() == 2 && inner() == shape.len() => {
                let name = self.name(node, None);
                Ok(Activation {
                    node: self.add(name, Flatten {}, &[x.node])?,
                    dims,
                    layout: Layout::Channels,
                })
            }
            Layout::Nhwc if dims.len() == 2 && inner() == shape.len() => {
                Ok(Activation { node: x.node, dims, layout: Layout::FlatHwc })
            }
            Layout::Channels if dims == canonical || dims == [self.batch, shape.c, shape.pixels()] => {
                Ok(Activation { node: x.node, dims, layout: Layout::Channels })
            }
            Layout::Channels
                if dims.len() == 5
                    && dims[1].checked_mul(dims[2]) == Some(shape.c)
                    && dims[3..] == [shape.h, shape.w] =>
            {
                let layout = Layout::Groups(dims[1]);
                Ok(Activation { node: x.node, dims, layout })
            }
            Layout::Shuffled(groups) if dims == canonical => {
                let each = shape.c / groups.max(1);
                let source = (0..shape.c).map(|k| Some(k % groups * each + k / groups)).collect();
                let id = self.rearranged(node, x.node, [1, 1], source)?;
                Ok(self.channels(id))
            }
            _ => Err(told()),
        }
    }

    fn transpose(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let rank = x.dims.len();
        let perm: Vec<usize> = match ints(node, "perm")? {
            Some(perm) => perm.iter().map(|&at| axis(at, rank)).collect::<Outcome<_>>()?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return Err(format!("the attribute perm is {perm:?}"));
        }
        let dims: Vec<usize> = perm.iter().map(|&at| x.dims[at]).collect();
        let pixels = self.shapes[x.node].pixels();
        let layout = match (x.layout, perm.as_slice()) {
            (layout, perm) if perm.is_sorted() => layout,
            (Layout::Channels, [0, 2, 3, 1]) if self.is_plain(&x) => Layout::Nhwc,
            (Layout::Nhwc, [0, 3, 1, 2]) => Layout::Channels,
            (Layout::Groups(groups), [0, 2, 1, 3, 4]) => Layout::Shuffled(groups),
            (Layout::Channels, [0, ..]) if pixels == 1 => Layout::Channels,
            _ => return Err(format!("the attribute perm is {perm:?} over {:?}", x.dims)),
        };
        Ok(Activation { node: x.node, dims, layout })
    }

    fn linear(&mut self, node: &Node<'a>) -> Outcome<Activation> {
        let x = self.activation(node, 0)?;
        let shape = self.shapes[x.node];
        let weight = self.owned(node, 1)?;
        let &[first, second] = weight.dims.as_slice() else {
            return Err(format!("weights of {:?}; a matrix is read", weight.dims));
        };
        let is_gemm = node.op == "Gemm";
        let by_rows = is_gemm && int(node, "transB", 0)? == 1;
        let (inputs, outputs) = if by_rows { (second, first) } else { (first, second) };
        let fits = match x.layout {
            Layout::Channels => shape == Shape::new(inputs, 1, 1) && x.dims == [self.batch, inputs],
            Layout::FlatHwc => shape.len() == inputs,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "weights of {:?} for an input of {:?}; one vector an image is read",
                weight.dims, x.dims
            ));
        }
        let numbers = weight.into_floats();
        let mut numbers = if by_rows { numbers } else { transposed(&numbers, inputs, outputs) };
        let alpha = if is_gemm { float(node, "alpha", 1.0)? } else { 1.0 };
        let beta = if is_gemm { float(node, "beta", 1.0)? } else { 1.0 };
        numbers.iter_mut().for_each(|x| *x *= alpha);
        let mut input = x.node;
        if x.layout == Layout::FlatHwc {
            // Columns in the order of rows, columns, channels become those of channels, rows, columns.
            let column = |feature: usize| feature % shape.pixels() * shape.c + feature / shape.pixels();
            numbers = numbers
                .chunks_exact(inputs)
                .flat_map(|row| (0..inputs).map(move |feature| row[column(feature)]))
                .collect();
            let name = self.name(node, None) + ".flatten";
            input = self.add(name, Flatten {}, &[input])?;
        }
        let has_bias = is_gemm && node.inputs.get(2).is_some_and(|name| !name.is_empty());
        let bias = if has_bias { Bias::With } else { Bias::Without };
        let name = self.name(node, node.inputs.get(1).copied().or(Some("")));
        let id =
            self.add(name.clone(), Linear { in_features: inputs, out_features: outputs, bias }, &[input])?;
        self.keep(&name, "weight", vec![outputs, inputs], numbers)?;
        if has_bias {
            let bias = self.required(node, 2)?;
            let told = || format!("a bias of {:?} for {outputs} outputs", bias.dims);
            let numbers = match (bias.len(), bias.dims.as_slice()) {
                (1, _) => vec![bias.scalar()?; outputs],
                (len, [_] | [1, _]) if len == outputs => bias.floats().into_owned(),
                _ => return Err(told()),
            };
            self.keep(&name, "bias", vec![outputs], numbers.iter().map(|x| beta * x).collect())?;
        }
        Ok(Activation { node: id, dims: vec![self.batch, outputs], layout: Layout::Channels })
    }

    fn shape_of(&self, node: &Node<'a>) -> Outcome<Constant> {
        let dims = self.activation(node, 0)?.dims;
        let place = |value: i64| {
            let from_front = if value < 0 { value.saturating_add(dims.len() as i64) } else { value };
            from_front.clamp(0, dims.len() as i64) as usize
        };
        let (start, end) = (place(int(node, "start", 0)?), place(int(node, "end", i64::MAX)?));
        let part = dims.get(start..end).unwrap_or_default();
        Ok(Constant::ints(part.iter().map(|&side| side as i64).collect()))
    }
}

/// Indices counted from the front.
pub(super) fn places(indices: &[i64], side: usize) -> Outcome<Vec<usize>> {
    indices.iter().map(|&at| axis(at, side)).collect()
}

/// The dimensions that `Reshape` asks for: 0 is as before, -1 is what is left.
pub(super) fn reshaped(dims: &[usize], wanted: &[i64], zero_is_zero: bool) -> Outcome<Vec<usize>> {
    let told = || format!("{dims:?} as {wanted:?}");
    few(wanted.len())?;
    let total = count(dims)?;
    let mut open = None;
    let mut sides = Vec::with_capacity(wanted.len());
    for (at, &side) in wanted.iter().enumerate() {
        match side {
            -1 if open.is_none() => {
                open = Some(at);
                sides.push(1);
            }
            0 if !zero_is_zero => sides.push(*dims.get(at).ok_or_else(told)?),
            side => sides.push(usize::try_from(side).map_err(|_| told())?),
        }
    }
    let known = count(&sides)?;
    if let Some(at) = open {
        sides[at] = total.checked_div(known).ok_or_else(told)?;
    }
    if count(&sides)? != total {
        return Err(told());
    }
    Ok(sides)
}

/// The dimensions without sides of 1, or with more of them.
pub(super) fn squeezed(op: &str, dims: &[usize], axes: Option<&[i64]>) -> Outcome<Vec<usize>> {
    let resolve = |axes: &[i64], rank: usize| -> Outcome<Vec<usize>> {
        let mut axes: Vec<usize> = axes.iter().map(|&at| axis(at, rank)).collect::<Outcome<_>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    };
    if op == "Unsqueeze" {
        let axes = axes.ok_or("no axes")?;
        few(dims.len() + axes.len())?;
        let mut more = dims.to_vec();
        for at in resolve(axes, dims.len() + axes.len())? {
            if at > more.len() {
                return Err(format!("axis {at} of {dims:?}"));
            }
            more.insert(at, 1);
        }
        return Ok(more);
    }
    let gone: Vec<usize> = match axes {
        Some(axes) => resolve(axes, dims.len())?,
        None => (0..dims.len()).filter(|&at| dims[at] == 1 && at > 0).collect(),
    };
    if let Some(&at) = gone.iter().find(|&&at| dims[at] != 1) {
        return Err(format!("axis {at} of {dims:?}, which is not 1"));
    }
    Ok((0..dims.len()).filter(|at| !gone.contains(at)).map(|at| dims[at]).collect())
}
