//! What the tests of who may call what share; nothing but tests uses it, and what goes wrong here panics.
//!
//! [`rpcs`] are all there are, from the compiled `.proto` files: one that is added is in every table at once, and fails
//! it until it is judged. [`Authority`] signs certificates of every kind, good and bad. [`dial`] accepts any server, so
//! that a refusal is the server's. [`Table`] is printed, and holds what came to what was expected, cell by cell.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test's helper panics where its test would")]

mod authority;
mod dial;
mod rpc;
mod table;

pub use authority::{Authority, Credentials, Holds, Usage};
pub use dial::dial;
pub use rpc::{Answer, Rpc, call, first, rpcs};
pub use table::Table;
