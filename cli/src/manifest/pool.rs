//! `kind: AddressPool` and `kind: SharedCpus`.

use super::KindField;
use super::scalar::{Address, CpuList, Network, Node, Pool};
use berth_proto::v1;
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetadata {
    name: Pool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAddressPool {
    #[allow(dead_code, reason = "read beforehand; here it only must be known")]
    kind: KindField,
    metadata: RawMetadata,
    spec: RangeField,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    network: Network,
    first: Option<Address>,
    last: Option<Address>,
    gateway: Option<Address>,
}

/// A range inside its network.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawRange")]
struct RangeField(RawRange);

impl TryFrom<RawRange> for RangeField {
    type Error = String;

    fn try_from(raw: RawRange) -> Result<Self, String> {
        let network = raw.network.0;
        let named = [("first", &raw.first), ("last", &raw.last), ("gateway", &raw.gateway)];
        for (name, address) in named.iter().filter_map(|(name, address)| Some((name, address.as_ref()?.0))) {
            if !network.contains(address) {
                return Err(format!("{name} {address} is not in network {network}"));
            }
        }
        match (&raw.first, &raw.last) {
            (Some(Address(first)), Some(Address(last))) if first > last => {
                Err(format!("first {first} comes after last {last}"))
            }
            (Some(_) | None, Some(_) | None) => Ok(Self(raw)),
        }
    }
}

/// Addresses of one layer-2 domain, as a manifest describes them.
#[derive(Debug, Deserialize)]
#[serde(from = "RawAddressPool")]
pub(super) struct AddressPoolDocument(pub(super) v1::AddressPool);

impl From<RawAddressPool> for AddressPoolDocument {
    fn from(raw: RawAddressPool) -> Self {
        let RawRange { network, first, last, gateway } = raw.spec.0;
        let text = |address: Option<Address>| address.map(|Address(address): Address| address);
        let or_empty =
            |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        Self(v1::AddressPool {
            name: raw.metadata.name.0.to_string(),
            network: network.0.to_string(),
            first: or_empty(text(first)),
            last: or_empty(text(last)),
            gateway: text(gateway).map(|address| address.to_string()),
            size: 0,
            assigned: 0,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSharedCpus {
    #[allow(dead_code, reason = "read beforehand; here it only must be known")]
    kind: KindField,
    metadata: RawMetadata,
    spec: RawShared,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShared {
    node: Node,
    cpus: CpuList,
}

/// A pool of CPUs on a node, as a manifest describes it.
#[derive(Debug, Deserialize)]
#[serde(from = "RawSharedCpus")]
pub(super) struct SharedCpusDocument(pub(super) v1::SetSharedCpusRequest);

impl From<RawSharedCpus> for SharedCpusDocument {
    fn from(raw: RawSharedCpus) -> Self {
        Self(v1::SetSharedCpusRequest {
            node: raw.spec.node.0.to_string(),
            pool: raw.metadata.name.0.to_string(),
            cpus: raw.spec.cpus.0.to_string(),
        })
    }
}
