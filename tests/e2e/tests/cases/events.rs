//! What happens on a node is told once, by the name of whom it happened to, and nothing acts on it.

use crate::{discard, fleet, idle_pod};
use anyhow::Result;
use berth_lab::wait_until;
use serde_json::Value;
use std::time::Duration;

/// Until what has happened is told: the kernel's counts are read every 15 s, the runtime's list every 30 s, and who is in
/// it twice is told.
const TOLD_LIMIT: Duration = Duration::from_secs(120);
/// A container that nobody ordered.
const STRANGER: &str = "case-stranger";

/// Waits for an event of this code upstream, the first or a later one, and returns it.
fn told_again(pod: Option<&str>, code: &str, before: usize) -> Value {
    let arguments: Vec<_> = ["events"].into_iter().chain(pod).collect();
    let look = || {
        let all = fleet().berth_json(&arguments)?;
        let mut of_code = all.as_array().into_iter().flatten().filter(|event| event["code"] == code);
        Ok(of_code.nth(before).cloned())
    };
    wait_until(&format!("the event {code}"), TOLD_LIMIT, look).expect("it is told")
}

fn told(pod: Option<&str>, code: &str) -> Value {
    told_again(pod, code, 0)
}

/// What is told upstream of the pod of this case.
fn of_eventful() -> Result<Value> {
    fleet().berth_json(&["events", "case/eventful"])
}

/// Processes killed for want of memory, of all these events. One who asks for too much may be followed by another before
/// the kernel has all the memory of the first, and the two be told at once or one by one.
fn killed(events: &Value) -> u64 {
    let kills = events.as_array().into_iter().flatten().filter(|event| event["code"] == "OomKill");
    kills.filter_map(|kill| kill["details"]["processes"].as_str()?.parse::<u64>().ok()).sum()
}

#[test]
fn what_happens_is_told_upstream() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    // First: the list is looked at the most seldom. It is made, and never started.
    let image = berth_e2e::image("busybox");
    let pod = idle_pod("eventful", "", "limits: {memory: {max: 16Mi}, cpuWeight: 50}");
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
    assert_eq!(kill["container"], "main", "{kill}");
    let drift = told(Some("case/eventful"), "ControlDrift");
    assert_eq!((&drift["details"]["file"], &drift["details"]["found"]), (&"cpu.weight".into(), &"77".into()));
    assert_eq!(kernel.process("eventful").expect("find the container again"), process);
    let counted = format!("awk '/^oom_kill / {{print $2}}' /sys/fs/cgroup/{}/memory.events", process.cgroup);
    wait_until("as many kills as the kernel has counted", TOLD_LIMIT, || {
        let counted: u64 = guest.run_ok(&counted)?.trim().parse()?;
        Ok((killed(&of_eventful()?) == counted).then_some(()))
    })
    .expect("every kill is told");

    guest.run_ok(&format!("kill -KILL {}", process.pid)).expect("kill the container");
    let ended = told(Some("case/eventful"), "ContainerExited");
    assert_eq!((&ended["details"]["code"], &ended["details"]["attempt"]), (&"137".into(), &"1".into()));
    // It is started again by its charter, and then by an order.
    let again = told_again(Some("case/eventful"), "ContainerStarted", 1);
    assert_eq!(again["details"]["attempt"], "2", "{again}");
    fleet().berth_ok(&["restart", "case/eventful", "--wait"]).expect("restart the pod");
    let replaced = told_again(Some("case/eventful"), "ContainerExited", 1);
    assert_eq!(replaced["details"]["attempt"], "2", "{replaced}");
    told_again(Some("case/eventful"), "ContainerStarted", 2);

    let stranger = told(None, "UnknownContainer");
    assert_eq!(
        (&stranger["details"]["id"], &stranger["pod"]),
        (&STRANGER.into(), &Value::Null),
        "{stranger}"
    );
    // It is left alone.
    guest.run_ok(&format!("ctr -n k8s.io container rm {STRANGER}")).expect("the stranger is there still");
    // As often as it has happened, on the node and upstream.
    let local = guest.run_ok("berthctl events case/eventful -o json").expect("berthctl events");
    let local: Value = serde_json::from_str(&local).expect("it is JSON");
    let upstream = of_eventful().expect("berth events");
    assert_eq!(killed(&local), killed(&upstream));
    for all in [local, upstream] {
        let codes: Vec<_> =
            all.as_array().into_iter().flatten().filter_map(|event| event["code"].as_str()).collect();
        let count = |code: &str| codes.iter().filter(|told| **told == code).count();
        let counts = ["ContainerStarted", "ContainerExited", "ControlDrift"].map(count);
        assert_eq!(counts, [3, 2, 1], "{codes:?}");
    }
    discard("case/eventful");
}
