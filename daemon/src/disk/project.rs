//! Project ids: which are in use, and by whom.
//!
//! The folder `projects` is the record: one empty file for each id, named by the id and its owner, made durable before
//! the id is put on anything, and removed once nothing carries it any more. So an id is never given twice, whatever
//! crashes in between. An id that the file system counts anything for is passed over: it is somebody else's.

use super::beneath::Folder;
use super::error::DiskError;
use super::quota;
use berth_model::{DiskName, PodId};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd;

/// First id of the agent's range: far from those that people give by hand in `/etc/projid`, and from the ranges of
/// Kubernetes (from 1048577 on) and Docker (from 1 on).
const FIRST: u32 = 0x4200_0000;
/// How many there are: 64 pods' worth for each of a thousand pods.
const COUNT: u32 = 1 << 16;

/// A project of the kernel's quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub u32);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a project id was given to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A data disk.
    Data {
        /// Whose.
        pod: PodId,
        /// Which.
        disk: DiskName,
    },
    /// A data disk that ends when its pod leaves the node.
    Scratch {
        /// Whose.
        pod: PodId,
        /// Which.
        disk: DiskName,
    },
    /// A data disk that is being copied here.
    Arriving {
        /// Whose.
        pod: PodId,
        /// Which.
        disk: DiskName,
    },
    /// A container's system disk, by the key of its snapshot: letters, digits, dashes and underscores.
    System {
        /// The key.
        key: String,
    },
    /// A data disk that was given up, until the last of it is removed. Its name in the trash.
    Trash {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { pod, disk } => write!(f, "data.{}.{}.{disk}", pod.namespace(), pod.name()),
            Self::Scratch { pod, disk } => {
                write!(f, "scratch.{}.{}.{disk}", pod.namespace(), pod.name())
            }
            Self::Arriving { pod, disk } => {
                write!(f, "arriving.{}.{}.{disk}", pod.namespace(), pod.name())
            }
            Self::System { key } => write!(f, "system.{key}"),
            Self::Trash { name } => write!(f, "trash.{name}"),
        }
    }
}

impl Owner {
    fn parse(text: &str) -> Option<Self> {
        match *text.split('.').collect::<Vec<_>>() {
            ["data", namespace, name, disk] => {
                Some(Self::Data { pod: PodId::new(namespace, name).ok()?, disk: DiskName::new(disk).ok()? })
            }
            ["scratch", namespace, name, disk] => Some(Self::Scratch {
                pod: PodId::new(namespace, name).ok()?,
                disk: DiskName::new(disk).ok()?,
            }),
            ["arriving", namespace, name, disk] => Some(Self::Arriving {
                pod: PodId::new(namespace, name).ok()?,
                disk: DiskName::new(disk).ok()?,
            }),
            ["system", key] => Some(Self::System { key: key.to_owned() }),
            ["trash", name] => Some(Self::Trash { name: name.to_owned() }),
            _ => None,
        }
    }
}

/// The record. Its caller sees to it that no two work on it at a time.
#[derive(Debug)]
pub(super) struct Projects(pub(super) Folder);

impl Projects {
    /// Every id that is in use. A name that cannot be read keeps its id in use.
    pub(super) fn all(&self) -> Result<BTreeMap<ProjectId, Option<Owner>>, DiskError> {
        let entries = self.0.entries()?;
        Ok(entries
            .iter()
            .filter_map(|entry| {
                let (id, owner) = entry.name.to_str()?.split_once('.')?;
                Some((ProjectId(id.parse().ok()?), Owner::parse(owner)))
            })
            .collect())
    }

    /// The owner's id, if it has one.
    pub(super) fn find(&self, owner: &Owner) -> Result<Option<ProjectId>, DiskError> {
        let all = self.all()?;
        Ok(all.into_iter().find(|(_, theirs)| theirs.as_ref() == Some(owner)).map(|(id, _)| id))
    }

    /// The owner's id, a new one if it has none. `on` is on the file system that will count it.
    pub(super) fn assign(&self, owner: &Owner, on: impl AsFd) -> Result<ProjectId, DiskError> {
        let all = self.all()?;
        if let Some((id, _)) = all.iter().find(|(_, theirs)| theirs.as_ref() == Some(owner)) {
            return Ok(*id);
        }
        let free = |id: &ProjectId| !all.contains_key(id) && quota::is_unused(on.as_fd(), *id);
        let id = (FIRST..FIRST + COUNT).map(ProjectId).find(free).ok_or(DiskError::NoProjectLeft(COUNT))?;
        self.0.make_file(format!("{id}.{owner}"))?;
        Ok(id)
    }

    /// The id belongs to another owner from now on.
    pub(super) fn hand_over(&self, id: ProjectId, from: &Owner, to: &Owner) -> Result<(), DiskError> {
        self.0.replace(&format!("{id}.{to}"), &format!("{id}.{from}"))
    }

    /// Nothing carries the id any more.
    pub(super) fn free(&self, id: ProjectId, owner: &Owner) -> Result<(), DiskError> {
        self.0.remove_file(format!("{id}.{owner}"))?;
        self.0.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_read_back() {
        let pod = PodId::new("shop", "web-1").unwrap();
        let owners = [
            Owner::Data { pod: pod.clone(), disk: DiskName::new("db").unwrap() },
            Owner::Arriving { pod, disk: DiskName::new("db").unwrap() },
            Owner::System { key: "0af1".to_owned() },
            Owner::Trash { name: "7-1".to_owned() },
        ];
        for owner in owners {
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        }
        for bad in ["", "data", "arriving.a.b", "data.a.b", "data.a.b.C", "other.x", "data.a.b.c.d"] {
            assert_eq!(Owner::parse(bad), None, "{bad}");
        }
    }
}
