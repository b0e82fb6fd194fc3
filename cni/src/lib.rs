//! `berth-ipam`: the `ipam` of a CNI main plugin such as bridge, macvlan, ipvlan or vlan.
//!
//! A main plugin executes it once per operation, with parameters in `CNI_*` variables and the network configuration
//! on stdin; it asks `berthd` over a Unix socket and prints a result or an error as JSON (CNI specification 0.4.0,
//! 1.0.0 and 1.1.0). [`answer`] is the entry point: the input is first turned into a request without any I/O ([`read`]),
//! and the request is then carried out by at most one call to `berthd`.
//!
//! It decides nothing and keeps nothing. It never frees an address: DEL tells `berthd` that an attachment is gone,
//! and succeeds whether or not anybody hears it, since `berthd` compares attachments with what exists by itself.
#![forbid(unsafe_code)]

mod args;
mod command;
mod config;
mod daemon;
mod environment;
mod error;
mod object;
mod request;
mod result;
mod version;

pub use command::{Answer, Checked, answer, read};
pub use config::DEFAULT_SOCKET;
pub use environment::Lookup;
pub use request::STDIN_LIMIT_BYTES;
