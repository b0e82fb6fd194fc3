//! Random lives of a pod: no live container is ended without an order, no kept disk is lost, and every life settles.
//!
//! `BERTH_LONG=1` makes it a million lives instead of a hundred thousand.

mod world;

use berth_model::{Failure, PodVerb, RunState};
use berth_plan::{
    Cover, DiskState, Liveness, Observed, ObservedContainer, PodLimits, PodRecord, Step, TaskState, Wait,
    next_step,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeSet;
use std::num::NonZero;
use world::{Next, Op, Spoiled, World};

fn op() -> impl Strategy<Value = Op> {
    let spoiled = prop_oneof![
        8 => Just(Spoiled::Not),
        1 => Just(Spoiled::OldTerm),
        1 => Just(Spoiled::OldIncarnation),
        1 => Just(Spoiled::OldSeq),
    ];
    prop_oneof![
        6 => (0u8..15, spoiled).prop_map(|(verb, spoiled)| Op::Order { verb, spoiled }),
        1 => Just(Op::Redeliver),
        2 => (0u32..90_000).prop_map(Op::Pass),
        3 => (any::<u8>(), 0i32..2).prop_map(|(which, code)| Op::Die { which, code }),
        2 => Just(Op::Reboot),
        1 => (0u8..6).prop_map(Op::Shutdown),
        1 => any::<bool>().prop_map(Op::Obstacle),
        1 => Just(Op::PauseEnds),
        2 => (1u8..4).prop_map(Op::Blind),
        1 => any::<u8>().prop_map(Op::Vanish),
        3 => any::<bool>().prop_map(|after| Op::Fail { after }),
        1 => Just(Op::Refused),
        3 => (0u8..3).prop_map(Op::Crash),
        1 => Just(Op::Drift),
        1 => Just(Op::Unlimited),
        8 => (1u8..30).prop_map(Op::Work),
    ]
}

/// A life begins with a pod that runs, or is about to.
fn life() -> impl Strategy<Value = (u8, Vec<Op>)> {
    let first = Op::Order { verb: 0, spoiled: Spoiled::Not };
    (any::<u8>(), prop::collection::vec(op(), 1..24)).prop_map(move |(seed, mut ops)| {
        ops.insert(0, first.clone());
        (seed, ops)
    })
}

fn live(next: Next, checked: bool, seed: u8, ops: &[Op]) -> Result<(), String> {
    let mut world = World::new(next, checked, seed);
    ops.iter().try_for_each(|op| world.apply(op))?;
    world.settle()
}

fn lives() -> u32 {
    match std::env::var_os("BERTH_LONG") {
        Some(_) => 1_000_000,
        None => 100_000,
    }
}

fn runner(cases: u32, max_shrink_iters: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() })
}

#[test]
fn every_life_is_without_a_kill_and_without_a_loss_and_settles() {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let each = lives().div_ceil(u32::try_from(threads).unwrap());
    let judge = || {
        let judged = runner(each, 20_000)
            .run(&life(), |(seed, ops)| live(next_step, true, seed, &ops).map_err(TestCaseError::fail));
        judged.map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| {
        let judges: Vec<_> = (0..threads).map(|_| scope.spawn(judge)).collect();
        for judge in judges {
            judge.join().unwrap().unwrap_or_else(|error| panic!("{error}"));
        }
    });
}

/// Lives a life at whose end its main container ends by itself, the live one of this index, and is not started again.
fn ends_for_good(seed: u8, ops: &[Op], which: u8) {
    let mut world = World::new(next_step, true, seed);
    let last = [Op::Die { which, code: 1 }, Op::Obstacle(false)];
    for op in ops.iter().chain(&last) {
        world.apply(op).expect("the life goes on");
    }
    for _ in 0..40 {
        let step = world.step().expect("the plan is without fault");
        let starts =
            matches!(&step, Some(Step::StartContainer { container, .. }) if container.as_str() == "web");
        assert!(!starts, "{seed} {ops:?}: {step:?}");
    }
}

