//! Orders.

use crate::error::{At, InvalidMessage, Result, required};
use crate::pod::{disk_from, pod_from};
use crate::v1;
use berth_model::{
    Bytes, Disk, DiskFetch, DiskOffer, EvictDisposition, Generation, Incarnation, MAX_DISKS,
    MAX_PEER_ADDRESSES, NodeName, NodeOrder, NodeVerb, Order, PodOrder, PodSpec, PodVerb, Seq, Target, Term,
};

/// An order as it came, with the node that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// The node that it is for.
    pub node: NodeName,
    /// The order.
    pub order: Order,
}

impl TryFrom<v1::Order> for Addressed {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Order) -> Result<Self> {
        let target = match required(wire.target, "target")? {
            v1::order::Target::Pod(order) => Target::Pod(pod_order_from(order).at("pod")?),
            v1::order::Target::NodeOrder(order) => Target::Node(node_order_from(order).at("node_order")?),
        };
        let order = Order {
            id: wire.id.parse().at("id")?,
            term: Term(wire.term),
            reason: wire.reason,
            deadline_ms: wire.deadline_ms,
            target,
        };
        Ok(Self { node: wire.node.parse().at("node")?, order })
    }
}

fn pod_order_from(wire: v1::PodOrder) -> Result<PodOrder> {
    Ok(PodOrder {
        pod: pod_from(wire.pod)?,
        incarnation: Incarnation(wire.incarnation),
        generation: Generation(wire.generation),
        seq: Seq(wire.seq),
        verb: pod_verb_from(required(wire.verb, "verb")?)?,
    })
}

fn pod_verb_from(wire: v1::pod_order::Verb) -> Result<PodVerb> {
    use v1::pod_order::Verb;
    Ok(match wire {
        Verb::Run(run) => PodVerb::Run {
            spec: spec_from(run.spec, "run.spec")?,
            disk: match run.kept_disk_incarnation {
                Some(incarnation) => Disk::Kept { incarnation: Incarnation(incarnation) },
                None => Disk::Fresh,
            },
        },
        Verb::Stop(stop) => PodVerb::Stop { grace_ms: stop.grace_ms },
        Verb::Start(_) => PodVerb::Start,
        Verb::Evict(evict) => PodVerb::Evict {
            grace_ms: evict.grace_ms,
            disposition: match evict.release {
                true => EvictDisposition::Release,
                false => EvictDisposition::Keep,
            },
        },
        Verb::Release(_) => PodVerb::Release,
        Verb::Restart(restart) => {
            PodVerb::Restart { disk: disk_from(restart.disk).at("restart.disk")?, grace_ms: restart.grace_ms }
        }
        Verb::Upgrade(upgrade) => {
            PodVerb::Upgrade { spec: spec_from(upgrade.spec, "upgrade.spec")?, settle_ms: upgrade.settle_ms }
        }
        Verb::Resize(resize) => PodVerb::Resize { spec: spec_from(resize.spec, "resize.spec")? },
    })
}

fn spec_from(wire: Option<v1::PodSpec>, field: &str) -> Result<Box<PodSpec>> {
    PodSpec::try_from(required(wire, field)?).at(field).map(Box::new)
}

fn node_order_from(wire: v1::NodeOrder) -> Result<NodeOrder> {
    use v1::node_order::Verb;
    let verb = match required(wire.verb, "verb")? {
        Verb::SetSharedCpus(set) => NodeVerb::SetSharedCpus {
            pool: set.pool.parse().at("set_shared_cpus.pool")?,
            cpus: set.cpus.parse().at("set_shared_cpus.cpus")?,
            mems: set.mems.parse().at("set_shared_cpus.mems")?,
            generation: Generation(set.generation),
        },
        Verb::PullImage(pull) => NodeVerb::PullImage {
            image: pull.image.parse().at("pull_image.image")?,
            digest: pull.digest.map(|digest| digest.parse()).transpose().at("pull_image.digest")?,
        },
        Verb::Inspect(_) => NodeVerb::Inspect,
        Verb::OfferDisks(offer) => NodeVerb::OfferDisks(offer_from(offer).at("offer_disks")?),
        Verb::WithdrawDisks(withdraw) => {
            NodeVerb::WithdrawDisks { pod: pod_from(withdraw.pod).at("withdraw_disks")? }
        }
        Verb::FetchDisk(fetch) => NodeVerb::FetchDisk(Box::new(fetch_from(fetch).at("fetch_disk")?)),
    };
    Ok(NodeOrder { verb })
}

/// Reads an offer of disks.
///
/// # Errors
/// When a field makes no sense, or it offers none, or more than a pod may have.
pub fn offer_from(wire: v1::DiskOffer) -> Result<DiskOffer> {
    let count = wire.disks.len();
    if !(1..=MAX_DISKS).contains(&count) {
        return Err(InvalidMessage::new(
            "disks",
            format!("{count} disks are offered, 1 to {MAX_DISKS} can be"),
        ));
    }
    Ok(DiskOffer {
        pod: pod_from(wire.pod)?,
        incarnation: Incarnation(wire.incarnation),
        disks: wire.disks.iter().map(|disk| disk.parse().at("disks")).collect::<Result<_>>()?,
        to: wire.to.parse().at("to")?,
    })
}

