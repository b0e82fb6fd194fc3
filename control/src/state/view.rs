//! The nodes as placement sees them, kept up to date one by one: a search must not walk every pod of the fleet.

use super::{DEFAULT_POOL, Node, Pod, State};
use crate::clock::Moment;
use crate::facts::Facts;
use crate::flow::{ChosenPool, NodeCpus};
use berth_model::{Bytes, CpuBinding, CpuRequest, MilliCpu, NodeName, PodId, PoolName};
use berth_placement::{NodeView, Readiness, SharedPoolView};
use berth_proto::shared_from;
use std::collections::{BTreeMap, BTreeSet};

/// Views of all nodes, by name, and which of them are out of date.
#[derive(Debug, Default)]
pub(crate) struct Views {
    list: Vec<NodeView>,
    stale: BTreeSet<NodeName>,
}

impl Views {
    pub(crate) fn list(&self) -> &[NodeView] {
        &self.list
    }

    pub(crate) fn mark(&mut self, node: &NodeName) {
        if !self.stale.contains(node) {
            self.stale.insert(node.clone());
        }
    }
}

impl Node {
    /// The CPUs of the node and who has them; none before it has reported them.
    pub(crate) fn cpus(&self, name: &NodeName, state: &State) -> Option<NodeCpus> {
        let facts = self.facts.as_ref()?;
        let exclusive = |id| Some((format!("{id}"), state.pods.get(id)?.exclusive_cpus()?));
        let pools = self.pools.iter().map(|(name, pool)| {
            let pool = ChosenPool { ordered: pool.cpus.clone(), chosen: pool.chosen.clone() };
            (name.clone(), pool)
        });
        let coming = state.reserved_on(name).filter_map(|(id, _, spec)| match &spec.cpu {
            CpuBinding::Exclusive { cpus, .. } => Some((format!("{id}, on its way"), cpus.clone())),
            CpuBinding::Shared { .. } => None,
        });
        Some(NodeCpus {
            online: facts.topology.online().clone(),
            reserved: facts.reserved.clone(),
            exclusive: self.pods.iter().filter_map(exclusive).chain(coming).collect(),
            pools: pools.collect(),
        })
    }

    /// What the members of each shared pool have reserved.
    fn shared_requests(&self, name: &NodeName, state: &State) -> BTreeMap<PoolName, MilliCpu> {
        let mut requests = BTreeMap::new();
        for pod in self.pods.iter().filter_map(|id| state.pods.get(id)) {
            for (pool, request) in shared_requests(pod) {
                let sum: &mut MilliCpu = requests.entry(pool.clone()).or_default();
                sum.0 = sum.0.saturating_add(request.0);
            }
        }
        for (_, migration, _) in state.reserved_on(name) {
            if let CpuRequest::Shared { pool, request } = &migration.request.cpu {
                let sum: &mut MilliCpu = requests.entry(pool.clone()).or_default();
                sum.0 = sum.0.saturating_add(request.0);
            }
        }
        requests
    }

    /// Memory that its pods have reserved, and those that are on their way.
    pub(crate) fn requested_memory(&self, name: &NodeName, state: &State) -> Bytes {
        let pods = self.pods.iter().filter_map(|id| state.pods.get(id)).map(Pod::memory);
        let coming = state
            .reserved_on(name)
            .map(|(_, migration, _)| berth_placement::memory_demand(&migration.request));
        Bytes(pods.chain(coming).fold(0, |sum, bytes| sum.saturating_add(bytes.0)))
    }

    fn readiness(&self, now: Moment) -> Readiness {
        let not_ready = |why: &str| Readiness::NotReady { why: why.to_owned() };
        match &self.facts {
            _ if self.dead => not_ready("the node was confirmed dead"),
            Some(_) if !self.fenced.is_empty() => {
                not_ready("pods that it had when it was confirmed dead are still being evicted")
            }
            None => not_ready("the node has joined and never connected"),
            Some(_) if now.mono_ms >= self.lease_until_mono_ms => {
                not_ready("the node is silent: its lease has run out")
            }
            Some(_) => Readiness::Ready,
        }
    }
}

