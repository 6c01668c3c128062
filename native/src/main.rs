//! The command.
mod data;
mod prefetch;

fn main() {}
