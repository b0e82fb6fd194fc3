//! Whether the host is fit to run pods: a list of checks, each with what was found and what to do about it.

mod cni;

use super::Host;
use super::profiles::{has_apparmor, has_parser};
use super::reservation::words;
use crate::report::chain;
use crate::runtime::{Account, ContainerdRuntime, PAUSE_IMAGE, ROOT_SLICE, RuntimeError};
use berth_plan::QuotaView;
use berth_proto::v1;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something will not work, or will soon not.
    Warning,
    /// No pod can run.
    Error,
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each has its text in Check::name")]
pub enum Check {
    Cgroup2,
    Controllers,
    Runtime,
    RuntimeReady,
    SystemdCgroup,
    PauseImage,
    CniConfiguration,
    CniPlugins,
    Clock,
    DiskSpace,
    Sockets,
    Reservation,
    HostPaths,
    DiskSizes,
    Pressure,
    AppArmor,
    ControlPlane,
    Certificate,
}

impl Check {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup v2",
            Self::Controllers => "controllers",
            Self::Runtime => "containerd",
            Self::RuntimeReady => "containerd's readiness",
            Self::SystemdCgroup => "containerd's cgroup driver",
            Self::PauseImage => "pause image",
            Self::CniConfiguration => "CNI configuration",
            Self::CniPlugins => "CNI plugins",
            Self::Clock => "clock",
            Self::DiskSpace => "disk space",
            Self::Sockets => "sockets",
            Self::Reservation => "kept for the system's services",
            Self::HostPaths => "paths shared with containers",
            Self::DiskSizes => "sizes of disks",
            Self::Pressure => "pressure",
            Self::AppArmor => "AppArmor",
            Self::ControlPlane => "control plane",
            Self::Certificate => "certificate",
        }
    }
}

/// What a program can do about a finding, at the word of whoever administers the host; pods keep running over all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mend {
    /// berthd is started again.
    RestartAgent,
    /// containerd is started again.
    RestartRuntime,
    /// containerd is given the configuration that Berth needs.
    ConfigureRuntime,
    /// The clock is set, and kept, by NTP.
    SynchronizeClock,
    /// The network list of the package is put where containerd looks.
    InstallNetworkList,
}

/// One check's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub remedy: String,
    /// What of it a program can do.
    pub mend: Option<Mend>,
}

impl Finding {
    pub(crate) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), remedy: String::new(), mend: None }
    }

    pub(crate) fn error(check: Check, found: impl Into<String>, remedy: &str) -> Self {
        Self { level: Level::Error, remedy: remedy.to_owned(), ..Self::ok(check, found) }
    }

    pub(crate) fn warning(check: Check, found: impl Into<String>, remedy: &str) -> Self {
        Self { level: Level::Warning, ..Self::error(check, found, remedy) }
    }

    pub(crate) fn mended_by(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        let level = match finding.level {
            Level::Ok => v1::finding::Level::Ok,
            Level::Warning => v1::finding::Level::Warning,
            Level::Error => v1::finding::Level::Error,
        };
        let mend = finding.mend.map_or(v1::finding::Mend::Unspecified, |mend| match mend {
            Mend::RestartAgent => v1::finding::Mend::RestartAgent,
            Mend::RestartRuntime => v1::finding::Mend::RestartRuntime,
            Mend::ConfigureRuntime => v1::finding::Mend::ConfigureRuntime,
            Mend::SynchronizeClock => v1::finding::Mend::SynchronizeClock,
            Mend::InstallNetworkList => v1::finding::Mend::InstallNetworkList,
        });
        Self {
            check: finding.check.name().to_owned(),
            level: level.into(),
            mend: mend.into(),
            found: finding.found,
            remedy: finding.remedy,
        }
    }
}

/// Where to look beyond the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// File systems that must not fill up.
    pub disks: Vec<PathBuf>,
    /// The agent's own sockets.
    pub sockets: Vec<PathBuf>,
}

/// Controllers without which no limit of that kind can be kept.
const NEEDED_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// Where containerd looks for these unless it says otherwise: its own default, and Debian's and our packages'.
const CNI_LISTS: &str = "/etc/cni/net.d";
const CNI_PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// Below these shares of free space a disk is reported.
const WARN_FREE_PERCENT: u64 = 15;
const ERROR_FREE_PERCENT: u64 = 3;
/// No host of ours was made before this: 2025-01-01, seconds after the epoch.
const EARLIEST_CLOCK_S: u64 = 1_735_689_600;

/// Runs every check.
pub async fn diagnose(host: &Host, runtime: &ContainerdRuntime, places: &Places) -> Vec<Finding> {
    let mut findings = vec![cgroup2(host), controllers(host), clock()];
    let account = runtime.account().await;
    findings.extend(runtime_findings(runtime, &account).await);
    findings.extend(network(&account.unwrap_or_default()));
    findings.extend(places.disks.iter().map(|path| disk_space(path)));
    findings.extend(places.sockets.iter().map(|path| socket(path)));
    findings.extend(reservation(host, runtime).await);
    findings.extend(host_paths(host));
    findings.extend([disk_sizes(host), pressure(&host.kernel.proc), apparmor(&host.root)]);
    findings
}

