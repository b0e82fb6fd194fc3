//! What the kernel itself says of life: cgroups that hold processes, and root file systems that are still mounted.

use super::RuntimeError;
use super::error::{chain, transient};
use super::liveness::CgroupFact;
use berth_cgroup::{CgroupPath, CgroupRoot, Population};
use std::path::{Path, PathBuf};

/// Where the kernel shows itself; other folders in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoots {
    /// The cgroup v2 mount.
    pub cgroup: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    /// The sys file system.
    pub sys: PathBuf,
}

impl Default for KernelRoots {
    fn default() -> Self {
        Self { cgroup: "/sys/fs/cgroup".into(), proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl KernelRoots {
    /// The cgroup tree.
    pub(crate) fn cgroups(&self) -> CgroupRoot {
        CgroupRoot::new(&self.cgroup)
    }

    /// Works on the kernel's files where that keeps nobody waiting: writing memory.max may reclaim, for seconds.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let roots = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&roots)).await;
        done.map_err(|error| transient("work on cgroup files", error))?
    }
}

/// Whether any process is in the cgroup at `path` below the mount, or in one beneath it.
pub(super) fn cgroup_fact(roots: &KernelRoots, path: &Path) -> CgroupFact {
    let parsed = path.to_string_lossy().parse::<CgroupPath>();
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return CgroupFact::Unreadable(error.to_string()),
    };
    match roots.cgroups().population(&parsed) {
        Ok(Population::Populated) => CgroupFact::Populated,
        Ok(Population::Empty) => CgroupFact::Empty,
        Ok(Population::Gone) => gone_if_mounted(roots),
        Err(error) => CgroupFact::Unreadable(chain(&error)),
    }
}

/// An absent folder proves nothing where no cgroup v2 is mounted.
fn gone_if_mounted(roots: &KernelRoots) -> CgroupFact {
    let marker = roots.cgroup.join("cgroup.controllers");
    match std::fs::metadata(&marker) {
        Ok(_) => CgroupFact::Gone,
        Err(error) => CgroupFact::Unreadable(format!("look at {}: {error}", marker.display())),
    }
}

/// Where a container's cgroup is, below the mount, by its OCI `cgroupsPath`: `slice:prefix:name` under the systemd
/// driver, a path otherwise. None when it cannot be told.
pub(super) fn cgroup_of_spec(cgroups_path: &str) -> Option<PathBuf> {
    let parts: Vec<_> = cgroups_path.split(':').collect();
    match parts[..] {
        [slice, prefix, name] => Some(expand_slice(slice)?.join(format!("{prefix}-{name}.scope"))),
        [path] if path.starts_with('/') => Some(PathBuf::from(path.trim_start_matches('/'))),
        _ => None,
    }
}

/// `a-b.slice` lies in `a.slice`: each dash nests (systemd.slice(5)).
fn expand_slice(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem.is_empty() || stem.contains('/') {
        return None;
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Some(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

/// The mount point that a container's root file system still has, if it has one.
pub(super) fn mounted_rootfs(roots: &KernelRoots, id: &str) -> Result<Option<String>, RuntimeError> {
    // The first process's view: the agent may have a mount namespace of its own.
    let file = roots.proc.join("1/mountinfo");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| transient(format!("read {}", file.display()), error))?;
    Ok(find_rootfs(&text, id))
}

/// The mount point is the fifth field (proc_pid_mountinfo(5)).
fn find_rootfs(mountinfo: &str, id: &str) -> Option<String> {
    let suffix = format!("/{id}/rootfs");
    let mut mount_points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    mount_points.find(|path| path.ends_with(&suffix)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_their_dashes() {
        let cases = [
            (
                "berth-00ff.slice:cri-containerd:abc",
                Some("berth.slice/berth-00ff.slice/cri-containerd-abc.scope"),
            ),
            ("a-b-c.slice:p:n", Some("a.slice/a-b.slice/a-b-c.slice/p-n.scope")),
            ("/k8s.io/abc", Some("k8s.io/abc")),
            ("no-slice:p:n", None),
            ("relative", None),
            ("", None),
        ];
        for (given, expected) in cases {
            assert_eq!(cgroup_of_spec(given), expected.map(PathBuf::from), "{given}");
        }
    }

    #[test]
    fn absence_proves_nothing_without_cgroup_v2() {
        let mount = tempfile::tempdir().unwrap();
        let roots = KernelRoots { cgroup: mount.path().into(), ..KernelRoots::default() };
        let pod = Path::new("berth.slice/x");
        assert!(matches!(cgroup_fact(&roots, pod), CgroupFact::Unreadable(_)));
        std::fs::write(mount.path().join("cgroup.controllers"), "cpu\n").unwrap();
        assert_eq!(cgroup_fact(&roots, pod), CgroupFact::Gone);
        std::fs::create_dir_all(mount.path().join(pod)).unwrap();
        std::fs::write(mount.path().join(pod).join("cgroup.events"), "populated 0\n").unwrap();
        assert_eq!(cgroup_fact(&roots, pod), CgroupFact::Empty);
    }

    #[test]
    fn a_mounted_rootfs_is_found_by_its_container() {
        let text = "31 1 0:27 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/rootfs rw - overlay overlay rw";
        assert!(find_rootfs(text, "abc").is_some());
        assert!(find_rootfs(text, "ab").is_none());
        assert!(find_rootfs(text, "bc").is_none());
    }
}
