//! A change of the state: what it touches is written, told and woken when it is finished.

use super::{Migration, Node, NodePool, Pod, Rollout, State};
use crate::clock::Moment;
use crate::store::{AssignmentRow, FencedRow, MetaRow, NodePoolRow, NodeRow, PoolRow, Table, Write};
use berth_model::{Incarnation, NodeName, OrderId, PodId, PoolName, RolloutName};
use berth_placement::AddressPool;
use berth_proto::v1;
use prost::Message;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::{Duration, UNIX_EPOCH};
use ulid::Ulid;

/// The version of rows that are written.
const VERSION: u32 = 1;
/// Key of the one row of [`Table::Meta`].
pub(crate) const META_KEY: &str = "fleet";

/// Something that watchers want to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A pod has changed.
    Changed(Box<v1::Pod>),
    /// A pod's identity has ended.
    Released(PodId),
}

/// What follows from a change.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Rows to write.
    pub writes: Vec<Write>,
    /// To tell once they are durable.
    pub events: Vec<Event>,
    /// Nodes that have new orders.
    pub wake: BTreeSet<NodeName>,
}

/// One change of the state.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    state: &'a mut State,
    now: Moment,
    meta: bool,
    nodes: BTreeSet<NodeName>,
    pods: BTreeSet<PodId>,
    orders: BTreeSet<OrderId>,
    pools: BTreeSet<PoolName>,
    assignments: BTreeSet<(PoolName, PodId)>,
    rollouts: BTreeSet<RolloutName>,
    rollout_pods: BTreeSet<(RolloutName, PodId)>,
    migrations: BTreeSet<PodId>,
    tenures: BTreeSet<OrderId>,
    /// Whether everything that goes on by itself is to be looked at, not only what was touched.
    everything: bool,
    wake: BTreeSet<NodeName>,
}

impl Deref for Tx<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Tx<'a> {
    /// Begins a change.
    pub(crate) fn begin(state: &'a mut State, now: Moment) -> Self {
        Self {
            state,
            now,
            meta: false,
            nodes: BTreeSet::new(),
            pods: BTreeSet::new(),
            orders: BTreeSet::new(),
            pools: BTreeSet::new(),
            assignments: BTreeSet::new(),
            rollouts: BTreeSet::new(),
            rollout_pods: BTreeSet::new(),
            migrations: BTreeSet::new(),
            tenures: BTreeSet::new(),
            everything: false,
            wake: BTreeSet::new(),
        }
    }

    /// When the change is made.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// The state, for what is not durable: leases, the cursor, views.
    pub(crate) fn unrecorded(&mut self) -> &mut State {
        self.state
    }

    pub(crate) fn meta_mut(&mut self) -> &mut super::Meta {
        self.meta = true;
        &mut self.state.meta
    }

    /// Begins a new term, which outdates every order of the ones before.
    pub(crate) fn begin_term(&mut self) -> u64 {
        let meta = self.meta_mut();
        meta.term += 1;
        meta.term
    }

    /// All pods, of which `pod` will be written.
    pub(crate) fn touch_pod(&mut self, pod: &PodId) -> &mut State {
        if let Some(node) = self.state.pods.get(pod).and_then(|pod| pod.node.clone()) {
            self.state.views.mark(&node);
        }
        self.pods.insert(pod.clone());
        self.state
    }

    pub(crate) fn pod_mut(&mut self, pod: &PodId) -> Option<&mut Pod> {
        self.touch_pod(pod).pods.get_mut(pod)
    }

    pub(crate) fn touch_node(&mut self, node: &NodeName) -> &mut State {
        self.state.views.mark(node);
        self.nodes.insert(node.clone());
        self.state
    }

    pub(crate) fn node_mut(&mut self, node: &NodeName) -> Option<&mut Node> {
        self.touch_node(node).nodes.get_mut(node)
    }

    pub(crate) fn touch_order(&mut self, order: &OrderId) -> &mut State {
        self.orders.insert(order.clone());
        self.state
    }

    pub(crate) fn touch_pool(&mut self, pool: &PoolName) -> &mut State {
        self.pools.insert(pool.clone());
        self.state
    }

    pub(crate) fn touch_assignment(&mut self, pool: &PoolName, pod: &PodId) -> &mut State {
        self.pools.insert(pool.clone());
        self.assignments.insert((pool.clone(), pod.clone()));
        self.state
    }

    pub(super) fn touch_rollout(&mut self, rollout: &RolloutName) -> &mut State {
        self.rollouts.insert(rollout.clone());
        self.state
    }

    pub(super) fn touch_rollout_pod(&mut self, rollout: &RolloutName, pod: &PodId) {
        self.rollout_pods.insert((rollout.clone(), pod.clone()));
    }

    pub(super) fn touch_tenure(&mut self, tenure: &OrderId) -> &mut State {
        self.tenures.insert(tenure.clone());
        self.state
    }

    pub(super) fn touch_migration(&mut self, pod: &PodId) -> &mut State {
        self.migrations.insert(pod.clone());
        self.state
    }

    /// Whether this change touches what a migration goes by.
    pub(super) fn concerns_migration(&self, pod: &PodId, migration: &Migration) -> bool {
        self.everything
            || self.migrations.contains(pod)
            || self.pods.contains(pod)
            || self.nodes.contains(&migration.from)
            || self.nodes.contains(&migration.to)
    }

    /// Whether this change touches what a rollout goes by.
    pub(super) fn concerns(&self, name: &RolloutName, rollout: &Rollout) -> bool {
        self.everything
            || self.rollouts.contains(name)
            || self.pods.iter().any(|pod| rollout.plan.members.contains_key(pod))
    }

    /// Has everything that goes on by itself be looked at once this change is made: time alone may have changed it.
    pub(crate) fn look_at_everything(&mut self) {
        self.everything = true;
    }

    pub(crate) fn wake(&mut self, node: &NodeName) {
        self.wake.insert(node.clone());
    }

    /// A fresh id, above every one before it, also when the clock was set back.
    pub(crate) fn next_order_id(&mut self) -> OrderId {
        let fresh = Ulid::from_datetime(UNIX_EPOCH + Duration::from_millis(self.now.wall_ms));
        let last = self.state.last_id;
        let id = if fresh > last { fresh } else { last.increment().unwrap_or(fresh) };
        self.state.last_id = id;
        OrderId::new(id.to_string()).expect("a ULID's text is an order id")
    }

    /// Takes whatever goes on by itself as far as it goes now, and ends the change. What follows from a change is
    /// written with it.
    pub(crate) fn finish(mut self) -> Effects {
        self.advance_migrations();
        self.advance_rollouts();
        self.into_effects()
    }

    fn into_effects(self) -> Effects {
        let mut effects = Effects { wake: self.wake, ..Effects::default() };
        let state = &*self.state;
        if self.meta {
            effects.writes.push(put(Table::Meta, META_KEY.to_owned(), &meta_row(state)));
        }
        for name in self.nodes {
            let row = state.nodes.get(&name).map(|node| node_row(&name, node));
            effects.writes.push(change(Table::Nodes, name.to_string(), row.as_ref()));
        }
        for id in self.orders {
            let row = state.orders.get(&id).map(|order| order.to_row(VERSION));
            effects.writes.push(change(Table::Orders, id.to_string(), row.as_ref()));
        }
        for name in self.pools {
            let row = state.pools.get(&name).map(|pool| pool_row(&name, pool));
            effects.writes.push(change(Table::Pools, name.to_string(), row.as_ref()));
        }
        for name in self.rollouts {
            let row = state.rollouts.get(&name).map(|rollout| rollout.to_row(&name, VERSION));
            effects.writes.push(change(Table::Rollouts, name.to_string(), row.as_ref()));
        }
        for (name, pod) in self.rollout_pods {
            let row = state.rollouts.get(&name).and_then(|rollout| rollout.pod_row(&name, &pod, VERSION));
            effects.writes.push(change(Table::RolloutPods, format!("{name} {pod}"), row.as_ref()));
        }
        for pod in self.migrations {
            let row = state.migrations.get(&pod).map(|migration| migration.to_row(&pod, VERSION));
            effects.writes.push(change(Table::Migrations, pod.to_string(), row.as_ref()));
        }
        for key in self.tenures {
            let row = state.tenures.all.get(&key).map(|tenure| tenure.to_row(VERSION));
            effects.writes.push(change(Table::Tenures, key.to_string(), row.as_ref()));
        }
        for (pool, pod) in self.assignments {
            let row = assignment_row(state, &pool, &pod);
            let key = format!("{pool} {pod}");
            effects.writes.push(change(Table::Assignments, key, row.as_ref()));
        }
        for id in self.pods {
            let pod = state.pods.get(&id);
            let row = pod.map(|pod| pod.to_row(VERSION));
            effects.writes.push(change(Table::Pods, id.to_string(), row.as_ref()));
            effects.events.push(match pod {
                Some(pod) => Event::Changed(Box::new(pod.to_wire())),
                None => Event::Released(id),
            });
        }
        effects
    }
}

