//! The integration tests, in one binary.

mod golden;
mod gradients;
mod harness;
mod kernels;
