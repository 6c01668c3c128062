//! The certificate: the wide network against the slim one, on the same images and the same device.

use super::clusters::Clusters;
use crate::data::{Batch, Loader};
use crate::device::{Device, DeviceInfo};
use crate::error::Result;
use crate::graph::NodeId;
use crate::model::Model;
use crate::ops::ParamKind;
use crate::train::{Answers, Evaluation, evaluate, latency};
use serde::Serialize;

/// Runs of the latency measurement.
const LATENCY_RUNS: usize = 20;

/// Most that a logit may change in a lossless step, over the largest logit: float32 networks that compute the same sums in
/// another order are closer.
pub const LOSSLESS_LOGITS: f64 = 1e-5;

/// One comparison of two networks over the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Accuracy of the first network.
    pub accuracy_before: f64,
    /// Accuracy of the second network.
    pub accuracy_after: f64,
    /// Mean cross-entropy of the first network.
    pub loss_before: f64,
    /// Mean cross-entropy of the second network.
    pub loss_after: f64,
    /// Images whose largest logit is the same class in both.
    pub argmax_agreement: u64,
    /// Images.
    pub samples: u64,
    /// Largest difference of two logits.
    pub max_abs_logit_diff: f64,
    /// The same, over the largest logit of the first network.
    pub max_rel_logit_diff: f64,
}

/// Within-cluster deviation of one layer, by tensor: `sum ||F_j - mean_H F||^2` and the largest single distance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Node name.
    pub name: String,
    /// Operator type.
    pub op: String,
    /// Channels before the cut.
    pub width_before: usize,
    /// Channels after the cut.
    pub width_after: usize,
    /// Multiply-accumulates for one image before the cut.
    pub macs_before: u64,
    /// Multiply-accumulates for one image after the cut.
    pub macs_after: u64,
    /// chi of the kernel.
    pub deviation_kernel: Option<f64>,
    /// chi of the bias.
    pub deviation_bias: Option<f64>,
    /// chi of gamma.
    pub deviation_gamma: Option<f64>,
    /// chi of beta.
    pub deviation_beta: Option<f64>,
    /// chi of the running mean.
    pub deviation_mean: Option<f64>,
    /// chi of the running variance.
    pub deviation_variance: Option<f64>,
    /// Largest distance of a number from its cluster's mean, over all of these.
    pub max_abs_deviation: f64,
}

/// What the cut changed.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// The network as trained against that with merged statistics, when they were merged.
    pub statistics: Option<Comparison>,
    /// The network before against the snapped one, when it was snapped.
    pub snap: Option<Comparison>,
    /// The wide network, as these steps left it, against the slim one.
    pub cut: Comparison,
    /// Layer by layer.
    pub layers: Vec<LayerReport>,
    /// Multiply-accumulates for one image, wide.
    pub macs_before: u64,
    /// Multiply-accumulates for one image, slim.
    pub macs_after: u64,
    /// Trained numbers, wide.
    pub params_before: u64,
    /// Trained numbers, slim.
    pub params_after: u64,
    /// Bytes of all tensors, wide.
    pub bytes_before: u64,
    /// Bytes of all tensors, slim.
    pub bytes_after: u64,
    /// Images in a batch of the latency measurement.
    pub latency_batch: usize,
    /// Milliseconds an image, wide.
    pub latency_before_ms: f64,
    /// Milliseconds an image, slim.
    pub latency_after_ms: f64,
    /// Where it was measured.
    pub device: DeviceInfo,
}

impl Certificate {
    /// The steps from the trained network to the slim one, in their order, with their names.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &Comparison)> {
        let statistics = self.statistics.as_ref().map(|step| ("merging of statistics", step));
        let snap = self.snap.as_ref().map(|step| ("snap", step));
        statistics.into_iter().chain(snap).chain([("cut", &self.cut)])
    }

    /// Whether every step left all answers equal and all logits within [`LOSSLESS_LOGITS`] of the largest. Equal answers
    /// alone may be luck.
    pub fn is_lossless(&self) -> bool {
        self.steps().all(|(_, step)| {
            step.argmax_agreement == step.samples && step.max_rel_logit_diff <= LOSSLESS_LOGITS
        })
    }
}

/// The networks of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Stages<'a> {
    /// As C-SGD left it.
    pub trained: &'a Model,
    /// With the running statistics of clusters merged, if they were not equal.
    pub merged: Option<&'a Model>,
    /// With clusters snapped to their means, if that was asked for.
    pub snapped: Option<&'a Model>,
    /// After the cut.
    pub slim: &'a Model,
}

