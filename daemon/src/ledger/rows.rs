//! What the ledger holds, as rows: versioned protobuf, converted here and nowhere else.

use super::entry::{Attachment, AttachmentKey, Ended, OrderEntry, Tenure};
use berth_model::{
    Attempt, ContainerName, DiskOffer, EvictDisposition, Generation, Incarnation, OrderId, Outcome, PodId,
    PodSpec, PodVerb, Seq, Target,
};
use berth_plan::{
    Charter, ContainerRecord, KeptDisk, Leaving, OpenOrder, PodLimits, PodRecord, Previous, Replaced,
    SharedPool,
};
use berth_proto::{
    Addressed, InvalidMessage, failure_from, limits_of_several_from, offer_from, pod_from, run_state_from, v1,
};
use prost::Message;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The version that is written, and the only one that is read so far.
const VERSION: u32 = 1;

/// Why a row is no record.
#[derive(Debug, thiserror::Error)]
pub enum BadRow {
    /// It is no message at all.
    #[error("the row is damaged")]
    Damaged(#[from] prost::DecodeError),
    /// It was written by a newer agent.
    #[error("the row is of version {0}, this agent knows version {VERSION}")]
    Version(u32),
    /// A field makes no sense.
    #[error("field {}", .0.chain())]
    Field(InvalidMessage),
    /// It is the record of another key: its own would be taken for lost, and another one for it.
    #[error("it is the record of {0}")]
    OtherKey(String),
    /// Something is there twice, and which of the two counts cannot be known.
    #[error("{0} is there twice")]
    Twice(String),
    /// It names an order, or a pool, that the ledger does not have.
    #[error("it names {0}, which the ledger does not have")]
    Dangling(String),
}

impl From<InvalidMessage> for BadRow {
    fn from(error: InvalidMessage) -> Self {
        Self::Field(error)
    }
}

fn at<T, E>(field: &str, result: Result<T, E>) -> Result<T, BadRow>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    result.map_err(|error| BadRow::Field(InvalidMessage::new(field, error)))
}

fn same_version(version: u32) -> Result<(), BadRow> {
    (version == VERSION).then_some(()).ok_or(BadRow::Version(version))
}

pub(super) fn encode_pod(record: &PodRecord) -> Vec<u8> {
    v1::LedgerPod {
        version: VERSION,
        pod: Some((&record.pod).into()),
        incarnation: record.incarnation.0,
        generation: record.generation.0,
        seq: record.seq.0,
        charter: record.charter.as_ref().map(charter_row),
        sandbox_attempt: record.sandbox_attempt.0,
        stopped_sandbox: record.stopped_sandbox.map(|attempt| attempt.0),
        containers: record.containers.iter().map(container_row).collect(),
        open: record.open.as_ref().map(|open| v1::LedgerOpenOrder {
            id: open.id.to_string(),
            deadline_at_ms: open.deadline_at_ms,
            failure: open.failure.as_ref().map(Into::into),
        }),
        kept: record.kept.iter().map(kept_row).collect(),
    }
    .encode_to_vec()
}

fn charter_row(charter: &Charter) -> v1::LedgerCharter {
    v1::LedgerCharter {
        spec: Some((&charter.spec).into()),
        run_state: v1::RunState::from(charter.run_state).into(),
        leaving: charter.leaving.as_ref().map(|leaving| v1::LedgerLeaving {
            grace_ms: leaving.grace_ms,
            release: leaving.disposition == EvictDisposition::Release,
        }),
        previous: charter.previous.as_ref().map(previous_row),
        held: charter.held,
        abandoned: (charter.abandoned != PodLimits::default()).then(|| limits_row(&charter.abandoned)),
    }
}

fn previous_row(previous: &Previous) -> v1::LedgerPrevious {
    let replaced = previous.replaced.iter().map(|(name, old)| v1::LedgerReplaced {
        name: name.to_string(),
        generation: old.generation.0,
        digest: old.digest.as_ref().map(ToString::to_string),
        disk: old.disk.clone(),
    });
    v1::LedgerPrevious { spec: Some(previous.spec.as_ref().into()), replaced: replaced.collect() }
}

