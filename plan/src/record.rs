//! What the ledger knows of a pod: its charter, and the intent that cannot be seen in the world.

use crate::next::may_live;
use crate::{Controls, HostView, Observed, SliceState};
use berth_model::{
    Attempt, ContainerName, ContainerRole, CpuSet, Digest, DiskPolicy, EvictDisposition, Failure, Generation,
    Incarnation, Limits, MemSet, OrderId, PodId, PodSpec, PodVerb, PoolName, RunState, Seq,
};
use std::collections::BTreeMap;

/// One pod in the ledger. It outlives the pod: seq and incarnation are remembered for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// Which.
    pub pod: PodId,
    /// The newest incarnation seen.
    pub incarnation: Incarnation,
    /// Of the charter.
    pub generation: Generation,
    /// The highest accepted.
    pub seq: Seq,
    /// What is to be so; none when the pod is not on this node.
    pub charter: Option<Charter>,
    /// Of the newest sandbox that was asked for.
    pub sandbox_attempt: Attempt,
    /// The sandbox that was stopped to be replaced: a stop leaves no trace that could be seen.
    pub stopped_sandbox: Option<Attempt>,
    /// What is known of each container beyond its spec.
    pub containers: BTreeMap<ContainerName, ContainerRecord>,
    /// The order being carried out.
    pub open: Option<OpenOrder>,
    /// System disks of evicted incarnations.
    pub kept: Vec<KeptDisk>,
}

/// The standing order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// The accepted spec.
    pub spec: PodSpec,
    /// Whether it is meant to run.
    pub run_state: RunState,
    /// Set once the pod is on its way off the node; nothing brings it back.
    pub leaving: Option<Leaving>,
    /// What an open Upgrade or Resize goes back to unless it gets there.
    pub previous: Option<Previous>,
    /// Limits that an Upgrade or a Resize wanted and was taken back from, half-way: they may be on the pod until it has
    /// settled again.
    pub abandoned: PodLimits,
    /// Since the host booted, the pod waits for the control plane's word.
    pub held: bool,
}

/// The limits of a pod and of its containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodLimits {
    /// The pod's own.
    pub pod: Limits,
    /// Those of its containers that have any.
    pub containers: BTreeMap<ContainerName, Limits>,
}

impl PodLimits {
    /// What a spec orders.
    pub fn of(spec: &PodSpec) -> Self {
        let containers = spec.containers.iter().filter(|container| container.limits != Limits::default());
        Self {
            pod: spec.limits.clone(),
            containers: containers.map(|spec| (spec.name.clone(), spec.limits.clone())).collect(),
        }
    }

    fn add(&mut self, other: Self) {
        self.pod = std::mem::take(&mut self.pod).or(other.pod);
        for (name, limits) in other.containers {
            let ours = self.containers.entry(name).or_default();
            *ours = std::mem::take(ours).or(limits);
        }
    }

    /// Whether `spec` leaves out any of these, of the pod itself or of `container`.
    pub(crate) fn exceed(&self, spec: &PodSpec, container: Option<&ContainerName>) -> bool {
        let (ours, ordered) = match container {
            None => (Some(&self.pod), Some(&spec.limits)),
            Some(name) => (self.containers.get(name), spec.container(name).map(|spec| &spec.limits)),
        };
        let (Some(ours), Some(ordered)) = (ours, ordered) else { return false };
        let named = |limits: &Limits| limits.clone().or(ours.clone());
        named(ordered) != *ordered
    }
}

/// What a pod was before an open Upgrade or Resize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// The spec.
    pub spec: Box<PodSpec>,
    /// Those containers that are replaced.
    pub replaced: BTreeMap<ContainerName, Replaced>,
}

/// What a container was before it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// As [`ContainerRecord::generation`].
    pub generation: Generation,
    /// As [`ContainerRecord::digest`].
    pub digest: Option<Digest>,
    /// As [`ContainerRecord::disk`].
    pub disk: Option<String>,
}

/// How a pod leaves its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Between SIGTERM and SIGKILL, milliseconds.
    pub grace_ms: u64,
    /// What becomes of its disks.
    pub disposition: EvictDisposition,
}

