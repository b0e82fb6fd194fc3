//! What is written, and what is refused.

use super::orders::{Everything, devices, io, io_of, kernel, only};
use crate::{ControlWrite, Ordered, RuntimeResources, plan_change, plan_former, plan_writes};
use berth_model::{Bytes, CpuMax, CpuSet, HugetlbLimit, Limits, MemoryLimits, SwapLimit};

fn lines(writes: &[ControlWrite]) -> Vec<String> {
    writes.iter().map(|write| format!("{} = {}", write.file, write.line())).collect()
}

fn check(limits: &Limits, expected: &[&str]) {
    let writes = plan_writes(&only(limits), &kernel(&[], &[]), &devices()).unwrap();
    assert_eq!(lines(&writes), expected, "{limits:?}");
}

#[test]
fn everything_in_order() {
    let order = Everything::new();
    let writes = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    assert_eq!(
        lines(&writes),
        [
            "cpuset.mems = 1",
            "cpuset.cpus = 2-3,8",
            "cpu.weight = 200",
            "cpu.max = 150000 100000",
            "memory.swap.max = 0",
            "memory.min = 67108864",
            "memory.low = 134217728",
            "memory.high = 999997440",
            "memory.max = 1073741824",
            "pids.max = 500",
            "io.weight = 254:16 200",
            "io.max = 254:16 rbps=max wbps=1048576 riops=max wiops=max",
            "io.weight = 254:0 50",
            "io.max = 254:0 rbps=max wbps=2097152 riops=max wiops=max",
            "hugetlb.2MB.max = 8388608",
        ]
    );
    let names: Vec<_> = writes.iter().map(ControlWrite::name).collect();
    assert_eq!((names[0].as_str(), names[11].as_str()), ("cpuset.mems", "io.max 254:16"));
}

#[test]
fn only_what_is_ordered() {
    check(&Limits::default(), &[]);
    let pids = Limits { pids_max: Some(u64::MAX), ..Limits::default() };
    check(&pids, &["pids.max = max"]);
    // Room beneath a limit is made by memory.high, and nothing of that is to stay.
    let memory = MemoryLimits { max: Some(Bytes(4_096)), ..MemoryLimits::default() };
    check(&Limits { memory, ..Limits::default() }, &["memory.max = 4096", "memory.high = max"]);
    let weight_only = Limits {
        io: vec![berth_model::IoLimit { weight: berth_model::IoWeight::new(1).ok(), ..io("/data") }],
        ..Limits::default()
    };
    check(&weight_only, &["io.weight = 254:16 1"]);
    let nothing_of_a_disk = Limits { io: vec![io("/data")], ..Limits::default() };
    check(&nothing_of_a_disk, &[]);
    let huge = Limits {
        hugetlb: vec![HugetlbLimit { page_size: Bytes(1 << 30), max: Bytes(0) }],
        ..Limits::default()
    };
    check(&huge, &["hugetlb.1GB.max = 0"]);
}

#[test]
fn weights_where_only_bfq_has_them() {
    let limits = Limits { io: vec![io_of("/data", 4_096, 10_000)], ..Limits::default() };
    let bfq = kernel(&["io.weight"], &["io.bfq.weight"]);
    let writes = plan_writes(&only(&limits), &bfq, &devices()).unwrap();
    assert_eq!(lines(&writes)[0], "io.bfq.weight = 254:16 1000");
}

