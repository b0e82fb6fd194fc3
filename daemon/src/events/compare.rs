//! What has happened to a pod between two looks at it, without I/O.

use super::{Event, Incident};
use berth_model::{
    Applied, ContainerName, ContainerPhase, ContainerStatus, Control, ControlValue, PodStatus, ProbeAnswer,
};

/// What happened from one look to the next, in the order of the spec. A pod's first look tells nothing: how things are is
/// in its status.
pub(crate) fn compare(before: &PodStatus, now: &PodStatus, now_ms: u64) -> Vec<Event> {
    if before.pod != now.pod || before.incarnation != now.incarnation {
        return Vec::new();
    }
    let mut found = Vec::new();
    let of_pod = drifts(before.applied.as_ref(), now.applied.as_ref());
    found.extend(of_pod.map(|incident| (now_ms, None, incident)));
    for container in &now.containers {
        let elder = before.containers.iter().find(|elder| elder.name == container.name);
        let Some(elder) = elder else { continue };
        let of_it = of_container(elder, container, now_ms).into_iter();
        found.extend(of_it.map(|(at_ms, incident)| (at_ms, Some(container.name.clone()), incident)));
    }
    let event = |(at_ms, container, incident): (u64, Option<ContainerName>, Incident)| Event {
        at_ms,
        pod: Some(now.pod.clone()),
        container,
        incident,
    };
    found.into_iter().map(event).collect()
}

fn of_container(before: &ContainerStatus, now: &ContainerStatus, now_ms: u64) -> Vec<(u64, Incident)> {
    let mut found: Vec<_> = turn(before, now, now_ms).into_iter().collect();
    found.extend(readiness(before, now).map(|incident| (now_ms, incident)));
    if before.id == now.id {
        let drifts = drifts(before.applied.as_ref(), now.applied.as_ref());
        found.extend(drifts.map(|incident| (now_ms, incident)));
    }
    found
}

/// Its first process has started, or ended.
fn turn(before: &ContainerStatus, now: &ContainerStatus, now_ms: u64) -> Option<(u64, Incident)> {
    let attempt = now.attempt;
    let is_news = before.id != now.id || before.phase != now.phase;
    match &now.phase {
        ContainerPhase::Running { started_at_ns, .. } => {
            // One that could not be seen for a while has not started anew.
            let known = before.id == now.id && matches!(before.phase, ContainerPhase::Unknown);
            (is_news && !known).then(|| (at_ms(*started_at_ns, now_ms), Incident::Started { attempt }))
        }
        ContainerPhase::Exited { code, finished_at_ns, reason } => {
            let known = before.id == now.id && matches!(before.phase, ContainerPhase::Exited { .. });
            let exited = || Incident::Exited { attempt, code: *code, reason: reason.clone() };
            (!known).then(|| (at_ms(*finished_at_ns, now_ms), exited()))
        }
        ContainerPhase::Absent | ContainerPhase::Created | ContainerPhase::Unknown => None,
    }
}

/// The runtime's time; now where it does not say.
fn at_ms(runtime_ns: u64, now_ms: u64) -> u64 {
    match runtime_ns {
        0 => now_ms,
        ns => ns / 1_000_000,
    }
}

/// A container that has not been ready yet is on its way, which is no news.
fn readiness(before: &ContainerStatus, now: &ContainerStatus) -> Option<Incident> {
    let was_ready = before.id == now.id && before.readiness == Some(ProbeAnswer::Ready);
    match now.readiness.as_ref()? {
        ProbeAnswer::Ready => (!was_ready).then_some(Incident::Ready),
        ProbeAnswer::NotReady(why) => was_ready.then(|| Incident::NotReady { why: why.clone() }),
    }
}

/// Controls that held what is ordered still, and do not any more.
fn drifts<'a>(before: Option<&'a Applied>, now: Option<&'a Applied>) -> impl Iterator<Item = Incident> + 'a {
    let both = before.zip(now).filter(|(before, now)| before.cgroup == now.cgroup);
    both.into_iter().flat_map(|(before, now)| {
        let held = |control: &Control| {
            let same = |elder: &&Control| elder.file == control.file && elder.ordered == control.ordered;
            before.controls.iter().find(same).is_some_and(Control::holds)
        };
        now.controls.iter().filter(move |control| !control.holds() && held(control)).filter_map(drift)
    })
}

