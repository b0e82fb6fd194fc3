//! Holding a container's system disk to a size: a project quota on the folders of its snapshot.
//!
//! An overlay moves files from its work folder into its upper one, so both are in one project: between two, every
//! rename would fail with EXDEV. Outside a user namespace the owner of a file can change its project (chattr(1)): the
//! size is a guard against accidents there, and a wall only inside of one. A process with `CAP_SYS_RESOURCE` passes
//! ext4's limits; containers have none unless they are given it.

use super::Fault;
use super::beneath::Folder;
use super::error::DiskError;
use super::project::{Owner, ProjectId};
use super::quota::{self, QuotaSupport};
use super::store::Disks;
use super::{sys, tree};
use berth_model::Bytes;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A container's system disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemDisk {
    /// The snapshot's key.
    pub key: String,
    /// Its folders, on one file system: an overlay's upper and work folder, or the one that holds everything.
    pub folders: Vec<PathBuf>,
}

impl Disks {
    /// Holds a system disk to a size, or to none. Before anything runs on it: what is on it then is put into its
    /// project, too.
    ///
    /// # Errors
    /// Where the file system keeps no project quota, or more is written than fits.
    pub fn limit_system_disk(&self, disk: &SystemDisk, size: Option<Bytes>) -> Result<(), DiskError> {
        let _turn = self.turn();
        let Some(first) = disk.folders.first() else { return Ok(()) };
        let on = Folder::existing(first)?;
        let owner = Owner::System { key: disk.key.clone() };
        let id = match (size, self.projects()?.find(&owner)?) {
            (None, None) => return Ok(()),
            (_, Some(id)) => id,
            (Some(_), None) => {
                QuotaSupport::of(on.as_fd(), first)?.require(first)?;
                self.projects()?.assign(&owner, &on)?
            }
        };
        for folder in &disk.folders {
            tree::put_in_project(&Folder::existing(folder)?, id)?;
        }
        quota::hold(on.as_fd(), id, size, first)
    }

    /// What is different from what is ordered; none if nothing is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn system_disk_fault(
        &self,
        disk: &SystemDisk,
        size: Option<Bytes>,
    ) -> Result<Option<Fault>, DiskError> {
        let wanted = size.map(quota::as_limit);
        for folder in &disk.folders {
            let folder = Folder::existing(folder)?;
            let limit = self.usage_of(&folder)?.limit;
            if limit != wanted {
                let path = folder.path().display();
                return Ok(Some(Fault::Wrong(format!("{path} is held to {limit:?}, ordered is {wanted:?}"))));
            }
        }
        Ok(None)
    }

    /// What a system disk holds and may hold, if it has a project; by its key and any folder of its file system.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn system_disk_usage(&self, key: &str, on: &Path) -> Result<Option<super::Usage>, DiskError> {
        let owner = Owner::System { key: key.to_owned() };
        match self.projects()?.find(&owner)? {
            None => Ok(None),
            Some(id) => {
                let on = Folder::existing(on)?;
                quota::usage(on.as_fd(), id, on.path()).map(Some)
            }
        }
    }

    /// Frees the project ids of system disks that the runtime has removed. A disk that is there has folders in its
    /// project, so an id that nothing is counted for has none. `on` is any folder of the runtime's file system.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn free_system_projects(&self, on: &Path) -> Result<(), DiskError> {
        let _turn = self.turn();
        let on = Folder::existing(on)?;
        if QuotaSupport::of(on.as_fd(), on.path())? != QuotaSupport::Enforced {
            return Ok(());
        }
        let projects = self.projects()?;
        for (id, owner) in projects.all()? {
            let Some(owner @ Owner::System { .. }) = owner else { continue };
            if holds_nothing(&on, id) {
                quota::hold(on.as_fd(), id, None, on.path())?;
                projects.free(id, &owner)?;
            }
        }
        Ok(())
    }
}

fn holds_nothing(on: &Folder, id: ProjectId) -> bool {
    sys::quota(on.as_fd(), id.0).is_ok_and(|told| told.used == 0 && told.inodes == 0)
}
