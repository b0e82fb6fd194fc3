//! The node agent: carries out orders, keeps what it was told to keep, reports facts. It decides nothing.
//!
//! An order's way through here: [`link`] (stream from upstream) → `berth_plan::admit` → [`ledger`] (durable) → ack →
//! [`pod`] (one task a pod: observe, `berth_plan::next_step`, one effect, again) → [`runtime`] and [`node`] (the effects).
//! [`network`] answers the CNI plugin from the ledger, [`api`] answers `berthctl`, [`metrics`] a
//! monitoring system; [`events`] keeps what has happened until upstream has it. [`serve`] puts all of it together.
//!
//! What must not happen here: an effect on something live without an [`ledger::OrderWarrant`], which only the ledger
//! can mint; a choice; a wait for upstream in the way of a pod.

pub mod api;
pub mod clock;
pub mod config;
pub mod crash_point;
pub mod disk;
pub mod events;
pub mod host;
pub mod join_command;
pub mod ledger;
pub mod link;
#[cfg(any(test, feature = "fake"))]
#[allow(clippy::unwrap_used, reason = "for tests only")]
pub mod many_pods;
pub mod metrics;
pub mod network;
pub mod node;
pub mod peers;
pub mod pod;
pub mod report;
pub mod reports;
pub mod runtime;
pub mod serve;

#[cfg(any(test, feature = "fake"))]
#[allow(clippy::unwrap_used, reason = "for tests only")]
#[cfg_attr(not(test), allow(dead_code, reason = "the runtime's cases need half of it"))]
mod testing;
