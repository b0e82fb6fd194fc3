//! The same limits as properties of a systemd unit.
//!
//! A daemon-reload makes systemd write the attributes of every unit's cgroup again, from the unit's properties; what
//! was only written to a file is lost then. So what systemd models is told to systemd. What it does not model, or
//! keeps less exactly than ordered, is in [`UnitProperties::bare`] and written to the file *after* the properties
//! are set. Source: systemd's `core/dbus-cgroup.c`, `core/cgroup.c` and `org.freedesktop.systemd1(5)`.

use crate::plan::resolve_io;
use crate::{BlockDevice, BlockDevices, ControlWrite, DeviceKind, Ordered, PlanError};
use berth_model::{CpuMax, IoLimit, Limits};

/// A property's value; the variant names its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// `t`.
    U64(u64),
    /// `ay`.
    Bytes(Vec<u8>),
    /// `a(st)`: for each path a number.
    PathU64(Vec<(String, u64)>),
}

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProperty {
    /// Its name, such as `MemoryMax`.
    pub name: &'static str,
    /// Its value.
    pub value: PropertyValue,
}

impl UnitProperty {
    /// The property of this name without a limit. A list is emptied.
    fn unlimited(name: &'static str) -> Self {
        let value = match name {
            "MemoryMin" | "MemoryLow" => PropertyValue::U64(0),
            _ if RATES.iter().any(|(list, _)| *list == name) => PropertyValue::PathU64(Vec::new()),
            _ => PropertyValue::U64(INFINITY),
        };
        Self { name, value }
    }
}

/// Says what systemd is told to bring a unit from former limits to other properties: all of `to`, preceded by no limit
/// for whatever only `from` had. Without it systemd would bring back a limit that was dropped, as soon as it writes
/// the unit's attributes again because of another one.
///
/// A number is replaced by a new one, a list is only added to: those that `from` had are emptied, whatever disks they named.
pub fn property_change(from: &Limits, to: &[UnitProperty]) -> Vec<UnitProperty> {
    let numbers = numbers(from).into_iter().map(|(name, _)| name);
    let numbers = numbers.filter(|name| to.iter().all(|new| new.name != *name));
    let lists = RATES.iter().filter(|(_, rate)| from.io.iter().any(|limit| rate(limit).is_some()));
    let dropped = numbers.chain(lists.map(|(name, _)| *name)).map(UnitProperty::unlimited);
    dropped.chain(to.iter().cloned()).collect()
}

/// An order as systemd can be told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProperties {
    /// For StartTransientUnit or SetUnitProperties.
    pub properties: Vec<UnitProperty>,
    /// What systemd does not hold, or not exactly: to be written to files after that.
    ///
    /// - `hugetlb.*.max` and limits of stacked devices: systemd neither sets nor resets them.
    /// - `cpu.max` where the quota is no whole percent of a CPU: systemd keeps whole percents over a reload. It is
    ///   told the next higher one, so after a reload the cgroup has up to 1 % of a CPU more than ordered, until
    ///   somebody looks and writes it again.
    pub bare: Vec<ControlWrite>,
}

/// systemd's word for "no limit" and "not set" in a property of type `t`.
const INFINITY: u64 = u64::MAX;

/// Says an order in systemd's terms. `writes` is what [`plan_writes`](crate::plan_writes) made of the same order.
///
/// # Errors
/// The same as of [`plan_writes`](crate::plan_writes) where devices are concerned.
pub fn unit_properties(
    ordered: &Ordered<'_>,
    writes: &[ControlWrite],
    devices: &BlockDevices,
) -> Result<UnitProperties, PlanError> {
    let disks: Vec<(&IoLimit, BlockDevice)> = resolve_io(ordered.limits, devices)?;
    let mut properties = scalar_properties(ordered);
    properties.extend(io_properties(&disks));
    let bare = writes.iter().filter(|write| !holds(write, ordered, &disks)).cloned().collect();
    Ok(UnitProperties { properties, bare })
}

/// Whether systemd, told the properties, holds the very value of this write.
fn holds(write: &ControlWrite, ordered: &Ordered<'_>, disks: &[(&IoLimit, BlockDevice)]) -> bool {
    if let Some(key) = write.key {
        return disks.iter().any(|(_, device)| device.id == key && device.kind == DeviceKind::Disk);
    }
    if write.file == "cpu.max" {
        return ordered.limits.cpu_max.is_some_and(is_whole_percent);
    }
    !write.file.starts_with("hugetlb.")
}

