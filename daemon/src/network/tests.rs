//! Attachments that nobody detached.

use super::{reconcile, sweep};
use crate::clock::epoch_ms;
use crate::ledger::{Attachment, AttachmentKey, Ledger, Moment};
use crate::testing::{host_view, open, pod, pool_order, run_order};
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
