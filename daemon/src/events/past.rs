//! What has happened to a pod between two looks at it, without I/O.

use super::{Event, Incident};
use crate::runtime::{Exit, UNSAID};
use berth_model::{
    Applied, Attempt, ContainerName, ContainerPhase, ContainerStatus, Control, ControlValue, PodStatus,
    ProbeAnswer,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one incarnation of a pod from before, so that each thing is news once.
///
/// The first look tells nothing: how things are is in its status. A container that could not be seen for a while goes on.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The last look.
    looked: Option<Box<PodStatus>>,
    /// Containers that have started, by the runtime's ids, and whose they are.
    started: BTreeMap<String, (ContainerName, Attempt)>,
    /// Of those, the ones of which it is known how they ended.
    over: BTreeSet<String>,
    /// Ends that the runtime has told by itself.
    ended: BTreeMap<String, Exit>,
    /// What the containers' probes said last.
    ready: BTreeMap<String, bool>,
}

/// When it is, and since when anybody looks; milliseconds after the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Now.
    pub(crate) now_ms: u64,
    /// When the daemon began.
    pub(crate) began_ms: u64,
}

impl Past {
    /// The runtime says that a container has ended: its status says so from now on. Whether it is one of the pod's that ran.
    pub(crate) fn end(&mut self, status: &mut PodStatus, exit: &Exit) -> bool {
        let is_it = |one: &&mut ContainerStatus| one.id.as_ref() == Some(&exit.id);
        let Some(container) = status.containers.iter_mut().find(is_it) else { return false };
        match container.phase {
            ContainerPhase::Running { .. } | ContainerPhase::Unknown => {
                self.ended.insert(exit.id.clone(), exit.clone());
                correct(container, exit);
                true
            }
            // Nobody has seen it run yet: the look that does finds its end here.
            ContainerPhase::Created => {
                self.ended.insert(exit.id.clone(), exit.clone());
                false
            }
            ContainerPhase::Absent | ContainerPhase::Exited { .. } => false,
        }
    }

    /// What has ended does not run, whatever a look that was under way meanwhile has seen.
    pub(crate) fn correct(&self, status: &mut PodStatus) {
        for container in &mut status.containers {
            let exit = container.id.as_ref().and_then(|id| self.ended.get(id));
            let runs = matches!(container.phase, ContainerPhase::Running { .. } | ContainerPhase::Unknown);
            if let Some(exit) = exit.filter(|_| runs) {
                correct(container, exit);
            }
        }
    }

    /// What is news by this look, in the order of the spec.
    pub(crate) fn look(&mut self, now: &PodStatus, clock: Clock) -> Vec<Event> {
        let before = self.looked.replace(Box::new(now.clone()));
        let Some(before) = before.filter(|before| before.incarnation == now.incarnation) else {
            *self = Self::beginning(now);
            return Vec::new();
        };
        let mut found = self.vanished(now, clock);
        found
            .extend(drifts(before.applied.as_ref(), now.applied.as_ref()).map(|it| (clock.now_ms, None, it)));
        for container in &now.containers {
            let elder = before.containers.iter().find(|elder| elder.name == container.name);
            let of_it = self.of_container(elder, container, clock).into_iter();
            found.extend(of_it.map(|(at_ms, it)| (at_ms, Some(container.name.clone()), it)));
        }
        self.forget_all_but(now);
        let event = |(at_ms, container, incident): Found| Event {
            at_ms,
            pod: Some(now.pod.clone()),
            container,
            incident,
        };
        found.into_iter().map(event).collect()
    }

    fn beginning(now: &PodStatus) -> Self {
        let mut past = Self { looked: Some(Box::new(now.clone())), ..Self::default() };
        for container in &now.containers {
            let Some(id) = &container.id else { continue };
            let whose = (container.name.clone(), container.attempt);
            match container.phase {
                ContainerPhase::Running { .. } | ContainerPhase::Unknown => {
                    drop(past.started.insert(id.clone(), whose));
                }
                ContainerPhase::Exited { .. } => {
                    past.started.insert(id.clone(), whose);
                    past.over.insert(id.clone());
                }
                ContainerPhase::Absent | ContainerPhase::Created => {}
            }
        }
        past
    }

