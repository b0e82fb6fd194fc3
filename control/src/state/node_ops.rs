//! What nodes say, and what platforms do with nodes.

use super::pool_orders::PoolChange;
use super::view::default_pool;
use super::{Denied, Node, State, Tx};
use crate::clock::Moment;
use crate::facts::Facts;
use crate::flow::{Ending, Presence};
use berth_model::{
    CpuSet, Digest, ImageName, Incarnation, NodeName, NodeVerb, OrderId, PodId, PodStatus, PoolName,
};
use berth_proto::v1;
use std::collections::BTreeSet;

/// A node that has seen a term far above ours is broken or lies: ours would run out.
const MAX_TERM_LEAD: u64 = 1 << 32;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// It has joined and never connected.
    Joined,
    /// Its lease runs.
    Ready,
    /// Its lease has run out; that is all that is known.
    Silent,
    /// An operator has confirmed that it is dead, and it has not been heard of since.
    Dead,
}

impl NodeState {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Joined, Self::Ready, Self::Silent, Self::Dead];
}

/// Why a node was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeDenied {
    /// It has never joined here.
    #[error("node {0} has not joined: run berthd join with a fresh token")]
    Unknown(NodeName),
    /// Its certificate counts no more.
    #[error("the certificate of node {0} was revoked: run berthd join --replace with a fresh token")]
    Revoked(NodeName),
    /// It has seen an impossible term.
    #[error(
        "node {node} has seen term {seen}, ours is {ours}: it was part of another fleet; join it afresh with an empty ledger"
    )]
    Term {
        /// Which node.
        node: NodeName,
        /// What it has seen.
        seen: u64,
        /// Ours.
        ours: u64,
    },
}

/// A node's first message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Greeting {
    /// The highest term that it has seen.
    pub term: u64,
    /// What it is.
    pub facts: Facts,
    /// All its pods.
    pub pods: Vec<PodStatus>,
    /// Outcomes that it does not know to be durable here.
    pub outcomes: Vec<(OrderId, Ending)>,
}

impl Node {
    pub(crate) fn state(&self, now: Moment) -> NodeState {
        match &self.facts {
            _ if self.dead => NodeState::Dead,
            None => NodeState::Joined,
            Some(_) if now.mono_ms < self.lease_until_mono_ms => NodeState::Ready,
            Some(_) => NodeState::Silent,
        }
    }
}

impl State {
    /// A node as platforms see it.
    pub(crate) fn node_record(&self, name: &NodeName, now: Moment) -> Option<v1::NodeRecord> {
        let node = self.nodes.get(name)?;
        let state = match node.state(now) {
            NodeState::Joined => v1::NodeState::Joined,
            NodeState::Ready => v1::NodeState::Ready,
            NodeState::Silent => v1::NodeState::Silent,
            NodeState::Dead => v1::NodeState::Dead,
        };
        let free = node.cpus(name, self).map(|cpus| cpus.free(&default_pool()));
        Some(v1::NodeRecord {
            name: name.to_string(),
            state: state.into(),
            last_heartbeat_at_ms: node.last_heartbeat_wall_ms,
            facts: node.facts.as_ref().map(|facts| facts.wire.clone()),
            pods: u32::try_from(node.pods.len()).unwrap_or(u32::MAX),
            free_cpus: free.unwrap_or_default().to_string(),
            requested_memory_bytes: node.requested_memory(name, self).0,
            shared_pools: node.pools.iter().map(|(name, pool)| pool.to_wire(name)).collect(),
            fenced: node.fenced.keys().map(Into::into).collect(),
            certificates_from_ms: node.certificates_from_ms,
        })
    }
}

