//! GC, black box.

use crate::call::{Call, SANDBOX};
use crate::fake::FakeDaemon;
use serde_json::{Value, json};
use std::path::Path;
use tonic::Status;

const VALID: &str = "cni.dev/valid-attachments";

fn gc(socket: &Path, valid: Value) -> Call {
    // The runtime passes CNI_PATH and nothing else.
    let bare = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
    let call = bare.into_iter().fold(Call::new("GC", socket), Call::without);
    call.config("cniVersion", json!("1.1.0")).config(VALID, valid)
}

fn listed(interface: &str) -> Value {
    json!({"containerID": SANDBOX, "ifname": interface})
}

/// A node with three attachments: eth0 and eth1 to network `berth`, net1 to `other`.
fn node() -> FakeDaemon {
    let daemon = FakeDaemon::start();
    daemon.state().grant("shop/web", crate::call::WEB_UID, "10.0.0.7/24", None);
    for (interface, network) in [("eth0", "berth"), ("eth1", "berth"), ("net1", "other")] {
        let add = Call::new("ADD", &daemon.socket()).env("CNI_IFNAME", interface);
        assert!(add.config("name", json!(network)).run().succeeded);
    }
    daemon
}

fn left(daemon: &FakeDaemon) -> Vec<String> {
    daemon.state().attachments.keys().map(|(_, interface)| interface.clone()).collect()
}

#[test]
fn gc_forgets_what_is_not_listed_of_its_own_network() {
    let daemon = node();
    gc(&daemon.socket(), json!([listed("eth0"), listed("eth1")])).succeeds();
    assert_eq!(left(&daemon), ["eth0", "eth1", "net1"]);
    gc(&daemon.socket(), json!([listed("eth1"), {"containerID": "unknown", "ifname": "eth0"}])).succeeds();
    assert_eq!(left(&daemon), ["eth1", "net1"]);
    gc(&daemon.socket(), json!([])).succeeds();
    assert_eq!(left(&daemon), ["net1"]);
    // The address is granted still.
    assert!(Call::new("ADD", &daemon.socket()).run().succeeded);
}

#[test]
fn gc_without_a_list_forgets_nothing() {
    let daemon = node();
    let check = |valid: Value, code: u64, text: &str| {
        gc(&daemon.socket(), valid).fails(code, text);
        assert_eq!(left(&daemon).len(), 3);
    };
    check(Value::Null, 7, "cni.dev/valid-attachments is missing");
    check(json!({}), 6, "cannot decode the cni.dev/valid-attachments");
    check(json!([["a", "eth0"]]), 6, "cni.dev/valid-attachments");
    check(json!([{"containerID": "a"}]), 6, "ifname");
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let old = gc(&daemon.socket(), json!([])).config("cniVersion", version.into());
        old.fails(1, "GC exists since 1.1.0");
    }
    assert_eq!(left(&daemon).len(), 3);
}

#[test]
fn gc_says_when_nobody_heard() {
    let daemon = node();
    daemon.state().next = Some(Status::unavailable("the ledger is full"));
    gc(&daemon.socket(), json!([])).fails(11, "the ledger is full");
    daemon.state().next = Some(Status::invalid_argument("sandbox_id"));
    gc(&daemon.socket(), json!([])).fails(103, "sandbox_id");
    gc(Path::new("/absent/cni.sock"), json!([])).fails(11, "cannot connect to berthd");
}
