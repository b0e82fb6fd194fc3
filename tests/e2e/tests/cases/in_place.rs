//! What is changed while the pod stays: upgrade, restart and resize, judged by the kernel.

use crate::{discard, fleet, indent};
use berth_e2e::{Kernel, PodProcess, image};
use berth_lab::wait_until;
use std::time::Duration;

/// The largest part of the gap of evicting and running anew that an upgrade in place may have.
const GAP_RATIO: f64 = 0.4;

/// A pod of two containers: `main`, found by `CASE=<name>`, and `side`, found by `CASE=<name>-side`. What `env` says is
/// added to the environment of `main`, whose command is `command`.
fn pair(name: &str, env: &str, command: &str) -> String {
    let image = image("busybox");
    let idle = "trap 'exit 0' TERM; while :; do sleep 1; done";
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: {name}}}\nspec:\n  addressPool: pods\n  stopGrace: 2s\n\
         \x20 containers:\n  - name: main\n    image: {image}\n    command: [sh, -c, \"{command}\"]\n\
         \x20   env: [{{name: CASE, value: {name}}}{env}]\n\
         \x20 - name: side\n    image: {image}\n    command: [sh, -c, \"{idle}\"]\n\
         \x20   env: [{{name: CASE, value: {name}-side}}]\n"
    )
}

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// What an upgrade must leave alone.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    address: String,
    hostname: String,
    network: String,
    slice: String,
    sandbox: String,
    side: PodProcess,
}

fn identity(kernel: &Kernel, name: &str) -> Identity {
    let main = kernel.process(name).expect("find the container");
    let side = kernel.process(&format!("{name}-side")).expect("find its sibling");
    let ask = |what: &str| kernel.guest().run_ok(what).expect("ask the kernel").trim().to_owned();
    let pod = fleet().pod(&format!("case/{name}")).expect("the pod");
    Identity {
        address: fleet().address(&format!("case/{name}")).expect("the pod has an address"),
        hostname: kernel.inside(&main, "hostname").expect("ask inside").stdout.trim().to_owned(),
        network: ask(&format!("readlink /proc/{}/ns/net", main.pid)),
        slice: main.pod_cgroup().to_owned(),
        sandbox: pod["status"]["sandboxId"].as_str().unwrap_or_default().to_owned(),
        side,
    }
}

/// The value of a variable of a process's environment.
fn variable(kernel: &Kernel, process: &PodProcess, name: &str) -> String {
    let script = format!("tr '\\0' '\\n' < /proc/{}/environ | sed -n 's/^{name}=//p'", process.pid);
    kernel.guest().run_ok(&script).expect("read the environment").trim().to_owned()
}

fn upgrade(manifest: &str, arguments: &[&str]) -> berth_lab::Output {
    fleet().change("upgrade", manifest, arguments).expect("run berth upgrade")
}

