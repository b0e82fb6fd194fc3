//! Address pools, as platforms put and delete them.

use super::{Denied, State, Tx};
use berth_model::{AddressGrant, Cidr, PodRequest, PoolName};
use berth_placement::{AddressPool, AddressRange, NoAddress};
use berth_proto::v1;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most address pools: each is one layer-2 domain.
const MAX_POOLS: usize = 4_096;

/// How much of a pool is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolDetail {
    /// What it is and how full.
    Totals,
    /// Who holds what, too.
    Assignments,
}

pub(crate) fn pool_to_wire(name: &PoolName, pool: &AddressPool) -> v1::AddressPool {
    let range = pool.range();
    v1::AddressPool {
        name: name.to_string(),
        network: range.network().to_string(),
        first: range.first().to_string(),
        last: range.last().to_string(),
        gateway: range.gateway().map(|gateway| gateway.to_string()),
        size: range.size(),
        assigned: pool.assignments().len() as u64,
    }
}

/// Reads a pool's name and range. An empty end is the network's own.
pub(crate) fn pool_from_wire(wire: &v1::AddressPool) -> Result<(PoolName, AddressRange), Denied> {
    let invalid = |field: &str, why: String| Denied::Invalid(format!("{field}: {why}"));
    let name = PoolName::new(wire.name.as_str()).map_err(|error| invalid("name", error.to_string()))?;
    let network: Cidr = wire.network.parse().map_err(|error| invalid("network", format!("{error}")))?;
    let address = |field: &str, text: &str| match text {
        "" => Ok(None),
        text => {
            text.parse::<IpAddr>().map(Some).map_err(|_| invalid(field, format!("{text:?} is no address")))
        }
    };
    let gateway = wire.gateway.as_deref().unwrap_or_default();
    let range = AddressRange::new(
        network,
        address("first", &wire.first)?,
        address("last", &wire.last)?,
        address("gateway", gateway)?,
    );
    range.map(|range| (name, range)).map_err(|error| Denied::Invalid(error.to_string()))
}

fn is_v4(pool: &AddressPool) -> bool {
    pool.range().network().address().is_ipv4()
}

fn overlap(one: &AddressRange, other: &AddressRange) -> bool {
    // Of two networks that share an address one holds the other's own address.
    one.network().contains(other.network().address()) || other.network().contains(one.network().address())
}

impl State {
    /// All pools, and who holds what of them.
    pub(crate) fn pools_to_wire(&self, detail: PoolDetail) -> v1::ListPoolsResponse {
        let held = |(name, pool): (&PoolName, &AddressPool)| -> Vec<v1::Assignment> {
            let assignments = pool.assignments().map(|(pod, address)| v1::Assignment {
                pool: name.to_string(),
                address: address.to_string(),
                pod: Some(pod.into()),
            });
            assignments.collect()
        };
        let assignments = match detail {
            PoolDetail::Assignments => self.pools.iter().flat_map(held).collect(),
            PoolDetail::Totals => Vec::new(),
        };
        v1::ListPoolsResponse {
            pools: self.pools.iter().map(|(name, pool)| pool_to_wire(name, pool)).collect(),
            assignments,
        }
    }
}

