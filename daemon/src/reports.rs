//! What is to be told upstream, latest state only: a slow link makes nothing grow, it only skips what is outdated.

use berth_model::{Incarnation, PodId, PodStatus};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Pods as they were last seen, and which of them upstream has not been told.
#[derive(Debug, Default)]
pub struct Reports {
    inner: Mutex<Inner>,
    changed: Notify,
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
        inner.pods.insert(pod.clone(), Entry { report, next_step, told: false });
        drop(inner);
        self.changed.notify_one();
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
    use crate::testing::pod;

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
