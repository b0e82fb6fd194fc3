//! Orders and machines that the other tests share.

use crate::{BlockDevice, BlockDevices, Capabilities, DeviceId, DeviceKind, NoDevice, Ordered};
use berth_model::{
    Bytes, CpuMax, CpuSet, CpuWeight, HugetlbLimit, IoLimit, IoWeight, Limits, MemSet, MemoryLimits,
    SwapLimit,
};

const FILES: [&str; 16] = [
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "hugetlb.1GB.max",
    "hugetlb.2MB.max",
    "io.max",
    "io.weight",
    "memory.current",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.swap.max",
    "pids.current",
    "pids.max",
];

/// A kernel that offers everything but `without`, and `with` besides.
pub(crate) fn kernel(without: &[&str], with: &[&str]) -> Capabilities {
    let files = FILES.iter().filter(|file| !without.contains(file)).chain(with);
    Capabilities::new(files.map(|file| (*file).to_owned()), Bytes(4_096))
}

/// `/` and `/log` on 254:0, `/data` on 254:16, `/lvm` on 253:0, which is stacked, `/run` on nothing.
pub(crate) fn devices() -> BlockDevices {
    let device = |major, minor, kind| BlockDevice { id: DeviceId { major, minor }, kind };
    let root = device(254, 0, DeviceKind::Disk);
    let none = NoDevice::Anonymous { filesystem: "tmpfs".to_owned() };
    BlockDevices::new([
        ("/".to_owned(), Ok(root)),
        ("/log".to_owned(), Ok(root)),
        ("/data".to_owned(), Ok(device(254, 16, DeviceKind::Disk))),
        ("/lvm".to_owned(), Ok(device(253, 0, DeviceKind::Stacked))),
        ("/run".to_owned(), Err(none)),
    ])
}

/// An I/O limit that limits nothing yet.
pub(crate) fn io(mount_point: &str) -> IoLimit {
    IoLimit {
        mount_point: mount_point.to_owned(),
        read_bytes_per_sec: None,
        write_bytes_per_sec: None,
        read_ops_per_sec: None,
        write_ops_per_sec: None,
        weight: None,
    }
}

/// An I/O limit of a write rate and a weight.
pub(crate) fn io_of(mount_point: &str, write_bytes_per_sec: u64, weight: u64) -> IoLimit {
    IoLimit {
        write_bytes_per_sec: Some(write_bytes_per_sec),
        weight: IoWeight::new(weight).ok(),
        ..io(mount_point)
    }
}

/// An order with every control in it.
#[derive(Debug, Clone)]
pub(crate) struct Everything {
    pub(crate) limits: Limits,
    pub(crate) cpus: CpuSet,
    pub(crate) mems: MemSet,
}

impl Everything {
    pub(crate) fn new() -> Self {
        let limits = Limits {
            cpu_weight: CpuWeight::new(200).ok(),
            cpu_max: Some(CpuMax { quota_us: 150_000, period_us: 100_000 }),
            memory: MemoryLimits {
                min: Some(Bytes(64 << 20)),
                low: Some(Bytes(128 << 20)),
                high: Some(Bytes(1_000_000_000)),
                max: Some(Bytes(1 << 30)),
            },
            swap_max: Some(SwapLimit(Bytes(0))),
            pids_max: Some(500),
            io: vec![io_of("/data", 1 << 20, 200), io_of("/", 2 << 20, 50)],
            hugetlb: vec![HugetlbLimit { page_size: Bytes(2 << 20), max: Bytes(8 << 20) }],
        };
        Self { limits, cpus: "2-3,8".parse().unwrap(), mems: "1".parse().unwrap() }
    }

    pub(crate) fn ordered(&self) -> Ordered<'_> {
        Ordered { limits: &self.limits, cpus: Some(&self.cpus), mems: Some(&self.mems) }
    }
}

/// Limits alone.
pub(crate) fn only(limits: &Limits) -> Ordered<'_> {
    Ordered { limits, cpus: None, mems: None }
}
