//! What is to be told upstream, latest state only: a slow link makes nothing grow, it only skips what is outdated. What has
//! happened from one state to the next goes to the [`Journal`].

use crate::clock::epoch_ms;
use crate::events::{Journal, compare};
use crate::runtime::Exit;
use berth_model::{ContainerPhase, ContainerStatus, Incarnation, PodId, PodStatus};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Pods as they were last seen, and which of them upstream has not been told.
#[derive(Debug, Default)]
pub struct Reports {
    inner: Mutex<Inner>,
    changed: Notify,
    journal: Arc<Journal>,
}

#[derive(Debug, Default)]
struct Inner {
    pods: BTreeMap<PodId, Entry>,
}

#[derive(Debug)]
struct Entry {
    report: Report,
    /// How the pod was when it was looked at last, where the report has been ahead of that.
    looked: Option<Box<PodStatus>>,
    next_step: String,
    told: bool,
}

/// What is said of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is here, like this.
    Status(Box<PodStatus>),
    /// It is not here any more.
    Gone(PodId, Incarnation),
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a pod is, and what is done next, for people who look at the node.
    pub fn put(&self, pod: &PodId, report: Report, next_step: String) {
        let mut inner = self.lock();
        if let Some(entry) = inner.pods.get_mut(pod).filter(|entry| entry.report == report) {
            entry.next_step = next_step;
            return;
        }
        let before = inner.pods.remove(pod);
        // Said in passing, between two looks: what has been ahead still is.
        let (looked, before) = match before {
            Some(entry) if entry.looked.is_some() && entry.has_containers_of(&report) => (entry.looked, None),
            Some(entry) => (None, entry.looked()),
            None => (None, None),
        };
        let happened = match (before, &report) {
            (Some(before), Report::Status(now)) => compare(&before, now, epoch_ms()),
            (None, _) | (_, Report::Gone(..)) => Vec::new(),
        };
        inner.pods.insert(pod.clone(), Entry { report, looked, next_step, told: false });
        drop(inner);
        self.journal.note(happened);
        self.changed.notify_one();
    }

    /// A container has just ended: the next look finds out all that came of it, but upstream need not wait for that.
    pub fn exited(&self, pod: &PodId, exit: &Exit) {
        let mut inner = self.lock();
        let Some(entry) = inner.pods.get_mut(pod) else { return };
        let Report::Status(status) = &mut entry.report else { return };
        let looked = status.clone();
        let mut containers = status.containers.iter_mut();
        let ran = |one: &&mut ContainerStatus| matches!(one.phase, ContainerPhase::Running { .. });
        let ended = containers.find(|one| one.id.as_ref() == Some(&exit.id)).filter(ran);
        let Some(container) = ended else { return };
        container.phase = ContainerPhase::Exited {
            code: exit.code,
            finished_at_ns: exit.finished_at_ns,
            reason: "Unknown".to_owned(),
        };
        entry.looked.get_or_insert(looked);
        entry.told = false;
        drop(inner);
        self.changed.notify_one();
    }

    /// What has happened.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Waits until there may be something to tell.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What upstream has not been told; it counts as told from now on. Pods that are gone are forgotten by that.
    pub fn take(&self) -> Vec<Report> {
        let mut inner = self.lock();
        let mut reports = Vec::new();
        inner.pods.retain(|_, entry| {
            if !entry.told {
                reports.push(entry.report.clone());
            }
            entry.told = true;
            matches!(entry.report, Report::Status(_))
        });
        reports
    }

    /// Every pod that is here, for a new connection; they count as told from now on. Pods that are gone do not: that
    /// they are missing from the list says nothing of where they went.
    pub fn take_all(&self) -> Vec<PodStatus> {
        let mut inner = self.lock();
        let here = inner.pods.values_mut().filter_map(|entry| {
            let status = entry.report.status()?;
            entry.told = true;
            Some(status)
        });
        here.collect()
    }

    /// Has everything told again.
    pub fn repeat(&self) {
        self.lock().pods.values_mut().for_each(|entry| entry.told = false);
        self.changed.notify_one();
    }

    /// A pod's last status.
    pub fn status(&self, pod: &PodId) -> Option<PodStatus> {
        self.lock().pods.get(pod)?.report.status()
    }

    /// What a pod's task does next, as of its last look.
    pub fn next_step(&self, pod: &PodId) -> Option<String> {
        self.lock().pods.get(pod).map(|entry| entry.next_step.clone())
    }

    /// Every pod that is here.
    pub fn statuses(&self) -> Vec<PodStatus> {
        self.lock().pods.values().filter_map(|entry| entry.report.status()).collect()
    }
}

impl Entry {
    fn has_containers_of(&self, report: &Report) -> bool {
        match (&self.report, report) {
            (Report::Status(one), Report::Status(other)) => one.containers == other.containers,
            (Report::Status(_) | Report::Gone(..), _) => false,
        }
    }

    fn looked(self) -> Option<Box<PodStatus>> {
        match (self.looked, self.report) {
            (Some(looked), _) | (None, Report::Status(looked)) => Some(looked),
            (None, Report::Gone(..)) => None,
        }
    }
}

impl Report {
    fn status(&self) -> Option<PodStatus> {
        match self {
            Self::Status(status) => Some(status.as_ref().clone()),
            Self::Gone(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use berth_model::{Attempt, Generation, PodPhase};

    fn running() -> PodStatus {
        let container = ContainerStatus {
            name: "web".parse().unwrap(),
            id: Some("c1".to_owned()),
            attempt: Attempt(1),
            image_digest: None,
            phase: ContainerPhase::Running { started_at_ns: 1_000_000, pid: 7 },
            applied: None,
            readiness: None,
        };
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

    fn exited(reason: &str) -> ContainerPhase {
        ContainerPhase::Exited { code: 137, finished_at_ns: 5_000_000, reason: reason.to_owned() }
    }

    #[test]
    fn an_end_is_told_before_it_is_looked_at_and_happens_once() {
        let reports = Reports::default();
        reports.put(&pod(), Report::Status(Box::new(running())), String::new());
        reports.take();
        let exit = |id: &str| Exit { id: id.to_owned(), code: 137, finished_at_ns: 5_000_000 };
        reports.exited(&pod(), &exit("another"));
        assert_eq!(reports.take(), []);
        reports.exited(&pod(), &exit("c1"));
        let all = reports.take();
        let [Report::Status(told)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(told.containers[0].phase, exited("Unknown"));
        // Said in passing, before the next look.
        let passing = PodStatus { phase: PodPhase::Degraded, ..told.as_ref().clone() };
        reports.put(&pod(), Report::Status(Box::new(passing)), String::new());
        // That it was killed for want of memory is found by the look; it is one event, with its reason.
        assert_eq!(reports.journal().after(0, 9).events, []);
        let mut now = running();
        now.containers[0].phase = exited("OOMKilled");
        reports.put(&pod(), Report::Status(Box::new(now)), String::new());
        let said: Vec<_> =
            reports.journal().after(0, 9).events.iter().map(|event| event.incident.to_string()).collect();
        assert_eq!(said, ["attempt 1 has ended with code 137 (OOMKilled)"]);
    }

    #[test]
    fn what_is_gone_is_told_even_after_a_new_connection() {
        let reports = Reports::default();
        let gone = Report::Gone(pod(), Incarnation(1));
        reports.put(&pod(), gone.clone(), String::new());
        assert_eq!(reports.take_all(), []);
        assert_eq!(reports.take(), [gone]);
        assert_eq!(reports.take(), []);
    }
}
