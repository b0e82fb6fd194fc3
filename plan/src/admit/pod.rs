//! Admission of orders for one pod.

use super::change::{Difference, Reach, differences, differs};
use super::{Accepted, Change, HostView, LedgerView, conflict, host};
use crate::{
    Charter, ContainerRecord, KeptDisk, Leaving, OpenOrder, PodLimits, PodRecord, Previous, Replaced,
};
use berth_model::{
    Attempt, ContainerName, ContainerRole, ContainerSpec, CpuBinding, CpuSet, DataDisk, DeviceId, Disk,
    DiskPolicy, DiskSource, Generation, PodId, PodNetwork, PodOrder, PodSpec, PodVerb, Refusal, RunState,
};
use std::collections::{BTreeMap, BTreeSet};
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
        PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Evict { .. } => {
            change_charter(known, order)?
        }
        PodVerb::Upgrade { spec, .. } => upgrade(ledger, host, order, spec)?,
        PodVerb::Resize { spec } => resize(ledger, host, order, spec)?,
        PodVerb::Release => release(known, order)?,
    };
    let superseded = known.and_then(|known| known.open.as_ref()).map(|open| open.id.clone());
    record.seq = order.seq;
    record.open = Some(opened);
    Ok(Accepted { change: Change::Pod(Box::new(record)), superseded, ended_offer: None })
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
    check_spec(ledger, host, order, spec)?;
    host::check_shared(host, spec)?;
    let kept = known.map(|known| known.kept.clone()).unwrap_or_default();
    let containers = spec
        .containers
        .iter()
        .map(|container| {
            let first = first_record(&kept, disk, &container.name)?;
            Ok((container.name.clone(), ContainerRecord { generation: order.generation, ..first }))
        })
        .collect::<Result<BTreeMap<_, _>, Refusal>>()?;
    Ok(PodRecord {
        pod: order.pod.clone(),
        incarnation: order.incarnation,
        generation: order.generation,
        seq: order.seq,
        charter: Some(Charter {
            spec: spec.clone(),
            run_state: RunState::Running,
            leaving: None,
            previous: None,
            abandoned: PodLimits::default(),
            held: false,
        }),
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

/// Whether this node can honour the spec, beside everything else that it was ordered.
fn check_spec(
    ledger: &LedgerView<'_>,
    host: &HostView,
    order: &PodOrder,
    spec: &PodSpec,
) -> Result<(), Refusal> {
    spec.validate().map_err(|error| Refusal::Invalid(chain(&error)))?;
    check_binding(ledger, host, &order.pod, spec)?;
    host::check_limits(host, spec)?;
    host::check_sizes(host, spec)?;
    host::check_profiles(host, spec)?;
    check_devices(ledger, order, spec)?;
    check_address(ledger, order, spec)
}

fn check_binding(
    ledger: &LedgerView<'_>,
    host: &HostView,
    pod: &PodId,
    spec: &PodSpec,
) -> Result<(), Refusal> {
    match &spec.cpu {
        CpuBinding::Exclusive { cpus, mems } => {
            host::check_cpus(host, cpus, mems)?;
            // What a pod has it keeps, whatever was reserved since.
            let has = ledger.pods.get(pod).and_then(exclusive_cpus).cloned().unwrap_or_default();
            host::check_reserved(host, &cpus.difference(&has))?;
            for other in ledger.pods.values().filter(|other| other.pod != *pod) {
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

/// A device is one pod's data disk, until nothing of that pod is left here that could be on it.
fn check_devices(ledger: &LedgerView<'_>, order: &PodOrder, spec: &PodSpec) -> Result<(), Refusal> {
    let devices = |spec: &PodSpec| -> BTreeSet<DeviceId> {
        let of = |disk: &DataDisk| match &disk.source {
            DiskSource::Device { id, .. } => Some(id.clone()),
            DiskSource::Directory { .. } | DiskSource::Memory { .. } => None,
        };
        spec.disks.iter().filter_map(of).collect()
    };
    let wanted = devices(spec);
    for other in ledger.pods.values().filter(|other| other.pod != order.pod) {
        let theirs = other.charter.as_ref().map(|charter| devices(&charter.spec)).unwrap_or_default();
        if let Some(device) = wanted.intersection(&theirs).next() {
            return Err(Refusal::DeviceConflict { device: device.clone(), holder: other.pod.clone() });
        }
    }
    Ok(())
}

fn check_address(ledger: &LedgerView<'_>, order: &PodOrder, spec: &PodSpec) -> Result<(), Refusal> {
    if spec.addresses.is_empty() && spec.network == PodNetwork::Own {
        // CRI makes no sandbox without a network, and no plugin attaches one without an address.
        let why = "a pod without an address, unless it is in the host's network";
        return Err(Refusal::Unsupported(why.to_owned()));
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

/// The pod that is here, without an Upgrade or Resize that has not got there: a newer order takes that back.
fn here(known: Option<&PodRecord>, order: &PodOrder) -> Result<PodRecord, Refusal> {
    let known = known.filter(|known| known.incarnation == order.incarnation && known.charter.is_some());
    let mut record = known.cloned().ok_or_else(|| Refusal::NoSuchPod(order.pod.clone()))?;
    check_open(&record, &order.verb)?;
    record.revert();
    Ok(record)
}

/// What is half-way through ending containers is only replaced by what ends them for certain: anything else could be
/// given up, or be content, with a container that lives and that no order covers stopping any more.
fn check_open(record: &PodRecord, verb: &PodVerb) -> Result<(), Refusal> {
    let Some(open) = &record.open else { return Ok(()) };
    let replaceable = match (&open.verb, verb) {
        (_, PodVerb::Stop { .. } | PodVerb::Evict { .. }) => true,
        (PodVerb::Stop { .. }, _) => false,
        (PodVerb::Upgrade { .. }, verb) => matches!(verb, PodVerb::Upgrade { .. }),
        (
            PodVerb::Run { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Resize { .. }
            | PodVerb::Evict { .. }
            | PodVerb::Release,
            _,
        ) => true,
    };
    match replaceable {
        true => Ok(()),
        false => Err(Refusal::UnderWay { order: open.id.clone(), verb: open.verb.name() }),
    }
}

/// Stop, Start, Restart and Evict need the pod to be here, and act on what it is.
fn change_charter(known: Option<&PodRecord>, order: &PodOrder) -> Result<PodRecord, Refusal> {
    let absent = || Refusal::NoSuchPod(order.pod.clone());
    let mut record = here(known, order)?;
    check_generation(order.generation, record.generation)?;
    let charter = record.charter.as_mut().ok_or_else(absent)?;
    match &order.verb {
        PodVerb::Evict { grace_ms, disposition } => {
            charter.leaving = Some(Leaving { grace_ms: *grace_ms, disposition: *disposition });
        }
        // Nothing brings a leaving pod back: whoever wants it places it anew.
        PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } if charter.leaving.is_some() => {
            return Err(absent());
        }
        PodVerb::Stop { .. } => charter.run_state = RunState::Stopped,
        PodVerb::Start | PodVerb::Restart { .. } => {
            let from_rest = charter.run_state == RunState::Stopped;
            let rebuilds = matches!(order.verb, PodVerb::Restart { disk: DiskPolicy::Rebuild, .. });
            (charter.run_state, charter.held) = (RunState::Running, false);
            for spec in &charter.spec.containers {
                let known = record.containers.entry(spec.name.clone()).or_default();
                match spec.role {
                    // What has prepared for the others has done so, unless the pod starts from rest.
                    ContainerRole::Init if !from_rest => known.goes_on = known.attempt,
                    ContainerRole::Init | ContainerRole::Main | ContainerRole::Sidecar => {
                        known.ordered = known.attempt;
                        known.given_up = known.disk.clone().filter(|_| rebuilds);
                    }
                }
            }
        }
        PodVerb::Run { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } | PodVerb::Release => {}
    }
    Ok(record)
}

/// What differs reaches no deeper than the containers, and those are replaced.
fn upgrade(
    ledger: &LedgerView<'_>,
    host: &HostView,
    order: &PodOrder,
    spec: &PodSpec,
) -> Result<PodRecord, Refusal> {
    let mut record = revised(ledger, host, order, spec)?;
    host::check_shared(host, spec)?;
    let Some(charter) = &mut record.charter else { return Ok(record) };
    let mut replaced = BTreeMap::new();
    for Difference { field, reach } in differences(&charter.spec, spec) {
        match reach {
            Reach::Live => {}
            Reach::Container(name) => {
                let known = record.containers.entry(name.clone()).or_default();
                replaced.entry(name.clone()).or_insert_with(|| Replaced {
                    generation: known.generation,
                    digest: known.digest.clone(),
                    disk: known.disk.clone(),
                });
                known.generation = order.generation;
                let prepares = |spec: &ContainerSpec| spec.role == ContainerRole::Init;
                // What prepares is due again by its generation; taken back, the old one is through as it was.
                if !charter.spec.container(&name).is_some_and(prepares) {
                    known.ordered = known.attempt;
                }
            }
            Reach::Sandbox => return Err(Refusal::NotInPlace(field)),
        }
    }
    for container in spec.containers.iter().filter(|container| replaced.contains_key(&container.name)) {
        let same = |old: &ContainerSpec| old.image == container.image && old.digest == container.digest;
        // Another image is another disk: what was written upon the old one is not the new one's.
        if !charter.spec.container(&container.name).is_some_and(same)
            && let Some(known) = record.containers.get_mut(&container.name)
        {
            (known.digest, known.disk) = (None, None);
        }
    }
    for name in replaced.keys() {
        let under_way = ledger.pods.get(&order.pod).and_then(|known| under_way(known, spec, name));
        record.containers.extend(under_way.map(|known| (name.clone(), known)));
    }
    let old = std::mem::replace(&mut charter.spec, spec.clone());
    charter.previous = Some(Previous { spec: Box::new(old), replaced });
    Ok(record)
}

/// What the Upgrade that this one replaces has made of a container, if this one wants the same of it.
fn under_way(known: &PodRecord, spec: &PodSpec, name: &ContainerName) -> Option<ContainerRecord> {
    let charter = known.charter.as_ref()?;
    let upgrades = charter.previous.as_ref()?.replaced.contains_key(name);
    let wanted = spec.container(name)?;
    let same = differs(charter.spec.container(name)?, wanted).iter().all(|found| found.reach == Reach::Live);
    known.containers.get(name).filter(|_| upgrades && same).cloned()
}

/// What differs can be taken on by what runs.
fn resize(
    ledger: &LedgerView<'_>,
    host: &HostView,
    order: &PodOrder,
    spec: &PodSpec,
) -> Result<PodRecord, Refusal> {
    let mut record = revised(ledger, host, order, spec)?;
    let Some(charter) = &mut record.charter else { return Ok(record) };
    let deeper = differences(&charter.spec, spec).into_iter().find(|found| found.reach != Reach::Live);
    if let Some(Difference { field, .. }) = deeper {
        return Err(Refusal::NotLive(field));
    }
    let old = std::mem::replace(&mut charter.spec, spec.clone());
    charter.previous = Some(Previous { spec: Box::new(old), replaced: BTreeMap::new() });
    Ok(record)
}

/// The pod that is here, at a newer generation, if this node can honour it.
fn revised(
    ledger: &LedgerView<'_>,
    host: &HostView,
    order: &PodOrder,
    spec: &PodSpec,
) -> Result<PodRecord, Refusal> {
    let mut record = here(ledger.pods.get(&order.pod), order)?;
    match &record.charter {
        Some(Charter { leaving: None, run_state: RunState::Running, .. }) => {}
        Some(Charter { leaving: None, run_state: RunState::Stopped, .. }) => {
            return Err(Refusal::Stopped(order.pod.clone()));
        }
        Some(Charter { leaving: Some(_), .. }) | None => return Err(Refusal::NoSuchPod(order.pod.clone())),
    }
    if order.generation <= record.generation {
        return Err(Refusal::StaleGeneration { given: order.generation, known: record.generation });
    }
    check_spec(ledger, host, order, spec)?;
    record.generation = order.generation;
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
