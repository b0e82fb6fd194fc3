//! `berth`, the program itself, against a control plane behind mutual TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use berth_access::{Authority, Holds, Usage};
use berth_proto::v1::{self, PodState};
use std::path::PathBuf;
use support::pki::write_config;
use support::platform::{FakePlatform, Fate};
use support::{Ran, run};
use tempfile::TempDir;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");
const CONTROL: &str = "spiffe://berth.example/control";
const PLATFORM: &str = "spiffe://berth.example/platform/ops";
const POD: &str = "kind: Pod
metadata: {namespace: shop, name: web}
spec:
  cpu: {exclusive: 2}
  containers:
  - {name: web, image: 'registry.example/web:1'}
";

/// A control plane, and somebody who may speak with it.
struct Bed {
    platform: FakePlatform,
    config: PathBuf,
    dir: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let authority = Authority::new();
        Self::with(&authority, CONTROL, &authority, PLATFORM).await
    }

    /// A server of `authority` that is `server`, and a client of `trusted` that is `client`.
    async fn with(authority: &Authority, server: &str, trusted: &Authority, client: &str) -> Self {
        let platform =
            FakePlatform::start(authority, &authority.issue(&[server], Usage::Server, Holds::Now)).await;
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), &platform.address, trusted, &trusted.client(&[client]));
        Self { platform, config, dir }
    }

    async fn berth_with(&self, args: &[&str], input: &str) -> Ran {
        let config = self.config.to_str().unwrap();
        run(BERTH, &[&["--config", config], args].concat(), input).await
    }

    async fn berth(&self, args: &[&str]) -> Ran {
        self.berth_with(args, "").await
    }

    /// The pod `shop/web`, submitted and in this state.
    async fn with_pod(self, state: PodState) -> Self {
        self.berth_with(&["apply", "-f", "-"], POD).await.check(0, &["pod shop/web: Placed on node-1"], &[]);
        self.platform.state.lock().unwrap().pods.get_mut("shop/web").unwrap().state = state.into();
        self
    }

    fn fates(&self, fates: Vec<Fate>) {
        self.platform.state.lock().unwrap().fates.push_back(fates);
    }

    fn node(&self, name: &str) {
        let node = v1::NodeRecord {
            name: name.to_owned(),
            state: v1::NodeState::Ready.into(),
            ..Default::default()
        };
        self.platform.state.lock().unwrap().nodes.push(node);
    }
}

#[tokio::test]
async fn the_example_can_be_applied() {
    let bed = Bed::new().await;
    let example = bed.berth(&["apply", "--example"]).await;
    let applied = bed.berth_with(&["apply", "-f", "-"], &example.stdout).await;
    let said = [
        "address pool blue: 0 of 254",
        "shared CPUs default on node-1: 0-1",
        "pod shop/web: Placed on node-1",
    ];
    applied.check(0, &said, &[]);
    let file = bed.dir.path().join("example.yaml");
    std::fs::write(&file, &example.stdout).unwrap();
    let json = bed.berth(&["apply", "-o", "json", "-f", file.to_str().unwrap()]).await.json();
    assert_eq!(json[2]["pod"]["request"]["cpu"]["exclusive"]["count"], 2, "{json:#}");
    assert_eq!(json[2]["pod"]["request"]["class"], "LatencyCritical");
    assert_eq!(json[2]["pod"]["request"]["containers"][2]["ulimits"][1]["hard"], u64::MAX);
}

#[tokio::test]
async fn a_bad_manifest_sends_nothing() {
    let bed = Bed::new().await;
    let bad = format!("{POD}---\nkind: Pod\nmetadata: {{namespace: shop, name: Db}}\nspec: {{}}\n");
    let said = [
        "nothing was sent:\nstandard input:9:35: metadata.name: name \"Db\" is no DNS label",
        "apply --example",
    ];
    bed.berth_with(&["apply", "-f", "-"], &bad).await.check(2, &[], &said);
    bed.berth_with(&["apply", "--check", "-f", "-"], &bad).await.check(2, &[], &said);
    bed.berth(&["apply", "-f", "/nowhere.yaml"]).await.check(
        2,
        &[],
        &["cannot read /nowhere.yaml: No such file"],
    );
    assert_eq!(bed.platform.asked(), "");
    bed.berth_with(&["apply", "--check", "-f", "-"], POD).await.check(0, &["Pod shop/web: well-formed"], &[]);
    assert_eq!(bed.platform.asked(), "");
}

