//! Attachments that nobody detached.

use super::reconcile::collect;
use super::{reconcile, sweep};
use crate::clock::epoch_ms;
use crate::ledger::{Attachment, AttachmentKey, Boot, Ledger, Moment};
use crate::testing::{NOW, boot, host_view, open, pod, pool_order, run_order};
use berth_model::{Attempt, Incarnation};
use berth_plan::{Liveness, Observed, ObservedSandbox};

const HOUR_MS: u64 = 3_600_000;

fn attachment(sandbox: &str, age_ms: u64) -> Attachment {
    Attachment {
        key: AttachmentKey { sandbox_id: sandbox.to_owned(), interface: "eth0".to_owned() },
        netns: String::new(),
        pod: pod(),
        incarnation: Incarnation(1),
        attached_at_ms: epoch_ms() - age_ms,
        network: "berth".to_owned(),
        addresses: Vec::new(),
    }
}

fn left(ledger: &Ledger) -> Vec<String> {
    ledger.read(|book| book.attachments.keys().map(|key| key.sandbox_id.clone()).collect())
}

#[tokio::test]
async fn only_old_ones_of_sandboxes_that_exist_no_more_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for order in [pool_order(1, 1, "0"), run_order(2)] {
        ledger.admit(order, host_view(), Moment::now()).await.unwrap();
    }
    for (sandbox, age_ms) in [("here", HOUR_MS), ("being-made", 0), ("gone", HOUR_MS)] {
        ledger.attach(attachment(sandbox, age_ms)).await.unwrap();
    }
    let here = ObservedSandbox {
        id: "here".to_owned(),
        incarnation: Incarnation(1),
        attempt: Attempt(1),
        ready: true,
        liveness: Liveness::Live,
    };
    let observed = Observed { sandboxes: vec![here], ..Observed::default() };
    sweep(&ledger).await;
    assert_eq!(left(&ledger), ["being-made", "gone", "here"]);
    reconcile(&ledger, &pod(), &observed).await;
    assert_eq!(left(&ledger), ["being-made", "here"]);
    assert!(ledger.read(|book| book.grant(&pod()).is_some()));
}

#[tokio::test]
async fn only_old_ones_of_the_network_that_are_not_listed_are_collected() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for order in [pool_order(1, 1, "0"), run_order(2)] {
        ledger.admit(order, host_view(), Moment::now()).await.unwrap();
    }
    let other = Attachment { network: "other".to_owned(), ..attachment("other-network", HOUR_MS) };
    let listed = attachment("listed", HOUR_MS);
    // whereabouts#207: the list is older than the ADD, and a collector takes away what was just given.
    let added_since = attachment("added-since", 0);
    for attachment in [other, listed.clone(), added_since, attachment("left-over", HOUR_MS)] {
        ledger.attach(attachment).await.unwrap();
    }
    collect(&ledger, "berth", &[listed.key].into()).await.unwrap();
    assert_eq!(left(&ledger), ["added-since", "listed", "other-network"]);
    let ended = ledger.read(|book| book.tenures.values().cloned().collect::<Vec<_>>());
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].attachment.key.sandbox_id, "left-over");
    assert!(ledger.read(|book| book.grant(&pod()).is_some()));
}

/// plugins#252 and plugins#697: hosts go down without a DEL, time and again, until no address is left.
#[tokio::test]
async fn boots_without_a_del_use_no_address_up() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for order in [pool_order(1, 1, "0"), run_order(2)] {
        ledger.admit(order, host_view(), Moment::now()).await.unwrap();
    }
    let first = ledger.attach(attachment("boot-1", HOUR_MS)).await.unwrap();
    drop(ledger);
    for number in 2..=20 {
        let sandbox = format!("boot-{number}");
        let boot = Boot { boot_id: sandbox.clone(), ..boot() };
        let ledger = Ledger::open(&folder.path().join("ledger.db"), &boot, NOW).unwrap();
        let grant = ledger.attach(attachment(&sandbox, HOUR_MS)).await.unwrap();
        assert_eq!(grant.addresses, first.addresses, "{sandbox}");
        let here = ObservedSandbox {
            id: sandbox.clone(),
            incarnation: Incarnation(1),
            attempt: Attempt(number),
            ready: true,
            liveness: Liveness::Live,
        };
        reconcile(&ledger, &pod(), &Observed { sandboxes: vec![here], ..Observed::default() }).await;
        assert_eq!(left(&ledger), [sandbox]);
    }
}
