//! What a container has of its host: folders, files, sockets and devices that the node's administrator shares by name.

use crate::disk::wrong_path;
use crate::pod::is_clean_absolute_path;
use crate::{Access, ConfigFolder, DiskMount};
use std::collections::{BTreeMap, BTreeSet};

/// Most paths of the host that one container has: a bound, far above any real one.
pub const MAX_HOST_PATHS: usize = 64;
/// Longest path, bytes (PATH_MAX without its NUL).
const MAX_PATH_BYTES: usize = 4095;

/// What every container has in `/dev` of its own (the OCI runtime specification, "Default Devices", and the mounts that
/// runtimes put there).
const OWN_DEVICES: [&str; 16] = [
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
    "stdout", "tty", "urandom", "zero",
];

/// A path of the host that a container sees. A device is let through to it; anything else is mounted into it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath {
    /// On the host, exactly as its administrator shares it: what is beneath cannot be named, since whoever may write
    /// there could have it lead elsewhere.
    pub source: String,
    /// Where the container sees it; absolute.
    pub path: String,
    /// What the container may do there.
    pub access: Access,
}

/// What a host shares with containers, by its path there, and what they may do with it.
pub type SharedPaths = BTreeMap<String, Access>;

impl HostPath {
    /// Why a host that shares these does not give it; none if it does.
    pub fn withheld(&self, shared: &SharedPaths) -> Option<&'static str> {
        match (shared.get(&self.source), self.access) {
            (None, _) => Some("is not shared by this host, or is not there"),
            (Some(Access::ReadOnly), Access::ReadWrite) => Some("is shared by this host for reading only"),
            (Some(Access::ReadOnly), Access::ReadOnly) | (Some(Access::ReadWrite), _) => None,
        }
    }
}

/// Why a container cannot have what it asks for of its host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostPath {
    /// More than a container may have.
    #[error("{0} paths of the host, at most {MAX_HOST_PATHS} are possible")]
    TooMany(usize),
    /// A source that no host has.
    #[error("path {0:?} of the host is no absolute path without . and ..")]
    Source(String),
    /// A place where it cannot be.
    #[error("path {path:?}, for {source_path} of the host, {why}")]
    Path {
        /// What was to be there.
        source_path: String,
        /// Where.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Checks what one container has of its host, by itself and against what else is mounted into it.
///
/// # Errors
/// The first thing found wrong.
pub(crate) fn validate_host_paths(
    paths: &[HostPath],
    mounts: &[DiskMount],
    config: &[ConfigFolder],
) -> Result<(), InvalidHostPath> {
    if paths.len() > MAX_HOST_PATHS {
        return Err(InvalidHostPath::TooMany(paths.len()));
    }
    let mut taken: BTreeSet<&str> = mounts.iter().map(|mount| mount.path.as_str()).collect();
    taken.extend(config.iter().map(|folder| folder.path.as_str()));
    paths.iter().try_for_each(|shared| {
        if !is_shareable(&shared.source) {
            return Err(InvalidHostPath::Source(shared.source.clone()));
        }
        let why = wrong_place(&shared.path)
            .or_else(|| (!taken.insert(&shared.path)).then_some("is given twice"))
            .or_else(|| clash(&shared.path, paths, mounts, config));
        match why {
            None => Ok(()),
            Some(why) => Err(InvalidHostPath::Path {
                source_path: shared.source.clone(),
                path: shared.path.clone(),
                why,
            }),
        }
    })
}

/// Whether a node can share a path of that name.
pub fn is_shareable(source: &str) -> bool {
    is_clean_absolute_path(source) && source != "/" && source.len() <= MAX_PATH_BYTES
}

/// Why nothing of the host can be there; none if something can. What others find in `/dev` stays as it is.
fn wrong_place(path: &str) -> Option<&'static str> {
    match path.strip_prefix("/dev/") {
        Some(device) if is_clean_absolute_path(path) => {
            let first = device.split('/').next().unwrap_or_default();
            OWN_DEVICES.contains(&first).then_some("is the kernel's")
        }
        _ if path == "/etc" => Some("is where the agent's own files are: choose a folder inside"),
        _ => wrong_path(path),
    }
}

