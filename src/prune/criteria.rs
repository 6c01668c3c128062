//! Which filters to keep, by the methods that C-SGD is compared with.
//!
//! The rest is deleted ([`super::surgery::delete`]) and nothing makes up for it, which is why these methods need
//! fine-tuning and C-SGD does not.

use super::clusters::{Clusters, Pace, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Coupling, Group, NodeId};
use crate::model::Model;
use crate::ops::Op;
use crate::optim::sparsity::Penalty;
use crate::rng::Rng;
use crate::sort;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The channels that stay, of every node that loses some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    nodes: BTreeMap<NodeId, Vec<usize>>,
}

impl Selection {
    /// The channels of a node that stay, ascending; `None` if all of them do.
    pub fn of_node(&self, node: NodeId) -> Option<&[usize]> {
        self.nodes.get(&node).map(Vec::as_slice)
    }

    /// The selection in which the classes `deleted` of each group given by its index go, in every layer that has them.
    ///
    /// # Errors
    /// Those of [`crate::graph::Graph::shapes`].
    pub fn without(model: &Model, coupling: &Coupling, deleted: &[(usize, Vec<usize>)]) -> Result<Selection> {
        let shapes = model.graph.shapes()?;
        let mut nodes: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
        for (index, classes) in deleted {
            for member in &coupling.groups[*index].members {
                let kept = nodes.entry(member.node).or_insert_with(|| sort::gather(0..shapes[member.node].c));
                for &class in classes {
                    kept.remove(&member.channels[class]);
                }
            }
        }
        Ok(Selection {
            nodes: sort::gather(nodes.into_iter().map(|(id, kept)| (id, kept.into_iter().collect()))),
        })
    }
}

/// A way of telling how much a filter matters. All look at single layers; what is tied goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The sum of a filter's absolute weights (Li et al., ICLR 2017).
    L1,
    /// Its Euclidean norm (He et al., IJCAI 2018: soft filter pruning).
    L2,
    /// The sum of its distances to the other filters: the most replaceable goes first (He et al., CVPR 2019: FPGM).
    Fpgm,
    /// The size of the gamma behind it, after training that makes gammas small (Liu et al., ICCV 2017: network slimming).
    BnScale,
    /// The square of the loss's first-order change when it goes, summed over batches (Molchanov et al., CVPR 2019).
    Taylor,
    /// Chance (Mittal et al., WACV 2018: recovering from random pruning).
    Random,
    /// Its Euclidean norm, after training that makes filters small as a whole (Wen et al., NIPS 2016: group lasso).
    GroupLasso,
}

impl Criterion {
    /// The penalty that the method trains with before it chooses, if any.
    pub fn penalty(self) -> Option<Penalty> {
        match self {
            Criterion::BnScale => Some(Penalty::Gammas),
            Criterion::GroupLasso => Some(Penalty::Filters),
            _ => None,
        }
    }

    /// The paper that it is from.
    pub fn paper(self) -> &'static str {
        match self {
            Criterion::L1 => "Li et al., ICLR 2017, arXiv:1608.08710",
            Criterion::L2 => "He et al., IJCAI 2018, arXiv:1808.06866",
            Criterion::Fpgm => "He et al., CVPR 2019, arXiv:1811.00250",
            Criterion::BnScale => "Liu et al., ICCV 2017, arXiv:1708.06519",
            Criterion::Taylor => "Molchanov et al., CVPR 2019, arXiv:1906.10771",
            Criterion::Random => "Mittal et al., WACV 2018, arXiv:1801.10447",
            Criterion::GroupLasso => "Wen et al., NIPS 2016, arXiv:1608.03665",
        }
    }
}

/// What some criteria need besides the weights.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Seed of [`Criterion::Random`].
    pub seed: u64,
    /// By tensor, for each of its rows the sum over batches of `(gradient . weights)^2`: see [`crate::train::sensitivities`].
    pub sensitivities: BTreeMap<String, Vec<f64>>,
}

/// Keeps the filters of largest score, as many of each group as `clusters` would leave.
///
/// In a group of several layers the pacesetter's filters decide, or those of all producers together, as `pace` says.
/// Of equal scores the earlier filter stays.
///
/// # Errors
/// Those of [`crate::graph::Graph::shapes`]; [`ErrorKind::Checkpoint`] for a model without the filters;
/// [`ErrorKind::Argument`] for sensitivities that were not measured.
pub fn select(
    model: &Model,
    coupling: &Coupling,
    clusters: &Clusters,
    pace: Pace,
    criterion: Criterion,
    evidence: &Evidence,
) -> Result<Selection> {
    let mut deleted = Vec::new();
    for (index, group) in coupling.prunable() {
        let keep = clusters.width_of(group);
        if keep == group.width() {
            continue;
        }
        let scores = match criterion {
            Criterion::BnScale => gammas(model, group, pace)?,
            Criterion::Taylor => measured(model, group, pace, &evidence.sensitivities)?,
            Criterion::Random => {
                const CHOICE: u64 = 0xC401;
                let mut rng = Rng::stream(evidence.seed, &[CHOICE, index as u64]);
                (0..group.width()).map(|_| f64::from(rng.uniform())).collect()
            }
            Criterion::L1 | Criterion::L2 | Criterion::Fpgm | Criterion::GroupLasso => {
                let (rows, row_len) = rows(model, group, pace)?;
                of_weights(criterion, &rows, row_len)
            }
        };
        let mut order = sort::order(group.width(), &|a, b| scores[b].total_cmp(&scores[a]));
        deleted.push((index, order.split_off(keep)));
    }
    Selection::without(model, coupling, &deleted)
}

