//! What is written to which file.

use crate::{BlockDevice, BlockDevices, Capabilities, DeviceId, IoWeightFile, NoDevice, format};
use berth_model::{Bytes, CpuSet, InvalidLimits, IoLimit, Limits, MemSet};
use std::collections::BTreeMap;

/// Everything that a cgroup is ordered to be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered<'a> {
    /// Amounts, rates and weights.
    pub limits: &'a Limits,
    /// The CPUs it may run on.
    pub cpus: Option<&'a CpuSet>,
    /// The memory nodes it may take memory from.
    pub mems: Option<&'a MemSet>,
}

/// One text for one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlWrite {
    /// Name of the file in the cgroup's directory.
    pub file: String,
    /// The device whose line it is, in files that have one for each.
    pub key: Option<DeviceId>,
    /// The value, without the key, as the kernel prints it when it is read back.
    pub value: String,
}

/// Why an order cannot be carried out on this machine. Nothing has been written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The limits contradict themselves.
    #[error("the limits are invalid")]
    Invalid(#[from] InvalidLimits),
    /// A set that nothing could run in: the kernel would take it for "inherit".
    #[error("{file} is ordered to be empty")]
    EmptySet {
        /// `cpuset.cpus` or `cpuset.mems`.
        file: &'static str,
    },
    /// An I/O limit on a path without a disk beneath.
    #[error("mount point {mount_point} has no block device to limit")]
    NoDevice {
        /// The path as ordered.
        mount_point: String,
        /// Why there is none.
        #[source]
        source: NoDevice,
    },
    /// Two mount points on one disk: which of the limits is meant cannot be known.
    #[error("mount points {first} and {second} are on one disk, {device}: give its I/O limits once")]
    SameDevice {
        /// The one ordered first.
        first: String,
        /// The other.
        second: String,
        /// The disk beneath both.
        device: DeviceId,
    },
    /// Huge pages of a size that the kernel does not have.
    #[error("huge pages of {0} cannot be limited here: the kernel has none of that size")]
    NoSuchPageSize(Bytes),
    /// A control that the kernel does not have, or that is not enabled for the cgroup.
    #[error("control {file} is ordered, and this kernel does not offer it")]
    Unsupported {
        /// The missing file.
        file: String,
    },
}

impl ControlWrite {
    pub(crate) fn new(file: &str, value: impl Into<String>) -> Self {
        Self { file: file.to_owned(), key: None, value: value.into() }
    }

    fn of_device(file: &str, device: BlockDevice, value: String) -> Self {
        Self { key: Some(device.id), ..Self::new(file, value) }
    }

    /// The text to write: the key, if there is one, and the value.
    pub fn line(&self) -> String {
        format::keyed(self.key, &self.value)
    }

    /// What identifies the control: `cpu.max`, or `io.max 8:0`.
    pub fn name(&self) -> String {
        match self.key {
            Some(device) => format!("{} {device}", self.file),
            None => self.file.clone(),
        }
    }

    /// What a new cgroup has in place of this, as printed.
    pub(crate) fn kernel_default(&self) -> &'static str {
        match self.file.as_str() {
            "cpu.weight" => "100",
            "cpu.max" => "max 100000",
            "cpuset.cpus" | "cpuset.mems" => "",
            "memory.min" | "memory.low" => "0",
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "io.weight" | "io.bfq.weight" => "default",
            // memory.high, memory.max, memory.swap.max, pids.max, hugetlb.*.max.
            _ => format::MAX,
        }
    }
}

