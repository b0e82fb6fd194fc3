//! Every control, read from the kernel: as ordered, and again after systemd has reloaded its configuration.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Kernel, PodProcess};
use std::time::Duration;

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &[
    "cpu.exclusive.cpus",
    "cpu.exclusive.mems",
    "cpu.shared.pool",
    "limits.cpu_weight",
    "limits.cpu_max.quota_us",
    "limits.cpu_max.period_us",
    "limits.memory_min_bytes",
    "limits.memory_low_bytes",
    "limits.memory_high_bytes",
    "limits.memory_max_bytes",
    "limits.swap_max_bytes",
    "limits.pids_max",
    "limits.io.mount_point",
    "limits.io.read_bytes_per_sec",
    "limits.io.read_ops_per_sec",
    "limits.io.write_bytes_per_sec",
    "limits.io.write_ops_per_sec",
    "limits.io.weight",
    "limits.hugetlb.page_size_bytes",
    "limits.hugetlb.max_bytes",
    "containers.cpus",
    "containers.limits.cpu_weight",
    "containers.limits.cpu_max.quota_us",
    "containers.limits.cpu_max.period_us",
    "containers.limits.memory_min_bytes",
    "containers.limits.memory_low_bytes",
    "containers.limits.memory_high_bytes",
    "containers.limits.memory_max_bytes",
    "containers.limits.swap_max_bytes",
    "containers.limits.pids_max",
    "containers.limits.io.mount_point",
    "containers.limits.io.read_bytes_per_sec",
    "containers.limits.io.read_ops_per_sec",
    "containers.limits.io.write_bytes_per_sec",
    "containers.limits.io.write_ops_per_sec",
    "containers.limits.io.weight",
    "containers.limits.hugetlb.page_size_bytes",
    "containers.limits.hugetlb.max_bytes",
    "containers.ulimits.rlimit",
    "containers.ulimits.soft",
    "containers.ulimits.hard",
];

/// What `io.max` allows on the root disk in the case that measures it.
const WRITE_BYTES_PER_SEC: u64 = 1 << 20;

const POD: &str = "\
cpu: {shared: default, request: 100m}
limits:
  cpuWeight: 250
  cpuMax: 150ms/100ms
  memory: {min: 16Mi, low: 24Mi, high: 192Mi, max: 256Mi}
  swapMax: 32Mi
  pidsMax: 120
  io:
  - {mountPoint: /, readBytesPerSec: 64Mi, writeBytesPerSec: 8Mi, readOpsPerSec: 5000}
  - {mountPoint: /data, writeBytesPerSec: 4Mi, writeOpsPerSec: 300, weight: 300}
  hugetlb: [{pageSize: 2Mi, max: 8Mi}]
";
const CONTAINER: &str = "\
limits:
  cpuShares: 512
  cpus: 500m
  memory: {min: 8Mi, low: 12Mi, high: 96Mi, max: 128Mi}
  swapMax: 16Mi
  pidsMax: 60
  io:
  - {mountPoint: /, writeBytesPerSec: 1Mi}
  - {mountPoint: /data, readBytesPerSec: 32Mi, writeBytesPerSec: 2Mi, readOpsPerSec: 400, writeOpsPerSec: 200, weight: 200}
  hugetlb: [{pageSize: 2Mi, max: 4Mi}]
ulimits:
- {name: nofile, soft: 1234, hard: 4321}
- {name: core, soft: 0}
";

/// File and text, the disks' numbers filled in.
fn expected(kernel: &Kernel, rows: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let number = |disk: &str| {
        let said =
            kernel.guest().run_ok(&format!("cat /sys/block/{disk}/dev")).expect("read the disk's number");
        said.trim().to_owned()
    };
    let (root, data) = (number("vda"), number("vdb"));
    rows.iter().map(|(file, text)| (*file, text.replace("ROOT", &root).replace("DATA", &data))).collect()
}

fn check(kernel: &Kernel, cgroup: &str, expected: &[(&str, String)], when: &str) {
    for (file, text) in expected {
        let said = kernel.control(cgroup, file).expect("read a control");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        // A per-device file may list other disks too; every ordered line must be among them.
        let holds = match file.starts_with("io.") {
            true => lines(text).is_subset(&lines(&said)),
            false => said == *text,
        };
        assert!(holds, "{when}: {file} of {cgroup} is {said:?}, ordered was {text:?}");
    }
}

fn pod_controls(kernel: &Kernel) -> Vec<(&'static str, String)> {
    expected(
        kernel,
        &[
            ("cpu.weight", "250"),
            ("cpu.max", "150000 100000"),
            ("memory.min", "16777216"),
            ("memory.low", "25165824"),
            ("memory.high", "201326592"),
            ("memory.max", "268435456"),
            ("memory.swap.max", "33554432"),
            ("pids.max", "120"),
            (
                "io.max",
                "ROOT rbps=67108864 wbps=8388608 riops=5000 wiops=max\nDATA rbps=max wbps=4194304 riops=max wiops=300",
            ),
            ("io.weight", "DATA 300"),
            ("hugetlb.2MB.max", "8388608"),
        ],
    )
}

