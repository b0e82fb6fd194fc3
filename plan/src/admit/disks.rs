//! Admission of what moves data disks between nodes: a disk is copied only while no pod is on it, at either end.

use super::{HostView, LedgerView, QuotaView};
use crate::PodRecord;
use berth_model::{Attempt, DiskFetch, DiskOffer, Generation, PodId, PodOrder, PodVerb, Refusal, Seq};
use std::collections::BTreeMap;

/// What is offered was left by the placement that was here last, and nothing changes it.
pub(super) fn check_offer(ledger: &LedgerView<'_>, offer: &DiskOffer) -> Result<DiskOffer, Refusal> {
    let known = ledger.pods.get(&offer.pod).ok_or_else(|| Refusal::NoSuchPod(offer.pod.clone()))?;
    if known.charter.is_some() {
        return Err(Refusal::StillHere(offer.pod.clone()));
    }
    if offer.incarnation < known.incarnation {
        return Err(Refusal::StaleIncarnation { given: offer.incarnation, known: known.incarnation });
    }
    if offer.incarnation > known.incarnation {
        return Err(Refusal::NoSuchPod(offer.pod.clone()));
    }
    check_no_fetch(ledger, &offer.pod)?;
    Ok(offer.clone())
}

/// A copy replaces what is here: it must be newer than that, and no pod may be on it.
/// Answers the record of a pod that was never here.
pub(super) fn check_fetch(
    ledger: &LedgerView<'_>,
    host: &HostView,
    fetch: &DiskFetch,
) -> Result<Option<PodRecord>, Refusal> {
    let known = ledger.pods.get(&fetch.pod);
    if let Some(known) = known {
        if known.charter.is_some() {
            return Err(Refusal::StillHere(fetch.pod.clone()));
        }
        if fetch.incarnation < known.incarnation {
            return Err(Refusal::StaleIncarnation { given: fetch.incarnation, known: known.incarnation });
        }
    }
    if let Some(order) = ledger.fetches.get(&(fetch.pod.clone(), fetch.disk.clone())) {
        return Err(Refusal::UnderWay { order: order.clone(), verb: FETCH });
    }
    if let (QuotaView::Unsupported { why }, Some(_)) = (&host.data_disk_quota, fetch.size) {
        let what = format!("data disk {}", fetch.disk);
        return Err(Refusal::QuotaUnsupported { what, why: why.clone() });
    }
    Ok(known.is_none().then(|| never_here(fetch)))
}

/// A pod of which nothing but a copied disk is here. Its next placement is a later one.
fn never_here(fetch: &DiskFetch) -> PodRecord {
    PodRecord {
        pod: fetch.pod.clone(),
        incarnation: fetch.incarnation,
        generation: Generation(0),
        seq: Seq(0),
        charter: None,
        sandbox_attempt: Attempt(0),
        stopped_sandbox: None,
        containers: BTreeMap::new(),
        open: None,
        kept: Vec::new(),
    }
}

const FETCH: &str = "FetchDisk";

/// A pod must not begin on a disk that is half there, nor give it up beneath whoever writes it.
pub(super) fn check_not_arriving(ledger: &LedgerView<'_>, order: &PodOrder) -> Result<(), Refusal> {
    match &order.verb {
        PodVerb::Run { .. } | PodVerb::Release => check_no_fetch(ledger, &order.pod),
        // These need the pod to be here, and then nothing is fetched.
        PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Upgrade { .. }
        | PodVerb::Resize { .. }
        | PodVerb::Evict { .. } => Ok(()),
    }
}

fn check_no_fetch(ledger: &LedgerView<'_>, pod: &PodId) -> Result<(), Refusal> {
    match ledger.fetches.iter().find(|((theirs, _), _)| theirs == pod) {
        Some((_, order)) => Err(Refusal::UnderWay { order: order.clone(), verb: FETCH }),
        None => Ok(()),
    }
}

/// Whatever is done to the pod here from now on, its disks are not any more what was offered.
pub(super) fn ended_offer(ledger: &LedgerView<'_>, pod: &PodId) -> Option<PodId> {
    ledger.offers.contains_key(pod).then(|| pod.clone())
}
