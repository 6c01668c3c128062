//! The cut: duplicates are deleted and the next layers' input channels summed. A pure function of plain data.
//!
//! Of every cluster the survivor (lowest index) stays, with its own filter, bias, gamma, beta, mean and variance; in each
//! consumer the members' input columns are summed into the survivor's. Exact when the members agree in all of these.
//! [`delete`] is the other way, of the methods that C-SGD is compared with: filters go and nothing is made up for.

use super::certificate::Stages;
use super::cluster::{Partition, within_deviation};
use super::clusters::Clusters;
use super::criteria::Selection;
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId};
use crate::model::{Model, TensorData, Tensors};
use crate::ops::ParamKind;
use serde::Serialize;
use std::collections::BTreeMap;

/// What becomes of a node's channels: which stay, in their order, and which are summed into each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// For every channel that stays, ascending: itself, then those that are summed into it.
    sums: Vec<Vec<usize>>,
    channels: usize,
}

impl Fate {
    fn merged(partition: &Partition) -> Fate {
        Fate { sums: partition.clusters().to_vec(), channels: partition.channels() }
    }

    fn kept(kept: &[usize], channels: usize) -> Fate {
        Fate { sums: kept.iter().map(|&channel| vec![channel]).collect(), channels }
    }

    /// Number of channels that stay.
    #[expect(clippy::len_without_is_empty, reason = "no layer loses all of its channels")]
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// The channels that stay, ascending.
    pub fn survivors(&self) -> Vec<usize> {
        self.sums.iter().map(|members| members[0]).collect()
    }

    /// For each channel its channel after the cut; `None` if it is deleted.
    pub fn new_index(&self) -> Vec<Option<usize>> {
        let mut places = vec![None; self.channels];
        for (index, members) in self.sums.iter().enumerate() {
            members.iter().for_each(|&channel| places[channel] = Some(index));
        }
        places
    }
}

/// One node under the knife: what its operator is told.
#[derive(Debug)]
pub struct Cut<'a> {
    /// What becomes of each input's channels.
    pub inputs: Vec<&'a Fate>,
    /// What becomes of the node's own output channels.
    pub output: &'a Fate,
    /// The node's tensors by their name within the node, to be replaced by the smaller ones.
    pub tensors: BTreeMap<String, TensorData>,
}

impl Cut<'_> {
    /// Keeps the survivors' rows of every tensor.
    pub fn keep_rows(&mut self) {
        let survivors = self.output.survivors();
        for tensor in self.tensors.values_mut() {
            let row_len = tensor.data.len() / tensor.dims[0].max(1);
            tensor.data =
                survivors.iter().flat_map(|&row| tensor.data[row * row_len..][..row_len].to_vec()).collect();
            tensor.dims[0] = survivors.len();
        }
    }

    /// Sums the columns (second dimension) of `weight` over each cluster of the first input. Of a grouped convolution each
    /// of the `groups` sees its own part of the input. Comes after [`Cut::keep_rows`].
    pub fn sum_grouped_columns(&mut self, groups: usize) {
        let Some(weight) = self.tensors.get_mut("weight") else { return };
        let [rows, columns] = [weight.dims[0], weight.dims[1]];
        let spatial: usize = weight.dims[2..].iter().product();
        let clusters_of = |group: usize| {
            let range = group * columns..(group + 1) * columns;
            self.inputs[0].sums.iter().filter(move |cluster| range.contains(&cluster[0]))
        };
        let kept = clusters_of(0).count();
        let mut data = Vec::with_capacity(rows * kept * spatial);
        for row in 0..rows {
            let group = row / (rows / groups).max(1);
            for cluster in clusters_of(group) {
                for at in 0..spatial {
                    let element = |&channel: &usize| {
                        weight.data[(row * columns + channel - group * columns) * spatial + at]
                    };
                    data.push(cluster.iter().map(element).sum());
                }
            }
        }
        weight.data = data;
        weight.dims[1] = kept;
    }
}

/// Cuts `model` by `clusters`: the slim network.
///
/// # Errors
/// [`crate::ErrorKind::Checkpoint`] for clusters of other channels; [`crate::ErrorKind::Shape`] when the graph's shapes do
/// not fit.
pub fn cut(model: &Model, clusters: &Clusters) -> Result<Model> {
    clusters.validate(&model.graph)?;
    carry_out(model, |id| clusters.of_node(id).map(Fate::merged))
}

/// Deletes all channels of `model` but those of `selection`, with nothing summed: what is lost is lost.
///
/// # Errors
/// [`crate::ErrorKind::Shape`] when the graph's shapes do not fit.
pub fn delete(model: &Model, selection: &Selection) -> Result<Model> {
    let shapes = model.graph.shapes()?;
    carry_out(model, |id| selection.of_node(id).map(|kept| Fate::kept(kept, shapes[id].c)))
}

/// `fate` says what becomes of a node's channels; where it says nothing, all of them stay.
fn carry_out(model: &Model, fate: impl Fn(NodeId) -> Option<Fate>) -> Result<Model> {
    let graph = &model.graph;
    let shapes = graph.shapes()?;
    let all = |id: NodeId| Fate::kept(&(0..shapes[id].c).collect::<Vec<_>>(), shapes[id].c);
    let fates: Vec<Fate> = (0..graph.nodes.len()).map(|id| fate(id).unwrap_or_else(|| all(id))).collect();
    let mut tensors = Tensors::new();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut mine = BTreeMap::new();
        for spec in node.op.operator().parameters() {
            if let Some(tensor) = model.tensors.get(&format!("{}.{}", node.name, spec.name)) {
                mine.insert(spec.name.to_owned(), tensor.clone());
            }
        }
        let inputs = node.inputs.iter().map(|&input| &fates[input]).collect();
        let mut cut = Cut { inputs, output: &fates[id], tensors: mine };
        let op = node.op.operator().cut(&mut cut).unwrap_or_else(|| node.op.clone());
        tensors
            .extend(cut.tensors.into_iter().map(|(name, tensor)| (format!("{}.{name}", node.name), tensor)));
        nodes.push(Node { name: node.name.clone(), op, inputs: node.inputs.clone() });
    }
    let slim = Model { graph: Graph { name: graph.name.clone(), input: graph.input, nodes }, tensors };
    slim.validate()?;
    Ok(slim)
}

