//! What a node is told over its link: a stream of control messages, orders above all, up to their admission.

use crate::node::Node;
use berth_model::{Limits, Target};
use berth_plan::{Admission, Change, Observed, check, next_step};
use berth_proto::v1::control_message::Message as Down;
use berth_proto::{Addressed, v1};
use prost::Message;

/// Takes in one message after the other, each with its length before it.
pub fn orders(mut data: &[u8]) {
    let mut node = Node::default();
    while let Ok(message) = v1::ControlMessage::decode_length_delimited(&mut data) {
        if let Some(Down::Order(wire)) = message.message {
            take(&mut node, wire);
        }
    }
}

fn take(node: &mut Node, wire: v1::Order) {
    let addressed = match Addressed::try_from(wire) {
        Ok(addressed) => addressed,
        Err(error) => {
            assert!(!error.path().is_empty(), "a malformed order is refused without its field: {error:?}");
            assert!(!error.chain().ends_with(": "), "a malformed order is refused without a reason");
            return;
        }
    };
    comes_back(&addressed);
    let order = &addressed.order;
    let before = seq_of(node, order);
    match node.take(order) {
        Admission::Accept(accepted) => {
            assert_eq!(node.take(order), Admission::Already(None), "an accepted order was not known again");
            if let Change::Pod(record) = &accepted.change {
                assert!(before.is_none_or(|before| record.seq > before), "an old seq was accepted");
            }
            settles_somehow(node);
        }
        Admission::Already(_) => {}
        Admission::Refuse(refusal) => assert!(!refusal.to_string().is_empty(), "refused without a reason"),
    }
}

/// What was understood of an order is what is said of it.
pub(crate) fn comes_back(addressed: &Addressed) {
    let wire = v1::Order::from(addressed);
    let again = Addressed::try_from(wire.clone()).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(&again, addressed, "an order changed on its way");
    assert_eq!(v1::Order::from(&again), wire);
}

fn seq_of(node: &Node, order: &berth_model::Order) -> Option<berth_model::Seq> {
    match &order.target {
        Target::Pod(order) => node.pods.get(&order.pod).map(|record| record.seq),
        Target::Node(_) => None,
    }
}

/// On an empty host every pod has a next step, and it may be done.
fn settles_somehow(node: &Node) {
    for record in node.pods.values() {
        let observed = Observed { now_ms: 2_000, ..Observed::default() };
        let step = next_step(record, &observed);
        let checked = check(record, &observed, &step);
        assert!(checked.is_ok(), "{}: {checked:?}", step.describe());
        if let Some(charter) = &record.charter {
            assert_eq!(charter.spec.validate(), Ok(()), "a charter that makes no sense was accepted");
            let limits = charter.spec.containers.iter().map(|container| &container.limits);
            limits.chain([&charter.spec.limits]).for_each(can_be_written);
        }
    }
}

/// Limits that were accepted contradict nothing when they are to be written.
fn can_be_written(limits: &Limits) {
    assert_eq!(limits.validate(), Ok(()), "limits that make no sense were accepted");
}