#[tokio::test]
async fn what_the_control_plane_refuses() {
    let bed = Bed::new().await;
    let full = POD.replace("spec:\n", "spec:\n  node: full\n");
    let said = [
        "berth: ResourceExhausted: apply Pod shop/web: no node fits: full: 2 CPUs asked, 1 free\n  free some",
    ];
    bed.berth_with(&["apply", "-f", "-"], &full).await.check(1, &[], &said);
    let json = bed.berth_with(&["apply", "-o", "json", "-f", "-"], &full).await;
    let error: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!((json.code, &error["error"]["code"]), (1, &"ResourceExhausted".into()), "{json:#?}");
    let two = bed.berth_with(&["apply", "-o", "json", "-f", "-"], &format!("{POD}---\n{full}")).await;
    assert_eq!((two.code, two.stdout.matches("\"kind\": \"Pod\"").count()), (1, 1), "{two:#?}");
    bed.berth(&["get", "shop/db"]).await.check(
        1,
        &[],
        &["NotFound: get pod shop/db: there is no pod shop/db"],
    );
}

#[tokio::test]
async fn waiting_for_a_pod_to_run() {
    let bed = Bed::new().await;
    bed.fates(vec![
        Fate::Becomes("shop/web", PodState::Placed, "pulling image"),
        Fate::Becomes("shop/web", PodState::Running, ""),
    ]);
    let ran = bed.berth_with(&["apply", "-f", "-", "--wait"], POD).await;
    ran.check(0, &["shop/web  Running"], &["Placed", "pulling image", "Running"]);
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Failed, "image registry.example/web:1: not found")]);
    let failed = bed.berth_with(&["apply", "-f", "-", "--wait"], POD).await;
    failed.check(
        1,
        &[],
        &["Failed: pod shop/web: image registry.example/web:1: not found", "berth orders --pod"],
    );
}

#[tokio::test]
async fn waiting_survives_a_broken_stream_and_ends_in_time() {
    let bed = Bed::new().await;
    bed.fates(vec![Fate::Break]);
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Running, "")]);
    bed.berth_with(&["apply", "-f", "-", "--wait"], POD).await.check(0, &["shop/web  Running"], &[]);
    let late = bed.berth_with(&["apply", "-f", "-", "--wait", "--timeout", "300ms"], POD).await;
    late.check(1, &[], &["Timeout: not done after 300 ms: shop/web is Placed", "nothing is undone"]);
}

#[tokio::test]
async fn evicting_and_releasing() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.berth(&["release", "shop/web"]).await.check(1, &[], &["FailedPrecondition", "evict it first"]);
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Evicted, "")]);
    let args = ["evict", "shop/web", "--grace", "5s", "--reason", "rack r1 goes", "--wait"];
    bed.berth(&args).await.check(0, &["pod shop/web: Evicted"], &["Evicting"]);
    let asked = bed.platform.asked();
    assert!(asked.contains("grace_ms: Some(5000), release: false, reason: \"rack r1 goes\""), "{asked}");
    bed.berth(&["release", "shop/web", "--wait"]).await.check(0, &["pod shop/web: released"], &[]);
    let bed = bed.with_pod(PodState::Running).await;
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Evicted, ""), Fate::Released("shop/web")]);
    bed.berth(&["evict", "shop/web", "--release", "--wait"]).await.check(0, &["pod shop/web: released"], &[]);
    let asked = bed.platform.asked();
    assert!(asked.contains("grace_ms: None, release: true, reason: \"\""), "{asked}");
}

#[tokio::test]
async fn stopping_and_starting() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Stopped, "")]);
    bed.berth(&["stop", "shop/web", "--wait"]).await.check(0, &["pod shop/web: Stopped"], &[]);
    bed.fates(vec![Fate::Becomes("shop/web", PodState::Running, "")]);
    let started = bed.berth(&["start", "shop/web", "--wait", "-o", "json"]).await.json();
    assert_eq!(started["state"], "Running", "{started:#}");
}

