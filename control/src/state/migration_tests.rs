//! Migrations and nodes confirmed dead, with a control plane that dies at every one of its writes. The drill itself
//! checks after every order that no identity is on two nodes that can be heard.

use super::drill::{Crash, Drill, Fate};
use super::tests::{node_name, pod_id, request, settings};
use super::*;
use crate::flow::migrate::{LeftBehind, Phase};
use crate::flow::tenure::two_owners;
use crate::flow::{Ending, PodState, Presence, Reason};
use berth_model::{Disk, DiskPolicy, NodeOrder, NodeVerb, PodOrder, PodVerb, Target};

pub(super) fn well(_: &NodeName, _: &Target) -> Ending {
    Ending::Done
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

/// The second node pulls nothing.
fn cut_off(node: &NodeName, target: &Target) -> Ending {
    match target {
        Target::Node(NodeOrder { verb: NodeVerb::PullImage { .. } }) if *node == node_name(1) => {
            Ending::Failed(Reason::of_step("EnsureImage", "no registry"))
        }
        Target::Pod(_) | Target::Node(_) => Ending::Done,
    }
}

/// One pod with a CPU of its own, running on the first of two nodes.
fn running(fate: Fate, crash: Crash, disk: DiskPolicy) -> Drill {
    let mut drill = Drill::new(1, fate, crash);
    drill.act(|tx| tx.submit(request(0, 1, disk), 0).unwrap());
    drill.settle();
    drill.add_node(1);
    drill
}

fn wish(left_behind: Option<LeftBehind>) -> Migrate {
    Migrate { to: None, left_behind, reason: "a test".to_owned(), seed: 0 }
}

pub(super) fn migrate(drill: &mut Drill, left_behind: Option<LeftBehind>) {
    drill.act(|tx| match tx.migrate(&pod_id(0), wish(left_behind)) {
        // Asked again after a crash, it is under way.
        Ok(()) => {}
        Err(denied) => assert!(denied.to_string().contains("is being migrated"), "{denied}"),
    });
}

pub(super) fn phase(drill: &Drill) -> &Phase {
    &drill.state.migrations[&pod_id(0)].phase
}

pub(super) fn home(drill: &Drill) -> Option<NodeName> {
    drill.state.pods[&pod_id(0)].node.clone()
}

pub(super) fn verbs(drill: &Drill) -> Vec<String> {
    drill
        .done
        .iter()
        .map(|(node, order)| format!("{node} {} {}", order.verb.name(), order.incarnation))
        .collect()
}

pub(super) fn finish(drill: &mut Drill) {
    drill.settle();
    drill.wait_ms(1);
    drill.settle();
    drill.check_disk();
    assert_eq!(two_owners(drill.state.tenures.all.values()), None);
}

pub(super) fn at_every_write(scenario: impl Fn(Crash) -> usize) {
    let writes = scenario(Crash::Never);
    assert!(writes > 5);
    for at in 1..=writes {
        scenario(Crash::Before(at));
        scenario(Crash::After(at));
    }
}

#[test]
fn a_pod_moves_once_whatever_crashes() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, DiskPolicy::Rebuild);
        let address = drill.state.pods[&pod_id(0)].spec.clone().unwrap().addresses;
        migrate(&mut drill, None);
        finish(&mut drill);
        assert_eq!(*phase(&drill), Phase::Done, "{crash:?}");
        assert_eq!(verbs(&drill), ["n0 Run 1", "n0 Evict 1", "n1 Run 2", "n0 Release 2"], "{crash:?}");
        let pod = &drill.state.pods[&pod_id(0)];
        assert_eq!((home(&drill), pod.standing.state), (Some(node_name(1)), PodState::Running));
        assert_eq!(pod.spec.as_ref().unwrap().addresses, address);
        assert!(pod.kept.is_empty(), "{:?}", pod.kept);
        // The CPUs that it had are everybody's again.
        let pools: Vec<String> = drill
            .state
            .nodes
            .values()
            .map(|node| node.pools[&"default".parse().unwrap()].cpus.to_string())
            .collect();
        assert_eq!(pools[0], "1-7");
        assert_ne!(pools[1], "1-7");
        drill.writes
    });
}

#[test]
fn what_cannot_be_taken_along_is_not_lost_unasked() {
    let mut drill = running(well, Crash::Never, DiskPolicy::Reuse);
    drill.act(|tx| {
        let denied = tx.migrate(&pod_id(0), wish(None)).unwrap_err().to_string();
        assert!(denied.contains("reuse their system disks") && denied.contains("--leave-data"), "{denied}");
    });
    migrate(&mut drill, Some(LeftBehind::Kept));
    finish(&mut drill);
    assert_eq!(*phase(&drill), Phase::Done);
    assert_eq!(drill.state.pods[&pod_id(0)].kept.keys().collect::<Vec<_>>(), [&node_name(0)]);
    // What is kept goes with the identity, and the identity with it.
    let wish =
        Evict { grace_ms: None, disposition: berth_model::EvictDisposition::Release, reason: String::new() };
    drill.act(|tx| tx.evict(&pod_id(0), &wish).unwrap());
    drill.settle();
    assert!(drill.state.pods.is_empty(), "{:?}", drill.state.pods);

    let mut drill = running(well, Crash::Never, DiskPolicy::Reuse);
    migrate(&mut drill, Some(LeftBehind::Discarded));
    finish(&mut drill);
    assert!(drill.state.pods[&pod_id(0)].kept.is_empty());
}

