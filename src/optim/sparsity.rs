//! Penalties that make whole filters small while a network trains: a proximal step after each step of SGD.
//!
//! `w = w max(0, 1 - lr strength / |row|)`, by rows. A row is a batch norm's gamma (L1; network slimming, Liu et al. 2017) or a
//! filter (group lasso, Wen et al. 2016). The papers add a subgradient; the proximal step has the same stationary points, and
//! reaches zero instead of crossing it.

use crate::device::{Args, Device, Dispatch, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::error::Result;
use crate::from_json;
use crate::graph::Graph;
use crate::ops::ParamKind;
use crate::params;
use crate::plan::Arenas;
use serde::Serialize;

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Penalty {
    /// Every gamma of every batch norm, by its size.
    Gammas,
    /// Every filter and every row of a linear layer but the last, by its Euclidean norm.
    Filters,
}

from_json!(enum Penalty { Gammas: "gammas", Filters: "filters" });

/// A penalty with its strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sparsity {
    /// What is made small.
    pub penalty: Penalty,
    /// Weight of the penalty beside the loss.
    pub strength: f64,
}

from_json!(Sparsity { penalty, strength });

params! {
    /// Uniform of `shrink_rows`.
    pub struct ShrinkParams {
        /// Rows.
        rows: u32,
        /// By how much each row's norm shrinks: learning rate times strength.
        amount: f32,
    }
}

/// The proximal step; does nothing once a step's loss was not finite.
pub static SHRINK_ROWS: Kernel = Kernel {
    name: "shrink_rows",
    params: ShrinkParams::FIELDS,
    bindings: &[read("metrics"), read("rows"), write("parameters")],
    shaders: &[Shader {
        name: "shrink_rows",
        wgsl: wgsl!("shrink_rows"),
        workgroups: |params| params_of::<ShrinkParams>(params).rows.into(),
    }],
    twin: shrink_rows,
    fast: None,
};

fn shrink_rows(args: Args<'_>) {
    let (p, [metrics, rows], [parameters]) = args.unpack::<ShrinkParams, 2, 1>();
    if super::sgd::is_poisoned(metrics) {
        return;
    }
    let rows: &[u32] = bytemuck::cast_slice(rows);
    for row in rows.chunks_exact(2).take(p.rows as usize) {
        let numbers = &mut parameters[row[0] as usize..][..row[1] as usize];
        let norm = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
        let factor = if norm > p.amount { 1.0 - p.amount / norm } else { 0.0 };
        numbers.iter_mut().for_each(|x| *x *= factor);
    }
}

/// First word and length of each row that the penalty is on.
fn rows(penalty: Penalty, graph: &Graph, arenas: &Arenas) -> Vec<[u32; 2]> {
    let mut rows = Vec::new();
    for entry in arenas.layout().trained() {
        let wanted = match penalty {
            Penalty::Gammas => entry.spec.kind == ParamKind::Gamma,
            Penalty::Filters => entry.spec.kind == ParamKind::Weight && entry.node != graph.output(),
        };
        if wanted {
            let row_len = entry.row_len();
            rows.extend((0..entry.rows()).map(|row| [(entry.offset + row * row_len) as u32, row_len as u32]));
        }
    }
    rows
}

/// The uniform of a step at learning rate `lr`.
pub fn params(sparsity: &Sparsity, rows: usize, lr: f64) -> ShrinkParams {
    ShrinkParams { rows: rows as u32, amount: (lr * sparsity.strength) as f32 }
}

/// The dispatch of a step and the number of its rows; `None` where there is nothing to make small.
///
/// # Errors
/// [`crate::ErrorKind::Device`] when there is no room for the table.
pub fn dispatch(
    device: &Device,
    sparsity: &Sparsity,
    graph: &Graph,
    arenas: &Arenas,
) -> Result<Option<(Dispatch, usize)>> {
    let rows = rows(sparsity.penalty, graph, arenas);
    if rows.is_empty() {
        return Ok(None);
    }
    let table = device.buffer("penalised rows", 2 * rows.len())?;
    device.write_u32(&table.all(), rows.as_flattened());
    let dispatch = Dispatch {
        kernel: &SHRINK_ROWS,
        params: bytemuck::bytes_of(&params(sparsity, rows.len(), 0.0)).to_vec(),
        bindings: vec![arenas.metrics().all(), table.all(), arenas.parameters().all()],
        label: "penalty".into(),
        variant: 0,
    };
    Ok(Some((dispatch, rows.len())))
}