#[tokio::test]
async fn changing_a_pod_in_place() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.berth(&["restart", "shop/web", "--rebuild", "--wait"]).await.check(
        0,
        &["pod shop/web: done, Running on node-1 (order 01ARZ3NDEKTSV4RRFFQ69G5FAV)"],
        &[],
    );
    bed.platform.state.lock().unwrap().orders.clear();
    let upgrade = ["upgrade", "shop/web", "--image", "web=registry.example/web:2", "--env", "web:A=b=c"];
    bed.berth(&upgrade).await.check(0, &["pod shop/web: ordered, Running on node-1"], &[]);
    bed.berth_with(&["upgrade", "-f", "-", "--settle", "2s"], POD).await.check(0, &["ordered"], &[]);
    bed.platform.state.lock().unwrap().orders.clear();
    let broken = ["upgrade", "shop/web", "--image", "web=registry.example/broken:2", "--wait"];
    bed.berth(&broken).await.check(1, &[], &["RolledBack: order", "NotReady: it died", "as it was before"]);
    let resize = ["resize", "shop/web", "--container", "web", "--pids-max", "9", "--ulimit", "nofile=1:2"];
    bed.berth(&resize).await.check(0, &["ordered"], &[]);
    let asked = bed.platform.asked();
    for expected in [
        "RestartPodRequest { pod: Some(PodRef { namespace: \"shop\", name: \"web\" }), disk: Rebuild",
        "image: Some(\"registry.example/web:2\"), digest: None, env: [EnvVar { name: \"A\", value: \"b=c\" }]",
        "change: Some(Request(PodRequest",
        "settle_ms: Some(2000)",
        "pids_max: Some(9)",
        "ulimits: [Ulimit { rlimit: \"nofile\", soft: 1, hard: 2 }]",
    ] {
        assert!(asked.contains(expected), "{expected} is not in {asked}");
    }
}

#[tokio::test]
async fn rolling_out() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    let image = ["--image", "web=registry.example/web:2"];
    let start = |name| [&["rollout", "start", name, "-n", "shop", "-l", "tier=front"], &image[..]].concat();
    bed.berth(&start("front")).await.check(0, &["Rollout:", "front", "Running", "1 waiting"], &[]);
    bed.berth(&["rollout", "status"]).await.check(0, &["ROLLOUT", "front"], &[]);
    bed.berth(&["rollout", "status", "front", "--watch"]).await.check(
        0,
        &["Done", "1 done", "shop/web  Done"],
        &["front: Running, 1 under way", "front: Done, 1 done"],
    );
    let json = bed.berth(&["rollout", "status", "front", "-o", "json"]).await.json();
    assert_eq!((&json["state"], &json["pods"][0]["state"]), (&"Done".into(), &"Done".into()), "{json:#}");
    let mut broken = start("broken");
    broken.push("--watch");
    bed.berth(&broken).await.check(
        1,
        &["Paused"],
        &["rollout broken: 2 pods were rolled back", "undo puts back"],
    );
    for action in ["pause", "resume", "undo"] {
        bed.berth(&["rollout", action, "front"]).await.check(0, &["front"], &[]);
    }
    bed.berth(&["rollout", "undo", "other"]).await.check(1, &[], &["there is no rollout other"]);
    let asked = bed.platform.asked();
    for expected in
        ["max_unavailable: 1", "action: Pause", "action: Resume", "action: Undo", "{\"tier\": \"front\"}"]
    {
        assert!(asked.contains(expected), "{expected} is not in {asked}");
    }
}

