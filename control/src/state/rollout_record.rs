//! A rollout as the control plane keeps it, and as it is written and shown.

use crate::flow::rollout::{Direction, Member, Plan, RolloutState};
use crate::store::{RolloutPodRow, RolloutRow};
use berth_model::{PodId, PodRequest, RolloutName, Seq};
use berth_proto::{InvalidMessage, pod_from, v1};
use std::collections::BTreeMap;

/// One rollout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rollout {
    /// Which pods were meant, as it was asked.
    pub selector: v1::PodSelector,
    /// What is changed of them.
    pub patch: v1::PodPatch,
    /// How long a container without a readiness probe must run to count as ready.
    pub settle_ms: u64,
    /// Why, for people.
    pub reason: String,
    /// Why it is paused, or what it waits for.
    pub message: String,
    /// Milliseconds after the epoch.
    pub created_at_ms: u64,
    /// Of the last step, milliseconds after the epoch.
    pub changed_at_ms: u64,
    /// What it goes by.
    pub plan: Plan,
    /// What its pods were before, from their first order on.
    pub before: BTreeMap<PodId, PodRequest>,
}

impl Rollout {
    /// As platforms see it, without its pods.
    pub(crate) fn to_wire(&self, name: &RolloutName) -> v1::Rollout {
        let count = |wanted: fn(&Member) -> bool| {
            u32::try_from(self.plan.members.values().filter(|member| wanted(member)).count())
                .unwrap_or(u32::MAX)
        };
        v1::Rollout {
            name: name.to_string(),
            selector: Some(self.selector.clone()),
            patch: Some(self.patch.clone()),
            max_unavailable: self.plan.max_unavailable,
            settle_ms: self.settle_ms,
            reason: self.reason.clone(),
            state: match self.plan.state {
                RolloutState::Running => v1::RolloutState::Running,
                RolloutState::Paused => v1::RolloutState::Paused,
                RolloutState::Done => v1::RolloutState::Done,
            }
            .into(),
            undoing: self.plan.direction == Direction::Undo,
            message: self.message.clone(),
            created_at_ms: self.created_at_ms,
            changed_at_ms: self.changed_at_ms,
            waiting: count(|member| *member == Member::Waiting),
            under_way: count(|member| matches!(member, Member::Ordered { .. })),
            done: count(|member| *member == Member::Done),
            rolled_back: count(|member| matches!(member, Member::RolledBack(_))),
            skipped: count(|member| matches!(member, Member::Skipped(_))),
            undone: count(|member| *member == Member::Undone),
            pods: Vec::new(),
        }
    }

    /// As platforms see it.
    pub(crate) fn to_wire_whole(&self, name: &RolloutName) -> v1::Rollout {
        let pods = self.plan.members.iter().map(|(pod, member)| member_to_wire(pod, member)).collect();
        v1::Rollout { pods, ..self.to_wire(name) }
    }

    pub(crate) fn to_row(&self, name: &RolloutName, version: u32) -> RolloutRow {
        RolloutRow { version, rollout: Some(self.to_wire(name)), forgiven: self.plan.forgiven }
    }

    pub(crate) fn pod_row(&self, name: &RolloutName, pod: &PodId, version: u32) -> Option<RolloutPodRow> {
        let member = self.plan.members.get(pod)?;
        let (seq, undoes) = match member {
            Member::Ordered { seq, direction } => (seq.0, *direction == Direction::Undo),
            Member::Waiting | Member::Done | Member::RolledBack(_) | Member::Skipped(_) | Member::Undone => {
                (0, false)
            }
        };
        Some(RolloutPodRow {
            version,
            rollout: name.to_string(),
            pod: Some(member_to_wire(pod, member)),
            seq,
            undoes,
            before: self.before.get(pod).map(Into::into),
        })
    }

    /// Reads a rollout back; its pods come after it.
    pub(crate) fn from_row(row: RolloutRow) -> Result<(RolloutName, Self), InvalidMessage> {
        let wire = row.rollout.ok_or_else(|| InvalidMessage::missing("rollout"))?;
        let state = match v1::RolloutState::try_from(wire.state) {
            Ok(v1::RolloutState::Running) => RolloutState::Running,
            Ok(v1::RolloutState::Paused) => RolloutState::Paused,
            Ok(v1::RolloutState::Done) => RolloutState::Done,
            Ok(v1::RolloutState::Unspecified) | Err(_) => {
                return Err(InvalidMessage::new("state", format!("{} is unknown", wire.state)));
            }
        };
        let plan = Plan {
            max_unavailable: wire.max_unavailable,
            state,
            direction: if wire.undoing { Direction::Undo } else { Direction::Forward },
            forgiven: row.forgiven,
            members: BTreeMap::new(),
        };
        let rollout = Self {
            selector: wire.selector.unwrap_or_default(),
            patch: wire.patch.unwrap_or_default(),
            settle_ms: wire.settle_ms,
            reason: wire.reason,
            message: wire.message,
            created_at_ms: wire.created_at_ms,
            changed_at_ms: wire.changed_at_ms,
            plan,
            before: BTreeMap::new(),
        };
        let name = RolloutName::new(wire.name).map_err(|error| InvalidMessage::new("name", error))?;
        Ok((name, rollout))
    }

    /// Reads one of its pods back.
    pub(crate) fn take_row(&mut self, row: RolloutPodRow) -> Result<(), InvalidMessage> {
        use v1::RolloutPodState as State;
        let wire = row.pod.ok_or_else(|| InvalidMessage::missing("pod"))?;
        let pod = pod_from(wire.pod)?;
        let member = match State::try_from(wire.state) {
            Ok(State::Waiting) => Member::Waiting,
            Ok(State::Ordered) => Member::Ordered {
                seq: Seq(row.seq),
                direction: if row.undoes { Direction::Undo } else { Direction::Forward },
            },
            Ok(State::Done) => Member::Done,
            Ok(State::RolledBack) => Member::RolledBack(wire.message),
            Ok(State::Skipped) => Member::Skipped(wire.message),
            Ok(State::Undone) => Member::Undone,
            Ok(State::Unspecified) | Err(_) => {
                return Err(InvalidMessage::new("state", format!("{} is unknown", wire.state)));
            }
        };
        if let Some(before) = row.before {
            self.before.insert(pod.clone(), before.try_into()?);
        }
        self.plan.members.insert(pod, member);
        Ok(())
    }
}

fn member_to_wire(pod: &PodId, member: &Member) -> v1::RolloutPod {
    use v1::RolloutPodState as State;
    let (state, message) = match member {
        Member::Waiting => (State::Waiting, ""),
        Member::Ordered { .. } => (State::Ordered, ""),
        Member::Done => (State::Done, ""),
        Member::RolledBack(why) => (State::RolledBack, why.as_str()),
        Member::Skipped(why) => (State::Skipped, why.as_str()),
        Member::Undone => (State::Undone, ""),
    };
    v1::RolloutPod { pod: Some(pod.into()), state: state.into(), message: message.to_owned() }
}
