//! `berthctl`, the program itself, against a daemon on a Unix socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use berth_proto::v1::finding::Level;
use support::node::{FakeNode, ORDER};
use support::{Ran, run};
use tempfile::TempDir;

const BERTHCTL: &str = env!("CARGO_BIN_EXE_berthctl");

struct Bed {
    node: FakeNode,
    _dir: TempDir,
}

impl Bed {
    fn new(worst: Level) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { node: FakeNode::start(dir.path(), worst), _dir: dir }
    }

    async fn berthctl(&self, args: &[&str]) -> Ran {
        let socket = self.node.socket.to_str().unwrap();
        run(BERTHCTL, &[&["--socket", socket], args].concat(), "").await
    }
}

#[tokio::test]
async fn every_command_has_a_table() {
    let bed = Bed::new(Level::Warning);
    let cases: [(&[&str], &[&str]); 13] = [
        (&["status"], &["Node:", "node-1", "connected"]),
        (&["pods"], &["NEXT STEP", "shop/web  Degraded", "CreateContainer log"]),
        (&["pod", "shop/web"], &["Next step:", "CreateContainer log"]),
        (&["orders"], &[ORDER, "PullImage", "EnsureImage"]),
        (&["order", ORDER], &["Order:", "a.example/b:1", "EnsureImage"]),
        (&["topology"], &["Holders", "shop/web  2-3", "exclusive"]),
        (&["cgroup", "shop/web"], &["memory.max  536870912  max", "DIFFERS", "memory.current  4096"]),
        (&["top", "--seconds", "1"], &["CPUS", "shop/web", "4Ki"]),
        (&["leases"], &["10.0.0.7/24  shop/web"]),
        (
            &["disks"],
            &[
                "shop/web  db    directory  in use  3Mi   4Mi",
                "shop/web  web   system     kept    -     -      0af1",
            ],
        ),
        (
            &["leases", "--history"],
            &["10.0.0.7, 2001:db8::7  shop/web  2", "0123456789ab:eth0", "still attached"],
        ),
        (&["images"], &["a.example/b:1  5Mi   sha256:0af1  shop/web", "sha256:0af2    7     sha256:0af2"]),
        (&["doctor"], &["warning  cgroup driver", "set SystemdCgroup"]),
    ];
    for (args, expected) in cases {
        bed.berthctl(args).await.check(0, expected, &[]);
    }
}

#[tokio::test]
async fn every_command_has_json() {
    let bed = Bed::new(Level::Warning);
    let cases: [(&[&str], &str, &str); 13] = [
        (&["status"], "/node", "node-1"),
        (&["facts"], "/kernel", "6.12.0"),
        (&["pods"], "/0/status/phase", "Degraded"),
        (&["pod", "shop/web"], "/runState", "Running"),
        (&["why", "shop/web"], "/events/0/code", "ContainerStarted"),
        (&["orders"], "/0/order/id", ORDER),
        (&["order", ORDER], "/order/nodeOrder/pullImage/image", "a.example/b:1"),
        (&["topology"], "/topology/onlineCpus", "0-3"),
        (&["cgroup", "shop/web"], "/cgroups/0/statistics/memory.current", "4096"),
        (&["leases"], "/0/grants/0/address", "10.0.0.7/24"),
        (&["disks"], "/1/kind", "System"),
        (&["images"], "/0/usedBy/0/name", "web"),
        (&["doctor"], "/1/level", "Warning"),
    ];
    for (args, pointer, expected) in cases {
        let json = bed.berthctl(&[args, &["-o", "json"]].concat()).await.json();
        assert_eq!(
            json.pointer(pointer).and_then(|value| value.as_str()),
            Some(expected),
            "{args:?}: {json:#}"
        );
    }
}

#[tokio::test]
async fn logs() {
    let bed = Bed::new(Level::Ok);
    let all = bed.berthctl(&["logs", "shop/web", "-c", "log"]).await;
    assert_eq!((all.code, all.stdout.as_str()), (0, "one\ntwo\n\u{fffd} three\n"), "{all:#?}");
    let last = bed.berthctl(&["logs", "shop/web", "-c", "log", "--tail", "2"]).await;
    assert_eq!((last.code, last.stdout.as_str()), (0, "two\n\u{fffd} three\n"), "{last:#?}");
    let cut = bed.berthctl(&["logs", "shop/web", "-c", "log", "-f"]).await;
    cut.check(3, &["one\n"], &["Unavailable: read logs of pod shop/web: berthd stops"]);
    bed.berthctl(&["logs", "shop/web"]).await.check(
        1,
        &[],
        &["InvalidArgument", "several containers: web, log"],
    );
}

#[tokio::test]
async fn events() {
    let bed = Bed::new(Level::Ok);
    bed.berthctl(&["events", "shop/web"]).await.check(0, &["shop/web", "ContainerStarted"], &[]);
    let cut = bed.berthctl(&["events", "-f"]).await;
    cut.check(3, &["1970-01-01T00:00:00.001Z  -  -  -  ContainerStarted"], &["watch events: berthd stops"]);
}

#[tokio::test]
async fn the_doctor_fails_for_an_error_only() {
    Bed::new(Level::Ok).berthctl(&["doctor"]).await.check(0, &["cgroup driver"], &[]);
    let sick = Bed::new(Level::Error);
    sick.berthctl(&["doctor"]).await.check(
        1,
        &["ERROR  cgroup driver"],
        &["Unhealthy: one finding is an error"],
    );
    sick.berthctl(&["doctor", "-o", "json"]).await.check(
        1,
        &["\"level\": \"Error\""],
        &["{\"error\":{\"code\":"],
    );
}

#[tokio::test]
async fn refusals() {
    let bed = Bed::new(Level::Ok);
    bed.berthctl(&["pod", "shop/db"]).await.check(
        1,
        &[],
        &["berthctl: NotFound: get pod shop/db: there is no such"],
    );
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW";
    bed.berthctl(&["order", other]).await.check(1, &[], &["NotFound", other]);
    for (args, expected) in [
        (vec!["pod", "web"], "not of the form namespace/name"),
        (vec!["order", "7"], "no ULID"),
        (vec!["pods", "x"], "unexpected argument"),
        (vec!["-o", "yaml", "pods"], "possible values: table, wide, json"),
        (vec![], "Usage: berthctl"),
    ] {
        bed.berthctl(&args).await.check(2, &[], &[expected]);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("berthd.sock");
    let args = ["--socket", socket.to_str().unwrap(), "pods"];
    run(BERTHCTL, &args, "").await.check(
        3,
        &[],
        &["cannot reach berthd at", "No such file", "systemctl status berthd"],
    );
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    run(BERTHCTL, &args, "").await.check(3, &[], &["Connection refused", "systemctl status berthd"]);
}

#[tokio::test]
async fn help_version_manuals_and_completions() {
    run(BERTHCTL, &["--version"], "").await.check(0, &["berthctl 0.1.0"], &[]);
    run(BERTHCTL, &["--help"], "").await.check(0, &["Examples:", "berthctl doctor", "Exit codes:"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    run(BERTHCTL, &["generate", "man", path], "").await.check(0, &[], &[]);
    run(BERTHCTL, &["generate", "completions", path], "").await.check(0, &[], &[]);
    for name in ["berthctl.1", "berthctl-logs.1", "berthctl.bash", "_berthctl", "berthctl.fish"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}
