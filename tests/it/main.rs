//! The integration tests, in one binary.

mod formula;
mod golden;
mod gradients;
mod harness;
mod interchange;
mod kernels;
mod lossless;
mod onnx;
mod operators;
mod optimizers;
mod plan;
mod rules;
mod selftest;
mod shaders;
mod supply;
mod surgery;
mod training;
