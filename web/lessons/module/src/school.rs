//! Calls by name, and what lives between them.

use crate::duel::Duel;
use crate::plane::Plane;
use crate::{depth, kernels, networks, numbers, wgsl};
use centripetal::data::{Dataset, Loader, Source, files};
use centripetal::device::Device;
use centripetal::formats::Checkpoint;
use centripetal::graph::Coupling;
use centripetal::model::Model;
use centripetal::prune::Clusters;
use centripetal::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Images in a batch of an evaluation.
const TEST_BATCH: usize = 100;

/// What a call answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Plain data.
    pub value: Value,
    /// Numbers.
    pub arrays: Vec<Vec<f32>>,
}

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        Reply { value, arrays: Vec::new() }
    }
}

/// The trained network that the lessons cut, with its data.
pub(crate) struct Base {
    pub(crate) model: Model,
    pub(crate) coupling: Coupling,
    /// The same after C-SGD: its filters are identical in these clusters.
    pub(crate) wide: Model,
    pub(crate) clusters: Clusters,
    pub(crate) train: Arc<dyn Dataset>,
    pub(crate) test: Arc<dyn Dataset>,
}

impl Base {
    pub(crate) fn test_loader(&self) -> Result<Loader> {
        self.test_loader_of(TEST_BATCH)
    }

    pub(crate) fn test_loader_of(&self, batch: usize) -> Result<Loader> {
        Loader::evaluation(Arc::clone(&self.test), batch)
    }
}

/// What the lessons call.
pub struct School {
    pub(crate) device: Arc<Device>,
    pub(crate) clock: fn() -> f64,
    base: Option<Base>,
    plane: Option<Plane>,
    duel: Option<Duel>,
}

/// The argument `name` of a call.
pub(crate) fn get<T: DeserializeOwned>(arguments: &Value, name: &str) -> Result<T> {
    serde_json::from_value(arguments[name].clone())
        .map_err(|error| wrong(name, &format!("{} ({error})", arguments[name])))
}

pub(crate) fn wrong(what: &str, found: &str) -> Error {
    Error::new(ErrorKind::Argument, format!("reading the setting {what}"))
        .expected("a value that the lesson offers")
        .found(found)
}

impl School {
    /// On `device`, with a clock in seconds.
    pub fn new(device: Device, clock: fn() -> f64) -> School {
        School { device: Arc::new(device), clock, base: None, plane: None, duel: None }
    }

    /// Takes the checkpoints of the base network and of the same after C-SGD, and the files of their data set.
    ///
    /// # Errors
    /// Those of the readers.
    pub fn load(&mut self, base: &[u8], wide: &[u8], names: &[String], bytes: &[Vec<u8>]) -> Result<()> {
        let sources: Vec<Source<'_>> =
            names.iter().zip(bytes).map(|(name, bytes)| Source { name, bytes }).collect();
        let files::Splits { train, test } = files::open(&sources)?;
        let model = Checkpoint::from_bytes("base.safetensors", base)?.model;
        let coupling = Coupling::derive(&model.graph, &[])?;
        let wide = Checkpoint::from_bytes("wide.safetensors", wide)?;
        let clusters = wide.clusters.unwrap_or_default();
        self.base = Some(Base { model, coupling, wide: wide.model, clusters, train, test });
        Ok(())
    }

    pub(crate) fn base(&self) -> Result<&Base> {
        self.base.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Argument, "using the base network")
                .expected("one")
                .found("none yet")
                .next("Load the page again")
        })
    }

    /// Answers the call `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for names and values that no lesson has, and those of the library.
    pub async fn call(&mut self, name: &str, arguments: &Value, arrays: Vec<Vec<f32>>) -> Result<Reply> {
        let a = arguments;
        match name {
            "device" => Ok(networks::device(&self.device).into()),
            "kernel" => kernels::describe(&get::<String>(a, "kernel")?),
            "twin" => kernels::twin(a, &arrays),
            "cases" => kernels::cases_of(&get::<String>(a, "kernel")?),
            "judge" => kernels::judge(&get::<String>(a, "kernel")?, get(a, "case")?, &arrays),
            "wgsl" => Ok(wgsl::check(&get::<String>(a, "source")?, get(a, "rounds")?).into()),
            "gradient" => numbers::gradient(get(a, "h")?),
            "variance" => numbers::variance(get(a, "mean")?, get(a, "spread")?, get(a, "count")?),
            "image" => networks::image(self.base()?, get(a, "index")?),
            "plane.reset" => {
                let plane = Plane::new(a)?;
                let shown = plane.show();
                self.plane = Some(plane);
                Ok(shown)
            }
            "plane.step" => {
                let plane = self.plane.as_mut().ok_or_else(|| wrong("plane", "no points yet"))?;
                plane.steps(a)?;
                Ok(plane.show())
            }
            "plane.forecast" => crate::plane::forecast(a),
            "layers" => networks::layers(self.base()?),
            "cluster" => networks::cluster(self.base()?, a),
            "surgery" => networks::surgery(self, a).await,
            "couplings" => networks::couplings(a),
            "cut-alone" => networks::cut_alone(a),
            "cut-apart" => networks::cut_apart(self, a).await,
            "cut-together" => networks::cut_together(a),
            "duel.start" => {
                let duel = Duel::start(self, a).await?;
                let shown = duel.show();
                self.duel = Some(duel);
                Ok(shown)
            }
            "duel.step" => {
                let duel = self.duel.as_mut().ok_or_else(|| wrong("duel", "no networks yet"))?;
                duel.steps(get(a, "steps")?).await?;
                Ok(duel.show())
            }
            "duel.cut" => {
                let duel = self.duel.as_ref().ok_or_else(|| wrong("duel", "no networks yet"))?;
                duel.cut(self).await
            }
            "sensitivity" => depth::sensitivity(self, a).await,
            "scale" => depth::scale(self, a).await,
            _ => Err(wrong("call", name)),
        }
    }
}
