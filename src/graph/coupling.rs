//! Which channels of which layers are tied, derived from the graph by union-find over channels.
//!
//! Every channel of every node's output is a point. Each operator says where its channels come from
//! ([`Channels`]); following that, points fall into *classes* that can only be deleted together. Classes that touch
//! the same layers form a *group*: within a group classes may be clustered, and one clustering serves all its layers.
//!
//! A residual stage is one group; with option-A shortcuts the channels of one stage are found inside the next, so that a
//! stage falls into several groups. Flatten gives a class one point for every pixel; a grouped convolution
//! ties the same position of all its groups.

use super::{Graph, NodeId};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{Channels, ParamKind};
use crate::prune::width::GroupKind;
use crate::sort;
use std::collections::BTreeMap;

/// The channels of one node that belong to a group: `channels[i]` is the node's channel in the group's class `i`.
///
/// A node whose classes hold several of its channels (flatten, grouped convolution) has several such rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its channel in each class of the group.
    pub channels: Vec<usize>,
}

/// Channels that are clustered together, in every layer that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The nodes that have these channels, in graph order.
    pub members: Vec<Member>,
    /// Convolutions and linear layers that make these channels, in graph order.
    pub producers: Vec<NodeId>,
    /// The producer whose filters are clustered; the others follow (CSGD.md: pacesetter and followers).
    pub pacesetter: Option<NodeId>,
    /// Why the group may not shrink, if it may not.
    pub frozen: Option<String>,
}

impl Group {
    /// Number of classes: the group's width.
    pub fn width(&self) -> usize {
        self.members[0].channels.len()
    }

    /// Whether several layers' outputs are tied in it.
    pub fn kind(&self) -> GroupKind {
        if self.producers.len() > 1 { GroupKind::Tied } else { GroupKind::Internal }
    }

    /// The rows of `node`'s tensor in this group, one list a class: more than one row when the node has several members.
    pub fn rows_of(&self, node: NodeId) -> Vec<Vec<usize>> {
        let members: Vec<&Member> = self.members.iter().filter(|member| member.node == node).collect();
        (0..self.width()).map(|class| members.iter().map(|member| member.channels[class]).collect()).collect()
    }
}

/// All groups of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupling {
    /// The groups, by their first node.
    pub groups: Vec<Group>,
}

struct Forest {
    parent: Vec<usize>,
}

impl Forest {
    fn root(&mut self, mut point: usize) -> usize {
        while self.parent[point] != point {
            self.parent[point] = self.parent[self.parent[point]];
            point = self.parent[point];
        }
        point
    }

    /// The smaller root wins, so that a class is named by its first point.
    fn tie(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

impl Coupling {
    /// Derives the groups of `graph`. Groups with a layer named in `frozen` may not shrink, nor the image's and
    /// the output's.
    ///
    /// # Errors
    /// As [`Graph::shapes`]; [`ErrorKind::Argument`] for a frozen name that is no node.
    pub fn derive(graph: &Graph, frozen: &[String]) -> Result<Coupling> {
        let shapes = graph.shapes()?;
        let mut offsets = Vec::with_capacity(shapes.len());
        let mut points = 0;
        for shape in &shapes {
            offsets.push(points);
            points += shape.c;
        }
        let mut forest = Forest { parent: (0..points).collect() };
        for (id, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<_> = node.inputs.iter().map(|&input| shapes[input]).collect();
            let input = |i: usize, channel: usize| offsets[node.inputs[i]] + channel;
            let channels = shapes[id].c;
            match node.op.operator().channels(&inputs, shapes[id]) {
                Channels::New => {}
                Channels::Same => {
                    for i in 0..inputs.len() {
                        (0..channels).for_each(|k| forest.tie(offsets[id] + k, input(i, k)));
                    }
                }
                Channels::From(sources) => {
                    for (k, source) in sources.into_iter().enumerate() {
                        if let Some((i, channel)) = source {
                            forest.tie(offsets[id] + k, input(i, channel));
                        }
                    }
                }
                Channels::Grouped(groups) => {
                    let per_group = |width: usize| width / groups.max(1);
                    for point in per_group(channels)..channels {
                        forest.tie(offsets[id] + point % per_group(channels), offsets[id] + point);
                    }
                    for point in per_group(inputs[0].c)..inputs[0].c {
                        forest.tie(input(0, point % per_group(inputs[0].c)), input(0, point));
                    }
                }
            }
        }
        let mut names = BTreeMap::new();
        for name in frozen {
            let id = graph.find(name).ok_or_else(|| {
                Error::new(ErrorKind::Argument, "freezing layers")
                    .expected(format!("the name of a layer of {}", graph.name))
                    .found(name)
                    .next("`centripetal info` lists them")
            })?;
            names.insert(id, format!("{name} is frozen"));
        }
        names.insert(0, "the image".to_owned());
        names.insert(graph.output(), "the network's output".to_owned());

        let mut classes: BTreeMap<usize, Vec<(NodeId, usize)>> = BTreeMap::new();
        for (id, shape) in shapes.iter().enumerate() {
            for channel in 0..shape.c {
                let root = forest.root(offsets[id] + channel);
                classes.entry(root).or_default().push((id, channel));
            }
        }
        let mut by_signature: BTreeMap<Vec<NodeId>, Vec<Vec<usize>>> = BTreeMap::new();
        for class in classes.into_values() {
            let (nodes, channels): (Vec<NodeId>, Vec<usize>) = class.into_iter().unzip();
            by_signature.entry(nodes).or_default().push(channels);
        }
        let depths = depths(graph);
        let mut groups: Vec<Group> = by_signature
            .into_iter()
            .map(|(nodes, classes)| {
                let member = |(i, &node): (usize, &NodeId)| Member {
                    node,
                    channels: classes.iter().map(|channels| channels[i]).collect(),
                };
                let members: Vec<Member> = nodes.iter().enumerate().map(member).collect();
                let mut producers: Vec<NodeId> =
                    nodes.iter().copied().filter(|&node| is_producer(graph, &shapes, node)).collect();
                producers.dedup();
                let pacesetter = producers.iter().copied().min_by_key(|&node| (depths[node], node));
                let frozen = nodes.iter().find_map(|node| names.get(node).cloned());
                Group { members, producers, pacesetter, frozen }
            })
            .collect();
        let place = |group: &Group| (group.members[0].node, group.members[0].channels[0]);
        sort::by(&mut groups, |a, b| place(a).cmp(&place(b)));
        Ok(Coupling { groups })
    }

    /// The groups that may shrink and have filters to cluster.
    pub fn prunable(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.frozen.is_none() && group.pacesetter.is_some())
    }
}

/// Whether a node makes new channels out of all of its input's.
fn is_producer(graph: &Graph, shapes: &[crate::Shape], node: NodeId) -> bool {
    let inputs: Vec<_> = graph.nodes[node].inputs.iter().map(|&input| shapes[input]).collect();
    let operator = graph.nodes[node].op.operator();
    let weighted = operator.parameters().iter().any(|spec| spec.kind == ParamKind::Weight);
    weighted && !matches!(operator.channels(&inputs, shapes[node]), Channels::From(_) | Channels::Same)
}

/// The number of nodes on the longest path from the image to each node. The producer of least depth sets the pace: the
/// first convolution in a first stage, the projection in later ones, as in the paper.
fn depths(graph: &Graph) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        depths.push(node.inputs.iter().map(|&input| depths[input] + 1).max().unwrap_or(0));
    }
    depths
}
