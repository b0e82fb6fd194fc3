//! What a node says of its host, against what the kernel shows.

use crate::{discard, fleet, idle_pod};
use berth_lab::Guest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of every interface that a device on the PCI bus is behind: the device's address, and the interface's name.
const ADAPTERS: &str = "for i in /sys/class/net/*/device; do \
    d=$(readlink -f $i); while [ ! -e $d/vendor ] || [ ! -e $d/config ]; do d=${d%/*}; [ -n \"$d\" ] || break; done; \
    i=${i%/device}; echo \"${d##*/} ${i##*/}\"; done";

#[test]
fn a_node_tells_what_is_on_its_bus() {
    let guest = fleet().lab().guest(0);
    let local: Value =
        serde_json::from_str(&guest.run_ok("berthctl facts -o json").expect("berthctl facts")).expect("JSON");
    let upstream = fleet().berth_json(&["nodes", "node-1"]).expect("berth nodes")["facts"].clone();
    assert_eq!(local["devices"], upstream["devices"]);
    let told: BTreeSet<String> = local["devices"]
        .as_array()
        .expect("the host has devices")
        .iter()
        .filter(|device| device["class"] == "Nic")
        .flat_map(|device| {
            let names = device["names"].as_array().cloned().unwrap_or_default();
            names.into_iter().map(move |name| {
                format!("{} {}", device["address"].as_str().unwrap_or("-"), name.as_str().unwrap_or("-"))
            })
        })
        .collect();
    let said = guest.run_ok(ADAPTERS).expect("ask the kernel");
    let adapters: BTreeSet<String> = said.lines().map(str::to_owned).collect();
    assert!(!adapters.is_empty(), "the guest has no network adapter on its bus");
    assert_eq!(told, adapters);
    let driven = |device: &Value| device["class"] == "Nic" && device["driver"] == "virtio-pci";
    assert!(local["devices"].as_array().is_some_and(|all| all.iter().any(driven)), "{:#}", local["devices"]);
}

/// Until the agent notices that its link has broken, or that a shim is lost.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
const PARSER: &str = "/usr/sbin/apparmor_parser";
const PAUSE: &str = "berth.local/pause:1";
const LIST: &str = "/etc/cni/net.d/10-berth.conflist";

/// What `berthctl doctor` finds, by check: how bad it is, and in which words.
fn findings(guest: &Guest) -> BTreeMap<String, (String, String)> {
    let said = guest.run_ok("berthctl doctor -o json").expect("no finding is an error");
    let findings: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    findings.iter().map(|f| (text(f, "check"), (text(f, "level"), text(f, "found")))).collect()
}

#[test]
fn a_doctor_says_what_is_missing() {
    let guest = fleet().lab().guest(0);
    let checks = [
        "AppArmor",
        "sizes of disks",
        "pressure",
        "control plane",
        "certificate",
        "containerd's readiness",
        "CNI configuration",
        "CNI plugins",
    ];
    let healthy = findings(&guest);
    for check in checks {
        assert_eq!(healthy.get(check).map(|(level, _)| level.as_str()), Some("Ok"), "{check}: {healthy:#?}");
    }
    guest.run_ok(&format!("mv {PARSER} {PARSER}.gone")).expect("take the parser away");
    let without = findings(&guest);
    guest.run_ok(&format!("mv {PARSER}.gone {PARSER}")).expect("put the parser back");
    assert_eq!(without["AppArmor"].0, "Warning", "{without:#?}");
    fleet().stop_control().expect("stop the control plane");
    let cut = guest.wait_until("berthctl doctor | grep 'warning *control plane *not connected'", LOOK_LIMIT);
    fleet().run_control().expect("run the control plane");
    cut.expect("the cut is noticed");
    fleet().wait_connected(&guest).expect("the node is back");
}

#[test]
fn a_doctor_mends_what_it_is_asked_to() {
    let guest = fleet().lab().guest(0);
    let wrong = |check: &str| {
        let said = guest.run_ok("berthctl doctor -o json || true").expect("ask the doctor");
        let findings: Vec<Value> = serde_json::from_str(&said).expect("JSON");
        findings.iter().any(|finding| finding["check"] == check && finding["level"] != "Ok")
    };
    guest
        .run_ok(&format!("ctr -n k8s.io images rm --sync {PAUSE} && mv {LIST} /root/list"))
        .expect("break both");
    assert!(wrong("pause image") && wrong("CNI configuration"));

    let one = guest.run_ok("berthctl doctor --fix 'pause image' || true; berthctl pods > /dev/null");
    one.expect("the agent is back");
    assert!(!wrong("pause image") && wrong("CNI configuration"), "no more than it was asked to");
    guest
        .run_ok(&format!("berthctl doctor --fix all || true; cmp /root/list {LIST}"))
        .expect("mend the list");
    guest.wait_until("berthctl doctor", LOOK_LIMIT).expect("containerd has seen the list");
    guest.run_ok("berthctl doctor --fix clocks; test $? = 2").expect("there is no such check");
}

/// Starts a shim as containerd does, and forgets it as containerd does that is killed in the middle of that.
const LOSE_A_SHIM: &str = r#"set -e
bundle=/run/containerd/io.containerd.runtime.v2.task/k8s.io/lost
mkdir "$bundle"; cd "$bundle"
echo '{"ociVersion":"1.0.2"}' > config.json
mkfifo log; cat log > /dev/null 2>&1 &
TTRPC_ADDRESS=/run/containerd/containerd.sock.ttrpc containerd-shim-runc-v2 -namespace k8s.io -id lost \
    -address /run/containerd/containerd.sock start < /dev/null > /dev/null
sleep 1; cd /; rm -r "$bundle"
"#;
const SHIMS: &str =
    "for p in $(pgrep -x containerd-shim); do tr '\\0' ' ' < /proc/$p/cmdline; echo; done | sort";

#[test]
fn a_shim_that_containerd_lost_is_ended() {
    let guest = fleet().lab().guest(0);
    fleet().apply(&idle_pod("shim-witness", "", ""), &["--wait"]).expect("run a pod");
    let before = guest.run_ok(SHIMS).expect("list the shims");
    assert!(before.contains("-id "), "{before}");
    guest.run_ok(LOSE_A_SHIM).expect("lose a shim");
    let lost = guest.run_ok(SHIMS).expect("list the shims");
    assert!(lost.contains("-id lost "), "{lost}");
    guest.wait_until("! pgrep -f -- '-id [l]ost '", LOOK_LIMIT).expect("the lost one is ended");
    assert_eq!(guest.run_ok(SHIMS).expect("list the shims"), before, "and no other one");
    discard("case/shim-witness");
}
