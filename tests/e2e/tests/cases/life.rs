//! A pod's life, and what must not end it.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Footprint, PodProcess};
use std::time::Duration;

/// A stopped or restarted daemon has done all that it might do within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_agent_is_not_in_the_data_path() {
    let kernel = fleet().kernel(0);
    fleet().apply(&idle_pod("steady", "", ""), &["--wait"]).expect("run the pod");
    let before = kernel.process("steady").expect("find the container");
    let same = |what: &str| {
        let now: PodProcess = kernel.process("steady").expect("find the container again");
        assert_eq!(now, before, "{what}");
    };
    let guest = kernel.guest();
    for action in
        ["systemctl restart berthd", "systemctl kill -s KILL berthd", "systemctl restart containerd"]
    {
        guest.run_ok(action).expect("do what must not matter");
        guest
            .wait_until("systemctl is-active berthd && berthctl pods", SETTLE_LIMIT)
            .expect("the agent answers");
        same(action);
    }
    guest.run_ok("systemctl stop berthd").expect("stop the agent");
    same("systemctl stop berthd");
    guest.run_ok("systemctl start berthd").expect("start the agent");
    same("systemctl start berthd");
    discard("case/steady");
}

#[test]
fn a_stopped_pod_keeps_its_disk_and_an_evicted_one_leaves_nothing() {
    let kernel = fleet().kernel(0);
    let before = Footprint::of(kernel.guest()).expect("look at the node");
    fleet().apply(&idle_pod("mortal", "", ""), &["--wait"]).expect("run the pod");
    let process = kernel.process("mortal").expect("find the container");
    let written = kernel.inside(&process, "echo kept > /written").expect("write to the system disk");
    assert!(written.success(), "{written:?}");
    let address = fleet().address("case/mortal").expect("the pod has an address");

    fleet().berth_ok(&["stop", "case/mortal", "--wait"]).expect("stop the pod");
    assert!(!kernel.has_process("mortal").expect("look for it"), "a stopped pod has no process");
    fleet().berth_ok(&["start", "case/mortal", "--wait"]).expect("start the pod");
    let process = kernel.process("mortal").expect("find the container again");
    let read = kernel.inside(&process, "cat /written").expect("read the system disk");
    assert_eq!(read.stdout.trim(), "kept", "{read:?}");
    assert_eq!(fleet().address("case/mortal").expect("the pod has an address"), address);

    // As a power cut leaves what libcni writes without flushing; the runtime alone could not remove the sandbox then.
    let results =
        "ls /var/lib/cni/results/berth-* && for file in /var/lib/cni/results/berth-*; do : > $file; done";
    kernel.guest().run_ok(results).expect("cut the network's results short");
    fleet().berth_ok(&["evict", "case/mortal", "--wait"]).expect("evict the pod");
    assert!(!kernel.has_process("mortal").expect("look for it"), "an evicted pod has no process");
    // The disk is kept for a later placement, and nothing else.
    let evicted = Footprint::of(kernel.guest()).expect("look at the node");
    let left = evicted.beyond(&before);
    assert!(
        left.iter().all(|what| what.starts_with("snapshot ")) && left.len() <= 1,
        "left after evict: {left:?}"
    );
    fleet().berth_ok(&["release", "case/mortal", "--wait"]).expect("release the pod");
    let released = Footprint::of(kernel.guest()).expect("look at the node");
    assert_eq!(released.beyond(&before), Vec::<String>::new(), "left after release");
}
