//! Centripetal trains convolutional networks so that they can be cut without losing anything.

pub mod data;
pub mod device;
pub mod error;
pub mod formats;
pub mod graph;
pub mod model;
pub mod models;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod prune;
pub mod rng;
pub mod selftest;
pub mod shape;
pub mod train;

pub use error::{Error, ErrorKind, Result};
pub use shape::Shape;
