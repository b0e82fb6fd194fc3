//! A pod's state machine. Orders move it when they are given, outcomes when they come back.

use super::Ending;
use berth_model::{Disk, EvictDisposition, PodVerb};

/// What the control plane has ordered of a pod, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PodState {
    /// A node was ordered to run it.
    Placed,
    /// It ran when the last order was done.
    Running,
    /// A Stop is under way.
    Stopping,
    /// It was stopped, and keeps everything.
    Stopped,
    /// An Evict is under way.
    Evicting,
    /// It is on no node; its identity and address are still assigned.
    Evicted,
    /// Its node could not carry out its last order.
    Failed,
}

impl PodState {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Placed,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Evicting,
        Self::Evicted,
        Self::Failed,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Evicting => "being evicted",
            Self::Evicted => "evicted",
            Self::Failed => "failed",
        }
    }
}

/// Whether the node that a pod was placed on may have it: then its CPUs and memory are spoken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Presence {
    /// It may.
    OnNode,
    /// It has not, for certain.
    Gone,
}

/// Where a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Standing {
    /// Its state.
    pub state: PodState,
    /// Whether its node may have it.
    pub presence: Presence,
}

/// What else follows from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Consequence {
    /// Nothing.
    Nothing,
    /// The disks that the node kept are the running pod's again.
    DisksTaken,
    /// The node keeps the disks of this incarnation.
    DisksKept,
    /// The pod is given up: every node that still keeps disks of it is to release them, then its identity ends.
    GiveUp,
    /// The node keeps nothing of the pod any more; its identity ends when no node does.
    DisksReleased,
}

/// Where a pod stands after an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    /// There.
    pub standing: Standing,
    /// What went wrong, for people; empty if nothing.
    pub message: String,
    /// What else follows.
    pub consequence: Consequence,
}

impl Transition {
    fn to(state: PodState, presence: Presence) -> Self {
        Self {
            standing: Standing { state, presence },
            message: String::new(),
            consequence: Consequence::Nothing,
        }
    }

    fn with(self, consequence: Consequence) -> Self {
        Self { consequence, ..self }
    }

    fn saying(self, verb: &PodVerb, why: &str) -> Self {
        Self { message: format!("{}: {why}", verb.name()), ..self }
    }
}

/// Where a pod goes when its newest order has ended. An older order's outcome moves nothing, but for a Release, which
/// several nodes may carry out at a time.
pub(crate) fn after_outcome(before: Standing, verb: &PodVerb, ending: &Ending) -> Transition {
    match ending {
        Ending::Done => after_done(before, verb),
        // The node never heard of the pod, or has forgotten it: what should go is gone.
        Ending::Refused(reason) if reason.is_no_such_pod() => after_no_such_pod(before, verb),
        Ending::Refused(reason) => after_trouble(before, verb, &format!("refused: {}", reason.text)),
        Ending::Failed(reason) => after_trouble(before, verb, &reason.text),
        Ending::RolledBack(reason) => after_trouble(before, verb, &format!("rolled back: {}", reason.text)),
    }
}

fn after_done(before: Standing, verb: &PodVerb) -> Transition {
    let evicted = Transition::to(PodState::Evicted, Presence::Gone);
    match verb {
        PodVerb::Run { disk, .. } => {
            let running = Transition::to(PodState::Running, Presence::OnNode);
            match disk {
                Disk::Fresh => running,
                Disk::Kept { .. } => running.with(Consequence::DisksTaken),
            }
        }
        PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
            Transition::to(PodState::Running, Presence::OnNode)
        }
        PodVerb::Stop { .. } => Transition::to(PodState::Stopped, Presence::OnNode),
        PodVerb::Evict { disposition, .. } => evicted.with(match disposition {
            EvictDisposition::Keep => Consequence::DisksKept,
            EvictDisposition::Release => Consequence::GiveUp,
        }),
        PodVerb::Release => Transition::to(before.state, before.presence).with(Consequence::DisksReleased),
    }
}

fn after_no_such_pod(before: Standing, verb: &PodVerb) -> Transition {
    match verb {
        PodVerb::Evict { disposition, .. } => {
            Transition::to(PodState::Evicted, Presence::Gone).with(match disposition {
                EvictDisposition::Keep => Consequence::Nothing,
                EvictDisposition::Release => Consequence::GiveUp,
            })
        }
        PodVerb::Release => Transition::to(before.state, before.presence).with(Consequence::DisksReleased),
        PodVerb::Run { .. }
        | PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Upgrade { .. }
        | PodVerb::Resize { .. } => {
            Transition::to(PodState::Failed, Presence::Gone).saying(verb, "the pod is not on its node")
        }
    }
}

