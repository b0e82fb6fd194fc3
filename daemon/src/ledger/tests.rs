//! The ledger: what is acknowledged is durable, what crashed is as before or as after, what is damaged is not used.

use super::book::Write;
use super::store::{CrashPoint, Store};
use super::*;
use crate::crash_point::Deed;
use crate::report::chain;
use crate::testing::{
    NOW, boot, evict_order, host_view, node, open, order_id, pod, pod_order, pool, pool_order, run_order,
};
use berth_model::{
    Attempt, Bytes, EvictDisposition, Failure, Limits, MemoryLimits, NodeName, Outcome, PodVerb, Refusal,
    Term,
};
use berth_plan::{Effect, Observed, Step};
use berth_proto::Addressed;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

async fn admit(ledger: &Ledger, addressed: Addressed) -> Answer {
    ledger.admit(addressed, host_view(), NOW).await.unwrap()
}

fn look(ledger: &Ledger, step: Step) -> Arc<Look> {
    Arc::new(Look { record: ledger.pod(&pod()).unwrap(), observed: Observed::default(), step })
}

/// A ledger with the pool and the pod's Run in it.
async fn with_pod(folder: &Path) -> Ledger {
    let ledger = open(folder);
    assert_eq!(admit(&ledger, pool_order(1, 1, "0")).await, Answer::Accepted);
    assert_eq!(admit(&ledger, run_order(2)).await, Answer::Accepted);
    ledger
}

fn attachment() -> Attachment {
    Attachment {
        key: AttachmentKey { sandbox_id: "s1".to_owned(), interface: "eth0".to_owned() },
        netns: "/run/netns/x".to_owned(),
        pod: pod(),
        incarnation: berth_model::Incarnation(1),
        attached_at_ms: NOW.epoch_ms,
        network: "berth".to_owned(),
        addresses: vec!["10.0.0.7".parse().unwrap()],
    }
}

const SCRIPT: usize = 10;

/// One write after the other, as a pod's life has them.
async fn perform(ledger: &Ledger, number: usize) -> Result<(), LedgerError> {
    match number {
        0 => ledger.admit(pool_order(1, 1, "0"), host_view(), NOW).await.map(drop),
        1 => ledger.finish(order_id(1), Outcome::Done, NOW).await,
        2 => ledger.admit(run_order(2), host_view(), NOW).await.map(drop),
        3 => ledger.before(&look(ledger, Step::RunSandbox { attempt: Attempt(1) })).await.map(drop),
        4 => match ledger.attach(attachment()).await {
            Ok(_) => Ok(()),
            Err(AttachError::Ledger(error)) => Err(error),
            Err(other) => panic!("{other}"),
        },
        5 => ledger.conclude(&look(ledger, Step::Settled), NOW).await.map(drop),
        6 => ledger.admit(evict_order(3, EvictDisposition::Keep), host_view(), NOW).await.map(drop),
        7 => {
            let look = look(ledger, Step::EndGrant { order: order_id(3) });
            ledger.after(&look, Effect::Happened).await.map(drop)
        }
        8 => ledger.conclude(&look(ledger, Step::Settled), NOW).await.map(drop),
        _ => ledger.outcomes_seen(vec![order_id(1), order_id(2)], NOW).await,
    }
}

async fn reference() -> Vec<Book> {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let mut books = vec![ledger.read(Book::clone)];
    for number in 0..SCRIPT {
        perform(&ledger, number).await.unwrap();
        let book = ledger.read(Book::clone);
        assert_ne!(books.last(), Some(&book), "write {number} wrote nothing");
        books.push(book);
    }
    books
}

/// A ledger whose process ends at the `at`-th point.
fn crashing(path: &Path, at: usize) -> Ledger {
    let (mut store, book) = Store::open(path).unwrap();
    let mut seen = 0;
    store.crash = Some(Box::new(move |_: CrashPoint| {
        seen += 1;
        seen == at + 1
    }));
    Ledger::start(store, book, Some(node())).unwrap()
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_before_or_after() {
    let books = reference().await;
    for at in 0..SCRIPT * 2 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(open(folder.path()));
        let mut ledger = reopened(&path, Some(at)).await;
        for number in 0..SCRIPT {
            if let Err(error) = perform(&ledger, number).await {
                assert!(matches!(error, LedgerError::Stopped(_)), "{error}");
                assert!(perform(&ledger, number).await.is_err(), "a stopped ledger goes on");
                drop(ledger);
                ledger = reopened(&path, None).await;
                let expected = &books[number + at % 2];
                assert_eq!(&ledger.read(Book::clone), expected, "crash {at} in write {number}");
                // Whoever did not get an answer asks again.
                perform(&ledger, number).await.unwrap();
            }
            assert_eq!(ledger.read(Book::clone), books[number + 1], "crash {at}, after write {number}");
        }
    }
}

