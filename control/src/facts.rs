//! What a node reports of itself, parsed once.

use berth_model::{Bytes, CpuSet, MemSet};
use berth_numa::{Core, HugePages, MemoryNode, Topology};
use berth_proto::{InvalidMessage, v1};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Most memory nodes and cores that are believed: the largest machines have a tenth of that.
const MAX_TOPOLOGY_PARTS: usize = 16_384;

/// Most devices that are remembered: a node tells fewer.
const MAX_DEVICES: usize = 256;

/// The facts of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    /// As they were reported.
    pub wire: v1::NodeFacts,
    /// CPUs that the host keeps for itself.
    pub reserved: CpuSet,
    /// Its CPUs and memory nodes.
    pub topology: Topology,
}

fn cpus(list: &str, field: &str) -> Result<CpuSet, InvalidMessage> {
    list.parse().map_err(|error| InvalidMessage::new(field, error))
}

impl TryFrom<v1::NodeFacts> for Facts {
    type Error = InvalidMessage;

    fn try_from(mut wire: v1::NodeFacts) -> Result<Self, InvalidMessage> {
        wire.devices.truncate(MAX_DEVICES);
        let topology = wire.topology.as_ref().ok_or_else(|| InvalidMessage::missing("topology"))?;
        Ok(Self {
            topology: topology_from(topology)?,
            reserved: cpus(&wire.reserved_cpus, "reserved_cpus")?,
            wire,
        })
    }
}

fn topology_from(wire: &v1::Topology) -> Result<Topology, InvalidMessage> {
    if wire.nodes.len() + wire.cores.len() > MAX_TOPOLOGY_PARTS {
        let why = format!("more than {MAX_TOPOLOGY_PARTS} memory nodes and cores");
        return Err(InvalidMessage::new("topology", why));
    }
    let nodes: Vec<MemoryNode> = wire.nodes.iter().map(memory_node).collect::<Result<_, _>>()?;
    let cores: Vec<Core> = wire.cores.iter().map(core).collect::<Result<_, _>>()?;
    let online = cpus(&wire.online_cpus, "topology.online_cpus")?;
    Topology::new(&nodes, cores, online).map_err(|error| InvalidMessage::new("topology", error))
}

fn memory_node(wire: &v1::MemoryNode) -> Result<MemoryNode, InvalidMessage> {
    let pages = |pages: &v1::HugePages| HugePages {
        page_size: Bytes(pages.page_size_bytes),
        total: pages.total,
        free: pages.free,
    };
    Ok(MemoryNode {
        id: wire.id,
        cpus: cpus(&wire.cpus, "topology.nodes.cpus")?,
        memory: Bytes(wire.memory_bytes),
        huge_pages: wire.huge_pages.iter().map(pages).collect(),
        distances: wire.distances.clone(),
    })
}

fn core(wire: &v1::Core) -> Result<Core, InvalidMessage> {
    Ok(Core { id: wire.id, socket: wire.socket, l3: wire.l3, cpus: cpus(&wire.cpus, "topology.cores.cpus")? })
}

impl Facts {
    /// The memory nodes that have memory.
    pub(crate) fn mems(&self) -> MemSet {
        self.topology.memory_nodes()
    }

    /// Sizes of huge pages.
    pub(crate) fn page_sizes(&self) -> BTreeSet<Bytes> {
        self.topology.huge_page_sizes()
    }

    /// Where it serves other nodes; nowhere if it serves none, or says nothing that makes sense.
    pub(crate) fn peer_addresses(&self) -> Vec<SocketAddr> {
        let Some(port) = u16::try_from(self.wire.peer_port).ok().filter(|port| *port != 0) else {
            return Vec::new();
        };
        let addresses = self.wire.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
        addresses.map(|address| SocketAddr::new(address, port)).collect()
    }

    /// Memory for pods: all but what is kept for the host.
    pub(crate) fn pod_memory(&self) -> Bytes {
        Bytes(self.wire.memory_bytes.saturating_sub(self.wire.reserved_memory_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> v1::NodeFacts {
        let node = |id, cpus: &str, distances: Vec<u32>| v1::MemoryNode {
            id,
            cpus: cpus.to_owned(),
            memory_bytes: 1 << 30,
            distances,
            huge_pages: vec![v1::HugePages { page_size_bytes: 2 << 20, total: 0, free: 0 }],
        };
        let core = |id, cpus: &str| v1::Core { id, socket: id / 2, l3: id / 2, cpus: cpus.to_owned() };
        v1::NodeFacts {
            topology: Some(v1::Topology {
                nodes: vec![node(0, "0-1", vec![10, 20]), node(1, "2-3", vec![20, 10])],
                cores: vec![core(0, "0-1"), core(2, "2-3")],
                online_cpus: "0-3".to_owned(),
            }),
            reserved_cpus: "0".to_owned(),
            memory_bytes: 100,
            reserved_memory_bytes: 30,
            ..v1::NodeFacts::default()
        }
    }

    #[test]
    fn well_formed() {
        let facts = Facts::try_from(facts()).unwrap();
        assert_eq!(facts.mems().to_string(), "0-1");
        assert_eq!(facts.pod_memory(), Bytes(70));
        assert_eq!(facts.topology.online().to_string(), "0-3");
        assert_eq!(facts.page_sizes(), BTreeSet::from([Bytes(2 << 20)]));
    }

    #[test]
    fn malformed() {
        let check = |spoil: &dyn Fn(&mut v1::NodeFacts), expected: &str| {
            let mut facts = facts();
            spoil(&mut facts);
            let error = Facts::try_from(facts).unwrap_err().chain();
            assert!(error.contains(expected), "{error}");
        };
        let topology = |facts: &mut v1::NodeFacts| facts.topology.take().unwrap();
        check(&|facts| facts.topology = None, "topology: is missing");
        check(&|facts| facts.reserved_cpus = "x".to_owned(), "reserved_cpus: \"x\" in list");
        check(
            &|facts| {
                let mut spoilt = topology(facts);
                spoilt.nodes[1].id = 0;
                facts.topology = Some(spoilt);
            },
            "topology: memory node 0 is there twice",
        );
        check(
            &|facts| {
                let mut spoilt = topology(facts);
                spoilt.nodes[0].distances.pop();
                facts.topology = Some(spoilt);
            },
            "memory node 0 has 1 distances",
        );
        check(
            &|facts| {
                let mut spoilt = topology(facts);
                spoilt.cores = vec![v1::Core::default(); MAX_TOPOLOGY_PARTS];
                facts.topology = Some(spoilt);
            },
            "more than 16384",
        );
    }
}