fn limits_row(limits: &PodLimits) -> v1::LedgerLimits {
    let containers = limits.containers.iter().map(|(name, limits)| (name.to_string(), limits.into()));
    v1::LedgerLimits { pod: Some((&limits.pod).into()), containers: containers.collect() }
}

fn container_row((name, known): (&ContainerName, &ContainerRecord)) -> v1::LedgerContainer {
    v1::LedgerContainer {
        name: name.to_string(),
        attempt: known.attempt.0,
        ordered: known.ordered.0,
        digest: known.digest.as_ref().map(ToString::to_string),
        disk: known.disk.clone(),
        generation: known.generation.0,
        ready: known.ready.0,
        before_boot: known.before_boot.0,
        goes_on: known.goes_on.0,
        given_up: known.given_up.clone(),
    }
}

fn kept_row(kept: &KeptDisk) -> v1::KeptDisk {
    v1::KeptDisk {
        incarnation: kept.incarnation.0,
        container: kept.container.to_string(),
        disk: kept.key.clone(),
        digest: kept.digest.as_ref().map(ToString::to_string),
    }
}

/// Reads a pod's record; its open order's verb is in the order's own row.
pub(super) fn decode_pod(bytes: &[u8], orders: &BTreeMap<OrderId, OrderEntry>) -> Result<PodRecord, BadRow> {
    let row = v1::LedgerPod::decode(bytes)?;
    same_version(row.version)?;
    let containers = row.containers.into_iter().map(container_from);
    let kept = row.kept.into_iter().map(kept_from);
    let pod = pod_from(row.pod)?;
    Ok(PodRecord {
        incarnation: Incarnation(row.incarnation),
        generation: Generation(row.generation),
        seq: Seq(row.seq),
        charter: row.charter.map(charter_from).transpose()?,
        sandbox_attempt: Attempt(row.sandbox_attempt),
        stopped_sandbox: row.stopped_sandbox.map(Attempt),
        containers: by_name("container", containers)?,
        open: row.open.map(|open| open_from(&open, &pod, orders)).transpose()?,
        kept: kept.collect::<Result<_, _>>()?,
        pod,
    })
}

fn charter_from(row: v1::LedgerCharter) -> Result<Charter, BadRow> {
    let spec = row.spec.ok_or_else(|| InvalidMessage::missing("charter.spec"))?;
    Ok(Charter {
        spec: PodSpec::try_from(spec).map_err(|error| error.within("charter.spec"))?,
        run_state: run_state_from(row.run_state).map_err(|error| error.within("charter.run_state"))?,
        leaving: row.leaving.map(|leaving| Leaving {
            grace_ms: leaving.grace_ms,
            disposition: match leaving.release {
                true => EvictDisposition::Release,
                false => EvictDisposition::Keep,
            },
        }),
        previous: row.previous.map(previous_from).transpose()?,
        abandoned: row.abandoned.map(limits_row_from).transpose()?.unwrap_or_default(),
        held: row.held,
    })
}

fn previous_from(row: v1::LedgerPrevious) -> Result<Previous, BadRow> {
    let spec = row.spec.ok_or_else(|| InvalidMessage::missing("charter.previous.spec"))?;
    let spec = PodSpec::try_from(spec).map_err(|error| error.within("charter.previous.spec"))?;
    let replaced = row.replaced.into_iter().map(|old| {
        let digest = old.digest.map(|digest| digest.parse()).transpose();
        let known = Replaced {
            generation: Generation(old.generation),
            digest: at("charter.previous.digest", digest)?,
            disk: old.disk,
        };
        Ok((at("charter.previous.name", old.name.parse())?, known))
    });
    Ok(Previous { spec: Box::new(spec), replaced: by_name("replaced container", replaced)? })
}

fn limits_row_from(row: v1::LedgerLimits) -> Result<PodLimits, BadRow> {
    let limits = |wire| limits_of_several_from(wire).map_err(|error| error.within("charter.abandoned"));
    let containers = row
        .containers
        .into_iter()
        .map(|(name, wire)| Ok::<_, BadRow>((at("charter.abandoned.name", name.parse())?, limits(wire)?)));
    Ok(PodLimits {
        pod: row.pod.map(limits).transpose()?.unwrap_or_default(),
        containers: containers.collect::<Result<_, _>>()?,
    })
}

