//! Order admission: one synchronous function.
//!
//! A newer order of a pod replaces an open one, which then ends as superseded: upstream's last word is what counts,
//! and an order that waits behind another could only delay it.

mod change;
mod disks;
mod host;
mod pod;

pub use host::obstacle;

use crate::{OpenOrder, PodRecord, SharedPool};
use berth_model::{
    Bytes, CpuSet, Digest, DiskName, DiskOffer, Generation, ImageName, MemSet, NodeOrder, NodeVerb, Order,
    OrderId, Outcome, PodId, PoolName, ProfileName, Refusal, SharedPaths, Target, Term,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the ledger says, as far as admission needs it.
#[derive(Debug)]
pub struct LedgerView<'a> {
    /// The highest term seen.
    pub term: Term,
    /// Every pod ever seen here.
    pub pods: &'a BTreeMap<PodId, PodRecord>,
    /// The shared CPU pools.
    pub pools: &'a BTreeMap<PoolName, SharedPool>,
    /// Data disks that another node may copy.
    pub offers: &'a BTreeMap<PodId, DiskOffer>,
    /// Data disks that are being copied here, and by which order.
    pub fetches: &'a BTreeMap<(PodId, DiskName), OrderId>,
    /// What is known of the order's own id.
    pub known: Option<Known<'a>>,
}

/// An order that the ledger has already.
#[derive(Debug)]
pub struct Known<'a> {
    /// As it was accepted.
    pub order: &'a Order,
    /// How it ended; none while it is open.
    pub outcome: Option<&'a Outcome>,
}

/// What the host has, as far as admission needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// CPUs that are online.
    pub online_cpus: CpuSet,
    /// CPUs that are kept for the system's own services.
    pub reserved_cpus: CpuSet,
    /// CPUs that the kernel found when it booted: it takes no other into a CPU set, online or not.
    pub possible_cpus: CpuSet,
    /// Memory nodes that have memory.
    pub mems: MemSet,
    /// Mount points with a block device beneath.
    pub mount_points: BTreeSet<String>,
    /// Sizes of huge pages that the kernel has.
    pub page_sizes: BTreeSet<Bytes>,
    /// Whether `io.weight` can be written.
    pub io_weight: bool,
    /// Whether `memory.swap.max` can be written.
    pub swap: bool,
    /// Whether data disks that are directories can be held to a size.
    pub data_disk_quota: QuotaView,
    /// Whether containers' system disks can be held to a size.
    pub system_disk_quota: QuotaView,
    /// Whether its administrator shares its network with pods.
    pub host_network: bool,
    /// What its administrator shares with containers, and is there.
    pub host_paths: SharedPaths,
    /// What containers can be confined by, beside the runtime's own.
    pub profiles: ProfileView,
}

/// The profiles that a host's administrator has put there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileView {
    /// Files in the folder of seccomp profiles.
    pub seccomp: BTreeSet<ProfileName>,
    /// What is loaded in the kernel; none where containers cannot be confined by AppArmor.
    pub apparmor: Option<BTreeSet<ProfileName>>,
}

/// Whether disks of one kind can be held to a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaView {
    /// They can.
    Enforced,
    /// They cannot.
    Unsupported {
        /// Why, for people.
        why: String,
    },
}

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is written to the ledger as said, and then acknowledged.
    Accept(Accepted),
    /// The same order again: its outcome, if it has ended.
    Already(Option<Outcome>),
    /// It changes nothing.
    Refuse(Refusal),
}

/// What accepting an order writes, beside the order itself and its term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What changes.
    pub change: Change,
    /// The open order that it replaces; it ends with [`Failure::Superseded`](berth_model::Failure::Superseded).
    pub superseded: Option<OrderId>,
    /// The pod whose disks are offered no more: they are about to change, or to go.
    pub ended_offer: Option<PodId>,
}

/// What accepting an order changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pod's record becomes this.
    Pod(Box<PodRecord>),
    /// The pool becomes this; its members' controls follow.
    Pool(SharedPool),
    /// Nothing is written: an image is pulled.
    Pull {
        /// Where from.
        image: ImageName,
        /// What it must be.
        digest: Option<Digest>,
    },
    /// Nothing is written: everything is looked at again.
    Inspect,
    /// These disks are offered, and no other ones of the pod.
    Offer(DiskOffer),
    /// No disks of the pod are offered any more.
    Withdraw(PodId),
    /// A disk is copied. A pod that was never here is known from then on, so that the copy can be released.
    Fetch {
        /// Its record, if it has none yet.
        unknown: Option<Box<PodRecord>>,
    },
}

