//! Records dispatches over virtual tensors; operators call it, the plan gives the tensors memory afterwards.

use super::fusion::{Fused, Fusion};
use super::{Arenas, Layout, Mode};
use crate::device::{Buffer, BufferSlice, Device, Dispatch, Kernel, Params};
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::add::{ACCUMULATE, AccumulateParams};
use crate::ops::{BatchNorm2d, Op, batch_norm_relu, conv_batch_norm};
use crate::shape::Shape;

/// A virtual tensor of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor(usize);

impl Tensor {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// What a dispatch binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// An activation, gradient of one, or scratch.
    Tensor(Tensor),
    /// A node's parameter, by its name within the node.
    Parameter(NodeId, &'static str),
    /// The gradient of a node's parameter.
    Gradient(NodeId, &'static str),
    /// A node's running statistic.
    Statistic(NodeId, &'static str),
}

impl From<Tensor> for Operand {
    fn from(tensor: Tensor) -> Operand {
        Operand::Tensor(tensor)
    }
}

/// A node as its operator sees it while recording.
#[derive(Debug, Clone)]
pub struct NodeIo {
    id: NodeId,
    batch: usize,
    mode: Mode,
    inputs: Vec<(NodeId, Tensor, Shape)>,
    output: Option<Tensor>,
    output_shape: Shape,
}

impl NodeIo {
    /// N: images in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether batch statistics and gradients are wanted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Input `i`'s tensor.
    pub fn input(&self, i: usize) -> Tensor {
        self.inputs[i].1
    }

    /// Input `i`'s shape for one image.
    pub fn input_shape(&self, i: usize) -> Shape {
        self.inputs[i].2
    }

    /// The output tensor; only in the backward pass.
    pub fn output(&self) -> Tensor {
        match self.output {
            Some(tensor) => tensor,
            None => panic!("the output exists only after the forward pass"),
        }
    }

    /// The output's shape for one image.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// Words of input `i` for the whole batch.
    pub fn input_words(&self, i: usize) -> usize {
        self.batch * self.inputs[i].2.len()
    }

    /// Words of the output for the whole batch.
    pub fn output_words(&self) -> usize {
        self.batch * self.output_shape.len()
    }

    /// A parameter of this node.
    pub fn parameter(&self, name: &'static str) -> Operand {
        Operand::Parameter(self.id, name)
    }

    /// The gradient of a parameter of this node.
    pub fn gradient(&self, name: &'static str) -> Operand {
        Operand::Gradient(self.id, name)
    }

    /// A running statistic of this node.
    pub fn statistic(&self, name: &'static str) -> Operand {
        Operand::Statistic(self.id, name)
    }
}

#[derive(Debug)]
struct Call {
    kernel: &'static Kernel,
    params: Vec<u8>,
    operands: Vec<Operand>,
    node: Option<NodeId>,
}

/// The recording under way.
#[derive(Debug)]
pub struct Recorder<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    layout: &'a Layout,
    batch: usize,
    mode: Mode,
    parallelism: usize,
    sizes: Vec<usize>,
    pinned: Vec<Option<Pin>>,
    calls: Vec<Call>,
    values: Vec<Option<Tensor>>,
    saved: Vec<Vec<Tensor>>,
    gradients: Vec<Option<Tensor>>,
    wants_gradient: Vec<bool>,
    fusion: Fusion,
    current: Option<NodeId>,
}

#[derive(Debug, Clone)]
enum Pin {
    Buffer(BufferSlice),
    Constant(Vec<u32>),
    External,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        shapes: &'a [Shape],
        layout: &'a Layout,
        batch: usize,
        mode: Mode,
        parallelism: usize,
    ) -> Self {
        let nodes = graph.nodes.len();
        let mut wants_gradient = vec![false; nodes];
        for (id, node) in graph.nodes.iter().enumerate() {
            let trained = node.op.operator().parameters().iter().any(|spec| spec.kind.is_trained());
            wants_gradient[id] = trained || node.inputs.iter().any(|&input| wants_gradient[input]);
        }
        Recorder {
            graph,
            shapes,
            layout,
            batch,
            mode,
            parallelism,
            sizes: Vec::new(),
            pinned: Vec::new(),
            calls: Vec::new(),
            values: vec![None; nodes],
            saved: vec![Vec::new(); nodes],
            gradients: vec![None; nodes],
            wants_gradient,
            fusion: Fusion::find(graph, mode),
            current: None,
        }
    }

    /// Records every node by itself, so that every node has a value.
    pub(super) fn without_fusion(mut self) -> Self {
        self.fusion = Fusion::none(self.graph);
        self
    }

    /// A new tensor of `words` 4-byte words; its content is undefined until a dispatch writes it.
    pub fn tensor(&mut self, words: usize) -> Tensor {
        self.sizes.push(words);
        self.pinned.push(None);
        Tensor(self.sizes.len() - 1)
    }

    pub(super) fn pinned(&mut self, slice: BufferSlice) -> Tensor {
        let tensor = self.tensor(slice.words());
        self.pinned[tensor.0] = Some(Pin::Buffer(slice));
        tensor
    }

    pub(super) fn external(&mut self, words: usize) -> Tensor {
        let tensor = self.tensor(words);
        self.pinned[tensor.0] = Some(Pin::External);
        tensor
    }

    /// A tensor that holds `words` from before the first run on, such as a channel map; dispatches only read it.
    pub fn constant(&mut self, words: &[u32]) -> Tensor {
        let tensor = self.tensor(words.len());
        self.pinned[tensor.0] = Some(Pin::Constant(words.to_vec()));
        tensor
    }

    /// Gives every constant its own buffer, which the dispatches then keep alive.
    pub(super) fn upload_constants(&mut self, device: &Device) -> Result<()> {
        for pin in self.pinned.iter_mut().flatten() {
            if let Pin::Constant(words) = pin {
                let slice = device.buffer("constant", words.len())?.all();
                device.write_u32(&slice, words);
                *pin = Pin::Buffer(slice);
            }
        }
        Ok(())
    }

    /// N: images in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// What the plan computes.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// [`crate::device::Device::parallelism`] of the device recorded for.
    pub fn parallelism(&self) -> usize {
        self.parallelism
    }

    /// Records one kernel call; operands in the order of the kernel's bindings.
    pub fn dispatch(&mut self, kernel: &'static Kernel, params: &impl Params, operands: &[Operand]) {
        self.calls.push(Call {
            kernel,
            params: bytemuck::bytes_of(params).to_vec(),
            operands: operands.to_vec(),
            node: self.current,
        });
    }

    /// Node `id`'s output.
    pub fn value(&self, id: NodeId) -> Tensor {
        match self.values[id] {
            Some(tensor) => tensor,
            None => panic!("node {id} has no value yet"),
        }
    }

    /// Keeps a tensor made in the forward pass for the node's backward pass.
    pub fn save(&mut self, node: &NodeIo, tensor: Tensor) {
        self.saved[node.id].push(tensor);
    }

    /// The tensors kept by [`Recorder::save`], in order.
    pub fn saved(&self, node: &NodeIo) -> &[Tensor] {
        &self.saved[node.id]
    }

    /// The complete gradient of the node's output.
    pub fn output_gradient(&self, node: &NodeIo) -> Tensor {
        match self.gradients[node.id] {
            Some(tensor) => tensor,
            None => panic!("node {} has no gradient", node.id),
        }
    }

    /// Where to put the gradient of input `i`: the tensor and the kernel's `accumulate` flag (the first consumer
    /// writes, later ones add). `None` when nothing upstream is trained.
    pub fn input_gradient(&mut self, node: &NodeIo, i: usize) -> Option<(Tensor, u32)> {
        let input = node.inputs[i].0;
        if !self.wants_gradient[input] {
            return None;
        }
        match self.gradients[input] {
            None => {
                let tensor = self.tensor(self.batch * self.shapes[input].len());
                self.gradients[input] = Some(tensor);
                Some((tensor, 0))
            }
            Some(tensor) => Some((self.own_gradient(node.id, input, tensor), 1)),
        }
    }

    /// Passes the output's gradient on to input `i` unchanged: without a copy when it is the first to arrive there.
    pub fn pass_gradient(&mut self, node: &NodeIo, i: usize) {
        let dy = self.output_gradient(node);
        self.pass(dy, node.id, node.inputs[i].0);
    }

    /// Passes `dy` on from `node` as a gradient of `input`.
    fn pass(&mut self, dy: Tensor, node: NodeId, input: NodeId) {
        if !self.wants_gradient[input] {
            return;
        }
        match self.gradients[input] {
            None => self.gradients[input] = Some(dy),
            Some(tensor) => {
                let owned = self.own_gradient(node, input, tensor);
                self.accumulate(dy, owned, 1);
            }
        }
    }

    /// `tensor` if only `input` still needs it as its gradient, else a copy: it is about to be added to.
    fn own_gradient(&mut self, node: NodeId, input: NodeId, tensor: Tensor) -> Tensor {
        let shared = (0..=node).any(|other| other != input && self.gradients[other] == Some(tensor));
        if !shared {
            return tensor;
        }
        let copy = self.tensor(self.sizes[tensor.0]);
        self.accumulate(tensor, copy, 0);
        self.gradients[input] = Some(copy);
        copy
    }

    fn accumulate(&mut self, from: Tensor, to: Tensor, accumulate: u32) {
        let params = AccumulateParams { len: self.sizes[from.0] as u32, accumulate };
        self.dispatch(&ACCUMULATE, &params, &[from.into(), to.into()]);
    }

    pub(super) fn forward(&mut self, images: Tensor) {
        self.values[0] = Some(images);
        for id in 1..self.graph.nodes.len() {
            if self.fusion.is_inner(id) {
                continue;
            }
            self.current = Some(id);
            let value = match self.fusion.at(id) {
                Some(fused) => self.fused_forward(fused),
                None => {
                    let io = self.io(id);
                    self.graph.nodes[id].op.operator().forward(self, &io)
                }
            };
            self.values[id] = Some(value);
        }
        self.current = None;
    }

    fn norm(&self, id: NodeId) -> &'a BatchNorm2d {
        match &self.graph.nodes[id].op {
            Op::BatchNorm2d(norm) => norm,
            op => panic!("node {id} is a {} and no batch norm", op.type_name()),
        }
    }

