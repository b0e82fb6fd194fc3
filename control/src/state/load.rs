//! Reading everything back from the store, at the start.

use super::{Meta, Migration, Node, NodePool, OrderRecord, Pod, Rollout, Settings, State, Tenures};
use crate::facts::Facts;
use crate::flow::Presence;
use crate::flow::tenure::Tenure;
use crate::store::{
    AssignmentRow, FencedRow, MetaRow, MigrationRow, NodePoolRow, NodeRow, OrderRow, PodRow, PoolRow,
    RolloutPodRow, RolloutRow, Store, StoreError, Table, TenureRow,
};
use berth_model::{Generation, Incarnation, NodeName, OrderId, PodId, PoolName, RolloutName};
use berth_placement::AddressPool;
use berth_proto::v1;
use std::collections::BTreeMap;
use std::fmt::Display;
use ulid::Ulid;

fn broken(table: &'static str, key: &str) -> impl FnOnce(&dyn Display) -> StoreError {
    let key = key.to_owned();
    move |why| StoreError::Row { table, key, why: why.to_string() }
}

/// Reads the state. The caller begins a new term with it.
///
/// # Errors
/// When the file cannot be read, or a row makes no sense.
pub(crate) fn load(store: &Store, settings: Settings) -> Result<State, StoreError> {
    let mut state = State {
        meta: meta(store)?,
        nodes: nodes(store)?,
        pools: pools(store)?,
        rollouts: rollouts(store)?,
        migrations: migrations(store)?,
        tenures: tenures(store)?,
        ..State::new(settings)
    };
    assignments(store, &mut state)?;
    pods(store, &mut state)?;
    orders(store, &mut state)?;
    let (names, lease_ms): (Vec<NodeName>, u64) =
        (state.nodes.keys().cloned().collect(), state.settings.lease_ms);
    for name in names {
        state.views.mark(&name);
    }
    // Nothing was heard because nobody listened: each node has one lease to come back.
    for node in state.nodes.values_mut() {
        node.lease_until_mono_ms = lease_ms;
    }
    Ok(state)
}

fn meta(store: &Store) -> Result<Meta, StoreError> {
    let rows: Vec<(String, MetaRow)> = store.rows(Table::Meta)?;
    let row = rows.into_iter().next().map(|(_, row)| row).unwrap_or_default();
    Ok(Meta { term: row.term, incarnation_floor: row.incarnation_floor, seq_floor: row.seq_floor })
}

fn nodes(store: &Store) -> Result<BTreeMap<NodeName, Node>, StoreError> {
    let rows: Vec<(String, NodeRow)> = store.rows(Table::Nodes)?;
    rows.into_iter()
        .map(|(key, row)| {
            let error = broken("nodes", &key);
            let parse = || -> Result<(NodeName, Node), String> {
                let facts = row.facts.map(Facts::try_from).transpose();
                let pools = row.pools.into_iter().map(node_pool).collect::<Result<_, String>>()?;
                let fenced = row.fenced.into_iter().map(fenced).collect::<Result<_, String>>()?;
                let facts = facts.map_err(|error| error.chain())?;
                let certificates_from_ms = row.certificates_from_ms;
                let node =
                    Node { facts, pools, dead: row.dead, fenced, certificates_from_ms, ..Node::default() };
                Ok((name(&row.name)?, node))
            };
            parse().map_err(|why| error(&why))
        })
        .collect()
}

fn tenures(store: &Store) -> Result<Tenures, StoreError> {
    let rows: Vec<(String, TenureRow)> = store.rows(Table::Tenures)?;
    let mut tenures = Tenures::default();
    for (key, row) in rows {
        let tenure = Tenure::from_row(row).map_err(|error| broken("tenures", &key)(&error.chain()))?;
        let id = OrderId::new(key.as_str()).map_err(|error| broken("tenures", &key)(&error))?;
        tenures.put(id, tenure);
    }
    Ok(tenures)
}

fn fenced(row: FencedRow) -> Result<(PodId, Incarnation), String> {
    let pod = berth_proto::pod_from(row.pod).map_err(|error| error.chain())?;
    Ok((pod, Incarnation(row.incarnation)))
}

fn migrations(store: &Store) -> Result<BTreeMap<PodId, Migration>, StoreError> {
    let rows: Vec<(String, MigrationRow)> = store.rows(Table::Migrations)?;
    let read = |(key, row): (String, MigrationRow)| {
        Migration::from_row(row).map_err(|error| broken("migrations", &key)(&error.chain()))
    };
    rows.into_iter().map(read).collect()
}

fn name(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|error| error.to_string())
}

