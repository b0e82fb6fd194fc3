//! Readiness probes, asked over and over while their containers run. What they say is reported, and nothing else comes
//! of it.

use super::Pods;
use super::effect::first_address;
use crate::ledger::Look;
use crate::runtime::{Runtime, RuntimeError};
use berth_model::{PodId, Probe, ProbeAnswer};
use berth_plan::{Liveness, TaskState};
use std::collections::BTreeMap;
use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;

/// So many tries in a row have to fail before a container that was ready is not (Kubernetes: failureThreshold).
const FAILURES: u32 = 3;

/// Who is asked, and what was said last.
#[derive(Debug, Default)]
pub(super) struct Health {
    pods: Mutex<BTreeMap<PodId, Asked>>,
}

/// The containers of one pod that are asked, by the runtime's id.
type Asked = BTreeMap<String, Asking>;

#[derive(Debug)]
struct Asking {
    question: Question,
    said: Arc<Mutex<Option<ProbeAnswer>>>,
    task: AbortHandle,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    id: String,
    address: IpAddr,
    probe: Probe,
}

impl Health {
    /// Has the running containers of a pod asked that have a probe, and no others.
    pub(super) fn tend<R: Runtime>(&self, pods: &Arc<Pods<R>>, look: &Look) {
        let pod = &look.record.pod;
        let wanted = questions(look);
        let mut all = self.lock();
        if wanted.is_empty() {
            all.remove(pod);
            return;
        }
        let asked = all.entry(pod.clone()).or_default();
        asked.retain(|_, asking| wanted.contains(&asking.question));
        for question in wanted {
            let id = question.id.clone();
            asked.entry(id).or_insert_with(|| {
                let said = Arc::new(Mutex::new(None));
                let task = ask_on(Arc::downgrade(pods), pod.clone(), question.clone(), said.clone());
                Asking { question, said, task: tokio::spawn(task).abort_handle() }
            });
        }
    }

    /// What a container said last; none as long as it has not been asked.
    pub(super) fn said(&self, pod: &PodId, id: &str) -> Option<ProbeAnswer> {
        read(&self.lock().get(pod)?.get(id)?.said)
    }

    /// Asks nobody any more.
    pub(super) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodId, Asked>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(said: &Mutex<Option<ProbeAnswer>>) -> Option<ProbeAnswer> {
    said.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The newest attempt of each container that has a probe, if it runs.
fn questions(look: &Look) -> Vec<Question> {
    let specs = look.record.charter.iter().flat_map(|charter| &charter.spec.containers);
    let asked = specs.filter_map(|spec| {
        let probe = spec.readiness.clone()?;
        let ours = look.observed.containers.iter().filter(|seen| {
            seen.name == spec.name
                && seen.incarnation == look.record.incarnation
                && seen.liveness == Liveness::Live
                && seen.state == TaskState::Running
        });
        let newest = ours.max_by_key(|seen| seen.attempt)?;
        Some(Question { id: newest.id.clone(), address: first_address(&look.record), probe })
    });
    asked.collect()
}

async fn ask_on<R: Runtime>(
    pods: Weak<Pods<R>>,
    pod: PodId,
    question: Question,
    said: Arc<Mutex<Option<ProbeAnswer>>>,
) {
    let mut failures = 0;
    loop {
        let Some(pods) = pods.upgrade() else { return };
        let answer = ask(&pods, &question).await;
        let known = read(&said);
        let next = weigh(known.clone(), &mut failures, answer);
        // Other words for the same are told with the next look.
        let flips = known.as_ref().map(discriminant) != next.as_ref().map(discriminant);
        *said.lock().unwrap_or_else(PoisonError::into_inner) = next;
        if flips {
            pods.wake(&pod);
        }
        drop(pods);
        tokio::time::sleep(Duration::from_millis(question.probe.period_ms)).await;
    }
}

async fn ask<R: Runtime>(pods: &Pods<R>, question: &Question) -> Result<ProbeAnswer, RuntimeError> {
    // The semaphore is never closed.
    let _place = pods.places.probes.acquire().await;
    let asked = pods.runtime.probe(&question.id, question.address, &question.probe).await;
    asked.inspect_err(|error| tracing::debug!(id = question.id, %error, "a readiness probe was not asked"))
}

/// What counts after one more answer: a success at once, a failure at once only if nothing was known before, and nothing
/// new when the runtime could not be asked.
fn weigh(
    known: Option<ProbeAnswer>,
    failures: &mut u32,
    answer: Result<ProbeAnswer, RuntimeError>,
) -> Option<ProbeAnswer> {
    match answer {
        Err(_) => known,
        Ok(ProbeAnswer::Ready) => {
            *failures = 0;
            Some(ProbeAnswer::Ready)
        }
        Ok(failure @ ProbeAnswer::NotReady(_)) => {
            *failures = failures.saturating_add(1);
            match known {
                None => Some(failure),
                Some(ProbeAnswer::Ready) if *failures >= FAILURES => Some(failure),
                // What else is wrong with it by now is told now and then: the words may differ with every try.
                Some(ProbeAnswer::NotReady(_)) if failures.is_multiple_of(FAILURES) => Some(failure),
                Some(known) => Some(known),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is ready, `!` a runtime that is away, anything else is not ready, in that word; what counts after each answer.
    fn check(answers: &str, expected: &str) {
        let (mut known, mut failures) = (None, 0);
        let mut counts = String::new();
        for answer in answers.chars() {
            let answer = match answer {
                '+' => Ok(ProbeAnswer::Ready),
                '!' => Err(RuntimeError::Transient { what: "ask".to_owned(), why: "away".to_owned() }),
                word => Ok(ProbeAnswer::NotReady(word.to_string())),
            };
            known = weigh(known, &mut failures, answer);
            match &known {
                Some(ProbeAnswer::Ready) => counts.push('+'),
                Some(ProbeAnswer::NotReady(word)) => counts.push_str(word),
                None => counts.push('?'),
            }
        }
        assert_eq!(counts, expected, "{answers}");
    }

    #[test]
    fn one_success_counts_and_three_failures_in_a_row_and_so_do_other_words() {
        check("+", "+");
        check("-", "-");
        check("--+", "--+");
        check("+--+", "++++");
        check("+---", "+++-");
        check("+--+--+---+", "+++++++++-+");
        check("-======", "--=====");
        check("+---=-=-=-=", "+++---===--");
    }

    #[test]
    fn a_runtime_that_is_away_says_nothing() {
        check("!", "?");
        check("!!!-", "???-");
        check("+!!!!", "+++++");
        check("+-!-!-", "+++++-");
        check("-!!!!+", "-----+");
    }
}
