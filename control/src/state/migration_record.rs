//! A migration as the control plane keeps it, and as it is written and shown.

use crate::flow::migrate::{LeftBehind, Luggage, OrderFact, Phase};
use crate::store::{MigrationOrderRow, MigrationRow};
use berth_model::{DiskName, Incarnation, NodeName, OrderId, PodId, PodRequest, PodSpec};
use berth_proto::{InvalidMessage, pod_from, v1};
use std::collections::{BTreeMap, BTreeSet};

/// One migration. A pod has at most one; the last one is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migration {
    /// Where the pod comes from.
    pub from: NodeName,
    /// Its placement there.
    pub from_incarnation: Incarnation,
    /// What it was ordered to be there, for the way back.
    pub from_spec: PodSpec,
    /// Where it goes.
    pub to: NodeName,
    /// What it will be ordered to be there.
    pub to_spec: PodSpec,
    /// What both are made of.
    pub request: PodRequest,
    /// How far it is.
    pub phase: Phase,
    /// The orders of this phase, and what came of them.
    pub orders: BTreeMap<OrderId, OrderFact>,
    /// What becomes of what cannot be taken along.
    pub left_behind: LeftBehind,
    /// Data disks that go along.
    pub copied: BTreeSet<DiskName>,
    /// What may become of them if they cannot be had any more; none where the pod needs them.
    pub wanted: Option<LeftBehind>,
    /// Why, for people.
    pub reason: String,
    /// What it waits for, for people.
    pub message: String,
    /// Milliseconds after the epoch.
    pub started_at_ms: u64,
    /// Milliseconds after the epoch.
    pub changed_at_ms: u64,
    /// When the source was ordered to stop the pod, milliseconds after the epoch.
    pub stopped_at_ms: Option<u64>,
    /// When it ran again, here or there, milliseconds after the epoch.
    pub running_at_ms: Option<u64>,
}

impl Migration {
    /// What is spoken for on a node where the pod is not, or not yet, or not any more.
    pub(crate) fn reserved_on(&self, node: &NodeName) -> Option<&PodSpec> {
        match self.phase {
            Phase::Preparing if *node == self.to => Some(&self.to_spec),
            // The way back stays open until the pod runs.
            Phase::Stopping | Phase::Offering | Phase::Copying | Phase::Starting if *node == self.to => {
                Some(&self.to_spec)
            }
            Phase::Stopping | Phase::Offering | Phase::Copying | Phase::Starting if *node == self.from => {
                Some(&self.from_spec)
            }
            Phase::Preparing
            | Phase::Stopping
            | Phase::Offering
            | Phase::Copying
            | Phase::Starting
            | Phase::Releasing
            | Phase::Returning { .. }
            | Phase::Done
            | Phase::Failed { .. } => None,
        }
    }