fn check_refused(limits: &Limits, missing: &[&str], expected: &str) {
    let error = plan_writes(&only(limits), &kernel(missing, &[]), &devices()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let said = format!("{error}: {}", source.unwrap_or_default());
    assert!(said.contains(expected), "{limits:?}: {said}");
}

#[test]
fn refused_before_anything_is_written() {
    let on = |limits: Vec<berth_model::IoLimit>| Limits { io: limits, ..Limits::default() };
    check_refused(
        &on(vec![io("/run")]),
        &[],
        "mount point /run has no block device to limit: filesystem tmpfs",
    );
    check_refused(
        &on(vec![io("/nowhere")]),
        &[],
        "/nowhere has no block device to limit: nothing is mounted",
    );
    check_refused(&on(vec![io("/"), io("/log")]), &[], "/ and /log are on one disk, 254:0");
    check_refused(&on(vec![io_of("/", 1, 1)]), &["io.weight"], "control io.weight is ordered");
    check_refused(&on(vec![io_of("/", 1, 1)]), &["io.max"], "control io.max is ordered");
    let huge = Limits {
        hugetlb: vec![HugetlbLimit { page_size: Bytes(32 << 20), max: Bytes(32 << 20) }],
        ..Limits::default()
    };
    check_refused(&huge, &[], "huge pages of 32Mi cannot be limited here");
    let swap = Limits { swap_max: Some(SwapLimit(Bytes(0))), ..Limits::default() };
    check_refused(&swap, &["memory.swap.max"], "control memory.swap.max is ordered");
    let upside_down = Limits {
        memory: MemoryLimits { min: Some(Bytes(2)), max: Some(Bytes(1)), ..MemoryLimits::default() },
        ..Limits::default()
    };
    check_refused(&upside_down, &[], "the limits are invalid: memory.min is 2");
    let too_short = Limits { cpu_max: Some(CpuMax { quota_us: 1, period_us: 100_000 }), ..Limits::default() };
    check_refused(&too_short, &[], "the limits are invalid: cpu quota 1 us");
}

#[test]
fn an_empty_set_is_no_set() {
    let (limits, cpus) = (Limits::default(), CpuSet::new());
    let ordered = Ordered { cpus: Some(&cpus), ..only(&limits) };
    let error = plan_writes(&ordered, &kernel(&[], &[]), &devices()).unwrap_err();
    assert_eq!(error.to_string(), "cpuset.cpus is ordered to be empty");
}

#[test]
fn what_is_no_longer_ordered_goes_back_to_the_kernels_default() {
    let order = Everything::new();
    let from = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    let to = vec![from[3].clone()];
    assert_eq!(
        lines(&plan_change(&from, &to)),
        [
            "cpuset.mems = ",
            "cpuset.cpus = ",
            "cpu.weight = 100",
            "memory.swap.max = max",
            "memory.min = 0",
            "memory.low = 0",
            "memory.high = max",
            "memory.max = max",
            "pids.max = max",
            "io.weight = 254:16 default",
            "io.max = 254:16 rbps=max wbps=max riops=max wiops=max",
            "io.weight = 254:0 default",
            "io.max = 254:0 rbps=max wbps=max riops=max wiops=max",
            "hugetlb.2MB.max = max",
            "cpu.max = 150000 100000",
        ]
    );
    assert_eq!(plan_change(&[from.clone(), from.clone()].concat(), &[]).len(), from.len());
    assert_eq!(plan_change(&[], &from), from);
    assert_eq!(plan_change(&from, &from), from);
}

#[test]
fn what_cannot_be_planned_any_more_keeps_nothing_else_from_being_put_back() {
    let order = Everything::new();
    let all = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    let limits_alone: Vec<_> =
        all.iter().filter(|write| !write.file.starts_with("cpuset.")).cloned().collect();
    assert_eq!(plan_former(&order.limits, &kernel(&[], &[]), &devices()), limits_alone);

    let mut limits = order.limits;
    limits.io.insert(0, io_of("/gone", 1, 1));
    limits.io.push(io_of("/log", 1, 1));
    limits.hugetlb.push(HugetlbLimit { page_size: Bytes(32 << 20), max: Bytes(32 << 20) });
    let here = kernel(&["memory.swap.max"], &[]);
    let former = plan_former(&limits, &here, &devices());
    let put_back = plan_change(&former, &[]);
    let names = |writes: &[ControlWrite]| writes.iter().map(ControlWrite::name).collect::<Vec<_>>();
    let mut expected = names(&limits_alone);
    expected.retain(|name| name != "memory.swap.max");
    assert_eq!(names(&put_back), expected);
}

#[test]
fn what_the_runtime_is_told() {
    let order = Everything::new();
    let writes = plan_writes(&order.ordered(), &kernel(&[], &[]), &devices()).unwrap();
    let told = RuntimeResources::new(&order.ordered(), &writes);
    assert_eq!((told.cpuset_cpus.as_str(), told.cpuset_mems.as_str()), ("2-3,8", "1"));
    let unified: Vec<_> = told.unified.iter().map(|(file, text)| format!("{file}={text}")).collect();
    assert_eq!(
        unified,
        [
            "cpu.max=150000 100000",
            "cpu.weight=200",
            "hugetlb.2MB.max=8388608",
            "memory.high=999997440",
            "memory.low=134217728",
            "memory.max=1073741824",
            "memory.min=67108864",
            "memory.swap.max=0",
            "pids.max=500",
        ]
    );
    let limits = Limits::default();
    let told = RuntimeResources::new(&only(&limits), &[]);
    assert_eq!(told.unified.into_iter().collect::<Vec<_>>(), [("pids.max".to_owned(), "max".to_owned())]);
    assert_eq!(told.cpuset_cpus, "");
}