/// Each under its own name.
fn by_name<T>(
    what: &str,
    named: impl Iterator<Item = Result<(ContainerName, T), BadRow>>,
) -> Result<BTreeMap<ContainerName, T>, BadRow> {
    let mut all = BTreeMap::new();
    for one in named {
        let (name, value) = one?;
        match all.entry(name) {
            Entry::Vacant(vacant) => drop(vacant.insert(value)),
            Entry::Occupied(known) => return Err(BadRow::Twice(format!("{what} {}", known.key()))),
        }
    }
    Ok(all)
}

fn container_from(row: v1::LedgerContainer) -> Result<(ContainerName, ContainerRecord), BadRow> {
    let name = at("containers.name", row.name.parse())?;
    let digest = at("containers.digest", row.digest.map(|digest| digest.parse()).transpose())?;
    let known = ContainerRecord {
        attempt: Attempt(row.attempt),
        ordered: Attempt(row.ordered),
        digest,
        disk: row.disk,
        generation: Generation(row.generation),
        ready: Attempt(row.ready),
        before_boot: Attempt(row.before_boot),
        goes_on: Attempt(row.goes_on),
        given_up: row.given_up,
    };
    Ok((name, known))
}

fn kept_from(row: v1::KeptDisk) -> Result<KeptDisk, BadRow> {
    Ok(KeptDisk {
        incarnation: Incarnation(row.incarnation),
        container: at("kept.container", row.container.parse())?,
        key: row.disk,
        digest: at("kept.digest", row.digest.map(|digest| digest.parse()).transpose())?,
    })
}

fn open_from(
    row: &v1::LedgerOpenOrder,
    pod: &PodId,
    orders: &BTreeMap<OrderId, OrderEntry>,
) -> Result<OpenOrder, BadRow> {
    let id: OrderId = at("open.id", row.id.parse())?;
    let dangling = || BadRow::Dangling(format!("order {id}"));
    let entry = orders.get(&id).filter(|entry| entry.ended.is_none()).ok_or_else(dangling)?;
    let verb: &PodVerb = match &entry.addressed.order.target {
        Target::Pod(order) if order.pod == *pod => &order.verb,
        Target::Pod(_) | Target::Node(_) => return Err(dangling()),
    };
    Ok(OpenOrder {
        verb: verb.clone(),
        deadline_ms: entry.order().deadline_ms,
        deadline_at_ms: row.deadline_at_ms,
        failure: row.failure.as_ref().map(failure_from),
        id,
    })
}

pub(super) fn encode_order(entry: &OrderEntry) -> Vec<u8> {
    v1::LedgerOrder {
        version: VERSION,
        order: Some((&entry.addressed).into()),
        accepted_at_ms: entry.accepted_at_ms,
        deadline_at_ms: entry.deadline_at_ms,
        outcome: entry.ended.as_ref().map(|ended| (&ended.outcome).into()),
        ended_at_ms: entry.ended.as_ref().map(|ended| ended.at_ms),
        seen_upstream: entry.ended.as_ref().is_some_and(|ended| ended.seen_upstream),
    }
    .encode_to_vec()
}

pub(super) fn decode_order(bytes: &[u8]) -> Result<OrderEntry, BadRow> {
    let row = v1::LedgerOrder::decode(bytes)?;
    same_version(row.version)?;
    let order = row.order.ok_or_else(|| InvalidMessage::missing("order"))?;
    let addressed = Addressed::try_from(order).map_err(|error| error.within("order"))?;
    let ended = match (&row.outcome, row.ended_at_ms, row.seen_upstream) {
        (Some(outcome), Some(at_ms), seen_upstream) => {
            Some(Ended { outcome: outcome_from(outcome)?, at_ms, seen_upstream })
        }
        (Some(_), None, _) => return Err(InvalidMessage::missing("ended_at_ms").into()),
        (None, None, false) => None,
        // Without it the order would be carried out once more.
        (None, Some(_), _) | (None, None, true) => return Err(InvalidMessage::missing("outcome").into()),
    };
    Ok(OrderEntry {
        addressed,
        accepted_at_ms: row.accepted_at_ms,
        deadline_at_ms: row.deadline_at_ms,
        ended,
    })
}

