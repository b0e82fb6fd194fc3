//! Drills: a host goes through what hosts go through, and what comes back is judged.

mod databases;
mod measure;
mod pods;
mod power;
mod random;
mod raw_cri;
mod reboot;
mod sight;

pub use measure::{Measure, Report};
pub use power::{PowerSpec, power};
pub use reboot::{RebootSpec, reboot};
