//! An order and how far it is.

use crate::flow::Ending;
use crate::store::{OrderRow, OrderState};
use berth_model::{NodeName, Order, OrderId, PodId, Target};
use berth_proto::{Addressed, InvalidMessage, v1};

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Held back until another one has ended.
    Waiting {
        /// That one.
        after: OrderId,
    },
    /// Sent, or to be sent as soon as the node is connected.
    Sent,
    /// It stands in the node's ledger. It is sent again all the same: the node answers with what it knows.
    Accepted,
    /// It is over.
    Ended {
        /// How.
        ending: Ending,
        /// When, milliseconds after the epoch.
        at_ms: u64,
    },
}

/// An order as the control plane keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderRecord {
    /// Whom it is for.
    pub node: NodeName,
    /// What it says.
    pub order: Order,
    /// How far it is.
    pub progress: Progress,
    /// Milliseconds after the epoch.
    pub created_at_ms: u64,
}

impl OrderRecord {
    /// Whether it has no outcome yet.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.progress, Progress::Ended { .. })
    }

    /// The pod that it is about.
    pub(crate) fn pod(&self) -> Option<&PodId> {
        match &self.order.target {
            Target::Pod(order) => Some(&order.pod),
            Target::Node(_) => None,
        }
    }

    /// The order as it goes over the wire.
    pub(crate) fn to_wire(&self) -> v1::Order {
        v1::Order::from(&Addressed { node: self.node.clone(), order: self.order.clone() })
    }

    /// What it asks for, by name.
    pub(crate) fn verb(&self) -> &'static str {
        match &self.order.target {
            Target::Pod(order) => order.verb.name(),
            Target::Node(order) => order.verb.name(),
        }
    }

    /// How far it is, and how it ended, by name.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.progress {
            Progress::Waiting { .. } => "waiting",
            Progress::Sent => "sent",
            Progress::Accepted => "accepted",
            Progress::Ended { ending, .. } => match ending {
                Ending::Done => "done",
                Ending::Failed(_) => "failed",
                Ending::RolledBack(_) => "rolled back",
                Ending::Refused(_) => "refused",
            },
        }
    }

    fn ending(&self) -> (Option<v1::Outcome>, Option<u64>) {
        match &self.progress {
            Progress::Ended { ending, at_ms } => (Some(ending.into()), Some(*at_ms)),
            Progress::Waiting { .. } | Progress::Sent | Progress::Accepted => (None, None),
        }
    }

    /// The record as platforms see it.
    pub(crate) fn to_record(&self) -> v1::OrderRecord {
        let (outcome, ended_at_ms) = self.ending();
        v1::OrderRecord {
            order: Some(self.to_wire()),
            state: self.state_name().to_owned(),
            outcome,
            created_at_ms: self.created_at_ms,
            ended_at_ms,
        }
    }

    pub(crate) fn to_row(&self, version: u32) -> OrderRow {
        let (outcome, ended_at_ms) = self.ending();
        let (state, after) = match &self.progress {
            Progress::Waiting { after } => (OrderState::Waiting, Some(after.to_string())),
            Progress::Sent => (OrderState::Sent, None),
            Progress::Accepted => (OrderState::Accepted, None),
            Progress::Ended { .. } => (OrderState::Ended, None),
        };
        OrderRow {
            version,
            order: Some(self.to_wire()),
            state: state.into(),
            outcome,
            created_at_ms: self.created_at_ms,
            ended_at_ms,
            after,
        }
    }

    pub(crate) fn from_row(row: OrderRow) -> Result<Self, InvalidMessage> {
        let missing = |field| InvalidMessage::missing(field);
        let addressed: Addressed = row.order.ok_or_else(|| missing("order"))?.try_into()?;
        let state = OrderState::try_from(row.state)
            .map_err(|_| InvalidMessage::new("state", format!("{} is unknown", row.state)))?;
        let progress = match state {
            OrderState::Waiting => Progress::Waiting {
                after: OrderId::new(row.after.ok_or_else(|| missing("after"))?)
                    .map_err(|error| InvalidMessage::new("after", error))?,
            },
            OrderState::Sent => Progress::Sent,
            OrderState::Accepted => Progress::Accepted,
            OrderState::Ended => Progress::Ended {
                ending: row.outcome.ok_or_else(|| missing("outcome"))?.try_into()?,
                at_ms: row.ended_at_ms.unwrap_or_default(),
            },
        };
        Ok(Self { node: addressed.node, order: addressed.order, progress, created_at_ms: row.created_at_ms })
    }
}
