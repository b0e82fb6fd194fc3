//! Submitting a pod: check, place, assign an address, order. Everything that can refuse comes before the first change.

use super::pod_ops::{MAX_GRACE_MS, check_grace};
use super::{Denied, Pod, Tx};
use crate::flow::{PodState, Presence, Standing};
use crate::place::Topologies;
use berth_model::{
    ContainerName, ContainerSpec, CpuBinding, CpuRequest, CpuSet, Disk, DiskPolicy, Generation, Incarnation,
    NodeName, PodId, PodRequest, PodSpec, PodVerb, Seq,
};
use berth_placement::{CpuPlacement, Placement, Search};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// A search ends at so many feasible nodes: more make the choice little better and the search much longer.
pub(super) const ENOUGH_NODES: NonZeroUsize = NonZeroUsize::new(50).expect("not zero");
/// Most pods of the fleet.
const MAX_PODS: usize = 1_000_000;

/// Checks what a request alone can tell.
pub(crate) fn check(request: &PodRequest) -> Result<(), Denied> {
    let invalid = |why: String| Denied::Invalid(why);
    if request.stop_grace_ms > MAX_GRACE_MS {
        check_grace(request.stop_grace_ms)?;
    }
    let own_cpus = request.containers.iter().filter_map(|container| container.exclusive_cpus);
    let asked: u64 = own_cpus.clone().map(u64::from).sum();
    let count = match &request.cpu {
        CpuRequest::Shared { .. } if own_cpus.clone().next().is_some() => {
            return Err(invalid(
                "containers.exclusive_cpus: a container has CPUs of its own only in a pod with exclusive CPUs".to_owned(),
            ));
        }
        CpuRequest::Shared { .. } => 0,
        CpuRequest::Exclusive { count: 0 } => return Err(invalid("cpu.exclusive.count: is 0".to_owned())),
        CpuRequest::Exclusive { count } => u64::from(*count),
        CpuRequest::Exact { cpus, .. } if cpus.is_empty() => {
            return Err(invalid("cpu.exact.cpus: names no CPU".to_owned()));
        }
        CpuRequest::Exact { mems: Some(mems), .. } if mems.is_empty() => {
            return Err(invalid("cpu.exact.mems: names no memory node".to_owned()));
        }
        CpuRequest::Exact { cpus, .. } => cpus.len() as u64,
    };
    if own_cpus.clone().any(|count| count == 0) {
        return Err(invalid("containers.exclusive_cpus: is 0; leave it out to share the pod's".to_owned()));
    }
    if asked > count {
        return Err(invalid(format!(
            "containers.exclusive_cpus: add up to {asked}, the pod asks for {count}"
        )));
    }
    // What a spec can say wrong a request can too; where it runs is not known yet and does not matter here.
    let binding = CpuBinding::Shared { pool: super::view::default_pool() };
    spec(request, binding, &BTreeMap::new()).validate().map_err(|error| invalid(crate::error::chain(&error)))
}

pub(super) fn spec(
    request: &PodRequest,
    cpu: CpuBinding,
    parts: &BTreeMap<ContainerName, CpuSet>,
) -> PodSpec {
    let container = |container: &berth_model::ContainerRequest| ContainerSpec {
        name: container.name.clone(),
        role: container.role,
        image: container.image.clone(),
        digest: container.digest.clone().or_else(|| container.image.digest().cloned()),
        command: container.command.clone(),
        args: container.args.clone(),
        env: container.env.clone(),
        working_dir: container.working_dir.clone(),
        user: container.user.clone(),
        security: container.security.clone(),
        lifecycle: container.lifecycle.clone(),
        mounts: container.mounts.clone(),
        config: container.config.clone(),
        host_paths: container.host_paths.clone(),
        system_disk_size: container.system_disk_size,
        limits: container.limits.clone(),
        cpus: parts.get(&container.name).cloned(),
        ulimits: container.ulimits.clone(),
        readiness: container.readiness.clone(),
    };
    let mut limits = request.limits.clone();
    limits.cpu_weight = limits.cpu_weight.or(Some(request.class.cpu_weight()));
    PodSpec {
        hostname: request.hostname.clone().unwrap_or_else(|| request.pod.name().to_owned()),
        class: request.class,
        priority: request.priority,
        containers: request.containers.iter().map(container).collect(),
        disks: request.disks.clone(),
        cpu,
        limits,
        network: request.network,
        addresses: Vec::new(),
        dns: request.dns.clone(),
        sysctls: request.sysctls.clone(),
        restart: request.restart,
        disk: request.disk,
        recovery: request.recovery,
        stop_grace_ms: request.stop_grace_ms,
    }
}

/// A pod's CPUs, and each container's part of them.
pub(super) fn binding(cpu: CpuPlacement) -> (CpuBinding, BTreeMap<ContainerName, CpuSet>) {
    match cpu {
        CpuPlacement::Shared { pool } => (CpuBinding::Shared { pool }, BTreeMap::new()),
        CpuPlacement::Exclusive { cpus, mems, containers } => {
            (CpuBinding::Exclusive { cpus, mems }, containers)
        }
    }
}

/// What a submission comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unchanged,
    Place,
}