/// What is known of one container beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRecord {
    /// Of the newest container that was asked for.
    pub attempt: Attempt,
    /// What `attempt` was when an order last said that it must run: a dead container up to here is started again
    /// whatever the restart policy says, and back-off counts from here. Once that order has ended, whatever lives is
    /// beyond it.
    pub ordered: Attempt,
    /// What its image name was resolved to, once; the same image comes back from then on.
    pub digest: Option<Digest>,
    /// The key of the snapshot that is its system disk, once there is one worth keeping.
    /// Which container names it at the moment is seen, not remembered: so no crash can make the two disagree.
    pub disk: Option<String>,
    /// The pod's generation that its spec is of: one made by another generation is not what is ordered.
    pub generation: Generation,
    /// The newest attempt that was seen ready.
    pub ready: Attempt,
    /// What `attempt` was when the host last booted: what ended unseen up to here was interrupted, and goes on.
    pub before_boot: Attempt,
    /// The newest attempt that goes on however it ended: it was stopped by us, and its pod is to run; or it prepares for a
    /// pod that has been ordered to run since.
    pub goes_on: Attempt,
    /// The key of the system disk that a Restart which rebuilds gives up, while it is open, when it starts the successor. Until
    /// then it may fail, and what runs keeps what it has.
    pub given_up: Option<String>,
}

/// The system disk of an evicted incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDisk {
    /// Which incarnation left it.
    pub incarnation: Incarnation,
    /// Whose it was.
    pub container: ContainerName,
    /// The snapshot's key.
    pub key: String,
    /// The image it is made upon.
    pub digest: Option<Digest>,
}

/// An accepted order without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Which.
    pub id: OrderId,
    /// What it wants.
    pub verb: PodVerb,
    /// How long it may take from receipt, milliseconds.
    pub deadline_ms: u64,
    /// When it fails, on the node's monotonic clock, milliseconds. What stops or leaves cannot be late: it is not
    /// abandoned half-way.
    pub deadline_at_ms: u64,
    /// Why it will have failed once it is undone: a Run, an Upgrade and a Resize either get there or are undone.
    pub failure: Option<Failure>,
}

/// A pool of CPUs that several pods share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPool {
    /// Which.
    pub name: PoolName,
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its memory nodes.
    pub mems: MemSet,
    /// Its revision.
    pub generation: Generation,
}

impl SharedPool {
    /// What of it this boot of the host can take into a CPU set. A CPU that is merely offline stays in: the kernel leaves
    /// it out until it is back (`cpuset.cpus.effective`). One that was not found at boot it refuses whole, with EINVAL.
    pub fn present(&self, host: &HostView) -> (CpuSet, MemSet) {
        (self.cpus.intersection(&host.possible_cpus), self.mems.intersection(&host.mems))
    }
}

impl PodRecord {
    /// The key of `container`'s system disk.
    pub fn disk(&self, container: &ContainerName) -> Option<&str> {
        self.containers.get(container)?.disk.as_deref()
    }

    /// The key of the system disk that a new attempt at `container` takes over; none where it begins with its own.
    pub(crate) fn disk_to_keep(&self, container: &ContainerName) -> Option<&str> {
        let known = self.containers.get(container)?;
        let is_given_up = self.rebuilds() && known.given_up == known.disk;
        known.disk.as_deref().filter(|_| !is_given_up)
    }

