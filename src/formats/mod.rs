//! File formats as bytes in, bytes out: the checkpoint, and what other tools write and read.

pub mod checkpoint;
pub mod description;
pub mod kind;
pub mod onnx;
pub mod state_dict;

pub use checkpoint::{Checkpoint, Provenance, Stage, Training};
pub use description::Description;
pub use kind::Kind;
