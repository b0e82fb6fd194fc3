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

/// Grants these, each with its gateway, and compares what ADD prints: `ips` and `routes` as of 1.0.0. Before that
/// each of `ips` says its family.
fn check_result(grants: &[(&str, Option<&str>)], ips: &Value, routes: &Value) {
    let daemon = FakeDaemon::start();
    for (address, gateway) in grants {
        daemon.state().grant("shop/web", WEB_UID, address, *gateway);
    }
    for version in VERSIONS {
        let mut expected = json!({"cniVersion": version, "ips": ips, "dns": {}});
        if *routes != json!([]) {
            expected["routes"] = routes.clone();
        }
        if version < "1.0.0" {
            for ip in expected["ips"].as_array_mut().unwrap() {
                let is_v6 = ip["address"].as_str().unwrap().contains(':');
                ip["version"] = if is_v6 { "6" } else { "4" }.into();
            }
        }
        Call::new("ADD", &daemon.socket()).config("cniVersion", version.into()).prints(&expected);
    }
    assert_eq!(attachments(&daemon), [eth0()]);
}

#[test]
fn add_gives_the_granted_addresses_in_the_words_of_each_version() {
    let (v4, v6) = (("10.0.0.7/24", Some("10.0.0.1")), ("2001:db8::7/64", Some("2001:db8::1")));
    let ip4 = json!({"address": "10.0.0.7/24", "gateway": "10.0.0.1"});
    let ip6 = json!({"address": "2001:db8::7/64", "gateway": "2001:db8::1"});
    let (route4, route6) = (json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"}));
    check_result(&[v4], &json!([ip4]), &json!([route4]));
    check_result(&[v6], &json!([ip6]), &json!([route6]));
    check_result(&[v4, v6], &json!([ip4, ip6]), &json!([route4, route6]));
    check_result(&[("10.0.0.7/24", None), v6], &json!([{"address": "10.0.0.7/24"}, ip6]), &json!([route6]));
    check_result(&[("10.0.0.7/24", None)], &json!([{"address": "10.0.0.7/24"}]), &json!([]));
}

#[test]
fn add_tells_berthd_everything_it_was_told() {
    let daemon = node();
    assert!(Call::new("ADD", &daemon.socket()).run().succeeded);
    let request = daemon.state().attachments[&eth0()].clone();
    let pod = request.pod.unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "web"));
    assert_eq!(request.pod_uid.as_deref(), Some(WEB_UID));
    assert_eq!((request.netns.as_str(), request.network.as_str()), ("/var/run/netns/cni-1", "berth"));
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

    let daemon = FakeDaemon::start();
    daemon.state().grant_nothing("shop/web", WEB_UID);
    Call::new("ADD", &daemon.socket()).fails(103, "grants: is missing");
}

/// Calls `check` with sockets on which no berthd answers, all at once: each is waited for.
fn without_berthd(check: impl Fn(&Path) + Sync) {
    let directory = tempfile::tempdir().unwrap();
    let left_behind = directory.path().join("left-behind.sock");
    drop(UnixListener::bind(&left_behind).unwrap());
    let no_directory = directory.path().join("absent").join("cni.sock");
    let hangs_up = [0, 1, 64].map(|bytes_heard| {
        let path = directory.path().join(format!("hangs-up-{bytes_heard}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        // Ends with the process.
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read_exact(&mut vec![0; bytes_heard]);
            }
        });
        path
    });
    let sockets = [directory.path().join("absent.sock"), left_behind, no_directory];
    std::thread::scope(|scope| {
        for socket in sockets.iter().chain(&hangs_up) {
            scope.spawn(|| check(socket));
        }
    });
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

#[test]
fn a_berthd_that_is_being_restarted_is_waited_for() {
    let gone = node();
    let (socket, directory) = gone.stop();
    let calls = ["ADD", "DEL"].map(|command| {
        let call = Call::new(command, &socket);
        std::thread::spawn(move || call.run())
    });
    // Both have begun by the time that a new one is there, or begin then: either way they succeed.
    let again = FakeDaemon::start_in(directory);
    again.state().grant("shop/web", WEB_UID, "10.0.0.7/24", None);
    for call in calls {
        let outcome = call.join().unwrap();
        assert!(outcome.succeeded && outcome.stderr.is_empty(), "{outcome:?}");
    }
}

/// whereabouts#176: the name of a pod is used again, and what is left of the old one is torn down late.
#[test]
fn del_of_a_former_pod_of_the_name_leaves_the_new_one_alone() {
    let daemon = node();
    let sandbox = |id: &str, command: &str| {
        let args = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={id}");
        Call::new(command, &daemon.socket()).env("CNI_CONTAINERID", id).env("CNI_ARGS", args)
    };
    assert!(sandbox("old", "ADD").run().succeeded);
    assert!(sandbox("new", "ADD").run().succeeded);
    sandbox("old", "DEL").succeeds();
    assert_eq!(attachments(&daemon), [("new".to_owned(), "eth0".to_owned())]);
}
