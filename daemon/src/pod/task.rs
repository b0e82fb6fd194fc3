//! The loop of one pod's task. It ends only when nothing of the pod is left to look after, or the daemon drains.

use super::{Handle, Pods, effect};
use crate::ledger::{LedgerError, Look, Moment, Standing};
use crate::network;
use crate::reports::{Report, Sight};
use crate::runtime::{Runtime, RuntimeError, UNSAID};
use berth_model::{
    ContainerName, ContainerPhase, ContainerRole, ContainerSpec, ContainerStatus, Failure, PodId, PodPhase,
    PodStatus, ProbeAnswer, Seq,
};
use berth_plan::{Effect, Liveness, Observed, PodRecord, Shutdown, Step, check, is_ordered, next_step};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

/// Steps without a rest. The longest way, a replaced pod of 64 containers, has fewer; more would be a loop.
const MAX_STEPS: usize = 1_000;

/// How often a pod's task looks, and tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A settled pod is looked at this often: what overwrote a control is mended within this time.
    pub look: Duration,
    /// After a failed effect the next try waits this long, then twice as long …
    pub retry: Duration,
    /// … and at most this long.
    pub retry_cap: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(30),
            retry: Duration::from_millis(500),
            retry_cap: Duration::from_secs(30),
        }
    }
}

/// What a round came to.
enum Rest {
    /// Look again at the next periodic look, or when woken.
    Usual,
    /// Look again after this time at the latest.
    For(Duration),
    /// Something did not work, and why if it was an effect: look again soon, later each time.
    Retry(Option<String>),
}

/// What a round came to.
struct Round {
    rest: Rest,
    /// At which kind of step it rests; none where nothing could be seen.
    at: Option<Discriminant<Step>>,
}

/// Whether the round goes on.
enum Turn {
    Again,
    Rest(Rest),
}

/// Runs the task of `pod`. The daemon's drain waits for `_alive` to be dropped.
pub(super) async fn run<R: Runtime>(
    pods: Arc<Pods<R>>,
    pod: PodId,
    handle: Arc<Handle>,
    _alive: mpsc::Sender<()>,
) {
    let mut failures: u32 = 0;
    let mut failed_at = None;
    let mut trouble = None;
    loop {
        let Round { rest, at } = round(&pods, &pod, &handle, trouble.as_deref()).await;
        failures = count(failures, &rest, at == failed_at);
        failed_at = at;
        handle.rounds.send_modify(|rounds| *rounds += 1);
        if pods.is_draining() || pods.retire(&pod) {
            return;
        }
        tokio::select! {
            // Cancel-safe: a permit that is not taken stays.
            () = handle.woken.notified() => {}
            // Cancel-safe: a timer holds nothing.
            () = tokio::time::sleep(pause(pods.pace, &pod, &rest, failures)) => {}
        }
        trouble = match rest {
            Rest::Usual | Rest::For(_) => None,
            Rest::Retry(why) => why,
        };
    }
}

/// How often in a row the pod has failed. Whoever fails at another step got further; who cleared up and fails at the same
/// again did not.
fn count(failures: u32, rest: &Rest, at_the_same: bool) -> u32 {
    match rest {
        Rest::Usual | Rest::For(_) => 0,
        Rest::Retry(_) if at_the_same => failures.saturating_add(1),
        Rest::Retry(_) => 1,
    }
}

/// How long to rest. Pods that rest for the same time do not wake at the same moment.
fn pause(pace: Pace, pod: &PodId, rest: &Rest, failures: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (pod, failures).hash(&mut hasher);
    let percent = u32::try_from(hasher.finish() % 21).unwrap_or(0) + 90;
    match rest {
        Rest::For(time) => (*time).min(pace.look),
        Rest::Usual => pace.look * percent / 100,
        Rest::Retry(_) => {
            let doubled = pace.retry.saturating_mul(1 << failures.saturating_sub(1).min(10));
            doubled.min(pace.retry_cap) * percent / 100
        }
    }
}

