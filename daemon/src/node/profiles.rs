//! The profiles that the host's administrator has put there for containers.

use super::HostError;
use berth_model::{ProfileName, SECCOMP_FOLDER};
use berth_plan::ProfileView;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Looks at the host whose root is `root`.
pub(super) fn profiles(root: &Path) -> Result<ProfileView, HostError> {
    Ok(ProfileView { seccomp: seccomp(root)?, apparmor: apparmor(root)? })
}

fn seccomp(root: &Path) -> Result<BTreeSet<ProfileName>, HostError> {
    let folder = root.join(SECCOMP_FOLDER.trim_start_matches('/'));
    let read = |source| HostError::Read { path: folder.clone(), source };
    let Some(entries) = found(fs::read_dir(&folder)).map_err(read)? else { return Ok(BTreeSet::new()) };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(read)?;
        // Whatever has another name can be ordered by none.
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        names.extend(name.filter(|_| entry.path().is_file()));
    }
    Ok(names)
}

/// Without this program containerd takes its host for one without AppArmor (`HostSupports` in its `pkg/apparmor`).
const PARSER: &str = "sbin/apparmor_parser";

/// None where the kernel has no AppArmor, or has it switched off, or the runtime leaves it alone.
fn apparmor(root: &Path) -> Result<Option<BTreeSet<ProfileName>>, HostError> {
    if !has_apparmor(root)? || !has_parser(root) {
        return Ok(None);
    }
    let loaded = read(root.join("sys/kernel/security/apparmor/profiles"))?.unwrap_or_default();
    // Each line is a name and its mode, `docker-default (enforce)`.
    let names = loaded.lines().filter_map(|line| line.rsplit_once(" (")?.0.parse().ok());
    Ok(Some(names.collect()))
}

/// Whether the kernel has AppArmor, switched on.
pub(super) fn has_apparmor(root: &Path) -> Result<bool, HostError> {
    let enabled = read(root.join("sys/module/apparmor/parameters/enabled"))?;
    Ok(enabled.is_some_and(|text| text.trim() == "Y"))
}

/// Whether containerd would have anything confined by it.
pub(super) fn has_parser(root: &Path) -> bool {
    root.join(PARSER).exists()
}

fn read(path: PathBuf) -> Result<Option<String>, HostError> {
    found(fs::read_to_string(&path)).map_err(|source| HostError::Read { path, source })
}

fn found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], seccomp: &[&str], apparmor: Option<&[&str]>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let set = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let expected = ProfileView { seccomp: set(seccomp), apparmor: apparmor.map(set) };
        assert_eq!(profiles(root.path()).unwrap(), expected, "{files:?}");
    }

    #[test]
    fn what_is_there_by_its_name() {
        let enabled = "sys/module/apparmor/parameters/enabled";
        let loaded = "sys/kernel/security/apparmor/profiles";
        check(&[], &[], None);
        check(&[("etc/berth/seccomp/audit.json", "{}")], &["audit.json"], None);
        check(&[("etc/berth/seccomp/.swp", ""), ("etc/berth/seccomp/a/b.json", "{}")], &[], None);
        check(&[(enabled, "N\n"), (loaded, "web (enforce)\n")], &[], None);
        check(&[(enabled, "Y\n"), (loaded, "web (enforce)\n")], &[], None);
        check(&[(enabled, "Y\n"), (PARSER, "")], &[], Some(&[]));
        let text = "web (enforce)\n/usr/bin/man (complain)\nlsb release (unconfined)\n";
        check(&[(enabled, "Y\n"), (PARSER, ""), (loaded, text)], &[], Some(&["web"]));
    }
}