fn fetch_from(wire: v1::node_order::FetchDisk) -> Result<DiskFetch> {
    let count = wire.at.len();
    if !(1..=MAX_PEER_ADDRESSES).contains(&count) {
        let why = format!("{count} addresses are given, 1 to {MAX_PEER_ADDRESSES} can be");
        return Err(InvalidMessage::new("at", why));
    }
    Ok(DiskFetch {
        pod: pod_from(wire.pod)?,
        incarnation: Incarnation(wire.incarnation),
        disk: wire.disk.parse().at("disk")?,
        size: wire.size_bytes.map(Bytes),
        from: wire.from.parse().at("from")?,
        at: wire.at.iter().map(|address| address.parse().at("at")).collect::<Result<_>>()?,
    })
}

impl From<&Addressed> for v1::Order {
    fn from(addressed: &Addressed) -> Self {
        let Addressed { node, order } = addressed;
        let target = match &order.target {
            Target::Pod(order) => v1::order::Target::Pod(order.into()),
            Target::Node(order) => v1::order::Target::NodeOrder(order.into()),
        };
        Self {
            id: order.id.to_string(),
            term: order.term.0,
            node: node.to_string(),
            reason: order.reason.clone(),
            deadline_ms: order.deadline_ms,
            target: Some(target),
        }
    }
}

impl From<&PodOrder> for v1::PodOrder {
    fn from(order: &PodOrder) -> Self {
        Self {
            pod: Some((&order.pod).into()),
            incarnation: order.incarnation.0,
            generation: order.generation.0,
            seq: order.seq.0,
            verb: Some((&order.verb).into()),
        }
    }
}

impl From<&PodVerb> for v1::pod_order::Verb {
    fn from(verb: &PodVerb) -> Self {
        use v1::pod_order::{Evict, Release, Resize, Restart, Run, Start, Stop, Upgrade};
        match verb {
            PodVerb::Run { spec, disk } => Self::Run(Run {
                spec: Some(spec.as_ref().into()),
                kept_disk_incarnation: match disk {
                    Disk::Fresh => None,
                    Disk::Kept { incarnation } => Some(incarnation.0),
                },
            }),
            PodVerb::Stop { grace_ms } => Self::Stop(Stop { grace_ms: *grace_ms }),
            PodVerb::Start => Self::Start(Start {}),
            PodVerb::Evict { grace_ms, disposition } => {
                Self::Evict(Evict { grace_ms: *grace_ms, release: *disposition == EvictDisposition::Release })
            }
            PodVerb::Release => Self::Release(Release {}),
            PodVerb::Restart { disk, grace_ms } => {
                Self::Restart(Restart { disk: v1::DiskPolicy::from(*disk).into(), grace_ms: *grace_ms })
            }
            PodVerb::Upgrade { spec, settle_ms } => {
                Self::Upgrade(Upgrade { spec: Some(spec.as_ref().into()), settle_ms: *settle_ms })
            }
            PodVerb::Resize { spec } => Self::Resize(Resize { spec: Some(spec.as_ref().into()) }),
        }
    }
}

impl From<&NodeOrder> for v1::NodeOrder {
    fn from(order: &NodeOrder) -> Self {
        use v1::node_order::{FetchDisk, Inspect, PullImage, SetSharedCpus, Verb, WithdrawDisks};
        let verb = match &order.verb {
            NodeVerb::SetSharedCpus { pool, cpus, mems, generation } => Verb::SetSharedCpus(SetSharedCpus {
                pool: pool.to_string(),
                cpus: cpus.to_string(),
                mems: mems.to_string(),
                generation: generation.0,
            }),
            NodeVerb::PullImage { image, digest } => Verb::PullImage(PullImage {
                image: image.to_string(),
                digest: digest.as_ref().map(ToString::to_string),
            }),
            NodeVerb::Inspect => Verb::Inspect(Inspect {}),
            NodeVerb::OfferDisks(offer) => Verb::OfferDisks(offer.into()),
            NodeVerb::WithdrawDisks { pod } => Verb::WithdrawDisks(WithdrawDisks { pod: Some(pod.into()) }),
            NodeVerb::FetchDisk(fetch) => Verb::FetchDisk(FetchDisk {
                pod: Some((&fetch.pod).into()),
                incarnation: fetch.incarnation.0,
                disk: fetch.disk.to_string(),
                size_bytes: fetch.size.map(|size| size.0),
                from: fetch.from.to_string(),
                at: fetch.at.iter().map(ToString::to_string).collect(),
            }),
        };
        Self { verb: Some(verb) }
    }
}

impl From<&DiskOffer> for v1::DiskOffer {
    fn from(offer: &DiskOffer) -> Self {
        Self {
            pod: Some((&offer.pod).into()),
            incarnation: offer.incarnation.0,
            disks: offer.disks.iter().map(ToString::to_string).collect(),
            to: offer.to.to_string(),
        }
    }
}
