//! The cases. They share one fleet, brought up by the first; `cargo xtask test` takes it down afterwards.

mod addresses;
mod bad_input;
mod boot;
mod config;
mod controls;
mod crashes;
mod disks;
mod events;
mod facts;
mod fields;
mod host_network;
mod host_paths;
mod in_place;
mod life;
mod logs;
mod long;
mod metrics;
mod migration;
mod probes;
mod readme;
mod reservation;
mod roles;
mod trust;

use berth_e2e::{Fleet, FleetSpec};
use berth_lab::Suite;
use std::sync::OnceLock;

/// The lab's name; `cargo xtask test` takes down the same.
const LAB: &str = "e2e";

/// The fleet of all cases.
fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(|| {
        let spec = FleetSpec { name: LAB.to_owned(), guests: 3, joined: 1, suite: Suite::Trixie };
        Fleet::up(&spec).expect("bring up the fleet")
    })
}

/// A pod's manifest: one busybox container that does nothing until it is told to end, found by `CASE=<name>`.
fn idle_pod(name: &str, spec: &str, container: &str) -> String {
    let image = berth_e2e::image("busybox");
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: {name}}}\nspec:\n  addressPool: pods\n  stopGrace: 2s\n{}\
         \n  containers:\n  - name: main\n    image: {image}\n\
         \x20   command: [sh, -c, \"ulimit -Sn; ulimit -Hn; trap 'exit 0' TERM; while :; do sleep 1; done\"]\n\
         \x20   env: [{{name: CASE, value: {name}}}]\n{}",
        indent(spec, 2),
        indent(container, 4)
    )
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// Takes a pod off its node and gives up all that was kept of it.
fn discard(pod: &str) {
    fleet().berth_ok(&["evict", pod, "--release", "--wait"]).expect("evict and release the pod");
}
