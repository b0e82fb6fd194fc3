//! Which node, CPUs, memory nodes and address a pod gets, and why, as pure functions.
//!
//! [`place`] filters nodes by [`Predicate`]s in the order of their cost: the first that fails ends a node. The search
//! begins where the last one ended and stops at enough feasible nodes; only those are scored, and a seed decides
//! among the best. Every node that was ruled out is in the [`Explanation`]. The exact CPUs on a node come from
//! [`AssignCpus`], which the caller implements: this crate knows no topology. [`AddressPool`] keeps the addresses of
//! one layer-2 domain, keyed on pod identity.
//!
//! Nothing here does I/O, reads a clock or draws a random number: all of that is handed in.
#![forbid(unsafe_code)]

mod address;
mod explain;
mod history;
mod node;
mod predicate;
mod score;
mod search;
mod split;

pub use address::{AddressPool, AddressRange, InvalidRange, NoAddress, TakenAddress};
pub use explain::{Explanation, NodeRefusal, Predicate};
pub use history::{AddressUse, TwoOwners, two_owners};
pub use node::{NodeView, Readiness, SharedPoolView};
pub use predicate::memory_demand;
pub use search::{AssignCpus, CpuAssignment, CpuDemand, CpuPlacement, Placement, Search, Unplaced, place};
