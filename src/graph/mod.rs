//! A network as plain data: a list of named nodes in topological order.

mod builder;
mod coupling;

pub use builder::GraphBuilder;
pub use coupling::{Coupling, Group, Member};

use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::ops::{Op, ParamSpec};
use crate::shape::Shape;
use serde::Serialize;

/// Most channels, pixels or nodes that a graph from a file may ask for: a guard against hostile files.
const MAX_EXTENT: usize = 1 << 24;

/// Most output channels of all nodes together, four times those of a ResNet-152: coupling keeps a hundred bytes for each.
const MAX_CHANNELS: usize = 1 << 20;

/// Whether a network can have an activation of this shape.
pub(crate) fn is_sensible(shape: Shape) -> bool {
    let extents = [shape.c, shape.h, shape.w];
    let total = extents.iter().try_fold(1usize, |total, &x| total.checked_mul(x));
    !extents.contains(&0) && total.is_some_and(|total| total <= MAX_EXTENT)
}

/// Index of a node in its graph.
pub type NodeId = usize;

/// One operator applied to earlier nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its name, the prefix of its parameters' PyTorch names (`layer1.0.conv1`).
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes it reads, all of them earlier in the list.
    pub inputs: Vec<NodeId>,
}

from_json!(Node { name, op, inputs });

/// A directed acyclic graph of operators. Node 0 is the input image, the last node the logits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graph {
    /// What the architecture is called (`resnet20`).
    pub name: String,
    /// Shape of one input image.
    pub input: Shape,
    /// The nodes in topological order.
    pub nodes: Vec<Node>,
}

from_json!(Graph { name, input, nodes });

impl Graph {
    /// The last node: the logits.
    pub fn output(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// The output shape of every node for one image.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] naming the first node whose inputs do not fit; graphs from files are checked by this.
    pub fn shapes(&self) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        let mut channels = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            let fail = |expected: String, found: String| {
                Error::new(ErrorKind::Shape, format!("checking node {index} ({})", node.name))
                    .expected(expected)
                    .found(found)
            };
            if (index == 0) != matches!(node.op, Op::Input(_)) {
                return Err(fail(
                    "the input image as the first node and nowhere else".into(),
                    node.op.type_name().to_owned(),
                ));
            }
            if let Some(late) = node.inputs.iter().find(|&&input| input >= index) {
                return Err(fail("inputs earlier in the list".into(), format!("node {late}")));
            }
            let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
            let arity = node.op.arity();
            if !arity.contains(&inputs.len()) {
                return Err(fail(
                    format!("{} to {} inputs", arity.start(), arity.end()),
                    inputs.len().to_string(),
                ));
            }
            let shape = if index == 0 { self.input } else { node.op.operator().output_shape(&inputs)? };
            if !is_sensible(shape) {
                return Err(fail("an output of sensible size".into(), shape.to_string()));
            }
            channels += shape.c;
            if channels > MAX_CHANNELS {
                let found = format!("{channels} up to here");
                return Err(fail(format!("at most {MAX_CHANNELS} channels in all nodes together"), found));
            }
            shapes.push(shape);
        }
        if shapes.len() < 2 {
            return Err(Error::new(ErrorKind::Shape, format!("checking {}", self.name))
                .expected("at least one operator after the input")
                .found(format!("{} nodes", shapes.len())));
        }
        Ok(shapes)
    }

    /// Number of classes: the channels of the output node.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn classes(&self) -> Result<usize> {
        Ok(self.shapes()?[self.output()].len())
    }

    /// Every parameter and running statistic in node order, with its full PyTorch name.
    pub fn parameters(&self) -> Vec<(NodeId, String, ParamSpec)> {
        let named = self.nodes.iter().enumerate().flat_map(|(id, node)| {
            node.op
                .operator()
                .parameters()
                .into_iter()
                .map(move |spec| (id, format!("{}.{}", node.name, spec.name), spec))
        });
        named.collect()
    }

    /// The nodes that read each node.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                consumers[input].push(id);
            }
        }
        consumers
    }

    /// The node called `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Multiply-accumulates for one image, convolutions and linear layers only (one MAC counts as 1).
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn macs(&self) -> Result<u64> {
        let shapes = self.shapes()?;
        Ok((0..self.nodes.len()).map(|id| self.node_macs(id, &shapes)).sum())
    }

    /// Multiply-accumulates of one node for one image.
    pub fn node_macs(&self, id: NodeId, shapes: &[Shape]) -> u64 {
        let node = &self.nodes[id];
        let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
        node.op.operator().macs(&inputs, shapes[id])
    }

    /// Trainable numbers.
    pub fn parameter_count(&self) -> u64 {
        let trainable = self.parameters().into_iter().filter(|(_, _, spec)| spec.kind.is_trained());
        trainable.map(|(_, _, spec)| spec.len() as u64).sum()
    }
}
