//! Changes of a pod in place: Restart, Upgrade, Resize. All checks come before the first change, and what is spoken
//! for meanwhile is both what the pod has and what it is to have.

use super::order_ops::{Told, Within};
use super::pod_ops::check_grace;
use super::submit::{ENOUGH_NODES, binding, check, spec};
use super::{Denied, Pod, Tx};
use crate::flow::patch;
use crate::flow::{Ending, InPlace, PodState, check_in_place, needs_placement};
use crate::place::{Staying, Topologies};
use crate::state::pod_record::Revision;
use crate::state::{OrderRecord, Progress};
use berth_model::{
    ContainerName, CpuBinding, CpuSet, DiskPolicy, NodeName, OrderId, PodId, PodOrder, PodRequest, PodSpec,
    PodVerb, Target,
};
use berth_placement::Search;
use berth_proto::v1;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// How long a container without a readiness probe must run to count as ready, where a platform does not say.
pub(crate) const DEFAULT_SETTLE_MS: u64 = 5_000;
/// The longest that may be asked for: an hour is a typing error, not patience.
const MAX_SETTLE_MS: u64 = 60 * 60 * 1_000;
/// What a platform may set a node as its time for a change in place.
const WITHIN_MS: RangeInclusive<u64> = 1_000..=24 * 60 * 60 * 1_000;

/// A wish to replace a pod's containers by new attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restart {
    /// What they find on their system disks; the pod's own policy when absent.
    pub disk: Option<DiskPolicy>,
    /// Between SIGTERM and SIGKILL; the pod's own when absent.
    pub grace_ms: Option<u64>,
    /// Why, for people.
    pub reason: String,
}

/// What a pod should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    /// All of it.
    Whole(Box<PodRequest>),
    /// What is different from what it is.
    Patch(Box<v1::PodPatch>),
}

/// A wish to change a pod in place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revise {
    /// How.
    pub how: InPlace,
    /// To what.
    pub wish: Wish,
    /// How long a container without a readiness probe must run to count as ready. Of an Upgrade.
    pub settle_ms: u64,
    /// How long the node may take, from when it has the order, before it takes the change back; a second to a day. None:
    /// as long as the control plane is set to.
    pub within_ms: Option<u64>,
    /// Why, for people.
    pub reason: String,
}

impl Revise {
    /// # Errors
    /// When a time makes no sense.
    fn check_times(&self) -> Result<(), Denied> {
        let Self { settle_ms, within_ms, .. } = self;
        if *settle_ms > MAX_SETTLE_MS {
            return Err(Denied::Invalid(format!("settle_ms: {settle_ms} is above {MAX_SETTLE_MS}, an hour")));
        }
        let Some(within_ms) = *within_ms else { return Ok(()) };
        if !WITHIN_MS.contains(&within_ms) {
            let (least, most) = WITHIN_MS.into_inner();
            return Err(Denied::Invalid(format!(
                "within_ms: {within_ms} is outside {least} to {most}, a day"
            )));
        }
        match self.how {
            InPlace::Upgrade if within_ms <= *settle_ms => Err(Denied::Invalid(format!(
                "within_ms: in {within_ms} ms nothing is seen to run for settle_ms, which is {settle_ms}"
            ))),
            InPlace::Upgrade | InPlace::Resize => Ok(()),
        }
    }
}

impl Pod {
    /// What the pod's request is once the wish is granted.
    ///
    /// # Errors
    /// When the wish does not fit the pod, or makes a request that no pod can have.
    pub(crate) fn wished(&self, wish: &Wish) -> Result<PodRequest, Denied> {
        match wish {
            Wish::Whole(request) => Ok(request.as_ref().clone()),
            Wish::Patch(patch) => {
                let mut wire = v1::PodRequest::from(&self.request);
                patch::apply(&mut wire, patch).map_err(|misfit| Denied::Invalid(misfit.to_string()))?;
                PodRequest::try_from(wire).map_err(|error| Denied::Invalid(error.chain()))
            }
        }
    }
}

