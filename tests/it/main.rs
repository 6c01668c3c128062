//! The integration tests, in one binary.

mod golden;
mod harness;
mod kernels;
mod operators;
mod plan;
