//! What can happen, by a stable code, a text for people, and details for programs.

use berth_cgroup::Resource;
use berth_model::{Attempt, ContainerName, PodId};
use berth_proto::v1;
use std::fmt;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, milliseconds after the epoch.
    pub at_ms: u64,
    /// To which pod; none for the node as a whole.
    pub pod: Option<PodId>,
    /// To which of its containers; none for the pod as a whole.
    pub container: Option<ContainerName>,
    /// What.
    pub incident: Incident,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// A container's first process runs.
    Started {
        /// Which of its successive containers.
        attempt: Attempt,
    },
    /// A container's first process has ended.
    Exited {
        /// Which of its successive containers.
        attempt: Attempt,
        /// Exit code; 128 + n for signal n.
        code: i32,
        /// What the runtime calls it, such as `OOMKilled`.
        reason: String,
    },
    /// Its probe says that it can do its work, and did not before.
    Ready,
    /// Its probe says that it cannot do its work any more.
    NotReady {
        /// What the probe says.
        why: String,
    },
    /// The kernel has killed processes for want of memory.
    OomKill {
        /// How many since the last look.
        processes: u64,
    },
    /// A control that was as ordered is not: somebody else has written it, and it is written again once.
    ControlDrift {
        /// Such as `cpu.max`.
        file: String,
        /// What was ordered.
        ordered: String,
        /// What was found.
        found: String,
    },
    /// Work has waited long for a resource.
    PressureHigh {
        /// For which.
        resource: Resource,
        /// How much of the last minute at least one task waited, in hundredths of a percent.
        share_permyriad: u32,
    },
    /// Work does not wait so long any more.
    PressureOver {
        /// For which.
        resource: Resource,
        /// As in [`Incident::PressureHigh`].
        share_permyriad: u32,
    },
    /// The runtime has a container that nobody ordered. It is left alone.
    UnknownContainer {
        /// The runtime's id.
        id: String,
        /// The image that it was made from; empty where it does not say.
        image: String,
    },
    /// The runtime has many of them.
    MoreUnknownContainers {
        /// How many beside those that are named.
        containers: usize,
    },
}

impl Incident {
    /// Its stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Started { .. } => "ContainerStarted",
            Self::Exited { .. } => "ContainerExited",
            Self::Ready => "ContainerReady",
            Self::NotReady { .. } => "ContainerNotReady",
            Self::OomKill { .. } => "OomKill",
            Self::ControlDrift { .. } => "ControlDrift",
            Self::PressureHigh { .. } => "PressureHigh",
            Self::PressureOver { .. } => "PressureOver",
            Self::UnknownContainer { .. } => "UnknownContainer",
            Self::MoreUnknownContainers { .. } => "MoreUnknownContainers",
        }
    }

    /// What programs need of it, by names.
    pub fn details(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Started { attempt } => vec![("attempt", attempt.0.to_string())],
            Self::Exited { attempt, code, reason } => vec![
                ("attempt", attempt.0.to_string()),
                ("code", code.to_string()),
                ("reason", reason.clone()),
            ],
            Self::Ready => Vec::new(),
            Self::NotReady { why } => vec![("why", why.clone())],
            Self::OomKill { processes } => vec![("processes", processes.to_string())],
            Self::ControlDrift { file, ordered, found } => {
                vec![("file", file.clone()), ("ordered", ordered.clone()), ("found", found.clone())]
            }
            Self::PressureHigh { resource, share_permyriad }
            | Self::PressureOver { resource, share_permyriad } => {
                vec![("resource", resource.name().to_owned()), ("share", percent(*share_permyriad))]
            }
            Self::UnknownContainer { id, image } => vec![("id", id.clone()), ("image", image.clone())],
            Self::MoreUnknownContainers { containers } => vec![("containers", containers.to_string())],
        }
    }
}

fn percent(permyriad: u32) -> String {
    format!("{}.{:02} %", permyriad / 100, permyriad % 100)
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { attempt } => write!(f, "attempt {} has started", attempt.0),
            Self::Exited { attempt, code, reason } => {
                write!(f, "attempt {} has ended with code {code} ({reason})", attempt.0)
            }
            Self::Ready => f.write_str("it can do its work"),
            Self::NotReady { why } => write!(f, "it cannot do its work: {why}"),
            Self::OomKill { processes: 1 } => f.write_str("the kernel killed a process for want of memory"),
            Self::OomKill { processes } => {
                write!(f, "the kernel killed {processes} processes for want of memory")
            }
            Self::ControlDrift { file, ordered, found } => {
                write!(f, "{file} was written by somebody else: {ordered:?} was ordered, {found:?} was found")
            }
            Self::PressureHigh { resource, share_permyriad } => {
                write!(
                    f,
                    "work waited for {} {} of the last minute",
                    resource.name(),
                    percent(*share_permyriad)
                )
            }
            Self::PressureOver { resource, share_permyriad } => write!(
                f,
                "work waits less for {} again: {} of the last minute",
                resource.name(),
                percent(*share_permyriad)
            ),
            Self::MoreUnknownContainers { containers } => {
                write!(
                    f,
                    "the runtime has {containers} more containers that nobody ordered; they are left alone"
                )
            }
            Self::UnknownContainer { id, image } => {
                write!(
                    f,
                    "the runtime has container {id} of image {image:?}, which nobody ordered; it is left alone"
                )
            }
        }
    }
}

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        let details = event.incident.details().into_iter();
        Self {
            at_ms: event.at_ms,
            node: String::new(),
            id: String::new(),
            pod: event.pod.as_ref().map(Into::into),
            container: event.container.as_ref().map(ToString::to_string),
            code: event.incident.code().to_owned(),
            message: event.incident.to_string(),
            details: details.map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> [Incident; 10] {
        let (resource, share_permyriad) = (Resource::Memory, 4_200);
        let text = String::new;
        [
            Incident::Started { attempt: Attempt(1) },
            Incident::Exited { attempt: Attempt(1), code: 1, reason: text() },
            Incident::Ready,
            Incident::NotReady { why: text() },
            Incident::OomKill { processes: 1 },
            Incident::ControlDrift { file: text(), ordered: text(), found: text() },
            Incident::PressureHigh { resource, share_permyriad },
            Incident::PressureOver { resource, share_permyriad },
            Incident::UnknownContainer { id: text(), image: text() },
            Incident::MoreUnknownContainers { containers: 1 },
        ]
    }

    #[test]
    fn every_code_is_documented_with_its_details() {
        let said = include_str!("../../../docs/observability.md");
        for incident in one_of_each() {
            let details: Vec<_> = incident.details().iter().map(|(name, _)| format!("`{name}`")).collect();
            let row = format!("| `{}` | {} |", incident.code(), details.join(", "));
            assert!(said.contains(&row), "docs/observability.md has no row that begins {row:?}");
        }
    }
}