impl Tx<'_> {
    /// Writes a node down that has joined.
    pub(crate) fn join(&mut self, node: &NodeName) {
        if !self.nodes.contains_key(node) {
            self.touch_node(node).nodes.insert(node.clone(), Node::default());
        }
    }

    /// Takes in what a node says when it connects, and returns the pods that it has and was not to have.
    ///
    /// # Errors
    /// When the node has not joined, or comes from another fleet.
    pub(crate) fn hello(&mut self, node: &NodeName, greeting: Greeting) -> Result<Vec<PodId>, NodeDenied> {
        if !self.nodes.contains_key(node) {
            return Err(NodeDenied::Unknown(node.clone()));
        }
        let ours = self.term();
        if greeting.term > ours {
            if greeting.term - ours > MAX_TERM_LEAD {
                let (node, seen) = (node.clone(), greeting.term);
                return Err(NodeDenied::Term { node, seen, ours });
            }
            // Our store was restored from an old copy; without this the node would refuse every order.
            self.meta_mut().term = greeting.term + 1;
        }
        self.heartbeat(node);
        self.set_facts(node, greeting.facts);
        for (id, ending) in greeting.outcomes {
            self.end_order(node, &id, &ending);
        }
        self.evict_fenced(node, &greeting.pods);
        let reported: BTreeSet<PodId> = greeting.pods.iter().map(|status| status.pod.clone()).collect();
        for status in greeting.pods {
            self.pod_status(node, status);
        }
        self.forget_unreported(node, &reported);
        let strangers = self.strangers(node, reported);
        // A pool whose order failed is tried again at each connection, and no oftener.
        self.settle_default_pool(node, "the node has connected");
        Ok(strangers)
    }

    /// Pods that a node has and was not to have. That is a fact; nothing is done about it.
    fn strangers(&self, node: &NodeName, reported: BTreeSet<PodId>) -> Vec<PodId> {
        let ours = |id: &PodId| self.nodes.get(node).is_some_and(|record| record.pods.contains(id));
        reported.into_iter().filter(|id| !ours(id)).collect()
    }

    fn forget_unreported(&mut self, node: &NodeName, reported: &BTreeSet<PodId>) {
        let missing = |id: &&PodId| {
            !reported.contains(*id) && self.pods.get(*id).is_some_and(|pod| pod.status.is_some())
        };
        let Some(record) = self.nodes.get(node) else {
            return;
        };
        let missing: Vec<PodId> = record.pods.iter().filter(missing).cloned().collect();
        for id in missing {
            if let Some(pod) = self.pod_mut(&id) {
                pod.status = None;
            }
        }
    }

    /// The node lives.
    pub(crate) fn heartbeat(&mut self, node: &NodeName) {
        let (now, lease_ms) = (self.now(), self.settings().lease_ms);
        let state = self.unrecorded();
        let Some(record) = state.nodes.get_mut(node) else {
            return;
        };
        if now.mono_ms >= record.lease_until_mono_ms {
            state.views.mark(node);
        }
        record.lease_until_mono_ms = now.mono_ms.saturating_add(lease_ms);
        record.last_heartbeat_wall_ms = now.wall_ms;
        record.silence_told = false;
    }

    /// What the node is has changed.
    pub(crate) fn set_facts(&mut self, node: &NodeName, facts: Facts) {
        let known = self.nodes.get(node).and_then(|record| record.facts.as_ref());
        if known == Some(&facts) {
            return;
        }
        if let Some(record) = self.node_mut(node) {
            record.facts = Some(facts);
        }
        self.settle_default_pool(node, "the node's CPUs have changed");
    }

    /// A pod has changed on its node. What another node or an older incarnation says of it changes nothing.
    pub(crate) fn pod_status(&mut self, node: &NodeName, status: PodStatus) {
        let Some(pod) = self.pods.get(&status.pod) else {
            return;
        };
        let current = pod.node.as_ref() == Some(node)
            && pod.standing.presence == Presence::OnNode
            && pod.incarnation == status.incarnation;
        if !current || pod.status.as_ref() == Some(&status) {
            return;
        }
        let id = status.pod.clone();
        if let Some(pod) = self.pod_mut(&id) {
            pod.status = Some(status);
        }
    }

    /// Nothing of a pod's incarnation is left on the node.
    pub(crate) fn pod_gone(&mut self, node: &NodeName, id: &PodId, incarnation: Incarnation) {
        let gone = self.pods.get(id).is_some_and(|pod| {
            pod.node.as_ref() == Some(node) && pod.incarnation == incarnation && pod.status.is_some()
        });
        if gone && let Some(pod) = self.pod_mut(id) {
            pod.status = None;
        }
    }

    /// Nodes whose lease has run out since the last look.
    pub(crate) fn newly_silent(&mut self) -> Vec<NodeName> {
        let now = self.now();
        let state = self.unrecorded();
        let mut silent = Vec::new();
        for (name, node) in &mut state.nodes {
            if !node.silence_told && node.state(now) == NodeState::Silent {
                node.silence_told = true;
                silent.push(name.clone());
            }
        }
        for name in &silent {
            state.views.mark(name);
        }
        silent
    }

    fn check_node(&self, node: &NodeName) -> Result<&Node, Denied> {
        self.nodes.get(node).ok_or_else(|| Denied::NotFound(format!("there is no node {node}")))
    }

    /// Sets a shared pool on a node.
    ///
    /// # Errors
    /// When there is no such node, it has never connected, or the CPUs are not to be had.
    pub(crate) fn set_shared_cpus(
        &mut self,
        node: &NodeName,
        pool: PoolName,
        cpus: CpuSet,
    ) -> Result<(), Denied> {
        let record = self.check_node(node)?;
        let (Some(known), Some(facts)) = (record.cpus(node, self), record.facts.as_ref()) else {
            return Err(Denied::Precondition(format!(
                "node {node} has never connected: its CPUs are unknown"
            )));
        };
        known.check_choice(&pool, &cpus).map_err(|error| Denied::Precondition(format!("cpus: {error}")))?;
        let change = PoolChange { pool, mems: facts.mems(), chosen: Some(cpus.clone()), cpus };
        self.order_pool(node, change, "a platform has set the pool");
        Ok(())
    }

    /// Has a node pull an image.
    ///
    /// # Errors
    /// When there is no such node.
    pub(crate) fn pull_image(
        &mut self,
        node: &NodeName,
        image: ImageName,
        digest: Option<Digest>,
    ) -> Result<OrderId, Denied> {
        self.check_node(node)?;
        let verb = NodeVerb::PullImage { image, digest };
        Ok(self.order_node(node, verb, "a platform wants the image there"))
    }

    /// Has a node look at everything again.
    ///
    /// # Errors
    /// When there is no such node.
    pub(crate) fn inspect(&mut self, node: &NodeName) -> Result<OrderId, Denied> {
        self.check_node(node)?;
        Ok(self.order_node(node, NodeVerb::Inspect, "a platform wants a fresh look"))
    }
}