/// Opens once the former thread has let go of the file.
async fn reopened(path: &Path, crash_at: Option<usize>) -> Ledger {
    match crash_at {
        Some(at) => crashing(path, at),
        None => Ledger::open(path, &boot(), NOW).unwrap(),
    }
}

#[tokio::test]
async fn the_same_order_again_is_answered_with_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    assert_eq!(admit(&ledger, run_order(2)).await, Answer::StillOpen);
    assert!(ledger.conclude(&look(&ledger, Step::Settled), NOW).await.unwrap());
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(admit(&ledger, run_order(2)).await, Answer::Ended(Outcome::Done));
    let changed = pod_order(2, PodVerb::Start);
    assert_eq!(admit(&ledger, changed).await, Answer::Refused(Refusal::ChangedContent(order_id(2))));
}

#[tokio::test]
async fn refused_orders_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    let before = ledger.read(Book::clone);
    let mut elsewhere = run_order(3);
    elsewhere.node = NodeName::new("n2").unwrap();
    elsewhere.order.term = Term(9);
    let refused = admit(&ledger, elsewhere).await;
    assert_eq!(refused, Answer::Refused(Refusal::WrongNode(NodeName::new("n2").unwrap())));
    let mut old = pod_order(3, PodVerb::Start);
    old.order.term = Term(0);
    let stale = Refusal::StaleTerm { given: Term(0), seen: Term(1) };
    assert_eq!(admit(&ledger, old).await, Answer::Refused(stale));
    assert_eq!(ledger.read(Book::clone), before);
}

#[tokio::test]
async fn a_newer_order_ends_the_open_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    let seen_by_task = look(&ledger, Step::RunSandbox { attempt: Attempt(1) });
    assert_eq!(admit(&ledger, evict_order(3, EvictDisposition::Keep)).await, Answer::Accepted);
    let ended = ledger.read(|book| book.orders[&order_id(2)].ended.clone()).unwrap();
    assert_eq!(ended.outcome, Outcome::Failed(Failure::Superseded { by: order_id(3) }));
    // A turn that began before knows nothing of the Evict: it must not go on, and must not undo it.
    assert_eq!(ledger.before(&seen_by_task).await.unwrap(), Standing::Passed);
    let resolved = Effect::Resolved(crate::runtime::fake::digest('a'));
    ledger.after(&seen_by_task, resolved).await.unwrap();
    assert!(ledger.pod(&pod()).unwrap().charter.unwrap().leaving.is_some());
}

#[tokio::test]
async fn outcomes_are_kept_until_confirmed_and_then_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let total = KEPT_OUTCOMES as u64 + 10;
    for number in 1..=total {
        admit(&ledger, pool_order(number, number, "0")).await;
        ledger.finish(order_id(number), Outcome::Done, NOW).await.unwrap();
    }
    assert_eq!(ledger.read(|book| book.unconfirmed().count()), KEPT_OUTCOMES + 10);
    ledger.outcomes_seen((1..=total).map(order_id).collect(), NOW).await.unwrap();
    ledger.outcomes_seen(Vec::new(), NOW).await.unwrap();
    assert_eq!(ledger.read(|book| (book.unconfirmed().count(), book.orders.len())), (0, KEPT_OUTCOMES));
    let later = Moment { epoch_ms: NOW.epoch_ms + KEPT_OUTCOMES_MS + 1, ..NOW };
    ledger.outcomes_seen(Vec::new(), later).await.unwrap();
    assert_eq!(ledger.read(|book| book.orders.len()), 0);
    // The pool's revision is remembered all the same.
    assert!(matches!(
        admit(&ledger, pool_order(1, 1, "0")).await,
        Answer::Refused(Refusal::StaleGeneration { .. })
    ));
}

#[tokio::test]
async fn upstream_that_never_confirms_is_told_that_it_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut book) = Store::open(&folder.path().join("ledger.db")).unwrap();
    for number in 1..=MAX_PENDING_ORDERS as u64 {
        let entry = OrderEntry {
            addressed: pool_order(number, number, "0"),
            accepted_at_ms: 0,
            deadline_at_ms: 0,
            ended: None,
        };
        book.orders.insert(order_id(number), entry);
    }
    let ledger = Ledger::start(store, book, Some(node())).unwrap();
    let answer = admit(&ledger, pool_order(9_999, 9_999, "0")).await;
    assert!(matches!(answer, Answer::Refused(Refusal::Busy { .. })), "{answer:?}");
}

