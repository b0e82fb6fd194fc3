//! What the tests of several modules need: orders, a host, a ledger in a folder of its own, and waiting.

use crate::disk::{FoundDisk, Usage};
use crate::host::{Host, SeenDisks, Unseen};
use crate::ledger::{Boot, Ledger, Moment};
use crate::pod::Copies;
use crate::runtime::{SeenImage, fake};
use berth_model::{
    Bytes, ContainerStatus, Disk, DiskFetch, DiskName, EvictDisposition, Failure, Generation, Incarnation,
    NodeName, NodeOrder, NodeVerb, Order, OrderId, PodId, PodOrder, PodPhase, PodSpec, PodStatus, PodVerb,
    PoolName, Seq, Target, Term,
};
use berth_plan::{HostView, ProfileView, QuotaView};
use berth_proto::{Addressed, v1};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// How long anything may take before a test says that it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const NOW: Moment = Moment { monotonic_ms: 1_000_000, epoch_ms: 1_800_000_000_000 };

pub(crate) fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

pub(crate) fn pod() -> PodId {
    PodId::new("shop", "web").unwrap()
}

pub(crate) fn order_id(number: u64) -> OrderId {
    OrderId::new(format!("01ARZ3NDEKTSV4RRFFQ69G{number:04}")).unwrap()
}

/// An order of term 1 for this node, with a minute's time.
pub(crate) fn order(number: u64, target: Target) -> Addressed {
    Addressed {
        node: node(),
        order: Order {
            id: order_id(number),
            term: Term(1),
            reason: "a test".to_owned(),
            deadline_ms: 60_000,
            target,
        },
    }
}

/// An order for the pod's incarnation 1; its number is its seq.
pub(crate) fn pod_order(number: u64, verb: PodVerb) -> Addressed {
    let order_of_pod = PodOrder {
        pod: pod(),
        incarnation: Incarnation(1),
        generation: Generation(1),
        seq: Seq(number),
        verb,
    };
    order(number, Target::Pod(order_of_pod))
}

pub(crate) fn run_order(number: u64) -> Addressed {
    run_spec(number, fake::spec("web"))
}

pub(crate) fn run_spec(number: u64, spec: PodSpec) -> Addressed {
    pod_order(number, PodVerb::Run { spec: Box::new(spec), disk: Disk::Fresh })
}

pub(crate) fn evict_order(number: u64, disposition: EvictDisposition) -> Addressed {
    pod_order(number, PodVerb::Evict { grace_ms: 10, disposition })
}

pub(crate) fn pool() -> PoolName {
    PoolName::new("default").unwrap()
}

/// Sets the pool that the fake's pods run on.
pub(crate) fn pool_order(number: u64, generation: u64, cpus: &str) -> Addressed {
    let verb = NodeVerb::SetSharedCpus {
        pool: pool(),
        cpus: cpus.parse().unwrap(),
        mems: "0".parse().unwrap(),
        generation: Generation(generation),
    };
    order(number, Target::Node(NodeOrder { verb }))
}

pub(crate) fn host_view() -> HostView {
    HostView {
        online_cpus: "0-3".parse().unwrap(),
        reserved_cpus: berth_model::CpuSet::default(),
        possible_cpus: "0-3".parse().unwrap(),
        mems: "0-1".parse().unwrap(),
        mount_points: ["/".to_owned()].into(),
        page_sizes: [].into(),
        io_weight: true,
        swap: true,
        data_disk_quota: QuotaView::Enforced,
        system_disk_quota: QuotaView::Enforced,
        profiles: ProfileView::default(),
        host_network: false,
        host_paths: [].into(),
    }
}

pub(crate) fn boot() -> Boot {
    Boot { node: Some(node()), boot_id: "boot-1".to_owned() }
}

pub(crate) fn open(folder: &Path) -> Ledger {
    Ledger::open(&folder.join("ledger.db"), &boot(), NOW).unwrap()
}

/// Where no disk can be copied from.
pub(crate) struct NoCopies;

#[tonic::async_trait]
impl Copies for NoCopies {
    async fn fetch(&self, fetch: &DiskFetch, _: &watch::Sender<String>) -> Result<(), Failure> {
        Err(Failure::Effect { step: "FetchDisk".to_owned(), why: format!("there is no node {}", fetch.from) })
    }
}

/// A host with four CPUs and two memory nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeHost;

impl Host for FakeHost {
    fn view(&self) -> Result<HostView, Unseen> {
        Ok(host_view())
    }

    async fn facts(&self) -> Result<v1::NodeFacts, Unseen> {
        Ok(v1::NodeFacts { boot_id: "boot-1".to_owned(), ..v1::NodeFacts::default() })
    }

    async fn disks(&self, keys: Vec<String>) -> Result<SeenDisks, Unseen> {
        let disk = FoundDisk {
            pod: PodId::new("shop", "left").expect("a literal of this file"),
            name: DiskName::new("db").expect("a literal of this file"),
            made_of: crate::disk::MadeOf::Directory(crate::disk::Shelf::Kept),
            path: "/var/lib/berth/disks/pods/shop.left/db".into(),
            usage: Usage { used: Some(Bytes(7)), limit: None },
        };
        let usage = Usage { used: Some(Bytes(9)), limit: Some(Bytes(1024)) };
        Ok(SeenDisks { data: vec![disk], system: keys.into_iter().map(|key| (key, usage)).collect() })
    }

    async fn images(&self) -> Result<Vec<SeenImage>, Unseen> {
        Ok(Vec::new())
    }

    async fn diagnose(&self) -> Vec<v1::Finding> {
        Vec::new()
    }
}

/// Waits until `ready` says something.
pub(crate) async fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let ready = async {
        loop {
            if let Some(found) = ready() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, ready).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A pod that runs, with these containers, as it is reported.
pub(crate) fn status(containers: Vec<ContainerStatus>) -> PodStatus {
    PodStatus {
        pod: pod(),
        incarnation: Incarnation(1),
        generation: Generation(1),
        phase: PodPhase::Running,
        message: String::new(),
        sandbox_id: None,
        addresses: Vec::new(),
        containers,
        applied: None,
        open_order: None,
    }
}
