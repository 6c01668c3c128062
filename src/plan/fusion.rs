//! Which nodes run as one kernel. The graph stays plain: that two nodes are one pass is a decision of the plan.
//!
//! Where batch norm is followed by ReLU, or by an addition of two and then ReLU, and nothing else reads what lies between,
//! all are recorded at the last of them. In evaluation the convolution before a batch norm joins too.

use super::Mode;
use crate::graph::{Graph, NodeId};
use crate::ops::{Bias, Op};

/// Nodes recorded as one, at the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fused {
    /// The convolution; only in evaluation.
    pub(super) conv: Option<NodeId>,
    /// The batch norm.
    pub(super) norm: NodeId,
    /// The other operand of the addition behind it.
    pub(super) residual: Option<NodeId>,
    /// Whether ReLU comes last.
    pub(super) relu: bool,
}

/// For each node of a graph whether it runs alone.
#[derive(Debug, Default)]
pub(super) struct Fusion {
    /// By the last node.
    last: Vec<Option<Fused>>,
    /// Nodes that have no value of their own.
    inner: Vec<bool>,
}

impl Fusion {
    /// Every node by itself.
    pub(super) fn none(graph: &Graph) -> Fusion {
        Fusion { last: vec![None; graph.nodes.len()], inner: vec![false; graph.nodes.len()] }
    }

    /// What of `graph` is fused in `mode`.
    pub(super) fn find(graph: &Graph, mode: Mode) -> Fusion {
        let mut fusion = Fusion::none(graph);
        let mut readers = vec![0; graph.nodes.len()];
        for &input in graph.nodes.iter().flat_map(|node| &node.inputs) {
            readers[input] += 1;
        }
        // A ReLU comes after its batch norm, so that a batch norm is taken by it and not by itself.
        for id in (0..graph.nodes.len()).rev() {
            let node = &graph.nodes[id];
            let is_norm = |id: NodeId| matches!(graph.nodes[id].op, Op::BatchNorm2d(_));
            let found = match &node.op {
                Op::Relu(_) if readers[node.inputs[0]] == 1 => {
                    let before = node.inputs[0];
                    match (&graph.nodes[before].op, &graph.nodes[before].inputs[..]) {
                        (Op::BatchNorm2d(_), _) => Some((before, None)),
                        (Op::Add(_), &[a, b]) if is_norm(a) && readers[a] == 1 => {
                            Some((a, Some((before, b))))
                        }
                        (Op::Add(_), &[a, b]) if is_norm(b) && readers[b] == 1 => {
                            Some((b, Some((before, a))))
                        }
                        _ => None,
                    }
                }
                Op::BatchNorm2d(_) if mode == Mode::Evaluate && !fusion.inner[id] => Some((id, None)),
                _ => None,
            };
            let Some((norm, addition)) = found else { continue };
            let before = graph.nodes[norm].inputs[0];
            let conv = match &graph.nodes[before].op {
                Op::Conv2d(conv) => {
                    let joins = mode == Mode::Evaluate && conv.bias == Bias::Without && readers[before] == 1;
                    joins.then_some(before)
                }
                _ => None,
            };
            if mode == Mode::Evaluate && conv.is_none() {
                continue;
            }
            let inner = [conv, Some(norm), addition.map(|(add, _)| add)];
            inner
                .into_iter()
                .flatten()
                .filter(|&inner| inner != id)
                .for_each(|inner| fusion.inner[inner] = true);
            let residual = addition.map(|(_, residual)| residual);
            fusion.last[id] = Some(Fused { conv, norm, residual, relu: norm != id });
        }
        fusion
    }

    /// What is recorded at node `id` in its place.
    pub(super) fn at(&self, id: NodeId) -> Option<Fused> {
        self.last[id]
    }

    /// Whether node `id` is recorded as part of a later one.
    pub(super) fn is_inner(&self, id: NodeId) -> bool {
        self.inner[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelConfig, build};
    use crate::shape::Shape;

    #[test]
    fn a_residual_network_fuses_every_batch_norm() {
        let graph = build("resnet20", &ModelConfig::new(Shape::new(3, 32, 32), 10)).expect("a zoo model");
        let count = |mode, what: fn(&Fused) -> bool| {
            let fusion = Fusion::find(&graph, mode);
            (0..graph.nodes.len()).filter_map(|id| fusion.at(id)).filter(what).count()
        };
        assert_eq!(count(Mode::Train, |_| true), 19);
        assert_eq!(count(Mode::Train, |fused| fused.residual.is_some()), 9);
        assert_eq!(count(Mode::Train, |fused| fused.conv.is_some()), 0);
        // The two projections have no ReLU of their own.
        assert_eq!(count(Mode::Evaluate, |fused| fused.conv.is_some()), 21);
        assert_eq!(count(Mode::Evaluate, |fused| fused.relu), 19);
    }

    #[test]
    fn what_others_read_is_kept() {
        use crate::graph::GraphBuilder;
        use crate::ops::{Add, BatchNorm2d, Relu};
        let mut graph = GraphBuilder::new("shared", Shape::new(2, 4, 4));
        let norm = graph.add("bn", BatchNorm2d::new(2), &[0]);
        let relu = graph.add("relu", Relu {}, &[norm]);
        let sum = graph.add("add", Add {}, &[norm, relu]);
        graph.add("last", Relu {}, &[sum]);
        let graph = graph.finish();
        for mode in [Mode::Train, Mode::Evaluate] {
            let fusion = Fusion::find(&graph, mode);
            assert!((0..graph.nodes.len()).all(|id| fusion.at(id).is_none() && !fusion.is_inner(id)));
        }
    }
}