impl Tx<'_> {
    /// Validates, places and orders a pod. Submitting what is there already changes nothing.
    ///
    /// # Errors
    /// When the request makes no sense, the identity is in use, no node will do, or no address is left.
    pub(crate) fn submit(&mut self, request: PodRequest, seed: u64) -> Result<(), Denied> {
        check(&request)?;
        let id = request.pod.clone();
        self.check_not_migrating(&id)?;
        if self.judge_known(&request)? == Verdict::Unchanged {
            return Ok(());
        }
        self.check_names(&request)?;
        let (placement, disk) = self.place(&request, seed)?;
        let (cpu, parts) = binding(placement.cpu);
        let mut spec = spec(&request, cpu, &parts);
        spec.validate().map_err(|error| Denied::Invalid(crate::error::chain(&error)))?;
        spec.addresses = self.assign_addresses(&request)?;
        self.put_placed(request, &placement.node, spec.clone());
        self.settle_default_pool(&placement.node, &format!("pod {id} is placed"));
        let verb = PodVerb::Run { spec: Box::new(spec), disk };
        self.order_pod(&id, &placement.node, verb, "a platform has submitted the pod");
        Ok(())
    }

    fn judge_known(&self, request: &PodRequest) -> Result<Verdict, Denied> {
        let id = &request.pod;
        let Some(pod) = self.pods.get(id) else {
            if self.pods.len() >= MAX_PODS {
                return Err(Denied::Exhausted(format!("there are {MAX_PODS} pods, which is the most")));
            }
            return Ok(Verdict::Place);
        };
        let state = pod.standing.state.name();
        match (pod.standing.presence, pod.standing.state) {
            (Presence::Gone, _) => self.check_not_being_released(id).map(|()| Verdict::Place),
            (Presence::OnNode, PodState::Evicting) => {
                Err(Denied::Precondition(format!("pod {id} is being evicted: wait until it is evicted")))
            }
            (Presence::OnNode, PodState::Failed) => Err(Denied::Precondition(format!(
                "pod {id} has failed and its node may still have it ({}): evict it first",
                pod.message
            ))),
            (Presence::OnNode, _) if pod.request == *request => Ok(Verdict::Unchanged),
            (Presence::OnNode, _) => Err(Denied::Exists(format!(
                "pod {id} is {state} with another content: berth upgrade -f or berth resize -f changes it where it is; what \
                 its sandbox is made with takes an evict and another submission"
            ))),
        }
    }

    fn check_names(&self, request: &PodRequest) -> Result<(), Denied> {
        if let Some(node) = request.node.as_ref().filter(|node| !self.nodes.contains_key(*node)) {
            return Err(Denied::Invalid(format!("node: there is no node {node}")));
        }
        self.check_pools(request)
    }

    /// Chooses node and CPUs. A pod whose disks are kept goes where they are, unless it wants fresh ones: it must never
    /// come up empty because another node had more room.
    fn place(&mut self, request: &PodRequest, seed: u64) -> Result<(Placement, Disk), Denied> {
        let (kept, remedy) = match (request.disk, request.disks.is_empty()) {
            (DiskPolicy::Rebuild, true) => (None, ""),
            (DiskPolicy::Reuse, true) => (
                self.newest_kept(&request.pod),
                "name that one, set disk to rebuild to begin with fresh disks, or release the pod",
            ),
            // Data disks are the pod's whatever becomes of its system disks.
            (DiskPolicy::Reuse | DiskPolicy::Rebuild, false) => {
                (self.newest_kept(&request.pod), "name that one, or release the pod")
            }
        };
        let mut pinned = request.clone();
        if let Some((node, _)) = &kept {
            if request.node.as_ref().is_some_and(|wanted| wanted != node) {
                return Err(Denied::Precondition(format!(
                    "node: the disks of pod {} are kept on node {node}: {remedy}",
                    request.pod
                )));
            }
            pinned.node = Some(node.clone());
        }
        let now = self.now();
        let state = self.unrecorded();
        let cursor = state.cursor;
        state.freshen_views(now);
        let search = Search { nodes: state.views.list(), cursor, enough: ENOUGH_NODES, seed };
        let found = berth_placement::place(&pinned, &search, &Topologies(state));
        match found {
            Ok(placement) => {
                state.cursor = placement.cursor;
                let reuses = request.disk == DiskPolicy::Reuse;
                let on_kept = kept.filter(|(node, _)| reuses && *node == placement.node);
                let disk = on_kept.map_or(Disk::Fresh, |(_, incarnation)| Disk::Kept { incarnation });
                Ok((placement, disk))
            }
            Err(unplaced) => {
                state.cursor = unplaced.cursor;
                let kept = kept.map(|(node, _)| format!("; its disks are kept on node {node}"));
                Err(Denied::Exhausted(format!("{unplaced}{}", kept.unwrap_or_default())))
            }
        }
    }

    fn newest_kept(&self, pod: &PodId) -> Option<(NodeName, Incarnation)> {
        let kept = &self.pods.get(pod)?.kept;
        let (node, incarnation) = kept.iter().max_by_key(|(_, incarnation)| **incarnation)?;
        Some((node.clone(), *incarnation))
    }

    pub(super) fn put_placed(&mut self, request: PodRequest, node: &NodeName, spec: PodSpec) {
        let id = request.pod.clone();
        let (incarnation_floor, seq_floor) = (self.meta.incarnation_floor, self.meta.seq_floor);
        let known = self.pods.get(&id);
        let pod = Pod {
            request,
            incarnation: known.map_or(Incarnation(incarnation_floor), |pod| pod.incarnation).next(),
            generation: Generation(1),
            seq: known.map_or(Seq(seq_floor), |pod| pod.seq),
            current: known.map_or(Seq(seq_floor), |pod| pod.current),
            standing: Standing { state: PodState::Placed, presence: Presence::OnNode },
            node: Some(node.clone()),
            spec: Some(spec),
            status: None,
            message: String::new(),
            kept: known.map(|pod| pod.kept.clone()).unwrap_or_default(),
            revision: None,
        };
        self.touch_pod(&id).pods.insert(id.clone(), pod);
        if let Some(node) = self.node_mut(node) {
            node.pods.insert(id);
        }
    }
}
