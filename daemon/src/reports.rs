//! What is to be told upstream, latest state only: a slow link makes nothing grow, it only skips what is outdated. What has
//! happened from one state to the next goes to the [`Journal`].

use crate::clock::epoch_ms;
use crate::events::{Clock, Journal, Past};
use crate::runtime::Exit;
use berth_model::{Incarnation, PodId, PodStatus};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Pods as they were last seen, and which of them upstream has not been told.
#[derive(Debug)]
pub struct Reports {
    inner: Mutex<Inner>,
    changed: Notify,
    journal: Arc<Journal>,
    /// When the daemon began, milliseconds after the epoch.
    began_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    pods: BTreeMap<PodId, Entry>,
}

#[derive(Debug)]
struct Entry {
    report: Report,
    next_step: String,
    told: bool,
    past: Past,
}

/// What is said of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is here, like this.
    Status(Box<PodStatus>),
    /// It is not here any more.
    Gone(PodId, Incarnation),
}

/// What a report goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// A look at all of the pod.
    Look,
    /// What is known already, said between two looks.
    Passing,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            journal: Arc::default(),
            began_ms: epoch_ms(),
        }
    }
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a pod is, and what is done next, for people who look at the node.
    pub fn put(&self, pod: &PodId, mut report: Report, sight: Sight, next_step: String) {
        let mut inner = self.lock();
        let before = inner.pods.remove(pod);
        let (mut past, before) = match before {
            Some(Entry { report, told, past, .. }) => (past, Some((report, told))),
            None => (Past::default(), None),
        };
        let mut happened = Vec::new();
        if let Report::Status(now) = &mut report {
            past.correct(now);
            if sight == Sight::Look {
                happened = past.look(now, Clock { now_ms: epoch_ms(), began_ms: self.began_ms });
            }
        }
        let told = before.is_some_and(|(before, told)| told && before == report);
        inner.pods.insert(pod.clone(), Entry { report, next_step, told, past });
        drop(inner);
        if !told {
            self.changed.notify_one();
        }
        self.journal.note(happened);
    }

    /// A container has just ended: the next look finds out all that came of it, but upstream need not wait for that.
    pub fn exited(&self, pod: &PodId, exit: &Exit) {
        let mut inner = self.lock();
        let Some(Entry { report: Report::Status(status), told, past, .. }) = inner.pods.get_mut(pod) else {
            return;
        };
        if past.end(status, exit) {
            *told = false;
            self.changed.notify_one();
        }
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
    use crate::testing;
    use crate::testing::pod;
    use berth_model::{Attempt, ContainerPhase, ContainerStatus, PodPhase};

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
        testing::status(vec![container])
    }

    fn put(reports: &Reports, status: PodStatus, sight: Sight) {
        reports.put(&pod(), Report::Status(Box::new(status)), sight, String::new());
    }

    #[test]
    fn what_is_so_still_is_not_told_again() {
        let reports = Reports::default();
        put(&reports, running(), Sight::Look);
        assert_eq!(reports.take().len(), 1);
        put(&reports, running(), Sight::Look);
        assert_eq!(reports.take(), []);
        put(&reports, PodStatus { phase: PodPhase::Degraded, ..running() }, Sight::Passing);
        put(&reports, running(), Sight::Look);
        assert_eq!(reports.take().len(), 1, "what it was in between was never told, but it may have been");
    }

    #[test]
    fn an_end_is_told_before_it_is_looked_at_and_happens_once() {
        let reports = Reports::default();
        put(&reports, running(), Sight::Look);
        reports.take();
        let exit = |id: &str| Exit { id: id.to_owned(), code: 137, finished_at_ns: 5_000_000 };
        reports.exited(&pod(), &exit("another"));
        assert_eq!(reports.take(), []);
        reports.exited(&pod(), &exit("c1"));
        let all = reports.take();
        let [Report::Status(told)] = all.as_slice() else { panic!("{all:?}") };
        assert!(matches!(told.containers[0].phase, ContainerPhase::Exited { code: 137, .. }));
        // What has ended is not seen to run by a look that was under way, nor in passing.
        put(&reports, running(), Sight::Passing);
        assert_eq!(reports.take(), []);
        put(&reports, running(), Sight::Look);
        assert_eq!(reports.take(), []);
        let happened = reports.journal().after(0, 9).events;
        let said: Vec<_> = happened.iter().map(|event| event.incident.code()).collect();
        assert_eq!(said, ["ContainerExited"]);
    }

    #[test]
    fn what_is_gone_is_told_even_after_a_new_connection() {
        let reports = Reports::default();
        let gone = Report::Gone(pod(), Incarnation(1));
        reports.put(&pod(), gone.clone(), Sight::Look, String::new());
        assert_eq!(reports.take_all(), []);
        assert_eq!(reports.take(), [gone]);
        assert_eq!(reports.take(), []);
    }
}
