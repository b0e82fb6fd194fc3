//! The host: its clock, its facts, what it can be held to, and whether it is fit to run pods. Looks only, but for what has
//! the kernel keep what is reserved for the system's own services.
//!
//! [`Host::facts`] is what upstream is told, [`Host::view`] is what admission asks, [`doctor::diagnose`] is what a
//! person wants to know when something does not work.

mod clock;
mod devices;
mod doctor;
mod facts;
mod host;
mod profiles;
mod reservation;
mod shared;
mod shutdown;

pub use clock::{boot_id, monotonic_ms};
pub use doctor::{Check, Finding, Level, Places, diagnose};
pub use facts::Declared;
pub use host::{Host, HostError};
pub use reservation::{Reservation, ReservationKeeper};
pub use shared::Shares;
pub use shutdown::{Announced, Hold, ShutdownNotice, watch_shutdown};
