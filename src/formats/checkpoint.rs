//! The checkpoint: the only serialized form of a model. A safetensors file whose tensors have PyTorch's names, so that
//! `safetensors.torch.load_file` reads it; graph, clusters and training state are in its metadata, momentum in tensors
//! whose names begin with `momentum:`.

use super::state_dict;
use crate::data::{Augment, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::model::{Model, Tensors};
use crate::prune::Clusters;
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};

/// Version of the layout that this crate writes and reads.
const VERSION: u32 = 1;

/// The metadata entry that makes a safetensors file a checkpoint.
const KEY: &str = "centripetal";

/// Prefix of the momentum tensors.
const MOMENTUM: &str = "momentum:";

/// What a checkpoint's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Trained by SGD.
    Base,
    /// After C-SGD: clusters collapsed, channels still there.
    Wide,
    /// After the cut.
    Slim,
    /// Weights from elsewhere.
    Imported,
}

/// Where a network comes from and what its outputs mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// What it is.
    pub stage: Stage,
    /// Seed of the run that made it.
    pub seed: u64,
    /// Class names, in the order of the logits; empty when unknown.
    pub classes: Vec<String>,
    /// The statistics that its input images are normalised by, when known.
    pub normalization: Option<Normalization>,
    /// The data set it was trained on, for people.
    pub data: String,
}

/// A training run to go on with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// How it trains.
    pub config: TrainConfig,
    /// How images are varied.
    pub augment: Augment,
    /// Images of an epoch.
    pub images: usize,
    /// Their [`fingerprint`](crate::data::fingerprint).
    pub fingerprint: u64,
    /// How often the run went back after a loss that was not finite, each time to half the learning rate.
    #[serde(default)]
    pub rollbacks: u32,
    /// Steps done.
    pub step: u64,
    /// Momentum by parameter name; kept in the file's tensors.
    #[serde(skip)]
    pub momentum: Tensors,
}

/// A model with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Graph and tensors.
    pub model: Model,
    /// Origin and meaning.
    pub provenance: Provenance,
    /// Clusters of a wide network.
    pub clusters: Option<Clusters>,
    /// A run to go on with.
    pub training: Option<Training>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    graph: Graph,
    provenance: Provenance,
    clusters: Option<Clusters>,
    training: Option<Training>,
}

impl Checkpoint {
    /// The checkpoint as bytes of a safetensors file. Same checkpoint, same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let training = self.training.as_ref().map(|training| Training {
            config: training.config.clone(),
            momentum: Tensors::new(),
            ..*training
        });
        let header = Header {
            version: VERSION,
            graph: self.model.graph.clone(),
            provenance: self.provenance.clone(),
            clusters: self.clusters.clone(),
            training,
        };
        let header = serde_json::to_string(&header)
            .map_err(|error| Error::new(ErrorKind::Format, "writing a checkpoint").found(error))?;
        let momentum = self.training.iter().flat_map(|training| &training.momentum);
        let tensors = self.model.tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
        let tensors = tensors.chain(momentum.map(|(name, tensor)| (format!("{MOMENTUM}{name}"), tensor)));
        state_dict::serialize(tensors, Some((KEY, header)))
    }

    /// Reads the checkpoint called `name`, and checks it as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the bytes are no checkpoint or of another version, [`ErrorKind::Checkpoint`] when its
    /// parts do not fit together, [`ErrorKind::Numeric`] for NaN or infinite weights.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Checkpoint> {
        let doing = || format!("reading the checkpoint {name}");
        let mut contents = state_dict::read(name, bytes)?;
        let header = contents.metadata.remove(KEY).ok_or_else(|| {
            Error::new(ErrorKind::Format, doing())
                .expected("a file written by centripetal")
                .found("a safetensors file of other origin")
                .next("`centripetal import FILE --model MODEL` turns PyTorch weights into a checkpoint")
        })?;
        let header: serde_json::Value = serde_json::from_str(&header)
            .map_err(|error| Error::new(ErrorKind::Format, doing()).expected("a JSON header").found(error))?;
        let version = header.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            return Err(Error::new(ErrorKind::Format, doing())
                .expected(format!("checkpoint version {VERSION}"))
                .found(version.map_or_else(|| "none".to_owned(), |version| version.to_string()))
                .next("It was written by another version of centripetal; use that one"));
        }
        let header: Header = serde_json::from_value(header).map_err(|error| {
            Error::new(ErrorKind::Format, doing()).expected("a whole header").found(error)
        })?;
        let (momentum, tensors): (Tensors, Tensors) =
            contents.tensors.into_iter().partition(|(name, _)| name.starts_with(MOMENTUM));
        let model = Model { graph: header.graph, tensors };
        model.validate()?;
        if let Some(clusters) = &header.clusters {
            clusters.validate(&model.graph)?;
        }
        let mut training = header.training;
        if let Some(training) = &mut training {
            training.momentum = momentum
                .into_iter()
                .map(|(name, tensor)| (name[MOMENTUM.len()..].to_owned(), tensor))
                .collect();
            if let Some((name, _)) =
                training.momentum.iter().find(|(_, tensor)| tensor.data.iter().any(|x| !x.is_finite()))
            {
                return Err(Error::new(ErrorKind::Numeric, doing())
                    .expected("finite momentum")
                    .found(format!("NaN or infinity in that of {name}"))
                    .next("The file was made by a run that diverged, or is damaged"));
            }
            if let Some(centripetal) = &training.config.centripetal {
                centripetal.clusters.validate(&model.graph)?;
            }
        }
        Ok(Checkpoint { model, provenance: header.provenance, clusters: header.clusters, training })
    }
}
