//! ONNX files of convolutional classifiers, in and out, as bytes and plain data.
//!
//! `wire` knows protobuf, `schema` the messages, `constant` tensors that are known beforehand, `import` the order of the
//! nodes and their names, `output` which of several outputs is taken, `images` what images the network takes, `lower` what
//! each operator becomes, `export` the way back.

mod constant;
mod export;
mod fold;
mod images;
mod import;
mod lower;
mod output;
mod schema;
mod walk;
mod wire;

pub use export::export;
pub use images::{Images, Source};
pub use import::{Beside, Imported, Options, import};
