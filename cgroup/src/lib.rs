//! cgroup v2: limits to file writes, apply and verify, statistics and pressure.
//!
//! The thinking is pure. [`plan_writes`] says what is written to which file so that a cgroup is held to what was
//! [`Ordered`], each value in the very text that the kernel prints when it is read back; [`unit_properties`] says the
//! same as systemd unit properties, since a daemon-reload rewrites attributes from those; [`RuntimeResources`] says
//! the same for a container that does not exist yet. The acting is thin: [`CgroupRoot::open`] gives a [`Cgroup`],
//! [`apply`] writes, [`read_back`] compares, [`Statistics`] and [`Pressure`] are what the kernel counts.
//!
//! **Only what is ordered is written.** A limit that is absent from the order is left at what the cgroup has, which
//! for a new one is the kernel's default; [`plan_change`] puts a limit back that a former order had set
//! ([`plan_former`]), and [`property_change`] has systemd forget it. One thing is implied: who orders `memory.max` without
//! `memory.high` orders the latter to be none.
//!
//! This crate knows no pods, starts no process, moves no process between cgroups, makes and removes no cgroup, and
//! speaks no D-Bus. Only version 2 is known to it.
#![forbid(unsafe_code)]

mod apply;
mod block_devices;
mod capabilities;
mod device;
mod format;
mod mountinfo;
mod parse;
mod plan;
mod pressure;
mod properties;
mod room;
mod runtime;
mod statistics;
#[cfg(test)]
mod tests;
mod tree;

pub use apply::{ApplyError, ControlFiles, WriteError, apply, read_back};
pub use block_devices::{BlockDevices, DevicesError};
pub use capabilities::{Capabilities, IoWeightFile};
pub use device::{BlockDevice, DeviceId, DeviceKind, InvalidDeviceId, NoDevice};
pub use mountinfo::{Mount, parse_mountinfo};
pub use plan::{ControlWrite, Ordered, PlanError, plan_change, plan_former, plan_writes};
pub use pressure::{Pressure, PressureLine, Resource};
pub use properties::{PropertyValue, UnitProperties, UnitProperty, property_change, unit_properties};
pub use room::{Room, RoomError, Shortage, make_room, shortage};
pub use runtime::RuntimeResources;
pub use statistics::{CpuStat, IoDeviceStat, MemoryEvents, MemoryStat, Statistics};
pub use tree::{Cgroup, CgroupError, CgroupPath, CgroupRoot, InvalidPath, Population};
