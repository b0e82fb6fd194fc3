//! A pod as the control plane keeps it.

use crate::flow::{InPlace, PodState, Presence, Standing};
use crate::store::{KeptRow, PodRow, RevisionRow};
use berth_model::{
    Bytes, CpuBinding, CpuSet, Generation, Incarnation, NodeName, PodId, PodRequest, PodSpec, PodStatus, Seq,
};
use berth_proto::{InvalidMessage, v1};
use std::collections::BTreeMap;

/// A change in place that a node was ordered to make, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// How.
    pub how: InPlace,
    /// Of its order, which is what it is known by.
    pub seq: Seq,
    /// Of the spec that it makes.
    pub generation: Generation,
    /// What the pod's request is once it is done.
    pub request: PodRequest,
    /// What the pod's spec is then.
    pub spec: PodSpec,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    /// What a platform asked for last.
    pub request: PodRequest,
    /// Of the last placement.
    pub incarnation: Incarnation,
    /// The highest that the pod's node has taken on: of the spec in it, or of a change that it took back.
    pub generation: Generation,
    /// Of the last order.
    pub seq: Seq,
    /// Of the last order that was about where the pod is now: only its outcome moves the pod.
    pub current: Seq,
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
    /// A change in place whose outcome is not known yet. Until then both what was and what is to be is spoken for.
    pub revision: Option<Revision>,
}

impl Pod {
    /// What its node may be holding it to: its spec, and the one that it is to have. None where it is on no node.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &PodSpec> {
        let revised = self.revision.as_ref().map(|revision| &revision.spec);
        let on_node = self.standing.presence == Presence::OnNode;
        self.spec.iter().chain(revised).filter(move |_| on_node)
    }

    /// What it may be accounted for: its request, and the one that it is to have. None where it is on no node.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &PodRequest> {
        let revised = self.revision.as_ref().map(|revision| &revision.request);
        let on_node = self.standing.presence == Presence::OnNode;
        std::iter::once(&self.request).chain(revised).filter(move |_| on_node)
    }

    /// CPUs that are spoken for by this pod alone.
    pub(crate) fn exclusive_cpus(&self) -> Option<CpuSet> {
        let cpus = self.specs().filter_map(|spec| match &spec.cpu {
            CpuBinding::Exclusive { cpus, .. } => Some(cpus),
            CpuBinding::Shared { .. } => None,
        });
        cpus.cloned().reduce(|all, cpus| all.union(&cpus))
    }

    /// Memory that is spoken for by this pod.
    pub(crate) fn memory(&self) -> Bytes {
        self.requests().map(berth_placement::memory_demand).max().unwrap_or_default()
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
            revision: self.revision.as_ref().map(|revision| v1::PodRevision {
                generation: revision.generation.0,
                seq: revision.seq.0,
                verb: revision.how.name().to_owned(),
            }),
            kept: self
                .kept
                .iter()
                .map(|(node, incarnation)| v1::KeptDisks {
                    node: node.to_string(),
                    incarnation: incarnation.0,
                })
                .collect(),
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
            revision: self.revision.as_ref().map(Revision::to_row),
            current: self.current.0,
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
            current: Seq(if row.current == 0 { wire.seq } else { row.current }),
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
            revision: row.revision.map(Revision::from_row).transpose()?,
        };
        Ok((pod.request.pod.clone(), pod))
    }
}

impl Revision {
    fn to_row(&self) -> RevisionRow {
        RevisionRow {
            live: self.how == InPlace::Resize,
            seq: self.seq.0,
            generation: self.generation.0,
            request: Some((&self.request).into()),
            spec: Some((&self.spec).into()),
        }
    }

    fn from_row(row: RevisionRow) -> Result<Self, InvalidMessage> {
        let missing = |field| InvalidMessage::missing(field);
        Ok(Self {
            how: if row.live { InPlace::Resize } else { InPlace::Upgrade },
            seq: Seq(row.seq),
            generation: Generation(row.generation),
            request: row.request.ok_or_else(|| missing("revision.request"))?.try_into()?,
            spec: row.spec.ok_or_else(|| missing("revision.spec"))?.try_into()?,
        })
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
