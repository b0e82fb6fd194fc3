//! Rollouts, with a control plane that dies at every one of its writes.

use super::drill::{Crash, Drill};
use super::tests::{pod_id, request};
use super::*;
use crate::flow::rollout::{Member, RolloutState};
use crate::flow::{Ending, PodState, Reason};
use berth_model::{DiskPolicy, PodSpec, PodVerb, Target};
use berth_proto::v1;

const PODS: usize = 4;

fn name() -> RolloutName {
    RolloutName::new("front").unwrap()
}

fn start(max_unavailable: u32) -> StartRollout {
    let container = v1::ContainerPatch {
        name: "web".to_owned(),
        image: Some("registry.example/web:2".to_owned()),
        ..v1::ContainerPatch::default()
    };
    StartRollout {
        name: name(),
        selector: v1::PodSelector { namespace: Some("shop".to_owned()), ..v1::PodSelector::default() },
        patch: v1::PodPatch { containers: vec![container], ..v1::PodPatch::default() },
        max_unavailable,
        settle_ms: 0,
        reason: "a test".to_owned(),
    }
}

fn well(_: &NodeName, _: &Target) -> Ending {
    Ending::Done
}

fn upgrade(target: &Target) -> Option<(&PodId, &PodSpec)> {
    match target {
        Target::Pod(order) => match &order.verb {
            PodVerb::Upgrade { spec, .. } => Some((&order.pod, spec)),
            _ => None,
        },
        Target::Node(_) => None,
    }
}

/// All upgrades but the last pod's to the new image are rolled back.
fn mostly_broken(_: &NodeName, target: &Target) -> Ending {
    match upgrade(target) {
        Some((pod, _)) if *pod != pod_id(PODS - 1) => {
            Ending::RolledBack(Reason::of_step("AwaitReady", "it died"))
        }
        Some(_) | None => Ending::Done,
    }
}

fn running(fate: drill::Fate, crash: Crash) -> Drill {
    let mut drill = Drill::new(2, fate, crash);
    for number in 0..PODS {
        drill.act(|tx| tx.submit(request(number, 0, DiskPolicy::Rebuild), 0).unwrap());
    }
    drill.settle();
    drill
}

fn begin(drill: &mut Drill, max_unavailable: u32) {
    drill.act(|tx| match tx.start_rollout(start(max_unavailable)) {
        // Asked again after a crash, it is there.
        Ok(()) | Err(Denied::Exists(_)) => {}
        Err(denied) => panic!("{denied}"),
    });
}

fn members(drill: &Drill) -> Vec<Member> {
    drill.state.rollouts[&name()].plan.members.values().cloned().collect()
}

fn images(drill: &Drill) -> Vec<String> {
    drill.state.pods.values().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.to_string()).collect()
}

/// So often was each pod upgraded.
fn upgrades(drill: &Drill) -> Vec<usize> {
    let of = |id: &PodId| {
        let is = |order: &&berth_model::PodOrder| {
            order.pod == *id && matches!(order.verb, PodVerb::Upgrade { .. })
        };
        drill.done.iter().map(|(_, order)| order).filter(is).count()
    };
    drill.state.pods.keys().map(of).collect()
}

/// Runs the scenario with a crash at every write, before and after it, until there are no more.
fn at_every_write(scenario: impl Fn(Crash) -> usize) {
    let writes = scenario(Crash::Never);
    for at in 1..=writes {
        scenario(Crash::Before(at));
        scenario(Crash::After(at));
    }
}

#[test]
fn a_rollout_goes_on_after_a_crash_and_never_does_a_thing_twice() {
    at_every_write(|crash| {
        let mut drill = running(well, crash);
        begin(&mut drill, 1);
        drill.settle();
        drill.wait_ms(1);
        drill.settle();
        assert_eq!(members(&drill), vec![Member::Done; PODS], "{crash:?}");
        assert_eq!(drill.state.rollouts[&name()].plan.state, RolloutState::Done);
        assert_eq!(upgrades(&drill), vec![1; PODS], "{crash:?}");
        drill.check_disk();
        drill.writes
    });
}

#[test]
fn an_undo_puts_back_what_was_done_and_no_more() {
    at_every_write(|crash| {
        let mut drill = running(well, crash);
        begin(&mut drill, 2);
        // The first two are under way, and are turned round once they are there.
        drill.act(|tx| tx.change_rollout(&name(), ChangeRollout::Undo).unwrap());
        drill.settle();
        drill.wait_ms(1);
        drill.settle();
        assert_eq!(members(&drill), vec![Member::Undone; PODS], "{crash:?}");
        assert_eq!(images(&drill), vec!["registry.example/web:1"; PODS]);
        assert_eq!(upgrades(&drill)[2..], [0, 0]);
        drill.check_disk();
        drill.writes
    });
}

