//! A pod in its host's network.

use crate::{discard, fleet, idle_pod};
use std::time::Duration;

/// The fields of a pod's spec that this case sees.
pub(crate) const FIELDS: &[&str] = &["host_network"];

/// Until the node has told that it shares its network.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// In the host's network this port is the agent's own, for monitoring: ready is who reaches it there.
const READY: &str = "readiness: {tcp: {port: 7446}}\n";

fn pod(container: &str) -> String {
    let whole = idle_pod("host-network", "hostNetwork: true", &format!("{READY}{container}"));
    whole.replace("  addressPool: pods\n", "")
}

#[test]
fn a_pod_is_in_the_hosts_network_where_it_is_shared() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let run = |script: &str| guest.run_ok(script).expect(script).trim().to_owned();
    let refused = fleet().try_apply(&pod(""), &["--wait"]).expect("submit the pod");
    let why = "HostNetwork: the host does not share its network with pods";
    assert!(!refused.success() && refused.stderr.contains(why), "{refused:?}");

    run("sed -i '1i host_network = true' /etc/berth/berthd.toml && systemctl restart berthd");
    fleet().wait_connected(guest).expect("it is back");
    guest.wait_until("berthctl status | grep '^ *Host network: *shared'", TOLD_LIMIT).expect("it is told");
    fleet().apply(&pod(""), &["--wait"]).expect("run the pod");
    let process = kernel.process("host-network").expect("find the container");
    let namespace = |kind: &str| {
        let [theirs, ours] = [process.pid, 1].map(|pid| run(&format!("readlink /proc/{pid}/ns/{kind}")));
        theirs == ours
    };
    assert!(namespace("net") && namespace("uts"), "network and name are the host's");
    assert!(!namespace("ipc") && !namespace("pid") && !namespace("mnt"), "and nothing else");
    let inside = |script: &str| kernel.exec(&process, script).expect("run a script in the container");
    assert_eq!(inside("hostname; cat /etc/hostname /etc/hosts"), run("hostname; hostname; cat /etc/hosts"));
    let resolver = "cat /etc/resolv.conf";
    assert_eq!(inside(resolver), run(resolver));
    let interfaces = "cut -d: -f1 /proc/net/dev";
    assert_eq!(inside(interfaces), run(interfaces));
    let told = fleet().pod("case/host-network").expect("ask for the pod");
    assert!(told["spec"]["addresses"].as_array().is_none_or(Vec::is_empty), "{told}");

    // In place as any other, ready once it reaches the host's own port; and back out of the host's network not in place.
    let upgraded =
        fleet().change("upgrade", &pod("workingDir: /tmp\n"), &["--wait"]).expect("run berth upgrade");
    assert!(upgraded.success(), "{upgraded:?}");
    let process = kernel.process("host-network").expect("find the new container");
    assert_eq!(run(&format!("readlink /proc/{}/cwd", process.pid)), "/tmp");
    let own = idle_pod("host-network", "", READY);
    let refused = fleet().change("upgrade", &own, &["--wait"]).expect("run berth upgrade");
    assert!(!refused.success() && refused.stderr.contains("host_network: cannot be changed"), "{refused:?}");

    // What is shared no more holds a restart back, before anything has ended.
    run("sed -i '/^host_network/d' /etc/berth/berthd.toml && systemctl restart berthd");
    fleet().wait_connected(guest).expect("it is back");
    let refused = fleet().berth(&["restart", "case/host-network", "--wait"]).expect("run berth restart");
    assert!(!refused.success() && refused.stderr.contains("host_network in berthd.toml"), "{refused:?}");
    assert_eq!(kernel.process("host-network").expect("find the container again"), process);
    discard("case/host-network");
}
