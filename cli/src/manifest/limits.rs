//! `limits` and `ulimits`, of a pod and of a container alike.

use super::scalar::{
    Bandwidth, CpuLimit, DeviceWeight, Rate, Resource, Shares, Size, UlimitValue, Weight, Whole64, chain,
};
use berth_model::{CpuMax, CpuWeight, HugetlbLimit, IoLimit, Limits, MemoryLimits, SwapLimit, Ulimit};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawLimits {
    cpu_weight: Option<Weight>,
    cpu_shares: Option<Shares>,
    cpu_max: Option<Bandwidth>,
    cpus: Option<CpuLimit>,
    #[serde(default)]
    memory: RawMemory,
    swap_max: Option<Size>,
    pids_max: Option<Whole64>,
    #[serde(default)]
    io: Vec<RawIo>,
    #[serde(default)]
    hugetlb: Vec<RawHugetlb>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMemory {
    min: Option<Size>,
    low: Option<Size>,
    high: Option<Size>,
    max: Option<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawIo {
    mount_point: String,
    read_bytes_per_sec: Option<Rate>,
    write_bytes_per_sec: Option<Rate>,
    read_ops_per_sec: Option<Rate>,
    write_ops_per_sec: Option<Rate>,
    weight: Option<DeviceWeight>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHugetlb {
    page_size: Size,
    max: Size,
}

/// Limits, checked as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "RawLimits")]
pub(super) struct LimitsField(pub(super) Limits);

impl TryFrom<RawLimits> for LimitsField {
    type Error = String;

    fn try_from(raw: RawLimits) -> Result<Self, String> {
        let limits = Limits {
            cpu_weight: weight(raw.cpu_weight, raw.cpu_shares)?,
            cpu_max: bandwidth(raw.cpu_max, raw.cpus)?,
            memory: raw.memory.into(),
            swap_max: raw.swap_max.map(|size| SwapLimit(size.0)),
            pids_max: raw.pids_max.map(|number| number.0),
            io: raw.io.into_iter().map(Into::into).collect(),
            hugetlb: raw.hugetlb.into_iter().map(Into::into).collect(),
        };
        limits.validate().map_err(|error| chain(&error))?;
        Ok(Self(limits))
    }
}

fn weight(weight: Option<Weight>, shares: Option<Shares>) -> Result<Option<CpuWeight>, String> {
    match (weight, shares) {
        (Some(_), Some(_)) => Err("cpuWeight and cpuShares say the same thing: keep one".to_owned()),
        (Some(Weight(weight)), None) | (None, Some(Shares(weight))) => Ok(Some(weight)),
        (None, None) => Ok(None),
    }
}

fn bandwidth(max: Option<Bandwidth>, cpus: Option<CpuLimit>) -> Result<Option<CpuMax>, String> {
    match (max, cpus) {
        (Some(_), Some(_)) => Err("cpuMax and cpus say the same thing: keep one".to_owned()),
        (Some(Bandwidth(max)), None) | (None, Some(CpuLimit(max))) => Ok(Some(max)),
        (None, None) => Ok(None),
    }
}

impl From<RawMemory> for MemoryLimits {
    fn from(raw: RawMemory) -> Self {
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        Self { min: bytes(raw.min), low: bytes(raw.low), high: bytes(raw.high), max: bytes(raw.max) }
    }
}

impl From<RawIo> for IoLimit {
    fn from(raw: RawIo) -> Self {
        let rate = |rate: Option<Rate>| rate.map(|rate| rate.0);
        Self {
            mount_point: raw.mount_point,
            read_bytes_per_sec: rate(raw.read_bytes_per_sec),
            write_bytes_per_sec: rate(raw.write_bytes_per_sec),
            read_ops_per_sec: rate(raw.read_ops_per_sec),
            write_ops_per_sec: rate(raw.write_ops_per_sec),
            weight: raw.weight.map(|weight| weight.0),
        }
    }
}

impl From<RawHugetlb> for HugetlbLimit {
    fn from(raw: RawHugetlb) -> Self {
        Self { page_size: raw.page_size.0, max: raw.max.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawUlimit {
    name: Resource,
    soft: UlimitValue,
    hard: Option<UlimitValue>,
}

/// Ulimits, checked as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Vec<RawUlimit>")]
pub(super) struct UlimitsField(pub(super) Vec<Ulimit>);

impl TryFrom<Vec<RawUlimit>> for UlimitsField {
    type Error = String;

    fn try_from(raw: Vec<RawUlimit>) -> Result<Self, String> {
        let ulimit = |raw: RawUlimit| {
            let soft = raw.soft.0;
            Ulimit { rlimit: raw.name.0, soft, hard: raw.hard.map_or(soft, |hard| hard.0) }
        };
        let ulimits: Vec<_> = raw.into_iter().map(ulimit).collect();
        Ulimit::validate_all(&ulimits).map_err(|error| chain(&error))?;
        Ok(Self(ulimits))
    }
}
