//! Configuration files: they travel in the order, and a container sees those that it was made with for as long as it lives.

use crate::disk::{SHARED_MEMORY, wrong_path};
use crate::{Access, DiskMount};
use std::collections::BTreeSet;
use std::fmt;

/// Most folders of configuration of one container.
pub const MAX_CONFIG_FOLDERS: usize = 32;
/// Most files of one folder.
pub const MAX_CONFIG_FILES: usize = 256;
/// All configuration of one pod, bytes: half of what the control plane takes as one pod's request. It is in every record of
/// the pod, and in every order that names all of it.
pub const MAX_CONFIG_BYTES: usize = 128 << 10;
/// Longest name of a file, bytes (NAME_MAX).
const MAX_NAME_BYTES: usize = 255;

/// A file of a container's configuration. It is root's, and nobody can write to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConfigFile {
    /// Its name in the folder.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Who may read and execute it.
    pub mode: ConfigMode,
}

/// What is in it may be secret, and logs are not.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes, {:?})", self.name, self.content.len(), self.mode)
    }
}

/// Permissions to read and to execute, as in chmod(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigMode(u32);

impl ConfigMode {
    /// Everybody may read: a container's user may be anybody.
    pub const DEFAULT: Self = Self(0o444);

    /// From its bits.
    ///
    /// # Errors
    /// When it lets anybody write, lets nobody read, or has other bits than permissions.
    pub fn new(bits: u32) -> Result<Self, InvalidConfig> {
        match bits & !0o555 == 0 && bits & 0o444 != 0 {
            true => Ok(Self(bits)),
            false => Err(InvalidConfig::Mode(bits)),
        }
    }

    /// Its bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for ConfigMode {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for ConfigMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A folder of a container that holds its configuration, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigFolder {
    /// Where the container sees it; absolute.
    pub path: String,
    /// What is in it.
    pub files: Vec<ConfigFile>,
}

/// Why a configuration was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// Permissions that no file of a configuration has.
    #[error("mode {0:04o} of a file: only reading and executing can be permitted, and somebody must read")]
    Mode(u32),
    /// More folders than a container may have.
    #[error("{0} folders, at most {MAX_CONFIG_FOLDERS} are possible")]
    TooManyFolders(usize),
    /// A folder that cannot be there.
    #[error("folder {path:?} {why}")]
    Path {
        /// Where it was to be.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More files than a folder may have.
    #[error("folder {path} has {count} files, at most {MAX_CONFIG_FILES} are possible")]
    TooManyFiles {
        /// Which folder.
        path: String,
        /// How many it has.
        count: usize,
    },
    /// A name that no file can have.
    #[error("file {name:?} of {path} {why}")]
    Name {
        /// Which folder.
        path: String,
        /// The name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More than a pod may have.
    #[error(
        "{0} bytes, at most {MAX_CONFIG_BYTES} are possible: what is larger belongs into the image or on a disk"
    )]
    TooLarge(usize),
}

/// Checks one container's configuration, by itself and against where its disks are mounted.
///
/// # Errors
/// The first thing found wrong.
pub(crate) fn validate_config(config: &[ConfigFolder], mounts: &[DiskMount]) -> Result<(), InvalidConfig> {
    if config.len() > MAX_CONFIG_FOLDERS {
        return Err(InvalidConfig::TooManyFolders(config.len()));
    }
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for folder in config {
        let why = wrong_path(&folder.path)
            .or_else(|| (!paths.insert(&folder.path)).then_some("is given twice"))
            .or_else(|| clash(folder, config, mounts));
        if let Some(why) = why {
            return Err(InvalidConfig::Path { path: folder.path.clone(), why });
        }
        folder.validate()?;
    }
    Ok(())
}

/// Nothing can be mounted inside a folder in which no mount point can be made.
fn clash(folder: &ConfigFolder, config: &[ConfigFolder], mounts: &[DiskMount]) -> Option<&'static str> {
    let is_inside = |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
    let inside = |path: &str| is_inside(path, &folder.path);
    let read_only = |mount: &&DiskMount| mount.access == Access::ReadOnly;
    if folder.path == "/etc" {
        Some("is where the agent's own files are: choose a folder inside")
    } else if folder.path == SHARED_MEMORY {
        Some("is the kernel's")
    } else if mounts.iter().filter(read_only).any(|mount| is_inside(&folder.path, &mount.path)) {
        Some("is on a data disk that is mounted for reading")
    } else if mounts.iter().any(|mount| mount.path == folder.path) {
        Some("is where a data disk is mounted")
    } else if mounts.iter().any(|mount| inside(&mount.path)) {
        Some("has a data disk mounted inside, and holds nothing but its files")
    } else if config.iter().any(|other| inside(&other.path)) {
        Some("has another one inside, and holds nothing but its files")
    } else {
        None
    }
}

