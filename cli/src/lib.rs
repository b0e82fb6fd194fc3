//! berth, for the platform's operator, and berthctl, for who debugs one node.
#![forbid(unsafe_code)]

mod manifest;

pub use manifest::{EXAMPLE, Manifest, ManifestError, parse};
mod channel;
mod config;
mod failure;
mod json;
mod tls;
