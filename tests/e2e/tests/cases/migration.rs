//! A pod moves to another host with its address, name and data while a client knocks at its door; and back again, once
//! that host is dead. What comes back from the dead does not start it.

use crate::{discard, fleet};
use berth_e2e::{Attempt, Knocking, PodProcess};
use berth_lab::{Guest, Machine, POD_GATEWAY, wait_until};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

const POD: &str = "case/mover";
/// Where the pod's disk is on its node.
const DISK: &str = "/var/lib/berth/disks/pods/case.mover/data";
/// Until a migration has ended, or a node has given up what it should not have.
const LIMIT: Duration = Duration::from_secs(240);
/// Files that are not as usual; made by the node's own tools, which busybox has not.
const ODD: &str = "set -e; cd /var/lib/berth/disks/pods/case.mover/data; \
    head -c 3M /dev/urandom > random; mkdir -p deep/er; ln random deep/er/again; ln -s /etc/shadow outside; \
    truncate -s 256M sparse; echo end >> sparse; mkfifo fifo; touch 'a name' secret; chmod 000 secret; \
    chown 1234:5678 deep/er; chmod 3751 deep; touch -d '2001-09-09 01:46:40.5' random deep";
/// Everything that can be seen of them, and of no file that a start of the pod writes.
const LOOK: &str = "cd /var/lib/berth/disks/pods/case.mover/data && \
    find . -mindepth 1 ! -name here ! -name starts -printf '%P %y %m %U:%G %n %s %T@ %l\\n' | sort && \
    sha256sum random sparse && test $(du -k sparse | cut -f1) -lt 1024 && echo sparse";

/// A pod that serves what is on its disk, and writes there at every start where and as whom it runs.
fn manifest() -> String {
    let image = berth_e2e::image("busybox");
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: mover}}\nspec:\n  addressPool: pods\n  hostname: moving-host\n\
         \x20 stopGrace: 2s\n  disk: Rebuild\n  disks: [{{name: data, size: 64Mi, movable: true}}]\n  containers:\n  - name: main\n\
         \x20   image: {image}\n    mounts: [{{disk: data, path: /data}}]\n    env: [{{name: CASE, value: mover}}]\n\
         \x20   readiness: {{exec: [sh, -c, \"cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1B58 .* 0A '\"], periodMs: 500}}\n\
         \x20   command: [sh, -c, \"trap 'exit 0' TERM; echo $(cat /proc/sys/kernel/random/boot_id) $(hostname) > /data/here; \
         cat /data/here >> /data/starts; httpd -f -p 7000 -h /data & while :; do sleep 1; done\"]\n"
    )
}

fn boot_id(guest: &Guest) -> String {
    guest.run_ok("cat /proc/sys/kernel/random/boot_id").expect("read the boot id").trim().to_owned()
}

fn process(index: u8) -> PodProcess {
    fleet().kernel(index).process("mover").expect("find the container")
}

fn status() -> Value {
    fleet().berth_json(&["migrate", "status", POD]).expect("there is a migration")
}

/// Of a migration: its gap, milliseconds after the epoch.
fn gap(migration: &Value) -> (u64, u64) {
    let at = |key: &str| migration[key].as_u64().unwrap_or_else(|| panic!("{key} of {migration}"));
    (at("stoppedAtMs"), at("runningAtMs"))
}

/// How long the orders of a gap took, for people.
fn tell_orders(node: &str, (stopped_ms, running_ms): (u64, u64)) {
    let orders = fleet().berth_json(&["orders", "--node", node]).expect("list the orders");
    for order in orders.as_array().into_iter().flatten() {
        let at = |key: &str| order[key].as_u64();
        let (Some(created_ms), Some(ended_ms)) = (at("createdAtMs"), at("endedAtMs")) else { continue };
        if created_ms < stopped_ms || created_ms > running_ms {
            continue;
        }
        let target = &order["order"];
        let verb = [&target["pod"], &target["nodeOrder"]].into_iter().find_map(|target| {
            let verbs = ["run", "evict", "offerDisks", "fetchDisk"];
            verbs.into_iter().find(|verb| target[*verb].is_object())
        });
        println!("migration: {} on {node}: {} ms", verb.unwrap_or("another order"), ended_ms - created_ms);
    }
}

/// Every attempt that failed was under way in the gap.
fn check_attempts(attempts: &[Attempt], (stopped_ms, running_ms): (u64, u64)) {
    let failed: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.answer.is_err()).collect();
    for attempt in &failed {
        assert!(
            attempt.ended_ms >= stopped_ms && attempt.begun_ms <= running_ms,
            "outside of the gap {stopped_ms} to {running_ms}: {attempt:?}"
        );
    }
    let after = attempts.iter().filter(|attempt| attempt.begun_ms > running_ms).count();
    assert!(after > 0, "nobody has knocked since the pod runs again");
    let dark =
        failed.iter().map(|attempt| attempt.begun_ms).min().zip(failed.iter().map(|a| a.begun_ms).max());
    println!(
        "migration: announced gap {} ms; of {} attempts {} failed, begun over {} ms",
        running_ms - stopped_ms,
        attempts.len(),
        failed.len(),
        dark.map_or(0, |(first, last)| last - first)
    );
}

