//! What the processes of a container may do, beyond or below what the runtime gives every container.

use crate::Access;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Where a node's administrator puts seccomp profiles for containers, each a file in the format of the OCI runtime
/// specification.
pub const SECCOMP_FOLDER: &str = "/etc/berth/seccomp";
/// Most supplementary groups of one container: a bound, far above any real one and below the kernel's 65536.
pub const MAX_GROUPS: usize = 256;

/// A container's security. The default is what containerd gives a container that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// Supplementary groups of the first process, beside those that the image's `/etc/group` names; at most
    /// [`MAX_GROUPS`].
    pub groups: Vec<u32>,
    /// Changes to the runtime's set of capabilities.
    pub capabilities: Capabilities,
    /// Which system calls are refused. A [`Profile::Localhost`] is a file in the node's [`SECCOMP_FOLDER`].
    pub seccomp: Profile,
    /// What AppArmor confines it to. A [`Profile::Localhost`] is loaded in the node's kernel.
    pub apparmor: Profile,
    /// Whether it may write to its system disk; what is mounted into it has an access of its own.
    pub root: Access,
    /// Whether a program that it starts may have more privileges than the one that starts it.
    pub gain: PrivilegeGain,
}

/// Changes to the runtime's set of capabilities. What is added wins over what is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Beside the runtime's.
    pub add: BTreeSet<Capability>,
    /// Of the runtime's.
    pub drop: BTreeSet<Capability>,
}

/// Whether set-user-id programs and file capabilities do anything (`PR_SET_NO_NEW_PRIVS` of prctl(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum PrivilegeGain {
    /// They do.
    #[default]
    Allowed,
    /// They do not: `no_new_privs` is set.
    Forbidden,
}

/// A seccomp or an AppArmor profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub enum Profile {
    /// The runtime's own.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// One that the node's administrator has put there.
    Localhost(ProfileName),
}

/// The name of a profile on a node: letters, digits, `.`, `_` and `-`, at most [`ProfileName::MAX_BYTES`], no leading
/// dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// Longest file name (NAME_MAX of Linux), bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = InvalidSecurity;

    fn from_str(text: &str) -> Result<Self, InvalidSecurity> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = !text.is_empty() && !text.starts_with('.') && text.len() <= Self::MAX_BYTES;
        if valid && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidSecurity::Profile(text.to_owned()))
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A capability by its name in capabilities(7), or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(&'static str);

impl Capability {
    /// Every name, without the leading `CAP_`: `ALL`, and those of capabilities(7) as of Linux 5.9.
    pub const NAMES: [&str; 42] = [
        "ALL",
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "BPF",
        "CHECKPOINT_RESTORE",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_RAW",
        "PERFMON",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "WAKE_ALARM",
    ];

    /// The name without `CAP_`.
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl FromStr for Capability {
    type Err = InvalidSecurity;

    /// With or without the leading `CAP_`, in capitals.
    fn from_str(text: &str) -> Result<Self, InvalidSecurity> {
        let bare = text.strip_prefix("CAP_").unwrap_or(text);
        let known = Self::NAMES.into_iter().find(|name| *name == bare);
        known.map(Self).ok_or_else(|| InvalidSecurity::Capability(text.to_owned()))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a container's security was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecurity {
    /// No capability has that name.
    #[error("capability {0:?} is unknown (as in capabilities(7), in capitals, such as NET_ADMIN, or ALL)")]
    Capability(String),
    /// No name of a profile.
    #[error(
        "profile {0:?} is no name of letters, digits, \".\", \"_\" and \"-\" (a profile is named, not given by its path)"
    )]
    Profile(String),
    /// More groups than a container may have.
    #[error("{0} supplementary groups, at most {MAX_GROUPS} are possible")]
    TooManyGroups(usize),
    /// A group twice.
    #[error("supplementary group {0} is given twice")]
    GroupTwice(u32),
    /// Added and dropped at once: either could be meant.
    #[error("capability {0} is both added and dropped")]
    AddedAndDropped(Capability),
}

impl Security {
    /// Checks what no single field can know.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidSecurity> {
        if self.groups.len() > MAX_GROUPS {
            return Err(InvalidSecurity::TooManyGroups(self.groups.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.groups.iter().find(|group| !seen.insert(**group)) {
            return Err(InvalidSecurity::GroupTwice(*twice));
        }
        match self.capabilities.add.intersection(&self.capabilities.drop).next() {
            Some(both) => Err(InvalidSecurity::AddedAndDropped(*both)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_either_name() {
        for (text, expected) in [
            ("NET_ADMIN", Ok("NET_ADMIN")),
            ("CAP_NET_ADMIN", Ok("NET_ADMIN")),
            ("ALL", Ok("ALL")),
            ("net_admin", Err(())),
            ("CAP_CAP_KILL", Err(())),
            ("", Err(())),
        ] {
            let said = text.parse::<Capability>().map(Capability::name).map_err(drop);
            assert_eq!(said, expected, "{text:?}");
        }
        assert!(Capability::NAMES.is_sorted());
    }

    #[test]
    fn a_profile_is_a_name_and_no_path() {
        for (text, valid) in [
            ("audit.json", true),
            ("docker-default", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
        ] {
            assert_eq!(text.parse::<ProfileName>().is_ok(), valid, "{text:?}");
        }
        assert!("p".repeat(256).parse::<ProfileName>().is_err());
    }

    fn check(security: &Security, expected: Result<(), &str>) {
        let said = security.validate().map_err(|error| error.to_string());
        assert_eq!(said, expected.map_err(str::to_owned), "{security:?}");
    }

    #[test]
    fn what_no_single_field_can_know() {
        let set = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let capabilities = |add, drop| Security {
            capabilities: Capabilities { add: set(add), drop: set(drop) },
            ..Security::default()
        };
        check(&Security::default(), Ok(()));
        check(&capabilities(&["NET_ADMIN"], &["ALL"]), Ok(()));
        check(&capabilities(&["KILL"], &["KILL"]), Err("capability KILL is both added and dropped"));
        let groups = |groups| Security { groups, ..Security::default() };
        check(&groups(vec![7, 8]), Ok(()));
        check(&groups(vec![7, 8, 7]), Err("supplementary group 7 is given twice"));
        check(&groups((0..257).collect()), Err("257 supplementary groups, at most 256 are possible"));
    }
}
