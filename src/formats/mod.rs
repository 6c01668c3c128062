//! File formats as bytes in, bytes out: the checkpoint, and weights that other tools wrote.

pub mod checkpoint;
pub mod onnx;
pub mod state_dict;

pub use checkpoint::{Checkpoint, Provenance, Stage, Training};