/// The I/O limits of an order, each with its disk, in the order given.
pub(crate) fn resolve_io<'a>(
    limits: &'a Limits,
    devices: &BlockDevices,
) -> Result<Vec<(&'a IoLimit, BlockDevice)>, PlanError> {
    let mut by_device: BTreeMap<DeviceId, &str> = BTreeMap::new();
    let mut resolved = Vec::with_capacity(limits.io.len());
    for limit in &limits.io {
        let device = devices
            .get(&limit.mount_point)
            .map_err(|source| PlanError::NoDevice { mount_point: limit.mount_point.clone(), source })?;
        if let Some(first) = by_device.insert(device.id, &limit.mount_point) {
            return Err(PlanError::SameDevice {
                first: first.to_owned(),
                second: limit.mount_point.clone(),
                device: device.id,
            });
        }
        resolved.push((limit, device));
    }
    Ok(resolved)
}

/// Says what has to be written, in the order in which it is to be written: where memory comes from before how much;
/// swap and `memory.high` before `memory.max`, so that reclaim comes before the OOM killer; processes, I/O and huge
/// pages last. The kernel itself accepts any order.
///
/// # Errors
/// When the order cannot be carried out on this machine: the first reason found.
pub fn plan_writes(
    ordered: &Ordered<'_>,
    capabilities: &Capabilities,
    devices: &BlockDevices,
) -> Result<Vec<ControlWrite>, PlanError> {
    ordered.limits.validate()?;
    let writes = all_writes(ordered, capabilities, devices)?;
    match writes.iter().find(|write| !capabilities.has(&write.file)) {
        Some(missing) => Err(PlanError::Unsupported { file: missing.file.clone() }),
        None => Ok(writes),
    }
}

/// Says what former limits were written as, so that [`plan_change`] can put them back. What can no longer be planned, on a
/// disk that is gone for one, is left out: the rest is put back all the same.
pub fn plan_former(
    former: &Limits,
    capabilities: &Capabilities,
    devices: &BlockDevices,
) -> Vec<ControlWrite> {
    let writes = each(former).flat_map(|limits| {
        let ordered = Ordered { limits: &limits, cpus: None, mems: None };
        all_writes(&ordered, capabilities, devices).unwrap_or_default()
    });
    writes.filter(|write| capabilities.has(&write.file)).collect()
}

/// The same limits, so that nothing that can be refused is beside anything else.
fn each(limits: &Limits) -> impl Iterator<Item = Limits> {
    let io = limits.io.iter().map(|limit| Limits { io: vec![limit.clone()], ..Limits::default() });
    let hugetlb = limits.hugetlb.iter().map(|limit| Limits { hugetlb: vec![*limit], ..Limits::default() });
    let rest = Limits { io: Vec::new(), hugetlb: Vec::new(), ..limits.clone() };
    std::iter::once(rest).chain(io).chain(hugetlb)
}

fn all_writes(
    ordered: &Ordered<'_>,
    capabilities: &Capabilities,
    devices: &BlockDevices,
) -> Result<Vec<ControlWrite>, PlanError> {
    let mut writes = cpuset_writes(ordered)?;
    writes.extend(cpu_writes(ordered.limits));
    writes.extend(memory_writes(ordered.limits, capabilities.page_size()));
    let pids = ordered.limits.pids_max;
    writes.extend(pids.map(|max| ControlWrite::new("pids.max", format::pids(max))));
    writes.extend(io_writes(ordered.limits, capabilities.io_weight(), devices)?);
    writes.extend(hugetlb_writes(ordered.limits, capabilities)?);
    Ok(writes)
}

/// Says what has to be written to bring a cgroup from one plan to another: all of `to`, preceded by the kernel's
/// defaults for whatever only `from` had set. An empty cpuset means "as the parent" to the kernel.
pub fn plan_change(from: &[ControlWrite], to: &[ControlWrite]) -> Vec<ControlWrite> {
    let mut writes: Vec<ControlWrite> = Vec::new();
    for old in from {
        let same = |other: &&ControlWrite| other.file == old.file && other.key == old.key;
        if !to.iter().chain(&writes).any(|other| same(&other)) {
            writes.push(ControlWrite { value: old.kernel_default().to_owned(), ..old.clone() });
        }
    }
    writes.extend_from_slice(to);
    writes
}

