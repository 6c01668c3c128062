//! Centripetal trains convolutional networks so that they can be cut without losing anything.
//!
//! Centripetal SGD (Ding et al., CVPR 2019; Hao et al., IEEE TNNLS 2023) clusters the filters of each layer and pulls those
//! of a cluster together while it trains. Once they are identical, all but one are deleted and the next layer's input
//! channels are summed: the network is smaller and its answers are the same.
//!
//! Kernels are WGSL compute shaders with Rust twins; the same plan runs on a GPU through wgpu or on the CPU.
//!
//! # A tour
//! ```
//! use centripetal::data::{Augment, Batch, Loader, Synthetic, synthetic};
//! use centripetal::device::Device;
//! use centripetal::graph::Coupling;
//! use centripetal::model::Model;
//! use centripetal::models::{self, ModelConfig};
//! use centripetal::optim::forecast::{AUTO_TARGET, Contraction, auto_strength};
//! use centripetal::optim::{Decay, Schedule, SgdConfig};
//! use centripetal::prune::width::{Ratio, Rounding, WidthRule};
//! use centripetal::prune::surgery::{Operation, Rest};
//! use centripetal::prune::{ClusterPlan, Clustering, Clusters, Pace};
//! use centripetal::train::{Answers, Centripetal, TrainConfig, Trainer, evaluate};
//! use centripetal::{Result, Shape};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<()> { pollster::block_on(tour()) }
//! # async fn tour() -> Result<()> {
//! let device = Arc::new(Device::cpu("this example needs no GPU"));
//! let images = Synthetic { shape: [1, 12, 12], ..Synthetic::default() };
//! let data = Arc::new(images.generate(synthetic::Split::Train, 256)?);
//! let graph = models::build("lenet", &ModelConfig::new(Shape::new(1, 12, 12), 10))?;
//! let model = Model::random(graph, 0);
//!
//! // Which channels are tied follows from the graph; here half of every layer is to stay.
//! let coupling = Coupling::derive(&model.graph, &[])?;
//! let plan = ClusterPlan {
//!     widths: WidthRule::All(Ratio::new(1, 2)?),
//!     rounding: Rounding::Floor,
//!     round_to: 1,
//!     clustering: Clustering::Even,
//!     pace: Pace::Pacesetter,
//!     frozen: Vec::new(),
//!     seed: 0,
//! };
//! let clusters = Clusters::find(&model, &coupling, &plan)?;
//!
//! // The forecast says how strong the pull must be for the clusters to collapse within the schedule.
//! let schedule = Schedule { base_lr: 0.05, total_steps: 400, warmup_steps: 0, decay: Decay::Constant };
//! let sgd = SgdConfig::default();
//! let begin = Contraction::of_network(&model.graph, Some(&clusters), &sgd);
//! let strength = auto_strength(&begin, &schedule, AUTO_TARGET)?;
//! let centripetal = Some(Centripetal { clusters: clusters.clone(), strength });
//! let config = TrainConfig { batch: 32, schedule, sgd, centripetal, sparsity: None };
//! let mut trainer = Trainer::new(device.clone(), model, config)?;
//! let loader = Loader::training(data.clone(), 32, 0, Augment::NONE)?;
//! let mut batch = Batch::default();
//! for step in 0..400 {
//!     loader.fill(step / 8, (step % 8) as usize, &mut batch)?;
//!     trainer.step(&batch);
//! }
//!
//! let wide = trainer.model().await?;
//! let slim = Operation::new(&wide, &clusters, Rest::Leave)?.slim;
//! assert!(slim.graph.macs()? < wide.graph.macs()? / 2);
//!
//! let test = Loader::evaluation(data, 32)?;
//! let before = evaluate(&device, &wide, &test, Answers::Discard).await?;
//! let after = evaluate(&device, &slim, &test, Answers::Discard).await?;
//! assert_eq!(before.correct, after.correct);
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

pub mod data;
pub mod device;
pub mod error;
pub mod formats;
pub mod graph;
pub mod json;
pub mod model;
pub mod models;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod prune;
pub mod rewrite;
pub mod rng;
pub mod selftest;
pub mod shape;
pub mod sort;
pub mod train;

pub use error::{Error, ErrorKind, Result};
pub use shape::Shape;
