//! Disks that are full: a fact for upstream, and for nothing else. The pod meets ENOSPC.

use crate::disk::{DiskError, Disks};
use berth_model::DiskName;
use berth_plan::PodRecord;
use std::path::Path;

/// The disks of the pod's charter that are full, for people, in the charter's order. Only what has a size is looked at.
/// `containerd` is any folder of the file system that system disks are on.
///
/// # Errors
/// When one cannot be looked at.
pub(super) fn full_disks(
    disks: &Disks,
    record: &PodRecord,
    containerd: &Path,
) -> Result<Vec<String>, DiskError> {
    let Some(spec) = record.charter.as_ref().map(|charter| &charter.spec) else { return Ok(Vec::new()) };
    let mut full = Vec::new();
    if !spec.disks.is_empty() {
        // Huge pages are there to be taken whole.
        let huge =
            |name: &DiskName| spec.disks.iter().any(|disk| disk.name == *name && disk.page_size().is_some());
        let data = disks.of_pod(&record.pod)?.into_iter();
        let data = data.filter(|disk| disk.usage.is_full() && !huge(&disk.name));
        full.extend(data.map(|disk| format!("data disk {} is full", disk.name)));
    }
    for container in spec.containers.iter().filter(|container| container.system_disk_size.is_some()) {
        let Some(key) = record.disk(&container.name) else { continue };
        if disks.system_disk_usage(key, containerd)?.is_some_and(|usage| usage.is_full()) {
            full.push(format!("the system disk of container {} is full", container.name));
        }
    }
    Ok(full)
}
