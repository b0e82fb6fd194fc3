//! The ledger on a real file: what was acknowledged is there after it is opened again.

use super::*;
use berth_model::{
    ContainerSpec, CpuBinding, Disk, EvictDisposition, Generation, Incarnation, Limits, Order, PodOrder, PodSpec,
    PodVerb, Seq, Target,
};
use berth_plan::{Step, conclude};
use std::collections::BTreeSet;

fn host() -> HostView {
    HostView {
        online_cpus: "0-3".parse().unwrap(),
        mems: "0-1".parse().unwrap(),
        mount_points: BTreeSet::from(["/".to_owned()]),
        page_sizes: BTreeSet::new(),
        io_weight: true,
        swap: true,
    }
}

fn spec() -> PodSpec {
    PodSpec {
        hostname: "web".to_owned(),
        class: berth_model::AppClass::Standard,
        priority: 0,
        containers: vec![ContainerSpec {
            name: "web".parse().unwrap(),
            image: "registry.example/web:1".parse().unwrap(),
            digest: None,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            user: None,
            limits: Limits::default(),
            cpus: None,
            mems: None,
            ulimits: Vec::new(),
        }],
        cpu: CpuBinding::Exclusive { cpus: "0".parse().unwrap(), mems: "0".parse().unwrap() },
        limits: Limits::default(),
        address: Some(AddressGrant {
            pool: "blue".parse().unwrap(),
            address: "10.0.0.7/24".parse().unwrap(),
            gateway: None,
        }),
        dns: berth_model::DnsConfig::default(),
        restart: berth_model::RestartPolicy::Always,
        disk: berth_model::DiskPolicy::Reuse,
        recovery: berth_model::RecoveryPolicy::Offline,
        stop_grace_ms: 1_000,
    }
}

fn order(number: u32, seq: u64, verb: PodVerb) -> Addressed {
    Addressed {
        node: "node-1".parse().unwrap(),
        order: Order {
            id: format!("01ARZ3NDEKTSV4RRFFQ69{number:05}").parse().unwrap(),
            term: Term(1),
            reason: String::new(),
            deadline_ms: 1_000,
            target: Target::Pod(PodOrder {
                pod: "shop/web".parse().unwrap(),
                incarnation: Incarnation(1),
                generation: Generation(1),
                seq: Seq(seq),
                verb,
            }),
        },
    }
}

fn run(number: u32, seq: u64) -> Addressed {
    order(number, seq, PodVerb::Run { spec: Box::new(spec()), disk: Disk::Fresh })
}

fn evict(number: u32, seq: u64) -> Addressed {
    order(number, seq, PodVerb::Evict { grace_ms: 5, disposition: EvictDisposition::Keep })
}

const NOW: Now = Now { monotonic_ms: 100, wall_ms: 200 };

fn open(dir: &tempfile::TempDir, boot: &str) -> Ledger {
    Ledger::open(&dir.path().join("ledger.db"), Some("node-1".parse().unwrap()), boot, 5_000).unwrap()
}

fn accepted(ledger: &Ledger, given: &Addressed) {
    let answer = ledger.admit(given, &host(), NOW).unwrap();
    assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
}

#[test]
fn what_was_acknowledged_is_there_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir, "boot-1");
    accepted(&ledger, &run(1, 1));
    let (pods, orders) = (ledger.pods(), ledger.orders());
    drop(ledger);
    let ledger = open(&dir, "boot-1");
    assert_eq!(ledger.pods(), pods);
    assert_eq!(ledger.orders(), orders);
    assert_eq!(ledger.term(), Term(1));
    assert_eq!(ledger.admit(&run(1, 1), &host(), NOW).unwrap(), Answer::Already(None));
}

#[test]
fn a_reboot_gives_open_orders_their_time_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir, "boot-1");
    accepted(&ledger, &run(1, 1));
    let deadline = |ledger: &Ledger| ledger.pods()[0].open.as_ref().unwrap().deadline_at_ms;
    assert_eq!(deadline(&ledger), 1_100);
    drop(ledger);
    assert_eq!(deadline(&open(&dir, "boot-2")), 6_000);
}

#[test]
fn an_outcome_is_kept_until_upstream_has_it_and_answers_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir, "boot-1");
    accepted(&ledger, &run(1, 1));
    let concluded = conclude(&ledger.pods()[0], &Step::Settled).unwrap();
    ledger.conclude(&concluded, 300).unwrap();
    drop(ledger);
    let ledger = open(&dir, "boot-1");
    let id = run(1, 1).order.id;
    assert_eq!(ledger.unconfirmed(), [(id.clone(), Outcome::Done)]);
    assert_eq!(ledger.admit(&run(1, 1), &host(), NOW).unwrap(), Answer::Already(Some(Outcome::Done)));
    ledger.confirm(&[id]).unwrap();
    assert!(ledger.unconfirmed().is_empty());
}

#[test]
fn a_newer_order_ends_the_open_one() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir, "boot-1");
    accepted(&ledger, &run(1, 1));
    accepted(&ledger, &evict(2, 2));
    let by = evict(2, 2).order.id;
    assert_eq!(ledger.unconfirmed(), [(run(1, 1).order.id, Outcome::Failed(Failure::Superseded { by }))]);
}

#[test]
fn warrants_come_from_open_orders_whose_verb_covers_them() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir, "boot-1");
    accepted(&ledger, &run(1, 1));
    let pod = "shop/web".parse().unwrap();
    assert!(ledger.order_warrant(&pod, &run(1, 1).order.id, Purpose::End).is_none(), "a Run ends nothing");
    accepted(&ledger, &evict(2, 2));
    assert!(ledger.order_warrant(&pod, &run(1, 1).order.id, Purpose::End).is_none(), "it is not open any more");
    assert!(ledger.order_warrant(&pod, &evict(2, 2).order.id, Purpose::End).is_some());
    assert!(ledger.order_warrant(&pod, &evict(2, 2).order.id, Purpose::ReleaseDisks).is_none());
}

#[test]
fn another_nodes_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = run(1, 1);
    given.node = "node-2".parse().unwrap();
    let answer = open(&dir, "boot-1").admit(&given, &host(), NOW).unwrap();
    assert_eq!(answer, Answer::Refused(Refusal::WrongNode("node-2".parse().unwrap())));
}

#[test]
fn damage_is_found_at_the_opening_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    accepted(&open(&dir, "boot-1"), &run(1, 1));
    let path = dir.path().join("ledger.db");
    for (sql, found) in [
        ("UPDATE orders SET record = x'ff'", "no message of the ledger"),
        ("DELETE FROM orders", "has no row"),
    ] {
        let spoiled = dir.path().join("spoiled.db");
        std::fs::copy(&path, &spoiled).unwrap();
        let connection = rusqlite::Connection::open(&spoiled).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let error = Ledger::open(&spoiled, None, "boot-1", 0).err().unwrap().to_string();
        assert!(error.contains("is damaged") && error.contains(found), "{error}");
    }
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, [0x55; 8192]).unwrap();
    let error = Ledger::open(&garbage, None, "boot-1", 0).err().unwrap().to_string();
    assert!(error.contains("is damaged"), "{error}");
}