#[tokio::test]
async fn migrating() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.node("node-1");
    let start = ["migrate", "shop/web", "--to", "node-2", "--leave-data", "--wait"];
    let said = ["shop/web node-1 -> node-2: Preparing", "shop/web node-1 -> node-2: Done"];
    bed.berth(&start).await.check(0, &["shop/web  node-1  node-2  Done"], &said);
    bed.berth(&["migrate", "status"]).await.check(0, &["PHASE", "Done"], &[]);
    bed.berth(&["migrate", "status", "shop/db"]).await.check(1, &[], &["pod shop/db has no migration"]);
    let barren = ["migrate", "shop/web", "--to", "barren", "--discard-data", "--wait"];
    bed.berth(&barren).await.check(1, &["Failed"], &["pod shop/web was not migrated: no room"]);
    bed.berth(&["migrate", "abort", "shop/web"]).await.check(0, &["Failed"], &[]);
    bed.berth(&["node", "confirm-dead", "node-1", "--reason", "no power"]).await.check(
        0,
        &["Dead", "Still to be evicted:", "shop/web"],
        &[],
    );
    bed.berth(&["node", "revoke", "node-1", "--reason", "stolen"]).await.check(
        0,
        &["Certificates revoked:", "all that began more than"],
        &[],
    );
    bed.berth(&["node", "revoke", "node-9"]).await.check(1, &[], &["there is no node node-9"]);
    bed.berth(&["pools", "--history", "--pod", "shop/web"]).await.check(
        0,
        &["10.0.0.7  blue  shop/web", "still"],
        &[],
    );
    let asked = bed.platform.asked();
    for expected in ["leave_behind: Keep", "leave_behind: Discard", "reason: \"no power\""] {
        assert!(asked.contains(expected), "{expected} is not in {asked}");
    }
}

#[tokio::test]
async fn looking_at_pods() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.berth(&["get"]).await.check(0, &["POD", "shop/web  Running", "node-1"], &[]);
    bed.berth(&["get", "pods", "-n", "shop", "-o", "wide"]).await.check(0, &["REVISION", "1.1"], &[]);
    let other = bed.berth(&["get", "-n", "other"]).await;
    assert_eq!(other.stdout.lines().count(), 1, "{other:#?}");
    bed.berth(&["get", "shop/web"]).await.check(0, &["State:", "Containers", "registry.example/web:1"], &[]);
    let json = bed.berth(&["get", "-o", "json"]).await.json();
    assert_eq!(json[0]["pod"], serde_json::json!({ "namespace": "shop", "name": "web" }), "{json:#}");
}

#[tokio::test]
async fn watching() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    let fates =
        vec![Fate::Becomes("shop/web", PodState::Failed, "disk"), Fate::Released("shop/web"), Fate::Break];
    bed.fates(fates.clone());
    let watched = bed.berth(&["watch"]).await;
    watched.check(3, &["shop/web", "Running", "Failed", "disk", "Released"], &["the watcher fell behind"]);
    let bed = bed.with_pod(PodState::Running).await;
    bed.fates(fates);
    let lines = bed.berth(&["watch", "-o", "json"]).await;
    let events: Vec<serde_json::Value> =
        lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["changed"]["state"], "Running", "{lines:#?}");
    assert_eq!(events[1], serde_json::json!({ "synced": {} }));
    assert_eq!(events[3]["released"]["name"], "web");
}

#[tokio::test]
async fn events_are_shown_and_followed() {
    let bed = Bed::new().await;
    let all = bed.berth(&["events"]).await;
    all.check(0, &["2026-11-22T09:33:20.25Z", "node-1", "node-2", "OomKill"], &[]);
    let one = bed.berth(&["events", "shop/web", "--node", "node-2", "-o", "json"]).await.json();
    let said: Vec<_> =
        one.as_array().unwrap().iter().map(|event| (&event["node"], &event["pod"]["name"])).collect();
    assert_eq!(said, [(&"node-2".into(), &"web".into())], "{one}");
    let lines = bed.berth(&["events", "-f", "-o", "json"]).await;
    lines.check(3, &["\"code\":\"OomKill\""], &["watch events: the control plane is going down"]);
    assert_eq!(lines.stdout.lines().count(), 2, "{lines:#?}");
    bed.berth(&["events", "shop/web", "-n", "shop"]).await.check(2, &[], &["--namespace"]);
}

