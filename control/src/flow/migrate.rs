//! A migration's next step. The order is: prepare the target while the source works; have the source stop the pod and
//! say durably that it has; run it on the target. So no address ever has two owners: without the source's word nothing
//! goes on, unless an operator has confirmed that the source is dead.
//!
//! [`next`] is level-triggered: it is asked again after everything that happens, and remembers nothing.

use berth_model::OrderId;
use std::collections::BTreeMap;

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The target takes images and frees CPUs; the source works.
    Preparing,
    /// The source was ordered to stop the pod, and to keep what is there.
    Stopping,
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
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Have the source stop the pod and keep what is there.
    Stop,
    /// Run the pod on the target.
    Start,
    /// Have the source give up what it kept.
    Release,
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
            Self::Preparing | Self::Stopping | Self::Starting | Self::Releasing | Self::Returning { .. } => {
                true
            }
            Self::Done | Self::Failed { .. } => false,
        }
    }

    /// Whether the pod is between two nodes, so that nobody else may order it.
    pub(crate) fn holds_pod(&self) -> bool {
        match self {
            Self::Preparing | Self::Stopping | Self::Starting | Self::Returning { .. } => true,
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
            (_, OrderFact::Done) | (NodeFact::Dead, _) => Next::Start,
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
        Phase::Starting => match (facts.source, orders) {
            (source, OrderFact::Done) => started(source, facts.left_behind),
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
            OrderFact::Done => Next::Failed(format!("the target could not run the pod, which runs on the source again: {why}")),
            OrderFact::Failed(other) => {
                Next::Failed(format!("the target could not run the pod ({why}), nor could the source: {other}"))
            }
            OrderFact::Open => Next::Wait(format!("the target could not run the pod ({why}): the source starts it again")),
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
        ) => Next::Start,
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

fn started(source: NodeFact, left_behind: LeftBehind) -> Next {
    match (source, left_behind) {
        (NodeFact::Dead, _) | (NodeFact::Ready | NodeFact::Silent, LeftBehind::Kept) => Next::Done,
        (NodeFact::Ready | NodeFact::Silent, LeftBehind::Nothing | LeftBehind::Discarded) => Next::Release,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: a row for each phase, state of the orders, source and target; pools and what stays behind
    /// matter in one phase each.
    #[test]
    fn what_is_next() {
        let phases = [
            Phase::Preparing,
            Phase::Stopping,
            Phase::Starting,
            Phase::Releasing,
            Phase::Returning { why: "no room".to_owned() },
        ];
        let orders = [OrderFact::Open, OrderFact::Done, OrderFact::Failed("it broke".to_owned())];
        let nodes = [NodeFact::Ready, NodeFact::Silent, NodeFact::Dead];
        let mut table = String::new();
        for phase in &phases {
            for order in &orders {
                let id = OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
                let orders = BTreeMap::from([(id, order.clone())]);
                for source in nodes {
                    for target in nodes {
                        let facts = Facts {
                            source,
                            target,
                            pool: PoolFact::Settled,
                            orders: &orders,
                            left_behind: LeftBehind::Nothing,
                        };
                        let next = next(phase, &facts);
                        // The rule that all else is for.
                        let stopped = *order == OrderFact::Done || source == NodeFact::Dead;
                        assert!(next != Next::Start || stopped, "{phase:?} {facts:?}");
                        table.push_str(&format!(
                            "{:9} {order:?} {source:?} {target:?} -> {next:?}\n",
                            phase.name()
                        ));
                    }
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn pools_and_what_stays_behind() {
        let none = BTreeMap::new();
        let facts = |pool, left_behind| Facts {
            source: NodeFact::Ready,
            target: NodeFact::Ready,
            pool,
            orders: &none,
            left_behind,
        };
        let pending = next(&Phase::Preparing, &facts(PoolFact::Pending, LeftBehind::Nothing));
        assert!(matches!(pending, Next::Wait(_)), "{pending:?}");
        let refused = next(&Phase::Preparing, &facts(PoolFact::Refused, LeftBehind::Nothing));
        assert!(matches!(refused, Next::Failed(_)), "{refused:?}");
        for (left_behind, expected) in [
            (LeftBehind::Nothing, Next::Release),
            (LeftBehind::Discarded, Next::Release),
            (LeftBehind::Kept, Next::Done),
        ] {
            assert_eq!(next(&Phase::Starting, &facts(PoolFact::Settled, left_behind)), expected);
        }
    }
}
