//! Containers' logs: read back as the containers wrote them, and kept from growing without bound.
//!
//! containerd writes `<container>/<attempt>.log` below the pod's folder. A file that has grown is renamed to
//! `<attempt>.log.1`, `.2` and so on, and containerd is asked to begin anew; what it writes to no more is packed to
//! `.gz`. The numbers only grow, so that no clock decides what is older. `plan` says what is to be done with a folder,
//! from the names and sizes in it alone; whatever was interrupted is found again in the names.

mod joiner;
mod keep;
mod plan;
mod read;
mod unpack;

pub use keep::Keeper;
pub use plan::LogLimits;
pub use read::{Follow, LogError, LogQuery, read_logs};