impl Tx<'_> {
    /// Checks the pools that a request names: they exist, are of different families, and are those that the identity
    /// holds addresses of, if it holds any.
    pub(super) fn check_pools(&self, request: &PodRequest) -> Result<(), Denied> {
        let mut of_family: BTreeMap<bool, &PoolName> = BTreeMap::new();
        for name in &request.address_pools {
            let Some(pool) = self.pools.get(name) else {
                let known: Vec<&str> = self.pools.keys().map(PoolName::as_str).collect();
                let known = known.join(" ");
                return Err(Denied::Invalid(format!(
                    "address_pools: there is no address pool {name} (there are: {known})"
                )));
            };
            let family = is_v4(pool);
            if let Some(other) = of_family.insert(family, name) {
                let family = if family { "IPv4" } else { "IPv6" };
                return Err(Denied::Invalid(format!(
                    "address_pools: {other} and {name} are both {family}, and a pod has at most one address of each family"
                )));
            }
            let another =
                self.pools_of(&request.pod).find(|(held, pool)| *held != name && is_v4(pool) == family);
            if let Some((held, _)) = another {
                return Err(Denied::Precondition(format!(
                    "address_pools: pod {} holds an address of pool {held}: release it before it can have one of {name}",
                    request.pod
                )));
            }
        }
        Ok(())
    }

    /// The identity's addresses: those that it holds, or else free ones, IPv4 first. All or none.
    ///
    /// # Errors
    /// When a pool has none left.
    pub(super) fn assign_addresses(&mut self, request: &PodRequest) -> Result<Vec<AddressGrant>, Denied> {
        let exhausted = |name: &PoolName, error: NoAddress| {
            Denied::Exhausted(format!("address_pools: pool {name}: {error}"))
        };
        for name in &request.address_pools {
            let room = self.pools.get(name).map_or(Ok(()), |pool| pool.check_room(&request.pod));
            room.map_err(|error| exhausted(name, error))?;
        }
        let mut grants = Vec::new();
        for name in &request.address_pools {
            let Some(pool) = self.touch_assignment(name, &request.pod).pools.get_mut(name) else {
                return Err(Denied::Invalid(format!("address_pools: there is no address pool {name}")));
            };
            let address = pool.assign(&request.pod).map_err(|error| exhausted(name, error))?;
            let range = pool.range();
            self.note_assigned(name, &request.pod, address);
            let address = Cidr::new(address, range.network().prefix_len())
                .map_err(|error| Denied::Invalid(format!("address_pools: {error}")))?;
            grants.push(AddressGrant { pool: name.clone(), address, gateway: range.gateway() });
        }
        grants.sort_by_key(|grant| grant.address.address().is_ipv6());
        Ok(grants)
    }

    /// Adds a pool, or changes one in a way that leaves every assigned address in it.
    ///
    /// # Errors
    /// When it is malformed, overlaps another one's network, or would lose assigned addresses.
    pub(crate) fn put_pool(&mut self, wire: &v1::AddressPool) -> Result<v1::AddressPool, Denied> {
        let (name, range) = pool_from_wire(wire)?;
        let overlapping =
            self.pools.iter().find(|(other, pool)| **other != name && overlap(&range, &pool.range()));
        if let Some((other, pool)) = overlapping {
            return Err(Denied::Precondition(format!(
                "network: {} overlaps {} of pool {other}",
                range.network(),
                pool.range().network()
            )));
        }
        let known = self.pools.get(&name);
        if known.is_none() && self.pools.len() >= MAX_POOLS {
            return Err(Denied::Exhausted(format!("there are {MAX_POOLS} address pools, which is the most")));
        }
        if let Some(known) = known.filter(|known| known.assignments().len() > 0)
            && (known.range().network() != range.network() || known.range().gateway() != range.gateway())
        {
            return Err(Denied::Precondition(format!(
                "pool {name} has assigned addresses: its network and gateway cannot change before their pods are released"
            )));
        }
        let mut pool = AddressPool::new(range, known.map(AddressPool::next));
        for (pod, address) in known.into_iter().flat_map(AddressPool::assignments) {
            pool.restore(pod, address).map_err(|error| {
                Denied::Precondition(format!("pool {name}: {error}, and pod {pod} holds it"))
            })?;
        }
        let wire = pool_to_wire(&name, &pool);
        self.touch_pool(&name).pools.insert(name.clone(), pool);
        Ok(wire)
    }

    /// Deletes a pool that nobody holds an address of.
    ///
    /// # Errors
    /// When there is none of that name, or addresses are assigned.
    pub(crate) fn delete_pool(&mut self, name: &PoolName) -> Result<(), Denied> {
        let Some(pool) = self.pools.get(name) else {
            return Err(Denied::NotFound(format!("there is no address pool {name}")));
        };
        let assigned = pool.assignments().len();
        if let Some((pod, address)) = pool.assignments().next() {
            return Err(Denied::Precondition(format!(
                "pool {name} has {assigned} assigned addresses, such as {address} of pod {pod}: release their pods first"
            )));
        }
        self.touch_pool(name).pools.remove(name);
        Ok(())
    }
}
