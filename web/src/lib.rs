//! A training session for the browser: the library `centripetal` through `wasm-bindgen`, and nothing of its own.
//!
//! One [`session::Session`] lives in one Web Worker (`client/worker.ts`), which calls it one message at a time. Plain data
//! crosses as JSON, numbers as typed arrays.

mod fault;
mod js;
mod network;
mod progress;
mod session;
mod settings;

pub use fault::{Fault, Outcome, last_panic, start};
pub use session::Session;
