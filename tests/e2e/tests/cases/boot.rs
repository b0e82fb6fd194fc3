//! A host that comes back with less than it had, and pods that wait for a word after its boot. What comes back whole is
//! the business of the reboot drill.

use crate::{discard, fleet, idle_pod};
use berth_e2e::Kernel;
use berth_lab::{Machine, Topology, wait_until};
use serde_json::Value;
use std::time::Duration;

/// From a boot until a pod is as it will be.
const RETURN_LIMIT: Duration = Duration::from_secs(300);

/// What the control plane says of a pod's phase and why.
fn phase(pod: &str) -> (String, String) {
    let found = fleet().pod(pod).expect("look at the pod");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["status"]["phase"]), text(&found["status"]["message"]))
}

/// Waits for a pod's phase; answers why it is in it.
fn await_phase(pod: &str, expected: &str) -> String {
    let mut last = (String::new(), String::new());
    let look = || {
        last = phase(pod);
        Ok((last.0 == expected).then(|| last.1.clone()))
    };
    let waited = wait_until(&format!("{pod} to be {expected}"), RETURN_LIMIT, look);
    waited.unwrap_or_else(|error| panic!("{error:#}; it is {last:?}"))
}

fn await_process(kernel: &Kernel, name: &str) {
    let found =
        wait_until(&format!("{name} to run"), RETURN_LIMIT, || Ok(kernel.has_process(name)?.then_some(())));
    found.expect("the pod is back");
}

fn boot(kernel: &Kernel, topology: Topology) {
    let machine = Machine { topology, ..Machine::default() };
    kernel.guest().reboot_into(&machine).expect("reboot the host");
    fleet().wait_ready(kernel.guest()).expect("the node is ready");
}

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &["recovery"];

#[test]
fn a_host_that_lost_a_memory_node_refuses_its_pod_by_name_and_starts_the_others() {
    let kernel = fleet().kernel(0);
    let pods = [
        ("loser", "cpu: {exact: \"2\", mems: \"1\"}"),
        ("keeps-1", "cpu: {exact: \"1\", mems: \"0\"}"),
        ("sharer", "cpu: {shared: default}"),
        ("waiter", "cpu: {shared: default}\nrecovery: Confirmed"),
    ];
    let manifests = pods.map(|(name, spec)| idle_pod(name, spec, ""));
    fleet().apply(&manifests.join("---\n"), &["--wait", "--timeout", "10m"]).expect("run the pods");
    // As it is left when the power is cut while a container is made: it would hold what was made for a day.
    kernel
        .guest()
        .run_ok("ctr -n k8s.io leases create --id interrupted --expires 24h")
        .expect("take a lease");

    boot(&kernel, Topology::WithoutNode1);
    kernel
        .guest()
        .wait_until("! ctr -n k8s.io leases ls | grep interrupted", RETURN_LIMIT)
        .expect("it is ended");
    // What the control plane had heard before the boot is no sign: the processes are.
    for name in ["keeps-1", "sharer"] {
        await_process(&kernel, name);
    }
    let why = await_phase("case/loser", "Degraded");
    assert!(why.contains("CPUs 2 do not exist here"), "{why}");
    // The pool was CPUs 0 and 3 of both memory nodes.
    let sharer = kernel.process("sharer").expect("find the container");
    for (key, has) in [("Cpus_allowed_list", "0"), ("Mems_allowed_list", "0")] {
        assert_eq!(kernel.status(sharer.pid, key).expect("what it runs on"), has, "{key}");
    }
    await_phase("case/waiter", "Held");
    for name in ["loser", "waiter"] {
        assert!(!kernel.has_process(name).expect("look for it"), "{name} runs");
    }
    fleet().berth_ok(&["start", "case/waiter", "--wait"]).expect("give the word");
    await_process(&kernel, "waiter");

    // With its CPU the pod is back as well, and nobody had to order it.
    boot(&kernel, Topology::Whole);
    await_process(&kernel, "loser");
    let process = kernel.process("loser").expect("find the container");
    assert_eq!(kernel.status(process.pid, "Cpus_allowed_list").expect("its CPUs"), "2");
    await_process(&kernel, "sharer");
    let sharer = kernel.process("sharer").expect("find the container");
    assert_eq!(kernel.status(sharer.pid, "Cpus_allowed_list").expect("its CPUs"), "0,3");
    for (name, _) in pods {
        discard(&format!("case/{name}"));
    }
}
