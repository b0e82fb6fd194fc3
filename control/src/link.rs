//! `NodeLink`: one stream for each node, dialled by the node.
//!
//! Entry point: [`LinkService`]. Each link is one task that reads what the node says, one message after the other, and
//! pumps orders to it. The pump is level-triggered: when woken it asks for all orders that have no outcome and sends
//! those that this link has not sent yet, so a new link sends all of them again and the node tells the known ones
//! apart. The task decides nothing.

use crate::core::Core;
use crate::flow::Ending;
use crate::guard;
use crate::heard::{Happened, Heard, greeting_from};
use crate::hub::LinkHandle;
use crate::signer::Signer;
use crate::state::{NodeCertificate, NodeDenied};
use crate::store::StoreStopped;
use berth_model::{NodeName, OrderId, Term};
use berth_proto::InvalidMessage;
use berth_proto::v1::node_link_server::NodeLink;
use berth_proto::v1::{self, control_message, node_message};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages that wait to be sent on one link; beyond that the pump waits.
const LINK_QUEUE: usize = 64;
/// Unexpected pods of a node that one line of the log names.
const STRANGERS_TOLD: usize = 20;
/// How long a fresh stream may stay silent.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves the links of all nodes.
#[derive(Debug)]
pub(crate) struct LinkService {
    core: Arc<Core>,
    signer: Signer,
    draining: watch::Receiver<bool>,
}

type Outbound = mpsc::Sender<Result<v1::ControlMessage, Status>>;

impl LinkService {
    /// Serves until `draining` says true, with certificates by `signer`.
    pub(crate) fn new(core: Arc<Core>, signer: Signer, draining: watch::Receiver<bool>) -> Self {
        Self { core, signer, draining }
    }
}

#[tonic::async_trait]
impl NodeLink for LinkService {
    type LinkStream = ReceiverStream<Result<v1::ControlMessage, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let shown = guard::node(&request)?;
        let (outbound, stream) = mpsc::channel(LINK_QUEUE);
        let node = shown.node.clone();
        let link = Link { core: Arc::clone(&self.core), node, shown, outbound, lease: Duration::ZERO };
        tokio::spawn(link.serve(request.into_inner(), self.draining.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let shown = guard::node(&request)?;
        let node = shown.node.clone();
        let looked = self
            .core
            .act(move |tx| tx.check_certificate(&shown).map(|()| tx.certificates_from_ms(&shown.node)));
        let unavailable = |stopped: StoreStopped| Status::unavailable(stopped.to_string());
        let from_ms = looked.await.map_err(unavailable)?.map_err(|denied| status(&denied))?;
        let certificate_pem =
            self.signer.sign(&request.into_inner().certificate_request_pem, &node, from_ms)?;
        tracing::info!(%node, "{node}: has renewed its certificate");
        Ok(Response::new(v1::RenewResponse { certificate_pem }))
    }
}

struct Link {
    core: Arc<Core>,
    node: NodeName,
    shown: NodeCertificate,
    outbound: Outbound,
    lease: Duration,
}

/// Why a link ends.
enum End {
    /// The node has hung up, or does not read any more.
    HungUp,
    /// It is told why.
    Told(Status),
}

fn status(denied: &NodeDenied) -> Status {
    let text = denied.to_string();
    match denied {
        NodeDenied::Revoked(_) => Status::permission_denied(text),
        NodeDenied::Unknown(_) | NodeDenied::Term { .. } => Status::failed_precondition(text),
    }
}

impl From<NodeDenied> for End {
    fn from(denied: NodeDenied) -> Self {
        Self::Told(status(&denied))
    }
}

impl From<StoreStopped> for End {
    fn from(stopped: StoreStopped) -> Self {
        Self::Told(Status::unavailable(stopped.to_string()))
    }
}

impl From<InvalidMessage> for End {
    fn from(invalid: InvalidMessage) -> Self {
        Self::Told(Status::invalid_argument(invalid.chain()))
    }
}

impl Link {
    async fn serve(mut self, mut inbound: Streaming<v1::NodeMessage>, mut draining: watch::Receiver<bool>) {
        let end = match self.greet(&mut inbound).await {
            Err(end) => end,
            Ok(handle) => {
                tracing::info!(node = %self.node, "{}: connected", self.node);
                // All arms are either a whole side of the link, which ends with it, or a mere notice.
                let end = tokio::select! {
                    end = self.read(&mut inbound) => end,
                    end = self.pump(&handle) => end,
                    end = self.watch_certificate(&handle) => end,
                    () = handle.replaced.notified() => {
                        End::Told(Status::aborted("another stream of this node has taken over"))
                    }
                    _ = draining.wait_for(|draining| *draining) => {
                        End::Told(Status::unavailable("the control plane is going down; connect again"))
                    }
                };
                self.core.hub().disconnect(&self.node, &handle);
                end
            }
        };
        match end {
            End::HungUp => tracing::info!(node = %self.node, "{}: hung up", self.node),
            End::Told(status) => {
                tracing::warn!(node = %self.node, "{}: link ended: {}", self.node, status.message());
                // If the node does not read, it will find out by itself.
                let _ = self.outbound.try_send(Err(status));
            }
        }
    }

