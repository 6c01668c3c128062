//! ONNX files of convolutional classifiers, in and out, as bytes and plain data.
//!
//! `wire` knows protobuf, `schema` the messages, `constant` tensors that are known beforehand, `import` the order of the
//! nodes and their names, `lower` what each operator becomes, `export` the way back.

mod constant;
mod export;
mod fold;
mod import;
mod lower;
mod schema;
mod wire;

pub use export::export;
pub use import::{Beside, Imported, Options, import};
