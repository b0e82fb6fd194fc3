//! From what was seen to what is so: is it alive, and what may be done with it. Pure.
//!
//! Only proof counts as dead: no task, and a cgroup that is gone or holds no process. CRI's word is a hint: it names
//! exit codes, and tells created from exited, and nothing more.

use super::containerd::TaskStatus;
use super::cri::CriState;
use berth_plan::{Liveness, TaskState};

/// What asking for a task gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TaskFact {
    /// There is none.
    None,
    /// There is one.
    Is(TaskStatus),
    /// The question failed: the shim may be gone, its processes not.
    Unanswered,
}

/// What looking at a cgroup gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CgroupFact {
    /// There is none.
    Gone,
    /// It holds no process.
    Empty,
    /// It, or one below, does.
    Populated,
    /// It could not be read, or its path is not known.
    Unreadable(String),
}

/// All that is known of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) task: TaskFact,
    pub(super) cgroup: CgroupFact,
    pub(super) cri: CriState,
    /// When the record was made, nanoseconds after the epoch.
    pub(super) created_at_ns: i64,
}

/// Whether something may still run.
pub(super) fn liveness(task: TaskFact, cgroup: &CgroupFact) -> Liveness {
    match (task, cgroup) {
        (TaskFact::Is(TaskStatus::Alive | TaskStatus::Created), _) | (_, CgroupFact::Populated) => {
            Liveness::Live
        }
        (TaskFact::None, CgroupFact::Gone | CgroupFact::Empty) => Liveness::Dead,
        // An ended task that is not deleted yet holds its disk; containerd is about to let go of it.
        (TaskFact::Is(TaskStatus::Stopped | TaskStatus::Unknown) | TaskFact::Unanswered, _)
        | (TaskFact::None, CgroupFact::Unreadable(_)) => Liveness::Unknown,
    }
}

/// Whether containerd is in the middle of taking notice of an end.
pub(super) fn is_ending(facts: &Facts) -> bool {
    match facts.task {
        TaskFact::None => matches!(facts.cri, CriState::Running { .. }),
        TaskFact::Is(TaskStatus::Stopped) => true,
        TaskFact::Is(TaskStatus::Created | TaskStatus::Alive | TaskStatus::Unknown)
        | TaskFact::Unanswered => false,
    }
}

/// What containerd says of it. `now_ns` is nanoseconds after the epoch.
pub(super) fn task_state(facts: &Facts, now_ns: i64) -> TaskState {
    match facts.task {
        TaskFact::Is(TaskStatus::Alive) => TaskState::Running,
        TaskFact::Is(TaskStatus::Created | TaskStatus::Unknown) | TaskFact::Unanswered => TaskState::Unknown,
        TaskFact::Is(TaskStatus::Stopped) => match facts.cri {
            CriState::Exited { code, finished_at_ns } => {
                TaskState::Exited { code, ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
            }
            CriState::Interrupted { finished_at_ns } => {
                TaskState::Interrupted { ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
            }
            CriState::StartFailed { finished_at_ns } => {
                TaskState::StartFailed { ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
            }
            CriState::Created | CriState::Running { .. } | CriState::Unknown | CriState::Missing => {
                TaskState::Unknown
            }
        },
        TaskFact::None => state_without_task(facts, now_ns),
    }
}

fn state_without_task(facts: &Facts, now_ns: i64) -> TaskState {
    match (facts.cri, &facts.cgroup) {
        (CriState::Created, _) => TaskState::Created,
        (CriState::Exited { code, finished_at_ns }, _) => {
            TaskState::Exited { code, ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
        }
        (CriState::Interrupted { finished_at_ns }, _) => {
            TaskState::Interrupted { ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
        }
        (CriState::StartFailed { finished_at_ns }, _) => {
            TaskState::StartFailed { ago_ms: ago_ms(finished_at_ns, facts, now_ns) }
        }
        // CRI has not heard of the end yet; it will, and will then know the exit code.
        (CriState::Running { .. }, _) => TaskState::Unknown,
        // CRI lost it: it can never be started, and nobody will ever say how it ended.
        (CriState::Unknown | CriState::Missing, CgroupFact::Gone | CgroupFact::Empty) => {
            TaskState::Interrupted { ago_ms: ago_ms(0, facts, now_ns) }
        }
        (CriState::Unknown | CriState::Missing, CgroupFact::Populated | CgroupFact::Unreadable(_)) => {
            TaskState::Unknown
        }
    }
}

/// Without a time of its end, it ended at some time after it was made.
fn ago_ms(finished_at_ns: i64, facts: &Facts, now_ns: i64) -> u64 {
    let at_ns = if finished_at_ns > 0 { finished_at_ns } else { facts.created_at_ns };
    (now_ns.saturating_sub(at_ns).max(0) / 1_000_000).unsigned_abs()
}

/// How long it has been running, milliseconds, if it is.
pub(super) fn running_ms(facts: &Facts, now_ns: i64) -> Option<u64> {
    match (facts.task, facts.cri) {
        (TaskFact::Is(TaskStatus::Alive), CriState::Running { started_at_ns }) => {
            Some((now_ns.saturating_sub(started_at_ns).max(0) / 1_000_000).unsigned_abs())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: [TaskFact; 6] = [
        TaskFact::None,
        TaskFact::Is(TaskStatus::Created),
        TaskFact::Is(TaskStatus::Alive),
        TaskFact::Is(TaskStatus::Stopped),
        TaskFact::Is(TaskStatus::Unknown),
        TaskFact::Unanswered,
    ];

    fn cgroups() -> [CgroupFact; 4] {
        [
            CgroupFact::Gone,
            CgroupFact::Empty,
            CgroupFact::Populated,
            CgroupFact::Unreadable("permission denied".to_owned()),
        ]
    }

    const CRI: [CriState; 7] = [
        CriState::Created,
        CriState::Running { started_at_ns: 2_000_000_000 },
        CriState::Interrupted { finished_at_ns: 4_000_000_000 },
        CriState::Exited { code: 3, finished_at_ns: 4_000_000_000 },
        CriState::StartFailed { finished_at_ns: 4_000_000_000 },
        CriState::Unknown,
        CriState::Missing,
    ];

    const NOW_NS: i64 = 5_000_000_000;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for task in TASKS {
            for cgroup in cgroups() {
                for cri in CRI {
                    let facts = Facts { task, cgroup: cgroup.clone(), cri, created_at_ns: 1_000_000_000 };
                    let line = format!(
                        "{task:?} {cgroup:?} {cri:?} => {:?} {:?}\n",
                        liveness(task, &facts.cgroup),
                        task_state(&facts, NOW_NS)
                    );
                    table.push_str(&line);
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn only_no_task_and_no_process_is_dead() {
        for task in TASKS {
            for cgroup in cgroups() {
                let proven = task == TaskFact::None && matches!(cgroup, CgroupFact::Gone | CgroupFact::Empty);
                assert_eq!(liveness(task, &cgroup) == Liveness::Dead, proven, "{task:?} {cgroup:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_went_backwards_is_no_time_ago() {
        let cri = CriState::Exited { code: 0, finished_at_ns: NOW_NS + 9_000_000 };
        let facts = Facts { task: TaskFact::None, cgroup: CgroupFact::Gone, cri, created_at_ns: 0 };
        assert_eq!(task_state(&facts, NOW_NS), TaskState::Exited { code: 0, ago_ms: 0 });
    }
}
