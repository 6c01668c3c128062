//! Optimizers and learning-rate schedules.

pub mod csgd;
pub mod forecast;
pub mod norms;
pub mod schedule;
pub mod sgd;

pub use schedule::{Decay, Schedule};
pub use sgd::{Decayed, Direction, SgdConfig};
