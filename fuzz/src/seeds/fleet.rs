//! A small fleet: one node that greets, and pods that are submitted to it.

use berth_cli::{Manifest, parse};
use berth_control::Rehearsal;
use berth_model::{NodeName, PodRequest};
use berth_proto::v1;
use berth_proto::v1::node_message::Message as Up;
use std::sync::LazyLock;

/// Pods that use most of what a pod can say, on the node `node-1`.
pub(super) const PODS: &str = include_str!("pods.yaml");

/// The node of every seed.
pub(super) fn node() -> NodeName {
    "node-1".parse().expect("is a name")
}

/// A control plane that has an address pool, and a node that has joined and not connected yet.
pub(crate) fn fleet() -> Rehearsal {
    let mut control = Rehearsal::new(node());
    let pool = v1::AddressPool {
        name: "blue".to_owned(),
        network: "10.0.0.0/24".to_owned(),
        first: "10.0.0.10".to_owned(),
        last: "10.0.0.99".to_owned(),
        gateway: Some("10.0.0.1".to_owned()),
        ..v1::AddressPool::default()
    };
    if let Err(why) = control.put_pool(&pool) {
        panic!("the seeds' pool is not taken: {why}");
    }
    control
}

/// Parsed once: a target submits them thousands of times a second.
static REQUESTS: LazyLock<Vec<PodRequest>> = LazyLock::new(|| {
    let manifests = parse(PODS).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pod = |manifest| match manifest {
        Manifest::Pod(request) => Some(*request),
        Manifest::AddressPool(_) | Manifest::SharedCpus(_) => None,
    };
    manifests.into_iter().filter_map(pod).collect()
});

/// Pods for it, first to last.
pub(crate) fn requests() -> Vec<PodRequest> {
    REQUESTS.clone()
}

/// What the node says first.
pub(crate) fn hello() -> v1::NodeMessage {
    said(Up::Hello(v1::Hello {
        node: node().to_string(),
        term: 0,
        facts: Some(facts()),
        ..v1::Hello::default()
    }))
}

/// As a message.
pub(super) fn said(message: Up) -> v1::NodeMessage {
    v1::NodeMessage { message: Some(message) }
}

/// Eight CPUs, two memory nodes.
pub(super) fn facts() -> v1::NodeFacts {
    let memory = |id, cpus: &str, distances: [u32; 2]| v1::MemoryNode {
        id,
        cpus: cpus.to_owned(),
        memory_bytes: 8 << 30,
        distances: distances.to_vec(),
        huge_pages: vec![v1::HugePages { page_size_bytes: 2 << 20, total: 16, free: 16 }],
    };
    let core = |id: u32| v1::Core { id, socket: id / 4, l3: id / 4, cpus: id.to_string() };
    v1::NodeFacts {
        topology: Some(v1::Topology {
            nodes: vec![memory(0, "0-3", [10, 20]), memory(1, "4-7", [20, 10])],
            cores: (0..8).map(core).collect(),
            online_cpus: "0-7".to_owned(),
        }),
        memory_bytes: 16 << 30,
        reserved_cpus: "0,7".to_owned(),
        addresses: vec!["192.0.2.1".to_owned()],
        peer_port: 7445,
        devices: Vec::new(),
        host_network: true,
        host_paths: [("/srv/models".to_owned(), v1::Access::ReadOnly.into())].into(),
        mount_points: vec!["/".to_owned(), "/data".to_owned()],
        ..v1::NodeFacts::default()
    }
}