#[test]
fn a_target_that_cannot_prepare_leaves_the_pod_alone() {
    at_every_write(|crash| {
        let mut drill = running(cut_off, crash, DiskPolicy::Rebuild);
        migrate(&mut drill, None);
        finish(&mut drill);
        let Phase::Failed { why } = phase(&drill) else { panic!("{:?}", phase(&drill)) };
        assert!(why.contains("no registry"), "{why}");
        assert_eq!(verbs(&drill), ["n0 Run 1"]);
        assert!(drill.state.pods[&pod_id(0)].message.contains("no registry"));
        assert_eq!(
            drill.state.nodes[&node_name(1)].pools[&"default".parse().unwrap()].cpus.to_string(),
            "1-7"
        );
        drill.writes
    });
}

#[test]
fn a_target_that_cannot_run_it_gives_it_back_with_its_disks() {
    at_every_write(|crash| {
        let mut drill = running(barren, crash, DiskPolicy::Rebuild);
        migrate(&mut drill, None);
        finish(&mut drill);
        let Phase::Failed { why } = phase(&drill) else { panic!("{:?}", phase(&drill)) };
        assert!(why.contains("runs on the source again: RunSandbox: it broke"), "{why}");
        assert_eq!(verbs(&drill), ["n0 Run 1", "n0 Evict 1", "n1 Run 2", "n0 Run 3"], "{crash:?}");
        let (_, last) = drill.done.last().unwrap();
        assert!(matches!(last.verb, PodVerb::Run { disk: Disk::Kept { incarnation: Incarnation(1) }, .. }));
        assert_eq!(
            (home(&drill), drill.state.pods[&pod_id(0)].standing.state),
            (Some(node_name(0)), PodState::Running)
        );
        drill.writes
    });
}

pub(super) fn silence(drill: &mut Drill, number: usize) {
    drill.nodes.get_mut(&node_name(number)).unwrap().silent = true;
    drill.wait_ms(settings().lease_ms + 1);
}

pub(super) fn return_from_the_dead(drill: &mut Drill, number: usize) {
    drill.nodes.get_mut(&node_name(number)).unwrap().silent = false;
    drill.connect(&node_name(number));
}

#[test]
fn a_silent_source_is_waited_for() {
    let mut drill = running(well, Crash::Never, DiskPolicy::Rebuild);
    silence(&mut drill, 0);
    migrate(&mut drill, None);
    drill.settle();
    assert_eq!(*phase(&drill), Phase::Stopping);
    let pod = &drill.state.pods[&pod_id(0)];
    assert!(
        pod.message.contains("the source is silent") && pod.message.contains("confirm-dead"),
        "{}",
        pod.message
    );
    assert_eq!(verbs(&drill), ["n0 Run 1"]);
    return_from_the_dead(&mut drill, 0);
    finish(&mut drill);
    assert_eq!(*phase(&drill), Phase::Done);
    assert_eq!(verbs(&drill)[1..], ["n0 Evict 1", "n1 Run 2", "n0 Release 2"]);
}

#[test]
fn a_source_confirmed_dead_is_not_waited_for_and_gives_up_what_it_still_runs() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, DiskPolicy::Rebuild);
        silence(&mut drill, 0);
        migrate(&mut drill, None);
        drill.settle();
        drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
        drill.settle();
        assert_eq!((phase(&drill), home(&drill)), (&Phase::Done, Some(node_name(1))), "{crash:?}");
        assert_eq!(
            drill.state.nodes[&node_name(0)].state(crate::clock::Moment { wall_ms: 0, mono_ms: 0 }),
            NodeState::Dead
        );
        // It rebooted offline and has started its pod by its charter. Nothing new goes there before that is gone.
        drill.expect_twins(true);
        return_from_the_dead(&mut drill, 0);
        assert_eq!(drill.state.nodes[&node_name(0)].fenced.len(), 1, "{crash:?}");
        drill.act(|tx| {
            let pinned =
                berth_model::PodRequest { node: Some(node_name(0)), ..request(1, 0, DiskPolicy::Rebuild) };
            let denied = tx.submit(pinned, 0).unwrap_err().to_string();
            assert!(denied.contains("still being evicted"), "{denied}");
        });
        drill.settle();
        drill.expect_twins(false);
        finish(&mut drill);
        assert!(drill.state.nodes[&node_name(0)].fenced.is_empty(), "{crash:?}");
        let (node, evict) = drill.done.last().unwrap();
        assert_eq!((node, evict.incarnation), (&node_name(0), Incarnation(1)), "{crash:?}");
        assert!(matches!(evict.verb, PodVerb::Evict { grace_ms: 0, .. }));
        let pod = &drill.state.pods[&pod_id(0)];
        assert_eq!((home(&drill), pod.standing.state), (Some(node_name(1)), PodState::Running), "{crash:?}");
        assert!(pod.kept.is_empty(), "{crash:?}: {:?}", pod.kept);
        drill.writes
    });
}

