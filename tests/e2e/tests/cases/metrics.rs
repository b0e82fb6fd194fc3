//! What monitoring systems are told, against what the kernel counts.

use crate::{discard, fleet, idle_pod};
use berth_lab::wait_until;
use std::time::Duration;

/// The end of one answer, by a shell alone: no guest has an HTTP client.
fn ask(port: u16) -> String {
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3; sed \"1,/^.$/d\" <&3"
    )
}

/// The value of a number, by its name and all its labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_are_what_the_kernel_counts() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let pod = idle_pod("metrics", "", "limits: {memory: {max: 16Mi}}");
    fleet().apply(&pod, &["--wait"]).expect("run the pod");
    let process = kernel.process("metrics").expect("find the container");
    let node = || guest.run_ok(&format!("bash -c '{}'", ask(7446))).expect("ask the node for metrics");
    let of = |name: &str| {
        format!("berth_container_{name}{{namespace=\"case\",pod=\"metrics\",container=\"main\"}}")
    };
    let text = node();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(value(&text, "berth_agent_connected"), Some(1.0), "{text}");
    assert_eq!(value(&text, &of("running")), Some(1.0), "{text}");
    assert_eq!(value(&text, &of("restarts_total")), Some(0.0), "{text}");
    assert_eq!(value(&text, &of("oom_kills_total")), Some(0.0), "{text}");
    assert!(value(&text, &of("cpu_usage_seconds_total")).is_some_and(|seconds| seconds > 0.0), "{text}");

    assert_eq!(value(&text, &of("memory_limit_bytes")), Some(f64::from(16 << 20)), "{text}");

    // A line of 64 MiB is more memory than it has: the kernel kills who reads it.
    let use_up = "head -c 67108864 /dev/zero | tail -n 1 > /dev/null";
    let used_up = kernel.inside(&process, use_up).expect("use up the memory");
    assert!(!used_up.success(), "{used_up:?}");
    let events = kernel.control(&process.cgroup, "memory.events").expect("read what the kernel counted");
    let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<f64>().ok());
    assert!(killed.is_some_and(|killed| killed > 0.0), "{events}");
    let told = || Ok((value(&node(), &of("oom_kills_total")) == killed).then_some(()));
    wait_until("the kill to be told", Duration::from_secs(30), told).expect("it is what the kernel counts");
    assert_eq!(kernel.process("metrics").expect("find the container again"), process);

    let control = fleet().lab().command("bash").args(["-c", &ask(7447)]).output().expect("run bash");
    let text = String::from_utf8_lossy(&control.stdout).into_owned();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(value(&text, "berth_control_nodes{state=\"ready\"}").is_some_and(|ready| ready >= 1.0), "{text}");
    let done = "berth_control_ended_orders_total{verb=\"Run\",outcome=\"done\"}";
    assert!(value(&text, done).is_some_and(|done| done >= 1.0), "{text}");

    discard("case/metrics");
    // The next look at what is there has it no more.
    let gone = format!(
        "bash -c '{}' > /root/said && grep EOF /root/said && ! grep pod=.metrics. /root/said",
        ask(7446)
    );
    guest.wait_until(&gone, Duration::from_secs(30)).expect("it is told no more");
    guest.run_ok("rm /root/said").expect("clean up");
}
