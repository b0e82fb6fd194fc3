//! Admission of orders for one pod.

use super::{Accepted, Change, HostView, LedgerView, conflict, host};
use crate::{Charter, ContainerRecord, KeptDisk, Leaving, OpenOrder, PodRecord};
use berth_model::{
    Attempt, ContainerName, CpuBinding, CpuSet, Disk, Generation, PodOrder, PodSpec, PodVerb, Refusal,
    RunState,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;

/// Answers an order for a pod; `opened` is what its record will say of the order.
pub(super) fn decide(
    ledger: &LedgerView<'_>,
    host: &HostView,
    opened: OpenOrder,
    order: &PodOrder,
) -> Result<Accepted, Refusal> {
    let known = ledger.pods.get(&order.pod);
    check_age(known, order)?;
    let mut record = match &order.verb {
        PodVerb::Run { spec, disk } => run(ledger, host, order, spec, *disk)?,
        PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Evict { .. } => change_charter(known, order)?,
        PodVerb::Release => release(known, order)?,
    };
    let superseded = known.and_then(|known| known.open.as_ref()).map(|open| open.id.clone());
    record.seq = order.seq;
    record.open = Some(opened);
    Ok(Accepted { change: Change::Pod(Box::new(record)), superseded })
}

/// The old never wins.
fn check_age(known: Option<&PodRecord>, order: &PodOrder) -> Result<(), Refusal> {
    let Some(known) = known else { return Ok(()) };
    if order.incarnation < known.incarnation {
        return Err(Refusal::StaleIncarnation { given: order.incarnation, known: known.incarnation });
    }
    if order.seq <= known.seq {
        return Err(Refusal::StaleSeq { given: order.seq, seen: known.seq });
    }
    if order.incarnation == known.incarnation && order.generation < known.generation {
        return Err(Refusal::StaleGeneration { given: order.generation, known: known.generation });
    }
    Ok(())
}

fn run(
    ledger: &LedgerView<'_>,
    host: &HostView,
    order: &PodOrder,
    spec: &PodSpec,
    disk: Disk,
) -> Result<PodRecord, Refusal> {
    let known = ledger.pods.get(&order.pod);
    check_vacant(known, order)?;
    spec.validate().map_err(|error| Refusal::Invalid(chain(&error)))?;
    check_binding(ledger, host, spec)?;
    host::check_limits(host, spec)?;
    check_address(ledger, order, spec)?;
    let kept = known.map(|known| known.kept.clone()).unwrap_or_default();
    let containers = spec
        .containers
        .iter()
        .map(|container| Ok((container.name.clone(), first_record(&kept, disk, &container.name)?)))
        .collect::<Result<BTreeMap<_, _>, Refusal>>()?;
    Ok(PodRecord {
        pod: order.pod.clone(),
        incarnation: order.incarnation,
        generation: order.generation,
        seq: order.seq,
        charter: Some(Charter { spec: spec.clone(), run_state: RunState::Running, leaving: None }),
        sandbox_attempt: Attempt(0),
        stopped_sandbox: None,
        containers,
        open: None,
        kept,
    })
}

/// A Run needs an incarnation that was never here, and no other one here.
fn check_vacant(known: Option<&PodRecord>, order: &PodOrder) -> Result<(), Refusal> {
    let Some(known) = known else { return Ok(()) };
    match (&known.charter, order.incarnation == known.incarnation) {
        (Some(_), true) => Err(Refusal::HasCharter(order.pod.clone())),
        (Some(_), false) => Err(Refusal::IncarnationLives { living: known.incarnation }),
        (None, true) => Err(Refusal::StaleIncarnation { given: order.incarnation, known: known.incarnation }),
        (None, false) => Ok(()),
    }
}

fn first_record(
    kept: &[KeptDisk],
    disk: Disk,
    container: &ContainerName,
) -> Result<ContainerRecord, Refusal> {
    let Disk::Kept { incarnation } = disk else {
        return Ok(ContainerRecord::default());
    };
    let found = kept.iter().find(|kept| kept.incarnation == incarnation && kept.container == *container);
    let kept = found.ok_or(Refusal::NoKeptDisk(incarnation))?;
    Ok(ContainerRecord {
        disk: Some(kept.key.clone()),
        digest: kept.digest.clone(),
        ..ContainerRecord::default()
    })
}

fn check_binding(ledger: &LedgerView<'_>, host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    match &spec.cpu {
        CpuBinding::Exclusive { cpus, mems } => {
            host::check_cpus(host, cpus, mems)?;
            for other in ledger.pods.values() {
                if let Some(theirs) = exclusive_cpus(other) {
                    conflict(cpus, theirs, || format!("pod {}", other.pod))?;
                }
            }
            for pool in ledger.pools.values() {
                conflict(cpus, &pool.cpus, || format!("pool {}", pool.name))?;
            }
            Ok(())
        }
        CpuBinding::Shared { pool } => match ledger.pools.contains_key(pool) {
            true => Ok(()),
            false => Err(Refusal::NoSuchPool(pool.clone())),
        },
    }
}