impl Tx<'_> {
    /// Replaces every container of a pod by a new attempt.
    ///
    /// # Errors
    /// When there is no such pod, or it is on no node, coming, leaving, or being changed in another way.
    pub(crate) fn restart(&mut self, id: &PodId, wish: &Restart) -> Result<Option<OrderId>, Denied> {
        check_grace(wish.grace_ms.unwrap_or_default())?;
        self.node_of(id)?;
        self.check_not_migrating(id)?;
        self.check_no_revision(id)?;
        let pod = self.known_pod(id)?;
        match pod.standing.state {
            PodState::Running | PodState::Stopped | PodState::Failed => {}
            PodState::Placed | PodState::Stopping | PodState::Evicting | PodState::Evicted => {
                return Err(not_now(id, pod.standing.state));
            }
        }
        let disk = wish.disk.unwrap_or(pod.request.disk);
        let grace_ms = wish.grace_ms.unwrap_or(pod.request.stop_grace_ms);
        self.order_and_move(id, PodVerb::Restart { disk, grace_ms }, PodState::Placed, &wish.reason)?;
        Ok(self.newest_order(id))
    }

    /// Changes a pod in place, and returns the order that does; none where the node has nothing to do.
    ///
    /// # Errors
    /// When there is no such pod, it does not run, is being changed already, what differs cannot be changed so, or its
    /// node has no room for it.
    pub(crate) fn revise(&mut self, id: &PodId, revise: &Revise) -> Result<Option<OrderId>, Denied> {
        revise.check_times()?;
        let node = self.node_of(id)?;
        self.check_not_migrating(id)?;
        let pod = self.known_pod(id)?;
        if pod.standing.state != PodState::Running {
            return Err(not_now(id, pod.standing.state));
        }
        let request = pod.wished(&revise.wish)?;
        self.check_no_revision(id)?;
        let pod = self.known_pod(id)?;
        check(&request)?;
        check_in_place(&pod.request, &request, revise.how)
            .map_err(|why| Denied::Precondition(why.to_string()))?;
        let Some(spec) = self.respec(&node, pod, &request)? else {
            self.take_request(id, request);
            return Ok(None);
        };
        self.order_revision(id, &node, revise, (request, spec));
        Ok(self.newest_order(id))
    }

    /// The spec that a new request comes to on the node that the pod is on; none if it is the one it has.
    fn respec(&self, node: &NodeName, pod: &Pod, request: &PodRequest) -> Result<Option<PodSpec>, Denied> {
        let Some(old) = &pod.spec else {
            return Ok(None);
        };
        let (cpu, parts) = match needs_placement(&pod.request, request) {
            true => self.replace_cpus(node, request, old)?,
            false => (old.cpu.clone(), parts(old)),
        };
        let mut new = spec(request, cpu, &parts);
        new.addresses.clone_from(&old.addresses);
        // An image that stays is the very one that was taken along when the pod moved.
        for (new, old) in new.containers.iter_mut().zip(&old.containers) {
            if new.digest.is_none() && new.image == old.image {
                new.digest.clone_from(&old.digest);
            }
        }
        new.validate().map_err(|error| Denied::Invalid(crate::error::chain(&error)))?;
        Ok((new != *old).then_some(new))
    }

    fn replace_cpus(
        &self,
        node: &NodeName,
        request: &PodRequest,
        old: &PodSpec,
    ) -> Result<(CpuBinding, BTreeMap<ContainerName, CpuSet>), Denied> {
        let view = self.view_without(node, &request.pod, self.now());
        let view = view.ok_or_else(|| Denied::NotFound(format!("there is no node {node}")))?;
        let has = match &old.cpu {
            CpuBinding::Exclusive { cpus, mems } => Some((cpus.clone(), mems.clone())),
            CpuBinding::Shared { .. } => None,
        };
        let nodes = [view];
        let search = Search { nodes: &nodes, cursor: 0, enough: ENOUGH_NODES, seed: 0 };
        let staying = Staying { all: Topologies(self), pod: &request.pod, has };
        let placed = berth_placement::place(request, &search, &staying);
        let placed = placed.map_err(|unplaced| {
            Denied::Exhausted(format!("pod {} does not fit its node any more: {unplaced}", request.pod))
        })?;
        Ok(binding(placed.cpu))
    }

    /// Nothing of what differs reaches the node: it is so at once.
    fn take_request(&mut self, id: &PodId, request: PodRequest) {
        if self.pods.get(id).is_some_and(|pod| pod.request != request)
            && let Some(pod) = self.pod_mut(id)
        {
            pod.request = request;
        }
    }

    fn order_revision(
        &mut self,
        id: &PodId,
        node: &NodeName,
        revise: &Revise,
        (request, spec): (PodRequest, PodSpec),
    ) {
        let verb = match revise.how {
            InPlace::Upgrade => {
                PodVerb::Upgrade { spec: Box::new(spec.clone()), settle_ms: revise.settle_ms }
            }
            InPlace::Resize => PodVerb::Resize { spec: Box::new(spec.clone()) },
        };
        if let Some(pod) = self.pod_mut(id) {
            let (seq, generation) = (pod.seq.next(), pod.generation.next());
            pod.revision = Some(Revision { how: revise.how, seq, generation, request, spec });
            pod.message = String::new();
        }
        // CPUs that the pod is to have leave the shared pool first; those that it gives up come back once it has.
        self.settle_default_pool(node, &format!("pod {id} is to have other CPUs"));
        let deadline_ms = revise.within_ms.unwrap_or_else(|| self.patience_ms(&verb));
        self.order_pod_within(id, node, verb, Within { reason: &revise.reason, deadline_ms });
    }

    fn newest_order(&self, id: &PodId) -> Option<OrderId> {
        let seq = self.pods.get(id)?.seq;
        let newest =
            |record: &OrderRecord| matches!(&record.order.target, Target::Pod(order) if order.seq == seq);
        self.orders_of_pod(id).into_iter().rev().find(|(_, record)| newest(record)).map(|(id, _)| id.clone())
    }

    pub(super) fn check_no_revision(&self, id: &PodId) -> Result<(), Denied> {
        match self.known_pod(id)?.revision.as_ref() {
            None => Ok(()),
            Some(revision) => Err(Denied::Precondition(format!(
                "pod {id}: {} to generation {} is under way: wait for its end, or stop or evict the pod",
                revision.how.name(),
                revision.generation
            ))),
        }
    }

    fn revision_order(&self, id: &PodId) -> Option<(&OrderId, &OrderRecord)> {
        let seq = self.pods.get(id)?.revision.as_ref()?.seq;
        let is =
            |record: &OrderRecord| matches!(&record.order.target, Target::Pod(order) if order.seq == seq);
        self.orders_of_pod(id).into_iter().find(|(_, record)| is(record))
    }

    /// The order of a pod's revision, as long as its node has not said whether it took it on.
    pub(super) fn unanswered_revision(&self, id: &PodId) -> Option<OrderId> {
        let (order, record) = self.revision_order(id)?;
        matches!(record.progress, Progress::Sent | Progress::Waiting { .. }).then(|| order.clone())
    }

    /// An order stands in its node's ledger: if it was a revision, the node goes by its generation from now on.
    pub(super) fn take_on_generation(&mut self, order: &OrderId) {
        let Some(Target::Pod(order)) = self.orders.get(order).map(|record| &record.order.target) else {
            return;
        };
        let (id, seq) = (order.pod.clone(), order.seq);
        let revised =
            |pod: &Pod| Some(pod.revision.as_ref().filter(|revision| revision.seq == seq)?.generation);
        if let Some(generation) = self.pods.get(&id).and_then(revised)
            && let Some(pod) = self.pod_mut(&id)
        {
            pod.generation = generation;
        }
    }

    /// Ends a pod's revision, if `order` was its order, whatever else the pod was ordered meanwhile.
    pub(super) fn revision_outcome(&mut self, order: &PodOrder, ending: &Ending, told: Told) {
        let is = |pod: &Pod| {
            pod.incarnation == order.incarnation
                && pod.revision.as_ref().is_some_and(|revision| revision.seq == order.seq)
        };
        if !self.pods.get(&order.pod).is_some_and(is) {
            return;
        }
        let Some(pod) = self.pod_mut(&order.pod) else { return };
        let Some(revision) = pod.revision.take() else { return };
        match (ending, told) {
            (Ending::Done, _) => {
                pod.generation = revision.generation;
                pod.request = revision.request;
                pod.spec = pod.spec.is_some().then_some(revision.spec);
            }
            // The node took it on, and took it back: the generation is used up.
            (Ending::Failed(_) | Ending::RolledBack(_), Told::Yes) => pod.generation = revision.generation,
            (Ending::Failed(_) | Ending::RolledBack(_), Told::No) | (Ending::Refused(_), _) => {}
        }
        if let Some(node) = pod.node.clone() {
            self.settle_default_pool(&node, &format!("pod {} has other CPUs", order.pod));
        }
    }
}

fn parts(spec: &PodSpec) -> BTreeMap<ContainerName, CpuSet> {
    let containers = spec.containers.iter();
    containers.filter_map(|container| Some((container.name.clone(), container.cpus.clone()?))).collect()
}

fn not_now(id: &PodId, state: PodState) -> Denied {
    Denied::Precondition(match state {
        PodState::Placed => format!("pod {id} is on its way to running: wait until it runs"),
        PodState::Stopping => format!("pod {id} is still being stopped: wait until it is stopped"),
        PodState::Stopped => format!("pod {id} is stopped: start it first"),
        PodState::Failed => format!("pod {id} has failed: start, restart or evict it first"),
        PodState::Running | PodState::Evicting | PodState::Evicted => {
            format!("pod {id} is leaving its node")
        }
    })
}