#[test]
fn a_source_that_comes_back_before_the_target_gives_the_pod_up_first() {
    at_every_write(|crash| {
        let mut drill = running(well, crash, DiskPolicy::Rebuild);
        migrate(&mut drill, None);
        silence(&mut drill, 0);
        silence(&mut drill, 1);
        drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
        assert_eq!(*phase(&drill), Phase::Preparing, "{crash:?}");
        return_from_the_dead(&mut drill, 0);
        return_from_the_dead(&mut drill, 1);
        finish(&mut drill);
        assert_eq!((phase(&drill), home(&drill)), (&Phase::Done, Some(node_name(1))), "{crash:?}");
        assert_eq!(verbs(&drill), ["n0 Run 1", "n0 Evict 1", "n1 Run 2", "n0 Release 2"], "{crash:?}");
        drill.writes
    });
}

#[test]
fn the_pods_of_a_dead_node_can_be_placed_anew_and_its_word_counts_no_more() {
    let mut drill = running(well, Crash::Never, DiskPolicy::Reuse);
    let confirm = |drill: &mut Drill, expected: &str| {
        drill.act(|tx| {
            let denied = tx.confirm_dead(&node_name(0), "").unwrap_err().to_string();
            assert!(denied.contains(expected), "{denied}");
        });
    };
    confirm(&mut drill, "answers, so it is not dead");
    silence(&mut drill, 0);
    drill.act(|tx| tx.confirm_dead(&node_name(0), "no power").unwrap());
    let pod = &drill.state.pods[&pod_id(0)];
    assert_eq!((pod.standing.state, pod.standing.presence), (PodState::Evicted, Presence::Gone));
    assert_eq!(pod.message, "node n0 was confirmed dead: no power");
    // Its disks are there: it does not come up without them unasked.
    drill.act(|tx| {
        let denied = tx.submit(request(0, 1, DiskPolicy::Reuse), 0).unwrap_err().to_string();
        assert!(denied.contains("its disks are kept on node n0"), "{denied}");
        tx.submit(request(0, 1, DiskPolicy::Rebuild), 0).unwrap();
    });
    drill.settle();
    assert_eq!(home(&drill), Some(node_name(1)));
    // An identity can be given up all the same; what comes back of it is released.
    let wish =
        Evict { grace_ms: None, disposition: berth_model::EvictDisposition::Release, reason: String::new() };
    drill.act(|tx| tx.evict(&pod_id(0), &wish).unwrap());
    drill.settle();
    assert!(drill.state.pods.is_empty(), "{:?}", drill.state.pods);
    return_from_the_dead(&mut drill, 0);
    drill.settle();
    let evictions = drill.done.iter().filter(|(node, order)| {
        *node == node_name(0)
            && matches!(
                order.verb,
                PodVerb::Evict { disposition: berth_model::EvictDisposition::Release, .. }
            )
    });
    assert_eq!(evictions.count(), 1, "{:?}", verbs(&drill));
    assert!(drill.nodes[&node_name(0)].pods.is_empty());
}

#[test]
fn nobody_else_orders_a_pod_that_is_between_two_nodes() {
    let mut drill = running(well, Crash::Never, DiskPolicy::Rebuild);
    migrate(&mut drill, None);
    drill.act(|tx| {
        let evict =
            Evict { grace_ms: None, disposition: berth_model::EvictDisposition::Keep, reason: String::new() };
        let restart = Restart { disk: None, grace_ms: None, reason: String::new() };
        let id = pod_id(0);
        for denied in [
            tx.evict(&id, &evict).unwrap_err(),
            tx.stop(&id, None, "").unwrap_err(),
            tx.restart(&id, &restart).unwrap_err(),
            tx.release(&id, "").unwrap_err(),
            tx.migrate(&id, wish(None)).unwrap_err(),
        ] {
            assert!(denied.to_string().contains("is being migrated from n0 to n1 (Preparing)"), "{denied}");
        }
    });
    drill.act(|tx| tx.abort_migration(&pod_id(0)).unwrap());
    finish(&mut drill);
    assert_eq!((verbs(&drill), home(&drill)), (vec!["n0 Run 1".to_owned()], Some(node_name(0))));
}
