//! Centripetal trains convolutional networks so that they can be cut without losing anything.

pub mod data;
pub mod device;
pub mod error;
pub mod optim;
pub mod prune;
pub mod rng;

pub use error::{Error, ErrorKind, Result};
