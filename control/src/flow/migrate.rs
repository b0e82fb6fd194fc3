//! A migration's next step. The order is: prepare the target while the source works; have the source stop the pod and
//! say durably that it has; have the target copy its movable data disks; run it there. So no address ever has two owners: without the source's word nothing
//! goes on, unless an operator has confirmed that the source is dead.
//!
//! [`next`] is level-triggered: it is asked again after everything that happens, and remembers nothing.

use berth_model::{DiskName, OrderId};
use std::collections::{BTreeMap, BTreeSet};

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The target takes images and frees CPUs; the source works.
    Preparing,
    /// The source was ordered to stop the pod, and to keep what is there.
    Stopping,
    /// The source, which runs it no more, was ordered to let the target have its movable data disks.
    Offering,
    /// The target was ordered to copy them.
    Copying,
    /// The target was ordered to run it.
    Starting,
    /// It runs on the target; the source was ordered to give up what it kept.
    Releasing,
    /// The target could not run it: the source was ordered to run it again.
    Returning {
        /// Why the target could not.
        why: String,
    },
    /// It runs on the target.
    Done,
    /// It does not.
    Failed {
        /// Why.
        why: String,
    },
}

/// What becomes of what cannot be taken along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LeftBehind {
    /// There is nothing of that kind: what the source keeps is given up once the pod runs.
    Nothing,
    /// The source keeps it until the pod is released.
    Kept,
    /// The source gives it up once the pod runs on the target.
    Discarded,
}

/// The data disks that go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luggage<'a> {
    /// There are none.
    Nothing,
    /// The pod does not run without them.
    Needed(&'a BTreeSet<DiskName>),
    /// If they cannot be had any more, the pod begins without them.
    Wanted(&'a BTreeSet<DiskName>),
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NodeFact {
    /// Its lease runs.
    Ready,
    /// Nothing is heard of it. That is all that is known.
    Silent,
    /// An operator has confirmed that it is dead.
    Dead,
}

/// Whether the target's shared CPUs have given way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PoolFact {
    /// They have.
    Settled,
    /// They are about to.
    Pending,
    /// The target could not.
    Refused,
}

/// How far an order of the present phase is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderFact {
    /// It has no outcome yet.
    Open,
    /// What it wanted is so.
    Done,
    /// It did not get there.
    Failed(String),
}

/// All that the next step depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    /// Where the pod comes from.
    pub source: NodeFact,
    /// Where it goes.
    pub target: NodeFact,
    /// Of the target.
    pub pool: PoolFact,
    /// The orders of the present phase.
    pub orders: &'a BTreeMap<OrderId, OrderFact>,
    /// What becomes of what stays on the source.
    pub left_behind: LeftBehind,
    /// What goes along.
    pub luggage: Luggage<'a>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Have the source stop the pod and keep what is there.
    Stop,
    /// Have the source let the target have the disks that go along.
    Offer,
    /// Have the target copy them.
    Copy,
    /// Run the pod on the target.
    Start,
    /// Likewise, without the disks that were to go along.
    StartWithout,
    /// Have the source give up what it kept.
    Release,
    /// Have the source keep what it has, and let nobody have it.
    Withdraw,
    /// Run the pod on the source again.
    Return(String),
    /// Nothing, until something changes.
    Wait(String),
    /// It runs on the target.
    Done,
    /// It does not, and nothing more is done about it.
    Failed(String),
}

impl Phase {
    /// All of them, by name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Stopping => "Stopping",
            Self::Offering => "Offering",
            Self::Copying => "Copying",
            Self::Starting => "Starting",
            Self::Releasing => "Releasing",
            Self::Returning { .. } => "Returning",
            Self::Done => "Done",
            Self::Failed { .. } => "Failed",
        }
    }

    /// Whether there may be something left to do.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Preparing
            | Self::Stopping
            | Self::Offering
            | Self::Copying
            | Self::Starting
            | Self::Releasing
            | Self::Returning { .. } => true,
            Self::Done | Self::Failed { .. } => false,
        }
    }

    /// Whether the pod is between two nodes, so that nobody else may order it.
    pub(crate) fn holds_pod(&self) -> bool {
        match self {
            Self::Preparing
            | Self::Stopping
            | Self::Offering
            | Self::Copying
            | Self::Starting
            | Self::Returning { .. } => true,
            Self::Releasing | Self::Done | Self::Failed { .. } => false,
        }
    }
}

