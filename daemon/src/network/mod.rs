//! Addresses on the node: what the CNI plugin is told, and who uses which.
//!
//! The plugin asks while the runtime makes a sandbox, so it is answered here from the ledger, never by a pod's task.
//! An attachment only notes who uses an address: nothing here frees one.

mod ipam;
mod reconcile;
#[cfg(test)]
mod tests;

pub use ipam::Ipam;
pub use reconcile::{reconcile, sweep};
