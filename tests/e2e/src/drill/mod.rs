//! Drills: a host goes through what hosts go through, and what comes back is judged.

mod crash;
mod databases;
mod pods;
mod power;
mod random;
mod reboot;
mod sight;

pub use crash::{CrashSpec, Victim, crash};
pub use power::{PowerSpec, power};
pub use reboot::{RebootSpec, reboot};