/// Compares wide with slim on the images of `loader`, measures both by `clock` (seconds), and reports every layer.
///
/// # Errors
/// Those of the loader and the device.
pub async fn certify(
    device: &Device,
    stages: Stages<'_>,
    clusters: &Clusters,
    loader: &Loader,
    clock: &dyn Fn() -> f64,
) -> Result<Certificate> {
    let Stages { trained, merged, snapped, slim } = stages;
    let mut wide = trained;
    let mut before = evaluate(device, trained, loader, Answers::Keep).await?;
    let (mut statistics, mut snap) = (None, None);
    for (next, step) in [(merged, &mut statistics), (snapped, &mut snap)] {
        if let Some(next) = next {
            let after = evaluate(device, next, loader, Answers::Keep).await?;
            *step = Some(compare(&before, &after));
            (wide, before) = (next, after);
        }
    }
    let after = evaluate(device, slim, loader, Answers::Keep).await?;
    let mut batch = Batch::default();
    loader.fill(0, 0, &mut batch)?;
    let images = batch.labels.len();
    let times = latency(device, &[wide, slim], &batch, LATENCY_RUNS, clock).await?;
    let per_image = |seconds: f64| seconds * 1e3 / images as f64;
    let bytes = |model: &Model| model.tensors.values().map(|tensor| tensor.data.len() as u64 * 4).sum();
    Ok(Certificate {
        statistics,
        snap,
        cut: compare(&before, &after),
        layers: layers(trained, slim, clusters)?,
        macs_before: wide.graph.macs()?,
        macs_after: slim.graph.macs()?,
        params_before: wide.graph.parameter_count(),
        params_after: slim.graph.parameter_count(),
        bytes_before: bytes(wide),
        bytes_after: bytes(slim),
        latency_batch: images,
        latency_before_ms: per_image(times[0]),
        latency_after_ms: per_image(times[1]),
        device: device.info().clone(),
    })
}

/// Compares two evaluations over the same images that kept their logits.
pub fn compare(before: &Evaluation, after: &Evaluation) -> Comparison {
    assert_eq!(before.logits.len(), after.logits.len(), "both networks answer the same images");
    let samples = before.samples as usize;
    let classes = before.logits.len() / samples.max(1);
    let answer = |row: &[f32]| (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
    let rows = before.logits.chunks_exact(classes.max(1)).zip(after.logits.chunks_exact(classes.max(1)));
    // A row with NaN or infinity answers nothing, so it agrees with nothing.
    let finite = |row: &[f32]| row.iter().all(|x| x.is_finite());
    let agreement = rows.filter(|(a, b)| finite(a) && finite(b) && answer(a) == answer(b)).count();
    // Not fold(max): a NaN must show in the certificate, and f64::max would pass it over.
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0.0, |most: f64, x| if x > most || x.is_nan() { x } else { most })
    };
    let difference = largest(
        &mut before.logits.iter().zip(&after.logits).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()),
    );
    let scale = largest(&mut before.logits.iter().map(|x| f64::from(*x).abs()));
    Comparison {
        accuracy_before: before.accuracy(),
        accuracy_after: after.accuracy(),
        loss_before: before.loss,
        loss_after: after.loss,
        argmax_agreement: agreement as u64,
        samples: before.samples,
        max_abs_logit_diff: difference,
        max_rel_logit_diff: difference / scale.max(f64::MIN_POSITIVE),
    }
}

fn layers(wide: &Model, slim: &Model, clusters: &Clusters) -> Result<Vec<LayerReport>> {
    let (wide_shapes, slim_shapes) = (wide.graph.shapes()?, slim.graph.shapes()?);
    let mut reports = Vec::new();
    for (id, node) in wide.graph.nodes.iter().enumerate() {
        if node.op.operator().parameters().is_empty() {
            continue;
        }
        let mut report = LayerReport {
            name: node.name.clone(),
            op: node.op.type_name().to_owned(),
            width_before: wide_shapes[id].c,
            width_after: slim_shapes[id].c,
            macs_before: wide.graph.node_macs(id, &wide_shapes),
            macs_after: slim.graph.node_macs(id, &slim_shapes),
            deviation_kernel: None,
            deviation_bias: None,
            deviation_gamma: None,
            deviation_beta: None,
            deviation_mean: None,
            deviation_variance: None,
            max_abs_deviation: 0.0,
        };
        for spec in node.op.operator().parameters() {
            if let Some((chi, max)) = tensor_deviation(wide, id, spec.name, clusters) {
                let slot = match spec.kind {
                    ParamKind::Weight => &mut report.deviation_kernel,
                    ParamKind::Bias => &mut report.deviation_bias,
                    ParamKind::Gamma => &mut report.deviation_gamma,
                    ParamKind::Beta => &mut report.deviation_beta,
                    ParamKind::RunningMean => &mut report.deviation_mean,
                    ParamKind::RunningVar => &mut report.deviation_variance,
                };
                *slot = Some(chi);
                report.max_abs_deviation = report.max_abs_deviation.max(max);
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// chi and the largest distance of a clustered node's tensor; `None` when the node keeps its channels.
fn tensor_deviation(model: &Model, node: NodeId, name: &str, clusters: &Clusters) -> Option<(f64, f64)> {
    let partition = clusters.of_node(node)?;
    let tensor = model.tensors.get(&format!("{}.{name}", model.graph.nodes[node].name))?;
    let row_len = tensor.data.len() / tensor.dims[0].max(1);
    let deviation = super::cluster::within_deviation(&tensor.data, row_len, partition);
    Some((deviation.chi, deviation.max_abs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_finite_agree_with_nothing() {
        let evaluation =
            |logits: &[f32]| Evaluation { loss: 0.0, correct: 0, samples: 2, logits: logits.to_vec() };
        let good = evaluation(&[1.0, 0.0, 0.0, 1.0]);
        let bad = evaluation(&[1.0, 0.0, f32::NAN, f32::NAN]);
        assert_eq!(compare(&good, &good).argmax_agreement, 2);
        assert_eq!(compare(&bad, &bad).argmax_agreement, 1);
        assert!(compare(&good, &bad).max_abs_logit_diff.is_nan());
        assert_eq!(compare(&good, &evaluation(&[0.5, 0.0, 1.0, 0.5])).argmax_agreement, 1);
    }
}
