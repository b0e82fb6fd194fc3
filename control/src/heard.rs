//! What a node says, parsed once, and what it changes.

use crate::facts::Facts;
use crate::flow::Ending;
use crate::state::{Greeting, Tx};
use berth_model::{Incarnation, NodeName, OrderId, PodId, PodStatus};
use berth_proto::v1::{self, node_message};
use berth_proto::{InvalidMessage, pod_from};

/// One message of a node, that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// It greets, which is done once on each link.
    Hello(Box<Greeting>),
    /// It lives.
    Heartbeat,
    /// An order stands in its ledger.
    Accepted(OrderId),
    /// An order has ended.
    Ended(OrderId, Ending),
    /// A pod has changed.
    Status(Box<PodStatus>),
    /// The host has changed.
    Facts(Box<Facts>),
    /// Nothing of a pod's incarnation is left.
    Gone(PodId, Incarnation),
    /// Something has happened.
    Happened(Happened),
}

/// Most events in one message.
const MAX_EVENTS: usize = 256;

/// Some events of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Happened {
    /// Which life of the node's agent they are of.
    pub agent_started_at_ms: u64,
    /// The number of the last one in that life.
    pub last: u64,
    /// The oldest first.
    pub events: Vec<v1::Event>,
    /// How many before them the node has lost.
    pub lost: u64,
}

impl TryFrom<node_message::Message> for Heard {
    type Error = InvalidMessage;

    fn try_from(message: node_message::Message) -> Result<Self, InvalidMessage> {
        use node_message::Message;
        Ok(match message {
            Message::Hello(hello) => Self::Hello(Box::new(greeting_from(hello)?)),
            Message::Heartbeat(_) => Self::Heartbeat,
            Message::Ack(ack) => answer_from(ack)?,
            Message::Update(update) => {
                let (id, ending) = update_from(update)?;
                Self::Ended(id, ending)
            }
            Message::PodStatus(status) => Self::Status(Box::new(status.try_into()?)),
            Message::Facts(facts) => Self::Facts(Box::new(facts.try_into()?)),
            Message::Events(batch) => Self::Happened(happened_from(batch)?),
            Message::PodGone(gone) => Self::Gone(pod_from(gone.pod)?, Incarnation(gone.incarnation)),
        })
    }
}

impl Heard {
    /// Tells the state, of a node that has greeted. A second greeting says no more than that the node lives.
    pub(crate) fn tell(self, tx: &mut Tx<'_>, node: &NodeName) {
        tx.heartbeat(node);
        match self {
            Self::Hello(_) | Self::Heartbeat | Self::Happened(_) => {}
            Self::Accepted(id) => tx.acknowledge(node, &id),
            Self::Ended(id, ending) => tx.end_order(node, &id, &ending),
            Self::Status(status) => tx.pod_status(node, *status),
            Self::Facts(facts) => tx.set_facts(node, *facts),
            Self::Gone(pod, incarnation) => tx.pod_gone(node, &pod, incarnation),
        }
    }
}

/// What a node says of itself when it connects.
pub(crate) fn greeting_from(hello: v1::Hello) -> Result<Greeting, InvalidMessage> {
    let facts = hello.facts.ok_or_else(|| InvalidMessage::missing("facts"))?;
    Ok(Greeting {
        term: hello.term,
        facts: Facts::try_from(facts).map_err(|error| error.within("facts"))?,
        pods: hello.pods.into_iter().map(PodStatus::try_from).collect::<Result<_, _>>()?,
        outcomes: hello.updates.into_iter().map(update_from).collect::<Result<_, _>>()?,
    })
}

fn happened_from(batch: v1::EventBatch) -> Result<Happened, InvalidMessage> {
    let v1::EventBatch { last, events, lost, agent_started_at_ms } = batch;
    if events.len() > MAX_EVENTS {
        return Err(InvalidMessage::new("events", format!("more than {MAX_EVENTS} in one message")));
    }
    for pod in events.iter().filter_map(|event| event.pod.clone()) {
        pod_from(Some(pod)).map_err(|error| error.within("events"))?;
    }
    Ok(Happened { agent_started_at_ms, last, events, lost })
}

fn answer_from(ack: v1::OrderAck) -> Result<Heard, InvalidMessage> {
    use v1::order_ack::Answer;
    let id = order_id(ack.order_id)?;
    Ok(match ack.answer.ok_or_else(|| InvalidMessage::missing("answer"))? {
        Answer::Accepted(_) => Heard::Accepted(id),
        Answer::Refused(reason) => Heard::Ended(id, Ending::Refused(reason.into())),
        Answer::Already(outcome) => Heard::Ended(id, outcome.try_into()?),
    })
}

fn update_from(update: v1::OrderUpdate) -> Result<(OrderId, Ending), InvalidMessage> {
    let outcome = update.outcome.ok_or_else(|| InvalidMessage::missing("outcome"))?;
    Ok((order_id(update.order_id)?, outcome.try_into()?))
}

fn order_id(text: String) -> Result<OrderId, InvalidMessage> {
    OrderId::new(text).map_err(|error| InvalidMessage::new("order_id", error))
}