/// Whose boot the pod's answers tell.
fn hosts(attempts: &[Attempt], since_ms: u64) -> Vec<String> {
    let since = attempts.iter().filter(|attempt| attempt.begun_ms > since_ms);
    let mut hosts: Vec<String> = since.filter_map(|attempt| attempt.answer.clone().ok()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The pod's host is dead, and its data there: nobody begins without them unasked. Answers from when on the pod runs on
/// the other one, by the control plane's clock.
fn leave_the_dead(there: &Guest) -> u64 {
    there.run_ok("sync").expect("write out what the case compares");
    there.pull_plug().expect("pull the plug");
    fleet().wait_state(there, "Silent").expect("nothing is heard of it");
    fleet().berth_ok(&["migrate", POD, "--to", "node-1", "--leave-data"]).expect("begin to migrate");
    wait_until("the migration to wait", LIMIT, || {
        let message = status()["message"].as_str().unwrap_or_default().to_owned();
        Ok(message.contains("confirm-dead").then_some(()))
    })
    .expect("a silent source is waited for");
    fleet().berth_ok(&["node", "confirm-dead", "node-2", "--reason", "the plug is out"]).expect("confirm it");
    wait_until("the migration to end", LIMIT, || {
        let now = status();
        assert_ne!(now["phase"], "Failed", "{now}");
        Ok((now["phase"] == "Done").then_some(()))
    })
    .expect("the pod runs on the other host");
    let (stopped_ms, back_ms) = gap(&status());
    println!("migration: from the dead host, gap {} ms", back_ms - stopped_ms);
    back_ms
}

/// The dead host is back, and evicts what it had.
fn come_back(there: &Guest) {
    let begun = Instant::now();
    there.boot(&Machine::default()).expect("the dead host boots");
    fleet().wait_ready(there).expect("it is heard again");
    wait_until("the node to have given the pod up", LIMIT, || {
        let nodes = fleet().berth_json(&["nodes"])?;
        let fenced = |node: &Value| node["fenced"].as_array().is_some_and(|fenced| !fenced.is_empty());
        Ok((!nodes.as_array().is_some_and(|nodes| nodes.iter().any(fenced))).then_some(()))
    })
    .expect("what it had is evicted");
    println!("migration: back from the dead and evicted in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(!fleet().kernel(1).has_process("mover").expect("look for it"));
}

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &["disks.movable"];

#[test]
fn a_pod_moves_with_its_address_name_and_data_and_nothing_rises_from_the_dead() {
    let [here, there] = [0, 1].map(|index| fleet().lab().guest(index));
    fleet().apply(&manifest(), &["--wait"]).expect("run the pod");
    fleet().join(&there).expect("a second node joins");
    here.run_ok(ODD).expect("write to the disk");
    let (before, address) =
        (here.run_ok(LOOK).expect("look at the disk"), fleet().address(POD).expect("an address"));
    let program = Path::new(env!("CARGO_BIN_EXE_berth-knock"));
    let door = format!("{address}:7000");
    let knocking =
        Knocking::start(fleet().lab(), "knock", program, (&door, "/here")).expect("the pod answers");

    let begun = Instant::now();
    fleet().berth_ok(&["migrate", POD, "--to", "node-2", "--wait"]).expect("migrate the pod");
    println!("migration: {:.1} s from order to end", begun.elapsed().as_secs_f64());
    let moved = gap(&status());
    tell_orders("node-1", moved);
    tell_orders("node-2", moved);
    wait_until("answers from the new host", LIMIT, || {
        let attempts = knocking.attempts()?;
        Ok(attempts.iter().any(|attempt| attempt.begun_ms > moved.1 + 3_000).then_some(()))
    })
    .expect("the client goes on");
    let attempts = knocking.attempts().expect("the client notes");
    check_attempts(&attempts, moved);
    assert_eq!(hosts(&attempts, moved.1), [format!("{} moving-host", boot_id(&there))]);
    assert_eq!(fleet().address(POD).expect("an address"), address);
    assert_eq!(there.run_ok(LOOK).expect("look at the copy"), before);
    assert!(!fleet().kernel(0).has_process("mover").expect("look for it"));
    here.wait_until(&format!("! test -e {DISK}"), LIMIT).expect("the source gives up what it had");
    let starts = there.run_ok(&format!("cat {DISK}/starts")).expect("read the starts");
    let ids: Vec<&str> = starts.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids, [boot_id(&here), boot_id(&there)], "one start each");

    let back_ms = leave_the_dead(&there);
    let survivor = process(0);
    come_back(&there);
    let later = there.run_ok(&format!("cat {DISK}/starts")).expect("what was left is kept");
    assert_eq!(later, starts, "the dead host has not started it again");
    assert_eq!(process(0), survivor, "nothing happened to the one that runs");
    let attempts = knocking.attempts().expect("the client notes");
    assert_eq!(hosts(&attempts, back_ms), [format!("{} moving-host", boot_id(&here))]);
    let failed = attempts.iter().filter(|attempt| attempt.begun_ms > back_ms && attempt.answer.is_err());
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<&Attempt>::new(), "by way of {POD_GATEWAY}");

    drop(knocking);
    discard(POD);
    there.wait_until(&format!("! test -e {DISK}"), LIMIT).expect("what was left is given up");
    // The host is as it was before.
    there.run_ok("apt-get purge -y berth-node && rm -rf /var/lib/berth /etc/berth").expect("remove the node");
    // Until its lease has ended, other cases' pods would be placed there.
    fleet().wait_state(&there, "Silent").expect("the control plane takes note");
}
