//! Addresses of one layer-2 domain, assigned to pod identities until they are released.

use berth_model::{Cidr, PodId};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why a range of addresses was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// An end of the range lies outside the network, or is one of its two reserved addresses.
    #[error("{what} address {address} is not one of the hosts of network {network}, {first} to {last}")]
    NotAHost {
        /// `first`, `last` or `gateway`.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The network.
        network: Cidr,
        /// Its first host.
        first: IpAddr,
        /// Its last host.
        last: IpAddr,
    },
    /// The range runs backwards.
    #[error("first address {first} is above last address {last}")]
    Backwards {
        /// The first.
        first: IpAddr,
        /// The last.
        last: IpAddr,
    },
    /// Nothing is left to assign.
    #[error("range {first} to {last} holds the gateway only")]
    Empty {
        /// The first.
        first: IpAddr,
        /// The last.
        last: IpAddr,
    },
}

/// Every address of a pool is assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all {size} addresses of {first} to {last} are assigned: release pods, or make the range larger")]
pub struct NoAddress {
    /// How many there are.
    pub size: u64,
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

/// An address cannot be given to an identity, because someone else has it or it is not the pool's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakenAddress {
    /// Another identity holds it.
    #[error("address {address} is assigned to {holder}")]
    Held {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: PodId,
    },
    /// The identity holds another one.
    #[error("pod {pod} holds address {address} already")]
    HasAnother {
        /// The identity.
        pod: PodId,
        /// What it holds.
        address: IpAddr,
    },
    /// It is outside the range, or the gateway.
    #[error("address {0} is not assigned from this pool")]
    Outside(IpAddr),
}

/// Which addresses of a network may be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: Cidr,
    first: u128,
    last: u128,
    gateway: Option<IpAddr>,
}

impl AddressRange {
    /// A range of `network`, from its first host to its last where an end is absent. The gateway is never assigned.
    ///
    /// # Errors
    /// An end or the gateway is no host of the network, the range runs backwards or holds the gateway only.
    pub fn new(
        network: Cidr,
        first: Option<IpAddr>,
        last: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Self, InvalidRange> {
        let (lowest, highest) = hosts(network);
        let is_v4 = network.address().is_ipv4();
        let host = |what, address: IpAddr| {
            let number = to_number(address);
            let inside = address.is_ipv4() == is_v4 && (lowest..=highest).contains(&number);
            inside.then_some(number).ok_or(InvalidRange::NotAHost {
                what,
                address,
                network,
                first: to_address(lowest, is_v4),
                last: to_address(highest, is_v4),
            })
        };
        let begin = first.map_or(Ok(lowest), |address| host("first", address))?;
        let end = last.map_or(Ok(highest), |address| host("last", address))?;
        if let Some(gateway) = gateway {
            host("gateway", gateway)?;
        }
        let range = Self { network, first: begin, last: end, gateway };
        let (first, last) = (range.first(), range.last());
        if end < begin {
            return Err(InvalidRange::Backwards { first, last });
        }
        if range.size() == 0 {
            return Err(InvalidRange::Empty { first, last });
        }
        Ok(range)
    }

    /// The network, as it was given.
    pub fn network(&self) -> Cidr {
        self.network
    }

    /// The first address that may be assigned.
    pub fn first(&self) -> IpAddr {
        to_address(self.first, self.network.address().is_ipv4())
    }

    /// The last address that may be assigned.
    pub fn last(&self) -> IpAddr {
        to_address(self.last, self.network.address().is_ipv4())
    }

    /// The address that is never assigned.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// How many addresses can be assigned; `u64::MAX` when they are more.
    pub fn size(&self) -> u64 {
        let gateway =
            self.gateway.is_some_and(|gateway| (self.first..=self.last).contains(&to_number(gateway)));
        let all = (self.last - self.first).saturating_add(1) - u128::from(gateway);
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// Whether the address may be assigned.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.address().is_ipv4()
            && (self.first..=self.last).contains(&to_number(address))
            && self.gateway != Some(address)
    }

    fn after(&self, number: u128) -> u128 {
        if number < self.last { number + 1 } else { self.first }
    }
}

/// A range and who holds what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    range: AddressRange,
    next: u128,
    by_pod: BTreeMap<PodId, IpAddr>,
    by_address: BTreeMap<IpAddr, PodId>,
}