#[test]
fn an_upgrade_leaves_everything_else_alone() {
    let kernel = fleet().kernel(0);
    fleet().apply(&pair("better", "", IDLE), &["--wait"]).expect("run the pod");
    let before = identity(&kernel, "better");
    let first = kernel.process("better").expect("find the container");
    kernel.inside(&first, "echo kept > /written").expect("write to the system disk");

    let done = upgrade(&pair("better", ", {name: VERSION, value: two}", IDLE), &["--wait"]);
    assert!(done.success(), "{done:?}");
    let second = kernel.process("better").expect("find the new container");
    assert_ne!(second.pid, first.pid);
    assert_eq!(variable(&kernel, &second, "VERSION"), "two");
    assert_eq!(identity(&kernel, "better"), before);
    let read = kernel.inside(&second, "cat /written").expect("read the system disk");
    assert_eq!(read.stdout.trim(), "kept", "an upgrade of the same image keeps the system disk: {read:?}");

    // A version that ends at once is taken back, with the disk that the version before had written.
    let broken = upgrade(&pair("better", ", {name: VERSION, value: three}", "exit 3"), &["--wait"]);
    assert!(!broken.success(), "{broken:?}");
    let said = format!("{}{}", broken.stdout, broken.stderr);
    assert!(said.contains("RolledBack"), "{said}");
    let third = kernel.process("better").expect("find the container that is back");
    assert_eq!(variable(&kernel, &third, "VERSION"), "two");
    assert_eq!(identity(&kernel, "better"), before);
    let read = kernel.inside(&third, "cat /written").expect("read the system disk");
    assert_eq!(read.stdout.trim(), "kept", "{read:?}");

    fleet().berth_ok(&["restart", "case/better", "--wait"]).expect("restart the pod");
    let again = kernel.process("better").expect("find the restarted container");
    assert_ne!(again.pid, third.pid);
    assert_eq!(kernel.inside(&again, "cat /written").expect("read the system disk").stdout.trim(), "kept");
    fleet().berth_ok(&["restart", "case/better", "--rebuild", "--wait"]).expect("rebuild the pod");
    let anew = kernel.process("better").expect("find the rebuilt container");
    assert!(!kernel.inside(&anew, "cat /written").expect("look").success(), "a rebuilt system disk is fresh");
    let now = identity(&kernel, "better");
    assert_eq!((now.address, now.network), (before.address, before.network));
    discard("case/better");
}

/// What the container's program wrote, over all its successors: the host's uptime, ten times a second.
fn beats(kernel: &Kernel, name: &str) -> Vec<f64> {
    let script = format!("cat /var/log/berth/pods/case_{name}_*/main/*.log | awk '{{print $4}}'");
    let said = kernel.guest().run_ok(&script).expect("read the logs");
    let mut beats: Vec<f64> = said.lines().filter_map(|line| line.parse().ok()).collect();
    beats.sort_by(f64::total_cmp);
    beats
}

/// The longest time without a beat after `since`, seconds.
fn gap(beats: &[f64], since: f64) -> f64 {
    let after = beats.windows(2).filter(|pair| pair[0] >= since);
    after.map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

#[test]
fn an_upgrade_is_shorter_than_evicting_and_running_anew() {
    let kernel = fleet().kernel(0);
    let beat = "trap 'exit 0' TERM; while :; do cat /proc/uptime; sleep 0.1; done";
    fleet().apply(&pair("meter", "", beat), &["--wait"]).expect("run the pod");
    let started = *beats(&kernel, "meter").last().expect("a beat");
    let done = upgrade(&pair("meter", ", {name: VERSION, value: two}", beat), &["--wait"]);
    assert!(done.success(), "{done:?}");
    let upgraded = beats(&kernel, "meter");
    let in_place_s = gap(&upgraded, started);
    let last = *upgraded.last().expect("a beat");
    fleet().berth_ok(&["evict", "case/meter", "--wait"]).expect("evict the pod");
    fleet().apply(&pair("meter", ", {name: VERSION, value: two}", beat), &["--wait"]).expect("run it anew");
    // The new one has beaten at least once by the time that a look can find it.
    kernel.process("meter").expect("find the container");
    let anew_s = gap(&beats(&kernel, "meter"), last);
    println!("gap: {in_place_s:.2} s in place, {anew_s:.2} s anew, ratio {:.2}", in_place_s / anew_s);
    assert!(in_place_s > 0.0 && in_place_s <= GAP_RATIO * anew_s, "{in_place_s} s in place, {anew_s} s anew");
    discard("case/meter");
}

/// A pod on CPUs of its own that holds 48 MiB of memory.
fn loaded(cpus: u32, limits: &str, container: &str) -> String {
    let image = image("busybox");
    let command = "trap 'exit 0' TERM; head -c 50331648 /dev/zero | tail -c 50331648 | (sleep 100000) & \
                   while :; do sleep 1; done";
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: elastic}}\nspec:\n  addressPool: pods\n  stopGrace: 2s\n\
         \x20 cpu: {{exclusive: {cpus}}}\n  limits: {limits}\n  containers:\n  - name: main\n    image: {image}\n\
         \x20   command: [sh, -c, \"{command}\"]\n    env: [{{name: CASE, value: elastic}}]\n{}",
        indent(container, 4)
    )
}

