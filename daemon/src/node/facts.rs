//! What upstream is told of the host.

use super::devices::devices;
use super::{Host, HostError, boot_id};
use berth_numa::Topology;
use berth_proto::{shared_to_wire, v1};
use std::collections::{BTreeMap, BTreeSet};

/// What the host's administrator says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Where other nodes are served; none if nowhere.
    pub peer_port: Option<u16>,
}

impl Host {
    /// What the host is and has. `runtime` is its name and version; empty while it does not answer.
    ///
    /// # Errors
    /// The first thing that could not be learnt.
    pub fn facts(&self, declared: &Declared, runtime: String) -> Result<v1::NodeFacts, HostError> {
        let proc = &self.kernel.proc;
        let topology = self.topology()?;
        let memory = topology.nodes().iter().map(|node| node.memory.0).sum();
        let boot = boot_id(proc).map_err(|source| HostError::Read { path: proc.clone(), source })?;
        Ok(v1::NodeFacts {
            boot_id: boot,
            kernel: self.read(proc.join("sys/kernel/osrelease"))?.trim().to_owned(),
            os: os_name(&self.read(self.root.join("etc/os-release"))?),
            architecture: std::env::consts::ARCH.to_owned(),
            runtime,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: addresses(),
            topology: Some(to_wire(&topology)),
            capabilities: self.controls()?.names(),
            labels: declared.labels.clone().into_iter().collect(),
            memory_bytes: memory,
            reserved_memory_bytes: self.reservation.memory.0,
            reserved_cpus: self.reservation.cpus.to_string(),
            reserved_pids: self.reservation.pids,
            host_network: self.shares_network,
            host_paths: shared_to_wire(&self.shares.there()),
            peer_port: declared.peer_port.map_or(0, u32::from),
            devices: devices(&self.kernel.sys),
            mount_points: self.disks()?.mount_points().map(|(point, _)| point.to_owned()).collect(),
        })
    }
}

/// `PRETTY_NAME` of os-release(5), without its quotes.
fn os_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

/// Addresses by which others could reach the host: neither loopback nor link-local.
fn addresses() -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let found: BTreeSet<String> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            if let Some(v4) = address.as_sockaddr_in() {
                let ip = v4.ip();
                return (!ip.is_loopback() && !ip.is_link_local()).then(|| ip.to_string());
            }
            let ip = address.as_sockaddr_in6()?.ip();
            let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
            (!ip.is_loopback() && !link_local).then(|| ip.to_string())
        })
        .collect();
    found.into_iter().collect()
}

/// The topology in the words of the wire.
fn to_wire(topology: &Topology) -> v1::Topology {
    let nodes = topology.nodes().iter().map(|node| v1::MemoryNode {
        id: node.id,
        cpus: node.cpus.to_string(),
        memory_bytes: node.memory.0,
        distances: node.distances.clone(),
        huge_pages: node.huge_pages.iter().map(huge_pages).collect(),
    });
    let cores = topology.cores().iter().map(|core| v1::Core {
        id: core.id,
        socket: core.socket,
        l3: core.l3,
        cpus: core.cpus.to_string(),
    });
    v1::Topology {
        nodes: nodes.collect(),
        cores: cores.collect(),
        online_cpus: topology.online().to_string(),
    }
}

fn huge_pages(pages: &berth_numa::HugePages) -> v1::HugePages {
    v1::HugePages { page_size_bytes: pages.page_size.0, total: pages.total, free: pages.free }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_named_as_it_names_itself() {
        let text = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
        assert_eq!(os_name(text), "Debian GNU/Linux 13 (trixie)");
        assert_eq!(os_name("ID=x\n"), "Linux");
    }

    #[test]
    fn a_topology_is_told_whole() {
        let host = Host::default();
        let topology = host.topology().unwrap();
        let wire = to_wire(&topology);
        assert_eq!(wire.nodes.len(), topology.nodes().len());
        assert_eq!(wire.online_cpus, topology.online().to_string());
    }
}