/// The orders of a phase taken together.
fn together(orders: &BTreeMap<OrderId, OrderFact>) -> OrderFact {
    let failed = orders.values().find(|order| matches!(order, OrderFact::Failed(_)));
    match failed {
        Some(failed) => failed.clone(),
        None if orders.values().all(|order| *order == OrderFact::Done) => OrderFact::Done,
        None => OrderFact::Open,
    }
}

/// What to do now.
pub(crate) fn next(phase: &Phase, facts: &Facts<'_>) -> Next {
    let orders = together(facts.orders);
    match phase {
        Phase::Preparing => prepare(facts, orders),
        Phase::Stopping => match (facts.source, orders) {
            (NodeFact::Dead, _) => without_source(facts),
            (NodeFact::Ready | NodeFact::Silent, OrderFact::Done) => match facts.luggage {
                Luggage::Nothing => Next::Start,
                Luggage::Needed(_) | Luggage::Wanted(_) => Next::Offer,
            },
            (NodeFact::Ready | NodeFact::Silent, OrderFact::Failed(why)) => {
                Next::Failed(format!("the source could not stop the pod: {why}"))
            }
            (NodeFact::Ready, OrderFact::Open) => Next::Wait("the source stops the pod".to_owned()),
            (NodeFact::Silent, OrderFact::Open) => Next::Wait(
                "the source is silent, and the pod may still run there: waiting for its word; if it is dead for \
                 certain, confirm that with berth node confirm-dead"
                    .to_owned(),
            ),
        },
        Phase::Offering => offer(facts, orders),
        Phase::Copying => copy(facts, all_ended(facts.orders, orders)),
        Phase::Starting => match (facts.source, orders) {
            (_, OrderFact::Done) => started(facts),
            (NodeFact::Dead, OrderFact::Failed(why)) => {
                Next::Failed(format!("the target could not run the pod, and the source is dead: {why}"))
            }
            (NodeFact::Ready | NodeFact::Silent, OrderFact::Failed(why)) => Next::Return(why),
            (_, OrderFact::Open) => Next::Wait(on_target(facts.target, "starts the pod")),
        },
        Phase::Releasing => match orders {
            // What the source does not give up it keeps, and a release of the pod will ask for it again.
            OrderFact::Done | OrderFact::Failed(_) => Next::Done,
            OrderFact::Open if facts.source == NodeFact::Dead => Next::Done,
            OrderFact::Open => Next::Wait("the pod runs on the target; the source gives up what it kept".to_owned()),
        },
        Phase::Returning { why } => match orders {
            OrderFact::Done => Next::Failed(format!("the target could not take the pod, which runs on the source again: {why}")),
            OrderFact::Failed(other) => {
                Next::Failed(format!("the target could not take the pod ({why}), nor could the source: {other}"))
            }
            OrderFact::Open => Next::Wait(format!("the target could not take the pod ({why}): the source starts it again")),
        },
        Phase::Done => Next::Done,
        Phase::Failed { why } => Next::Failed(why.clone()),
    }
}

fn on_target(target: NodeFact, does: &str) -> String {
    match target {
        NodeFact::Ready => format!("the target {does}"),
        NodeFact::Silent | NodeFact::Dead => format!("the target is silent; when it comes back it {does}"),
    }
}