fn cgroup2(host: &Host) -> Finding {
    let mount_point = &host.kernel.cgroup;
    match std::fs::metadata(mount_point.join("cgroup.controllers")) {
        Ok(_) => Finding::ok(Check::Cgroup2, format!("mounted at {}", mount_point.display())),
        Err(error) => Finding::error(
            Check::Cgroup2,
            format!("not mounted at {}: {error}", mount_point.display()),
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        ),
    }
}

fn controllers(host: &Host) -> Finding {
    let file = host.kernel.cgroup.join("cgroup.controllers");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let missing: Vec<_> = NEEDED_CONTROLLERS
        .into_iter()
        .filter(|name| !text.split_whitespace().any(|have| have == *name))
        .collect();
    let remedy = "remove cgroup_disable= from the kernel's command line, and anything that mounts cgroup v1";
    match missing.is_empty() {
        true => Finding::ok(Check::Controllers, text.trim()),
        false => Finding::error(Check::Controllers, format!("missing: {}", missing.join(" ")), remedy),
    }
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match now >= Duration::from_secs(EARLIEST_CLOCK_S) {
        true => Finding::ok(Check::Clock, format!("{} s after the epoch", now.as_secs())),
        false => Finding::error(
            Check::Clock,
            format!("{} s after the epoch, years ago", now.as_secs()),
            "set the clock (timedatectl set-ntp true): certificates are not valid yet",
        )
        .mended_by(Mend::SynchronizeClock),
    }
}

async fn runtime_findings(
    runtime: &ContainerdRuntime,
    account: &Result<Account, RuntimeError>,
) -> Vec<Finding> {
    let version = match runtime.version().await {
        Ok(version) => Finding::ok(Check::Runtime, version),
        Err(error) => {
            let remedy =
                "systemctl status containerd; berthd needs containerd 1.6 or newer, with its CRI plugin";
            let unreachable = Finding::error(Check::Runtime, error.to_string(), remedy);
            return vec![unreachable.mended_by(Mend::RestartRuntime)];
        }
    };
    let mut findings = vec![version, pause_image(runtime).await];
    match account {
        Ok(account) => findings.extend([ready(account), cgroup_driver(account)]),
        Err(error) => {
            let remedy = "journalctl -u containerd";
            findings.push(Finding::error(Check::RuntimeReady, error.to_string(), remedy));
        }
    }
    findings
}

/// Where containerd says that it looks, or where it would.
fn network(account: &Account) -> Vec<Finding> {
    let lists = account.cni_configuration.clone().unwrap_or_else(|| CNI_LISTS.into());
    match account.cni_plugins.as_slice() {
        [] => cni::network(&lists, &CNI_PLUGINS.map(PathBuf::from)),
        told => cni::network(&lists, told),
    }
}

fn ready(account: &Account) -> Finding {
    match (account.unready.is_empty(), account.complaints.is_empty()) {
        (true, true) => Finding::ok(Check::RuntimeReady, "it says that it can run pods"),
        (true, false) => Finding::warning(
            Check::RuntimeReady,
            account.complaints.join("; "),
            "pods run; change /etc/containerd/config.toml before containerd is upgraded",
        ),
        (false, _) => Finding::error(
            Check::RuntimeReady,
            account.unready.join("; "),
            "journalctl -u containerd; where the network is not ready, see what is said of CNI",
        ),
    }
}

fn cgroup_driver(account: &Account) -> Finding {
    let remedy = "set SystemdCgroup = true for runtime runc in /etc/containerd/config.toml, \
                  as the package does, and restart containerd";
    match account.systemd_cgroups {
        Some(true) => Finding::ok(Check::SystemdCgroup, "systemd"),
        Some(false) => {
            Finding::error(Check::SystemdCgroup, "cgroupfs", remedy).mended_by(Mend::ConfigureRuntime)
        }
        None => Finding::warning(Check::SystemdCgroup, "containerd does not say", remedy),
    }
}

async fn pause_image(runtime: &ContainerdRuntime) -> Finding {
    let remedy = "restart berthd, which imports it from /usr/share/berth/pause.tar";
    match runtime.has_image(PAUSE_IMAGE).await {
        Ok(true) => Finding::ok(Check::PauseImage, PAUSE_IMAGE),
        Ok(false) => Finding::error(Check::PauseImage, format!("containerd has no {PAUSE_IMAGE}"), remedy)
            .mended_by(Mend::RestartAgent),
        Err(error) => Finding::warning(Check::PauseImage, error.to_string(), remedy),
    }
}

