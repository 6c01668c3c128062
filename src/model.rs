//! A model as plain data: a graph and its tensors by PyTorch name.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::ops::ParamKind;
use crate::rng::Rng;
use crate::sort;
use std::collections::BTreeMap;

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Row-major numbers.
    pub data: Vec<f32>,
}

/// Tensors by full PyTorch name (`layer1.0.conv1.weight`).
pub type Tensors = BTreeMap<String, TensorData>;

/// A network with its weights and running statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The architecture.
    pub graph: Graph,
    /// Parameters and running statistics.
    pub tensors: Tensors,
}

impl Model {
    /// Random weights: Kaiming normal over fan-in for filters (He et al. 2015), PyTorch's uniform for linear layers,
    /// batch norm as the identity. Each tensor has its own stream of `seed`, by its position in the graph.
    pub fn random(graph: Graph, seed: u64) -> Model {
        const INIT: u64 = 0x1417;
        let mut tensors = Tensors::new();
        for (index, (node, name, spec)) in graph.parameters().into_iter().enumerate() {
            let mut rng = Rng::stream(seed, &[INIT, index as u64]);
            let fan_in = spec.dims.iter().skip(1).product::<usize>().max(1) as f32;
            let linear = graph.nodes[node].op.type_name() == "Linear";
            let mut uniform = |bound: f32| (2.0 * rng.uniform() - 1.0) * bound;
            let data: Vec<f32> = match spec.kind {
                ParamKind::Weight if linear => {
                    (0..spec.len()).map(|_| uniform(1.0 / fan_in.sqrt())).collect()
                }
                ParamKind::Weight => (0..spec.len()).map(|_| rng.normal() * (2.0 / fan_in).sqrt()).collect(),
                ParamKind::Gamma | ParamKind::RunningVar => vec![1.0; spec.len()],
                ParamKind::Bias | ParamKind::Beta | ParamKind::RunningMean => vec![0.0; spec.len()],
            };
            tensors.insert(name, TensorData { dims: spec.dims, data });
        }
        Model { graph, tensors }
    }

    /// Checks that every parameter is there, of the right shape and finite.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] for missing, extra or misshapen tensors; [`ErrorKind::Numeric`] for NaN, infinity
    /// or a negative running variance.
    pub fn validate(&self) -> Result<()> {
        self.graph.shapes()?;
        let mut known = 0;
        for (_, name, spec) in self.graph.parameters() {
            let fail = |kind, expected: String, found: String| {
                Error::new(kind, format!("checking {name}")).expected(expected).found(found)
            };
            let shape = format!("a tensor of shape {:?}", spec.dims);
            let tensor = self.tensors.get(&name).ok_or_else(|| {
                fail(ErrorKind::Checkpoint, shape.clone(), "none".into())
                    .next(format!("Is this really a {}?", self.graph.name))
            })?;
            if tensor.dims != spec.dims || tensor.data.len() != spec.len() {
                return Err(fail(ErrorKind::Checkpoint, shape, format!("{:?}", tensor.dims))
                    .next("Is this a checkpoint of another architecture, width or class count?"));
            }
            if let Some(bad) = tensor.data.iter().position(|x| !x.is_finite()) {
                return Err(fail(
                    ErrorKind::Numeric,
                    "finite numbers".into(),
                    format!("{} at {bad}", tensor.data[bad]),
                )
                .next("The file was made by a run that diverged, or is damaged"));
            }
            if let Some(bad) =
                tensor.data.iter().position(|&x| x < 0.0).filter(|_| spec.kind == ParamKind::RunningVar)
            {
                return Err(fail(
                    ErrorKind::Numeric,
                    "variances of at least 0".into(),
                    format!("{} at {bad}", tensor.data[bad]),
                )
                .next("The file is damaged"));
            }
            known += 1;
        }
        if known != self.tensors.len() {
            let names: std::collections::BTreeSet<String> =
                sort::gather(self.graph.parameters().into_iter().map(|(_, name, _)| name));
            let extra = self.tensors.keys().find(|name| !names.contains(*name));
            return Err(Error::new(
                ErrorKind::Checkpoint,
                format!("checking the tensors of {}", self.graph.name),
            )
            .expected(format!("{known} tensors"))
            .found(format!(
                "{}, among them {}",
                self.tensors.len(),
                extra.map_or("?", String::as_str)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{self, ModelConfig};
    use crate::shape::Shape;

    #[test]
    fn a_running_variance_is_not_negative() {
        let graph = models::build("lenet", &ModelConfig::new(Shape::new(1, 12, 12), 3)).expect("builds");
        let mut model = Model::random(graph, 1);
        assert!(model.validate().is_ok());
        let name = model.tensors.keys().find(|name| name.ends_with("running_var")).expect("one").clone();
        model.tensors.get_mut(&name).expect("it").data[1] = -0.5;
        let error = model.validate().expect_err("negative").to_string();
        assert!(error.contains(&name) && error.contains("-0.5 at 1"), "{error}");
    }
}