/// What a pod has reserved of shared pools; while it is changed, the more of what it has and is to have.
fn shared_requests(pod: &Pod) -> BTreeMap<&PoolName, MilliCpu> {
    let mut requests = BTreeMap::new();
    for request in pod.requests() {
        if let CpuRequest::Shared { pool, request } = &request.cpu {
            let most: &mut MilliCpu = requests.entry(pool).or_default();
            *most = (*most).max(*request);
        }
    }
    requests
}

pub(crate) fn default_pool() -> PoolName {
    PoolName::new(DEFAULT_POOL).expect("a DNS label")
}

/// CPUs of the default pool that must not be lent: what its members have reserved, in whole CPUs, and at least one,
/// because a pool is never empty.
fn kept_back(requested: MilliCpu) -> u32 {
    requested.0.div_ceil(1_000).max(1)
}

fn view(name: &NodeName, node: &Node, state: &State, now: Moment) -> NodeView {
    let default = default_pool();
    let requests = node.shared_requests(name, state);
    let requested = |pool: &PoolName| requests.get(pool).copied().unwrap_or_default();
    let pools = node.pools.iter().map(|(name, pool)| {
        let pool = SharedPoolView { cpus: pool.cpus.clone(), requested: requested(name) };
        (name.clone(), pool)
    });
    let facts = node.facts.as_ref();
    let cpus = node.cpus(name, state);
    NodeView {
        name: name.clone(),
        readiness: node.readiness(now),
        labels: facts.map(|facts| facts.wire.labels.clone().into_iter().collect()).unwrap_or_default(),
        pools: pools.collect(),
        free_cpus: cpus.map(|cpus| cpus.free(&default)).unwrap_or_default(),
        kept_back_cpus: kept_back(requested(&default)),
        memory_capacity: facts.map(Facts::pod_memory).unwrap_or_default(),
        memory_requested: node.requested_memory(name, state),
        mount_points: facts
            .map(|facts| facts.wire.mount_points.iter().cloned().collect())
            .unwrap_or_default(),
        host_network: facts.is_some_and(|facts| facts.wire.host_network),
        host_paths: facts.map(|facts| shared_from(&facts.wire)).unwrap_or_default(),
        page_sizes: facts.map(Facts::page_sizes).unwrap_or_default(),
        pods: u32::try_from(node.pods.len() + state.reserved_on(name).count()).unwrap_or(u32::MAX),
        max_pods: state.settings.max_pods_per_node,
    }
}

impl State {
    /// A node as it would be without one of its pods, which is to be placed on it anew.
    pub(crate) fn view_without(&self, name: &NodeName, pod: &PodId, now: Moment) -> Option<NodeView> {
        let mut view = view(name, self.nodes.get(name)?, self, now);
        let record = self.pods.get(pod)?;
        for (pool, request) in shared_requests(record) {
            let of_pool = view.pools.get_mut(pool).map(|pool| &mut pool.requested);
            of_pool.into_iter().for_each(|sum| sum.0 = sum.0.saturating_sub(request.0));
        }
        let default = default_pool();
        view.kept_back_cpus =
            kept_back(view.pools.get(&default).map(|pool| pool.requested).unwrap_or_default());
        view.free_cpus = view.free_cpus.union(&record.exclusive_cpus().unwrap_or_default());
        view.memory_requested.0 = view.memory_requested.0.saturating_sub(record.memory().0);
        view.pods = view.pods.saturating_sub(1);
        Some(view)
    }

    /// Brings the views of all nodes up to date.
    pub(crate) fn freshen_views(&mut self, now: Moment) {
        let mut views = std::mem::take(&mut self.views);
        for name in std::mem::take(&mut views.stale) {
            let place = views.list.binary_search_by(|view| view.name.cmp(&name));
            let fresh = self.nodes.get(&name).map(|node| view(&name, node, self, now));
            match (place, fresh) {
                (Ok(index), Some(fresh)) => views.list[index] = fresh,
                (Err(index), Some(fresh)) => views.list.insert(index, fresh),
                (Ok(index), None) => drop(views.list.remove(index)),
                (Err(_), None) => {}
            }
        }
        self.views = views;
    }
}
