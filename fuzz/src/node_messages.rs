//! What the control plane is told over a node's link: a stream of node messages, up to what it orders for them.

use crate::{orders, seeds};
use berth_model::PodStatus;
use berth_proto::v1::node_message::Message as Up;
use berth_proto::{Addressed, v1};
use prost::Message;

/// Takes in one message after the other, each with its length before it. Pods are submitted once the node is known.
pub fn node_messages(mut data: &[u8]) {
    let mut control = seeds::fleet();
    let mut greeted = false;
    while let Ok(message) = v1::NodeMessage::decode_length_delimited(&mut data) {
        let hello = matches!(message.message, Some(Up::Hello(_)));
        // A link begins with a Hello, or ends.
        if !hello && !greeted {
            return;
        }
        if let Some(Up::PodStatus(status)) = &message.message {
            comes_back(status);
        }
        match control.hear(message) {
            Ok(()) => greeted = true,
            Err(why) => assert!(!why.is_empty(), "a node's link is ended without a reason"),
        }
        if hello && greeted {
            submit(&mut control);
        }
        are_understood(&control);
    }
}

fn submit(control: &mut berth_control::Rehearsal) {
    for request in seeds::requests() {
        if let Err(why) = control.submit(request) {
            assert!(!why.is_empty(), "a pod is not placed without a reason");
        }
    }
}

fn comes_back(status: &v1::PodStatus) {
    if let Ok(status) = PodStatus::try_from(status.clone()) {
        let again = PodStatus::try_from(v1::PodStatus::from(&status));
        assert_eq!(again.unwrap_or_else(|error| panic!("{}", error.chain())), status);
    }
}

/// Whatever a node says, what is ordered for it makes sense to it.
fn are_understood(control: &berth_control::Rehearsal) {
    for wire in control.open_orders() {
        let addressed = Addressed::try_from(wire).unwrap_or_else(|error| panic!("{}", error.chain()));
        orders::comes_back(&addressed);
    }
}
