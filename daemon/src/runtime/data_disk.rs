//! Between a pod's spec and [`crate::disk`]: which data disks it has, how they are, and where containers see them.

use super::RuntimeError;
use super::error::{chain, permanent, transient};
use crate::crash_point::Deed;
use crate::disk::{DeviceDisk, DiskError, Disks, Fault, FoundDisk, Left, MadeOf, Memory, Shelf};
use berth_model::{Access, ContainerSpec, DataDisk, DiskLife, DiskName, DiskSource, PodId, PodSpec};
use berth_plan::DiskState;
use k8s_cri::v1::{Mount, MountPropagation};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How much of the trash is removed in one piece of work, between which others get a turn.
const TRASH_BUDGET: usize = 4096;
/// How often, and with what pause, project ids of removed disks are tried: XFS frees what was unlinked within a second.
const FREE_TRIES: usize = 50;
const FREE_PAUSE: Duration = Duration::from_millis(100);

/// The data disks of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenDataDisks {
    /// How those of the spec are, and every other one that is on the node.
    pub(super) states: BTreeMap<DiskName, DiskState>,
    /// What of it is scratch and on the node, whatever the spec says.
    pub(super) scratch: BTreeSet<DiskName>,
}

/// Looks at the data disks of a pod.
pub(super) fn look(disks: &Disks, pod: &PodId, spec: Option<&PodSpec>) -> Result<SeenDataDisks, DiskError> {
    let here = disks.of_pod(pod)?;
    let scratch = here.iter().filter(|found| is_scratch(found)).map(|found| found.name.clone()).collect();
    let mut states: BTreeMap<_, _> = here.into_iter().map(|found| (found.name, DiskState::Present)).collect();
    for disk in spec.iter().flat_map(|spec| &spec.disks) {
        let fault = match &disk.source {
            DiskSource::Directory { size } => disks.directory_fault(shelf(disk), pod, &disk.name, *size)?,
            DiskSource::Device { .. } => disks.device_fault(pod, &disk.name)?,
            DiskSource::Memory { size, page_size } => {
                disks.memory_fault(pod, &disk.name, Memory { size: *size, page_size: *page_size })?
            }
        };
        let state = match fault {
            None => DiskState::Present,
            Some(Fault::Absent) => DiskState::Absent,
            Some(Fault::Wrong(why)) => DiskState::Wrong { why },
        };
        states.insert(disk.name.clone(), state);
    }
    Ok(SeenDataDisks { states, scratch })
}

fn is_scratch(found: &FoundDisk) -> bool {
    match found.made_of {
        MadeOf::Directory(Shelf::Scratch) | MadeOf::Memory => true,
        MadeOf::Directory(Shelf::Kept) | MadeOf::Device(_) => false,
    }
}

/// Makes the spec's data disks.
pub(super) fn ensure(disks: &Disks, pod: &PodId, spec: &PodSpec) -> Result<(), RuntimeError> {
    spec.disks.iter().try_for_each(|disk| {
        let made = Deed::MakeDataDisk.between_now(|| match &disk.source {
            DiskSource::Directory { size } => disks.ensure_directory(shelf(disk), pod, &disk.name, *size),
            DiskSource::Device { id, filesystem } => {
                disks.ensure_device(DeviceDisk { pod, disk: &disk.name, id, filesystem: *filesystem })
            }
            DiskSource::Memory { size, page_size } => {
                disks.ensure_memory(pod, &disk.name, Memory { size: *size, page_size: *page_size })
            }
        });
        made.map_err(|error| told(format!("make data disk {} of {pod}", disk.name), &error))
    })
}

/// Gives data disks up; what is in directories is removed later.
pub(super) fn give_up(disks: &Disks, pod: &PodId, names: &BTreeSet<DiskName>) -> Result<(), RuntimeError> {
    names.iter().try_for_each(|name| {
        let given_up = Deed::GiveUpDataDisk.between_now(|| {
            give_up_one_scratch(disks, pod, name)
                .and_then(|()| disks.give_up_device(pod, name))
                .and_then(|()| disks.give_up_directory(Shelf::Kept, pod, name))
        });
        given_up.map_err(|error| told(format!("give up data disk {name} of {pod}"), &error))
    })
}

/// Gives up what of these names is scratch, and nothing else.
pub(super) fn give_up_scratch(
    disks: &Disks,
    pod: &PodId,
    names: &BTreeSet<DiskName>,
) -> Result<(), RuntimeError> {
    names.iter().try_for_each(|name| {
        let given_up = Deed::GiveUpDataDisk.between_now(|| give_up_one_scratch(disks, pod, name));
        given_up.map_err(|error| told(format!("give up scratch {name} of {pod}"), &error))
    })
}

