//! Addresses on the node: what the CNI plugin is told, and who uses which.
//!
//! The plugin asks while the runtime makes a sandbox, so it is answered here from the ledger, never by a pod's task.
//! Before an address is used the link is asked whether somebody else has it, and once it is used it is announced.
//! An attachment only notes who uses an address: nothing here frees one.

mod arp;
mod collect;
mod conflist;
mod frame;
mod guard;
mod ipam;
mod ndp;
mod netns;
mod packet_socket;
mod probe;
#[cfg(test)]
mod probe_tests;
mod reconcile;
#[cfg(test)]
mod tests;

pub(crate) use conflist::{IPAM, first_list, plugins};
pub use frame::Mac;
pub(crate) use guard::IN_USE;
pub use guard::{Probing, announce_sandbox};
pub use ipam::Ipam;
pub use netns::connect;
pub use probe::{ProbeError, ProbeTiming, Verdict, announce, probe};
pub use reconcile::{reconcile, sweep};