/// Neither a Start of what runs already, nor a Restart that failed before it got to it, is leave to start it again once it
/// has ended: not even by the successor that the Restart has made already.
#[test]
fn what_runs_when_an_order_has_ended_ends_for_good() {
    let order = |verb| Op::Order { verb, spoiled: Spoiled::Not };
    // By these seeds nothing but what serves is started again.
    ends_for_good(219, &[order(0), Op::Work(30), order(2), Op::Work(2)], 0);
    let restart = |work| [order(0), Op::Work(30), order(7), Op::Work(work), Op::Obstacle(true), Op::Work(1)];
    // Refused before it has done anything; with a successor for all that run; and once what serves has been stopped.
    ends_for_good(49, &restart(0), 1);
    ends_for_good(49, &restart(2), 1);
    ends_for_good(49, &restart(3), 0);
}

/// The judge must find fault with a plan that is broken on purpose, and for this reason: what else comes of it counts for
/// nothing. The checker is off, so that only the judge can.
fn is_caught(broken: Next, expected: &str) {
    // The first finding ends it, so many cost nothing.
    let judged = runner(500_000, 0).run(&life(), |(seed, ops)| match live(broken, false, seed, &ops) {
        Err(said) if said.contains(expected) => Err(TestCaseError::fail(said)),
        Err(_) | Ok(()) => Ok(()),
    });
    assert!(judged.is_err(), "a broken plan was not caught for {expected:?}");
}

#[test]
fn taking_the_unknown_for_dead_is_caught() {
    is_caught(
        |record, observed| {
            let mut blind = observed.clone();
            blind.containers.iter_mut().for_each(|container| {
                if container.liveness == Liveness::Unknown {
                    container.liveness = Liveness::Dead;
                }
            });
            next_step(record, &blind)
        },
        "live",
    );
}

#[test]
fn bringing_a_stopped_pod_back_is_caught() {
    is_caught(
        |record, observed| {
            let mut record: PodRecord = record.clone();
            if let Some(charter) = &mut record.charter {
                charter.run_state = RunState::Running;
            }
            next_step(&record, observed)
        },
        "not meant to run",
    );
}

#[test]
fn removing_the_old_container_before_its_disk_is_adopted_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::AdoptSystemDisk { from_id: Some(id), .. } => {
                Step::RemoveContainer { id, cover: Cover::Charter }
            }
            step => step,
        },
        "was lost",
    );
}

#[test]
fn removing_the_old_sandbox_first_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::RunSandbox { attempt } => match observed.sandboxes.first() {
                Some(old) => Step::RemoveSandbox { id: old.id.clone(), cover: Cover::Charter },
                None => Step::RunSandbox { attempt },
            },
            step => step,
        },
        "was lost",
    );
}

#[test]
fn evicting_without_taking_the_kept_disk_off_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::DetachSystemDisk { from_id, .. } => match &record.open {
                Some(open) => Step::RemoveContainer { id: from_id, cover: Cover::Order(open.id.clone()) },
                None => Step::Settled,
            },
            step => step,
        },
        "was lost",
    );
}

#[test]
fn releasing_data_disks_that_are_to_be_kept_is_caught() {
    is_caught(
        |record, observed| {
            let here = observed.disks.iter().filter(|(_, state)| **state != DiskState::Absent);
            let data: BTreeSet<_> = here.map(|(name, _)| name.clone()).collect();
            match next_step(record, observed) {
                Step::EndGrant { order } if !data.is_empty() => {
                    Step::ReleaseDisks { keys: Vec::new(), data, order }
                }
                step => step,
            }
        },
        "was lost",
    );
}

#[test]
fn starting_without_a_data_disk_is_caught() {
    is_caught(
        |record, observed| {
            let mut blind = observed.clone();
            if record.charter.as_ref().is_some_and(|charter| charter.leaving.is_none()) {
                blind.disks.values_mut().for_each(|state| *state = DiskState::Present);
            }
            next_step(record, &blind)
        },
        "without data disk",
    );
}

