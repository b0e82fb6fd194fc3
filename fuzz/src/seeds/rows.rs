//! Rows of a node's ledger.

use super::Seed;
use super::fleet::node;
use super::messages::{addressed, beginning, order_id};
use crate::frames::frame;
use crate::node::Node;
use berth_model::{Attempt, DiskOffer, Generation, Incarnation, NodeOrder, NodeVerb, Outcome, Target, Term};
use berth_plan::{KeptDisk, SharedPool};
use berthd::ledger::{Attachment, AttachmentKey, Book, Ended, OrderEntry, Row, Table, Tenure};

/// A whole ledger, and each of its tables alone.
pub(super) fn all() -> Vec<Seed> {
    let rows = book().to_rows();
    let mut seeds = vec![Seed::new("ledger", "whole", framed(&rows))];
    for table in [Table::Orders, Table::Pools, Table::Offers, Table::Attachments, Table::Tenures] {
        let of_table: Vec<Row> = rows.iter().filter(|row| row.table == table).cloned().collect();
        let closed = of_table.iter().filter(|row| table != Table::Orders || row.key != order_id(2).as_str());
        let closed: Vec<Row> = closed.cloned().collect();
        seeds.push(Seed::new("ledger", &format!("{table:?}").to_lowercase(), framed(&closed)));
    }
    seeds
}

fn framed(rows: &[Row]) -> Vec<u8> {
    let table = |row: &Row| Table::ALL.iter().position(|table| *table == row.table).unwrap_or_default();
    let part = |row: &Row| [row.key.as_bytes(), b"\n", &row.bytes].concat();
    rows.iter().flat_map(|row| frame(u8::try_from(table(row)).unwrap_or_default(), &part(row))).collect()
}

fn book() -> Book {
    let mut node = Node::default();
    let orders = beginning();
    for addressed in &orders {
        node.take(&addressed.order);
    }
    let pod = "shop/web".parse().expect("is a pod");
    let mut record = node.pods.remove(&pod).expect("the seeds' pod is accepted");
    record.sandbox_attempt = Attempt(1);
    record.kept.push(KeptDisk {
        incarnation: Incarnation(0),
        container: "web".parse().expect("is a name"),
        key: "snapshot-1".to_owned(),
        digest: None,
    });
    let mut book = Book { term: Term(1), ..Book::default() };
    for addressed in orders {
        let ended = Ended { outcome: Outcome::Done, at_ms: 5, seen_upstream: true };
        let ended = matches!(addressed.order.target, Target::Node(_)).then_some(ended);
        let entry = OrderEntry { addressed, accepted_at_ms: 3, deadline_at_ms: 61_000, ended };
        book.orders.insert(entry.id().clone(), entry);
    }
    let inspect = addressed(9, Target::Node(NodeOrder { verb: NodeVerb::Inspect }));
    let entry = OrderEntry { addressed: inspect, accepted_at_ms: 4, deadline_at_ms: 62_000, ended: None };
    book.orders.insert(entry.id().clone(), entry);
    let attachment = Attachment {
        key: AttachmentKey { sandbox_id: "s1".to_owned(), interface: "eth0".to_owned() },
        netns: "/run/netns/x".to_owned(),
        pod: pod.clone(),
        incarnation: Incarnation(1),
        attached_at_ms: 7,
        network: "berth".to_owned(),
        addresses: record
            .charter
            .iter()
            .flat_map(|charter| &charter.spec.addresses)
            .map(|grant| grant.address.address())
            .collect(),
    };
    book.tenures.insert(0, Tenure { attachment: attachment.clone(), detached_at_ms: 9 });
    book.attachments.insert(attachment.key.clone(), attachment);
    let pool = SharedPool {
        name: "default".parse().expect("is a name"),
        cpus: "0".parse().expect("is a list"),
        mems: "0-1".parse().expect("is a list"),
        generation: Generation(8),
    };
    book.pools.insert(pool.name.clone(), pool);
    let disks = ["data".parse().expect("is a name")].into();
    let offer = DiskOffer {
        pod: "shop/job".parse().expect("is a pod"),
        incarnation: Incarnation(1),
        disks,
        to: node_2(),
    };
    book.offers.insert(offer.pod.clone(), offer);
    book.pods.insert(pod, record);
    book
}

fn node_2() -> berth_model::NodeName {
    format!("{}2", node().as_str().trim_end_matches('1')).parse().expect("is a name")
}