#[test]
fn a_rollout_stops_itself_and_can_be_resumed() {
    let mut drill = running(mostly_broken, Crash::Never);
    begin(&mut drill, 1);
    drill.settle();
    let rollout = &drill.state.rollouts[&name()];
    assert_eq!(rollout.plan.state, RolloutState::Paused);
    assert!(rollout.message.starts_with("2 pods were rolled back"), "{}", rollout.message);
    assert_eq!(rollout.plan.rolled_back(), 2);
    drill.act(|tx| tx.change_rollout(&name(), ChangeRollout::Resume).unwrap());
    drill.settle();
    let wire = drill.state.rollouts[&name()].to_wire(&name());
    assert_eq!((wire.state(), wire.rolled_back, wire.done), (v1::RolloutState::Done, 3, 1));
    assert_eq!(images(&drill).iter().filter(|image| image.ends_with(":2")).count(), 1);
    drill.check_disk();
}

#[test]
fn pods_that_do_not_run_are_passed_over_and_silent_nodes_waited_for() {
    let mut drill = running(well, Crash::Never);
    drill.act(|tx| tx.stop(&pod_id(0), None, "").unwrap());
    drill.settle();
    let home = drill.state.pods[&pod_id(1)].node.clone().unwrap();
    drill.nodes.get_mut(&home).unwrap().silent = true;
    drill.wait_ms(settings_lease_ms() + 1);
    begin(&mut drill, 1);
    drill.settle();
    assert!(matches!(&members(&drill)[0], Member::Skipped(why) if why == "it is stopped"));
    assert_eq!(upgrades(&drill), vec![0; PODS], "a pod that may be down is one too many");
    drill.nodes.get_mut(&home).unwrap().silent = false;
    drill.connect(&home);
    drill.wait_ms(1);
    drill.settle();
    assert_eq!(upgrades(&drill), [0, 1, 1, 1]);
    assert_eq!(drill.state.pods[&pod_id(0)].standing.state, PodState::Stopped);
}

fn settings_lease_ms() -> u64 {
    tests::settings().lease_ms
}

#[test]
fn what_somebody_else_has_changed_since_is_not_undone() {
    let mut drill = running(well, Crash::Never);
    begin(&mut drill, 9);
    drill.settle();
    drill.act(|tx| {
        let mut other = request(0, 0, DiskPolicy::Rebuild);
        other.containers[0].image = "registry.example/web:3".parse().unwrap();
        let wish = Wish::Whole(Box::new(other));
        let revise = Revise {
            how: crate::flow::InPlace::Upgrade,
            wish,
            settle_ms: 0,
            within_ms: None,
            reason: String::new(),
        };
        tx.revise(&pod_id(0), &revise).unwrap();
    });
    drill.settle();
    drill.act(|tx| tx.change_rollout(&name(), ChangeRollout::Undo).unwrap());
    drill.settle();
    assert!(matches!(&members(&drill)[0], Member::Skipped(why) if why.contains("by somebody else")));
    assert_eq!(images(&drill)[0], "registry.example/web:3");
    assert_eq!(images(&drill)[1..], vec!["registry.example/web:1"; PODS - 1]);
}

#[test]
fn what_makes_no_sense_is_refused_at_the_start() {
    let mut drill = running(well, Crash::Never);
    let mut check = |spoil: fn(&mut StartRollout), expected: &str| {
        let mut wish = start(1);
        spoil(&mut wish);
        let mut tx = Tx::begin(&mut drill.state, crate::clock::Moment { wall_ms: 1, mono_ms: 1 });
        let denied = tx.start_rollout(wish).unwrap_err().to_string();
        assert!(denied.contains(expected), "{denied}");
    };
    check(|wish| wish.max_unavailable = 0, "max_unavailable: is 0");
    check(|wish| wish.selector = v1::PodSelector::default(), "selector: is empty");
    check(|wish| wish.selector.namespace = Some("other".to_owned()), "no pod is selected");
    check(|wish| wish.patch = v1::PodPatch::default(), "patch: names nothing");
    check(|wish| wish.patch.containers[0].name = "db".to_owned(), "no container \"db\"");
    begin(&mut drill, 1);
    let mut tx = Tx::begin(&mut drill.state, crate::clock::Moment { wall_ms: 1, mono_ms: 1 });
    let wish = StartRollout { name: RolloutName::new("other").unwrap(), ..start(1) };
    let denied = tx.start_rollout(wish).unwrap_err().to_string();
    assert!(denied.contains("is in rollout front"), "{denied}");
}
