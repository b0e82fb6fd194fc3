//! Numbers for a monitoring system: `GET /metrics` over HTTP, in the text format of OpenMetrics 1.0, which Prometheus reads.
//!
//! A daemon implements [`Source`], whose [`Sheet`] is filled anew for every question, and has [`serve`] answer.
#![forbid(unsafe_code)]

mod serve;
mod sheet;

pub use serve::{Source, serve};
pub use sheet::{Labels, Sheet, catalogue};
