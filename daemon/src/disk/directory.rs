//! Directory disks: a folder in a project of its own, held to its size.

use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::project::{Owner, ProjectId};
use super::quota::{self, QuotaSupport, Usage};
use super::store::{Disks, OWN_MODE, Shelf, folder_of, set_mode};
use super::sys::Inherit;
use super::{sys, tree};
use berth_model::{Bytes, DiskName, PodId};
use std::os::fd::AsFd;

/// Any user of a container may write: which one it is, is not known. Nobody else reaches it: the folders above are the
/// agent's alone. An image that wants it otherwise changes it, and what it changed stays.
const NEW_DISK_MODE: u32 = 0o777;

impl Disks {
    /// Makes a directory disk, or holds the one that is there to another size; no size is no limit. Durable once this
    /// returns.
    ///
    /// # Errors
    /// Where the file system keeps no project quota and a size is given, the size is below what is used, or the kernel
    /// refuses.
    pub fn ensure_directory(
        &self,
        shelf: Shelf,
        pod: &PodId,
        disk: &DiskName,
        size: Option<Bytes>,
    ) -> Result<(), DiskError> {
        let _turn = self.turn();
        let support = self.quota_support()?;
        if size.is_some() {
            support.clone().require(&self.directory_path(shelf, pod, disk))?;
        }
        let of_pod = self.root()?.ensure(shelf.folder(), OWN_MODE)?.ensure(folder_of(pod), OWN_MODE)?;
        let is_new = of_pod.find(disk.as_str())?.is_none();
        if support == QuotaSupport::Enforced {
            let id = self.project_for(&shelf.owner(pod, disk), &of_pod, is_new)?;
            let folder = of_pod.ensure(disk.as_str(), OWN_MODE)?;
            tree::put_in_project(&folder, id)?;
            quota::hold(folder.as_fd(), id, size, folder.path())?;
        }
        let folder = of_pod.ensure(disk.as_str(), OWN_MODE)?;
        if mode_of(&of_pod, disk)? == OWN_MODE {
            set_mode(&folder, NEW_DISK_MODE)?;
        }
        folder.sync()
    }

    /// What is different from what is ordered; none if nothing is. None at all if the disk is not there.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn directory_fault(
        &self,
        shelf: Shelf,
        pod: &PodId,
        disk: &DiskName,
        size: Option<Bytes>,
    ) -> Result<Option<Fault>, DiskError> {
        let Some(folder) = self.find_directory(shelf, pod, disk)? else {
            return Ok(Some(Fault::Absent));
        };
        let usage = self.usage_of(&folder)?;
        let wanted = size.map(quota::as_limit);
        let text = |limit: Option<Bytes>| limit.map_or_else(|| "no size".to_owned(), |size| size.to_string());
        Ok((usage.limit != wanted).then(|| {
            Fault::Wrong(format!("it is held to {}, ordered is {}", text(usage.limit), text(wanted)))
        }))
    }

    pub(super) fn find_directory(
        &self,
        shelf: Shelf,
        pod: &PodId,
        disk: &DiskName,
    ) -> Result<Option<Folder>, DiskError> {
        match self.root()?.ensure(shelf.folder(), OWN_MODE)?.find(folder_of(pod))? {
            Some(of_pod) => of_pod.find(disk.as_str()),
            None => Ok(None),
        }
    }

    /// By the project that the folder itself carries.
    pub(super) fn usage_of(&self, folder: &Folder) -> Result<Usage, DiskError> {
        let unknown = Usage { used: None, limit: None };
        match sys::project(folder.as_fd()) {
            Ok((0, _)) => Ok(unknown),
            Err(error) if quota::is_unsupported(&error) => Ok(unknown),
            Err(error) => Err(error).tried("read the project of", folder.path()),
            Ok((id, _)) => match QuotaSupport::of(folder.as_fd(), folder.path())? {
                QuotaSupport::Enforced => quota::usage(folder.as_fd(), ProjectId(id), folder.path()),
                QuotaSupport::None { .. } => Ok(unknown),
            },
        }
    }

    /// The owner's project. An id whose old disk is not all removed yet is left to that, and a new one is given.
    pub(super) fn project_for(
        &self,
        owner: &Owner,
        on: &Folder,
        is_new: bool,
    ) -> Result<ProjectId, DiskError> {
        let projects = self.projects()?;
        if let (true, Some(id)) = (is_new, projects.find(owner)?)
            && !quota::is_unused(on.as_fd(), id)
        {
            projects.hand_over(id, owner, &Owner::Trash { name: id.to_string() })?;
        }
        projects.assign(owner, on)
    }
}

