//! Training sessions for the browser: the library `centripetal` through `wasm-bindgen`, and nothing of its own.
//!
//! One [`Session`] lives in one Web Worker (`client/worker.ts`), which calls it one message at a time. Plain data crosses
//! as JSON, numbers as typed arrays. `build` makes three modules of this crate, by feature: the session; the self-test's
//! [`Tester`], which `client/selftest.ts` loads when somebody asks for it; and [`inspect_picture`], which `client/files.ts`
//! loads when somebody brings pictures.

#![forbid(unsafe_code)]

#[cfg(any(feature = "session", feature = "selftest"))]
mod device;
#[cfg(any(feature = "session", feature = "selftest"))]
mod fault;
#[cfg(any(feature = "session", feature = "selftest"))]
#[cfg_attr(not(feature = "session"), allow(dead_code, reason = "the tester gives plain data alone"))]
mod js;
#[cfg(feature = "session")]
mod network;
#[cfg(feature = "pictures")]
mod pictures;
#[cfg(feature = "session")]
mod progress;
#[cfg(feature = "session")]
mod session;
#[cfg(feature = "session")]
mod settings;
#[cfg(feature = "selftest")]
mod tester;

#[cfg(any(feature = "session", feature = "selftest"))]
pub use fault::{Fault, Outcome, last_panic, start};
#[cfg(feature = "pictures")]
pub use pictures::inspect_picture;
#[cfg(feature = "session")]
pub use session::Session;
#[cfg(feature = "selftest")]
pub use tester::Tester;
