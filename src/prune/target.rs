//! Widths that are computed and not stated: from a budget of multiply-accumulates, or of one network for another of the same
//! graph.

use super::cluster::Clustering;
use super::clusters::{ClusterPlan, Clusters};
use super::surgery;
use super::width::{Ratio, WidthRule};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Coupling, NodeId};
use crate::model::Model;
use crate::sort;
use std::collections::BTreeMap;

/// Steps of the search: parts are multiples of 1 / `PARTS`.
const PARTS: u64 = 256;

/// The largest part, a multiple of 1/256, that every group may keep for the cut network to have at most `part` of the
/// multiply-accumulates. Rounding, frozen layers and the rest are as in `plan`, whose own widths do not count.
///
/// # Errors
/// [`ErrorKind::Argument`] when `part` is not between 0 and 1, or no cut is small enough.
pub fn ratio_for_macs(model: &Model, coupling: &Coupling, plan: &ClusterPlan, part: f64) -> Result<Ratio> {
    let fail = |found: String| {
        Error::new(ErrorKind::Argument, "choosing widths by multiply-accumulates")
            .expected("a part of them over 0 and below 1 that some width reaches")
            .found(found)
    };
    if !(part > 0.0 && part < 1.0) {
        return Err(fail(part.to_string()));
    }
    let all = model.graph.macs()? as f64;
    let rest = |parts: u64| -> Result<f64> {
        let widths = WidthRule::All(Ratio::new(parts, PARTS)?);
        let plan = ClusterPlan { widths, clustering: Clustering::Even, ..plan.clone() };
        let clusters = Clusters::find(model, coupling, &plan)?;
        Ok(surgery::cut(model, &clusters)?.graph.macs()? as f64 / all)
    };
    let least = rest(1)?;
    if least > part {
        return Err(fail(format!("{part}, while the narrowest network has {least:.4}")));
    }
    // The most parts that fit: multiply-accumulates never fall when widths rise.
    let (mut fits, mut too_many) = (1, PARTS);
    while too_many - fits > 1 {
        let middle = (fits + too_many) / 2;
        if rest(middle)? <= part { fits = middle } else { too_many = middle }
    }
    Ratio::new(fits, PARTS)
}

/// The width of every group that may shrink, by the nodes that have its channels: what stays the same when the graph is cut
/// or scaled.
pub type WidthsByNodes = BTreeMap<Vec<NodeId>, usize>;

fn nodes(group: &crate::graph::Group) -> Vec<NodeId> {
    group.members.iter().map(|member| member.node).collect()
}

/// The widths of the groups of `coupling` as `clusters` would leave them.
pub fn widths(coupling: &Coupling, clusters: &Clusters) -> WidthsByNodes {
    sort::gather(coupling.prunable().map(|(_, group)| (nodes(group), clusters.width_of(group))))
}

/// The rule that gives the groups of `coupling` these widths; what is not among them stays.
pub fn rule(coupling: &Coupling, widths: &WidthsByNodes) -> WidthRule {
    let listed = coupling.prunable().filter_map(|(index, group)| Some((index, *widths.get(&nodes(group))?)));
    WidthRule::Groups(sort::gather(listed))
}
