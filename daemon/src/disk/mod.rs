//! Data disks of pods, and project quotas: directories and devices that are kept until they are released.
//!
//! It knows no runtime and no orders. [`Disks`] is the entry point; every call is synchronous, idempotent, and may be
//! cut off anywhere: the next call, or [`Disks::sweep`] at the start, finishes it.
//!
//! Beneath the agent's state folder:
//! | folder | what it is |
//! | --- | --- |
//! | `disks/pods/<namespace>.<name>/<disk>` | a directory disk; labels hold no dot, so the name reads back |
//! | `disks/devices/<namespace>.<name>/<disk>` | where a device is mounted; the pod sees the folder `data` in it |
//! | `disks/scratch/<namespace>.<name>/<disk>` | a directory disk that ends when its pod leaves the node |
//! | `disks/memory/<namespace>.<name>/<disk>` | where memory is mounted |
//! | `disks/notes/<namespace>.<name>/<disk>` | what was written to a device, noted before it was |
//! | `disks/projects/<id>.<owner>` | project ids that are in use; one is free again once its disk is gone |
//! | `disks/arriving/<namespace>.<name>/<disk>` | a disk that is being copied here; `<disk>.links` beside it holds files with several names |
//! | `disks/.trash/<id>` | disks that were given up, and are not removed yet |
//!
//! Nothing here follows a link, or leaves its folder: every path is opened beneath its root by openat2(2).

mod arrival;
mod attributes;
mod beneath;
mod departure;
mod device;
mod directory;
mod error;
mod making;
mod memory;
mod mounted;
mod note;
mod piece;
mod probe;
mod project;
mod quota;
mod store;
mod sys;
mod system;
mod trash;
mod tree;

pub use arrival::{Arrival, Expected};
pub use departure::Departure;
pub use device::DeviceDisk;
pub use directory::Fault;
pub use error::DiskError;
pub use memory::Memory;
pub use piece::{Attribute, Item, ItemKind, MAX_DEPTH, Modified, PIECE_BYTES, Piece};
pub use project::{Owner, ProjectId};
pub use quota::{QuotaSupport, Usage};
pub use store::{Disks, FoundDisk, MadeOf, Shelf};
pub use system::SystemDisk;
pub use trash::Left;
