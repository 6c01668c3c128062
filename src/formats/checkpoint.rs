//! The checkpoint: the only serialized form of a model. A safetensors file whose tensors have PyTorch's names, so that
//! `safetensors.torch.load_file` reads it; graph, clusters and training state are in its metadata, momentum in tensors
//! whose names begin with `momentum:`.

use super::state_dict;
use crate::data::{Augment, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::graph::Graph;
use crate::json::{self, FromJson, Read};
use crate::model::{Model, Tensors};
use crate::prune::Clusters;
use crate::sort;
use crate::train::TrainConfig;
use serde::Serialize;
use serde_json::Value;

/// Version of the layout that this crate writes and reads.
const VERSION: u32 = 1;

/// The metadata entry that makes a safetensors file a checkpoint.
const KEY: &str = "centripetal";

/// Prefix of the momentum tensors.
const MOMENTUM: &str = "momentum:";

/// What a checkpoint's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

from_json!(enum Stage { Base: "base", Wide: "wide", Slim: "slim", Imported: "imported" });

/// Where a network comes from and what its outputs mean.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

from_json!(Provenance { stage, seed, classes, normalization, data });

/// A training run to go on with.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    pub rollbacks: u32,
    /// Whether the last time was right here: no epoch has ended since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
    /// Steps done.
    pub step: u64,
    /// Momentum by parameter name; kept in the file's tensors.
    #[serde(skip)]
    pub momentum: Tensors,
}

impl FromJson for Training {
    fn from_json(value: &Value) -> Read<Self> {
        let fields = json::object(value)?;
        Ok(Training {
            config: json::field(fields, "config", None)?,
            augment: json::field(fields, "augment", None)?,
            images: json::field(fields, "images", None)?,
            fingerprint: json::field(fields, "fingerprint", None)?,
            rollbacks: json::field(fields, "rollbacks", Some(0))?,
            restarted: json::field(fields, "restarted", Some(false))?,
            step: json::field(fields, "step", None)?,
            momentum: Tensors::new(),
        })
    }
}

from_json!(@serde Training);

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

#[derive(Serialize)]
struct Header {
    version: u32,
    graph: Graph,
    provenance: Provenance,
    clusters: Option<Clusters>,
    training: Option<Training>,
}