fn after_trouble(before: Standing, verb: &PodVerb, why: &str) -> Transition {
    match verb {
        // A Run gets there or is undone by its node, so nothing of it is left.
        PodVerb::Run { .. } => Transition::to(PodState::Failed, Presence::Gone).saying(verb, why),
        PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Evict { .. } => {
            Transition::to(PodState::Failed, Presence::OnNode).saying(verb, why)
        }
        // What was refused, or was not to be had, left the pod as it was.
        PodVerb::Release | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
            Transition::to(before.state, before.presence).saying(verb, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Reason;
    use berth_model::{
        AppClass, CpuBinding, DiskPolicy, DnsConfig, Incarnation, Limits, PodId, PodNetwork, PodSpec,
        PoolName, RecoveryPolicy, Refusal, RestartPolicy, Sysctls,
    };

    fn run(disk: Disk) -> PodVerb {
        PodVerb::Run { spec: spec(), disk }
    }

    fn spec() -> Box<PodSpec> {
        Box::new(PodSpec {
            hostname: "web".to_owned(),
            class: AppClass::Standard,
            priority: 0,
            containers: Vec::new(),
            disks: Vec::new(),
            cpu: CpuBinding::Shared { pool: PoolName::new("default").unwrap() },
            limits: Limits::default(),
            network: PodNetwork::Own,
            addresses: Vec::new(),
            dns: DnsConfig::default(),
            sysctls: Sysctls::new(),
            restart: RestartPolicy::Always,
            disk: DiskPolicy::Reuse,
            recovery: RecoveryPolicy::Offline,
            stop_grace_ms: 0,
        })
    }

    fn evict(disposition: EvictDisposition) -> PodVerb {
        PodVerb::Evict { grace_ms: 0, disposition }
    }

    /// The whole table: rows are verbs, columns outcomes. The state before matters to Release alone.
    #[test]
    fn outcomes() {
        let refused = |refusal: Refusal| Ending::Refused((&refusal).into());
        let no_such_pod = refused(Refusal::NoSuchPod(PodId::new("shop", "web").unwrap()));
        let kept = Disk::Kept { incarnation: Incarnation(1) };
        let verbs = [
            ("Run fresh", PodState::Placed, run(Disk::Fresh)),
            ("Run kept", PodState::Placed, run(kept)),
            ("Stop", PodState::Stopping, PodVerb::Stop { grace_ms: 0 }),
            ("Start", PodState::Placed, PodVerb::Start),
            ("Evict keep", PodState::Evicting, evict(EvictDisposition::Keep)),
            ("Evict release", PodState::Evicting, evict(EvictDisposition::Release)),
            ("Release", PodState::Evicted, PodVerb::Release),
            ("Restart", PodState::Placed, PodVerb::Restart { disk: DiskPolicy::Reuse, grace_ms: 0 }),
            ("Upgrade", PodState::Running, PodVerb::Upgrade { spec: spec(), settle_ms: 0 }),
            ("Resize", PodState::Running, PodVerb::Resize { spec: spec() }),
        ];
        let outcomes = [
            ("done", Ending::Done),
            ("failed", Ending::Failed(Reason::of_step("StopContainer", "busy"))),
            ("rolled back", Ending::RolledBack(Reason::of_step("AwaitReady", "it broke"))),
            ("refused", refused(Refusal::Unsupported("swap".to_owned()))),
            ("no such pod", no_such_pod),
        ];
        let mut table = String::new();
        for (name, state, verb) in &verbs {
            let presence = match state {
                PodState::Evicted => Presence::Gone,
                _ => Presence::OnNode,
            };
            for (outcome_name, outcome) in &outcomes {
                let before = Standing { state: *state, presence };
                let after = after_outcome(before, verb, outcome);
                table.push_str(&format!(
                    "{name:13} {outcome_name:11} -> {:?} {:?} {:?} {:?}\n",
                    after.standing.state, after.standing.presence, after.consequence, after.message
                ));
            }
        }
        insta::assert_snapshot!(table);
    }
}