fn prepare(facts: &Facts<'_>, orders: OrderFact) -> Next {
    match (facts.target, facts.source, orders, facts.pool) {
        (NodeFact::Dead, ..) => Next::Failed("the target was confirmed dead".to_owned()),
        (_, _, OrderFact::Failed(why), _) => Next::Failed(format!("the target could not prepare: {why}")),
        (_, _, _, PoolFact::Refused) => {
            Next::Failed("the target's shared CPUs could not give way to the pod".to_owned())
        }
        (NodeFact::Silent, ..) => Next::Wait("the target is silent; the pod stays where it is".to_owned()),
        // Nothing works on the source any more that waiting could spare.
        (
            NodeFact::Ready,
            NodeFact::Dead,
            OrderFact::Open | OrderFact::Done,
            PoolFact::Settled | PoolFact::Pending,
        ) => without_source(facts),
        (NodeFact::Ready, NodeFact::Ready | NodeFact::Silent, OrderFact::Done, PoolFact::Settled) => {
            Next::Stop
        }
        (
            NodeFact::Ready,
            NodeFact::Ready | NodeFact::Silent,
            OrderFact::Open | OrderFact::Done,
            PoolFact::Settled | PoolFact::Pending,
        ) => Next::Wait("the target takes the images and frees CPUs".to_owned()),
    }
}

/// The source is dead, and what is there is not to be had.
fn without_source(facts: &Facts<'_>) -> Next {
    match facts.luggage {
        Luggage::Nothing => Next::Start,
        Luggage::Wanted(_) => Next::StartWithout,
        Luggage::Needed(disks) => Next::Failed(format!(
            "the source is dead, and data disks that the pod takes along are there: {}",
            names(disks)
        )),
    }
}

fn names(disks: &BTreeSet<DiskName>) -> String {
    disks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// As long as the pod was not ordered to run on the target, it may return: the target has not run it.
fn offer(facts: &Facts<'_>, orders: OrderFact) -> Next {
    match (facts.source, facts.target, orders) {
        (NodeFact::Dead, ..) => without_source(facts),
        (NodeFact::Ready | NodeFact::Silent, _, OrderFact::Failed(why)) => Next::Return(why),
        (NodeFact::Ready | NodeFact::Silent, NodeFact::Ready, OrderFact::Done) => Next::Copy,
        (NodeFact::Ready | NodeFact::Silent, NodeFact::Silent | NodeFact::Dead, _) => {
            Next::Return(LOST.to_owned())
        }
        (NodeFact::Ready, NodeFact::Ready, OrderFact::Open) => {
            Next::Wait("the pod is stopped; the source lets the target have its data disks".to_owned())
        }
        (NodeFact::Silent, NodeFact::Ready, OrderFact::Open) => Next::Wait(
            "the pod is stopped, and the source, which has its data disks, is silent: waiting for it"
                .to_owned(),
        ),
    }
}

const LOST: &str = "the target went silent before it had the data disks";

/// Nothing follows from a copy that failed as long as another one goes on.
fn all_ended(orders: &BTreeMap<OrderId, OrderFact>, together: OrderFact) -> OrderFact {
    match orders.values().any(|order| *order == OrderFact::Open) {
        true => OrderFact::Open,
        false => together,
    }
}

fn copy(facts: &Facts<'_>, orders: OrderFact) -> Next {
    match (facts.source, facts.target, orders) {
        (_, _, OrderFact::Done) => Next::Start,
        (NodeFact::Dead, _, OrderFact::Failed(_)) => without_source(facts),
        (NodeFact::Ready | NodeFact::Silent, _, OrderFact::Failed(why)) => Next::Return(why),
        (NodeFact::Ready | NodeFact::Silent, NodeFact::Silent | NodeFact::Dead, OrderFact::Open) => {
            Next::Return(LOST.to_owned())
        }
        (NodeFact::Dead, NodeFact::Dead, OrderFact::Open) => {
            Next::Failed("source and target were confirmed dead".to_owned())
        }
        (_, NodeFact::Ready | NodeFact::Silent, OrderFact::Open) => {
            Next::Wait(on_target(facts.target, "copies the data disks"))
        }
    }
}

fn started(facts: &Facts<'_>) -> Next {
    match (facts.source, facts.left_behind, facts.luggage) {
        (NodeFact::Dead, ..) => Next::Done,
        (_, LeftBehind::Nothing | LeftBehind::Discarded, _) => Next::Release,
        (_, LeftBehind::Kept, Luggage::Nothing) => Next::Done,
        (_, LeftBehind::Kept, Luggage::Needed(_) | Luggage::Wanted(_)) => Next::Withdraw,
    }
}

#[cfg(test)]
mod tests;
