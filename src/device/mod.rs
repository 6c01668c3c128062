//! The devices a network can be trained on.

pub mod simd;