    /// The next message; none for one that this version does not know, which a newer node may send.
    async fn next(
        &self,
        inbound: &mut Streaming<v1::NodeMessage>,
        patience: Duration,
    ) -> Result<Option<node_message::Message>, End> {
        match tokio::time::timeout(patience, inbound.message()).await {
            Err(_) => Err(End::Told(Status::deadline_exceeded(format!(
                "nothing was heard for {} ms",
                patience.as_millis()
            )))),
            Ok(Err(_) | Ok(None)) => Err(End::HungUp),
            Ok(Ok(Some(message))) => Ok(message.message),
        }
    }

    async fn send(&self, message: control_message::Message) -> Result<(), End> {
        let message = v1::ControlMessage { message: Some(message) };
        self.outbound.send(Ok(message)).await.map_err(|_| End::HungUp)
    }

    /// Hello, Welcome. The link is the node's only one from the moment that its Hello is durable.
    async fn greet(&mut self, inbound: &mut Streaming<v1::NodeMessage>) -> Result<Arc<LinkHandle>, End> {
        let Some(node_message::Message::Hello(hello)) = self.next(inbound, HELLO_TIMEOUT).await? else {
            return Err(End::Told(Status::invalid_argument("the first message must be a hello")));
        };
        if hello.node != self.node.as_str() {
            return Err(End::Told(Status::permission_denied(format!(
                "the certificate is of node {}, the hello of {:?}",
                self.node, hello.node
            ))));
        }
        let greeting = greeting_from(hello)?;
        let seen: Vec<String> = greeting.outcomes.iter().map(|(id, _)| id.to_string()).collect();
        let (node, shown) = (self.node.clone(), self.shown.clone());
        let greeted = self.core.act(move |tx| {
            tx.check_certificate(&shown)?;
            let strangers = tx.hello(&node, greeting)?;
            let settings = tx.settings();
            let welcome = v1::Welcome {
                term: tx.term(),
                heartbeat_ms: settings.heartbeat_ms,
                lease_ms: settings.lease_ms,
                events: true,
            };
            Ok::<_, NodeDenied>((welcome, strangers))
        });
        let (welcome, strangers) = greeted.await??;
        if !strangers.is_empty() {
            let pods: Vec<String> = strangers.iter().take(STRANGERS_TOLD).map(ToString::to_string).collect();
            let (count, pods) = (strangers.len(), pods.join(" "));
            tracing::warn!(node = %self.node, count, pods, "{}: has {count} pods that it was not to have: {pods}", self.node);
        }
        let handle = self.core.hub().connect(&self.node);
        self.lease = Duration::from_millis(welcome.lease_ms);
        self.send(control_message::Message::Welcome(welcome)).await?;
        self.confirm(seen).await?;
        handle.orders.notify_one();
        Ok(handle)
    }

    /// Ends when the node's certificate is revoked.
    async fn watch_certificate(&self, handle: &LinkHandle) -> End {
        loop {
            // First without a notice: it may have been revoked before the hub knew this link.
            if let Err(end) = self.check_certificate().await {
                return end;
            }
            handle.cut.notified().await;
        }
    }

