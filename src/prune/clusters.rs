//! The clusters of a whole network: one partition a group, and what it means for every node's channels.

use super::cluster::{Clustering, Partition};
use super::width::{Rounding, WidthRule};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::graph::{Coupling, Graph, Group, NodeId};
use crate::model::Model;
use crate::sort;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose filters are clustered in a group of several layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// The pacesetter's alone, as in the paper.
    #[default]
    Pacesetter,
    /// Those of all producers, side by side.
    Joint,
}

/// How a network is to be clustered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// How wide each group becomes.
    pub widths: WidthRule,
    /// Which way fractions of a channel go.
    pub rounding: Rounding,
    /// Widths are multiples of this.
    pub round_to: usize,
    /// How clusters are found.
    pub clustering: Clustering,
    /// Whose filters are looked at.
    pub pace: Pace,
    /// Layers that keep their channels, by name.
    pub frozen: Vec<String>,
    /// Seed of k-means.
    pub seed: u64,
}

/// The clusters of every node's output channels; a node that is not listed keeps its channels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Clusters {
    nodes: BTreeMap<NodeId, Partition>,
}

from_json!(Clusters { nodes });

impl Clusters {
    /// Finds clusters for every group of `model` by `plan`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for widths that cannot be or names that are not there; [`ErrorKind::Numeric`] for filters
    /// that are not finite.
    pub fn find(model: &Model, coupling: &Coupling, plan: &ClusterPlan) -> Result<Clusters> {
        let graph = &model.graph;
        let names = |group: &Group| -> Vec<String> {
            group.producers.iter().map(|&node| graph.nodes[node].name.clone()).collect()
        };
        let all: Vec<String> = coupling.groups.iter().flat_map(names).collect();
        if let Some(pattern) = plan.widths.unmatched(&all).first() {
            return Err(Error::new(ErrorKind::Argument, "giving layers their widths")
                .expected(format!("names of layers of {}", graph.name))
                .found(pattern)
                .next("`centripetal info` lists them"));
        }
        let shrinking: Vec<String> = coupling.prunable().flat_map(|(_, group)| names(group)).collect();
        if let Some(pattern) = plan.widths.unmatched(&shrinking).first() {
            return Err(Error::new(ErrorKind::Argument, format!("giving {pattern} its width"))
                .expected("a layer that may become narrower")
                .found("one whose channels are frozen, or are the answers of the network")
                .next("`centripetal info FILE --couplings` says which layers are tied to which"));
        }
        let shapes = graph.shapes()?;
        let mut partitions = Vec::new();
        for (index, group) in coupling.prunable() {
            let width = group.width();
            let split = group.producers.iter().any(|&node| shapes[node].c != width);
            if let Some(pattern) = plan.widths.absolute(&names(group)).filter(|_| split) {
                return Err(Error::new(ErrorKind::Argument, format!("giving {pattern} its width"))
                    .expected("a part such as 5/8")
                    .found("a number of channels")
                    .next(
                        "Its channels are tied to other layers in several groups; a part is taken of each",
                    ));
            }
            let keep = match &plan.widths {
                WidthRule::Groups(widths) => widths.get(&index).map_or(width, |&keep| keep.clamp(1, width)),
                rule => rule.width(&names(group), group.kind(), width, plan.rounding, plan.round_to)?,
            };
            if keep == width {
                continue;
            }
            let (rows, row_len) = rows(model, group, plan.pace)?;
            let seed = plan.seed.wrapping_add(index as u64);
            partitions.push((index, plan.clustering.partition(&rows, row_len, keep, seed)?));
        }
        Ok(Clusters::from_groups(graph, coupling, &partitions))
    }

    /// Clusters from one partition of the classes of each group given by its index.
    pub fn from_groups(graph: &Graph, coupling: &Coupling, partitions: &[(usize, Partition)]) -> Clusters {
        let mut labels: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let widths: BTreeMap<NodeId, usize> = coupling
            .groups
            .iter()
            .flat_map(|group| &group.members)
            .map(|member| (member.node, member.channels.len()))
            .fold(BTreeMap::new(), |mut widths, (node, channels)| {
                *widths.entry(node).or_insert(0) += channels;
                widths
            });
        for (index, partition) in partitions {
            for member in &coupling.groups[*index].members {
                let labels = labels.entry(member.node).or_insert_with(|| (0..widths[&member.node]).collect());
                for cluster in partition.clusters() {
                    let survivor = cluster.iter().map(|&class| member.channels[class]).min().unwrap_or(0);
                    for &class in cluster {
                        labels[member.channels[class]] = survivor;
                    }
                }
            }
        }
        let partition = |labels: Vec<usize>| match Partition::from_labels(&labels) {
            Ok(partition) => partition,
            Err(error) => panic!("clusters of {}: {error}", graph.name),
        };
        let nodes = labels.into_iter().map(|(node, labels)| (node, partition(labels)));
        Clusters { nodes: sort::gather(nodes.filter(|(_, partition)| !partition.is_trivial())) }
    }

    /// The partition of a node's output channels, if any of them share a cluster.
    pub fn of_node(&self, node: NodeId) -> Option<&Partition> {
        self.nodes.get(&node)
    }

    /// How many of a group's classes stay.
    pub fn width_of(&self, group: &Group) -> usize {
        let Some((node, partition)) = group.pacesetter.and_then(|node| Some((node, self.of_node(node)?)))
        else {
            return group.width();
        };
        // Other groups may have further channels of the same node: only this group's classes count.
        let owner = partition.cluster_of();
        let rows = group.rows_of(node);
        let kept: std::collections::BTreeSet<usize> =
            sort::gather(rows.iter().filter_map(|rows| rows.first()).map(|&row| owner[row]));
        kept.len()
    }

    /// Whether there is nothing to merge.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Checks clusters that come from a file against the graph they are for.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when a node or a channel count does not exist there.
    pub fn validate(&self, graph: &Graph) -> Result<()> {
        let shapes = graph.shapes()?;
        for (&node, partition) in &self.nodes {
            let channels = shapes.get(node).map(|shape| shape.c);
            if channels != Some(partition.channels()) {
                return Err(Error::new(ErrorKind::Checkpoint, "checking clusters")
                    .expected(format!("{channels:?} channels in node {node}"))
                    .found(partition.channels()));
            }
        }
        Ok(())
    }
}

/// The filters that a group is clustered by: one row a class, all filters of the class side by side.
pub(super) fn rows(model: &Model, group: &Group, pace: Pace) -> Result<(Vec<f32>, usize)> {
    let producers: Vec<NodeId> = match pace {
        Pace::Pacesetter => group.pacesetter.into_iter().collect(),
        Pace::Joint => group.producers.clone(),
    };
    let mut rows = vec![Vec::new(); group.width()];
    for producer in producers {
        let name = format!("{}.weight", model.graph.nodes[producer].name);
        let weight = model.tensors.get(&name).ok_or_else(|| {
            Error::new(ErrorKind::Checkpoint, "clustering filters").expected(&name).found("no such tensor")
        })?;
        let row_len = weight.data.len() / weight.dims[0].max(1);
        for (row, channels) in rows.iter_mut().zip(group.rows_of(producer)) {
            for channel in channels {
                row.extend_from_slice(&weight.data[channel * row_len..][..row_len]);
            }
        }
    }
    let row_len = rows.first().map_or(0, Vec::len);
    Ok((rows.concat(), row_len))
}