fn node_pool(row: NodePoolRow) -> Result<(PoolName, NodePool), String> {
    let text = |error: &dyn Display| error.to_string();
    let ordered: v1::SharedPool = row.ordered.ok_or("a pool without content")?;
    let pool = NodePool {
        cpus: ordered.cpus.parse().map_err(|error: berth_model::ParseSetError| text(&error))?,
        mems: ordered.mems.parse().map_err(|error: berth_model::ParseSetError| text(&error))?,
        generation: Generation(ordered.generation),
        chosen: row
            .chosen_cpus
            .map(|cpus| cpus.parse())
            .transpose()
            .map_err(|error: berth_model::ParseSetError| text(&error))?,
        settled: row.settled,
    };
    Ok((PoolName::new(ordered.pool).map_err(|error| text(&error))?, pool))
}

fn pools(store: &Store) -> Result<BTreeMap<PoolName, AddressPool>, StoreError> {
    let rows: Vec<(String, PoolRow)> = store.rows(Table::Pools)?;
    rows.into_iter()
        .map(|(key, row)| {
            let wire = row.pool.unwrap_or_default();
            let (name, range) = super::pool_ops::pool_from_wire(&wire)
                .map_err(|error| broken("address_pools", &key)(&error))?;
            Ok((name, AddressPool::new(range, row.next.parse().ok())))
        })
        .collect()
}

fn assignments(store: &Store, state: &mut State) -> Result<(), StoreError> {
    let rows: Vec<(String, AssignmentRow)> = store.rows(Table::Assignments)?;
    for (key, row) in rows {
        let restore = || -> Result<(), String> {
            let pod = row.pod.ok_or("an assignment to nobody")?;
            let pod = PodId::new(pod.namespace, pod.name).map_err(|error| error.to_string())?;
            let pool = PoolName::new(row.pool.as_str()).map_err(|error| error.to_string())?;
            let address = row.address.parse().map_err(|_| format!("{:?} is no address", row.address))?;
            let pool = state.pools.get_mut(&pool).ok_or("an assignment of a pool that is not there")?;
            pool.restore(&pod, address).map_err(|error| error.to_string())
        };
        restore().map_err(|why| broken("assignments", &key)(&why))?;
    }
    Ok(())
}

fn pods(store: &Store, state: &mut State) -> Result<(), StoreError> {
    let rows: Vec<(String, PodRow)> = store.rows(Table::Pods)?;
    for (key, row) in rows {
        let (id, pod) = Pod::from_row(row).map_err(|error| broken("pods", &key)(&error.chain()))?;
        if let (Presence::OnNode, Some(name)) = (pod.standing.presence, &pod.node) {
            let node = state.nodes.get_mut(name);
            let node = node
                .ok_or_else(|| broken("pods", &key)(&format!("it is on node {name}, which is not there")))?;
            node.pods.insert(id.clone());
        }
        state.pods.insert(id, pod);
    }
    Ok(())
}

fn orders(store: &Store, state: &mut State) -> Result<(), StoreError> {
    let rows: Vec<(String, OrderRow)> = store.rows(Table::Orders)?;
    for (key, row) in rows {
        let record = OrderRecord::from_row(row).map_err(|error| broken("orders", &key)(&error.chain()))?;
        let id: OrderId = record.order.id.clone();
        if let Some(node) = state.nodes.get_mut(&record.node) {
            node.orders.insert(id.clone());
        }
        let ulid = Ulid::from_string(id.as_str()).map_err(|error| broken("orders", &key)(&error))?;
        state.last_id = state.last_id.max(ulid);
        state.orders.insert(id, record);
    }
    Ok(())
}

fn rollouts(store: &Store) -> Result<BTreeMap<RolloutName, Rollout>, StoreError> {
    let rows: Vec<(String, RolloutRow)> = store.rows(Table::Rollouts)?;
    let mut rollouts = BTreeMap::new();
    for (key, row) in rows {
        let rollout = Rollout::from_row(row);
        let (name, rollout) = rollout.map_err(|error| broken("rollouts", &key)(&error.chain()))?;
        rollouts.insert(name, rollout);
    }
    let rows: Vec<(String, RolloutPodRow)> = store.rows(Table::RolloutPods)?;
    for (key, row) in rows {
        let error = broken("rollout_pods", &key);
        let name = RolloutName::new(row.rollout.as_str()).map_err(|error| error.to_string());
        let rollout = name
            .and_then(|name| rollouts.get_mut(&name).ok_or_else(|| format!("there is no rollout {name}")));
        let taken = rollout.and_then(|rollout| rollout.take_row(row).map_err(|error| error.chain()));
        taken.map_err(|why| error(&why))?;
    }
    Ok(rollouts)
}
