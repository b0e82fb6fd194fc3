//! CHECK, STATUS and VERSION, black box.

use crate::call::{Call, VERSIONS, WEB_UID};
use crate::fake::FakeDaemon;
use serde_json::{Value, json};
use std::path::Path;
use tonic::Status;

/// CHECK came with 0.4.0.
const CHECKED: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A node on which `shop/web` has `address` and its interface is attached.
fn attached(address: &str, gateway: Option<&str>) -> FakeDaemon {
    let daemon = FakeDaemon::start();
    daemon.state().grant("shop/web", WEB_UID, address, gateway);
    assert!(Call::new("ADD", &daemon.socket()).run().succeeded);
    daemon
}

fn check_with(daemon: &FakeDaemon, ips: &Value) -> Call {
    let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": ips, "dns": {}});
    Call::new("CHECK", &daemon.socket()).config("prevResult", previous)
}

#[test]
fn check_accepts_what_add_gave() {
    let daemon = attached("10.0.0.7/24", Some("10.0.0.1"));
    for version in CHECKED {
        let given = Call::new("ADD", &daemon.socket()).config("cniVersion", version.into()).run().json();
        let check = Call::new("CHECK", &daemon.socket()).config("cniVersion", version.into());
        assert_eq!(check.config("prevResult", given).succeeds(), "");
    }
}

#[test]
fn check_allows_what_other_plugins_add() {
    let daemon = attached("10.0.0.7/24", Some("10.0.0.1"));
    let ours = json!({"address": "10.0.0.7/24", "gateway": "10.0.0.1", "interface": 2});
    let theirs = json!({"address": "192.168.3.1/24"});
    check_with(&daemon, &json!([theirs, ours])).succeeds();

    let daemon = attached("2001:db8::7/64", None);
    let by_bridge = json!({"address": "2001:DB8:0:0::7/64", "gateway": "2001:db8::1", "interface": 2});
    check_with(&daemon, &json!([by_bridge])).succeeds();
}

#[test]
fn check_notices_what_is_not_as_granted() {
    let daemon = attached("10.0.0.7/24", Some("10.0.0.1"));
    let check = |ips: Value, text: &str| check_with(&daemon, &ips).fails(102, text);
    check(json!([]), "granted is 10.0.0.7/24, prevResult has []");
    check(json!([{"address": "10.0.0.8/24"}]), "granted is 10.0.0.7/24, prevResult has [10.0.0.8/24]");
    check(json!([{"address": "10.0.0.7/16"}]), "prevResult has [10.0.0.7/16]");
    check(json!([{"address": "10.0.0.7/24"}]), "with gateway 10.0.0.1, prevResult has none");
    check(json!([{"address": "10.0.0.7/24", "gateway": "10.0.0.2"}]), "prevResult has 10.0.0.2");
}

#[test]
fn check_wants_a_previous_result_and_an_attachment() {
    let daemon = attached("10.0.0.7/24", Some("10.0.0.1"));
    let check = Call::new("CHECK", &daemon.socket());
    check.fails(7, "prevResult is missing");
    check.clone().config("prevResult", json!([])).fails(6, "cannot decode the prevResult");
    check.clone().config("prevResult", json!({"ips": [{"address": "10.0.0.7"}]})).fails(6, "10.0.0.7");
    check.clone().config("prevResult", json!({"ips": [{}]})).fails(6, "address");

    let ips = json!([{"address": "10.0.0.7/24", "gateway": "10.0.0.1"}]);
    check_with(&daemon, &ips).env("CNI_IFNAME", "eth1").fails(3, "no such attachment");
    daemon.state().next = Some(Status::failed_precondition("another incarnation"));
    check_with(&daemon, &ips).fails(101, "another incarnation");
    let absent =
        check_with(&daemon, &ips).config("ipam", json!({"type": "berth-ipam", "socket": "/absent/cni.sock"}));
    absent.fails(11, "cannot connect to berthd at /absent/cni.sock: No such file or directory");
}

#[test]
fn status_tells_whether_berthd_is_there() {
    let daemon = FakeDaemon::start();
    let status = Call::new("STATUS", &daemon.socket()).config("cniVersion", json!("1.1.0"));
    status.succeeds();
    // The runtime passes no parameters with this command.
    let bare = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
    bare.into_iter().fold(status.clone(), Call::without).succeeds();
    daemon.state().next = Some(Status::unavailable("the ledger is not open"));
    status.fails(50, "the ledger is not open");
    drop(daemon);
    status.fails(50, "cannot connect to berthd");
}

#[test]
fn status_does_not_exist_before_1_1_0() {
    for version in &VERSIONS[..4] {
        let status = Call::new("STATUS", Path::new("/absent")).config("cniVersion", (*version).into());
        status.fails(1, "STATUS exists since 1.1.0");
    }
}

#[test]
fn check_does_not_exist_before_0_4_0() {
    for version in ["0.3.0", "0.3.1"] {
        let check = Call::new("CHECK", Path::new("/absent")).config("cniVersion", version.into());
        check.fails(1, "CHECK exists since 0.4.0");
    }
}

#[test]
fn version_lists_what_is_spoken_and_asks_nobody() {
    let check = |stdin: &str, echoed: &str| {
        let version = Call::new("VERSION", Path::new("/absent")).stdin(stdin);
        version.prints(&json!({"cniVersion": echoed, "supportedVersions": VERSIONS}));
    };
    check(r#"{"cniVersion": "0.4.0"}"#, "0.4.0");
    check(r#"{"cniVersion": "1.1.0"}"#, "1.1.0");
    check(r#"{"cniVersion": "7.0.0"}"#, "7.0.0");
    check("", "1.1.0");
    check("{", "1.1.0");
}