    async fn check_certificate(&self) -> Result<(), End> {
        let shown = self.shown.clone();
        Ok(self.core.act(move |tx| tx.check_certificate(&shown)).await??)
    }

    async fn confirm(&self, order_ids: Vec<String>) -> Result<(), End> {
        if order_ids.is_empty() {
            return Ok(());
        }
        let seen = v1::OutcomesSeen { order_ids };
        self.send(control_message::Message::OutcomesSeen(seen)).await
    }

    async fn pump(&self, handle: &LinkHandle) -> End {
        let mut sent = BTreeSet::new();
        loop {
            handle.orders.notified().await;
            if let Err(end) = self.send_orders(&mut sent).await {
                return end;
            }
        }
    }

    async fn send_orders(&self, sent: &mut BTreeSet<OrderId>) -> Result<(), End> {
        let known = std::mem::take(sent);
        let node = self.node.clone();
        let (open, fresh) = self
            .core
            .act(move |tx| {
                let orders = tx.orders_to_send(&node);
                let open: BTreeSet<OrderId> = orders.iter().map(|(id, _)| id.clone()).collect();
                let fresh = orders.into_iter().filter(|(id, _)| !known.contains(id));
                // An order keeps its content for ever and is sent in the term of the sending.
                let term = Term(tx.term());
                let fresh: Vec<v1::Order> = fresh
                    .map(|(_, record)| {
                        let mut record = record.clone();
                        record.order.term = term;
                        record.to_wire()
                    })
                    .collect();
                (open, fresh)
            })
            .await?;
        *sent = open;
        for order in fresh {
            self.send(control_message::Message::Order(order)).await?;
        }
        Ok(())
    }

    async fn read(&self, inbound: &mut Streaming<v1::NodeMessage>) -> End {
        loop {
            // The lease is renewed by any message; a stream that is silent for so long is dead.
            let heard = async {
                match self.next(inbound, self.lease).await? {
                    Some(message) => self.take_in(message).await,
                    None => {
                        tracing::warn!(node = %self.node, "{}: said something that this version does not know", self.node);
                        Ok(())
                    }
                }
            };
            if let Err(end) = heard.await {
                return end;
            }
        }
    }

    async fn take_in(&self, message: node_message::Message) -> Result<(), End> {
        let node = self.node.clone();
        match Heard::try_from(message)? {
            Heard::Hello(_) => Err(End::Told(Status::invalid_argument("hello is said once"))),
            Heard::Ended(id, ending) => self.take_ending(id, ending).await,
            Heard::Happened(happened) => self.take_events(happened).await,
            heard @ (Heard::Heartbeat
            | Heard::Accepted(_)
            | Heard::Status(_)
            | Heard::Facts(_)
            | Heard::Gone(..)) => Ok(self.core.act(move |tx| heard.tell(tx, &node)).await?),
        }
    }

    async fn take_events(&self, happened: Happened) -> Result<(), End> {
        if happened.lost > 0 {
            let lost = happened.lost;
            tracing::warn!(node = %self.node, lost, "{}: could not keep {lost} events until they were told", self.node);
        }
        let node = self.node.clone();
        self.core.act(move |tx| tx.heartbeat(&node)).await?;
        let last = happened.last;
        self.core.events().note(&self.node, happened);
        self.send(control_message::Message::EventsSeen(v1::EventsSeen { last })).await
    }

    async fn take_ending(&self, id: OrderId, ending: Ending) -> Result<(), End> {
        match &ending {
            Ending::Done => {
                tracing::info!(node = %self.node, order = %id, "{}: order {id} is done", self.node);
            }
            Ending::Failed(reason) => {
                tracing::warn!(node = %self.node, order = %id, "{}: order {id} failed: {}", self.node, reason.text);
            }
            Ending::RolledBack(reason) => {
                tracing::warn!(node = %self.node, order = %id, "{}: order {id} was rolled back: {}", self.node, reason.text);
            }
            Ending::Refused(reason) => {
                tracing::warn!(node = %self.node, order = %id, "{}: order {id} was refused: {}", self.node, reason.text);
            }
        }
        let node = self.node.clone();
        let seen = vec![id.to_string()];
        self.core.act(move |tx| Heard::Ended(id, ending).tell(tx, &node)).await?;
        self.confirm(seen).await
    }
}