/// A control that cannot be read is one of a cgroup that has gone.
fn drift(control: &Control) -> Option<Incident> {
    let ControlValue::Text(found) = &control.read else { return None };
    Some(Incident::ControlDrift {
        file: control.file.clone(),
        ordered: control.ordered.clone(),
        found: found.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use berth_model::{Attempt, Generation, Incarnation, PodPhase};

    const NOW_MS: u64 = 9_000;

    fn container(attempt: u32, phase: ContainerPhase, readiness: Option<ProbeAnswer>) -> ContainerStatus {
        ContainerStatus {
            name: "web".parse().unwrap(),
            id: Some(format!("web-{attempt}")),
            attempt: Attempt(attempt),
            image_digest: None,
            phase,
            applied: None,
            readiness,
        }
    }

    fn running() -> ContainerPhase {
        ContainerPhase::Running { started_at_ns: 5_000_000_000, pid: 7 }
    }

    fn exited(code: i32) -> ContainerPhase {
        ContainerPhase::Exited { code, finished_at_ns: 6_000_000_000, reason: "Error".to_owned() }
    }

    fn status(container: ContainerStatus) -> PodStatus {
        PodStatus {
            pod: pod(),
            incarnation: Incarnation(1),
            generation: Generation(1),
            phase: PodPhase::Running,
            message: String::new(),
            sandbox_id: None,
            addresses: Vec::new(),
            containers: vec![container],
            applied: None,
            open_order: None,
        }
    }

    fn check(before: ContainerStatus, now: ContainerStatus, expected: &[&str]) {
        let events = compare(&status(before), &status(now), NOW_MS);
        let said = |event: &Event| format!("{} {}: {}", event.at_ms, event.incident.code(), event.incident);
        assert_eq!(events.iter().map(said).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn starts_and_ends_are_told_once_by_the_runtimes_clock() {
        let one = |phase| container(1, phase, None);
        let started = "5000 ContainerStarted: attempt 1 has started";
        let ended = "6000 ContainerExited: attempt 1 has ended with code 3 (Error)";
        check(one(ContainerPhase::Created), one(running()), &[started]);
        check(one(running()), one(running()), &[]);
        check(one(running()), one(exited(3)), &[ended]);
        check(one(ContainerPhase::Created), one(exited(3)), &[ended]);
        check(one(exited(3)), one(exited(3)), &[]);
        let next = "5000 ContainerStarted: attempt 2 has started";
        check(one(exited(3)), container(2, running(), None), &[next]);
        check(one(running()), container(2, running(), None), &[next]);
        let at_once = "6000 ContainerExited: attempt 2 has ended with code 3 (Error)";
        check(one(exited(3)), container(2, exited(3), None), &[at_once]);
        // What cannot be seen for a while goes on.
        check(one(running()), one(ContainerPhase::Unknown), &[]);
        check(one(ContainerPhase::Unknown), one(running()), &[]);
        check(one(ContainerPhase::Unknown), one(exited(3)), &[ended]);
    }

    #[test]
    fn readiness_is_told_when_it_turns() {
        let not = || Some(ProbeAnswer::NotReady("no".to_owned()));
        let one = |answer| container(1, running(), answer);
        let ready = "9000 ContainerReady: it can do its work";
        check(one(None), one(not()), &[]);
        check(one(None), one(Some(ProbeAnswer::Ready)), &[ready]);
        check(one(not()), one(Some(ProbeAnswer::Ready)), &[ready]);
        check(one(Some(ProbeAnswer::Ready)), one(Some(ProbeAnswer::Ready)), &[]);
        let not_any_more = "9000 ContainerNotReady: it cannot do its work: no";
        check(one(Some(ProbeAnswer::Ready)), one(not()), &[not_any_more]);
        check(one(not()), one(not()), &[]);
    }

    #[test]
    fn a_control_that_somebody_else_wrote_is_told_and_a_resize_is_not() {
        let one = |ordered: &str, read: &str| {
            let control = Control {
                file: "cpu.weight".to_owned(),
                ordered: ordered.to_owned(),
                read: ControlValue::Text(read.to_owned()),
            };
            let applied = Applied { cgroup: "/berth.slice".to_owned(), controls: vec![control] };
            ContainerStatus { applied: Some(applied), ..container(1, running(), None) }
        };
        let drifted = "9000 ControlDrift: cpu.weight was written by somebody else: \"100\" was ordered, \"7\" was found";
        check(one("100", "100"), one("100", "7"), &[drifted]);
        check(one("100", "7"), one("100", "7"), &[]);
        check(one("100", "100"), one("200", "100"), &[]);
        check(one("100", "7"), one("100", "100"), &[]);
    }

    #[test]
    fn another_incarnation_is_another_pod() {
        let before = status(container(1, running(), None));
        let now = status(container(1, exited(3), None));
        let now = PodStatus { incarnation: Incarnation(2), ..now };
        assert_eq!(compare(&before, &now, NOW_MS), []);
    }
}
