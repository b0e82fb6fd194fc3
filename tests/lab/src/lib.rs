//! The lab: QEMU guests, an image registry and whatever else a case needs, in namespaces of their own.
//!
//! [`Lab::up`] brings one up, or finds it up; [`Guest::run`] runs a script in a guest; [`Lab::command`] makes a command
//! that runs beside the guests; [`Lab::spawn`] starts a process there that lives as long as the lab.
//! [`Guest::power_off`], [`Guest::cut_power`] and [`Guest::boot`] take a host through what hosts go through: another
//! kernel, other hardware, and a power cut that leaves of the unflushed writes what a seed says.
//!
//! One supervisor process keeps the lab's PID namespace: whatever ends it (a crash, SIGKILL) ends everything that
//! it started, and the network goes with its namespace. Nothing is ever looked for, or ended, by name. As root the lab
//! needs a network, a mount and a PID namespace; without root a user namespace too, and nothing else differs.
#![forbid(unsafe_code)]

mod apps;
mod cache;
mod command;
mod disks;
mod guest;
mod hosts;
mod image;
mod init;
mod lab;
mod machine;
mod monitor;
mod network;
mod oci;
mod power;
mod progress;
mod protocol;
mod qemu;
mod saved;
mod supervisor;
mod wait;
mod write_log;

pub use command::Output;
pub use guest::Guest;
pub use image::{Kernel, Suite};
pub use lab::{Lab, LabSpec};
pub use machine::{Machine, Topology, Writes};
pub use network::{GATEWAY, POD_GATEWAY, POD_NETWORK, REGISTRY, guest_address};
pub use power::CutReport;
pub use protocol::Process;
pub use supervisor::supervise;
pub use wait::wait_until;