fn scalar_properties(ordered: &Ordered<'_>) -> Vec<UnitProperty> {
    let sets = [
        ("AllowedMemoryNodes", ordered.mems.map(|mems| bitmask(mems.iter()))),
        ("AllowedCPUs", ordered.cpus.map(|cpus| bitmask(cpus.iter()))),
    ];
    let sets = sets.into_iter().filter_map(|(name, mask)| Some((name, PropertyValue::Bytes(mask?))));
    let numbers =
        numbers(ordered.limits).into_iter().map(|(name, number)| (name, PropertyValue::U64(number)));
    sets.chain(numbers).map(|(name, value)| UnitProperty { name, value }).collect()
}

fn numbers(limits: &Limits) -> Vec<(&'static str, u64)> {
    let memory = limits.memory;
    // As in `memory.high`.
    let high = memory.high.map(|amount| amount.0).or_else(|| memory.max.map(|_| INFINITY));
    let numbers = [
        ("CPUWeight", limits.cpu_weight.map(|weight| u64::from(weight.get()))),
        ("CPUQuotaPeriodUSec", limits.cpu_max.map(|max| max.period_us)),
        ("CPUQuotaPerSecUSec", limits.cpu_max.map(quota_per_sec_us)),
        ("MemorySwapMax", limits.swap_max.map(|swap| swap.0.0)),
        ("MemoryMin", memory.min.map(|amount| amount.0)),
        ("MemoryLow", memory.low.map(|amount| amount.0)),
        ("MemoryHigh", high),
        ("MemoryMax", memory.max.map(|amount| amount.0)),
        ("TasksMax", limits.pids_max.map(tasks_max)),
    ];
    numbers.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
}

/// A limit that the kernel could not take is none; see `pids.max`.
fn tasks_max(pids_max: u64) -> u64 {
    if crate::format::pids(pids_max) == crate::format::MAX { INFINITY } else { pids_max }
}

type Rate = fn(&IoLimit) -> Option<u64>;

/// The properties that are lists, with an entry for each disk.
const RATES: [(&str, Rate); 5] = [
    ("IODeviceWeight", |limit| limit.weight.map(|weight| u64::from(weight.get()))),
    ("IOReadBandwidthMax", |limit| limit.read_bytes_per_sec),
    ("IOWriteBandwidthMax", |limit| limit.write_bytes_per_sec),
    ("IOReadIOPSMax", |limit| limit.read_ops_per_sec),
    ("IOWriteIOPSMax", |limit| limit.write_ops_per_sec),
];

fn io_properties(disks: &[(&IoLimit, BlockDevice)]) -> Vec<UnitProperty> {
    let of_disks = |rate: Rate| -> Vec<(String, u64)> {
        disks
            .iter()
            .filter(|(_, device)| device.kind == DeviceKind::Disk)
            .filter_map(|(limit, device)| Some((device.id.node_path(), rate(limit)?)))
            .collect()
    };
    RATES
        .into_iter()
        .map(|(name, rate)| (name, of_disks(rate)))
        .filter(|(_, entries)| !entries.is_empty())
        .map(|(name, entries)| UnitProperty { name, value: PropertyValue::PathU64(entries) })
        .collect()
}

/// A hundredth of one CPU, in µs of run time per second.
const PERCENT_US_PER_SEC: u64 = 10_000;

/// The quota as run time in each second, in whole percents, rounded up: never stricter than ordered.
fn quota_per_sec_us(max: CpuMax) -> u64 {
    (max.quota_us * 100).div_ceil(max.period_us) * PERCENT_US_PER_SEC
}

fn is_whole_percent(max: CpuMax) -> bool {
    (max.quota_us * 100).is_multiple_of(max.period_us)
}

/// Bit `n % 8` of byte `n / 8` stands for member `n`.
fn bitmask(members: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut mask = Vec::new();
    for member in members {
        let byte = (member / 8) as usize;
        if mask.len() <= byte {
            mask.resize(byte + 1, 0);
        }
        mask[byte] |= 1 << (member % 8);
    }
    mask
}