fn give_up_one_scratch(disks: &Disks, pod: &PodId, name: &DiskName) -> Result<(), DiskError> {
    disks.give_up_memory(pod, name).and_then(|()| disks.give_up_directory(Shelf::Scratch, pod, name))
}

fn shelf(disk: &DataDisk) -> Shelf {
    match disk.life {
        DiskLife::Kept | DiskLife::Movable => Shelf::Kept,
        DiskLife::Scratch => Shelf::Scratch,
    }
}

/// Removes what was given up, and frees the project ids of what is gone; waits a moment for a file system that frees in the
/// background. What is counted still then, since somebody has a file open that is gone, is freed by a later sweep.
/// `containerd` is on the file system of the containers' system disks.
pub(super) async fn sweep(disks: Arc<Disks>, containerd: &'static Path) {
    for _ in 0..FREE_TRIES {
        let disks = disks.clone();
        match tokio::task::spawn_blocking(move || sweep_once(&disks, containerd)).await {
            Ok(Ok(Left::Something)) => tokio::time::sleep(FREE_PAUSE).await,
            Ok(Ok(Left::Nothing)) | Err(_) => break,
            Ok(Err(error)) => {
                tracing::warn!("not everything that was given up is removed yet: {}", chain(&error));
                break;
            }
        }
    }
}

fn sweep_once(disks: &Disks, containerd: &Path) -> Result<Left, DiskError> {
    while Deed::EmptyTrash.between_now(|| disks.empty_trash(TRASH_BUDGET))? == Left::Something {}
    Deed::FreeProjects.between_now(|| {
        disks.free_system_projects(containerd)?;
        disks.free_projects()
    })
}

/// A container's mounts.
pub(super) fn mounts(disks: &Disks, pod: &PodId, spec: &PodSpec, container: &ContainerSpec) -> Vec<Mount> {
    container
        .mounts
        .iter()
        .filter_map(|mount| {
            let disk = spec.disks.iter().find(|disk| disk.name == mount.disk)?;
            Some(Mount {
                container_path: mount.path.clone(),
                host_path: path(disks, pod, disk).to_string_lossy().into_owned(),
                readonly: mount.access == Access::ReadOnly,
                propagation: MountPropagation::PropagationPrivate.into(),
                ..Mount::default()
            })
        })
        .collect()
}

fn path(disks: &Disks, pod: &PodId, disk: &DataDisk) -> PathBuf {
    match &disk.source {
        DiskSource::Directory { .. } => disks.directory_path(shelf(disk), pod, &disk.name),
        DiskSource::Device { .. } => disks.device_path(pod, &disk.name),
        DiskSource::Memory { .. } => disks.memory_path(pod, &disk.name),
    }
}

/// Judges what went wrong with a disk.
pub(super) fn told(what: impl Into<String>, error: &DiskError) -> RuntimeError {
    match error.is_permanent() {
        true => permanent(what, chain(error)),
        false => transient(what, chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<DiskName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Pods come and go with other specs, so that one name can be of both.
    #[test]
    fn giving_scratch_up_reaches_nothing_that_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let disks = Disks::new(state.path());
        let (pod, both, kept) = ("shop/web".parse().unwrap(), names(&["both"]), names(&["kept"]));
        for name in both.iter().chain(&kept) {
            disks.ensure_directory(Shelf::Kept, &pod, name, None).unwrap();
            std::fs::write(disks.directory_path(Shelf::Kept, &pod, name).join("file"), "precious").unwrap();
        }
        for name in &both {
            disks.ensure_directory(Shelf::Scratch, &pod, name, None).unwrap();
        }
        let seen = || look(&disks, &pod, None).unwrap();
        let all: Vec<_> = both.iter().chain(&kept).cloned().collect();
        assert_eq!(seen().scratch, both);
        assert_eq!(seen().states.into_keys().collect::<Vec<_>>(), all);
        give_up_scratch(&disks, &pod, &all.iter().cloned().collect()).unwrap();
        assert_eq!(seen().scratch, BTreeSet::new());
        assert_eq!(seen().states.into_keys().collect::<Vec<_>>(), all);
        for name in &all {
            let path = disks.directory_path(Shelf::Kept, &pod, name).join("file");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "precious", "{name}");
        }
        give_up(&disks, &pod, &all.iter().cloned().collect()).unwrap();
        assert_eq!(seen().states, BTreeMap::new());
    }
}