    /// Containers whose place another one has taken before anybody looked at how they ended.
    fn vanished(&mut self, now: &PodStatus, clock: Clock) -> Vec<Found> {
        let is_here = |id: &String| now.containers.iter().any(|one| one.id.as_ref() == Some(id));
        let gone = self.started.iter().filter(|(id, _)| !self.over.contains(*id) && !is_here(id));
        let told = gone.filter_map(|(id, (name, attempt))| {
            let exit = self.ended.get(id)?;
            let (code, reason) = (exit.code, UNSAID.to_owned());
            let incident = Incident::Exited { attempt: *attempt, code, reason };
            Some((id.clone(), (at_ms(exit.finished_at_ns, clock.now_ms), Some(name.clone()), incident)))
        });
        let (ids, told): (Vec<_>, Vec<_>) = told.unzip();
        self.over.extend(ids);
        told
    }

    fn of_container(
        &mut self,
        elder: Option<&ContainerStatus>,
        now: &ContainerStatus,
        clock: Clock,
    ) -> Vec<(u64, Incident)> {
        let Some(id) = &now.id else { return Vec::new() };
        let mut found = Vec::new();
        found.extend(self.turn(id, now, clock));
        found.extend(self.readiness(id, now, clock).map(|incident| (clock.now_ms, incident)));
        let elder = elder.filter(|elder| elder.id == now.id).and_then(|elder| elder.applied.as_ref());
        found.extend(drifts(elder, now.applied.as_ref()).map(|incident| (clock.now_ms, incident)));
        found
    }

    /// Its first process has started, or ended.
    fn turn(&mut self, id: &str, now: &ContainerStatus, clock: Clock) -> Option<(u64, Incident)> {
        let attempt = now.attempt;
        let whose = || (now.name.clone(), attempt);
        match &now.phase {
            ContainerPhase::Running { started_at_ns, .. } => {
                let is_news = self.started.insert(id.to_owned(), whose()).is_none();
                is_news.then(|| (at_ms(*started_at_ns, clock.now_ms), Incident::Started { attempt }))
            }
            ContainerPhase::Exited { code, finished_at_ns, reason } => {
                self.started.insert(id.to_owned(), whose());
                let exited = || Incident::Exited { attempt, code: *code, reason: reason.clone() };
                let is_news = self.over.insert(id.to_owned());
                is_news.then(|| (at_ms(*finished_at_ns, clock.now_ms), exited()))
            }
            ContainerPhase::Absent | ContainerPhase::Created | ContainerPhase::Unknown => None,
        }
    }

    /// A container that has not been ready yet is on its way, which is no news; one that is older than the daemon was asked
    /// before.
    fn readiness(&mut self, id: &str, now: &ContainerStatus, clock: Clock) -> Option<Incident> {
        let answer = now.readiness.as_ref()?;
        let is_ready = *answer == ProbeAnswer::Ready;
        let was_ready = self.ready.insert(id.to_owned(), is_ready);
        let older = match now.phase {
            ContainerPhase::Running { started_at_ns, .. } => started_at_ns / 1_000_000 < clock.began_ms,
            _ => false,
        };
        match (was_ready, answer) {
            (Some(false), ProbeAnswer::Ready) => Some(Incident::Ready),
            (None, ProbeAnswer::Ready) => (!older).then_some(Incident::Ready),
            (Some(true), ProbeAnswer::NotReady(why)) => Some(Incident::NotReady { why: why.clone() }),
            (Some(true), ProbeAnswer::Ready) | (Some(false) | None, ProbeAnswer::NotReady(_)) => None,
        }
    }