impl ConfigFolder {
    fn validate(&self) -> Result<(), InvalidConfig> {
        let path = || self.path.clone();
        if self.files.len() > MAX_CONFIG_FILES {
            return Err(InvalidConfig::TooManyFiles { path: path(), count: self.files.len() });
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            let wrong = wrong_name(&file.name);
            let twice = (!names.insert(&file.name)).then_some("is given twice");
            if let Some(why) = wrong.or(twice) {
                return Err(InvalidConfig::Name { path: path(), name: file.name.clone(), why });
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.name.len() + file.content.len()).sum()
    }
}

/// Why no file can have that name; none if one can.
fn wrong_name(name: &str) -> Option<&'static str> {
    if matches!(name, "" | "." | "..") || name.contains(|c: char| c == '/' || c.is_control()) {
        Some("is no name of a file: subfolders are folders of their own")
    } else if name.len() > MAX_NAME_BYTES {
        Some("has a name of more than 255 bytes")
    } else {
        None
    }
}

/// Checks that all configuration of a pod together is of a size that an order can carry.
///
/// # Errors
/// When it is too large.
pub(crate) fn validate_config_size<'a>(
    configs: impl Iterator<Item = &'a [ConfigFolder]>,
) -> Result<(), InvalidConfig> {
    match configs.flatten().map(ConfigFolder::bytes).sum() {
        0..=MAX_CONFIG_BYTES => Ok(()),
        bytes => Err(InvalidConfig::TooLarge(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ConfigFile {
        ConfigFile { name: name.to_owned(), content: b"secret".to_vec(), mode: ConfigMode::DEFAULT }
    }

    fn folder(path: &str, names: &[&str]) -> ConfigFolder {
        ConfigFolder { path: path.to_owned(), files: names.iter().map(|name| file(name)).collect() }
    }

    fn check(config: &[ConfigFolder], mounts: &[&str], expected: Result<(), &str>) {
        let mount = |path: &&str| DiskMount {
            disk: "data".parse().unwrap(),
            path: (*path).to_owned(),
            access: Access::ReadWrite,
        };
        let mounts: Vec<_> = mounts.iter().map(mount).collect();
        let said = validate_config(config, &mounts);
        match (said, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(why)) if error.to_string().contains(why) => {}
            (said, _) => panic!("{config:?}: {said:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn folders_and_files() {
        let web = || folder("/etc/web", &["web.conf", "..data", "a b"]);
        check(&[], &[], Ok(()));
        check(&[web()], &["/etc", "/data", "/etc/webs"], Ok(()));
        check(&[web(), folder("/etc/web2", &[])], &[], Ok(()));
        check(&[web(), web()], &[], Err("\"/etc/web\" is given twice"));
        check(&[web(), folder("/etc/web/inner", &[])], &[], Err("has another one inside"));
        check(&[web()], &["/etc/web"], Err("is where a data disk is mounted"));
        check(&[web()], &["/etc/web/data"], Err("has a data disk mounted inside"));
        check(&[folder("etc", &[])], &[], Err("is no absolute path"));
        check(&[folder("/proc/x", &[])], &[], Err("is the kernel's"));
        check(&[folder("/etc/hosts", &[])], &[], Err("is the agent's"));
        check(&[folder("/etc", &[])], &[], Err("is where the agent's own files are"));
        check(&[folder("/dev/shm", &[])], &[], Err("is the kernel's"));
        check(&[web()], &["/etc"], Ok(()));
        let read =
            DiskMount { disk: "data".parse().unwrap(), path: "/etc".to_owned(), access: Access::ReadOnly };
        let said = validate_config(&[web()], &[read]).unwrap_err().to_string();
        assert!(said.ends_with("is on a data disk that is mounted for reading"), "{said}");
        check(&[folder("/c", &["a", "a"])], &[], Err("\"a\" of /c is given twice"));
        for name in ["", ".", "..", "a/b", "a\n", &"a".repeat(256)] {
            check(&[folder("/c", &[name])], &[], Err("name of "));
        }
        let many: Vec<_> = (0..=MAX_CONFIG_FOLDERS).map(|n| folder(&format!("/{n}"), &[])).collect();
        check(&many, &[], Err("33 folders"));
        let names: Vec<_> = (0..=MAX_CONFIG_FILES).map(|n| n.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        check(&[folder("/c", &names)], &[], Err("257 files"));
    }

    #[test]
    fn all_of_a_pod_is_bounded() {
        let of = |bytes: usize| {
            let file = ConfigFile { content: vec![0; bytes - 1], ..file("a") };
            ConfigFolder { path: "/c".to_owned(), files: vec![file] }
        };
        let half = [of(MAX_CONFIG_BYTES / 2)];
        let more = [of(MAX_CONFIG_BYTES / 2 + 1)];
        assert_eq!(validate_config_size([&half[..], &half].into_iter()), Ok(()));
        let said = validate_config_size([&half[..], &more].into_iter());
        assert_eq!(said, Err(InvalidConfig::TooLarge(MAX_CONFIG_BYTES + 1)));
    }

    #[test]
    fn nobody_writes_and_somebody_reads() {
        for good in [0o444, 0o400, 0o555, 0o440, 0o550] {
            assert_eq!(ConfigMode::new(good).map(ConfigMode::bits), Ok(good));
        }
        for bad in [0, 0o111, 0o644, 0o4444, 0o1444] {
            assert_eq!(ConfigMode::new(bad), Err(InvalidConfig::Mode(bad)));
        }
    }

    #[test]
    fn logs_do_not_tell_what_is_in_it() {
        assert_eq!(format!("{:?}", file("key")), "key (6 bytes, 0444)");
    }
}