fn cpuset_writes(ordered: &Ordered<'_>) -> Result<Vec<ControlWrite>, PlanError> {
    let sets = [
        ("cpuset.mems", ordered.mems.map(ToString::to_string)),
        ("cpuset.cpus", ordered.cpus.map(ToString::to_string)),
    ];
    let mut writes = Vec::new();
    for (file, list) in sets {
        match list {
            Some(list) if list.is_empty() => return Err(PlanError::EmptySet { file }),
            Some(list) => writes.push(ControlWrite::new(file, list)),
            None => {}
        }
    }
    Ok(writes)
}

fn cpu_writes(limits: &Limits) -> impl Iterator<Item = ControlWrite> {
    let weight = limits.cpu_weight.map(|weight| ControlWrite::new("cpu.weight", weight.get().to_string()));
    let max = limits.cpu_max.map(|max| ControlWrite::new("cpu.max", format::cpu_max(max)));
    weight.into_iter().chain(max)
}

/// An order of `memory.max` alone says of `memory.high` that it is none, once the wall stands: room is made by it
/// ([`crate::make_room`]), and whoever was interrupted at that has left it low.
fn memory_writes(limits: &Limits, page_size: Bytes) -> impl Iterator<Item = ControlWrite> {
    let memory = limits.memory;
    let text = move |amount: Bytes| format::memory(amount, page_size);
    let lifted = memory.max.filter(|_| memory.high.is_none()).map(|_| format::MAX.to_owned());
    [
        ("memory.swap.max", limits.swap_max.map(|swap| text(swap.0))),
        ("memory.min", memory.min.map(text)),
        ("memory.low", memory.low.map(text)),
        ("memory.high", memory.high.map(text)),
        ("memory.max", memory.max.map(text)),
        ("memory.high", lifted),
    ]
    .into_iter()
    .filter_map(|(file, value)| Some(ControlWrite::new(file, value?)))
}

fn io_writes(
    limits: &Limits,
    weight_file: IoWeightFile,
    devices: &BlockDevices,
) -> Result<Vec<ControlWrite>, PlanError> {
    let mut writes = Vec::new();
    for (limit, device) in resolve_io(limits, devices)? {
        if let Some(weight) = limit.weight {
            let (file, value) = match weight_file {
                IoWeightFile::IoCost => ("io.weight", weight.get().to_string()),
                IoWeightFile::Bfq => ("io.bfq.weight", format::bfq_weight(weight).to_string()),
                IoWeightFile::Absent => {
                    return Err(PlanError::Unsupported { file: "io.weight".to_owned() });
                }
            };
            writes.push(ControlWrite::of_device(file, device, value));
        }
        if has_rate(limit) {
            writes.push(ControlWrite::of_device("io.max", device, format::io_max(limit)));
        }
    }
    Ok(writes)
}

fn has_rate(limit: &IoLimit) -> bool {
    limit.read_bytes_per_sec.is_some()
        || limit.write_bytes_per_sec.is_some()
        || limit.read_ops_per_sec.is_some()
        || limit.write_ops_per_sec.is_some()
}

fn hugetlb_writes(limits: &Limits, capabilities: &Capabilities) -> Result<Vec<ControlWrite>, PlanError> {
    let sizes = capabilities.huge_page_sizes();
    let write = |huge: &berth_model::HugetlbLimit| {
        if !sizes.contains(&huge.page_size) {
            return Err(PlanError::NoSuchPageSize(huge.page_size));
        }
        let file = format!("hugetlb.{}.max", format::huge_page_size(huge.page_size));
        // The limit is whole huge pages, hence whole pages: only the counter's maximum is left to tell apart.
        Ok(ControlWrite::new(&file, format::memory(huge.max, capabilities.page_size())))
    };
    limits.hugetlb.iter().map(write).collect()
}
