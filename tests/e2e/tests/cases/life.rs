//! A pod's life, and what must not end it.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Footprint, PodProcess};
use std::time::Duration;

/// A stopped or restarted daemon has done all that it might do within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How long nodes must do without the control plane …
const ABSENCE: Duration = Duration::from_secs(600);
/// … and how long they do unless the long tests are wanted: longer than a lease.
const SHORT_ABSENCE: Duration = Duration::from_secs(30);
/// Installs the agent's package in a higher version, made from the installed one.
const PACKAGE_UPGRADE: &str = "set -e; rm -rf /root/next; mkdir -p /root/next; cd /root/next; \
     dpkg-deb -R /root/berth-node.deb tree; sed -i 's/^Version: .*/&+next/' tree/DEBIAN/control; \
     dpkg-deb -Znone -b tree berth-node.deb; dpkg -i berth-node.deb; cd /; rm -rf /root/next";

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
    for action in [
        "systemctl restart berthd",
        "systemctl kill -s KILL berthd",
        "systemctl restart containerd",
        "systemctl daemon-reexec",
        PACKAGE_UPGRADE,
    ] {
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
    let version = guest.run_ok("dpkg-query -W -f '${Version}' berth-node").expect("ask for the version");
    assert!(version.ends_with("+next"), "{version} is installed");
    discard("case/steady");
}

#[test]
fn without_the_control_plane_everything_goes_on() {
    let kernel = fleet().kernel(0);
    fleet().apply(&idle_pod("alone", "", ""), &["--wait"]).expect("run the pod");
    let before = kernel.process("alone").expect("find the container");
    fleet().stop_control().expect("stop the control plane");
    let absence = if std::env::var_os("BERTH_LONG").is_some() { ABSENCE } else { SHORT_ABSENCE };
    let uptime = kernel.guest().run_ok("cut -d. -f1 /proc/uptime").expect("ask for the uptime");
    let back_at: u64 = uptime.trim().parse::<u64>().expect("it is in seconds") + absence.as_secs();
    let passed = format!("test $(cut -d. -f1 /proc/uptime) -ge {back_at}");
    kernel.guest().wait_until(&passed, absence + SETTLE_LIMIT).expect("time passes");
    let alone = kernel.process("alone").expect("find the container again");
    fleet().run_control().expect("run the control plane again");
    assert_eq!(alone, before);
    fleet().wait_connected(kernel.guest()).expect("the node is back");
    assert_eq!(kernel.process("alone").expect("find the container again"), before);
    discard("case/alone");
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