    fn rebuilds(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            matches!(open.verb, PodVerb::Restart { disk: DiskPolicy::Rebuild, .. }) && open.failure.is_none()
        })
    }

    /// Whether `key` is the system disk of one of the pod's containers, or would be again if its Upgrade failed.
    pub fn owns_disk(&self, key: &str) -> bool {
        let replaced = self.previous().into_iter().flat_map(|previous| previous.replaced.values());
        let now = self.containers.values().map(|container| &container.disk);
        now.chain(replaced.map(|old| &old.disk)).any(|disk| disk.as_deref() == Some(key))
    }

    /// The images that the pod's containers and disks are made from, those included that an Upgrade which failed would go
    /// back to.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let replaced = self.previous().into_iter().flat_map(|previous| previous.replaced.values());
        let now = self.containers.values().map(|container| &container.digest);
        let kept = self.kept.iter().map(|kept| &kept.digest);
        now.chain(kept).chain(replaced.map(|old| &old.digest)).flatten()
    }

    /// The spec that an open Upgrade or Resize comes from; once it is taken back, the one that it had wanted. Whatever
    /// only that one orders has to be undone.
    pub fn other_spec(&self) -> Option<&PodSpec> {
        let previous = self.previous().map(|previous| previous.spec.as_ref());
        previous.or_else(|| match &self.open.as_ref()?.verb {
            PodVerb::Upgrade { spec, .. } | PodVerb::Resize { spec } => Some(spec),
            PodVerb::Run { .. }
            | PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Evict { .. }
            | PodVerb::Release => None,
        })
    }

    /// Limits that the pod may still have, whether or not its charter orders them: of the spec that an open Upgrade or Resize
    /// comes from or wanted, and what was abandoned. What the charter does not order has to be undone.
    pub fn former_limits(&self) -> PodLimits {
        let mut former = self.other_spec().map(PodLimits::of).unwrap_or_default();
        self.charter.iter().for_each(|charter| former.add(charter.abandoned.clone()));
        former
    }

    fn previous(&self) -> Option<&Previous> {
        self.charter.as_ref()?.previous.as_ref()
    }

    /// The open order has ended, and there is nothing to go back to any more. What lives then is what is to run, whenever
    /// it started: once it ends, its restart policy decides.
    pub(crate) fn seen_through(&mut self, observed: &Observed) {
        let Some(charter) = &mut self.charter else { return };
        charter.previous = None;
        for seen in observed.containers.iter().filter(|seen| may_live(seen)) {
            let ours = seen.incarnation == self.incarnation;
            let known = self.containers.get_mut(&seen.name).filter(|_| ours);
            if let Some(known) = known.filter(|known| known.generation == seen.generation) {
                known.ordered = known.ordered.min(Attempt(seen.attempt.0.saturating_sub(1)));
            }
        }
    }

    /// What runs holds what the charter orders, and nothing that was ordered before.
    pub(crate) fn forget_abandoned(&mut self, observed: &Observed) {
        let slice_holds = match &observed.slice {
            SliceState::Absent => true,
            SliceState::Present { controls, .. } => *controls == Controls::InOrder,
        };
        let mut live = observed.containers.iter().filter(|seen| may_live(seen));
        if self.is_meant_to_run() && slice_holds && live.all(|seen| seen.controls == Controls::InOrder) {
            self.charter.iter_mut().for_each(|charter| charter.abandoned = PodLimits::default());
        }
    }

    /// Whether it is meant to run on this node.
    pub(crate) fn is_meant_to_run(&self) -> bool {
        let charter = self.charter.as_ref();
        charter.is_some_and(|charter| charter.leaving.is_none() && charter.run_state == RunState::Running)
    }

    /// Takes back an Upgrade or Resize that has not got there.
    pub(crate) fn revert(&mut self) {
        let Some(charter) = &mut self.charter else { return };
        let Some(previous) = charter.previous.take() else { return };
        let abandoned = std::mem::replace(&mut charter.spec, *previous.spec);
        charter.abandoned.add(PodLimits::of(&abandoned));
        for (name, old) in previous.replaced {
            let prepares = charter.spec.container(&name).is_some_and(|spec| spec.role == ContainerRole::Init);
            let known = self.containers.entry(name).or_default();
            (known.generation, known.digest, known.disk) = (old.generation, old.digest, old.disk);
            match prepares {
                // What it had prepared is not prepared again.
                true => known.goes_on = known.attempt,
                // It ran when the order came, so it runs again, whatever the restart policy says.
                false => known.ordered = known.attempt,
            }
        }
    }

    /// Whether `key` must outlive the pod's leaving, as `leaving` has it.
    pub(crate) fn survives(&self, key: &str, leaving: &Leaving) -> bool {
        let undone = self.open.as_ref().is_some_and(|open| open.failure.is_some());
        let kept_before = self.kept.iter().any(|kept| kept.key == key);
        match (undone, leaving.disposition) {
            // Undoing a Run gives back what it began with, and nothing else.
            (true, EvictDisposition::Keep | EvictDisposition::Release) => kept_before,
            (false, EvictDisposition::Keep) => self.owns_disk(key) || kept_before,
            (false, EvictDisposition::Release) => false,
        }
    }
}
