//! Scalars of a manifest: each is read as text and parsed at once, so that the error carries its line.

use berth_model::{
    Bytes, Capability, Cidr, ConfigMode, ContainerName, CpuMax, CpuSet, CpuWeight, DeviceId, Digest,
    DiskName, ImageName, IoWeight, MemSet, MilliCpu, NodeName, PoolName, ProfileName, Rlimit, Signal, Ulimit,
};
use serde::{Deserialize, Deserializer, de};
use std::error::Error;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

/// An error and its sources in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A whole number that fits in `T`.
fn whole<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text.strip_prefix('-').is_some_and(digits) {
        return Err(format!("{text} is negative"));
    }
    if !digits(text) {
        return Err(format!("{text:?} is no whole number"));
    }
    let number = text.parse::<u64>().ok();
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("{text} is too large"))
}

/// Splits `250ms` into its digits and its unit.
fn with_unit(text: &str) -> Result<(u64, &str), String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    Ok((whole(number)?, unit))
}

/// A duration in microseconds. A number without a unit is refused: it would be read as seconds by one and as
/// milliseconds by another.
fn micros(text: &str) -> Result<u64, String> {
    let (number, unit) = with_unit(text)?;
    let factor = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60 * 1_000_000,
        "h" => 3_600 * 1_000_000,
        "" => return Err(format!("{text:?} has no unit (us, ms, s, m or h)")),
        other => return Err(format!("{other:?} in {text:?} is no unit of time (us, ms, s, m or h)")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

/// A duration such as `30s`, in milliseconds.
///
/// # Errors
/// No number, no unit, too large, or a fraction of a millisecond.
pub(crate) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    match micros(text)? {
        micros if micros.is_multiple_of(1_000) => Ok(micros / 1_000),
        _ => Err(format!("{text:?} is no whole number of milliseconds")),
    }
}

fn cpu_max(text: &str) -> Result<CpuMax, String> {
    let (quota, period) = text
        .split_once('/')
        .ok_or_else(|| format!("{text:?} is not of the form quota/period, such as 50ms/100ms"))?;
    Ok(CpuMax { quota_us: micros(quota)?, period_us: micros(period)? })
}

/// CPUs' worth of time in the kernel's default period.
fn cpus(text: &str) -> Result<CpuMax, String> {
    let MilliCpu(milli) = parse(text)?;
    let quota_us = u64::from(milli) * CpuMax::DEFAULT_PERIOD_US / 1_000;
    Ok(CpuMax { quota_us, period_us: CpuMax::DEFAULT_PERIOD_US })
}

fn not_empty(text: &str, what: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err(format!("names no {what}")) } else { Ok(()) }
}

fn ulimit(text: &str) -> Result<u64, String> {
    if text == "unlimited" {
        return Ok(Ulimit::UNLIMITED);
    }
    whole(text).map_err(|why| format!("{why}; a ulimit is a number or unlimited"))
}

/// As everybody writes them: with and without the leading 0, and never in tens.
fn file_mode(text: &str) -> Result<ConfigMode, String> {
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let bits = u32::from_str_radix(octal, 8).map_err(|_| format!("{text:?} is no mode such as 0444"))?;
    ConfigMode::new(bits).map_err(|error| error.to_string())
}

/// Of one line or of several.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine;
    let dense: String = text.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(dense).map_err(|error| format!("no base64: {error}"))
}

macro_rules! scalar {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map(Self).map_err(de::Error::custom)
            }
        }
    )*};
}

scalar! {
    /// A whole number.
    Whole32(u32) = whole;
    /// A whole number.
    Whole64(u64) = whole;
    /// A port of TCP.
    PortNumber(u16) = whole;
    /// Bytes, `512Mi`.
    Size(Bytes) = parse;
    /// Bytes or operations in a second, `10M`.
    Rate(u64) = |text| parse::<Bytes>(text).map(|bytes| bytes.0);
    /// CPUs, `500m`.
    Cpus(MilliCpu) = parse;
    /// CPU time in a period, `50ms/100ms`.
    Bandwidth(CpuMax) = cpu_max;
    /// CPU time as so many CPUs, `1500m`.
    CpuLimit(CpuMax) = cpus;
    /// `cpu.weight`.
    Weight(CpuWeight) = |text| CpuWeight::new(whole(text)?).map_err(|error| error.to_string());
    /// `cpu.shares`, as a weight.
    Shares(CpuWeight) = |text| CpuWeight::from_shares(whole(text)?).map_err(|error| error.to_string());
    /// `io.weight`.
    DeviceWeight(IoWeight) = |text| IoWeight::new(whole(text)?).map_err(|error| error.to_string());
    /// Permissions of a file of a configuration, `0444`.
    FileMode(ConfigMode) = file_mode;
    /// Any bytes, by RFC 4648.
    Base64(Vec<u8>) = base64;
    /// A duration, `30s`.
    DurationMs(u64) = parse_duration_ms;
    /// A DNS label: a namespace, a pod's name, a host name.
    Label(String) = |text| parse::<ContainerName>(text).map(|label| label.to_string());
    /// A container's name.
    Container(ContainerName) = parse;
    /// A data disk's name.
    DiskLabel(DiskName) = parse;
    /// A device by a stable name.
    Device(DeviceId) = parse;
    /// A node's name.
    Node(NodeName) = parse;
    /// A pool's name.
    Pool(PoolName) = parse;
    /// An image's name.
    Image(ImageName) = parse;
    /// A digest.
    ImageDigest(Digest) = parse;
    /// At least one CPU.
    CpuList(CpuSet) = |text| not_empty(text, "CPU").and_then(|()| parse(text));
    /// At least one memory node.
    MemList(MemSet) = |text| not_empty(text, "memory node").and_then(|()| parse(text));
    /// An address.
    Address(IpAddr) = |text| text.parse().map_err(|_| format!("{text:?} is no IP address"));
    /// A network.
    Network(Cidr) = parse;
    /// A resource of `getrlimit(2)`.
    Resource(Rlimit) = parse;
    /// A capability, `NET_ADMIN`.
    Cap(Capability) = parse;
    /// A signal, `USR1`.
    StopSignal(Signal) = parse;
    /// A profile on the node.
    LocalProfile(ProfileName) = parse;
    /// A ulimit's value.
    UlimitValue(u64) = ulimit;
}