/// Moves every clustered row onto its cluster's mean, so that the cut that follows is exact whatever was left of the
/// deviation. The network changes by that, which the certificate states as a step of its own.
pub fn snap(model: &Model, clusters: &Clusters) -> Model {
    onto_means(model, clusters, |_| true)
}

/// What became of the running statistics before the cut.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistics {
    /// Those of every cluster were equal to the bit, or there are none.
    Equal,
    /// This is the network with those of every cluster replaced by their mean.
    Merged(Model),
    /// They stay as they were, because filters of a cluster are not yet equal.
    Kept(Unequal),
}

/// The trained tensor whose rows are furthest apart inside clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unequal {
    /// Its name.
    pub tensor: String,
    /// Largest distance of a number from its cluster's mean, over the largest number of the tensor.
    pub apart: f64,
}

/// Part of a tensor's largest number that members of a cluster may be apart and count as equal: rounding and no more.
pub const EQUAL: f64 = 1e-5;

/// Replaces the running mean and variance of every cluster by their mean over the cluster.
///
/// Equal filters see equal maps, so their true statistics are equal. The running ones still remember the steps in which
/// filters differed, as long as batch norm's momentum lets them. Where any trained tensor is further apart than [`EQUAL`],
/// statistics are those of different filters, and nothing is replaced.
pub fn merge_statistics(model: &Model, clusters: &Clusters) -> Statistics {
    let mut furthest: Option<Unequal> = None;
    let mut equal = true;
    for (node, name, spec) in model.graph.parameters() {
        let (Some(partition), Some(tensor)) = (clusters.of_node(node), model.tensors.get(&name)) else {
            continue;
        };
        let row_len = tensor.data.len() / tensor.dims[0].max(1);
        let deviation = within_deviation(&tensor.data, row_len, partition);
        if !spec.kind.is_trained() {
            equal &= deviation.max_abs == 0.0;
            continue;
        }
        let largest = tensor.data.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
        // Of a tensor of zeros nothing is apart. NaN is further apart than anything.
        let apart = if deviation.max_abs == 0.0 { 0.0 } else { deviation.max_abs / largest };
        let is_further = furthest.as_ref().is_none_or(|most| apart > most.apart || apart.is_nan());
        if is_further && (apart > EQUAL || apart.is_nan()) {
            furthest = Some(Unequal { tensor: name, apart });
        }
    }
    match furthest {
        Some(unequal) => Statistics::Kept(unequal),
        None if equal => Statistics::Equal,
        None => Statistics::Merged(onto_means(model, clusters, |kind| !kind.is_trained())),
    }
}

/// `model` with the rows of every cluster replaced by their mean, in the tensors whose kind is `wanted`.
fn onto_means(model: &Model, clusters: &Clusters, wanted: impl Fn(ParamKind) -> bool) -> Model {
    let mut moved = model.clone();
    for (node, name, spec) in model.graph.parameters() {
        let Some(partition) = clusters.of_node(node).filter(|_| wanted(spec.kind)) else { continue };
        let Some(tensor) = moved.tensors.get_mut(&name) else { continue };
        let row_len = tensor.data.len() / tensor.dims[0].max(1);
        for cluster in partition.clusters().iter().filter(|cluster| cluster.len() > 1) {
            for column in 0..row_len {
                let sum: f64 = cluster.iter().map(|row| f64::from(tensor.data[row * row_len + column])).sum();
                let mean = (sum / cluster.len() as f64) as f32;
                cluster.iter().for_each(|row| tensor.data[row * row_len + column] = mean);
            }
        }
    }
    moved
}

/// What is done to filters that did not become equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rest {
    /// Nothing: the cut loses what they differ by.
    #[default]
    Leave,
    /// They are moved onto their cluster's mean ([`snap`]).
    Snap,
}

/// The steps from a trained network to the slim one, each of which the certificate measures.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What became of the running statistics.
    pub statistics: Statistics,
    /// With filters moved onto their clusters' means, if that was asked for.
    pub snapped: Option<Model>,
    /// After the cut.
    pub slim: Model,
}

impl Operation {
    /// Merges statistics, snaps if `rest` says so, and cuts `trained` by `clusters`.
    ///
    /// # Errors
    /// As [`cut`].
    pub fn new(trained: &Model, clusters: &Clusters, rest: Rest) -> Result<Operation> {
        let statistics = merge_statistics(trained, clusters);
        let merged = if let Statistics::Merged(model) = &statistics { model } else { trained };
        let snapped = (rest == Rest::Snap).then(|| snap(merged, clusters));
        let slim = cut(snapped.as_ref().unwrap_or(merged), clusters)?;
        Ok(Operation { statistics, snapped, slim })
    }

    /// The networks to certify.
    pub fn stages<'a>(&'a self, trained: &'a Model) -> Stages<'a> {
        let merged = if let Statistics::Merged(model) = &self.statistics { Some(model) } else { None };
        Stages { trained, merged, snapped: self.snapped.as_ref(), slim: &self.slim }
    }
}