#[tokio::test]
async fn warrants_cover_what_an_open_order_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    let all = [Ending::Life, Ending::Remains, Ending::Disks];
    let granted =
        |order: u64| all.map(|ending| ledger.order_warrant(&pod(), &order_id(order), ending).is_ok());
    assert_eq!(granted(2), [false, false, false], "a Run");
    assert_eq!(granted(3), [false, false, false], "an order that is not there");
    let stranger = berth_model::PodId::new("shop", "other").unwrap();
    assert!(ledger.order_warrant(&stranger, &order_id(2), Ending::Life).is_err());
    let why = Failure::Effect { step: "x".to_owned(), why: "y".to_owned() };
    assert!(ledger.give_up(&look(&ledger, Step::Settled), why, NOW).await.unwrap());
    assert_eq!(granted(2), [true, true, false], "a Run that is undone");
    admit(&ledger, evict_order(3, EvictDisposition::Keep)).await;
    assert_eq!(granted(2), [false, false, false], "an order that was replaced");
    assert_eq!(granted(3), [true, true, false], "an Evict that keeps");
    admit(&ledger, evict_order(4, EvictDisposition::Release)).await;
    assert_eq!(granted(4), [true, true, true], "an Evict that releases");
    ledger.after(&look(&ledger, Step::EndGrant { order: order_id(4) }), Effect::Happened).await.unwrap();
    ledger.conclude(&look(&ledger, Step::Settled), NOW).await.unwrap();
    assert_eq!(granted(4), [false, false, false], "an order that has ended");
}

#[tokio::test]
async fn another_boot_counts_deadlines_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_pod(folder.path()).await);
    let path = folder.path().join("ledger.db");
    let deadlines = |ledger: &Ledger| {
        let open = ledger.pod(&pod()).unwrap().open.unwrap().deadline_at_ms;
        (open, ledger.read(|book| book.orders[&order_id(1)].deadline_at_ms))
    };
    let soon = Moment { monotonic_ms: 5_000, ..NOW };
    assert_eq!(deadlines(&Ledger::open(&path, &boot(), soon).unwrap()), (1_060_000, 1_060_000));
    let rebooted = Boot { boot_id: "boot-2".to_owned(), ..boot() };
    assert_eq!(deadlines(&Ledger::open(&path, &rebooted, soon).unwrap()), (65_000, 65_000));
    let same = Moment { monotonic_ms: 9_000, ..NOW };
    assert_eq!(deadlines(&Ledger::open(&path, &rebooted, same).unwrap()), (65_000, 65_000));
}

#[tokio::test]
async fn attachments_need_a_grant_and_free_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    assert_eq!(ledger.attach(attachment()).await, Err(AttachError::NoGrant(pod())));
    drop(ledger);
    let ledger = with_pod(folder.path()).await;
    let grant = ledger.attach(attachment()).await.unwrap();
    assert_eq!(grant.addresses[0].address.to_string(), "10.0.0.7/24");
    assert_eq!(ledger.attach(attachment()).await.unwrap(), grant);
    let older = Attachment { incarnation: berth_model::Incarnation(0), ..attachment() };
    assert!(matches!(ledger.attach(older).await, Err(AttachError::OtherIncarnation { .. })));
    for _ in 0..2 {
        ledger.detach(BTreeSet::from([attachment().key]), 5).await.unwrap();
    }
    let ended = Tenure { attachment: attachment(), detached_at_ms: NOW.epoch_ms };
    assert_eq!(ledger.read(|book| book.tenures.clone()), [(0, ended)].into());
    assert_eq!(ledger.read(|book| book.grant(&pod())), Some(grant));
}

fn opening(folder: &Path) -> String {
    match Ledger::open(&folder.join("ledger.db"), &boot(), NOW) {
        Ok(_) => "opened".to_owned(),
        Err(error) => chain(&error),
    }
}

fn sql(folder: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(folder.join("ledger.db")).unwrap();
    connection.execute_batch(statement).unwrap();
}

