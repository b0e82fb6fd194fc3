//! Addresses on the node: what the CNI plugin is told, and who uses which.
//!
//! The plugin asks while the runtime makes a sandbox, so it is answered here from the ledger, never by a pod's task.
//! An attachment only notes who uses an address: nothing here frees one.

mod arp;
mod frame;
mod ipam;
mod ndp;
mod packet_socket;
mod probe;
mod reconcile;
#[cfg(test)]
mod tests;

pub use frame::Mac;
pub use ipam::Ipam;
pub use probe::{ProbeError, ProbeTiming, Verdict, announce, probe};
pub use reconcile::{reconcile, sweep};