fn container_controls(kernel: &Kernel) -> Vec<(&'static str, String)> {
    expected(
        kernel,
        &[
            ("cpu.weight", "20"),
            ("cpu.max", "50000 100000"),
            ("memory.min", "8388608"),
            ("memory.low", "12582912"),
            ("memory.high", "100663296"),
            ("memory.max", "134217728"),
            ("memory.swap.max", "16777216"),
            ("pids.max", "60"),
            (
                "io.max",
                "ROOT rbps=max wbps=1048576 riops=max wiops=max\nDATA rbps=33554432 wbps=2097152 riops=400 wiops=200",
            ),
            ("io.weight", "DATA 200"),
            ("hugetlb.2MB.max", "4194304"),
        ],
    )
}

#[test]
fn every_control_is_what_was_ordered_and_stays_so() {
    let kernel = fleet().kernel(0);
    fleet().apply(&idle_pod("controls", POD, CONTAINER), &["--wait"]).expect("run the pod");
    let process = kernel.process("controls").expect("find the container");
    let (pod, container) = (pod_controls(&kernel), container_controls(&kernel));
    check(&kernel, process.pod_cgroup(), &pod, "at first");
    check(&kernel, &process.cgroup, &container, "at first");
    check_limits_of_process(&kernel, &process);
    check_write_rate(&kernel, &process);
    kernel.guest().run_ok("systemctl daemon-reload").expect("reload systemd");
    check(&kernel, process.pod_cgroup(), &pod, "after daemon-reload");
    check(&kernel, &process.cgroup, &container, "after daemon-reload");
    discard("case/controls");
}

fn check_limits_of_process(kernel: &Kernel, process: &PodProcess) {
    let limits = kernel.guest().get_file(&format!("/proc/{}/limits", process.pid)).expect("read the limits");
    let row = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("the kernel lists every limit");
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("Max open files"), ["1234", "4321"]);
    assert_eq!(row("Max core file size"), ["0", "0"]);
    let log =
        kernel.guest().run_ok("cat /var/log/berth/pods/case_controls_*/main/*.log").expect("read the log");
    let said: Vec<_> = log.lines().filter_map(|line| line.rsplit(' ').next()).take(2).collect();
    assert_eq!(said, ["1234", "4321"], "what `ulimit` says inside the container");
}

/// Writes past the page cache for about ten seconds, and compares the rate with what was ordered.
fn check_write_rate(kernel: &Kernel, process: &PodProcess) {
    let mebibytes = 10;
    let script = format!(
        "read begin _ < /proc/uptime; dd if=/dev/zero of=/filler bs=64k count={} oflag=direct 2>/dev/null; \
         read end _ < /proc/uptime; rm /filler; echo $begin $end",
        mebibytes * 16
    );
    let output = kernel.inside(process, &script).expect("write inside the container");
    assert!(output.success(), "{output:?}");
    let times: Vec<f64> =
        output.stdout.split_whitespace().map(|time| time.parse().expect("a time")).collect();
    #[allow(clippy::cast_precision_loss)]
    let ratio = f64::from(mebibytes) * 1_048_576.0 / (times[1] - times[0]) / WRITE_BYTES_PER_SEC as f64;
    println!("measured write rate: {ratio:.3} of what io.max allows");
    assert!((0.9..=1.1).contains(&ratio), "the write rate is {ratio:.3} of what was ordered");
}

#[test]
fn exclusive_cpus_are_on_their_memory_node_and_nobody_elses() {
    let kernel = fleet().kernel(0);
    fleet()
        .apply(&idle_pod("sharing", "cpu: {shared: default}", ""), &["--wait"])
        .expect("run the sharing pod");
    let pinned = idle_pod("pinned", "cpu: {exact: \"2-3\", mems: \"1\"}", "exclusiveCpus: 1");
    fleet().apply(&pinned, &["--wait"]).expect("run the pinned pod");
    let process = kernel.process("pinned").expect("find the pinned container");
    let status = |key| kernel.status(process.pid, key).expect("read the status");
    let cpu = status("Cpus_allowed_list");
    assert!(["2", "3"].contains(&cpu.as_str()), "the container has one of the pod's CPUs, not {cpu}");
    assert_eq!(status("Mems_allowed_list"), "1");
    assert_eq!(kernel.control(process.pod_cgroup(), "cpuset.cpus").expect("read the pod's CPUs"), "2-3");
    assert_eq!(
        kernel.control(process.pod_cgroup(), "cpuset.mems").expect("read the pod's memory nodes"),
        "1"
    );
    let sharing = kernel.process("sharing").expect("find the sharing container");
    assert_eq!(kernel.status(sharing.pid, "Cpus_allowed_list").expect("read the status"), "0-1");
    kernel.guest().run_ok("systemctl daemon-reload").expect("reload systemd");
    assert_eq!(status("Cpus_allowed_list"), cpu, "after daemon-reload");
    assert_eq!(status("Mems_allowed_list"), "1", "after daemon-reload");
    discard("case/pinned");
    let whole = || {
        let cpus = kernel.status(sharing.pid, "Cpus_allowed_list")?;
        Ok((cpus == "0-3").then_some(()))
    };
    berth_lab::wait_until("the shared pool to have the CPUs back", Duration::from_secs(60), whole)
        .expect("the CPUs come back to the pool");
    discard("case/sharing");
}
