//! Looking at the host, and what admission needs of it.

use super::profiles::profiles;
use super::reservation::Reservation;
use super::shared::Shares;
use crate::disk::{Disks, QuotaSupport};
use crate::report::chain;
use crate::runtime::{CONTAINERD_ROOT, KernelRoots, ROOT_SLICE};
use berth_cgroup::{BlockDevices, Capabilities, CgroupError, CgroupPath, DevicesError, InvalidPath};
use berth_model::MemSet;
use berth_numa::{SysfsError, Topology, read_sysfs};
use berth_plan::{HostView, QuotaView};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the host shows itself; other folders in tests.
#[derive(Debug, Clone)]
pub struct Host {
    /// The root of the file system.
    pub root: PathBuf,
    /// The kernel's own file systems.
    pub kernel: KernelRoots,
    /// The agent's own folder, where data disks are.
    pub state: PathBuf,
    /// containerd's own folder, where system disks are.
    pub containerd: PathBuf,
    /// What is kept for the system's own services.
    pub reservation: Reservation,
    /// Whether its administrator shares its network with pods.
    pub shares_network: bool,
    /// What its administrator shares with containers.
    pub shares: Arc<Shares>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            root: "/".into(),
            kernel: KernelRoots::default(),
            state: "/var/lib/berth".into(),
            containerd: CONTAINERD_ROOT.into(),
            reservation: Reservation::default(),
            shares_network: false,
            shares: Arc::default(),
        }
    }
}

/// Something about the host could not be learnt.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// CPUs and memory nodes.
    #[error("read the topology")]
    Topology(#[from] SysfsError),
    /// CPUs or memory nodes that no kernel has.
    #[error("understand the kernel's list of CPUs and memory nodes")]
    Sets(#[from] berth_model::ParseSetError),
    /// Disks.
    #[error("find the disks beneath the mount points")]
    Devices(#[from] DevicesError),
    /// Controls. The slice is made when the agent prepares its runtime.
    #[error("look at what {ROOT_SLICE} can be held to")]
    Controls(#[from] CgroupError),
    /// A name of our own that is no path.
    #[error("name {ROOT_SLICE}")]
    Path(#[from] InvalidPath),
    /// More is reserved than there is.
    #[error("{key} of berthd.toml is {reserved}, and this host has {has}")]
    Reserved {
        /// Which key.
        key: &'static str,
        /// What it says.
        reserved: String,
        /// What there is.
        has: String,
    },
    /// A file.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Host {
    /// CPUs, memory nodes, caches, huge pages.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn topology(&self) -> Result<Topology, HostError> {
        Ok(read_sysfs(&self.root)?)
    }

    /// The disk beneath every mount point, in the host's own view of them.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn disks(&self) -> Result<BlockDevices, HostError> {
        Ok(BlockDevices::read(&self.kernel.proc.join("1/mountinfo"), &self.kernel.sys)?)
    }

    /// What pods can be held to.
    ///
    /// # Errors
    /// When the root slice is not there, or cannot be read.
    pub fn controls(&self) -> Result<Capabilities, HostError> {
        let path: CgroupPath = ROOT_SLICE.parse()?;
        Ok(Capabilities::read(&self.kernel.cgroups().open(&path)?)?)
    }

    /// What admission asks of the host.
    ///
    /// # Errors
    /// The first thing that could not be learnt.
    pub fn view(&self) -> Result<HostView, HostError> {
        let topology = self.topology()?;
        let controls = self.controls()?;
        let [data_disk_quota, system_disk_quota] = self.quotas();
        let with_memory = topology.nodes().iter().filter(|node| node.memory.0 > 0);
        Ok(HostView {
            online_cpus: topology.online().clone(),
            reserved_cpus: self.reservation.cpus.clone(),
            possible_cpus: self.read(self.root.join("sys/devices/system/cpu/possible"))?.trim().parse()?,
            mems: MemSet::try_from_iter(with_memory.map(|node| node.id))?,
            mount_points: self.disks()?.mount_points().map(|(point, _)| point.to_owned()).collect(),
            page_sizes: controls.huge_page_sizes(),
            io_weight: controls.io_weight().file().is_some(),
            swap: controls.has("memory.swap.max"),
            data_disk_quota,
            system_disk_quota,
            host_network: self.shares_network,
            host_paths: self.shares.there(),
            profiles: profiles(&self.root)?,
        })
    }

    /// Whether data disks, and system disks, can be held to a size.
    pub(super) fn quotas(&self) -> [QuotaView; 2] {
        [quota(Disks::new(&self.state).path()), quota(&self.containerd)]
    }

    pub(super) fn read(&self, path: PathBuf) -> Result<String, HostError> {
        std::fs::read_to_string(&path).map_err(|source| HostError::Read { path, source })
    }
}

fn quota(path: &Path) -> QuotaView {
    match QuotaSupport::at(path) {
        Ok(QuotaSupport::Enforced) => QuotaView::Enforced,
        Ok(QuotaSupport::None { filesystem, why }) => {
            QuotaView::Unsupported { why: format!("{} is on {filesystem}: {why}", path.display()) }
        }
        Err(error) => QuotaView::Unsupported { why: chain(&error) },
    }
}
