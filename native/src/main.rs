//! The command.
mod data;
mod filters;
mod html;
mod prefetch;

fn main() {}