impl AddressPool {
    /// A pool of which nothing is assigned. `next` is where an earlier life's search would have gone on.
    pub fn new(range: AddressRange, next: Option<IpAddr>) -> Self {
        let next = next.filter(|address| range.contains(*address)).map(to_number);
        Self {
            range,
            next: next.unwrap_or(range.first),
            by_pod: BTreeMap::new(),
            by_address: BTreeMap::new(),
        }
    }

    /// What may be assigned.
    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// Where the next search begins: to be kept with the pool, or a restart would hand out fresh releases.
    pub fn next(&self) -> IpAddr {
        to_address(self.next, self.range.network.address().is_ipv4())
    }

    /// Who holds what.
    pub fn assignments(&self) -> impl ExactSizeIterator<Item = (&PodId, IpAddr)> {
        self.by_pod.iter().map(|(pod, address)| (pod, *address))
    }

    /// What an identity holds.
    pub fn held_by(&self, pod: &PodId) -> Option<IpAddr> {
        self.by_pod.get(pod).copied()
    }

    /// Whether the identity holds an address, or one is free for it.
    ///
    /// # Errors
    /// When every address is another's.
    pub fn check_room(&self, pod: &PodId) -> Result<(), NoAddress> {
        let size = self.range.size();
        if self.held_by(pod).is_some() || (self.by_pod.len() as u64) < size {
            return Ok(());
        }
        Err(NoAddress { size, first: self.range.first(), last: self.range.last() })
    }

    /// The identity's address: the one that it holds, or else the next free one. The search goes round, so that an
    /// address rests as long as possible after its release.
    ///
    /// # Errors
    /// When every address is assigned.
    pub fn assign(&mut self, pod: &PodId) -> Result<IpAddr, NoAddress> {
        if let Some(address) = self.held_by(pod) {
            return Ok(address);
        }
        self.check_room(pod)?;
        let mut number = self.next;
        // Ends: at least one address of the range is neither assigned nor the gateway.
        let address = loop {
            let address = to_address(number, self.range.network.address().is_ipv4());
            number = self.range.after(number);
            if self.range.contains(address) && !self.by_address.contains_key(&address) {
                break address;
            }
        };
        self.next = number;
        self.by_pod.insert(pod.clone(), address);
        self.by_address.insert(address, pod.clone());
        Ok(address)
    }

    /// Writes down an assignment that was made before.
    ///
    /// # Errors
    /// When the address is someone else's or not the pool's, or the identity holds another one.
    pub fn restore(&mut self, pod: &PodId, address: IpAddr) -> Result<(), TakenAddress> {
        if !self.range.contains(address) {
            return Err(TakenAddress::Outside(address));
        }
        if let Some(holder) = self.by_address.get(&address).filter(|holder| *holder != pod) {
            return Err(TakenAddress::Held { address, holder: holder.clone() });
        }
        if let Some(held) = self.held_by(pod).filter(|held| *held != address) {
            return Err(TakenAddress::HasAnother { pod: pod.clone(), address: held });
        }
        self.by_pod.insert(pod.clone(), address);
        self.by_address.insert(address, pod.clone());
        Ok(())
    }

    /// Takes an identity's address back.
    pub fn release(&mut self, pod: &PodId) -> Option<IpAddr> {
        let address = self.by_pod.remove(pod)?;
        self.by_address.remove(&address);
        Some(address)
    }
}

/// The first and the last host of a network. The network's own address and, with IPv4, the broadcast address belong to
/// nobody, but on links of two (RFC 3021, RFC 6164) and in networks of one.
fn hosts(network: Cidr) -> (u128, u128) {
    let bits: u32 = if network.address().is_ipv4() { 32 } else { 128 };
    let host_bits = bits - u32::from(network.prefix_len());
    let mask = u128::MAX.checked_shl(host_bits).map_or(u128::MAX, |high| !high);
    let lowest = to_number(network.address()) & !mask;
    let highest = lowest | mask;
    if host_bits <= 1 {
        return (lowest, highest);
    }
    match network.address() {
        IpAddr::V4(_) => (lowest + 1, highest - 1),
        IpAddr::V6(_) => (lowest + 1, highest),
    }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn to_address(number: u128, is_v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if is_v4 => IpAddr::V4(number.into()),
        Ok(_) | Err(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests;
