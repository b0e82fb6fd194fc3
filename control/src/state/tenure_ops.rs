//! The history of addresses: written when one is assigned and when it is released.

use super::{State, Tx};
use crate::flow::tenure::Tenure;
use crate::store::TenureRow;
use berth_model::{OrderId, PodId, PoolName};
use berth_proto::{InvalidMessage, v1};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Tenures that have ended and are remembered; the oldest goes first.
const MAX_ENDED: usize = 65_536;

/// All tenures that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Tenures {
    /// By a number that grows, so that they are in the order of their beginning.
    pub(super) all: BTreeMap<OrderId, Tenure>,
    ended: BTreeSet<OrderId>,
    live: BTreeMap<(PoolName, PodId), OrderId>,
}

impl Tenures {
    /// Puts one in, or another in its place.
    pub(super) fn put(&mut self, key: OrderId, tenure: Tenure) {
        let holder = (tenure.pool.clone(), tenure.pod.clone());
        match tenure.released_at_ms {
            None => drop(self.live.insert(holder, key.clone())),
            Some(_) => {
                if self.live.get(&holder) == Some(&key) {
                    self.live.remove(&holder);
                }
                self.ended.insert(key.clone());
            }
        }
        self.all.insert(key, tenure);
    }
}

impl Tenure {
    pub(super) fn to_wire(&self) -> v1::AddressTenure {
        v1::AddressTenure {
            pool: self.pool.to_string(),
            address: self.address.to_string(),
            pod: Some((&self.pod).into()),
            assigned_at_ms: self.assigned_at_ms,
            released_at_ms: self.released_at_ms,
        }
    }

    pub(super) fn to_row(&self, version: u32) -> TenureRow {
        TenureRow { version, tenure: Some(self.to_wire()) }
    }

    pub(super) fn from_row(row: TenureRow) -> Result<Self, InvalidMessage> {
        let wire = row.tenure.ok_or_else(|| InvalidMessage::missing("tenure"))?;
        Ok(Self {
            pool: PoolName::new(wire.pool).map_err(|error| InvalidMessage::new("pool", error))?,
            address: wire.address.parse().map_err(|error| InvalidMessage::new("address", error))?,
            pod: berth_proto::pod_from(wire.pod)?,
            assigned_at_ms: wire.assigned_at_ms,
            released_at_ms: wire.released_at_ms,
        })
    }
}

impl State {
    /// The history of addresses, of one pod or pool where that is wanted, the oldest first.
    pub(crate) fn tenures_to_wire(&self, pod: Option<&PodId>, pool: Option<&str>) -> Vec<v1::AddressTenure> {
        let wanted = |tenure: &&Tenure| {
            pod.is_none_or(|pod| tenure.pod == *pod) && pool.is_none_or(|pool| tenure.pool.as_str() == pool)
        };
        self.tenures.all.values().filter(wanted).map(Tenure::to_wire).collect()
    }
}

impl Tx<'_> {
    /// An identity has got an address; one that it had already is no news.
    pub(super) fn note_assigned(&mut self, pool: &PoolName, pod: &PodId, address: IpAddr) {
        if self.tenures.live.contains_key(&(pool.clone(), pod.clone())) {
            return;
        }
        let (key, assigned_at_ms) = (self.next_order_id(), self.now().wall_ms);
        let (pool, pod) = (pool.clone(), pod.clone());
        let tenure = Tenure { pool, address, pod, assigned_at_ms, released_at_ms: None };
        self.touch_tenure(&key).tenures.put(key.clone(), tenure);
    }

    /// An identity has given an address up.
    pub(super) fn note_released(&mut self, pool: &PoolName, pod: &PodId) {
        let Some(key) = self.tenures.live.get(&(pool.clone(), pod.clone())).cloned() else { return };
        let Some(tenure) = self.tenures.all.get(&key).cloned() else { return };
        let released_at_ms = Some(self.now().wall_ms);
        self.touch_tenure(&key).tenures.put(key.clone(), Tenure { released_at_ms, ..tenure });
        while self.tenures.ended.len() > MAX_ENDED {
            let Some(oldest) = self.tenures.ended.first().cloned() else { return };
            let tenures = &mut self.touch_tenure(&oldest).tenures;
            tenures.ended.remove(&oldest);
            tenures.all.remove(&oldest);
        }
    }
}