#[test]
fn leaving_data_disks_behind_is_caught() {
    is_caught(
        |record, observed| {
            let mut blind = observed.clone();
            if record.charter.as_ref().is_none_or(|charter| charter.leaving.is_some()) {
                blind.disks.retain(|name, _| name.as_str() == "tmp");
            }
            next_step(record, &blind)
        },
        "a data disk is left",
    );
}

#[test]
fn releasing_scratch_of_a_pod_that_stays_is_caught() {
    is_caught(
        |record, observed| match (next_step(record, observed), &record.open) {
            (Step::Settled, Some(open)) if matches!(open.verb, PodVerb::Stop { .. }) => {
                let tmp = observed.disks.iter().find(|(name, _)| name.as_str() == "tmp");
                match tmp.filter(|(_, state)| **state != DiskState::Absent) {
                    Some((tmp, _)) => {
                        Step::ReleaseScratch { disks: BTreeSet::from([tmp.clone()]), order: open.id.clone() }
                    }
                    None => Step::Settled,
                }
            }
            (step, _) => step,
        },
        "its pod stays",
    );
}

#[test]
fn releasing_what_is_kept_as_scratch_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::ReleaseScratch { order, .. } => {
                Step::ReleaseScratch { disks: observed.disks.keys().cloned().collect(), order }
            }
            step => step,
        },
        "was lost as scratch",
    );
}

#[test]
fn leaving_scratch_behind_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::ReleaseScratch { order, .. } => Step::EndGrant { order },
            step => step,
        },
        "scratch is left",
    );
}

#[test]
fn starting_without_adopting_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::AdoptSystemDisk { container, to_id, .. } => Step::StartContainer { container, id: to_id },
            step => step,
        },
        "without its disk",
    );
}

#[test]
fn replacing_a_sandbox_that_lives_is_caught() {
    is_caught(
        |record, observed| match (next_step(record, observed), observed.sandboxes.first()) {
            (Step::Settled, Some(sandbox)) if record.open.is_none() && record.charter.is_some() => {
                Step::StopSandbox { id: sandbox.id.clone(), cover: Cover::Charter }
            }
            (step, _) => step,
        },
        "without an order",
    );
}

#[test]
fn never_settling_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::Settled if record.charter.is_some() => Step::EnsureSlice,
            step => step,
        },
        "does not settle",
    );
}

#[test]
fn waiting_for_nothing_is_caught() {
    fn broken(record: &PodRecord, observed: &Observed) -> Step {
        match next_step(record, observed) {
            Step::CreateContainer { .. } => Step::Wait(Wait { until_ms: None, why: "nothing".to_owned() }),
            step => step,
        }
    }
    is_caught(broken, "waits for ever");
}

#[test]
fn starting_beside_the_container_that_is_replaced_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::StopContainer { id, grace_ms, cover } => {
                let old = observed.containers.iter().find(|container| container.id == id);
                let heir = |container: &&ObservedContainer| {
                    container.state == TaskState::Created && old.is_some_and(|old| old.name == container.name)
                };
                match observed.containers.iter().find(heir) {
                    Some(container) => {
                        Step::StartContainer { container: container.name.clone(), id: container.id.clone() }
                    }
                    None => Step::StopContainer { id, grace_ms, cover },
                }
            }
            step => step,
        },
        "live",
    );
}

#[test]
fn upgrading_a_sibling_along_is_caught() {
    is_caught(
        |record, observed| match (next_step(record, observed), &record.open) {
            (Step::Wait(wait), Some(open)) if wait.why.contains("count as ready") => {
                let side = observed.containers.iter().find(|container| container.name.as_str() == "side");
                match side.filter(|side| side.liveness == Liveness::Live) {
                    Some(side) => Step::StopContainer {
                        id: side.id.clone(),
                        grace_ms: 0,
                        cover: Cover::Order(open.id.clone()),
                    },
                    None => Step::Wait(wait),
                }
            }
            (step, _) => step,
        },
        "without an order",
    );
}

