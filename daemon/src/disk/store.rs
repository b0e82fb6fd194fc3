//! Where a node's data disks are, and which there are.

use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::mounted::MountPlace;
use super::project::{Owner, Projects};
use super::quota::{QuotaSupport, Usage};
use berth_model::{DeviceId, DiskName, PodId};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything beneath is the agent's alone; pods reach their disks by mounts.
pub(super) const OWN_MODE: u32 = 0o700;

/// The data disks of a node. One for each state folder.
#[derive(Debug)]
pub struct Disks {
    root: PathBuf,
    /// Held by whoever gives, moves or frees project ids.
    turn: Mutex<()>,
}

/// A data disk that is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDisk {
    /// Whose.
    pub pod: PodId,
    /// Its name in the pod.
    pub name: DiskName,
    /// What it is made of.
    pub made_of: MadeOf,
    /// Where the pod's containers get it from.
    pub path: PathBuf,
    /// What it holds, and may hold.
    pub usage: Usage,
}

/// Where a directory disk is, by how long it lasts: what ends with its pod's time here cannot be taken for what is
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// Until it is released.
    Kept,
    /// Until the pod leaves the node.
    Scratch,
}

impl Shelf {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Kept => "pods",
            Self::Scratch => "scratch",
        }
    }

    pub(super) fn owner(self, pod: &PodId, disk: &DiskName) -> Owner {
        let (pod, disk) = (pod.clone(), disk.clone());
        match self {
            Self::Kept => Owner::Data { pod, disk },
            Self::Scratch => Owner::Scratch { pod, disk },
        }
    }
}

/// What a data disk that is on the node is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MadeOf {
    /// A directory on this shelf.
    Directory(Shelf),
    /// This device.
    Device(DeviceId),
    /// Memory.
    Memory,
}

impl Disks {
    /// The disks beneath the agent's state folder. Nothing is made or looked at yet.
    pub fn new(state: &Path) -> Self {
        Self { root: state.join("disks"), turn: Mutex::new(()) }
    }

    /// Whether directory disks can be held to a size here.
    ///
    /// # Errors
    /// When the folder cannot be made or looked at.
    pub fn quota_support(&self) -> Result<QuotaSupport, DiskError> {
        let root = self.root()?;
        QuotaSupport::of(root.as_fd(), root.path())
    }

    /// Where a directory disk is.
    pub fn directory_path(&self, shelf: Shelf, pod: &PodId, disk: &DiskName) -> PathBuf {
        self.root.join(shelf.folder()).join(folder_of(pod)).join(disk.as_str())
    }

    /// Every data disk of the pod, whether or not anything orders it.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn of_pod(&self, pod: &PodId) -> Result<Vec<FoundDisk>, DiskError> {
        let mut found = self.directories_of_pod(Shelf::Kept, pod)?;
        found.extend(self.directories_of_pod(Shelf::Scratch, pod)?);
        for (name, device) in self.devices_of_pod(pod)? {
            let (path, usage) =
                (self.device_path(pod, &name), self.mounted_usage(MountPlace::Devices, pod, &name)?);
            found.push(FoundDisk { pod: pod.clone(), name, made_of: MadeOf::Device(device), path, usage });
        }
        for name in self.memory_of_pod(pod)? {
            let (path, usage) =
                (self.memory_path(pod, &name), self.mounted_usage(MountPlace::Memory, pod, &name)?);
            found.push(FoundDisk { pod: pod.clone(), name, made_of: MadeOf::Memory, path, usage });
        }
        Ok(found)
    }

    fn directories_of_pod(&self, shelf: Shelf, pod: &PodId) -> Result<Vec<FoundDisk>, DiskError> {
        let Some(folder) = self.root()?.ensure(shelf.folder(), OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in folder.entries()? {
            let name = entry.name.to_str().and_then(|name| DiskName::new(name).ok());
            let (Some(name), true) = (name, entry.is_folder) else {
                let path = folder.path().join(&entry.name);
                tracing::warn!("{} is no data disk, and stays", path.display());
                continue;
            };
            if let Some(disk) = folder.find(name.as_str())? {
                let usage = self.usage_of(&disk)?;
                let (pod, path) = (pod.clone(), disk.path().to_owned());
                found.push(FoundDisk { pod, name, made_of: MadeOf::Directory(shelf), path, usage });
            }
        }
        Ok(found)
    }

    /// Every data disk of the node.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn all(&self) -> Result<Vec<FoundDisk>, DiskError> {
        let mut pods = BTreeSet::new();
        for folder in ["pods", "scratch", "notes", "memory"] {
            let entries = self.root()?.ensure(folder, OWN_MODE)?.entries()?;
            pods.extend(entries.iter().filter_map(|entry| pod_of(entry.name.to_str()?)));
        }
        let mut found = Vec::new();
        for pod in pods {
            found.extend(self.of_pod(&pod)?);
        }
        Ok(found)
    }

    /// Where everything is; a file system of its own where the host's owner mounts one.
    pub fn path(&self) -> &Path {
        &self.root
    }

    pub(super) fn root(&self) -> Result<Folder, DiskError> {
        Folder::root(&self.root)
    }

    pub(super) fn projects(&self) -> Result<Projects, DiskError> {
        Ok(Projects(self.root()?.ensure("projects", OWN_MODE)?))
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        // What a panic left half-way is finished like what a crash did.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod's folder name. Labels hold no dot, so it reads back.
pub(super) fn folder_of(pod: &PodId) -> String {
    format!("{}.{}", pod.namespace(), pod.name())
}

fn pod_of(folder: &str) -> Option<PodId> {
    let (namespace, name) = folder.split_once('.')?;
    PodId::new(namespace, name).ok()
}

/// Sets the mode whatever the umask is.
pub(super) fn set_mode(folder: &Folder, mode: u32) -> Result<(), DiskError> {
    let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
    nix::sys::stat::fchmod(folder.as_fd(), mode).tried("set the mode of", folder.path())
}
