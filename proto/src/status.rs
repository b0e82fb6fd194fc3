//! Facts about pods.

use crate::error::{At, InvalidMessage, Result, each, required};
use crate::pod::pod_from;
use crate::probe::answer_from;
use crate::v1;
use berth_model::{
    AddressGrant, Applied, Attempt, ContainerPhase, ContainerStatus, Control, ControlValue, Generation,
    Incarnation, PodPhase, PodStatus,
};

impl From<&PodStatus> for v1::PodStatus {
    fn from(status: &PodStatus) -> Self {
        Self {
            pod: Some((&status.pod).into()),
            incarnation: status.incarnation.0,
            generation: status.generation.0,
            phase: v1::PodPhase::from(status.phase).into(),
            message: status.message.clone(),
            sandbox_id: status.sandbox_id.clone(),
            addresses: status.addresses.iter().map(Into::into).collect(),
            containers: status.containers.iter().map(Into::into).collect(),
            applied: status.applied.as_ref().map(Into::into),
            open_order: status.open_order.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<v1::PodStatus> for PodStatus {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PodStatus) -> Result<Self> {
        Ok(Self {
            pod: pod_from(wire.pod)?,
            incarnation: Incarnation(wire.incarnation),
            generation: Generation(wire.generation),
            phase: phase_from(wire.phase).at("phase")?,
            message: wire.message,
            sandbox_id: wire.sandbox_id,
            addresses: each(wire.addresses, "addresses", AddressGrant::try_from)?,
            containers: each(wire.containers, "containers", container_from)?,
            applied: wire.applied.map(applied_from).transpose().at("applied")?,
            open_order: wire.open_order.map(|id| id.parse()).transpose().at("open_order")?,
        })
    }
}

impl From<PodPhase> for v1::PodPhase {
    fn from(phase: PodPhase) -> Self {
        match phase {
            PodPhase::Pending => Self::Pending,
            PodPhase::Running => Self::Running,
            PodPhase::Degraded => Self::Degraded,
            PodPhase::Stopped => Self::Stopped,
            PodPhase::Evicting => Self::Evicting,
            PodPhase::Gone => Self::Gone,
            PodPhase::Unknown => Self::Unknown,
            PodPhase::Held => Self::Held,
        }
    }
}

fn phase_from(number: i32) -> Result<PodPhase> {
    match v1::PodPhase::try_from(number) {
        Ok(v1::PodPhase::Pending) => Ok(PodPhase::Pending),
        Ok(v1::PodPhase::Running) => Ok(PodPhase::Running),
        Ok(v1::PodPhase::Degraded) => Ok(PodPhase::Degraded),
        Ok(v1::PodPhase::Stopped) => Ok(PodPhase::Stopped),
        Ok(v1::PodPhase::Evicting) => Ok(PodPhase::Evicting),
        Ok(v1::PodPhase::Held) => Ok(PodPhase::Held),
        Ok(v1::PodPhase::Gone) => Ok(PodPhase::Gone),
        Ok(v1::PodPhase::Unknown | v1::PodPhase::Unspecified) => Ok(PodPhase::Unknown),
        Err(_) => Err(InvalidMessage::new("", format!("{number} is unknown to this version"))),
    }
}

impl From<&ContainerStatus> for v1::ContainerStatus {
    fn from(status: &ContainerStatus) -> Self {
        Self {
            name: status.name.to_string(),
            id: status.id.clone(),
            attempt: status.attempt.0,
            image_digest: status.image_digest.as_ref().map(ToString::to_string),
            phase: Some((&status.phase).into()),
            applied: status.applied.as_ref().map(Into::into),
            readiness: status.readiness.as_ref().map(Into::into),
        }
    }
}

fn container_from(wire: v1::ContainerStatus) -> Result<ContainerStatus> {
    Ok(ContainerStatus {
        name: wire.name.parse().at("name")?,
        id: wire.id,
        attempt: Attempt(wire.attempt),
        image_digest: wire.image_digest.map(|digest| digest.parse()).transpose().at("image_digest")?,
        phase: container_phase_from(wire.phase),
        applied: wire.applied.map(applied_from).transpose().at("applied")?,
        readiness: wire.readiness.map(answer_from),
    })
}

impl From<&ContainerPhase> for v1::ContainerPhase {
    fn from(phase: &ContainerPhase) -> Self {
        use v1::container_phase::{Absent, Created, ExitedTask, Phase, RunningTask, UnknownTask};
        let phase = match phase {
            ContainerPhase::Absent => Phase::Absent(Absent {}),
            ContainerPhase::Created => Phase::Created(Created {}),
            ContainerPhase::Running { started_at_ns, pid } => {
                Phase::Running(RunningTask { started_at_ns: *started_at_ns, pid: *pid })
            }
            ContainerPhase::Exited { code, finished_at_ns, reason } => Phase::Exited(ExitedTask {
                code: *code,
                finished_at_ns: *finished_at_ns,
                reason: reason.clone(),
            }),
            ContainerPhase::Unknown => Phase::Unknown(UnknownTask {}),
        };
        Self { phase: Some(phase) }
    }
}

/// A phase that this version does not know is unknown, which counts as live.
fn container_phase_from(wire: Option<v1::ContainerPhase>) -> ContainerPhase {
    use v1::container_phase::Phase;
    match wire.and_then(|wire| wire.phase) {
        Some(Phase::Absent(_)) => ContainerPhase::Absent,
        Some(Phase::Created(_)) => ContainerPhase::Created,
        Some(Phase::Running(running)) => {
            ContainerPhase::Running { started_at_ns: running.started_at_ns, pid: running.pid }
        }
        Some(Phase::Exited(exited)) => ContainerPhase::Exited {
            code: exited.code,
            finished_at_ns: exited.finished_at_ns,
            reason: exited.reason,
        },
        Some(Phase::Unknown(_)) | None => ContainerPhase::Unknown,
    }
}

impl From<&Applied> for v1::Applied {
    fn from(applied: &Applied) -> Self {
        use v1::control::Read;
        let control = |control: &Control| v1::Control {
            file: control.file.clone(),
            ordered: control.ordered.clone(),
            read: Some(match &control.read {
                ControlValue::Text(text) => Read::Text(text.clone()),
                ControlValue::Unreadable(why) => Read::Unreadable(why.clone()),
            }),
        };
        Self { cgroup: applied.cgroup.clone(), controls: applied.controls.iter().map(control).collect() }
    }
}

fn applied_from(wire: v1::Applied) -> Result<Applied> {
    use v1::control::Read;
    let controls = each(wire.controls, "controls", |control| {
        let read = match required(control.read, "read")? {
            Read::Text(text) => ControlValue::Text(text),
            Read::Unreadable(why) => ControlValue::Unreadable(why),
        };
        Ok(Control { file: control.file, ordered: control.ordered, read })
    })?;
    Ok(Applied { cgroup: wire.cgroup, controls })
}