    /// A container that runs may be hidden by a successor that is made already: it is forgotten once that has started.
    fn forget_all_but(&mut self, now: &PodStatus) {
        let mut here: BTreeSet<_> = now.containers.iter().filter_map(|one| one.id.clone()).collect();
        let is_followed = |name: &ContainerName, attempt: Attempt| {
            self.started.values().any(|(other, later)| other == name && *later > attempt)
        };
        let hidden = self.started.iter().filter(|(id, (name, attempt))| {
            let wanted = now.containers.iter().any(|one| one.name == *name);
            wanted && !self.over.contains(*id) && !is_followed(name, *attempt)
        });
        here.extend(hidden.map(|(id, _)| id.clone()).collect::<Vec<_>>());
        self.started.retain(|id, _| here.contains(id));
        self.over.retain(|id| here.contains(id));
        self.ended.retain(|id, _| here.contains(id));
        self.ready.retain(|id, _| here.contains(id));
    }
}

/// When, to which container, and what.
type Found = (u64, Option<ContainerName>, Incident);

/// Whatever has ended cannot do its work.
fn correct(container: &mut ContainerStatus, exit: &Exit) {
    container.phase = ContainerPhase::Exited {
        code: exit.code,
        finished_at_ns: exit.finished_at_ns,
        reason: UNSAID.to_owned(),
    };
    container.readiness = None;
}