/// So long it may take until a resize has begun.
const RESIZE_LIMIT: Duration = Duration::from_secs(60);

/// What a process is held to.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    files: Vec<String>,
    cpus: usize,
    /// Soft and hard.
    open_files: String,
}

/// Asks the kernel, in one look: each costs an emulated host some processes. Files named `pod …` are of the pod's slice,
/// and each has one line.
fn held<'a>(kernel: &Kernel, process: &PodProcess, files: impl Iterator<Item = &'a str>) -> Held {
    let path = |file: &str| match file.strip_prefix("pod ") {
        Some(file) => format!("{}/{file}", process.pod_cgroup()),
        None => format!("{}/{file}", process.cgroup),
    };
    let (pid, files) = (process.pid, files.map(path).collect::<Vec<_>>().join(" "));
    let script = format!(
        "cd /sys/fs/cgroup && cat {files} && sed -n 's/^Cpus_allowed_list:\\s*//p' /proc/{pid}/status && \
         sed -n 's/^Max open files *\\([0-9]*\\) *\\([0-9]*\\).*/\\1 \\2/p' /proc/{pid}/limits"
    );
    let said = kernel.guest().run_ok(&script).expect("ask the kernel");
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    let [files @ .., allowed, open_files] = lines.as_slice() else { panic!("{said:?}") };
    let set: berth_model::CpuSet = allowed.parse().expect("a list of CPUs");
    Held { files: files.to_vec(), cpus: set.iter().count(), open_files: open_files.clone() }
}

#[test]
fn a_running_pod_takes_on_other_limits() {
    let kernel = fleet().kernel(0);
    let small = loaded(
        1,
        "{memory: {max: 128Mi}, swapMax: 16Mi, pidsMax: 50, io: [{mountPoint: /, writeBytesPerSec: 4Mi}]}",
        "limits: {cpuMax: 50ms/100ms, memory: {max: 96Mi}}\nulimits: [{name: nofile, soft: 1000, hard: 2000}]",
    );
    fleet().apply(&small, &["--wait"]).expect("run the pod");
    let process = kernel.process("elastic").expect("find the container");
    let check = |cpus: usize, files: &[(&str, &str)], open_files: &str, what: &str| {
        assert_eq!(kernel.process("elastic").expect("find it again"), process, "{what}: it was replaced");
        let expected = Held {
            files: files.iter().map(|(_, value)| (*value).to_owned()).collect(),
            cpus,
            open_files: open_files.to_owned(),
        };
        assert_eq!(held(&kernel, &process, files.iter().map(|(file, _)| *file)), expected, "{what}");
    };
    let as_small = [
        ("pod memory.max", "134217728"),
        ("pod memory.swap.max", "16777216"),
        ("pod pids.max", "50"),
        ("memory.max", "100663296"),
        ("cpu.max", "50000 100000"),
    ];
    check(1, &as_small, "1000 2000", "at first");

    let large = loaded(
        2,
        "{memory: {max: 256Mi}, swapMax: 32Mi, pidsMax: 80, io: [{mountPoint: /, writeBytesPerSec: 8Mi}]}",
        "limits: {cpuMax: 150ms/100ms, memory: {max: 192Mi}}\nulimits: [{name: nofile, soft: 3000, hard: 4000}]",
    );
    let resize = |manifest: &str| fleet().change("resize", manifest, &["--wait"]).expect("run berth resize");
    let grown = resize(&large);
    assert!(grown.success(), "{grown:?}");
    let as_large = [
        ("pod memory.max", "268435456"),
        ("pod memory.swap.max", "33554432"),
        ("pod pids.max", "80"),
        ("memory.max", "201326592"),
        ("cpu.max", "150000 100000"),
    ];
    check(2, &as_large, "3000 4000", "grown");

    // 48 MiB are held: 20 MiB are not enough, and nothing is killed for it. Every part is as it was before.
    let tight = large.replace("max: 192Mi", "max: 20Mi").replace("pidsMax: 80", "pidsMax: 70");
    // Memory may be given back until the time is over: the node tries as long as it was told to.
    let refused = fleet().change("resize", &tight, &["--wait", "--within", "10s"]).expect("run berth resize");
    assert!(refused.stderr.contains("10000 ms") && !refused.success(), "{refused:?}");
    check(2, &as_large, "3000 4000", "after a resize that did not fit");
    let kills = kernel.control(&process.cgroup, "memory.events").expect("read the events");
    assert!(kills.lines().any(|line| line == "oom_kill 0"), "{kills}");

    let shrunk = resize(&small);
    assert!(shrunk.success(), "{shrunk:?}");
    check(1, &as_small, "1000 2000", "shrunk");
    kernel.guest().run_ok("systemctl daemon-reload").expect("reload");
    check(1, &as_small, "1000 2000", "shrunk, once systemd has read everything anew");

    // A limit that is dropped is none, also once systemd has written everything anew because of another: of the pod's slice,
    // and of the container's scope.
    for limits in ["{}", "{cpuWeight: 50}"] {
        let container = format!("limits: {limits}\nulimits: [{{name: nofile, soft: 1000, hard: 2000}}]");
        let freed = resize(&loaded(1, limits, &container));
        assert!(freed.success(), "{freed:?}");
    }
    let as_free = [
        ("pod memory.max", "max"),
        ("pod memory.swap.max", "max"),
        ("pod pids.max", "max"),
        ("memory.max", "max"),
        ("pids.max", "max"),
        ("cpu.max", "max 100000"),
    ];
    check(1, &as_free, "1000 2000", "freed");
    assert_eq!(kernel.control(process.pod_cgroup(), "io.max").expect("read the limits on I/O"), "");
    discard("case/elastic");
}

