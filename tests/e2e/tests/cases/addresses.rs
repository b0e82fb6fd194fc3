//! Addresses as the kernel has them: both families, other main plugins, and a second owner.

use crate::{discard, fleet, idle_pod};
use berth_e2e::Kernel;
use std::process::Command;
use std::time::Duration;

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &["addresses.pool", "addresses.address", "addresses.gateway"];

/// Until the runtime answers again.
const RUNTIME_LIMIT: Duration = Duration::from_secs(180);
/// Where the packages' own examples of network configurations are.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/config/examples");
/// Before the packages' own by its name.
const OTHER_NETWORK: &str = "/etc/cni/net.d/05-case.conflist";

fn pool(name: &str, spec: &str) {
    let manifest = format!("kind: AddressPool\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n");
    fleet().apply(&manifest, &[]).expect("make an address pool");
}

/// Runs a program where the lab's own address on the pods' network is.
fn beside(program: &str, arguments: &[&str]) -> bool {
    let mut command: Command = fleet().lab().command(program);
    command.args(arguments).output().expect("run a program beside the guests").status.success()
}

/// What a container's `eth0` is, and its addresses that are not of the link alone.
fn interface(kernel: &Kernel, name: &str) -> String {
    let process = kernel.process(name).expect("find the container");
    let script = "ip -o addr show dev eth0 scope global; ip -d link show dev eth0";
    let look = format!("nsenter -t {} -n /bin/sh -c '{script}'", process.pid);
    kernel.guest().run_ok(&look).expect("look at the pod's interface")
}

#[test]
fn a_pod_has_an_address_of_each_family() {
    let kernel = fleet().kernel(0);
    pool("pods6", "network: fd00:89::/64, first: fd00:89::100, last: fd00:89::1ff, gateway: fd00:89::1");
    let manifest = idle_pod("dual", "", "").replace("addressPool: pods\n", "addressPools: [pods, pods6]\n");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let seen = interface(&kernel, "dual");
    assert!(seen.contains("inet 10.89.1.") && seen.contains("inet6 fd00:89::1"), "{seen}");
    assert!(!seen.contains("tentative") && !seen.contains("dadfailed"), "{seen}");
    let had = fleet().pod("case/dual").expect("look at the pod")["spec"]["addresses"].clone();
    fleet().berth_ok(&["evict", "case/dual", "--wait"]).expect("evict the pod");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod again");
    assert_eq!(fleet().pod("case/dual").expect("look at the pod")["spec"]["addresses"], had);
    assert_eq!(had.as_array().map(Vec::len), Some(2), "{had}");
    discard("case/dual");
}

#[test]
fn an_address_that_somebody_else_uses_is_not_taken() {
    let kernel = fleet().kernel(0);
    pool("clash", "network: 10.90.0.0/24, first: 10.90.0.7, last: 10.90.0.7");
    let manifest = idle_pod("second", "", "").replace("addressPool: pods\n", "addressPool: clash\n");
    assert!(beside("ip", &["address", "add", "10.90.0.7/24", "dev", "pods0"]), "take the address");
    let refused = fleet().try_apply(&manifest, &["--wait", "--timeout", "10m"]).expect("submit the pod");
    assert!(!refused.success(), "{refused:?}");
    assert!(refused.stderr.contains("10.90.0.7") && refused.stderr.contains("is in use by"), "{refused:?}");
    assert!(!kernel.has_process("second").expect("look for it"));
    assert!(beside("ip", &["address", "del", "10.90.0.7/24", "dev", "pods0"]), "give it back");

    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let seen = interface(&kernel, "second");
    assert!(seen.contains("inet 10.90.0.7/24"), "{seen}");
    discard("case/second");
    fleet().berth_ok(&["delete-pool", "clash"]).expect("give the pool up");
}

#[test]
fn other_main_plugins_give_the_same_address() {
    let kernel = fleet().kernel(0);
    for kind in ["macvlan", "ipvlan"] {
        let example = std::fs::read_to_string(format!("{EXAMPLES}/{kind}.conflist")).expect("an example");
        // In the lab the pods' network is behind a bridge, whose ports can have no such children.
        let network = example.replace("\"eth1\"", "\"berth0\"");
        kernel.guest().put_file(OTHER_NETWORK, network.as_bytes()).expect("configure the network");
        restart_runtime(&kernel);
        fleet().apply(&idle_pod("child", "", ""), &["--wait"]).expect("run the pod");
        let address = fleet().address("case/child").expect("the pod has an address");
        let seen = interface(&kernel, "child");
        assert!(seen.contains(&format!("inet {address}/16")) && seen.contains(kind), "{seen}");
        discard("case/child");
    }
    kernel.guest().run_ok(&format!("rm {OTHER_NETWORK}")).expect("put the network back");
    restart_runtime(&kernel);
}

/// It reads the network's configuration when it starts.
fn restart_runtime(kernel: &Kernel) {
    kernel.guest().run_ok("systemctl restart containerd").expect("restart the runtime");
    kernel.guest().wait_until("ctr version && berthctl pods", RUNTIME_LIMIT).expect("the runtime answers");
}
