//! What happens on a node is told once, by the name of whom it happened to, and nothing acts on it.

use crate::{discard, fleet, idle_pod};
use berth_lab::wait_until;
use serde_json::Value;
use std::time::Duration;

/// Until what has happened is told: the kernel's counts are read every 15 s, the runtime's list every 30 s.
const TOLD_LIMIT: Duration = Duration::from_secs(60);
/// A container that nobody ordered.
const STRANGER: &str = "case-stranger";

/// Waits for an event of this code upstream, and returns it.
fn told(pod: Option<&str>, code: &str) -> Value {
    let arguments: Vec<_> = ["events"].into_iter().chain(pod).collect();
    let look = || {
        let all = fleet().berth_json(&arguments)?;
        Ok(all.as_array().and_then(|all| all.iter().rev().find(|event| event["code"] == code).cloned()))
    };
    wait_until(&format!("the event {code}"), TOLD_LIMIT, look).expect("it is told")
}

#[test]
fn what_happens_is_told_upstream() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    // First: the list is looked at the most seldom. It is made, and never started.
    let image = berth_e2e::image("busybox");
    let pod = idle_pod("eventful", "restart: Never", "limits: {memory: {max: 16Mi}, cpuWeight: 50}");
    fleet().apply(&pod, &["--wait"]).expect("run the pod");
    guest.run_ok(&format!("ctr -n k8s.io container create {image} {STRANGER}")).expect("make a container");
    let process = kernel.process("eventful").expect("find the container");
    let started = told(Some("case/eventful"), "ContainerStarted");
    assert_eq!((&started["node"], &started["container"]), (&"node-1".into(), &"main".into()), "{started}");

    // A line of 64 MiB is more memory than it has: the kernel kills who reads it, and not the container.
    let used_up = kernel.inside(&process, "head -c 67108864 /dev/zero | tail -n 1 > /dev/null");
    assert!(!used_up.expect("use up the memory").success());
    guest
        .run_ok(&format!("echo 77 > /sys/fs/cgroup/{}/cpu.weight", process.cgroup))
        .expect("write a control");
    let kill = told(Some("case/eventful"), "OomKill");
    assert_eq!((&kill["container"], &kill["details"]["processes"]), (&"main".into(), &"1".into()), "{kill}");
    let drift = told(Some("case/eventful"), "ControlDrift");
    assert_eq!((&drift["details"]["file"], &drift["details"]["found"]), (&"cpu.weight".into(), &"77".into()));
    assert_eq!(kernel.process("eventful").expect("find the container again"), process);

    guest.run_ok(&format!("kill -KILL {}", process.pid)).expect("kill the container");
    let ended = told(Some("case/eventful"), "ContainerExited");
    assert_eq!((&ended["details"]["code"], &ended["details"]["attempt"]), (&"137".into(), &"1".into()));

    let stranger = told(None, "UnknownContainer");
    assert_eq!(
        (&stranger["details"]["id"], &stranger["pod"]),
        (&STRANGER.into(), &Value::Null),
        "{stranger}"
    );
    // It is left alone.
    guest.run_ok(&format!("ctr -n k8s.io container rm {STRANGER}")).expect("the stranger is there still");
    // Each of them once, on the node as upstream.
    let local = guest.run_ok("berthctl events case/eventful -o json").expect("berthctl events");
    let local: Vec<Value> = serde_json::from_str(&local).expect("it is JSON");
    let codes: Vec<_> = local.iter().filter_map(|event| event["code"].as_str()).collect();
    let count = |code: &str| codes.iter().filter(|told| **told == code).count();
    for code in ["ContainerStarted", "OomKill", "ControlDrift", "ContainerExited"] {
        assert_eq!(count(code), 1, "{code}: {codes:?}");
    }
    discard("case/eventful");
}