/// The runtime's time; now where it does not say.
fn at_ms(runtime_ns: u64, now_ms: u64) -> u64 {
    match runtime_ns {
        0 => now_ms,
        ns => ns / 1_000_000,
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
    use crate::testing;
    use berth_model::Incarnation;

    /// The daemon began after what started at 5 s, and before what started at 7 s.
    const CLOCK: Clock = Clock { now_ms: 9_000, began_ms: 6_000 };

    fn container(attempt: u32, phase: ContainerPhase) -> ContainerStatus {
        ContainerStatus {
            name: "web".parse().unwrap(),
            id: Some(format!("web-{attempt}")),
            attempt: Attempt(attempt),
            image_digest: None,
            phase,
            applied: None,
            readiness: None,
        }
    }

    fn running(since_s: u64) -> ContainerPhase {
        ContainerPhase::Running { started_at_ns: since_s * 1_000_000_000, pid: 7 }
    }

    fn exited(reason: &str) -> ContainerPhase {
        ContainerPhase::Exited { code: 3, finished_at_ns: 8_000_000_000, reason: reason.to_owned() }
    }

    fn status(container: ContainerStatus) -> PodStatus {
        testing::status(vec![container])
    }

    fn say(events: &[Event]) -> Vec<String> {
        let said = |event: &Event| format!("{} {}: {}", event.at_ms, event.incident.code(), event.incident);
        events.iter().map(said).collect()
    }

    /// What is said of a row of looks, the first of which is never news.
    fn check(looks: &[ContainerStatus], expected: &[&str]) {
        let mut past = Past::default();
        let said: Vec<_> =
            looks.iter().flat_map(|look| say(&past.look(&status(look.clone()), CLOCK))).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn starts_and_ends_are_told_once_by_the_runtimes_clock() {
        let one = |phase| container(1, phase);
        let (started, ended) = (
            "7000 ContainerStarted: attempt 1 has started",
            "8000 ContainerExited: attempt 1 has ended with code 3 (Error)",
        );
        let (created, ran, over) =
            (|| one(ContainerPhase::Created), || one(running(7)), || one(exited("Error")));
        check(&[created(), ran(), ran(), over(), over()], &[started, ended]);
        check(&[created(), over()], &[ended]);
        check(&[ran(), ran()], &[]);
        check(&[over(), over()], &[]);
        let next = "7000 ContainerStarted: attempt 2 has started";
        check(&[over(), container(2, running(7))], &[next]);
        check(
            &[over(), container(2, exited("Error"))],
            &["8000 ContainerExited: attempt 2 has ended with code 3 (Error)"],
        );
        // What cannot be seen for a while goes on; what had not started before has.
        let unknown = || one(ContainerPhase::Unknown);
        check(&[ran(), unknown(), ran(), unknown(), over()], &[ended]);
        check(&[created(), unknown(), ran()], &[started]);
        // A successor that is made already hides it for a while.
        let successor = || container(2, ContainerPhase::Created);
        check(&[created(), ran(), successor(), ran(), over()], &[started, ended]);
    }

    fn exit(id: &str) -> Exit {
        Exit { id: id.to_owned(), code: 137, finished_at_ns: 8_500_000_000 }
    }

    #[test]
    fn an_end_that_is_told_by_the_runtime_is_final_and_one_event() {
        let mut past = Past::default();
        let mut seen =
            status(ContainerStatus { readiness: Some(ProbeAnswer::Ready), ..container(1, running(7)) });
        past.look(&seen, CLOCK);
        assert!(!past.end(&mut seen.clone(), &exit("another")));
        assert!(past.end(&mut seen, &exit("web-1")));
        let told = seen.containers[0].clone();
        assert!(
            matches!(told.phase, ContainerPhase::Exited { code: 137, .. }) && told.readiness.is_none(),
            "{told:?}"
        );
        assert!(!past.end(&mut seen, &exit("web-1")), "it is told once");
        // A look that was under way meanwhile.
        let mut late = status(container(1, running(7)));
        past.correct(&mut late);
        assert_eq!(late.containers[0].phase, told.phase);
        // Nor may it be news again by a look that sees it before its end was known: it had only been made.
        let mut young = Past::default();
        let mut made = status(container(1, ContainerPhase::Created));
        young.look(&made, CLOCK);
        assert!(!young.end(&mut made, &exit("web-1")));
        let mut ran = status(container(1, running(7)));
        young.correct(&mut ran);
        assert!(matches!(ran.containers[0].phase, ContainerPhase::Exited { code: 137, .. }));
        // That it was killed for want of memory is found by the next one.
        let found = status(container(1, exited("OOMKilled")));
        assert_eq!(
            say(&past.look(&found, CLOCK)),
            ["8000 ContainerExited: attempt 1 has ended with code 3 (OOMKilled)"]
        );
    }

    #[test]
    fn what_is_replaced_before_anybody_looks_has_ended_all_the_same() {
        let mut past = Past::default();
        let mut seen = status(container(1, running(7)));
        past.look(&seen, CLOCK);
        past.end(&mut seen, &exit("web-1"));
        assert_eq!(
            say(&past.look(&status(container(2, running(7))), CLOCK)),
            [
                "8500 ContainerExited: attempt 1 has ended with code 137 (Unknown)",
                "7000 ContainerStarted: attempt 2 has started"
            ]
        );
    }

    #[test]
    fn readiness_is_told_when_it_turns() {
        let since = |since_s: u64, answer: Option<bool>| {
            let answer = answer
                .map(|ready| if ready { ProbeAnswer::Ready } else { ProbeAnswer::NotReady("no".to_owned()) });
            ContainerStatus { readiness: answer, ..container(1, running(since_s)) }
        };
        let young = |answer| since(7, answer);
        let (ready, not) =
            ("9000 ContainerReady: it can do its work", "9000 ContainerNotReady: it cannot do its work: no");
        check(
            &[young(None), young(Some(false)), young(Some(true)), young(Some(true)), young(Some(false))],
            &[ready, not],
        );
        check(&[young(None), young(Some(true))], &[ready]);
        // A look without an answer is no turn.
        check(
            &[
                young(None),
                young(Some(true)),
                young(None),
                young(Some(true)),
                young(None),
                young(Some(false)),
            ],
            &[ready, not],
        );
        // What is older than the daemon has been asked before.
        let old = |answer| since(5, answer);
        check(&[old(None), old(Some(true)), old(Some(false))], &[not]);
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
            ContainerStatus { applied: Some(applied), ..container(1, running(7)) }
        };
        let drifted = "9000 ControlDrift: cpu.weight was written by somebody else: \"100\" was ordered, \"7\" was found";
        check(&[one("100", "100"), one("100", "7"), one("100", "7"), one("100", "100")], &[drifted]);
        check(&[one("100", "100"), one("200", "100"), one("200", "200")], &[]);
    }

    #[test]
    fn another_incarnation_is_another_pod() {
        let mut past = Past::default();
        past.look(&status(container(1, running(7))), CLOCK);
        let now = PodStatus { incarnation: Incarnation(2), ..status(container(1, exited("Error"))) };
        assert_eq!(past.look(&now, CLOCK), []);
        assert_eq!(past.look(&now, CLOCK), []);
    }
}