fn disk_space(path: &Path) -> Finding {
    let remedy = "free some space, or give it a larger file system";
    let stat = match nix::sys::statvfs::statvfs(path) {
        Ok(stat) => stat,
        Err(error) => {
            let found = format!("look at {}: {error}", path.display());
            return Finding::warning(Check::DiskSpace, found, "create it");
        }
    };
    // A file system without a fixed number of inodes says that it has none.
    let free = |available: u64, all: u64| (available * 100).checked_div(all).unwrap_or(100);
    let space = free(stat.blocks_available(), stat.blocks());
    let inodes = free(stat.files_available(), stat.files());
    let found = format!("{}: {space} % free, {inodes} % of its inodes", path.display());
    match space.min(inodes) {
        percent if percent < ERROR_FREE_PERCENT => Finding::error(Check::DiskSpace, found, remedy),
        percent if percent < WARN_FREE_PERCENT => Finding::warning(Check::DiskSpace, found, remedy),
        _ => Finding::ok(Check::DiskSpace, found),
    }
}

/// Whether disks can be held to sizes; where not, pods that order one are refused.
fn disk_sizes(host: &Host) -> Finding {
    let whys = host.quotas().into_iter().filter_map(|quota| match quota {
        QuotaView::Enforced => None,
        QuotaView::Unsupported { why } => Some(why),
    });
    let whys: Vec<_> = whys.collect();
    let remedy = "until then pods that give their disks a size are refused here: put these folders on ext4 (made or tuned with \
                  -O project,quota) or xfs, mounted with prjquota";
    match whys.is_empty() {
        true => Finding::ok(Check::DiskSizes, "held by project quotas"),
        false => Finding::warning(Check::DiskSizes, whys.join("; "), remedy),
    }
}

fn pressure(proc: &Path) -> Finding {
    let file = proc.join("pressure/cpu");
    match std::fs::read(&file) {
        Ok(_) => Finding::ok(Check::Pressure, "counted by the kernel"),
        Err(error) => Finding::warning(
            Check::Pressure,
            format!("read {}: {error}", file.display()),
            "boot with psi=1 on the kernel's command line: until then pressure is neither told nor counted",
        ),
    }
}

fn apparmor(root: &Path) -> Finding {
    match (has_apparmor(root), has_parser(root)) {
        (Ok(true), true) => Finding::ok(Check::AppArmor, "the kernel has it, and so has the host its parser"),
        (Ok(true), false) => Finding::warning(
            Check::AppArmor,
            "the kernel has it, and containers are not confined: there is no /sbin/apparmor_parser",
            "install the package apparmor, and restart containerd; pods keep running",
        ),
        (Ok(false), _) => Finding::ok(Check::AppArmor, "the kernel has none, or has it switched off"),
        (Err(error), _) => Finding::warning(Check::AppArmor, chain(&error), "look at /sys/module/apparmor"),
    }
}

fn socket(path: &Path) -> Finding {
    match UnixStream::connect(path) {
        Ok(_) => Finding::ok(Check::Sockets, format!("{} answers", path.display())),
        Err(error) => Finding::error(
            Check::Sockets,
            format!("connect to {}: {error}", path.display()),
            "systemctl restart berthd; pods keep running",
        )
        .mended_by(Mend::RestartAgent),
    }
}

/// Whether the kernel keeps what is reserved.
async fn reservation(host: &Host, runtime: &ContainerdRuntime) -> Vec<Finding> {
    let all = match host.left_for_pods() {
        Ok(all) => all,
        Err(error) => {
            return vec![Finding::warning(Check::Reservation, chain(&error), "reserve less in berthd.toml")];
        }
    };
    let mut findings = Vec::new();
    for left in all {
        let held = format!("all pods together: {}", words(&left));
        findings.push(match runtime.drift_of_all(left).await {
            Ok(drifted) if drifted.is_empty() => Finding::ok(Check::Reservation, held),
            Ok(drifted) => not_kept(format!("{held}, and {} of {ROOT_SLICE} is not so", drifted.join(" "))),
            Err(error) => not_kept(chain(&error)),
        });
    }
    findings
}

fn not_kept(found: String) -> Finding {
    let remedy = "journalctl -u berthd says why; where pods use more already it is tried again every minute: move some of \
                  them away, or reserve less";
    Finding::warning(Check::Reservation, found, remedy)
}

fn host_paths(host: &Host) -> Option<Finding> {
    let withheld = host.shares.withheld();
    let words: Vec<_> = withheld.iter().map(|(path, why)| format!("{path} {why}")).collect();
    let remedy = "mend it, or take it out of host_paths: no pod that names it is placed here";
    (!words.is_empty()).then(|| Finding::warning(Check::HostPaths, words.join("; "), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_finding_has_a_remedy() {
        let nowhere = Path::new("/does/not/exist");
        let host = Host {
            kernel: crate::runtime::KernelRoots { cgroup: nowhere.into(), ..Host::default().kernel },
            state: nowhere.into(),
            containerd: nowhere.into(),
            ..Host::default()
        };
        let unready = Account { unready: vec!["it is not".to_owned()], ..Account::default() };
        let findings = [
            cgroup2(&host),
            controllers(&host),
            ready(&unready),
            cgroup_driver(&unready),
            disk_space(nowhere),
            disk_sizes(&host),
            pressure(nowhere),
            socket(nowhere),
        ];
        for finding in findings {
            assert!(finding.level > Level::Ok && !finding.remedy.is_empty(), "{finding:?}");
        }
    }
}