    /// What goes along.
    pub(crate) fn luggage(&self) -> Luggage<'_> {
        match (self.copied.is_empty(), self.wanted) {
            (true, _) => Luggage::Nothing,
            (false, None) => Luggage::Needed(&self.copied),
            (false, Some(_)) => Luggage::Wanted(&self.copied),
        }
    }

    /// As platforms see it.
    pub(crate) fn to_wire(&self, pod: &PodId) -> v1::Migration {
        let phase = match &self.phase {
            Phase::Preparing => v1::MigrationPhase::Preparing,
            Phase::Stopping => v1::MigrationPhase::Stopping,
            Phase::Offering => v1::MigrationPhase::Offering,
            Phase::Copying => v1::MigrationPhase::Copying,
            Phase::Starting => v1::MigrationPhase::Starting,
            Phase::Releasing => v1::MigrationPhase::Releasing,
            Phase::Returning { .. } => v1::MigrationPhase::Returning,
            Phase::Done => v1::MigrationPhase::Done,
            Phase::Failed { .. } => v1::MigrationPhase::Failed,
        };
        v1::Migration {
            pod: Some(pod.into()),
            from: self.from.to_string(),
            to: self.to.to_string(),
            from_incarnation: self.from_incarnation.0,
            phase: phase.into(),
            message: match &self.phase {
                Phase::Failed { why } => why.clone(),
                _ => self.message.clone(),
            },
            leave_behind: left_to_wire(self.left_behind).into(),
            reason: self.reason.clone(),
            started_at_ms: self.started_at_ms,
            changed_at_ms: self.changed_at_ms,
            stopped_at_ms: self.stopped_at_ms,
            running_at_ms: self.running_at_ms,
            copied_disks: self.copied.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn to_row(&self, pod: &PodId, version: u32) -> MigrationRow {
        let order = |(id, fact): (&OrderId, &OrderFact)| {
            let (ended, failed) = match fact {
                OrderFact::Open => (false, None),
                OrderFact::Done => (true, None),
                OrderFact::Failed(why) => (true, Some(why.clone())),
            };
            MigrationOrderRow { id: id.to_string(), ended, failed }
        };
        let why = match &self.phase {
            Phase::Returning { why } => why.clone(),
            _ => String::new(),
        };
        MigrationRow {
            version,
            migration: Some(self.to_wire(pod)),
            request: Some((&self.request).into()),
            from_spec: Some((&self.from_spec).into()),
            to_spec: Some((&self.to_spec).into()),
            orders: self.orders.iter().map(order).collect(),
            why,
            wanted: left_to_wire(self.wanted.unwrap_or(LeftBehind::Nothing)).into(),
        }
    }

    pub(crate) fn from_row(row: MigrationRow) -> Result<(PodId, Self), InvalidMessage> {
        let missing = InvalidMessage::missing;
        let wire = row.migration.ok_or_else(|| missing("migration"))?;
        let node = |text: String| NodeName::new(text).map_err(|error| InvalidMessage::new("node", error));
        let phase = match v1::MigrationPhase::try_from(wire.phase) {
            Ok(v1::MigrationPhase::Preparing) => Phase::Preparing,
            Ok(v1::MigrationPhase::Stopping) => Phase::Stopping,
            Ok(v1::MigrationPhase::Offering) => Phase::Offering,
            Ok(v1::MigrationPhase::Copying) => Phase::Copying,
            Ok(v1::MigrationPhase::Starting) => Phase::Starting,
            Ok(v1::MigrationPhase::Releasing) => Phase::Releasing,
            Ok(v1::MigrationPhase::Returning) => Phase::Returning { why: row.why },
            Ok(v1::MigrationPhase::Done) => Phase::Done,
            Ok(v1::MigrationPhase::Failed) => Phase::Failed { why: wire.message.clone() },
            Ok(v1::MigrationPhase::Unspecified) | Err(_) => {
                return Err(InvalidMessage::new("phase", format!("{} is unknown", wire.phase)));
            }
        };
        // Why it failed is its phase's.
        let message = if matches!(phase, Phase::Failed { .. }) { String::new() } else { wire.message };
        let copied = wire.copied_disks.iter().map(|disk| disk.parse());
        let copied: Result<_, _> = copied.collect();
        let migration = Self {
            from: node(wire.from)?,
            from_incarnation: Incarnation(wire.from_incarnation),
            from_spec: row.from_spec.ok_or_else(|| missing("from_spec"))?.try_into()?,
            to: node(wire.to)?,
            to_spec: row.to_spec.ok_or_else(|| missing("to_spec"))?.try_into()?,
            request: row.request.ok_or_else(|| missing("request"))?.try_into()?,
            phase,
            orders: row.orders.into_iter().map(order_from).collect::<Result<_, _>>()?,
            left_behind: left_from(wire.leave_behind)?,
            copied: copied.map_err(|error| InvalidMessage::new("copied_disks", error))?,
            wanted: Some(left_from(row.wanted)?).filter(|wanted| *wanted != LeftBehind::Nothing),
            reason: wire.reason,
            message,
            started_at_ms: wire.started_at_ms,
            changed_at_ms: wire.changed_at_ms,
            stopped_at_ms: wire.stopped_at_ms,
            running_at_ms: wire.running_at_ms,
        };
        Ok((pod_from(wire.pod)?, migration))
    }
}

fn left_to_wire(left: LeftBehind) -> v1::LeaveBehind {
    match left {
        LeftBehind::Nothing => v1::LeaveBehind::Unspecified,
        LeftBehind::Kept => v1::LeaveBehind::Keep,
        LeftBehind::Discarded => v1::LeaveBehind::Discard,
    }
}

fn left_from(wire: i32) -> Result<LeftBehind, InvalidMessage> {
    match v1::LeaveBehind::try_from(wire) {
        Ok(v1::LeaveBehind::Unspecified) => Ok(LeftBehind::Nothing),
        Ok(v1::LeaveBehind::Keep) => Ok(LeftBehind::Kept),
        Ok(v1::LeaveBehind::Discard) => Ok(LeftBehind::Discarded),
        Err(_) => Err(InvalidMessage::new("leave_behind", format!("{wire} is unknown"))),
    }
}

fn order_from(row: MigrationOrderRow) -> Result<(OrderId, OrderFact), InvalidMessage> {
    let id = OrderId::new(row.id).map_err(|error| InvalidMessage::new("order", error))?;
    Ok(match (row.ended, row.failed) {
        (false, _) => (id, OrderFact::Open),
        (true, None) => (id, OrderFact::Done),
        (true, Some(why)) => (id, OrderFact::Failed(why)),
    })
}
