//! Rows that were spoilt: each is refused by its name, and none is taken for another record.

use super::{Book, Damage, Ended, OrderEntry, Row, Table};
use crate::report::chain;
use crate::testing::{order_id, pool_order, run_order};
use berth_model::{Outcome, PodId, Target, Term};
use berth_proto::v1;
use prost::Message;

fn entry(addressed: berth_proto::Addressed, ended: Option<Ended>) -> OrderEntry {
    OrderEntry { addressed, accepted_at_ms: 1, deadline_at_ms: 2, ended }
}

fn done() -> Option<Ended> {
    Some(Ended { outcome: Outcome::Done, at_ms: 5, seen_upstream: true })
}

/// A pod's Run that is open, and another pod's.
fn book() -> Book {
    let mut book = Book::default();
    for addressed in [run_order(2), other_run()] {
        let Target::Pod(order) = &addressed.order.target else { panic!("it is a pod's") };
        let row = v1::LedgerPod {
            version: 1,
            pod: Some((&order.pod).into()),
            open: Some(v1::LedgerOpenOrder { id: addressed.order.id.to_string(), ..Default::default() }),
            ..Default::default()
        };
        let id = addressed.order.id.clone();
        book.orders.insert(id, entry(addressed, None));
        let record = super::rows::decode_pod(&row.encode_to_vec(), &book.orders).unwrap();
        book.pods.insert(record.pod.clone(), record);
    }
    book.orders.insert(order_id(1), entry(pool_order(1, 1, "0"), done()));
    book
}

fn other_run() -> berth_proto::Addressed {
    let mut addressed = run_order(3);
    if let Target::Pod(order) = &mut addressed.order.target {
        order.pod = PodId::new("shop", "other").unwrap();
    }
    addressed
}

/// The row of this key, as a message that may be spoilt.
fn spoil<M: Message + Default>(rows: &mut [Row], table: Table, key: &str, spoil: impl FnOnce(&mut M)) {
    let row = rows.iter_mut().find(|row| row.table == table && row.key == key).unwrap();
    let mut message = M::decode(row.bytes.as_slice()).unwrap();
    spoil(&mut message);
    row.bytes = message.encode_to_vec();
}

fn check(rows: &[Row], expected: &[&str]) {
    let damage: Damage = Book::from_rows(Term(0), rows).unwrap_err();
    let said = chain(&damage);
    assert!(expected.iter().all(|part| said.contains(part)), "{said:?} does not say {expected:?}");
}

#[test]
fn rows_come_back_as_they_were() {
    let book = book();
    assert_eq!(Book::from_rows(Term(0), &book.to_rows()).unwrap(), book);
}

#[test]
fn an_order_whose_end_is_half_there_is_not_open() {
    let key = order_id(1).to_string();
    let spoilt = |how: fn(&mut v1::LedgerOrder)| {
        let mut rows = book().to_rows();
        spoil(&mut rows, Table::Orders, &key, how);
        rows
    };
    check(&spoilt(|row| row.outcome = None), &["order ", &key, "outcome: is missing"]);
    check(&spoilt(|row| row.ended_at_ms = None), &[&key, "ended_at_ms: is missing"]);
    let open_but_seen = spoilt(|row| (row.outcome, row.ended_at_ms) = (None, None));
    check(&open_but_seen, &[&key, "outcome: is missing"]);
}

#[test]
fn an_open_order_is_its_own_pods() {
    let mut rows = book().to_rows();
    spoil(&mut rows, Table::Pods, "shop/other", |row: &mut v1::LedgerPod| {
        row.open.as_mut().unwrap().id = order_id(2).to_string();
    });
    check(&rows, &["pod shop/other", &order_id(2).to_string(), "does not have"]);
}

#[test]
fn nothing_is_there_twice() {
    let mut rows = book().to_rows();
    spoil(&mut rows, Table::Pods, "shop/other", |row: &mut v1::LedgerPod| {
        let container = v1::LedgerContainer { name: "web".to_owned(), ..Default::default() };
        row.containers = vec![container.clone(), container];
    });
    check(&rows, &["pod shop/other", "container web is there twice"]);
    let mut rows = book().to_rows();
    rows.push(rows[0].clone());
    check(&rows, &[&rows[0].key, "is there twice"]);
}