/// Answers an order. `now_ms` is the node's monotonic clock.
pub fn admit(ledger: &LedgerView<'_>, host: &HostView, order: &Order, now_ms: u64) -> Admission {
    // The same order again changes nothing, so it is answered before anything could refuse it: after a change of
    // leadership it comes with a newer term, and before it could reach a retired leader with an older one.
    if let Some(known) = &ledger.known {
        return match same_content(known.order, order) {
            true => Admission::Already(known.outcome.cloned()),
            false => Admission::Refuse(Refusal::ChangedContent(order.id.clone())),
        };
    }
    match decide(ledger, host, order, now_ms) {
        Ok(accepted) => Admission::Accept(accepted),
        Err(refusal) => Admission::Refuse(refusal),
    }
}

/// The term is whose word it is, not what is said.
fn same_content(known: &Order, given: &Order) -> bool {
    known.target == given.target && known.deadline_ms == given.deadline_ms
}

fn decide(ledger: &LedgerView<'_>, host: &HostView, order: &Order, now_ms: u64) -> Result<Accepted, Refusal> {
    if order.term < ledger.term {
        return Err(Refusal::StaleTerm { given: order.term, seen: ledger.term });
    }
    if order.deadline_ms == 0 {
        return Err(Refusal::Expired { deadline_ms: 0 });
    }
    match &order.target {
        Target::Pod(target) => {
            let opened = OpenOrder {
                id: order.id.clone(),
                verb: target.verb.clone(),
                deadline_ms: order.deadline_ms,
                deadline_at_ms: now_ms.saturating_add(order.deadline_ms),
                failure: None,
            };
            disks::check_not_arriving(ledger, target)?;
            let accepted = pod::decide(ledger, host, opened, target)?;
            Ok(Accepted { ended_offer: disks::ended_offer(ledger, &target.pod), ..accepted })
        }
        Target::Node(target) => decide_node(ledger, host, target),
    }
}

fn decide_node(ledger: &LedgerView<'_>, host: &HostView, order: &NodeOrder) -> Result<Accepted, Refusal> {
    let mut ended_offer = None;
    let change = match &order.verb {
        NodeVerb::SetSharedCpus { pool, cpus, mems, generation } => {
            let pool = SharedPool {
                name: pool.clone(),
                cpus: cpus.clone(),
                mems: mems.clone(),
                generation: *generation,
            };
            Change::Pool(check_pool(ledger, host, pool)?)
        }
        NodeVerb::PullImage { image, digest } => {
            Change::Pull { image: image.clone(), digest: digest.clone() }
        }
        NodeVerb::Inspect => Change::Inspect,
        NodeVerb::OfferDisks(offer) => Change::Offer(disks::check_offer(ledger, offer)?),
        NodeVerb::WithdrawDisks { pod } => Change::Withdraw(pod.clone()),
        NodeVerb::FetchDisk(fetch) => {
            let unknown = disks::check_fetch(ledger, host, fetch)?;
            ended_offer = disks::ended_offer(ledger, &fetch.pod);
            Change::Fetch { unknown: unknown.map(Box::new) }
        }
    };
    Ok(Accepted { change, superseded: None, ended_offer })
}

fn check_pool(ledger: &LedgerView<'_>, host: &HostView, pool: SharedPool) -> Result<SharedPool, Refusal> {
    if pool.cpus.is_empty() || pool.mems.is_empty() {
        return Err(Refusal::Invalid(format!(
            "pool {} needs at least one CPU and one memory node",
            pool.name
        )));
    }
    let known = ledger.pools.get(&pool.name);
    let generation = known.map_or(Generation(0), |known| known.generation);
    if pool.generation <= generation {
        return Err(Refusal::StaleGeneration { given: pool.generation, known: generation });
    }
    host::check_cpus(host, &pool.cpus, &pool.mems)?;
    let has = known.map(|known| known.cpus.clone()).unwrap_or_default();
    host::check_reserved(host, &pool.cpus.difference(&has))?;
    for other in ledger.pools.values().filter(|other| other.name != pool.name) {
        conflict(&pool.cpus, &other.cpus, || format!("pool {}", other.name))?;
    }
    for record in ledger.pods.values() {
        if let Some(cpus) = pod::exclusive_cpus(record) {
            conflict(&pool.cpus, cpus, || format!("pod {}", record.pod))?;
        }
    }
    Ok(pool)
}

/// Refuses CPUs that someone else has.
fn conflict(wanted: &CpuSet, theirs: &CpuSet, holder: impl FnOnce() -> String) -> Result<(), Refusal> {
    let cpus = wanted.intersection(theirs);
    if cpus.is_empty() { Ok(()) } else { Err(Refusal::CpuConflict { cpus, holder: holder() }) }
}
