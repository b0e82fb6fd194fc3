//! Resource limits of a process, by the names of `getrlimit(2)`.

use std::fmt;
use std::str::FromStr;

/// Why a ulimit was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUlimit {
    /// No resource has that name.
    #[error(
        "ulimit {0:?} is unknown (known: as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack)"
    )]
    Unknown(String),
    /// The soft limit is above the hard one.
    #[error("ulimit {rlimit}: soft {soft} is above hard {hard}")]
    SoftAboveHard {
        /// Which.
        rlimit: Rlimit,
        /// What was asked.
        soft: u64,
        /// What was asked.
        hard: u64,
    },
    /// The same resource twice.
    #[error("ulimit {0} is given twice")]
    Twice(Rlimit),
}

macro_rules! rlimits {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// A resource of `getrlimit(2)`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rlimit { $($(#[$doc])* $variant),* }

        impl Rlimit {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in lower case, as in `limits.conf(5)`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The name as the OCI runtime specification has it, such as `RLIMIT_NOFILE`.
            pub fn oci_name(self) -> String {
                format!("RLIMIT_{}", self.name().to_ascii_uppercase())
            }
        }
    };
}

rlimits! {
    /// Address space, bytes.
    As = "as",
    /// Core file, bytes.
    Core = "core",
    /// CPU time, seconds.
    Cpu = "cpu",
    /// Data segment, bytes.
    Data = "data",
    /// File size, bytes.
    Fsize = "fsize",
    /// Locks (obsolete).
    Locks = "locks",
    /// Locked memory, bytes.
    Memlock = "memlock",
    /// POSIX message queues, bytes.
    Msgqueue = "msgqueue",
    /// Ceiling of the nice value.
    Nice = "nice",
    /// Open files, one more than the highest descriptor.
    Nofile = "nofile",
    /// Processes of the user.
    Nproc = "nproc",
    /// Resident set (no effect).
    Rss = "rss",
    /// Real-time priority.
    Rtprio = "rtprio",
    /// Real-time CPU time, microseconds.
    Rttime = "rttime",
    /// Pending signals.
    Sigpending = "sigpending",
    /// Stack, bytes.
    Stack = "stack",
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rlimit {
    type Err = InvalidUlimit;
    fn from_str(text: &str) -> Result<Self, InvalidUlimit> {
        Self::ALL
            .iter()
            .copied()
            .find(|rlimit| rlimit.name() == text)
            .ok_or_else(|| InvalidUlimit::Unknown(text.to_owned()))
    }
}

/// One ulimit: soft at most hard. [`Ulimit::UNLIMITED`] lifts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulimit {
    /// Which resource.
    pub rlimit: Rlimit,
    /// What the process is held to, in the resource's own unit.
    pub soft: u64,
    /// What it may raise that to.
    pub hard: u64,
}

impl Ulimit {
    /// No limit (`RLIM_INFINITY`).
    pub const UNLIMITED: u64 = u64::MAX;

    /// Checks a container's whole list.
    ///
    /// # Errors
    /// A soft limit above its hard one, or a resource given twice.
    pub fn validate_all(ulimits: &[Self]) -> Result<(), InvalidUlimit> {
        for (index, &Self { rlimit, soft, hard }) in ulimits.iter().enumerate() {
            if soft > hard {
                return Err(InvalidUlimit::SoftAboveHard { rlimit, soft, hard });
            }
            if ulimits[..index].iter().any(|other| other.rlimit == rlimit) {
                return Err(InvalidUlimit::Twice(rlimit));
            }
        }
        Ok(())
    }
}