    fn fused_forward(&mut self, fused: Fused) -> Tensor {
        let norm = self.norm(fused.norm);
        let residual = fused.residual.map(|id| self.value(id));
        let Some(conv) = fused.conv else {
            let io = self.io(fused.norm);
            return batch_norm_relu::forward(norm, self, &io, residual);
        };
        let Op::Conv2d(op) = &self.graph.nodes[conv].op else { panic!("node {conv} is no convolution") };
        let io = self.io(conv);
        conv_batch_norm::forward((op, &io), (norm, fused.norm), self, residual, fused.relu)
    }

    fn fused_backward(&mut self, fused: Fused, last: NodeId) {
        let (y, Some(dy)) = (self.value(last), self.gradients[last]) else { return };
        let io = self.io(fused.norm);
        let dz = batch_norm_relu::backward(self.norm(fused.norm), self, &io, y, dy);
        // Only now that nobody here reads dz any more: whoever comes next may add to it in place.
        if let Some(residual) = fused.residual {
            self.pass(dz, last, residual);
        }
    }

    /// Records the backward pass from the gradient of the logits.
    pub(crate) fn backward(&mut self, logits_gradient: Tensor) {
        self.gradients[self.graph.output()] = Some(logits_gradient);
        for id in (1..self.graph.nodes.len()).rev() {
            if self.wants_gradient[id] && self.gradients[id].is_some() {
                self.current = Some(id);
                if let Some(fused) = self.fusion.at(id) {
                    self.fused_backward(fused, id);
                    continue;
                }
                let io = self.io(id);
                self.graph.nodes[id].op.operator().backward(self, &io);
            }
        }
        self.current = None;
    }