/// Step by step until there is nothing to do now. `trouble` is what went wrong before it.
async fn round<R: Runtime>(
    pods: &Arc<Pods<R>>,
    pod: &PodId,
    handle: &Handle,
    mut trouble: Option<&str>,
) -> Round {
    let mut rewritten = Rewritten::default();
    for _ in 0..MAX_STEPS {
        let ended = |rest| Round { rest, at: None };
        if pods.is_draining() {
            return ended(Rest::Usual);
        }
        let Some(record) = pods.ledger.pod(pod) else {
            return ended(Rest::Usual);
        };
        let observed = match look(pods, &record, rewritten.of(&record)).await {
            Ok(observed) => observed,
            Err(error) => return ended(unseen(pods, &record, &error)),
        };
        let step = told(next_step(&record, &observed), trouble);
        let look = Arc::new(Look { record, observed, step });
        if !pods.is_draining() {
            pods.health.tend(pods, &look);
        }
        report(pods, &look, trouble).await;
        match turn(pods, &look).await {
            Turn::Again => {
                // What went wrong before is overcome.
                trouble = None;
                rewritten.note(&look.step);
            }
            Turn::Rest(rest) => {
                // All that is left to do while the host shuts down is to wait for its end.
                handle.quiet.send_replace(look.observed.shutdown.is_some() && !is_effect(&look.step));
                return Round { rest, at: Some(discriminant(&look.step)) };
            }
        }
    }
    error!(%pod, steps = MAX_STEPS, "{pod}: does not settle within {MAX_STEPS} steps");
    Round { rest: Rest::Retry(None), at: None }
}

/// Time that has run out says what stood in the way, and what came of the last try.
fn told(mut step: Step, trouble: Option<&str>) -> Step {
    if let (Step::Refuse { why: Failure::DeadlineExceeded { last, .. } }, Some(trouble)) =
        (&mut step, trouble)
    {
        *last = format!("{last}: {trouble}");
    }
    step
}

fn is_effect(step: &Step) -> bool {
    !matches!(step, Step::Settled | Step::Wait(_) | Step::Refuse { .. })
}

/// Controls are written once for each order of a round, and once more where it is taken back; what still differs then is
/// reported.
#[derive(Default)]
struct Rewritten {
    ids: BTreeSet<String>,
    /// The newest order, whether it is open, and whether it is taken back.
    under: Option<(Seq, Option<bool>)>,
}

impl Rewritten {
    /// What was written since the record began to say what it says.
    fn of(&mut self, record: &PodRecord) -> &BTreeSet<String> {
        let under = (record.seq, record.open.as_ref().map(|open| open.failure.is_some()));
        if self.under.replace(under) != Some(under) {
            self.ids.clear();
        }
        &self.ids
    }

    fn note(&mut self, step: &Step) {
        if let Step::UpdateResources { id, .. } = step {
            self.ids.insert(id.clone());
        }
    }
}

