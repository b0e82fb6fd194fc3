//! A pod as the control plane keeps it.

use crate::flow::{PodState, Presence, Standing};
use crate::store::{KeptRow, PodRow};
use berth_model::{
    Bytes, CpuBinding, CpuSet, Generation, Incarnation, NodeName, PodId, PodRequest, PodSpec, PodStatus, Seq,
};
use berth_proto::{InvalidMessage, v1};
use std::collections::BTreeMap;

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    /// What a platform asked for last.
    pub request: PodRequest,
    /// Of the last placement.
    pub incarnation: Incarnation,
    /// Of the spec in it.
    pub generation: Generation,
    /// Of the last order.
    pub seq: Seq,
    /// Where it stands.
    pub standing: Standing,
    /// Where it was placed; none once it is evicted.
    pub node: Option<NodeName>,
    /// What was ordered there; none once it is evicted.
    pub spec: Option<PodSpec>,
    /// What the node reported last of this incarnation.
    pub status: Option<PodStatus>,
    /// What is wrong, for people.
    pub message: String,
    /// Where disks of it are kept, and the newest incarnation that left them.
    pub kept: BTreeMap<NodeName, Incarnation>,
}

impl Pod {
    /// CPUs that are spoken for by this pod alone.
    pub(crate) fn exclusive_cpus(&self) -> Option<&CpuSet> {
        match (self.standing.presence, &self.spec.as_ref()?.cpu) {
            (Presence::OnNode, CpuBinding::Exclusive { cpus, .. }) => Some(cpus),
            (Presence::OnNode, CpuBinding::Shared { .. }) | (Presence::Gone, _) => None,
        }
    }

    /// Memory that is spoken for by this pod.
    pub(crate) fn memory(&self) -> Bytes {
        match self.standing.presence {
            Presence::OnNode => berth_placement::memory_demand(&self.request),
            Presence::Gone => Bytes(0),
        }
    }

    /// The pod as platforms see it; the caller adds its orders.
    pub(crate) fn to_wire(&self) -> v1::Pod {
        v1::Pod {
            pod: Some((&self.request.pod).into()),
            request: Some((&self.request).into()),
            incarnation: self.incarnation.0,
            generation: self.generation.0,
            seq: self.seq.0,
            state: state_to_wire(self.standing.state).into(),
            node: self.node.as_ref().map(ToString::to_string),
            spec: self.spec.as_ref().map(Into::into),
            status: self.status.as_ref().map(Into::into),
            message: self.message.clone(),
            orders: Vec::new(),
        }
    }

    pub(crate) fn to_row(&self, version: u32) -> PodRow {
        let kept = |(node, incarnation): (&NodeName, &Incarnation)| KeptRow {
            node: node.to_string(),
            incarnation: incarnation.0,
        };
        PodRow {
            version,
            pod: Some(self.to_wire()),
            on_node: self.standing.presence == Presence::OnNode,
            kept: self.kept.iter().map(kept).collect(),
        }
    }

    pub(crate) fn from_row(row: PodRow) -> Result<(PodId, Self), InvalidMessage> {
        let wire = row.pod.ok_or_else(|| InvalidMessage::missing("pod"))?;
        let request: PodRequest =
            wire.request.ok_or_else(|| InvalidMessage::missing("request"))?.try_into()?;
        let name = |text: String| NodeName::new(text).map_err(|error| InvalidMessage::new("node", error));
        let kept = row
            .kept
            .into_iter()
            .map(|kept| Ok((name(kept.node)?, Incarnation(kept.incarnation))))
            .collect::<Result<_, InvalidMessage>>()?;
        let pod = Self {
            incarnation: Incarnation(wire.incarnation),
            generation: Generation(wire.generation),
            seq: Seq(wire.seq),
            standing: Standing {
                state: state_from_wire(wire.state)?,
                presence: if row.on_node { Presence::OnNode } else { Presence::Gone },
            },
            node: wire.node.map(name).transpose()?,
            spec: wire.spec.map(TryInto::try_into).transpose()?,
            status: wire.status.map(TryInto::try_into).transpose()?,
            message: wire.message,
            kept,
            request,
        };
        Ok((pod.request.pod.clone(), pod))
    }
}

fn state_to_wire(state: PodState) -> v1::PodState {
    match state {
        PodState::Placed => v1::PodState::Placed,
        PodState::Running => v1::PodState::Running,
        PodState::Stopping => v1::PodState::Stopping,
        PodState::Stopped => v1::PodState::Stopped,
        PodState::Evicting => v1::PodState::Evicting,
        PodState::Evicted => v1::PodState::Evicted,
        PodState::Failed => v1::PodState::Failed,
    }
}

fn state_from_wire(number: i32) -> Result<PodState, InvalidMessage> {
    PodState::ALL
        .into_iter()
        .find(|state| i32::from(state_to_wire(*state)) == number)
        .ok_or_else(|| InvalidMessage::new("state", format!("{number} is unknown")))
}