#[test]
fn what_an_abandoned_resize_has_written_is_put_back() {
    let kernel = fleet().kernel(0);
    let free = |limits: &str| loaded(1, limits, "limits: {}");
    fleet().apply(&free("{}"), &["--wait"]).expect("run the pod");
    let process = kernel.process("elastic").expect("find the container");
    let resize = |manifest: &str, wait: &[&str]| {
        let done = fleet().change("resize", manifest, wait).expect("run berth resize");
        assert!(done.success(), "{done:?}");
    };

    // The pod's slice comes first. 48 MiB are held, so the container never gets to what it is to have.
    let hopeless =
        loaded(1, "{memory: {high: 192Mi}, pidsMax: 70}", "limits: {memory: {max: 20Mi}, pidsMax: 60}");
    resize(&hopeless, &["--within", "10m"]);
    let written = || {
        let pids = kernel.control(process.pod_cgroup(), "pids.max")?;
        Ok((pids.trim() == "70").then_some(()))
    };
    wait_until("the pod's slice to be written", RESIZE_LIMIT, written).expect("the resize begins");

    // A Stop is what takes its place. The same slice has other containers then; and with another limit systemd writes all of
    // them anew.
    let check = |what: &str| {
        let process = kernel.process("elastic").expect("find the container");
        let files = ["pod pids.max", "pod memory.high", "pids.max", "memory.max", "memory.high"];
        assert_eq!(held(&kernel, &process, files.into_iter()).files, ["max"; 5], "{what}");
    };
    fleet().berth_ok(&["stop", "case/elastic", "--wait"]).expect("stop the pod");
    fleet().berth_ok(&["start", "case/elastic", "--wait"]).expect("start the pod");
    check("started again");
    resize(&free("{cpuWeight: 50}"), &["--wait"]);
    check("resized again");
    discard("case/elastic");
}
