//! The control plane: decides, and orders.
//!
//! Platforms submit pods over `platform`; placement chooses node, CPUs and address; the decision is
//! made durable and becomes orders; nodes take them over their `link` and report facts. Entry points:
//! [`serve`] for the service, `cli` for the commands. The thinking is in `flow` and `state`, which do no I/O;
//! `core` is the only place where the state changes. This crate touches no host: what a node should do it is told.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod config;
mod core;
mod enroll;
mod error;
mod events;
mod facts;
mod flow;
mod guard;
mod heard;
mod hub;
mod link;
mod metrics;
mod pki;
mod place;
mod platform;
mod random;
mod rehearsal;
mod server;
mod signer;
mod state;
mod store;
mod token;

pub use cli::{Cli, run};
pub use clock::{Clock, Moment, SystemClock};
pub use config::{Config, ConfigError, DEFAULT_CONFIG_PATH};
pub use pki::{Authority, FileError, Issued, PkiError, Validity, init as init_pki};
pub use random::NoRandomness;
pub use rehearsal::Rehearsal;
pub use server::{Serving, serve};
pub use store::{Store, StoreError, TokenRow};
pub use token::{NotAToken, Token};
