//! What systemd is told, and what it is not.

use super::orders::{Everything, devices, io_of, kernel, only};
use crate::{
    Ordered, PropertyValue, UnitProperties, UnitProperty, plan_writes, property_change, unit_properties,
};
use berth_model::{CpuMax, Limits};
use proptest::prelude::*;

fn told(ordered: &Ordered<'_>) -> UnitProperties {
    let writes = plan_writes(ordered, &kernel(&[], &[]), &devices()).unwrap();
    unit_properties(ordered, &writes, &devices()).unwrap()
}

fn show(properties: &[UnitProperty]) -> Vec<String> {
    let value = |value: &PropertyValue| match value {
        PropertyValue::U64(number) => number.to_string(),
        PropertyValue::Bytes(bytes) => format!("{bytes:?}"),
        PropertyValue::PathU64(entries) => {
            let entries = entries.iter().map(|(path, number)| format!("{path} {number}"));
            entries.collect::<Vec<_>>().join(", ")
        }
    };
    properties.iter().map(|property| format!("{} {}", property.name, value(&property.value))).collect()
}

fn bare(told: &UnitProperties) -> Vec<String> {
    told.bare.iter().map(crate::ControlWrite::name).collect()
}

#[test]
fn everything() {
    let order = Everything::new();
    let told = told(&order.ordered());
    assert_eq!(
        show(&told.properties),
        [
            "AllowedMemoryNodes [2]",
            "AllowedCPUs [12, 1]",
            "CPUWeight 200",
            "CPUQuotaPeriodUSec 100000",
            "CPUQuotaPerSecUSec 1500000",
            "MemorySwapMax 0",
            "MemoryMin 67108864",
            "MemoryLow 134217728",
            "MemoryHigh 1000000000",
            "MemoryMax 1073741824",
            "TasksMax 500",
            "IODeviceWeight /dev/block/254:16 200, /dev/block/254:0 50",
            "IOWriteBandwidthMax /dev/block/254:16 1048576, /dev/block/254:0 2097152",
        ]
    );
    assert_eq!(bare(&told), ["hugetlb.2MB.max"]);
}

#[test]
fn what_is_not_ordered_is_not_told() {
    assert_eq!(show(&told(&only(&Limits::default())).properties), [] as [&str; 0]);
}

#[test]
fn what_is_no_longer_ordered_is_forgotten() {
    let order = Everything::new();
    let limits =
        Limits { io: vec![io_of("/data", 5, 200)], cpu_weight: order.limits.cpu_weight, ..Limits::default() };
    let to = told(&only(&limits)).properties;
    let mut from = order.limits.clone();
    from.io = vec![io_of("/gone", 5, 200)];
    from.io.extend(order.limits.io.clone());
    let none = u64::MAX;
    assert_eq!(
        show(&property_change(&from, &to)),
        [
            &format!("CPUQuotaPeriodUSec {none}"),
            &format!("CPUQuotaPerSecUSec {none}"),
            &format!("MemorySwapMax {none}"),
            "MemoryMin 0",
            "MemoryLow 0",
            &format!("MemoryHigh {none}"),
            &format!("MemoryMax {none}"),
            &format!("TasksMax {none}"),
            // A list is only added to: it is emptied first, also where its disk is gone.
            "IODeviceWeight ",
            "IOWriteBandwidthMax ",
            "CPUWeight 200",
            "IODeviceWeight /dev/block/254:16 200",
            "IOWriteBandwidthMax /dev/block/254:16 5",
        ]
    );
    assert_eq!(property_change(&Limits::default(), &to), to);
    let same = told(&order.ordered()).properties;
    let lists = ["IODeviceWeight ", "IOWriteBandwidthMax "].map(str::to_owned).to_vec();
    let emptied = [lists, show(&same)].concat();
    assert_eq!(show(&property_change(&order.limits, &same)), emptied);
}

#[test]
fn stacked_devices_are_kept_from_systemd() {
    let limits =
        Limits { io: vec![io_of("/lvm", 1_000, 10), io_of("/data", 2_000, 20)], ..Limits::default() };
    let told = told(&only(&limits));
    assert_eq!(
        show(&told.properties),
        ["IODeviceWeight /dev/block/254:16 20", "IOWriteBandwidthMax /dev/block/254:16 2000"]
    );
    assert_eq!(bare(&told), ["io.weight 253:0", "io.max 253:0"]);
}

fn check_quota(quota_us: u64, period_us: u64, per_sec_us: u64, bare_writes: &[&str]) {
    let limits = Limits { cpu_max: Some(CpuMax { quota_us, period_us }), ..Limits::default() };
    let told = told(&only(&limits));
    let expected = format!("CPUQuotaPerSecUSec {per_sec_us}");
    assert!(show(&told.properties).contains(&expected), "{quota_us} in {period_us}: {told:?}");
    assert_eq!(bare(&told), bare_writes, "{quota_us} in {period_us}");
}

#[test]
fn quotas_in_whole_percents() {
    check_quota(50_000, 100_000, 500_000, &[]);
    check_quota(1_000, 100_000, 10_000, &[]);
    check_quota(1_000_000, 1_000_000, 1_000_000, &[]);
    check_quota(33_300, 100_000, 340_000, &["cpu.max"]);
    check_quota(1_000, 1_000_000, 10_000, &["cpu.max"]);
}

/// cgroup_apply_cpu(): what systemd writes to `cpu.max`.
fn as_systemd_writes(quota_per_sec_us: u64, period_us: u64) -> u64 {
    let quota = u128::from(quota_per_sec_us) * u128::from(period_us) / 1_000_000;
    u64::try_from(quota).unwrap().max(1_000)
}

/// "CPUQuota=%0.f%%", which is what systemd keeps over a reload.
fn kept_over_a_reload(quota_per_sec_us: u64) -> u64 {
    quota_per_sec_us / 10_000 * 10_000
}

proptest! {
    #[test]
    fn a_quota_is_never_stricter_than_ordered_and_exact_if_it_is_not_bare(
        quota_us in 1_000..10_000_000_u64,
        period_us in 1_000..=1_000_000_u64,
        percent in 1..10_000_u64,
        whole in any::<bool>(),
    ) {
        let period_us = if whole { period_us / 100 * 100 } else { period_us };
        let quota_us = if whole { (period_us / 100 * percent).max(1_000) } else { quota_us };
        prop_assume!(period_us >= 1_000);
        let limits = Limits { cpu_max: Some(CpuMax { quota_us, period_us }), ..Limits::default() };
        let told = told(&only(&limits));
        let property = told.properties.iter().find(|property| property.name == "CPUQuotaPerSecUSec").unwrap();
        let PropertyValue::U64(per_sec) = property.value else { panic!("{property:?}") };
        prop_assert_eq!(kept_over_a_reload(per_sec), per_sec);
        let written = as_systemd_writes(per_sec, period_us);
        prop_assert!(written >= quota_us);
        prop_assert!(written <= quota_us + period_us.div_ceil(100));
        // Rounding may give the very quota back where it was not a whole percent: then it is written for nothing.
        prop_assert!(!told.bare.is_empty() || written == quota_us);
    }
}
