//! Topology, and the exact assignment of CPUs and memory nodes.
//!
//! [`Topology`] is what a host is made of; [`assign`] chooses exact CPUs and memory nodes on it, [`nodes_of`] says
//! where the memory of given CPUs is, [`split`] carves an assignment up. All of that is pure: the control plane uses
//! it on what hosts report. A host reads its own with [`read_sysfs`].
//!
//! **sysfs is the source that the daemon uses.** It shows the whole machine whatever cgroup the reader is in (hwloc
//! leaves out what the caller may not use), needs no C library on the host, and shows offline CPUs and free huge
//! pages as they are now. With the feature `hwloc` there is `from_hwloc` beside it, to compare with.
//!
//! This crate knows no pods, keeps no account of who has what, and binds nothing.
#![forbid(unsafe_code)]

mod assign;
mod caches;
mod choose;
#[cfg(feature = "hwloc")]
mod hwloc;
mod memory;
mod split;
mod sysfs;
#[cfg(test)]
mod tests;
mod topology;

pub use assign::{Assignment, CpuDemand, Free, NoFit, Sharing, assign};
#[cfg(feature = "hwloc")]
pub use hwloc::{HwlocError, from_hwloc, from_hwloc_synthetic, from_hwloc_xml};
pub use memory::{NoSuchCpus, distance_of, nodes_of};
pub use split::{CannotSplit, split};
pub use sysfs::{SysfsError, read_sysfs};
pub use topology::{Core, HugePages, InvalidTopology, LOCAL_DISTANCE, MemoryNode, Topology};
