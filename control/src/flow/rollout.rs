//! A rollout's next step: which pods to order now, so that never more than so many are unavailable.
//!
//! [`next`] is level-triggered: it is asked again after everything that happens, and remembers nothing.

use berth_model::{PodId, Seq};
use std::collections::BTreeMap;

/// Whether pods become what the rollout makes of them, or what they were before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// The former.
    Forward,
    /// The latter.
    Undo,
}

/// Whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RolloutState {
    /// It does.
    Running,
    /// It orders nothing more; what is under way ends.
    Paused,
    /// Nothing is left to do.
    Done,
}

/// How far a pod of a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Member {
    /// It is to be ordered.
    Waiting,
    /// An order is under way.
    Ordered {
        /// The order's.
        seq: Seq,
        /// What it does.
        direction: Direction,
    },
    /// It is what the rollout makes of it.
    Done,
    /// It did not get there, and is what it was.
    RolledBack(String),
    /// It could not be ordered.
    Skipped(String),
    /// It is again what it was before, or was never touched.
    Undone,
}

/// What a rollout goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many pods may be unavailable, at least one.
    pub max_unavailable: u32,
    /// Whether it goes on.
    pub state: RolloutState,
    /// Which way.
    pub direction: Direction,
    /// So many pods had been rolled back when it was resumed last.
    pub forgiven: u32,
    /// Its pods.
    pub members: BTreeMap<PodId, Member>,
}

/// What is to be seen of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seen {
    /// It does its work, and nothing is under way.
    Available,
    /// It runs and does not do its work; an order may help.
    Broken(String),
    /// Something is under way, or it cannot be known: wait.
    Busy(String),
    /// It does not run, and is not meant to; no order makes sense.
    Unfit(String),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Order these.
    Order(Vec<PodId>),
    /// Pass over these, and ask again.
    Skip(Vec<(PodId, String)>),
    /// Nothing, until something changes.
    Wait(String),
    /// Stop, until a person has looked.
    Pause(String),
    /// Nothing any more.
    Done,
}

impl Plan {
    /// So many of its pods have been rolled back.
    pub(crate) fn rolled_back(&self) -> u32 {
        count(self.members.values().filter(|member| matches!(member, Member::RolledBack(_))))
    }

    /// Whether it orders, or waits for the outcome of an order for, this pod.
    pub(crate) fn claims(&self, pod: &PodId) -> bool {
        self.state != RolloutState::Done
            && matches!(self.members.get(pod), Some(Member::Waiting | Member::Ordered { .. }))
    }

    /// What is done is to be undone, and what was not begun never is.
    pub(crate) fn undo(&mut self) {
        (self.direction, self.state) = (Direction::Undo, RolloutState::Running);
        self.forgiven = self.rolled_back();
        for member in self.members.values_mut() {
            match member {
                Member::Done => *member = Member::Waiting,
                Member::Waiting => *member = Member::Undone,
                Member::Ordered { .. } | Member::RolledBack(_) | Member::Skipped(_) | Member::Undone => {}
            }
        }
    }

    /// What becomes of a pod whose order is done.
    pub(crate) fn after_done(&self, ordered: Direction) -> Member {
        match (ordered, self.direction) {
            (Direction::Forward, Direction::Forward) => Member::Done,
            // The rollout was turned round while the order was under way.
            (Direction::Forward, Direction::Undo) => Member::Waiting,
            (Direction::Undo, _) => Member::Undone,
        }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// What to do now. A pod that is not in `seen` is gone.
pub(crate) fn next(plan: &Plan, seen: &BTreeMap<PodId, Seen>) -> Next {
    match plan.state {
        RolloutState::Running => {}
        RolloutState::Paused => return Next::Wait(String::new()),
        RolloutState::Done => return Next::Done,
    }
    let failed = plan.rolled_back().saturating_sub(plan.forgiven);
    if failed > plan.max_unavailable {
        return Next::Pause(format!(
            "{failed} pods were rolled back, more than the {} that may be unavailable",
            plan.max_unavailable
        ));
    }
    let gone = Seen::Unfit("it is gone".to_owned());
    let members = || plan.members.iter().map(|(pod, member)| (pod, member, seen.get(pod).unwrap_or(&gone)));
    let unfit = members().filter_map(|(pod, member, seen)| match (member, seen) {
        (Member::Waiting, Seen::Unfit(why)) => Some((pod.clone(), why.clone())),
        (_, _) => None,
    });
    let unfit: Vec<_> = unfit.collect();
    if !unfit.is_empty() {
        return Next::Skip(unfit);
    }
    let ordered = count(members().filter(|(_, member, _)| matches!(member, Member::Ordered { .. })));
    let unavailable = count(members().filter(|(_, member, seen)| match (member, seen) {
        (Member::Ordered { .. }, _) => true,
        (_, Seen::Broken(_) | Seen::Busy(_)) => true,
        (_, Seen::Available | Seen::Unfit(_)) => false,
    }));
    let waiting = |wanted: fn(&Seen) -> bool| {
        members()
            .filter(move |(_, member, seen)| **member == Member::Waiting && wanted(seen))
            .map(|(pod, ..)| pod)
    };
    if ordered == 0 && waiting(|_| true).next().is_none() {
        return Next::Done;
    }
    // A broken pod costs nothing: it is unavailable already. Still no more are under way at a time than may be.
    let room = plan.max_unavailable.saturating_sub(ordered);
    let broken: Vec<&PodId> = waiting(|seen| matches!(seen, Seen::Broken(_))).take(room as usize).collect();
    let room = room.saturating_sub(count(broken.iter()));
    let room = room.min(plan.max_unavailable.saturating_sub(unavailable));
    let available = waiting(|seen| *seen == Seen::Available).take(room as usize);
    let chosen: Vec<PodId> = broken.into_iter().chain(available).cloned().collect();
    match chosen.is_empty() {
        true => Next::Wait(format!("{unavailable} of at most {} pods are unavailable", plan.max_unavailable)),
        false => Next::Order(chosen),
    }
}

#[cfg(test)]
mod tests;