from_json!(Header { version, graph, provenance, clusters, training });

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
        let header: Value = serde_json::from_str(&header)
            .map_err(|error| Error::new(ErrorKind::Format, doing()).expected("a JSON header").found(error))?;
        let version = header.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            return Err(Error::new(ErrorKind::Format, doing())
                .expected(format!("checkpoint version {VERSION}"))
                .found(version.map_or_else(|| "none".to_owned(), |version| version.to_string()))
                .next("It was written by another version of centripetal; use that one"));
        }
        let header = Header::from_json(&header).map_err(|error| {
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
            let named =
                momentum.into_iter().map(|(name, tensor)| (name[MOMENTUM.len()..].to_owned(), tensor));
            training.momentum = sort::gather(named);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorData;

    /// What version 0.1 wrote.
    const HEADER: &str = r#"{"version":1,"graph":{"name":"tiny","input":{"c":1,"h":2,"w":2},"nodes":[{"name":"input","op":{"type":"Input"},"inputs":[]},{"name":"conv","op":{"type":"Conv2d","in_channels":1,"out_channels":2,"kernel":[1,1],"stride":[1,1],"padding":{"top":0,"left":0,"bottom":0,"right":0},"dilation":[1,1],"groups":1,"bias":"Without"},"inputs":[0]},{"name":"bn","op":{"type":"BatchNorm2d","channels":2,"eps":0.00001,"momentum":0.1},"inputs":[1]},{"name":"pool","op":{"type":"MaxPool2d","kernel":[2,2],"stride":[2,2],"padding":[0,0]},"inputs":[2]},{"name":"flatten","op":{"type":"Flatten"},"inputs":[3]},{"name":"fc","op":{"type":"Linear","in_features":2,"out_features":2,"bias":"With"},"inputs":[4]}]},"provenance":{"stage":"wide","seed":7,"classes":["a","b"],"normalization":{"mean":[0.1],"std":[0.3]},"data":"dots"},"clusters":{"nodes":{"1":[[0,1]],"2":[[0,1]],"3":[[0,1]],"4":[[0,1]]}},"training":{"config":{"batch":4,"schedule":{"base_lr":0.05,"total_steps":9,"warmup_steps":1,"decay":{"step":{"milestones":[3,6],"gamma":0.1}}},"sgd":{"momentum":0.9,"direction":"HeavyBall","weight_decay":0.0001,"decay":"Weights"},"centripetal":{"clusters":{"nodes":{"1":[[0,1]],"2":[[0,1]],"3":[[0,1]],"4":[[0,1]]}},"strength":0.25},"sparsity":{"penalty":"gammas","strength":0.5}},"augment":{"pad":4,"flip":"Horizontal"},"images":8,"fingerprint":18446744073709551615,"rollbacks":1,"step":5}}"#;

    fn file(header: &str) -> Vec<u8> {
        let sizes: [(&str, &[usize]); 7] = [
            ("conv.weight", &[2, 1, 1, 1]),
            ("bn.weight", &[2]),
            ("bn.bias", &[2]),
            ("bn.running_mean", &[2]),
            ("bn.running_var", &[2]),
            ("fc.weight", &[2, 2]),
            ("fc.bias", &[2]),
        ];
        let tensor =
            |dims: &[usize]| TensorData { dims: dims.to_vec(), data: vec![1.5; dims.iter().product()] };
        let mut tensors: Tensors =
            sizes.iter().map(|(name, dims)| ((*name).to_owned(), tensor(dims))).collect();
        tensors.insert("momentum:fc.bias".to_owned(), tensor(&[2]));
        state_dict::write(&tensors, Some((KEY, header.to_owned()))).expect("plain tensors")
    }

    #[test]
    fn files_of_earlier_versions_are_read_and_written_alike() {
        let bytes = file(HEADER);
        let checkpoint = Checkpoint::from_bytes("x", &bytes).expect("reads");
        assert_eq!((checkpoint.provenance.stage, checkpoint.model.graph.nodes.len()), (Stage::Wide, 6));
        let training = checkpoint.training.as_ref().expect("training");
        assert_eq!((training.fingerprint, training.rollbacks, training.momentum.len()), (u64::MAX, 1, 1));
        assert!(checkpoint.to_bytes().expect("writes") == bytes, "other bytes");
    }

    #[test]
    fn what_older_headers_do_not_have_is_made_up() {
        let old = HEADER.replace(",\"rollbacks\":1", "").replace(
            ",\"sparsity\":{\"penalty\":\"gammas\",\"strength\":0.5}",
            ",\"unknown\":[{\"is\":\"passed over\"}]",
        );
        assert!(!old.contains("rollbacks") && !old.contains("sparsity"));
        let checkpoint = Checkpoint::from_bytes("x", &file(&old)).expect("reads");
        let training = checkpoint.training.expect("training");
        assert_eq!((training.rollbacks, training.config.sparsity), (0, None));
    }

    #[test]
    fn headers_that_do_not_fit_are_refused_with_the_place() {
        for (from, to, told) in [
            (
                "\"out_channels\":2",
                "\"out_channels\":-2",
                "graph: nodes: 1: op: out_channels: expected a whole number",
            ),
            ("\"type\":\"Flatten\"", "\"type\":\"Flatter\"", "graph: nodes: 4: op: type: expected one of"),
            ("\"seed\":7,", "", "provenance: seed: missing"),
            ("{\"1\":[[0,1]]", "{\"1\":[[0,2]]", "clusters: nodes: 1: building clusters of channels"),
            (
                "{\"step\":{\"mile",
                "{\"stop\":{\"mile",
                "training: config: schedule: decay: expected constant, step or cosine",
            ),
        ] {
            let wrong = HEADER.replacen(from, to, 1);
            assert_ne!(wrong, HEADER, "{from}");
            let error = Checkpoint::from_bytes("x", &file(&wrong)).expect_err(told);
            assert!(error.kind() == ErrorKind::Format && error.to_string().contains(told), "{error}");
        }
    }
}
