//! ADD and DEL, black box.

use crate::call::{Call, SANDBOX, VERSIONS, WEB_UID};
use crate::fake::FakeDaemon;
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tonic::Status;

/// A node on which `shop/web` has 10.0.0.7.
fn node() -> FakeDaemon {
    let daemon = FakeDaemon::start();
    daemon.state().grant("shop/web", WEB_UID, "10.0.0.7/24", Some("10.0.0.1"));
    daemon
}

fn attachments(daemon: &FakeDaemon) -> Vec<(String, String)> {
    daemon.state().attachments.keys().cloned().collect()
}

fn eth0() -> (String, String) {
    (SANDBOX.to_owned(), "eth0".to_owned())
}

#[test]
fn add_gives_the_granted_address_in_the_words_of_each_version() {
    let check = |address: &str, gateway: Option<&str>, expected: [&Value; 3]| {
        let daemon = FakeDaemon::start();
        daemon.state().grant("shop/web", WEB_UID, address, gateway);
        for (version, expected) in VERSIONS.into_iter().zip(expected) {
            Call::new("ADD", &daemon.socket()).config("cniVersion", version.into()).prints(expected);
        }
        assert_eq!(attachments(&daemon), [eth0()]);
    };
    let result = |version: &str, ip: Value| json!({"cniVersion": version, "ips": [ip], "dns": {}});
    let routed = |version: &str, ip: Value, route: &str| {
        let mut result = result(version, ip);
        result["routes"] = json!([{"dst": route}]);
        result
    };

    let ip = || json!({"address": "10.0.0.7/24", "gateway": "10.0.0.1"});
    let old = json!({"version": "4", "address": "10.0.0.7/24", "gateway": "10.0.0.1"});
    let expected = [
        &routed("0.4.0", old, "0.0.0.0/0"),
        &routed("1.0.0", ip(), "0.0.0.0/0"),
        &routed("1.1.0", ip(), "0.0.0.0/0"),
    ];
    check("10.0.0.7/24", Some("10.0.0.1"), expected);

    let ip = || json!({"address": "2001:db8::7/64", "gateway": "2001:db8::1"});
    let old = json!({"version": "6", "address": "2001:db8::7/64", "gateway": "2001:db8::1"});
    let expected =
        [&routed("0.4.0", old, "::/0"), &routed("1.0.0", ip(), "::/0"), &routed("1.1.0", ip(), "::/0")];
    check("2001:db8::7/64", Some("2001:db8::1"), expected);

    let ip = || json!({"address": "10.0.0.7/24"});
    let old = json!({"version": "4", "address": "10.0.0.7/24"});
    let expected = [&result("0.4.0", old), &result("1.0.0", ip()), &result("1.1.0", ip())];
    check("10.0.0.7/24", None, expected);
}

#[test]
fn add_tells_berthd_everything_it_was_told() {
    let daemon = node();
    assert!(Call::new("ADD", &daemon.socket()).run().succeeded);
    let request = daemon.state().attachments[&eth0()].clone();
    let pod = request.pod.unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "web"));
    assert_eq!(request.pod_uid.as_deref(), Some(WEB_UID));
    assert_eq!(request.netns, "/var/run/netns/cni-1");
}

#[test]
fn add_without_a_uid_is_left_to_berthd() {
    let daemon = node();
    let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";
    assert!(Call::new("ADD", &daemon.socket()).env("CNI_ARGS", args).run().succeeded);
    assert_eq!(daemon.state().attachments[&eth0()].pod_uid, None);
}

#[test]
fn add_that_is_not_granted_fails_and_attaches_nothing() {
    let daemon = node();
    let add = Call::new("ADD", &daemon.socket());
    let stranger = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=stranger";
    add.clone().env("CNI_ARGS", stranger).fails(100, "no address is granted to shop/stranger");
    let former = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=00000000";
    add.clone().env("CNI_ARGS", former).fails(101, "shop/web is another incarnation");

    let answered = |status: Status, code: u64, text: &str| {
        daemon.state().next = Some(status);
        add.fails(code, text);
    };
    answered(Status::already_exists("attached to sandbox 77"), 101, "attached to sandbox 77");
    answered(Status::permission_denied("not root"), 101, "not root");
    answered(Status::unavailable("starting"), 11, "starting");
    answered(Status::resource_exhausted("queue is full"), 11, "queue is full");
    answered(Status::internal("disk"), 103, "disk");
    answered(Status::unimplemented("old"), 103, "old");
    assert_eq!(attachments(&daemon), []);
}