#[tokio::test]
async fn a_pod_is_described() {
    let bed = Bed::new().await.with_pod(PodState::Running).await;
    bed.berth(&["describe", "shop/web"]).await.check(0, &["shop/web", "Running", "Events", "OomKill"], &[]);
    let all = bed.berth(&["describe", "shop/web", "-o", "json"]).await.json();
    assert_eq!(
        (&all["pod"]["state"], &all["events"][0]["code"]),
        (&"Running".into(), &"OomKill".into()),
        "{all}"
    );
    bed.berth(&["describe", "shop/absent"]).await.check(1, &[], &["shop/absent"]);
    bed.berth(&["explain", "spec.recovery"]).await.check(0, &["recovery: Offline"], &[]);
    bed.berth(&["explain", "spec.recover"]).await.check(2, &[], &["recover"]);
}

#[tokio::test]
async fn nodes_pools_orders_and_pulls() {
    let bed = Bed::new().await;
    bed.node("node-2");
    bed.node("node-1");
    let nodes = bed.berth(&["nodes"]).await;
    assert!(nodes.stdout.find("node-1") < nodes.stdout.find("node-2"), "{nodes:#?}");
    bed.berth(&["nodes", "node-1"]).await.check(0, &["Node:", "node-1", "Ready"], &[]);
    bed.berth(&["nodes", "node-3"]).await.check(1, &[], &["NotFound: get node node-3"]);
    bed.berth(&["inspect", "node-1"]).await.check(0, &["node-1"], &[]);
    let image = "registry.example/web:1";
    bed.berth(&["pull", "node-1", image]).await.check(
        0,
        &["ordered (order 01ARZ3NDEKTSV4RRFFQ69G5FAV)"],
        &[],
    );
    bed.berth(&["pull", "node-1", image, "--wait"]).await.check(0, &["done (order"], &[]);
    bed.berth(&["orders", "--node", "node-1"]).await.check(0, &["01ARZ3NDEKTSV4RRFFQ69G5FAV", "done"], &[]);
    bed.platform.state.lock().unwrap().orders.clear();
    let busy = bed.berth(&["pull", "node-1", "registry.example/busy:1", "--wait"]).await;
    busy.check(1, &[], &["Failed: order 01ARZ3NDEKTSV4RRFFQ69G5FAV: Busy: pulls is full at 8"]);
    let pool = "kind: AddressPool\nmetadata: {name: blue}\nspec: {network: 10.0.0.0/24}\n";
    bed.berth_with(&["apply", "-f", "-"], pool).await.check(0, &["address pool blue"], &[]);
    bed.berth(&["pools", "-a"]).await.check(0, &["blue  10.0.0.0/24", "10.0.0.7  blue  shop/web"], &[]);
    bed.berth(&["delete-pool", "blue"]).await.check(0, &["pool blue: deleted"], &[]);
    bed.berth(&["delete-pool", "blue"]).await.check(1, &[], &["there is no pool blue"]);
}

#[tokio::test]
async fn who_is_not_the_control_plane_is_not_spoken_with() {
    let ours = Authority::new();
    let theirs = Authority::new();
    let cases = [
        (&theirs, CONTROL, "the other side's certificate is not signed by our authority"),
        (
            &ours,
            "spiffe://berth.example/node/node-1",
            "the other side is spiffe://berth.example/node/node-1, not the control plane of trust domain berth.example",
        ),
        (
            &ours,
            "spiffe://other.example/control",
            "is spiffe://other.example/control, not the control plane of trust domain berth.example",
        ),
    ];
    for (authority, server, expected) in cases {
        let bed = Bed::with(authority, server, &ours, PLATFORM).await;
        let ran = bed.berth(&["get"]).await;
        ran.check(
            3,
            &[],
            &["Untrusted: cannot reach the control plane at 127.0.0.1:", expected, "--ca must be"],
        );
    }
}

#[tokio::test]
async fn who_is_not_known_to_the_control_plane_is_told() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut bed = Bed::with(&ours, CONTROL, &ours, PLATFORM).await;
    bed.config = write_config(bed.dir.path(), &bed.platform.address, &ours, &theirs.client(&[PLATFORM]));
    let ran = bed.berth(&["get"]).await;
    ran.check(
        3,
        &[],
        &["Untrusted: cannot reach", "received fatal alert", "does not accept our certificate"],
    );
}

