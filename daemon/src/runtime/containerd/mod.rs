//! containerd's own records, beneath CRI: containers, tasks, snapshots, images, content. Thin calls, no choices.

mod containers;
mod content;
mod images;
mod leases;
mod snapshots;
mod tasks;

pub(super) use containers::Record;
pub(super) use content::Blob;
pub(super) use images::Image;
pub(super) use leases::TemporaryLease;
pub(super) use snapshots::SnapshotMount;
pub(super) use tasks::TaskStatus;