/// A refused order is never written, so a recorded outcome is done or failed.
fn outcome_from(row: &v1::Outcome) -> Result<Outcome, BadRow> {
    match &row.outcome {
        Some(v1::outcome::Outcome::Done(_)) => Ok(Outcome::Done),
        Some(v1::outcome::Outcome::Failed(reason)) => Ok(Outcome::Failed(failure_from(reason))),
        Some(v1::outcome::Outcome::RolledBack(reason)) => Ok(Outcome::RolledBack(failure_from(reason))),
        Some(v1::outcome::Outcome::Refused(_)) => {
            at("outcome", Err("is a refusal, and refused orders are not recorded"))
        }
        None => Err(InvalidMessage::missing("outcome").into()),
    }
}

pub(super) fn encode_pool(pool: &SharedPool) -> Vec<u8> {
    v1::LedgerPool {
        version: VERSION,
        pool: pool.name.to_string(),
        cpus: pool.cpus.to_string(),
        mems: pool.mems.to_string(),
        generation: pool.generation.0,
    }
    .encode_to_vec()
}

pub(super) fn decode_pool(bytes: &[u8]) -> Result<SharedPool, BadRow> {
    let row = v1::LedgerPool::decode(bytes)?;
    same_version(row.version)?;
    Ok(SharedPool {
        name: at("pool", row.pool.parse())?,
        cpus: at("cpus", row.cpus.parse())?,
        mems: at("mems", row.mems.parse())?,
        generation: Generation(row.generation),
    })
}

pub(super) fn encode_attachment(attachment: &Attachment) -> Vec<u8> {
    attachment_row(attachment).encode_to_vec()
}

fn attachment_row(attachment: &Attachment) -> v1::LedgerAttachment {
    v1::LedgerAttachment {
        version: VERSION,
        sandbox_id: attachment.key.sandbox_id.clone(),
        interface: attachment.key.interface.clone(),
        netns: attachment.netns.clone(),
        pod: Some((&attachment.pod).into()),
        incarnation: attachment.incarnation.0,
        attached_at_ms: attachment.attached_at_ms,
        network: attachment.network.clone(),
        addresses: attachment.addresses.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn decode_attachment(bytes: &[u8]) -> Result<Attachment, BadRow> {
    attachment_from(v1::LedgerAttachment::decode(bytes)?)
}

fn attachment_from(row: v1::LedgerAttachment) -> Result<Attachment, BadRow> {
    same_version(row.version)?;
    let addresses = row.addresses.iter().map(|address| at("addresses", address.parse()));
    Ok(Attachment {
        key: AttachmentKey { sandbox_id: row.sandbox_id, interface: row.interface },
        netns: row.netns,
        pod: pod_from(row.pod)?,
        incarnation: Incarnation(row.incarnation),
        attached_at_ms: row.attached_at_ms,
        network: row.network,
        addresses: addresses.collect::<Result<_, _>>()?,
    })
}

pub(super) fn encode_tenure(tenure: &Tenure) -> Vec<u8> {
    v1::LedgerTenure {
        version: VERSION,
        attachment: Some(attachment_row(&tenure.attachment)),
        detached_at_ms: tenure.detached_at_ms,
    }
    .encode_to_vec()
}

pub(super) fn decode_tenure(key: &str, bytes: &[u8]) -> Result<(u64, Tenure), BadRow> {
    let row = v1::LedgerTenure::decode(bytes)?;
    same_version(row.version)?;
    let attachment = row.attachment.ok_or_else(|| InvalidMessage::missing("attachment"))?;
    let tenure = Tenure { attachment: attachment_from(attachment)?, detached_at_ms: row.detached_at_ms };
    Ok((at("key", key.parse())?, tenure))
}

pub(super) fn encode_offer(offer: &DiskOffer) -> Vec<u8> {
    v1::LedgerOffer { version: VERSION, offer: Some(offer.into()) }.encode_to_vec()
}

pub(super) fn decode_offer(bytes: &[u8]) -> Result<DiskOffer, BadRow> {
    let row = v1::LedgerOffer::decode(bytes)?;
    same_version(row.version)?;
    let offer = row.offer.ok_or_else(|| InvalidMessage::missing("offer"))?;
    offer_from(offer).map_err(BadRow::Field)
}