#[tokio::test]
async fn a_damaged_ledger_is_not_used() {
    let check = async |damage: &str, expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        drop(with_pod(folder.path()).await);
        sql(folder.path(), damage);
        let said = opening(folder.path());
        for part in expected {
            assert!(said.contains(part), "{damage}: {said:?} does not say {part:?}");
        }
    };
    check("UPDATE pods SET row = x'ff'", &["pod shop/web", "damaged", "put back a backup"]).await;
    check("UPDATE pods SET row = x''", &["pod shop/web", "version 0"]).await;
    check("UPDATE orders SET row = x'0802' WHERE key LIKE '%1'", &["order ", "version 2"]).await;
    check("DELETE FROM orders", &["pod shop/web", "which the ledger does not have"]).await;
    check("DELETE FROM pods", &["order ", "which the ledger does not have"]).await;
    check("DELETE FROM pools", &["pod shop/web", "a shared CPU pool"]).await;
    check("UPDATE pods SET key = 'shop/other'", &["pod shop/other", "it is the record of shop/web"]).await;
    check("UPDATE pools SET key = 'other'", &["pool other", "it is the record of"]).await;
    check("UPDATE meta SET value = 'x' WHERE key = 'term'", &["term", "damaged"]).await;
    check("UPDATE meta SET value = '7' WHERE key = 'schema'", &["schema 7", "newer agent"]).await;
    check("UPDATE meta SET value = 'n9' WHERE key = 'node'", &["node n9's", "n1"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_or_torn_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_pod(folder.path()).await);
    let path = folder.path().join("ledger.db");
    sql(folder.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let whole = std::fs::read(&path).unwrap();
    let torn = [&whole[..4096], &vec![0xa5; whole.len() - 4096][..]].concat();
    for (content, what) in
        [(&b"not a database, and longer than its header would be"[..], "text"), (&torn, "torn")]
    {
        std::fs::write(&path, content).unwrap();
        let said = opening(folder.path());
        assert!(said.contains("damaged") && said.contains("ledger.db"), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_full_disk_undoes_the_write_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    ledger.run(|desk| desk.store.leave_room(0)).await.unwrap();
    let mut spec = crate::runtime::fake::spec("web");
    spec.containers[0].args = vec!["x".repeat(1 << 20)];
    spec.addresses[0].address = "10.0.0.8/24".parse().unwrap();
    let mut large = crate::testing::run_spec(3, spec);
    if let berth_model::Target::Pod(order) = &mut large.order.target {
        order.pod = berth_model::PodId::new("shop", "large").unwrap();
    }
    let before = ledger.read(Book::clone);
    let full = ledger.admit(large.clone(), host_view(), NOW).await;
    assert!(matches!(full, Err(LedgerError::Undone(_))), "{full:?}");
    assert_eq!(ledger.read(Book::clone), before);
    ledger.run(|desk| desk.store.leave_room(10_000)).await.unwrap();
    assert_eq!(admit(&ledger, large).await, Answer::Accepted);
}

#[tokio::test]
async fn one_process_at_a_time_and_nobody_else_reads() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    let path = folder.path().join("ledger.db");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = rusqlite::Connection::open(&path).unwrap();
    assert!(other.execute_batch("DELETE FROM pods").is_err());
    assert_eq!(ledger.read(|book| book.members(&pool()).count()), 1);
}

#[tokio::test]
async fn history_is_durable_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, mut book) = Store::open(&folder.path().join("ledger.db")).unwrap();
    let tenure = |at_ms: u64| Tenure { attachment: attachment(), detached_at_ms: at_ms };
    let all: Vec<_> = (0..KEPT_TENURES as u64).map(|number| Write::Tenure(number, tenure(number))).collect();
    store.commit(Deed::NoteEffect, &all).unwrap();
    book.attachments.insert(attachment().key, attachment());
    book.apply(all);
    let ledger = Ledger::start(store, book, Some(node())).unwrap();
    ledger.detach(BTreeSet::from([attachment().key]), NOW.epoch_ms).await.unwrap();
    let kept = |ledger: &Ledger| {
        ledger.read(|book| {
            (book.tenures.len(), book.tenures.keys().next().copied(), book.tenures.keys().last().copied())
        })
    };
    let expected = (KEPT_TENURES, Some(1), Some(KEPT_TENURES as u64));
    assert_eq!(kept(&ledger), expected);
    ledger.come_round().await.unwrap();
    drop(ledger);
    let again = Ledger::open(&folder.path().join("ledger.db"), &boot(), NOW).unwrap();
    assert_eq!(kept(&again), expected);
}

/// Together they need not be an order that anybody would accept.
#[tokio::test]
async fn limits_of_several_abandoned_orders_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = with_pod(folder.path()).await;
    let mut record = ledger.pod(&pod()).unwrap();
    let memory = MemoryLimits { min: Some(Bytes(2)), max: Some(Bytes(1)), ..MemoryLimits::default() };
    let limits = Limits { memory, pids_max: Some(7), ..Limits::default() };
    let abandoned = &mut record.charter.as_mut().unwrap().abandoned;
    abandoned.pod = limits.clone();
    abandoned.containers.insert("main".parse().unwrap(), limits);
    let orders = ledger.read(|book| book.orders.clone());
    assert_eq!(rows::decode_pod(&rows::encode_pod(&record), &orders).unwrap(), record);
}
