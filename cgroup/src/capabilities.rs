//! What a cgroup of this kernel can be held to.

use crate::format;
use crate::tree::{Cgroup, CgroupError};
use berth_model::Bytes;
use std::collections::BTreeSet;

/// The file that weighs a device's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IoWeightFile {
    /// `io.weight`, of the io.cost controller. It acts on devices for which `io.cost.qos` is enabled.
    IoCost,
    /// `io.bfq.weight` alone. It acts on devices whose scheduler is BFQ.
    Bfq,
    /// Neither.
    Absent,
}

impl IoWeightFile {
    /// Its name.
    pub fn file(self) -> Option<&'static str> {
        match self {
            Self::IoCost => Some("io.weight"),
            Self::Bfq => Some("io.bfq.weight"),
            Self::Absent => None,
        }
    }
}

/// What the kernel offers in a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    files: BTreeSet<String>,
    page_size: Bytes,
}

impl Capabilities {
    /// What a cgroup with these files, on a kernel with pages of this size, offers.
    pub fn new(files: impl IntoIterator<Item = String>, page_size: Bytes) -> Self {
        Self {
            files: files.into_iter().collect(),
            // Amounts are divided by it.
            page_size: page_size.max(Bytes(1)),
        }
    }

    /// Looks at a cgroup. It must be one that controllers are enabled for, and not the root, which has no limits.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn read(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(4_096);
        Ok(Self::new(cgroup.files()?, Bytes(page_size)))
    }

    /// Whether there is a file of that name.
    pub fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// Size of an ordinary page, to which the kernel rounds amounts of memory down.
    pub fn page_size(&self) -> Bytes {
        self.page_size
    }

    /// The file for weights of devices.
    pub fn io_weight(&self) -> IoWeightFile {
        match (self.has("io.weight"), self.has("io.bfq.weight")) {
            (true, _) => IoWeightFile::IoCost,
            (false, true) => IoWeightFile::Bfq,
            (false, false) => IoWeightFile::Absent,
        }
    }

    /// Sizes of huge pages that can be limited.
    pub fn huge_page_sizes(&self) -> BTreeSet<Bytes> {
        self.files
            .iter()
            .filter_map(|file| file.strip_prefix("hugetlb.")?.strip_suffix(".max"))
            .filter_map(format::parse_huge_page_size)
            .collect()
    }

    /// The controls that are there, named for upstream: `cpu.max`, `memory.swap.max`, `hugetlb.2MB.max`…
    pub fn names(&self) -> Vec<String> {
        const CONTROLS: [&str; 15] = [
            "cgroup.kill",
            "cpu.max",
            "cpu.weight",
            "cpuset.cpus",
            "cpuset.mems",
            "io.bfq.weight",
            "io.max",
            "io.weight",
            "memory.high",
            "memory.low",
            "memory.max",
            "memory.min",
            "memory.pressure",
            "memory.swap.max",
            "pids.max",
        ];
        let controls = CONTROLS.iter().filter(|file| self.has(file)).map(|file| (*file).to_owned());
        let sizes = self.huge_page_sizes();
        let hugetlb = sizes.into_iter().map(|size| format!("hugetlb.{}.max", format::huge_page_size(size)));
        controls.chain(hugetlb).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str], io_weight: IoWeightFile, names: &[&str]) {
        let capabilities = Capabilities::new(files.iter().map(|file| (*file).to_owned()), Bytes(4_096));
        assert_eq!(capabilities.io_weight(), io_weight, "{files:?}");
        assert_eq!(capabilities.names(), names, "{files:?}");
    }

    #[test]
    fn files() {
        check(&[], IoWeightFile::Absent, &[]);
        check(&["io.weight", "io.bfq.weight"], IoWeightFile::IoCost, &["io.bfq.weight", "io.weight"]);
        check(&["io.bfq.weight"], IoWeightFile::Bfq, &["io.bfq.weight"]);
        check(
            &[
                "hugetlb.1GB.max",
                "hugetlb.2MB.max",
                "hugetlb.2MB.rsvd.max",
                "hugetlb.2MB.current",
                "hugetlb.x.max",
                "cgroup.procs",
            ],
            IoWeightFile::Absent,
            &["hugetlb.2MB.max", "hugetlb.1GB.max"],
        );
    }
}
