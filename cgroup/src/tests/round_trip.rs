//! Whatever is planned is taken by the kernel and printed back as planned.

use super::fake_kernel::FakeKernel;
use super::orders::{Everything, devices, io, kernel, only};
use crate::{ControlFiles, Ordered, apply, plan_change, plan_former, plan_writes, read_back};
use berth_model::{
    Bytes, ControlValue, CpuMax, CpuSet, CpuWeight, HugetlbLimit, IoLimit, IoWeight, Limits, MemSet,
    MemoryLimits, SwapLimit,
};
use proptest::option;
use proptest::prelude::*;

const DISKS: [&str; 3] = ["254:0", "254:16", "253:0"];

/// Amounts around every edge: pages, 32 bits, the counter's maximum.
fn amounts() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..=10_000_u64,
        any::<u64>(),
        (0..64_u32, 0..=2_u64).prop_map(|(bit, more)| (1 << bit) + more)
    ]
    .prop_map(|amount: u64| amount.max(1))
}

fn memory() -> impl Strategy<Value = MemoryLimits> {
    prop::collection::vec(option::of(amounts()), 4).prop_map(|mut amounts| {
        let mut given: Vec<u64> = amounts.iter().flatten().copied().collect();
        given.sort_unstable();
        let mut given = given.into_iter();
        for amount in amounts.iter_mut().filter(|amount| amount.is_some()) {
            *amount = given.next();
        }
        let at = |index: usize| amounts[index].map(Bytes);
        MemoryLimits { min: at(0), low: at(1), high: at(2), max: at(3) }
    })
}

fn io_limits() -> impl Strategy<Value = Vec<IoLimit>> {
    let rates = prop::collection::vec(option::of(amounts()), 4);
    let one = (rates, option::of(1..=10_000_u64)).prop_map(|(rates, weight)| IoLimit {
        read_bytes_per_sec: rates[0],
        write_bytes_per_sec: rates[1],
        read_ops_per_sec: rates[2],
        write_ops_per_sec: rates[3],
        weight: weight.and_then(|weight| IoWeight::new(weight).ok()),
        ..io("/")
    });
    prop::collection::vec(one, 0..=3).prop_map(|mut limits| {
        for (limit, mount_point) in limits.iter_mut().zip(["/", "/data", "/lvm"]) {
            limit.mount_point = mount_point.to_owned();
        }
        limits
    })
}

prop_compose! {
    fn limits()(
        weight in option::of(1..=10_000_u64),
        cpu_max in option::of((1_000..1_u64 << 44, 1_000..=1_000_000_u64)),
        memory in memory(),
        swap in option::of(any::<u64>()),
        pids_max in option::of(amounts()),
        io in io_limits(),
        huge_pages in option::of(0..1_000_u64),
    ) -> Limits {
        Limits {
            cpu_weight: weight.and_then(|weight| CpuWeight::new(weight).ok()),
            cpu_max: cpu_max.map(|(quota_us, period_us)| CpuMax { quota_us, period_us }),
            memory,
            swap_max: swap.map(|swap| SwapLimit(Bytes(swap))),
            pids_max,
            io,
            hugetlb: huge_pages
                .map(|count| HugetlbLimit { page_size: Bytes(2 << 20), max: Bytes(count << 21) })
                .into_iter()
                .collect(),
        }
    }
}

prop_compose! {
    fn orders()(
        limits in limits(),
        cpus in prop::collection::btree_set(0..=200_u32, 1..20),
        mems in prop::collection::btree_set(0..=7_u32, 1..4),
    ) -> Everything {
        Everything {
            limits,
            cpus: CpuSet::try_from_iter(cpus).unwrap(),
            mems: MemSet::try_from_iter(mems).unwrap(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(order in orders(), bfq in any::<bool>()) {
        let offered = if bfq { kernel(&["io.weight"], &["io.bfq.weight"]) } else { kernel(&[], &[]) };
        let writes = plan_writes(&order.ordered(), &offered, &devices()).unwrap();
        let cgroup = FakeKernel::new(4_096, &DISKS);
        apply(&cgroup, &writes).unwrap();
        for control in read_back(&cgroup, &writes).controls {
            prop_assert!(control.holds(), "{:?}", control);
        }
    }

    #[test]
    fn a_change_leaves_nothing_of_the_former_order(before in orders(), after in orders()) {
        let plan = |order: &Everything| plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
        let former = plan_former(&before.limits, &kernel(&[], &[]), &devices());
        let (before, after) = (plan(&before), plan(&after));
        let (changed, fresh) = (FakeKernel::new(4_096, &DISKS), FakeKernel::new(4_096, &DISKS));
        apply(&changed, &before).unwrap();
        apply(&changed, &plan_change(&former, &after)).unwrap();
        apply(&fresh, &after).unwrap();
        for write in before.iter().chain(&after) {
            prop_assert_eq!(changed.read(&write.file).unwrap(), fresh.read(&write.file).unwrap());
        }
        let all = plan_change(&former, &after);
        for control in read_back(&changed, &all).controls {
            prop_assert!(control.holds(), "{:?}", control);
        }
    }
}

#[test]
fn something_else_overwrote_a_value() {
    let order = Everything::new();
    let writes = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    let cgroup = FakeKernel::new(4_096, &DISKS);
    apply(&cgroup, &writes).unwrap();
    cgroup.write("memory.swap.max", "max").unwrap();
    cgroup.write("io.max", "254:16 wbps=max").unwrap();
    let broken: Vec<_> = read_back(&cgroup, &writes)
        .controls
        .into_iter()
        .filter(|control| !control.holds())
        .map(|control| (control.file, control.ordered, control.read))
        .collect();
    let text = |text: &str| ControlValue::Text(text.to_owned());
    assert_eq!(
        broken,
        [
            ("memory.swap.max".to_owned(), "0".to_owned(), text("max")),
            (
                "io.max 254:16".to_owned(),
                "rbps=max wbps=1048576 riops=max wiops=max".to_owned(),
                text("rbps=max wbps=max riops=max wiops=max"),
            ),
        ]
    );
}

#[test]
fn every_refused_write_is_named_and_the_rest_is_done() {
    let order = Everything::new();
    let writes = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    let cgroup = FakeKernel::new(4_096, &["254:16"]);
    let error = apply(&cgroup, &writes).unwrap_err();
    let files: Vec<_> = error.failures.iter().map(|failure| failure.file.as_str()).collect();
    assert_eq!(files, ["io.weight", "io.max"]);
    let said = error.to_string();
    assert!(
        said.starts_with("write \"254:0 50\" to io.weight of cgroup fake.slice: No such device"),
        "{said}"
    );
    let held = read_back(&cgroup, &writes).controls.iter().filter(|c| c.holds()).count();
    assert_eq!(held, writes.len() - 2);
}

#[test]
fn a_file_that_is_not_there_is_unreadable() {
    let limits = Limits { pids_max: Some(1), ..Limits::default() };
    let ordered: Ordered<'_> = only(&limits);
    let mut writes = plan_writes(&ordered, &kernel(&[], &[]), &devices()).unwrap();
    writes[0].file = "pids.nothing".to_owned();
    let applied = read_back(&FakeKernel::new(4_096, &[]), &writes);
    assert_eq!(applied.cgroup, "fake.slice");
    assert!(matches!(applied.controls[0].read, ControlValue::Unreadable(_)));
}
