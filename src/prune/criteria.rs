//! Which filters to keep, by the methods that C-SGD is compared with.
//!
//! The rest is deleted ([`super::surgery::delete`]) and nothing makes up for it, which is why these methods need
//! fine-tuning and C-SGD does not.

use super::clusters::{Clusters, Pace, rows};
use crate::error::Result;
use crate::graph::{Coupling, NodeId};
use crate::model::Model;
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
                let kept = nodes.entry(member.node).or_insert_with(|| (0..shapes[member.node].c).collect());
                for &class in classes {
                    kept.remove(&member.channels[class]);
                }
            }
        }
        Ok(Selection {
            nodes: nodes.into_iter().map(|(id, kept)| (id, kept.into_iter().collect())).collect(),
        })
    }
}

/// Keeps the filters of largest L1 norm (Li et al. 2017), as many of each group as `clusters` would leave.
///
/// In a group of several layers the pacesetter's filters decide, or those of all producers together, as `pace` says.
/// Of equal norms the earlier filter stays.
///
/// # Errors
/// Those of [`crate::graph::Graph::shapes`]; [`crate::ErrorKind::Checkpoint`] for a model without the filters.
pub fn largest_l1(model: &Model, coupling: &Coupling, clusters: &Clusters, pace: Pace) -> Result<Selection> {
    let mut deleted = Vec::new();
    for (index, group) in coupling.prunable() {
        let keep = clusters.width_of(group);
        if keep == group.width() {
            continue;
        }
        let (rows, row_len) = rows(model, group, pace)?;
        let norm = |class: usize| rows[class * row_len..][..row_len].iter().map(|w| f64::from(w.abs())).sum();
        let norms: Vec<f64> = (0..group.width()).map(norm).collect();
        let mut order: Vec<usize> = (0..group.width()).collect();
        order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]).then(a.cmp(&b)));
        deleted.push((index, order.split_off(keep)));
    }
    Selection::without(model, coupling, &deleted)
}
