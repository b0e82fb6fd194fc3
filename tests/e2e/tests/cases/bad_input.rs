//! What is wrong is refused with a reason, and changes nothing.

use crate::{fleet, idle_pod};

/// Applies a manifest that must be refused, by a message that says `expected`; the node has no process of it.
fn check(name: &str, manifest: &str, expected: &str) {
    let output = fleet().try_apply(manifest, &["--wait", "--timeout", "3m"]).expect("run berth");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(!output.success(), "{name} was accepted: {said}");
    assert!(said.contains(expected), "{name}: {said:?} does not say {expected:?}");
    assert!(!fleet().kernel(0).has_process(name).expect("look for it"), "{name} has a process");
}

#[test]
fn manifests() {
    check("unknown-field", &idle_pod("unknown-field", "colour: red", ""), "colour");
    check("Upper", &idle_pod("Upper", "", ""), "DNS label");
    check("negative", &idle_pod("negative", "memory: {request: -1Gi}", ""), "negative");
    check("overflow", &idle_pod("overflow", "memory: {request: 99999999999Ti}", ""), "too large");
    check("no-cpu", &idle_pod("no-cpu", "cpu: {exact: \"64-65\"}", ""), "64-65");
    check("no-pool", &idle_pod("no-pool", "cpu: {shared: nowhere}", ""), "nowhere");
    check("no-node", &idle_pod("no-node", "node: node-9", ""), "node-9");
    check("not-yaml", "kind: Pod\n\tmetadata", "manifest.yaml:1:7: while scanning a plain scalar");
}

#[test]
fn a_missing_image_fails_the_order_and_leaves_nothing() {
    let manifest = idle_pod("imageless", "", "").replace("library/busybox:1", "library/nothing:1");
    check("imageless", &manifest, "library/nothing:1");
    let guest = fleet().kernel(0);
    let sandboxes =
        guest.guest().run_ok("ctr -n k8s.io containers ls | grep -c imageless || true").expect("look");
    assert_eq!(sandboxes.trim(), "0", "nothing of it is left in the runtime");
    fleet().berth_ok(&["release", "case/imageless"]).expect("release what was assigned");
}

#[test]
fn a_wrong_digest_fails_the_order() {
    let digest = format!("@sha256:{}", "0".repeat(64));
    let manifest =
        idle_pod("forged", "", "").replace("library/busybox:1", &format!("library/busybox{digest}"));
    check("forged", &manifest, "0000");
    fleet().berth_ok(&["release", "case/forged"]).expect("release what was assigned");
}

#[test]
fn overlapping_exclusive_sets() {
    fleet().apply(&idle_pod("first", "cpu: {exact: \"3\"}", ""), &["--wait"]).expect("run the first pod");
    check("second", &idle_pod("second", "cpu: {exact: \"2-3\"}", ""), "3");
    crate::discard("case/first");
}