/// [`select`] by [`Criterion::L1`].
///
/// # Errors
/// As [`select`].
pub fn largest_l1(model: &Model, coupling: &Coupling, clusters: &Clusters, pace: Pace) -> Result<Selection> {
    select(model, coupling, clusters, pace, Criterion::L1, &Evidence::default())
}

/// The score of each row of weights.
fn of_weights(criterion: Criterion, rows: &[f32], row_len: usize) -> Vec<f64> {
    let rows: Vec<&[f32]> = rows.chunks_exact(row_len.max(1)).collect();
    let distance = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    let score = |row: &&[f32]| match criterion {
        Criterion::L1 => row.iter().map(|w| f64::from(w.abs())).sum(),
        Criterion::Fpgm => rows.iter().map(|other| distance(row, other)).sum(),
        _ => row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt(),
    };
    rows.iter().map(score).collect()
}

/// The producers whose filters decide.
fn deciding(group: &Group, pace: Pace) -> Vec<NodeId> {
    match pace {
        Pace::Pacesetter => group.pacesetter.into_iter().collect(),
        Pace::Joint => group.producers.clone(),
    }
}

/// The sum over a class's rows of a number for each row of a node.
fn by_class(group: &Group, nodes: &[(NodeId, Vec<f64>)]) -> Vec<f64> {
    let mut scores = vec![0.0; group.width()];
    for (node, numbers) in nodes {
        for (score, rows) in scores.iter_mut().zip(group.rows_of(*node)) {
            *score += rows.iter().map(|&row| numbers[row]).sum::<f64>();
        }
    }
    scores
}

/// The sizes of the gammas right behind the producers that decide; where there are none (batch norm before the
/// convolution, as in DenseNet), of all gammas that the channels have; and where there are none at all, as in the gate of a
/// squeeze-excite block, what [`Criterion::L1`] says.
fn gammas(model: &Model, group: &Group, pace: Pace) -> Result<Vec<f64>> {
    let graph = &model.graph;
    let consumers = graph.consumers();
    let sizes = |norm: NodeId| -> Option<Vec<f64>> {
        let Op::BatchNorm2d(_) = graph.nodes[norm].op else { return None };
        let tensor = model.tensors.get(&format!("{}.weight", graph.nodes[norm].name))?;
        Some(tensor.data.iter().map(|gamma| f64::from(gamma.abs())).collect())
    };
    let behind: Option<Vec<_>> = deciding(group, pace)
        .into_iter()
        .map(|producer| Some((producer, consumers[producer].iter().find_map(|&reader| sizes(reader))?)))
        .collect();
    if let Some(nodes) = behind {
        return Ok(by_class(group, &nodes));
    }
    let mut scores = vec![0.0; group.width()];
    let mut any = false;
    for member in &group.members {
        if let Some(sizes) = sizes(member.node) {
            any = true;
            for (score, &channel) in scores.iter_mut().zip(&member.channels) {
                *score += sizes[channel];
            }
        }
    }
    if any {
        return Ok(scores);
    }
    let (rows, row_len) = rows(model, group, pace)?;
    Ok(of_weights(Criterion::L1, &rows, row_len))
}

fn measured(
    model: &Model,
    group: &Group,
    pace: Pace,
    sensitivities: &BTreeMap<String, Vec<f64>>,
) -> Result<Vec<f64>> {
    let mut nodes = Vec::new();
    for producer in deciding(group, pace) {
        let name = format!("{}.weight", model.graph.nodes[producer].name);
        let rows = sensitivities.get(&name).ok_or_else(|| {
            Error::new(ErrorKind::Argument, "choosing filters by their sensitivities")
                .expected(format!("those of {name}"))
                .found("none")
        })?;
        nodes.push((producer, rows.clone()));
    }
    Ok(by_class(group, &nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_weights_are_the_papers() {
        let rows = [3.0, -4.0, 0.0, 0.0, 3.0, 0.0];
        assert_eq!(of_weights(Criterion::L1, &rows, 2), [7.0, 0.0, 3.0]);
        assert_eq!(of_weights(Criterion::L2, &rows, 2), [5.0, 0.0, 3.0]);
        assert_eq!(of_weights(Criterion::Fpgm, &rows, 2), [9.0, 8.0, 7.0]);
    }
}