/// What is wrong with a data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Absent,
    /// It is otherwise than ordered; making it so again mends that.
    Wrong(String),
}

fn mode_of(of_pod: &Folder, disk: &DiskName) -> Result<u32, DiskError> {
    Ok(of_pod.stat(disk.as_str())?.map_or(0, |stat| stat.st_mode & 0o7777))
}

/// What a system disk's folders inherit.
pub(super) fn set(folder: &Folder, id: ProjectId, inherit: Inherit) -> Result<(), DiskError> {
    sys::set_project(folder.as_fd(), id.0, inherit).tried("set the project of", folder.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensure(disks: &Disks, name: &str, size_bytes: Option<u64>) -> Result<(), DiskError> {
        let pod = PodId::new("shop", "web").unwrap();
        disks.ensure_directory(Shelf::Kept, &pod, &DiskName::new(name).unwrap(), size_bytes.map(Bytes))
    }

    fn fault(disks: &Disks, name: &str, size_bytes: Option<u64>) -> Option<Fault> {
        let pod = PodId::new("shop", "web").unwrap();
        disks
            .directory_fault(Shelf::Kept, &pod, &DiskName::new(name).unwrap(), size_bytes.map(Bytes))
            .unwrap()
    }

    #[test]
    fn a_disk_is_held_to_its_size_or_refused_by_name() {
        let state = tempfile::tempdir().unwrap();
        let disks = Disks::new(state.path());
        ensure(&disks, "free", None).unwrap();
        assert_eq!(fault(&disks, "free", None), None);
        assert_eq!(fault(&disks, "absent", None), Some(Fault::Absent));
        let sized = ensure(&disks, "db", Some(1 << 20));
        match disks.quota_support().unwrap() {
            QuotaSupport::None { .. } => {
                assert!(matches!(sized, Err(DiskError::QuotaUnsupported { .. })), "{sized:?}");
                assert_eq!(fault(&disks, "db", None), Some(Fault::Absent), "a refusal makes nothing");
            }
            QuotaSupport::Enforced => {
                sized.unwrap();
                sizes_change(&disks);
            }
        }
    }

    fn sizes_change(disks: &Disks) {
        let pod = PodId::new("shop", "web").unwrap();
        assert_eq!(fault(disks, "db", Some(1 << 20)), None);
        let wrong = "it is held to 1Mi, ordered is 2Mi".to_owned();
        assert_eq!(fault(disks, "db", Some(2 << 20)), Some(Fault::Wrong(wrong)));
        let path = disks.directory_path(Shelf::Kept, &pod, &DiskName::new("db").unwrap());
        std::fs::create_dir(path.join("inner")).unwrap();
        let file = std::fs::File::create(path.join("inner/file")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 300_000], 0).unwrap();
        file.sync_all().unwrap();
        // What is open holds its blocks, and its project.
        drop(file);
        let shrunk = ensure(disks, "db", Some(100_000));
        assert!(matches!(shrunk, Err(DiskError::ShrinkBelowUse { .. })), "{shrunk:?}");
        ensure(disks, "db", Some(2 << 20)).unwrap();
        let found = disks.of_pod(&pod).unwrap();
        let (used, limit) = (found[0].usage.used.unwrap(), found[0].usage.limit);
        assert!((300_000..400_000).contains(&used.0), "{used:?}");
        assert_eq!(limit, Some(Bytes(2 << 20)));
        let id =
            sys::project(disks.find_directory(Shelf::Kept, &pod, &found[0].name).unwrap().unwrap().as_fd())
                .unwrap();
        // The old disk's id is not the new one's while the old is not removed.
        disks.give_up_directory(Shelf::Kept, &pod, &found[0].name).unwrap();
        ensure(disks, "db", Some(1 << 20)).unwrap();
        let new =
            sys::project(disks.find_directory(Shelf::Kept, &pod, &found[0].name).unwrap().unwrap().as_fd())
                .unwrap();
        assert_ne!(id, new);
        assert_eq!(disks.projects().unwrap().all().unwrap().len(), 3);
        assert_eq!(disks.empty_trash(usize::MAX).unwrap(), super::super::Left::Nothing);
        assert_eq!(disks.free_projects().unwrap(), super::super::Left::Nothing);
        assert_eq!(disks.projects().unwrap().all().unwrap().len(), 2);
    }
}
