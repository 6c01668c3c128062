//! The integration tests, in one binary.

mod formula;
mod golden;
mod harness;
mod kernels;
mod operators;
mod optimizers;
mod plan;
mod surgery;
mod training;
