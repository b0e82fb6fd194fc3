//! Migrations of pods with data disks, with a control plane that dies at every one of its writes: what a pod wrote is
//! where it runs, and on no node in vain.

use super::drill::{Crash, Drill, Fate};
use super::migration_tests::{
    at_every_write, finish, home, migrate, phase, return_from_the_dead, silence, verbs, well,
};
use super::tests::{node_name, pod_id, request};
use super::*;
use crate::flow::migrate::{LeftBehind, Phase};
use crate::flow::{Ending, PodState, Presence, Reason};
use berth_model::{
    DataDisk, DiskLife, DiskName, DiskPolicy, DiskSource, NodeOrder, NodeVerb, PodOrder, PodVerb, Target,
};

/// The second node copies nothing.
fn full(node: &NodeName, target: &Target) -> Ending {
    match target {
        Target::Node(NodeOrder { verb: NodeVerb::FetchDisk(_) }) if *node == node_name(1) => {
            Ending::Failed(Reason::of_step("FetchDisk", "no room"))
        }
        Target::Pod(_) | Target::Node(_) => Ending::Done,
    }
}

/// The second node runs nothing.
fn barren(node: &NodeName, target: &Target) -> Ending {
    match target {
        Target::Pod(PodOrder { verb: PodVerb::Run { .. }, .. }) if *node == node_name(1) => {
            Ending::Failed(Reason::of_step("RunSandbox", "it broke"))
        }
        Target::Pod(_) | Target::Node(_) => Ending::Done,
    }
}

fn disk(name: &str, life: DiskLife) -> DataDisk {
    DataDisk { name: name.parse().unwrap(), source: DiskSource::Directory { size: None }, life }
}

/// One pod with two disks that go along and, where it has one, one that does not, on the first of two nodes.
fn running(fate: Fate, crash: Crash, fixed: Option<&str>) -> Drill {
    let mut drill = Drill::new(1, fate, crash);
    let mut disks = vec![disk("data", DiskLife::Movable), disk("logs", DiskLife::Movable)];
    disks.extend(fixed.map(|name| disk(name, DiskLife::Kept)));
    let request = berth_model::PodRequest { disks, ..request(0, 1, DiskPolicy::Rebuild) };
    drill.act(|tx| tx.submit(request.clone(), 0).unwrap());
    drill.settle();
    drill.add_node(1);
    drill
}

/// What is written on a node's disks, and whether anything is offered there.
fn written(drill: &Drill, node: usize) -> (Vec<String>, usize) {
    let node = &drill.nodes[&node_name(node)];
    let lines = node
        .data
        .iter()
        .map(|((_, disk), runs): (&(PodId, DiskName), _)| format!("{disk} {}", runs.join(" ")));
    (lines.collect(), node.offers.len())
}

fn check(drill: &Drill, node: usize, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(written(drill, node), (expected, 0), "{:?}", verbs(drill));
}

/// The pod runs on the first node again, with its data, and nothing is on the second.
fn check_returned(drill: &Drill, why: &str) {
    let Phase::Failed { why: said } = phase(drill) else { panic!("{:?}", phase(drill)) };
    assert!(said.contains("runs on the source again") && said.contains(why), "{said}");
    check(drill, 0, &["data n0 n0", "logs n0 n0"]);
    check(drill, 1, &[]);
    let pod = &drill.state.pods[&pod_id(0)];
    assert_eq!((home(drill), pod.standing.state), (Some(node_name(0)), PodState::Running));
    let migration = &drill.state.migrations[&pod_id(0)];
    assert!(migration.stopped_at_ms < migration.running_at_ms, "{migration:?}");
}

#[test]
fn data_goes_along_once_whatever_crashes() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, None);
        migrate(&mut drill, None);
        finish(&mut drill);
        assert_eq!((phase(&drill), home(&drill)), (&Phase::Done, Some(node_name(1))), "{crash:?}");
        assert_eq!(verbs(&drill), ["n0 Run 1", "n0 Evict 1", "n1 Run 2", "n0 Release 2"], "{crash:?}");
        check(&drill, 0, &[]);
        check(&drill, 1, &["data n0 n1", "logs n0 n1"]);
        let migration = &drill.state.migrations[&pod_id(0)];
        assert!(migration.stopped_at_ms.is_some() && migration.stopped_at_ms < migration.running_at_ms);
        drill.writes
    });
}

#[test]
fn what_stays_is_kept_and_shown_to_nobody() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, Some("fixed"));
        drill.act(|tx| {
            let wish = Migrate { to: None, left_behind: None, reason: String::new(), seed: 0 };
            let denied = tx.migrate(&pod_id(0), wish).unwrap_err().to_string();
            assert!(denied.contains("along: data disk fixed is not movable; leave it"), "{denied}");
        });
        migrate(&mut drill, Some(LeftBehind::Kept));
        finish(&mut drill);
        assert_eq!(*phase(&drill), Phase::Done, "{crash:?}");
        check(&drill, 0, &["data n0", "fixed n0", "logs n0"]);
        check(&drill, 1, &["data n0 n1", "fixed n1", "logs n0 n1"]);
        drill.writes
    });
}

#[test]
fn a_target_without_room_gives_the_pod_back() {
    at_every_write(|crash| {
        let mut drill = running(full, crash, None);
        migrate(&mut drill, None);
        finish(&mut drill);
        check_returned(&drill, "no room");
        assert_eq!(verbs(&drill), ["n0 Run 1", "n0 Evict 1", "n0 Run 2", "n1 Release 1"], "{crash:?}");
        drill.writes
    });
}