#[test]
fn calling_an_upgrade_done_before_it_is_ready_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::Refuse { why: Failure::NotReady { .. } } => Step::Settled,
            step => step,
        },
        "a broken upgrade was called done",
    );
}

/// Starts web where it is created and nothing else speaks against it, whatever the plan says to wait for.
fn start_web_instead(record: &PodRecord, observed: &Observed, step: Step) -> Step {
    let named = || observed.containers.iter().filter(|container| container.name.as_str() == "web");
    if named().any(|container| container.liveness != Liveness::Dead) {
        return step;
    }
    let has_its_disk = |container: &ObservedContainer| {
        let own = record.disk(&container.name);
        own.is_none_or(|own| container.disk_key.as_deref() == Some(own))
    };
    match named().find(|container| container.state == TaskState::Created && has_its_disk(container)) {
        Some(web) => Step::StartContainer { container: web.name.clone(), id: web.id.clone() },
        None => step,
    }
}

#[test]
fn not_waiting_for_an_init_container_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::Wait(wait) if wait.why.contains("has not ended") => {
                start_web_instead(record, observed, Step::Wait(wait))
            }
            step => step,
        },
        "before prepare allowed it",
    );
}

#[test]
fn starting_before_a_sidecar_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::StartContainer { container, id } if container.as_str() == "side" => {
                start_web_instead(record, observed, Step::StartContainer { container, id })
            }
            step => step,
        },
        "before side allowed it",
    );
}

#[test]
fn preparing_again_only_in_a_new_sandbox_is_caught() {
    is_caught(
        |record, observed| {
            let mut record = record.clone();
            let prepare = record.containers.get_mut(&"prepare".parse().unwrap());
            if let Some(prepare) = prepare {
                prepare.ordered = berth_model::Attempt(0);
            }
            next_step(&record, observed)
        },
        "before prepare allowed it",
    );
}

#[test]
fn stopping_a_sidecar_before_what_it_serves_is_caught() {
    is_caught(
        |record, observed| match (next_step(record, observed), record.open.as_ref().map(|open| &open.verb)) {
            (Step::StopContainer { id, grace_ms, cover }, Some(PodVerb::Stop { .. })) => {
                let side = |seen: &&ObservedContainer| {
                    seen.name.as_str() == "side" && seen.liveness == Liveness::Live
                };
                let side = observed.containers.iter().find(side).map(|seen| seen.id.clone());
                Step::StopContainer { id: side.unwrap_or(id), grace_ms, cover }
            }
            (step, _) => step,
        },
        "before what it serves",
    );
}

#[test]
fn recovering_what_waits_for_a_word_is_caught() {
    is_caught(
        |record, observed| {
            let mut record: PodRecord = record.clone();
            if let Some(charter) = &mut record.charter {
                charter.held = false;
            }
            next_step(&record, observed)
        },
        "waits for the control plane's word",
    );
}

#[test]
fn stopping_for_a_shutdown_that_is_not_is_caught() {
    is_caught(
        |record, observed| match next_step(record, observed) {
            Step::Settled if record.open.is_none() => {
                let live = observed.containers.iter().find(|seen| seen.liveness == Liveness::Live);
                live.map_or(Step::Settled, |live| Step::StopContainer {
                    id: live.id.clone(),
                    grace_ms: 0,
                    cover: Cover::HostShutdown,
                })
            }
            step => step,
        },
        "nobody announced",
    );
}

#[test]
fn ignoring_that_the_host_has_changed_is_caught() {
    is_caught(
        |record, observed| next_step(record, &Observed { obstacle: None, ..observed.clone() }),
        "cannot honour",
    );
}

#[test]
fn forgetting_what_an_abandoned_resize_has_written_is_caught() {
    is_caught(
        |record, observed| {
            let abandoned =
                record.charter.as_ref().is_some_and(|charter| charter.abandoned != PodLimits::default());
            match next_step(record, observed) {
                Step::UpdateResources { container: None, .. } if abandoned => Step::Settled,
                step => step,
            }
        },
        "nobody orders any more",
    );
}
