//! Whether and when a container that has died is started again.

use crate::{ContainerRecord, ObservedContainer, Step, TaskState, Wait};
use berth_model::{ContainerRole, PodSpec, RestartPolicy};

/// The first restart waits this long after the exit; each further one twice as long (kubelet: 10 s).
const BACK_OFF_MS: u64 = 10_000;
/// And never longer than this (kubelet: 5 min).
const BACK_OFF_CAP_MS: u64 = 300_000;

/// Until it is looked again at an end of which the runtime has not said yet how it was.
const UNTOLD_LOOK_MS: u64 = 5_000;

/// What counts as the exit code of what ended while nobody looked, as containerd has it.
pub(super) const UNSEEN_EXIT_CODE: i32 = 255;

/// What becomes of a dead container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It is started now.
    Now,
    /// It is started later.
    Later(Wait),
    /// It stays as it is.
    No,
}

/// The restart policy of a pod's container: what serves goes on for as long as it is needed, and what prepares has to get
/// there, unless nothing is ever started again.
pub(super) fn policy(pod: &PodSpec, role: ContainerRole) -> RestartPolicy {
    match (role, pod.restart) {
        (ContainerRole::Main, policy) => policy,
        (ContainerRole::Sidecar, _) => RestartPolicy::Always,
        (ContainerRole::Init, RestartPolicy::Never) => RestartPolicy::Never,
        (ContainerRole::Init, RestartPolicy::Always | RestartPolicy::OnFailure) => RestartPolicy::OnFailure,
    }
}

/// Decides for a container that is proven dead.
pub(super) fn again(
    policy: RestartPolicy,
    known: &ContainerRecord,
    container: &ObservedContainer,
    now_ms: u64,
) -> Again {
    // Dead since before an order last said that it must run, or by our own hand.
    if container.attempt <= known.ordered || container.attempt <= known.goes_on {
        return Again::Now;
    }
    let (wanted, how, ago_ms) = match &container.state {
        TaskState::Exited { code, ago_ms } => {
            (wants(policy, *code), format!("exited with code {code}"), *ago_ms)
        }
        // It has not ended by itself, since it has not begun.
        TaskState::StartFailed { ago_ms } => (true, "could not be started".to_owned(), *ago_ms),
        // It did not end by itself, but with its host.
        TaskState::Interrupted { .. } if container.attempt <= known.before_boot => return Again::Now,
        TaskState::Interrupted { ago_ms } => {
            (wants(policy, UNSEEN_EXIT_CODE), "ended unseen".to_owned(), *ago_ms)
        }
        // The runtime has not said yet how it ended. Where that decides, it is waited for.
        TaskState::Unknown if policy != RestartPolicy::Always => return Again::Later(untold(now_ms)),
        TaskState::Created | TaskState::Running | TaskState::Unknown => return Again::Now,
    };
    if !wanted {
        return Again::No;
    }
    let delay_ms = back_off_ms(container.attempt.0.saturating_sub(known.ordered.0));
    match delay_ms.checked_sub(ago_ms).filter(|left| *left > 0) {
        Some(left_ms) => Again::Later(Wait {
            until_ms: Some(now_ms.saturating_add(left_ms)),
            why: format!("{how}, restart after {delay_ms} ms"),
        }),
        None => Again::Now,
    }
}