    fn io(&self, id: NodeId) -> NodeIo {
        let inputs = self.graph.nodes[id].inputs.iter();
        NodeIo {
            id,
            batch: self.batch,
            mode: self.mode,
            inputs: inputs.map(|&input| (input, self.value(input), self.shapes[input])).collect(),
            output: self.values[id],
            output_shape: self.shapes[id],
        }
    }

    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_pinned(&self, tensor: usize) -> bool {
        self.pinned[tensor].is_some()
    }

    /// For each call its time and the tensors it touches.
    pub(super) fn uses(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = usize>)> {
        self.calls.iter().enumerate().map(|(time, call)| {
            let tensors = call.operands.iter().filter_map(|operand| match operand {
                Operand::Tensor(tensor) => Some(tensor.0),
                _ => None,
            });
            (time, tensors)
        })
    }

    pub(super) fn placed(&self, tensor: Tensor, place: &[Option<usize>], slots: &[Buffer]) -> BufferSlice {
        match (&self.pinned[tensor.0], place[tensor.0]) {
            (Some(Pin::Buffer(slice)), _) => slice.clone(),
            (None, Some(slot)) => slots[slot].slice(0, self.sizes[tensor.0]),
            _ => panic!("tensor {} has no memory", tensor.0),
        }
    }

    pub(super) fn dispatches(
        &self,
        device: &Device,
        arenas: &Arenas,
        place: &impl Fn(Tensor) -> BufferSlice,
    ) -> Vec<Dispatch> {
        let resolve = |operand: &Operand| match operand {
            Operand::Tensor(tensor) => place(*tensor),
            Operand::Parameter(node, name) => {
                arenas.slice_of(arenas.parameters(), self.layout.entry(*node, name))
            }
            Operand::Gradient(node, name) => {
                arenas.slice_of(arenas.gradients(), self.layout.entry(*node, name))
            }
            Operand::Statistic(node, name) => {
                arenas.slice_of(arenas.statistics(), self.layout.entry(*node, name))
            }
        };
        let calls = self.calls.iter().map(|call| Dispatch {
            kernel: call.kernel,
            variant: device.variant(call.kernel, &call.params),
            params: call.params.clone(),
            bindings: call.operands.iter().map(resolve).collect(),
            label: call.node.map_or_else(|| "loss".to_owned(), |id| self.graph.nodes[id].name.clone()),
        });
        calls.collect()
    }
}