fn put(table: Table, key: String, row: &impl Message) -> Write {
    let value = row.encode_to_vec();
    Write::Put { table, key, value }
}

fn change(table: Table, key: String, row: Option<&impl Message>) -> Write {
    match row {
        Some(row) => put(table, key, row),
        None => Write::Delete { table, key },
    }
}

fn meta_row(state: &State) -> MetaRow {
    MetaRow {
        version: VERSION,
        term: state.meta.term,
        incarnation_floor: state.meta.incarnation_floor,
        seq_floor: state.meta.seq_floor,
    }
}

fn node_row(name: &NodeName, node: &Node) -> NodeRow {
    NodeRow {
        version: VERSION,
        name: name.to_string(),
        facts: node.facts.as_ref().map(|facts| facts.wire.clone()),
        pools: node.pools.iter().map(|(name, pool)| node_pool_row(name, pool)).collect(),
        dead: node.dead,
        fenced: node.fenced.iter().map(fenced_row).collect(),
        certificates_from_ms: node.certificates_from_ms,
    }
}

fn fenced_row((pod, incarnation): (&PodId, &Incarnation)) -> FencedRow {
    FencedRow { pod: Some(pod.into()), incarnation: incarnation.0 }
}

fn node_pool_row(name: &PoolName, pool: &NodePool) -> NodePoolRow {
    NodePoolRow {
        ordered: Some(pool.to_wire(name)),
        chosen_cpus: pool.chosen.as_ref().map(ToString::to_string),
        settled: pool.settled,
    }
}

fn pool_row(name: &PoolName, pool: &AddressPool) -> PoolRow {
    PoolRow {
        version: VERSION,
        pool: Some(super::pool_ops::pool_to_wire(name, pool)),
        next: pool.next().to_string(),
    }
}

fn assignment_row(state: &State, pool: &PoolName, pod: &PodId) -> Option<AssignmentRow> {
    let address = state.pools.get(pool)?.held_by(pod)?;
    Some(AssignmentRow {
        version: VERSION,
        pool: pool.to_string(),
        address: address.to_string(),
        pod: Some(pod.into()),
    })
}