#[test]
fn add_takes_no_nonsense_from_berthd() {
    let check = |address: &str, text: &str| {
        let daemon = FakeDaemon::start();
        daemon.state().grant("shop/web", WEB_UID, address, None);
        Call::new("ADD", &daemon.socket()).fails(103, text);
    };
    check("10.0.0.7", "10.0.0.7");
    check("10.0.0.7/33", "10.0.0.7/33");
    check("", "address");
}

/// Calls `check` with sockets on which no berthd answers.
fn without_berthd(check: impl Fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    check(&directory.path().join("absent.sock"));

    let left_behind = directory.path().join("left-behind.sock");
    drop(UnixListener::bind(&left_behind).unwrap());
    check(&left_behind);

    for bytes_heard in [0, 1, 64] {
        let hangs_up = directory.path().join(format!("hangs-up-{bytes_heard}.sock"));
        let listener = UnixListener::bind(&hangs_up).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; bytes_heard]).unwrap();
        });
        check(&hangs_up);
        answering.join().unwrap();
    }
}

#[test]
fn add_without_berthd_asks_to_be_tried_again() {
    without_berthd(|socket| Call::new("ADD", socket).fails(11, "cannot attach shop/web"));
}

#[test]
fn del_detaches_and_never_frees() {
    let daemon = node();
    for version in VERSIONS {
        let call = |command| Call::new(command, &daemon.socket()).config("cniVersion", version.into());
        let first = call("ADD").run().json();
        assert_eq!(call("DEL").succeeds(), "");
        assert_eq!(attachments(&daemon), []);
        assert_eq!(call("DEL").succeeds(), "");
        assert_eq!(call("ADD").run().json(), first);
        assert_eq!(call("DEL").env("CNI_NETNS", "").succeeds(), "");
        assert_eq!(attachments(&daemon), []);
    }
}

#[test]
fn del_of_one_interface_leaves_the_other() {
    let daemon = node();
    let second = Call::new("ADD", &daemon.socket()).env("CNI_IFNAME", "eth1");
    assert!(Call::new("ADD", &daemon.socket()).run().succeeded && second.run().succeeded);
    Call::new("DEL", &daemon.socket()).env("CNI_IFNAME", "eth1").succeeds();
    assert_eq!(attachments(&daemon), [eth0()]);
}

#[test]
fn del_looks_at_nothing_it_does_not_need() {
    let daemon = node();
    let del = Call::new("DEL", &daemon.socket());
    del.clone().without("CNI_NETNS").succeeds();
    del.clone().without("CNI_ARGS").succeeds();
    del.clone().env("CNI_ARGS", "garbage").succeeds();
    del.clone().config("prevResult", json!("garbage")).succeeds();
}

#[test]
fn del_succeeds_without_berthd_and_says_that_nobody_heard() {
    without_berthd(|socket| {
        let note = Call::new("DEL", socket).succeeds();
        assert!(note.contains("attachment 4f0c7a1d eth0 is gone, unheard"), "{note}");
    });

    let daemon = node();
    daemon.state().next = Some(Status::internal("disk"));
    let note = Call::new("DEL", &daemon.socket()).succeeds();
    assert!(note.contains("berthd answered Internal: disk"), "{note}");

    let note = Call::new("DEL", Path::new("relative.sock")).succeeds();
    assert!(note.contains("relative.sock"), "{note}");
}

#[test]
fn a_wedged_berthd_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("wedged.sock");
    // The kernel completes connections to it; nobody ever accepts one.
    let _listener = UnixListener::bind(&socket).unwrap();
    let note = Call::new("DEL", &socket).succeeds();
    assert!(note.contains("did not answer within 2000 ms"), "{note}");
    let status = Call::new("STATUS", &socket).config("cniVersion", json!("1.1.0"));
    status.fails(50, "did not answer within 2000 ms");
}
