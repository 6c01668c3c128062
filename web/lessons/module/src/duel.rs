//! Lesson 9: one base, two ways to make filters superfluous: group lasso makes them zero, C-SGD makes them equal.

use crate::networks::plan;
use crate::school::{Base, Reply, School, get};
use centripetal::Result;
use centripetal::data::{Augment, Batch, Loader};
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::optim::forecast::{AUTO_TARGET, Contraction, auto_strength};
use centripetal::optim::sparsity::{Penalty, Sparsity};
use centripetal::optim::{Decay, Schedule, SgdConfig};
use centripetal::prune::cluster::{Clustering, within_deviation};
use centripetal::prune::criteria::{Criterion, Evidence, select};
use centripetal::prune::surgery::{self, Operation, Rest};
use centripetal::prune::width::{Ratio, WidthRule};
use centripetal::prune::{Clusters, Pace, certificate};
use centripetal::train::{Answers, Centripetal, TrainConfig, Trainer, evaluate};
use serde_json::{Value, json};
use std::sync::Arc;

const BATCH: usize = 50;

/// Two networks in training.
pub(crate) struct Duel {
    identity: Trainer,
    zero: Trainer,
    clusters: Clusters,
    coupling: Coupling,
    loader: Loader,
    strength: f64,
    lasso: f64,
    total: u64,
    step: u64,
    history: Vec<Value>,
}

impl Duel {
    pub(crate) async fn start(school: &School, a: &Value) -> Result<Duel> {
        let base: &Base = school.base()?;
        let (total, lr, lasso): (u64, f64, f64) = (get(a, "steps")?, get(a, "lr")?, get(a, "lasso")?);
        let keep = Ratio::parse("keep", &get::<String>(a, "keep")?)?;
        let clusters = Clusters::find(
            &base.model,
            &base.coupling,
            &plan(WidthRule::All(keep), Clustering::default(), 0),
        )?;
        let schedule = Schedule { base_lr: lr, total_steps: total, warmup_steps: 0, decay: Decay::Constant };
        let sgd = SgdConfig { weight_decay: 5e-4, ..SgdConfig::default() };
        let begin = Contraction::of_network(&base.model.graph, Some(&clusters), &sgd);
        let strength = auto_strength(&begin, &schedule, AUTO_TARGET)?;
        let plain = TrainConfig { batch: BATCH, schedule, sgd, centripetal: None, sparsity: None };
        let pulled = TrainConfig {
            centripetal: Some(Centripetal { clusters: clusters.clone(), strength }),
            ..plain.clone()
        };
        let shrunk =
            TrainConfig { sparsity: Some(Sparsity { penalty: Penalty::Filters, strength: lasso }), ..plain };
        let mut duel = Duel {
            identity: Trainer::new(Arc::clone(&school.device), base.model.clone(), pulled)?,
            zero: Trainer::new(Arc::clone(&school.device), base.model.clone(), shrunk)?,
            clusters,
            coupling: base.coupling.clone(),
            loader: Loader::training(Arc::clone(&base.train), BATCH, 0, Augment::NONE)?,
            strength,
            lasso,
            total,
            step: 0,
            history: Vec::new(),
        };
        duel.look().await?;
        Ok(duel)
    }

    pub(crate) async fn steps(&mut self, steps: u64) -> Result<()> {
        let mut batch = Batch::default();
        for _ in 0..steps.min(self.total - self.step) {
            let epoch = self.loader.batches_per_epoch() as u64;
            self.loader.fill(self.step / epoch, (self.step % epoch) as usize, &mut batch)?;
            self.identity.step(&batch);
            self.zero.step(&batch);
            self.step += 1;
        }
        self.look().await
    }

    async fn look(&mut self) -> Result<()> {
        let (identity, zero) = (self.identity.model().await?, self.zero.model().await?);
        let losses = match self.step {
            0 => [None; 2],
            _ => [Some(self.identity.metrics().await?), Some(self.zero.metrics().await?)],
        };
        let loss =
            |i: usize| losses[i].as_ref().map(|metrics| metrics.loss_sum / metrics.samples.max(1) as f64);
        self.history.push(json!({
            "step": self.step,
            "chi": self.chi(&identity),
            "residue": self.residue(&zero)?,
            "identityLoss": loss(0),
            "zeroLoss": loss(1),
        }));
        Ok(())
    }

    /// Deviation inside the clusters, over all clustered filters.
    fn chi(&self, model: &Model) -> f64 {
        let filters = model.graph.nodes.iter().enumerate().filter_map(|(id, node)| {
            let weight = model.tensors.get(&format!("{}.weight", node.name)).filter(|w| w.dims.len() == 4)?;
            Some((weight, self.clusters.of_node(id)?))
        });
        let of_layer = |(weight, partition): (&centripetal::model::TensorData, _)| {
            within_deviation(&weight.data, weight.data.len() / weight.dims[0].max(1), partition).chi
        };
        filters.map(of_layer).sum()
    }

    /// The squares of all weights of the filters that would be deleted now: what is left of them.
    fn residue(&self, model: &Model) -> Result<f64> {
        let kept = self.select(model)?;
        let left = model.graph.nodes.iter().enumerate().filter_map(|(id, node)| {
            let weight = model.tensors.get(&format!("{}.weight", node.name)).filter(|w| w.dims.len() == 4)?;
            let kept = kept.of_node(id)?;
            let row_len = weight.data.len() / weight.dims[0].max(1);
            let rows = weight.data.chunks_exact(row_len).enumerate().filter(|(row, _)| !kept.contains(row));
            Some(rows.flat_map(|(_, row)| row).map(|&w| f64::from(w) * f64::from(w)).sum::<f64>())
        });
        Ok(left.sum())
    }

    fn select(&self, model: &Model) -> Result<centripetal::prune::criteria::Selection> {
        let (pace, criterion) = (Pace::Pacesetter, Criterion::GroupLasso);
        select(model, &self.coupling, &self.clusters, pace, criterion, &Evidence::default())
    }

    pub(crate) fn show(&self) -> Reply {
        json!({
            "step": self.step, "total": self.total, "strength": self.strength, "lasso": self.lasso,
            "history": self.history,
        })
        .into()
    }

    /// Cuts both to the same widths and compares each with itself before the cut.
    pub(crate) async fn cut(&self, school: &School) -> Result<Reply> {
        let loader = school.base()?.test_loader()?;
        let (identity, zero) = (self.identity.model().await?, self.zero.model().await?);
        let merged = Operation::new(&identity, &self.clusters, Rest::Leave)?.slim;
        let deleted = surgery::delete(&zero, &self.select(&zero)?)?;
        let mut results = Vec::new();
        for (wide, slim) in [(&identity, &merged), (&zero, &deleted)] {
            let before = evaluate(&school.device, wide, &loader, Answers::Keep).await?;
            let after = evaluate(&school.device, slim, &loader, Answers::Keep).await?;
            let compared = certificate::compare(&before, &after);
            results.push(json!({
                "before": compared.accuracy_before,
                "after": compared.accuracy_after,
                "agreement": compared.argmax_agreement,
                "samples": compared.samples,
                "maxLogitDiff": compared.max_abs_logit_diff,
                "macsBefore": wide.graph.macs()?,
                "macsAfter": slim.graph.macs()?,
            }));
        }
        Ok(json!({ "step": self.step, "identity": results[0], "zero": results[1] }).into())
    }
}
