//! End-to-end cases: real packages installed on real hosts, driven by Berth's own commands, judged by the kernel.
//!
//! [`Fleet::up`] does what the README tells a person to do. Cases ask `berth` to do something, and then look at cgroup
//! files, `/proc`, and processes in the guest, never at what Berth says of itself.
//!
//! Nothing of Berth's inside is linked here: cases know its commands and their JSON.
#![forbid(unsafe_code)]

pub mod bench;
mod crash_points;
pub mod demo;
pub mod drill;
mod fleet;
mod footprint;
mod kernel;
mod knock;
mod manifest;
mod measure;
mod raw_cri;
mod redact;
mod runtime_cases;

pub use crash_points::{CrashPoints, Death};
pub use fleet::{Fleet, FleetSpec, package};
pub use footprint::Footprint;
pub use kernel::{Kernel, PodProcess};
pub use knock::{Attempt, Knocking};
pub use manifest::{REGISTRY_IMAGES, image};
pub use measure::{Measure, Report};
pub use redact::redact;
pub use runtime_cases::{hold_suite_to_cases, hold_to_cases};
