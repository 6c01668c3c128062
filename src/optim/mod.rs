//! Optimizers and learning-rate schedules.

pub mod forecast;
pub mod schedule;
