//! Lesson 10: how much of which layer, and what it brings.

use crate::networks::{one_group, plan};
use crate::school::{Reply, School, get, wrong};
use centripetal::Result;
use centripetal::data::Batch;
use centripetal::prune::cluster::Clustering;
use centripetal::prune::criteria::largest_l1;
use centripetal::prune::width::{Ratio, WidthRule};
use centripetal::prune::{Clusters, Pace, surgery};
use centripetal::train::{Answers, evaluate, latency};
use serde_json::{Value, json};

/// Runs of a latency measurement.
const RUNS: usize = 9;

/// Accuracy when one group alone is made narrower without any training: filters merged by k-means, or deleted by L1 norm.
pub(crate) async fn sensitivity(school: &School, a: &Value) -> Result<Reply> {
    let base = school.base()?;
    let (group, keep, method): (usize, usize, String) =
        (get(a, "group")?, get(a, "keep")?, get(a, "method")?);
    let clusters = Clusters::find(&base.model, &base.coupling, &one_group(group, keep))?;
    let slim = match method.as_str() {
        "merge" => surgery::cut(&base.model, &clusters)?,
        "l1" => {
            let kept = largest_l1(&base.model, &base.coupling, &clusters, Pace::Pacesetter)?;
            surgery::delete(&base.model, &kept)?
        }
        _ => return Err(wrong("method", &method)),
    };
    let found = evaluate(&school.device, &slim, &base.test_loader()?, Answers::Discard).await?;
    Ok(json!({ "accuracy": found.accuracy(), "loss": found.loss, "macs": slim.graph.macs()?, "base": base.model.graph.macs()? }).into())
}

/// The whole network at `keep`: multiply-adds, parameters, and the time of a batch beside that of the base.
pub(crate) async fn scale(school: &School, a: &Value) -> Result<Reply> {
    let base = school.base()?;
    let keep = Ratio::parse("keep", &get::<String>(a, "keep")?)?;
    let size: usize = get(a, "batch")?;
    let whole = plan(WidthRule::All(keep), Clustering::default(), 0);
    let clusters = Clusters::find(&base.model, &base.coupling, &whole)?;
    let slim = surgery::cut(&surgery::snap(&base.model, &clusters), &clusters)?;
    let mut batch = Batch::default();
    base.test_loader_of(size)?.fill(0, 0, &mut batch)?;
    let times = latency(&school.device, &[&base.model, &slim], &batch, RUNS, &school.clock).await?;
    Ok(json!({
        "macsBefore": base.model.graph.macs()?,
        "macsAfter": slim.graph.macs()?,
        "paramsBefore": base.model.graph.parameter_count(),
        "paramsAfter": slim.graph.parameter_count(),
        "msBefore": times[0] * 1e3 / size as f64,
        "msAfter": times[1] * 1e3 / size as f64,
    })
    .into())
}
