//! Ulimits of processes that run: prlimit(2) on every one of a container.
//!
//! A program may change its own soft limits, so what differs from the order is no drift as such: processes are looked at
//! and changed only while an Upgrade or a Resize is about these very ulimits ([`ulimits_to_set`]).

use super::error::{chain, permanent, transient};
use super::kernel::KernelRoots;
use super::{Ordered, RuntimeError};
use berth_cgroup::{CgroupError, CgroupPath};
use berth_model::{ContainerName, Rlimit, Ulimit};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit as Limit, prlimit};
use std::path::Path;

/// Passes over a container's processes: one that forks between two hands its limits on, so this ends as soon as a pass
/// finds nothing to change. A container that outruns so many is tried again at the next look.
const PASSES: usize = 16;

/// The ulimits that an open order changes, and to which running processes are brought; none where they stay.
pub(super) fn ulimits_to_set<'a>(ordered: &'a Ordered, container: &ContainerName) -> Option<&'a [Ulimit]> {
    let other = ordered.other.as_ref()?.container(container)?;
    let wanted = ordered.spec.container(container)?;
    (wanted.ulimits != other.ulimits).then_some(&wanted.ulimits)
}

/// The ulimits that some process of the container has not, for people.
pub(super) fn missing(
    roots: &KernelRoots,
    scope: &Path,
    ulimits: &[Ulimit],
) -> Result<Vec<String>, RuntimeError> {
    let mut missing = Vec::new();
    for process in processes(roots, scope)? {
        let text = match std::fs::read_to_string(roots.proc.join(process.to_string()).join("limits")) {
            Ok(text) => text,
            // It has ended.
            Err(_) => continue,
        };
        let lacks = ulimits.iter().filter(|ulimit| !shows(&text, ulimit));
        missing.extend(lacks.map(|ulimit| format!("ulimit {} of process {process}", ulimit.rlimit.name())));
    }
    Ok(missing)
}

/// Brings every process of the container to these ulimits.
pub(super) fn set(roots: &KernelRoots, scope: &Path, ulimits: &[Ulimit]) -> Result<(), RuntimeError> {
    let what = || format!("set ulimits of the processes of {}", scope.display());
    if ulimits.is_empty() {
        return Ok(());
    }
    for _ in 0..PASSES {
        if missing(roots, scope, ulimits)?.is_empty() {
            return Ok(());
        }
        for process in processes(roots, scope)? {
            for ulimit in ulimits {
                set_one(process, ulimit).map_err(|error| transient(what(), error))?;
            }
        }
    }
    Err(transient(what(), "processes come faster than they can be reached"))
}

fn set_one(process: u32, ulimit: &Ulimit) -> Result<(), Errno> {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let limit = Limit { current: finite(ulimit.soft), maximum: finite(ulimit.hard) };
    match prlimit(Some(pid), resource(ulimit.rlimit), limit) {
        // It has ended.
        Ok(_) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

fn finite(value: u64) -> Option<u64> {
    (value != Ulimit::UNLIMITED).then_some(value)
}

/// Whether `/proc/PID/limits` shows the ulimit (proc_pid_limits(5)): a name, the soft and the hard value, a unit.
pub fn shows(limits: &str, ulimit: &Ulimit) -> bool {
    let title = title(ulimit.rlimit);
    let Some(line) = limits.lines().find_map(|line| line.strip_prefix(title)) else {
        return false;
    };
    let value = |text: &str| match text {
        "unlimited" => Some(Ulimit::UNLIMITED),
        number => number.parse().ok(),
    };
    let values: Vec<_> = line.split_whitespace().take(2).map(value).collect();
    values == [Some(ulimit.soft), Some(ulimit.hard)]
}

fn processes(roots: &KernelRoots, scope: &Path) -> Result<Vec<u32>, RuntimeError> {
    let what = || format!("list the processes of {}", scope.display());
    let path: CgroupPath = scope
        .to_string_lossy()
        .parse()
        .map_err(|error: berth_cgroup::InvalidPath| permanent(what(), error))?;
    match roots.cgroups().processes_beneath(&path) {
        Ok(processes) => Ok(processes),
        Err(CgroupError::Gone { .. }) => Ok(Vec::new()),
        Err(error) => Err(transient(what(), chain(&error))),
    }
}

/// The kernel's title of a limit in `/proc/PID/limits` (fs/proc/base.c, `lnames`).
fn title(rlimit: Rlimit) -> &'static str {
    match rlimit {
        Rlimit::As => "Max address space",
        Rlimit::Core => "Max core file size",
        Rlimit::Cpu => "Max cpu time",
        Rlimit::Data => "Max data size",
        Rlimit::Fsize => "Max file size",
        Rlimit::Locks => "Max file locks",
        Rlimit::Memlock => "Max locked memory",
        Rlimit::Msgqueue => "Max msgqueue size",
        Rlimit::Nice => "Max nice priority",
        Rlimit::Nofile => "Max open files",
        Rlimit::Nproc => "Max processes",
        Rlimit::Rss => "Max resident set",
        Rlimit::Rtprio => "Max realtime priority",
        Rlimit::Rttime => "Max realtime timeout",
        Rlimit::Sigpending => "Max pending signals",
        Rlimit::Stack => "Max stack size",
    }
}

fn resource(rlimit: Rlimit) -> Resource {
    match rlimit {
        Rlimit::As => Resource::As,
        Rlimit::Core => Resource::Core,
        Rlimit::Cpu => Resource::Cpu,
        Rlimit::Data => Resource::Data,
        Rlimit::Fsize => Resource::Fsize,
        Rlimit::Locks => Resource::Locks,
        Rlimit::Memlock => Resource::Memlock,
        Rlimit::Msgqueue => Resource::Msgqueue,
        Rlimit::Nice => Resource::Nice,
        Rlimit::Nofile => Resource::Nofile,
        Rlimit::Nproc => Resource::Nproc,
        Rlimit::Rss => Resource::Rss,
        Rlimit::Rtprio => Resource::Rtprio,
        Rlimit::Rttime => Resource::Rttime,
        Rlimit::Sigpending => Resource::Sigpending,
        Rlimit::Stack => Resource::Stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max nice priority         0                    0
";

    fn check(rlimit: Rlimit, soft: u64, hard: u64, expected: bool) {
        assert_eq!(shows(LIMITS, &Ulimit { rlimit, soft, hard }), expected, "{rlimit} {soft} {hard}");
    }

    #[test]
    fn the_kernel_text_is_read() {
        check(Rlimit::Nofile, 1024, 524_288, true);
        check(Rlimit::Nofile, 1024, 524_289, false);
        check(Rlimit::Cpu, Ulimit::UNLIMITED, Ulimit::UNLIMITED, true);
        check(Rlimit::Nice, 0, 0, true);
        check(Rlimit::Nproc, 1, 1, false);
    }

    #[test]
    fn every_title_is_one_that_this_kernel_prints() {
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        for rlimit in Rlimit::ALL {
            assert!(own.lines().any(|line| line.starts_with(title(*rlimit))), "{rlimit}");
        }
    }

    #[test]
    fn a_process_that_runs_takes_a_limit_on() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ulimit = Ulimit { rlimit: Rlimit::Nofile, soft: 77, hard: 78 };
        set_one(child.id(), &ulimit).unwrap();
        let text = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(shows(&text, &ulimit), "{text}");
    }
}