/// The CPUs that a pod here has for itself, until nothing of it is left here.
pub(super) fn exclusive_cpus(record: &PodRecord) -> Option<&CpuSet> {
    match &record.charter.as_ref()?.spec.cpu {
        CpuBinding::Exclusive { cpus, .. } => Some(cpus),
        CpuBinding::Shared { .. } => None,
    }
}

fn check_address(ledger: &LedgerView<'_>, order: &PodOrder, spec: &PodSpec) -> Result<(), Refusal> {
    if spec.addresses.is_empty() {
        // CRI has no pod without a network of its own, and no plugin attaches one without an address.
        return Err(Refusal::Unsupported("a pod without an address".to_owned()));
    }
    let holds = |record: &&PodRecord, address: IpAddr| {
        let theirs = record.charter.iter().flat_map(|charter| &charter.spec.addresses);
        record.pod != order.pod && theirs.map(|grant| grant.address.address()).any(|theirs| theirs == address)
    };
    spec.addresses.iter().map(|grant| grant.address).try_for_each(|address| {
        match ledger.pods.values().find(|record| holds(record, address.address())) {
            Some(holder) => Err(Refusal::AddressConflict { address, holder: holder.pod.clone() }),
            None => Ok(()),
        }
    })
}

/// Stop, Start and Evict need the pod to be here, and act on what it is.
fn change_charter(known: Option<&PodRecord>, order: &PodOrder) -> Result<PodRecord, Refusal> {
    let absent = || Refusal::NoSuchPod(order.pod.clone());
    let known = known.filter(|known| known.incarnation == order.incarnation).ok_or_else(absent)?;
    let mut record = known.clone();
    let charter = record.charter.as_mut().ok_or_else(absent)?;
    check_generation(order.generation, known.generation)?;
    match &order.verb {
        PodVerb::Evict { grace_ms, disposition } => {
            charter.leaving = Some(Leaving { grace_ms: *grace_ms, disposition: *disposition });
        }
        // Nothing brings a leaving pod back: whoever wants it places it anew.
        PodVerb::Stop { .. } | PodVerb::Start if charter.leaving.is_some() => return Err(absent()),
        PodVerb::Stop { .. } => charter.run_state = RunState::Stopped,
        PodVerb::Start => {
            charter.run_state = RunState::Running;
            record.containers.values_mut().for_each(|container| container.ordered = container.attempt);
        }
        PodVerb::Run { .. } | PodVerb::Release => {}
    }
    Ok(record)
}

fn check_generation(given: Generation, known: Generation) -> Result<(), Refusal> {
    match given == known {
        true => Ok(()),
        false => {
            Err(Refusal::Invalid(format!("generation {given} is unknown here, the charter's is {known}")))
        }
    }
}

fn release(known: Option<&PodRecord>, order: &PodOrder) -> Result<PodRecord, Refusal> {
    let known = known.ok_or_else(|| Refusal::NoSuchPod(order.pod.clone()))?;
    match &known.charter {
        Some(_) => Err(Refusal::StillHere(order.pod.clone())),
        None => Ok(PodRecord { incarnation: order.incarnation.max(known.incarnation), ..known.clone() }),
    }
}

/// An error and everything beneath it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
