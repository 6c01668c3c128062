//! Optimizers and learning-rate schedules.

pub mod csgd;
pub mod forecast;
pub mod norms;
pub mod schedule;
pub mod sgd;
pub mod sparsity;

pub use schedule::{Decay, Schedule};
pub use sgd::{Decayed, Direction, SgdConfig};
pub use sparsity::{Penalty, Sparsity};
