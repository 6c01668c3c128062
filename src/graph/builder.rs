//! Builds a graph node by node; used by the model zoo and the importers.

use super::{Graph, Node, NodeId};
use crate::ops::{Input, Op};
use crate::shape::Shape;

/// Appends nodes in topological order.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An empty network called `name` over images of shape `input`; the image is node 0.
    pub fn new(name: &str, input: Shape) -> Self {
        let image = Node { name: "input".into(), op: Op::Input(Input {}), inputs: Vec::new() };
        GraphBuilder { graph: Graph { name: name.into(), input, nodes: vec![image] } }
    }

    /// The input image.
    pub fn input(&self) -> NodeId {
        0
    }

    /// Appends a node and returns its index.
    pub fn add(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> NodeId {
        self.graph.nodes.push(Node { name: name.into(), op: op.into(), inputs: inputs.to_vec() });
        self.graph.output()
    }

    /// The finished graph; the last node added is its output.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