async fn look<R: Runtime>(
    pods: &Pods<R>,
    record: &PodRecord,
    rewritten: &BTreeSet<String>,
) -> Result<Observed, RuntimeError> {
    let ordered = pods.ordered(record);
    // The semaphore is never closed.
    let _place = pods.places.looks.acquire().await;
    let mut observed = pods.runtime.observe(record, ordered.as_ref()).await?;
    observed.rewritten.clone_from(rewritten);
    observed.obstacle = obstacle(pods, record, &observed);
    let announced = pods.shutdown.borrow().clone();
    observed.shutdown = announced.map(|announced| Shutdown {
        left_ms: u64::try_from(announced.left().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(observed)
}

/// What the host lacks for the charter. It is asked only where something might be started: what runs goes on.
fn obstacle<R: Runtime>(pods: &Pods<R>, record: &PodRecord, observed: &Observed) -> Option<String> {
    let charter = record.charter.as_ref().filter(|charter| charter.leaving.is_none())?;
    let runs = |name: &ContainerName| {
        let mut live = observed.containers.iter().filter(|seen| seen.liveness == Liveness::Live);
        live.any(|seen| seen.name == *name && is_ordered(record, seen))
    };
    let previous = charter.previous.as_ref();
    let replaced = |name: &ContainerName| previous.is_some_and(|old| old.replaced.contains_key(name));
    // What has prepared for the others does not run, and is not started unless it is replaced.
    let meant = |spec: &&ContainerSpec| spec.role != ContainerRole::Init || replaced(&spec.name);
    if charter.spec.containers.iter().filter(meant).all(|spec| runs(&spec.name)) {
        return None;
    }
    let pool = pods.pool_of(&charter.spec);
    berth_plan::obstacle(&(pods.sight)()?, &charter.spec, pool.as_ref())
}

/// What cannot be seen is reported as unknown, with what was seen last.
fn unseen<R: Runtime>(pods: &Pods<R>, record: &PodRecord, error: &RuntimeError) -> Rest {
    warn!(pod = %record.pod, "{}: cannot look at the pod: {error}", record.pod);
    let last = pods.reports.status(&record.pod).unwrap_or_else(|| PodStatus {
        pod: record.pod.clone(),
        incarnation: record.incarnation,
        generation: record.generation,
        phase: PodPhase::Unknown,
        message: String::new(),
        sandbox_id: None,
        addresses: record.charter.as_ref().map_or_else(Vec::new, |charter| charter.spec.addresses.clone()),
        containers: Vec::new(),
        applied: None,
        open_order: None,
    });
    let status = PodStatus {
        phase: PodPhase::Unknown,
        message: error.to_string(),
        open_order: record.open.as_ref().map(|open| open.id.clone()),
        ..last
    };
    pods.reports.put(&record.pod, Report::Status(Box::new(status)), Sight::Passing, String::new());
    Rest::Retry(None)
}

/// Reports the pod, with what went wrong last as long as there is something left to do.
async fn report<R: Runtime>(pods: &Pods<R>, look: &Look, trouble: Option<&str>) {
    let record = &look.record;
    let report = match &record.charter {
        None => Report::Gone(record.pod.clone(), record.incarnation),
        Some(_) => {
            if let Some(status) = in_passing(pods, look).filter(|_| trouble.is_none()) {
                let report = Report::Status(Box::new(status));
                pods.reports.put(&record.pod, report, Sight::Passing, look.step.describe());
                return;
            }
            let ordered = pods.ordered(record);
            let mut status = pods.runtime.status(record, ordered.as_ref(), &look.observed).await;
            for container in &mut status.containers {
                let said = |id: &String| pods.health.said(&record.pod, id);
                container.readiness = container.id.as_ref().and_then(said);
            }
            for word in unready(&status) {
                status.add_word(&word);
            }
            if let Some(trouble) = trouble.filter(|_| is_effect(&look.step)) {
                status.add_word(trouble);
            }
            Report::Status(Box::new(status))
        }
    };
    pods.reports.put(&record.pod, report, Sight::Look, look.step.describe());
}

/// On the way from step to step only what the pod does now is told; all of it is looked at again where it rests. None where
/// the step may take long, or nothing is known yet of the pod as it is ordered.
fn in_passing<R: Runtime>(pods: &Pods<R>, look: &Look) -> Option<PodStatus> {
    let record = &look.record;
    let passes = matches!(
        look.step,
        Step::EnsureDisks
            | Step::EnsureSlice
            | Step::RunSandbox { .. }
            | Step::CreateContainer { .. }
            | Step::AdoptSystemDisk { .. }
            | Step::DetachSystemDisk { .. }
            | Step::AmendSpec { .. }
            | Step::StartContainer { .. }
            | Step::RemoveSlice { .. }
            | Step::ReleaseDisks { .. }
            | Step::ReleaseScratch { .. }
            | Step::EndGrant { .. }
    );
    let last = pods.reports.status(&record.pod).filter(|_| passes)?;
    // An end is told by a look of its own, before something else takes the container's place.
    let ended = |seen: &ContainerStatus| {
        let ran = match &seen.phase {
            ContainerPhase::Running { .. } | ContainerPhase::Unknown => true,
            // Told ahead of any look, which alone knows why.
            ContainerPhase::Exited { reason, .. } => reason == UNSAID,
            ContainerPhase::Absent | ContainerPhase::Created => false,
        };
        let mut now = look.observed.containers.iter().filter(|now| seen.id.as_ref() == Some(&now.id));
        ran && now.any(|now| now.liveness == Liveness::Dead)
    };
    if last.containers.iter().any(ended) {
        return None;
    }
    let is_of_this = last.phase != PodPhase::Unknown
        && last.incarnation == record.incarnation
        && last.generation == record.generation;
    let open_order = record.open.as_ref().map(|open| open.id.clone());
    let (phase, message) = berth_plan::phase(record, &look.observed);
    is_of_this.then_some(PodStatus { phase, message, open_order, ..last })
}

/// What is said of containers that are not ready.
fn unready(status: &PodStatus) -> Vec<String> {
    let said = status.containers.iter().filter_map(|container| match &container.readiness {
        Some(ProbeAnswer::NotReady(why)) => Some(format!("container {} is not ready: {why}", container.name)),
        Some(ProbeAnswer::Ready) | None => None,
    });
    said.collect()
}

async fn turn<R: Runtime>(pods: &Arc<Pods<R>>, look: &Arc<Look>) -> Turn {
    match &look.step {
        Step::Settled | Step::Refuse { .. } => settle(pods, look).await,
        Step::Wait(wait) => {
            network::reconcile(&pods.ledger, &look.record.pod, &look.observed).await;
            let until = wait.until_ms.map(|until| until.saturating_sub(look.observed.now_ms));
            Turn::Rest(until.map_or(Rest::Usual, |until| Rest::For(Duration::from_millis(until))))
        }
        Step::EnsureImage { .. }
        | Step::EnsureDisks
        | Step::EnsureSlice
        | Step::RunSandbox { .. }
        | Step::CreateContainer { .. }
        | Step::AdoptSystemDisk { .. }
        | Step::DetachSystemDisk { .. }
        | Step::AmendSpec { .. }
        | Step::StartContainer { .. }
        | Step::UpdateResources { .. }
        | Step::AwaitReady { .. }
        | Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::StopSandbox { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveSlice { .. }
        | Step::ReleaseDisks { .. }
        | Step::ReleaseScratch { .. }
        | Step::EndGrant { .. } => advance(pods, look).await,
    }
}

/// Writes the end of an open order; without one there is nothing to do now.
async fn settle<R: Runtime>(pods: &Pods<R>, look: &Arc<Look>) -> Turn {
    if let Step::Refuse { why } = &look.step {
        warn!(pod = %look.record.pod, "{}: the order cannot be carried out: {why}", look.record.pod);
    }
    match pods.ledger.conclude(look, Moment::now()).await {
        Ok(true) => Turn::Again,
        Ok(false) => {
            network::reconcile(&pods.ledger, &look.record.pod, &look.observed).await;
            Turn::Rest(Rest::Usual)
        }
        Err(error) => unwritten(&look.record.pod, &error),
    }
}

fn unwritten(pod: &PodId, error: &LedgerError) -> Turn {
    error!(%pod, "{pod}: the ledger cannot be written: {error}");
    Turn::Rest(Rest::Retry(Some(format!("the ledger cannot be written: {error}"))))
}

/// Does one step, with the ledger written before and after it.
async fn advance<R: Runtime>(pods: &Arc<Pods<R>>, look: &Arc<Look>) -> Turn {
    let (pod, step) = (&look.record.pod, &look.step);
    if let Err(violation) = check(&look.record, &look.observed, step) {
        error!(%pod, "{pod}: a step that must not be done was planned: {}: {violation}", step.describe());
        return Turn::Rest(Rest::Retry(Some(violation.to_string())));
    }
    match pods.ledger.before(look).await {
        Ok(Standing::Current) => {}
        Ok(Standing::Passed) => return Turn::Again,
        Err(error) => return unwritten(pod, &error),
    }
    debug!(%pod, step = step.describe(), "begin");
    let effect = match effect::perform(pods, look).await {
        Ok(effect) => effect,
        Err(error) => return failed(pods, look, &error).await,
    };
    if let (Effect::NotReady(why), Step::AwaitReady { container, probe, .. }) = (&effect, step) {
        debug!(%pod, %container, why, "not ready yet");
        return Turn::Rest(Rest::For(Duration::from_millis(probe.period_ms)));
    }
    info!(%pod, "{pod}: {}", step.describe());
    match pods.ledger.after(look, effect).await {
        Ok(Standing::Current | Standing::Passed) => Turn::Again,
        Err(error) => unwritten(pod, &error),
    }
}

/// What may work later is tried again; what cannot work ends a Run or Start, visibly.
async fn failed<R: Runtime>(pods: &Pods<R>, look: &Arc<Look>, error: &RuntimeError) -> Turn {
    let (pod, step) = (&look.record.pod, look.step.describe());
    warn!(%pod, "{pod}: failed to {step}: {error}");
    let Some(why) = lasting(&look.step, error) else {
        return Turn::Rest(Rest::Retry(Some(error.to_string())));
    };
    match pods.ledger.give_up(look, why, Moment::now()).await {
        Ok(true) => Turn::Again,
        Ok(false) => Turn::Rest(Rest::Retry(Some(error.to_string()))),
        Err(error) => unwritten(&look.record.pod, &error),
    }
}

fn lasting(step: &Step, error: &RuntimeError) -> Option<Failure> {
    match error {
        RuntimeError::Transient { .. } => None,
        RuntimeError::WrongDigest { image, found, ordered } => Some(Failure::WrongDigest {
            image: image.clone(),
            found: found.clone(),
            ordered: ordered.clone(),
        }),
        RuntimeError::Permanent { why, .. } => Some(match step {
            Step::EnsureImage { image, .. } => Failure::Image { image: image.to_string(), why: why.clone() },
            other => Failure::Effect { step: other.describe(), why: why.clone() },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_at_the_same_step_again_takes_longer_each_time() {
        let check = |failures, rest: Rest, at_the_same, expected| {
            assert_eq!(count(failures, &rest, at_the_same), expected);
        };
        check(0, Rest::Retry(None), false, 1);
        check(1, Rest::Retry(None), true, 2);
        check(7, Rest::Retry(None), false, 1);
        check(7, Rest::Usual, true, 0);
        check(7, Rest::For(Duration::ZERO), true, 0);

        let pod = PodId::new("shop", "web").unwrap();
        let pauses = [1, 2, 3, 20].map(|failures| pause(Pace::default(), &pod, &Rest::Retry(None), failures));
        assert!(pauses.is_sorted() && pauses[0] < Duration::from_secs(1), "{pauses:?}");
        assert!(pauses[3] >= Duration::from_secs(27) && pauses[3] <= Duration::from_secs(33), "{pauses:?}");
    }
}