#[test]
fn a_target_that_cannot_run_it_keeps_no_copy() {
    at_every_write(|crash| {
        let mut drill = running(barren, crash, None);
        migrate(&mut drill, None);
        finish(&mut drill);
        check_returned(&drill, "RunSandbox: it broke");
        // It is neither released nor evicted by what was given up on the target.
        drill.act(|tx| tx.stop(&pod_id(0), None, "").unwrap());
        drill.settle();
        assert_eq!(drill.state.pods[&pod_id(0)].standing.state, PodState::Stopped);
        drill.writes
    });
}

#[test]
fn a_target_that_goes_silent_while_it_copies_is_not_waited_for() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, None);
        drill.slow = true;
        migrate(&mut drill, None);
        drill.settle();
        assert_eq!(*phase(&drill), Phase::Copying, "{crash:?}");
        silence(&mut drill, 1);
        drill.settle();
        check_returned(&drill, "the target went silent");
        // What it still does when it comes back comes to nothing.
        drill.slow = false;
        return_from_the_dead(&mut drill, 1);
        finish(&mut drill);
        check_returned(&drill, "the target went silent");
        drill.writes
    });
}

#[test]
fn a_copy_can_be_aborted() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, None);
        drill.slow = true;
        migrate(&mut drill, None);
        drill.settle();
        drill.act(|tx| match tx.abort_migration(&pod_id(0)) {
            Ok(()) => {}
            // Asked again after a crash, it is on its way back.
            Err(denied) => assert!(denied.to_string().contains("is Returning"), "{denied}"),
        });
        drill.slow = false;
        finish(&mut drill);
        check_returned(&drill, "aborted by a platform");
        drill.writes
    });
}

#[test]
fn what_a_dead_source_has_is_not_done_without_unasked() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, None);
        silence(&mut drill, 0);
        migrate(&mut drill, None);
        drill.settle();
        drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
        finish(&mut drill);
        let Phase::Failed { why } = phase(&drill) else { panic!("{:?}", phase(&drill)) };
        assert!(why.contains("the source is dead") && why.contains("data, logs"), "{why}");
        let pod = &drill.state.pods[&pod_id(0)];
        assert_eq!((pod.standing.state, pod.standing.presence), (PodState::Evicted, Presence::Gone));
        check(&drill, 1, &[]);
        drill.writes
    });
}

#[test]
fn who_would_leave_data_behind_begins_without_what_a_dead_source_has() {
    for wish in [LeftBehind::Kept, LeftBehind::Discarded] {
        at_every_write(|crash| {
            let mut drill = running(well, crash, None);
            silence(&mut drill, 0);
            migrate(&mut drill, Some(wish));
            drill.settle();
            drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
            drill.settle();
            assert_eq!((phase(&drill), home(&drill)), (&Phase::Done, Some(node_name(1))), "{crash:?}");
            check(&drill, 1, &["data n1", "logs n1"]);
            drill.expect_twins(true);
            return_from_the_dead(&mut drill, 0);
            drill.settle();
            drill.expect_twins(false);
            finish(&mut drill);
            match wish {
                LeftBehind::Kept => check(&drill, 0, &["data n0", "logs n0"]),
                LeftBehind::Discarded | LeftBehind::Nothing => check(&drill, 0, &[]),
            }
            drill.writes
        });
    }
}

#[test]
fn a_source_that_dies_while_it_is_copied_is_waited_for_no_longer_than_the_copy() {
    let mut drill = running(well, Crash::Never, None);
    drill.slow = true;
    migrate(&mut drill, None);
    drill.settle();
    silence(&mut drill, 0);
    drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
    drill.settle();
    assert_eq!(*phase(&drill), Phase::Copying);
    drill.slow = false;
    finish(&mut drill);
    let Phase::Failed { why } = phase(&drill) else { panic!("{:?}", phase(&drill)) };
    assert!(why.contains("data, logs"), "{why}");
    // It is back, and what it has is there.
    return_from_the_dead(&mut drill, 0);
    finish(&mut drill);
    assert_eq!(drill.state.pods[&pod_id(0)].kept.keys().collect::<Vec<_>>(), [&node_name(0)]);
    assert_eq!(written(&drill, 0).0, ["data n0", "logs n0"]);
    check(&drill, 1, &[]);
}

#[test]
fn a_pod_that_is_placed_anew_goes_where_its_data_are() {
    let mut drill = running(well, Crash::Never, None);
    let again = drill.state.pods[&pod_id(0)].request.clone();
    drill.act(|tx| {
        let disposition = berth_model::EvictDisposition::Keep;
        tx.evict(&pod_id(0), &Evict { grace_ms: None, disposition, reason: String::new() }).unwrap();
    });
    drill.settle();
    drill.act(|tx| {
        let elsewhere = berth_model::PodRequest { node: Some(node_name(1)), ..again.clone() };
        let denied = tx.submit(elsewhere, 0).unwrap_err().to_string();
        assert!(denied.contains("are kept on node n0: name that one, or release the pod"), "{denied}");
        // Whatever else decides among equally good nodes.
        tx.submit(again.clone(), 1).unwrap();
    });
    drill.settle();
    check(&drill, 0, &["data n0 n0", "logs n0 n0"]);
    check(&drill, 1, &[]);
}

#[test]
fn a_source_that_serves_nobody_is_named() {
    let mut drill = running(well, Crash::Never, None);
    drill.act(|tx| {
        let mut wire = tests::facts().wire;
        wire.peer_port = 0;
        tx.set_facts(&node_name(0), wire.try_into().unwrap());
    });
    drill.act(|tx| {
        let wish = Migrate { to: None, left_behind: None, reason: String::new(), seed: 0 };
        let denied = tx.migrate(&pod_id(0), wish).unwrap_err().to_string();
        assert!(denied.contains("node n0 serves no other nodes (peer_listen)"), "{denied}");
    });
}