/// Mount points are made where they are missing: in a folder of the host they would be made on the host, and in one for
/// reading only they cannot be made.
fn clash(
    path: &str,
    paths: &[HostPath],
    mounts: &[DiskMount],
    config: &[ConfigFolder],
) -> Option<&'static str> {
    let is_inside = |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
    let read_only = |mount: &&DiskMount| mount.access == Access::ReadOnly;
    if paths.iter().any(|other| is_inside(path, &other.path)) {
        Some("is in another path of the host")
    } else if mounts.iter().any(|mount| is_inside(&mount.path, path)) {
        Some("has a data disk mounted inside")
    } else if config.iter().any(|folder| is_inside(&folder.path, path)) {
        Some("has a folder of configuration inside")
    } else if mounts.iter().filter(read_only).any(|mount| is_inside(path, &mount.path)) {
        Some("is on a data disk that is mounted for reading")
    } else if config.iter().any(|folder| is_inside(path, &folder.path)) {
        Some("is in a folder of configuration, which holds nothing but its files")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(source: &str, path: &str) -> HostPath {
        HostPath { source: source.to_owned(), path: path.to_owned(), access: Access::ReadOnly }
    }

    fn check(paths: &[HostPath], expected: Result<(), &str>) {
        let mount =
            |path: &str, access| DiskMount { disk: "data".parse().unwrap(), path: path.to_owned(), access };
        let mounts = [
            mount("/data", Access::ReadWrite),
            mount("/outer/data", Access::ReadWrite),
            mount("/frozen", Access::ReadOnly),
        ];
        let config =
            ["/config", "/conf/inner"].map(|path| ConfigFolder { path: path.to_owned(), files: Vec::new() });
        match (validate_host_paths(paths, &mounts, &config), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(why)) if error.to_string().ends_with(why) => {}
            (said, _) => panic!("{paths:?}: {said:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_a_host_withholds() {
        let host = SharedPaths::from([
            ("/srv/models".to_owned(), Access::ReadOnly),
            ("/dev/fuse".to_owned(), Access::ReadWrite),
        ]);
        let check = |source: &str, access: Access, expected: Option<&str>| {
            assert_eq!(
                HostPath { access, ..shared(source, "/x") }.withheld(&host),
                expected,
                "{source} {access:?}"
            );
        };
        check("/srv/models", Access::ReadOnly, None);
        check("/srv/models", Access::ReadWrite, Some("is shared by this host for reading only"));
        check("/dev/fuse", Access::ReadOnly, None);
        check("/dev/fuse", Access::ReadWrite, None);
        for other in ["/srv", "/srv/models/inner", "/srv/models2"] {
            check(other, Access::ReadOnly, Some("is not shared by this host, or is not there"));
        }
    }

    #[test]
    fn sources_and_places() {
        check(&[], Ok(()));
        check(&[shared("/srv/models", "/models"), shared("/srv/models", "/again")], Ok(()));
        check(&[shared("/dev/fuse", "/dev/fuse"), shared("/dev/nvidia0", "/dev/nvidia/0")], Ok(()));
        let other = shared("/srv/other", "/models/inner");
        check(&[shared("/srv/models", "/models"), other], Err("is in another path of the host"));
        check(&[shared("/srv/models", "/outer")], Err("has a data disk mounted inside"));
        check(&[shared("/srv/models", "/conf")], Err("has a folder of configuration inside"));
        check(&[shared("/srv/models", "/frozen/x")], Err("is on a data disk that is mounted for reading"));
        check(&[shared("/srv", "/data/inner")], Ok(()));
        for source in ["/", "srv", "", "/srv/../etc", "/srv/"] {
            check(&[shared(source, "/x")], Err("of the host is no absolute path without . and .."));
        }
        for (path, why) in [
            ("/", "is the system disk's"),
            ("/etc", "choose a folder inside"),
            ("/etc/hosts", "is the agent's"),
            ("/proc/x", "is the kernel's"),
            ("/sys", "is the kernel's"),
            ("/dev", "is the kernel's"),
            ("/dev/null", "is the kernel's"),
            ("/dev/shm/x", "is the kernel's"),
            ("/dev/../x", "is no absolute path without . and .."),
            ("/data", "is given twice"),
            ("/config", "is given twice"),
            ("/config/x", "which holds nothing but its files"),
        ] {
            check(&[shared("/srv", path)], Err(why));
        }
        check(&[shared("/srv", "/x"), shared("/opt", "/x")], Err("is given twice"));
        let many: Vec<_> = (0..=MAX_HOST_PATHS).map(|n| shared("/srv", &format!("/{n}"))).collect();
        check(&many, Err("65 paths of the host, at most 64 are possible"));
    }
}