fn wants(policy: RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// Until the runtime says how something has ended.
pub(super) fn untold(now_ms: u64) -> Wait {
    let until_ms = Some(now_ms.saturating_add(UNTOLD_LOOK_MS));
    Wait { until_ms, why: "it has ended, and the runtime does not say yet how".to_owned() }
}

/// 10 s, 20 s, 40 s … 300 s, by which attempt it was since an order last said that it must run.
fn back_off_ms(attempts: u32) -> u64 {
    let doublings = attempts.saturating_sub(1).min(16);
    (BACK_OFF_MS << doublings).min(BACK_OFF_CAP_MS)
}

impl From<Wait> for Step {
    fn from(wait: Wait) -> Self {
        Self::Wait(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Controls, Liveness};
    use berth_model::{Attempt, Generation, Incarnation};

    fn container(attempt: Attempt, state: TaskState) -> ObservedContainer {
        ObservedContainer {
            id: "c".to_owned(),
            name: "web".parse().unwrap(),
            incarnation: Incarnation(1),
            generation: Generation(1),
            attempt,
            sandbox_id: "s".to_owned(),
            state,
            running_ms: None,
            liveness: Liveness::Dead,
            disk_key: None,
            amended: true,
            controls: Controls::Absent,
        }
    }

    fn check(policy: RestartPolicy, attempts: [u32; 2], state: &TaskState, expected: Option<u64>) {
        check_after_boot(policy, [attempts[0], 0, attempts[1]], state, expected);
    }

    /// Attempts: what was ordered, what was there before the host booted, and this one.
    fn check_after_boot(policy: RestartPolicy, attempts: [u32; 3], state: &TaskState, expected: Option<u64>) {
        let [ordered, before_boot, attempt] = attempts.map(Attempt);
        // What was made since and has not started counts for nothing.
        let known = ContainerRecord {
            attempt: Attempt(attempt.0.saturating_add(2)),
            ordered,
            before_boot,
            ..ContainerRecord::default()
        };
        let said = match again(policy, &known, &container(attempt, state.clone()), 1_000_000) {
            Again::Now => Some(0),
            Again::Later(wait) => wait.until_ms.map(|until| until - 1_000_000),
            Again::No => None,
        };
        assert_eq!(said, expected, "{policy:?} {attempts:?} {state:?}");
    }

    #[test]
    fn restarts() {
        use RestartPolicy::{Always, Never, OnFailure};
        let exited = |code, ago_ms| TaskState::Exited { code, ago_ms };
        check(Always, [0, 1], &exited(0, 0), Some(10_000));
        check(Always, [0, 1], &exited(0, 9_999), Some(1));
        check(Always, [0, 1], &exited(0, 10_000), Some(0));
        check(Always, [0, 2], &exited(1, 0), Some(20_000));
        check(Always, [0, 6], &exited(1, 0), Some(300_000));
        check(Always, [0, u32::MAX], &exited(1, 0), Some(300_000));
        check(Always, [4, 5], &exited(1, 0), Some(10_000));
        check(OnFailure, [0, 1], &exited(0, 60_000), None);
        check(OnFailure, [0, 1], &exited(255, 60_000), Some(0));
        check(Never, [0, 1], &exited(1, 60_000), None);
        check(Never, [1, 1], &exited(1, 0), Some(0));
        // The host went down around it: that is no end of its own.
        let interrupted = TaskState::Interrupted { ago_ms: 0 };
        check_after_boot(Never, [0, 2, 2], &interrupted, Some(0));
        check_after_boot(Always, [0, 2, 2], &interrupted, Some(0));
        check_after_boot(Never, [0, 2, 2], &exited(0, 60_000), None);
        // The runtime lost it while the host was up: it has ended, and nobody knows how.
        check_after_boot(Never, [0, 1, 2], &interrupted, None);
        check_after_boot(OnFailure, [0, 1, 2], &interrupted, Some(20_000));
        // What never ran has not ended by itself.
        check(Never, [0, 1], &TaskState::StartFailed { ago_ms: 0 }, Some(10_000));
        check(OnFailure, [0, 2], &TaskState::StartFailed { ago_ms: 20_000 }, Some(0));
        // It has ended, and it is not known yet how: only who is started again anyhow does not wait for that.
        check(Never, [0, 1], &TaskState::Unknown, Some(5_000));
        check(OnFailure, [0, 1], &TaskState::Unknown, Some(5_000));
        check(Always, [0, 1], &TaskState::Unknown, Some(0));
        check(Never, [1, 1], &TaskState::Unknown, Some(0));
    }
}
