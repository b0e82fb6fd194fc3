//! Disks that are full: a fact for upstream, and for nothing else. The pod meets ENOSPC.

use crate::disk::{DiskError, Disks};
use berth_plan::PodRecord;
use std::path::Path;

/// The pod's disks that are full, for people, in a stable order. `containerd` is any folder of the file system that system
/// disks are on.
///
/// # Errors
/// When one cannot be looked at.
pub(super) fn full_disks(
    disks: &Disks,
    record: &PodRecord,
    containerd: &Path,
) -> Result<Vec<String>, DiskError> {
    let data = disks.of_pod(&record.pod)?;
    let mut full: Vec<_> = data
        .iter()
        .filter(|disk| disk.usage.is_full())
        .map(|disk| format!("data disk {} is full", disk.name))
        .collect();
    for (container, known) in &record.containers {
        let Some(key) = &known.disk else { continue };
        if disks.system_disk_usage(key, containerd)?.is_some_and(|usage| usage.is_full()) {
            full.push(format!("the system disk of container {container} is full"));
        }
    }
    Ok(full)
}