#[tokio::test]
async fn nobody_listens() {
    let bed = Bed::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = bed.berth(&["get", "--server", &free]).await;
    ran.check(
        3,
        &[],
        &["Unreachable: cannot reach the control plane at 127.0.0.1:", "Connection refused", "--server"],
    );
}

#[tokio::test]
async fn files_that_are_no_use() {
    let bed = Bed::new().await;
    let file = |name: &str| bed.dir.path().join(name).to_str().unwrap().to_owned();
    for (args, expected) in [
        (vec!["--ca", "/nowhere.crt"], "cannot use certificate /nowhere.crt"),
        (vec!["--ca", &file("client.key")], "holds no PEM certificate"),
        (vec!["--key", &file("ca.crt")], "cannot use private key"),
        (vec!["--cert", &file("ca.crt")], "is no platform's certificate"),
        (vec!["--server", "control.example"], "not of the form host:port"),
        (vec!["--config", "/nowhere.toml"], "cannot read configuration /nowhere.toml"),
    ] {
        let config = ["--config", bed.config.to_str().unwrap()];
        let config = if args[0] == "--config" { &[][..] } else { &config[..] };
        let ran = run(BERTH, &[config, &args, &["get"]].concat(), "").await;
        ran.check(2, &[], &[expected]);
    }
}

#[tokio::test]
async fn asked_wrongly() {
    for (args, expected) in [
        (vec!["get"], "the control plane's address is not known"),
        (vec!["get", "web"], "\"web\" is not of the form namespace/name"),
        (vec!["get", "shop/web", "-n", "shop"], "one pod is named already"),
        (vec!["evict", "web"], "not of the form namespace/name"),
        (vec!["evict", "shop/web", "--grace", "5"], "has no unit"),
        (vec!["evict", "shop/web", "--timeout", "5s"], "--wait"),
        (vec!["upgrade", "shop/web"], "nothing to change is named"),
        (vec!["upgrade"], "--file"),
        (vec!["upgrade", "shop/web", "--image", "web"], "CONTAINER=IMAGE"),
        (vec!["resize", "shop/web", "--memory-max", "lots"], "lots"),
        (vec!["resize", "shop/web", "--ulimit", "nofile=1"], "--container"),
        (vec!["restart", "shop/web", "--reuse", "--rebuild"], "cannot be used with"),
        (vec!["rollout", "start", "a", "-n", "b"], "nothing to change is named"),
        (vec!["rollout", "start", "a", "--unset-env", "web:A"], "no pod is selected"),
        (vec!["rollout", "start", "a", "-l", "b"], "NAME=VALUE"),
        (vec!["rollout", "status", "--watch"], "name it"),
        (vec!["migrate", "shop/web", "--leave-data", "--discard-data"], "cannot be used with"),
        (vec!["node", "confirm-dead"], "<NODE>"),
        (vec!["node", "revoke"], "<NODE>"),
        (vec!["pools", "--pod", "shop/web"], "--history"),
        (vec!["pull", "node-1", "redis"], "not of the form registry/repository:tag"),
        (vec!["nodes", "Node"], "no DNS label"),
        (vec!["apply"], "--file"),
        (vec!["aply"], "unrecognized subcommand"),
        (vec![], "Usage: berth"),
    ] {
        run(BERTH, &args, "").await.check(2, &[], &[expected]);
    }
}

#[tokio::test]
async fn help_version_manuals_and_completions() {
    run(BERTH, &["--version"], "").await.check(0, &["berth 0.1.0"], &[]);
    run(BERTH, &["--help"], "").await.check(0, &["Examples:", "berth apply --example", "Exit codes:"], &[]);
    run(BERTH, &["evict", "--help"], "").await.check(0, &["Examples:", "--release", "its disks"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    run(BERTH, &["generate", "man", path], "").await.check(0, &[], &[]);
    run(BERTH, &["generate", "completions", path], "").await.check(0, &[], &[]);
    for name in ["berth.1", "berth-apply.1", "berth.bash", "_berth", "berth.fish"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}
