//! `berth`, for the platform's operator, and `berthctl`, for who debugs one node.
//!
//! Both only speak gRPC: `berth` with the control plane by mutual TLS, `berthctl` with the node's own daemon over its
//! Unix socket. Entry points are [`berth`] and [`berthctl`]; [`parse`] turns a manifest into what it asks for and is
//! pure. Nothing here decides anything about pods or nodes.
#![forbid(unsafe_code)]

mod berth;
mod berthctl;
mod manifest;
mod program;

mod channel;
mod config;
mod tls;

mod events;
mod failure;
mod json;
mod output;
mod table;

pub use berth::main as berth;
pub use berthctl::main as berthctl;
pub use manifest::{EXAMPLE, Manifest, ManifestError, parse};
