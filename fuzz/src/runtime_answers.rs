//! What a node is told by containerd and CRI of one record, up to what it takes for seen.

use crate::frames::frames;
use berth_cgroup::Population;
use berth_model::{Rlimit, Ulimit};
use berth_plan::{Liveness, TaskState};
use berthd::runtime::{Answers, Seen, limits_show};
use prost::Message;

/// When the answers are read, nanoseconds after the epoch.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// Frames: 0 the record, 1 CRI's container, 2 CRI's sandbox, 3 the task, 4 the cgroup, 5 `/proc/PID/limits`.
pub fn runtime_answers(data: &[u8]) {
    let mut answers = Answers::default();
    for (kind, part) in frames(data) {
        match kind % 6 {
            0 => answers.record = Message::decode(part).unwrap_or_default(),
            1 => answers.status = Message::decode(part).ok(),
            2 => answers.sandbox = Message::decode(part).ok(),
            3 => answers.task = Message::decode(part).ok(),
            4 => answers.population = population(part),
            _ => limits(&String::from_utf8_lossy(part)),
        }
    }
    let (task, population) = (answers.task.clone(), answers.population);
    let named = answers.record.labels.get("io.berth.pod").cloned();
    let liveness = match answers.read(NOW_NS) {
        Seen::Foreign => return,
        Seen::Sandbox(sandbox) => sandbox.liveness,
        Seen::Container(container) => {
            let runs = container.state == TaskState::Running;
            assert!(!runs || container.liveness == Liveness::Live, "{container:?}");
            assert!(!runs || task.is_some(), "without a task it runs: {container:?}");
            container.liveness
        }
    };
    assert!(named.is_some(), "a record without our label is taken for ours");
    if liveness == Liveness::Dead {
        assert!(task.is_none(), "with a task it is dead");
        assert!(matches!(population, Some(Population::Gone | Population::Empty)), "{population:?} is dead");
    }
}

fn population(part: &[u8]) -> Option<Population> {
    match part.first()? % 3 {
        0 => Some(Population::Gone),
        1 => Some(Population::Empty),
        _ => Some(Population::Populated),
    }
}

/// What a process has is one value at most.
fn limits(text: &str) {
    for rlimit in Rlimit::ALL {
        let has = |soft| limits_show(text, &Ulimit { rlimit: *rlimit, soft, hard: Ulimit::UNLIMITED });
        assert!(!(has(1024) && has(Ulimit::UNLIMITED)), "two values at once: {text:?}");
    }
}
