//! The host: its clock, its facts, and whether it is fit to run pods. Looks only; changes nothing.

mod clock;

pub use clock::{boot_id, monotonic_ms};
