//! One connection's life: Hello, Welcome, then whatever comes, until it ends.

use super::run::{Link, LinkStatus};
use crate::host::{Host, Unseen};
use crate::ledger::{Answer, LedgerError, Moment, OrderEntry};
use crate::reports::{Report, Reports};
use berth_model::{Order, OrderId, Outcome, Refusal};
use berth_proto::v1::control_message::Message as Down;
use berth_proto::v1::node_link_client::NodeLinkClient;
use berth_proto::v1::node_message::Message as Up;
use berth_proto::{Addressed, v1};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{info, warn};

/// Messages that wait for the connection to take them. What does not fit stays where it is: statuses in the reports,
/// outcomes in the ledger.
const QUEUE: usize = 64;
/// A connection that takes nothing for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// How long upstream may take to say Welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// Events in one message; the next ones wait until upstream has these.
const EVENTS: usize = 64;
/// The largest message that is read: a pod of 64 containers with 60 KiB of environment each fits.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// How often the host's facts are compared with what was last told.
const FACTS: Duration = Duration::from_secs(30);
/// Heartbeats as upstream wishes, within reason.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Longest order id that is repeated in the answer to an order that makes no sense; a ULID has 26 characters.
const ID_MAX_CHARS: usize = 64;

/// Where accepted orders go.
pub trait Orders: Send + Sync + 'static {
    /// Carries out what an accepted order set in motion. Must not wait.
    fn carry_out(&self, order: &Order);
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// It was closed from the other side.
    #[error("upstream closed the connection")]
    Closed,
    /// It broke, or upstream said why.
    #[error("upstream: {} ({:?})", .0.message(), .0.code())]
    Status(Status),
    /// It takes nothing any more.
    #[error("upstream has taken no message for {} s", SEND_TIMEOUT.as_secs())]
    Stuck,
    /// It is not what it should be.
    #[error("upstream did not begin with Welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    NoWelcome,
    /// It is not the leader any more.
    #[error("upstream is of term {given}, this node has seen term {seen}")]
    OldTerm {
        /// Its term.
        given: u64,
        /// Ours.
        seen: u64,
    },
    /// An order could be neither accepted nor refused: upstream gives it again on the next connection.
    #[error("an order could not be written down: {0}")]
    Ledger(#[from] LedgerError),
    /// The host cannot be looked at, without which no order can be answered.
    #[error(transparent)]
    Host(#[from] Unseen),
    /// The daemon ends.
    #[error("this node's agent is ending")]
    Draining,
}

/// What can happen next.
enum Event {
    Message(Option<Box<v1::ControlMessage>>),
    Broken(Status),
    Heartbeat,
    Pods,
    Ledger,
    Happened,
    Facts,
    Drain,
}

/// How far telling events is.
enum Telling {
    /// Upstream does not want any.
    Unwanted,
    /// All that upstream was told it has confirmed.
    Idle,
    /// Those up to this number are on their way.
    UnderWay(u64),
}

pub(super) struct Session<'a, H, O> {
    link: &'a Link<H, O>,
    up: mpsc::Sender<v1::NodeMessage>,
    down: Streaming<v1::ControlMessage>,
    told: BTreeSet<OrderId>,
    events: Telling,
    facts: v1::NodeFacts,
}

impl<'a, H: Host, O: Orders> Session<'a, H, O> {
    /// Says Hello over a fresh connection.
    pub(super) async fn open(link: &'a Link<H, O>, channel: Channel) -> Result<Self, Ended> {
        let facts = link.host.facts().await?;
        let (up, messages) = mpsc::channel(QUEUE);
        let (hello, told) = link.hello(facts.clone());
        up.try_send(message(Up::Hello(hello))).map_err(|_| Ended::Stuck)?;
        let mut client = NodeLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let opened = timeout(WELCOME_TIMEOUT, client.link(ReceiverStream::new(messages))).await;
        let down = opened.map_err(|_| Ended::NoWelcome)?.map_err(Ended::Status)?.into_inner();
        Ok(Self { link, up, down, told, events: Telling::Unwanted, facts })
    }

    /// Works until the connection ends. `draining` ends it from our side.
    pub(super) async fn run(mut self, mut draining: watch::Receiver<bool>) -> Ended {
        let welcome = match self.welcome().await {
            Ok(welcome) => welcome,
            Err(ended) => return ended,
        };
        info!(
            control = self.link.config.control,
            term = welcome.term,
            "connected to {}, term {}",
            self.link.config.control,
            welcome.term
        );
        self.link.state.set(LinkStatus::connected());
        // Hello says nothing of pods that have gone.
        if let Err(ended) = self.tell_pods().await {
            return ended;
        }
        if welcome.events {
            self.events = Telling::Idle;
        }
        let heartbeat_ms = welcome.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
        let mut heartbeats = every(Duration::from_millis(heartbeat_ms));
        let mut facts = every(FACTS);
        let mut ledger = self.link.ledger.changes();
        // What changed while Hello was on its way.
        ledger.mark_changed();
        let mut happened = self.link.reports.journal().subscribe();
        happened.mark_changed();
        loop {
            let event = tokio::select! {
                biased;
                // Cancel-safe: a tick that is not taken stays due. First, since a late one costs the lease.
                _ = heartbeats.tick() => Event::Heartbeat,
                // Cancel-safe: only looks.
                _ = draining.wait_for(|draining| *draining) => Event::Drain,
                // Cancel-safe: a message that is not whole stays in the decoder.
                message = self.down.message() => match message {
                    Ok(message) => Event::Message(message.map(Box::new)),
                    Err(status) => Event::Broken(status),
                },
                // Cancel-safe: a version that was not seen stays unseen. The sender lives as long as the ledger's
                // thread, without which nothing works; main ends then.
                Ok(()) = ledger.changed() => Event::Ledger,
                // Cancel-safe: a permit that is not taken stays.
                () = self.link.reports.changed() => Event::Pods,
                // Cancel-safe, as the ledger's; the journal lives as long as the reports, which the link holds.
                Ok(()) = happened.changed() => Event::Happened,
                // As the heartbeats'.
                _ = facts.tick() => Event::Facts,
            };
            if let Err(ended) = self.handle(event).await {
                return ended;
            }
        }
    }

    async fn welcome(&mut self) -> Result<v1::Welcome, Ended> {
        let first = timeout(WELCOME_TIMEOUT, self.down.message()).await.map_err(|_| Ended::NoWelcome)?;
        let first = first.map_err(Ended::Status)?.ok_or(Ended::Closed)?;
        let Some(Down::Welcome(welcome)) = first.message else {
            return Err(Ended::NoWelcome);
        };
        let seen = self.link.ledger.read(|book| book.term.0);
        match welcome.term < seen {
            true => Err(Ended::OldTerm { given: welcome.term, seen }),
            false => Ok(welcome),
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Message(Some(message)) => self.take(*message).await,
            Event::Message(None) => Err(Ended::Closed),
            Event::Broken(status) => Err(Ended::Status(status)),
            Event::Heartbeat => self.send(Up::Heartbeat(v1::Heartbeat {})).await,
            Event::Pods => self.tell_pods().await,
            Event::Ledger => self.tell_outcomes().await,
            Event::Happened => self.tell_events().await,
            Event::Facts => self.tell_facts().await,
            Event::Drain => Err(Ended::Draining),
        }
    }

    async fn take(&mut self, message: v1::ControlMessage) -> Result<(), Ended> {
        match message.message {
            Some(Down::Order(order)) => self.take_order(order).await,
            Some(Down::OutcomesSeen(seen)) => {
                let ids = seen.order_ids.iter().filter_map(|id| id.parse().ok()).collect();
                Ok(self.link.ledger.outcomes_seen(ids, Moment::now()).await?)
            }
            Some(Down::EventsSeen(seen)) => self.events_seen(seen.last).await,
            Some(Down::Welcome(_)) => {
                warn!("upstream said Welcome twice");
                Ok(())
            }
            None => {
                warn!("upstream said something that this version does not know");
                Ok(())
            }
        }
    }

    async fn take_order(&mut self, wire: v1::Order) -> Result<(), Ended> {
        let came = std::time::Instant::now();
        let id: String = wire.id.chars().take(ID_MAX_CHARS).collect();
        let answer = match Addressed::try_from(wire) {
            Ok(addressed) => self.admit(addressed).await?,
            Err(error) => Answer::Refused(Refusal::Invalid(error.chain())),
        };
        let admitted_in_us = u64::try_from(came.elapsed().as_micros()).unwrap_or(u64::MAX);
        info!(order = id, admitted_in_us, "order {id}: {answer:?}");
        self.send(Up::Ack(ack(id, &answer))).await
    }

    async fn admit(&self, addressed: Addressed) -> Result<Answer, Ended> {
        let order = addressed.order.clone();
        let answer = self.link.ledger.admit(addressed, self.link.host.view()?, Moment::now()).await?;
        match answer {
            Answer::Accepted | Answer::StillOpen => self.link.orders.carry_out(&order),
            Answer::Ended(_) | Answer::Refused(_) => {}
        }
        Ok(answer)
    }

    async fn tell_pods(&mut self) -> Result<(), Ended> {
        for report in self.link.reports.take() {
            self.send(up_of(report)).await?;
        }
        Ok(())
    }

    async fn tell_outcomes(&mut self) -> Result<(), Ended> {
        let told = &self.told;
        let (new, unconfirmed) = self.link.ledger.read(|book| {
            let unconfirmed: BTreeSet<_> = book.unconfirmed().map(|entry| entry.id().clone()).collect();
            let new = book.unconfirmed().filter(|entry| !told.contains(entry.id())).filter_map(update);
            (new.collect::<Vec<_>>(), unconfirmed)
        });
        // Whoever hears that an order has ended finds the pod as that has left it.
        self.tell_pods().await?;
        for update in new {
            self.send(Up::Update(update)).await?;
        }
        // Confirmed ones are forgotten here, so that this does not grow.
        self.told = unconfirmed;
        Ok(())
    }

    /// One message of events at a time: while upstream is busy they gather in the journal, which has bounds.
    async fn tell_events(&mut self) -> Result<(), Ended> {
        let journal = self.link.reports.journal();
        let batch = journal.unconfirmed(EVENTS);
        if !matches!(self.events, Telling::Idle) || batch.events.is_empty() {
            return Ok(());
        }
        self.events = Telling::UnderWay(batch.last);
        let events = v1::EventBatch {
            last: batch.last,
            events: batch.events.iter().map(Into::into).collect(),
            lost: batch.lost,
            agent_started_at_ms: journal.began_ms(),
        };
        self.send(Up::Events(events)).await
    }

    async fn events_seen(&mut self, last: u64) -> Result<(), Ended> {
        if !matches!(self.events, Telling::UnderWay(told) if told == last) {
            warn!(last, "upstream has seen events up to {last}, which it was not told");
            return Ok(());
        }
        self.events = Telling::Idle;
        self.link.reports.journal().confirm(last);
        self.tell_events().await
    }

    async fn tell_facts(&mut self) -> Result<(), Ended> {
        let facts = match self.link.host.facts().await {
            Ok(facts) => facts,
            Err(error) => {
                warn!("facts are not told: {error}");
                return Ok(());
            }
        };
        if facts != self.facts {
            self.facts = facts.clone();
            self.send(Up::Facts(facts)).await?;
        }
        Ok(())
    }

    async fn send(&self, up: Up) -> Result<(), Ended> {
        let sent = timeout(SEND_TIMEOUT, self.up.send(message(up))).await;
        sent.map_err(|_| Ended::Stuck)?.map_err(|_| Ended::Closed)
    }
}

impl<H: Host, O: Orders> Link<H, O> {
    /// The first message, and whose outcomes it tells.
    fn hello(&self, facts: v1::NodeFacts) -> (v1::Hello, BTreeSet<OrderId>) {
        let pods = hello_pods(&self.reports);
        let (term, updates) =
            self.ledger.read(|book| (book.term.0, book.unconfirmed().filter_map(update).collect::<Vec<_>>()));
        let told = updates.iter().filter_map(|update| update.order_id.parse().ok()).collect();
        let node = self.config.node.to_string();
        (v1::Hello { node, term, facts: Some(facts), pods, updates }, told)
    }
}

fn hello_pods(reports: &Reports) -> Vec<v1::PodStatus> {
    reports.take_all().iter().map(Into::into).collect()
}

fn update(entry: &OrderEntry) -> Option<v1::OrderUpdate> {
    let outcome = entry.unconfirmed()?;
    Some(v1::OrderUpdate { order_id: entry.id().to_string(), outcome: Some(outcome.into()) })
}

fn up_of(report: Report) -> Up {
    match report {
        Report::Status(status) => Up::PodStatus(status.as_ref().into()),
        Report::Gone(pod, incarnation) => {
            Up::PodGone(v1::PodGone { pod: Some((&pod).into()), incarnation: incarnation.0 })
        }
    }
}

fn ack(order_id: String, answer: &Answer) -> v1::OrderAck {
    use v1::order_ack::{Accepted, Answer as Wire};
    let answer = match answer {
        Answer::Accepted | Answer::StillOpen => Wire::Accepted(Accepted {}),
        Answer::Ended(outcome) => Wire::Already(outcome_of(outcome)),
        Answer::Refused(refusal) => Wire::Refused(refusal.into()),
    };
    v1::OrderAck { order_id, answer: Some(answer) }
}

fn outcome_of(outcome: &Outcome) -> v1::Outcome {
    outcome.into()
}

fn message(message: Up) -> v1::NodeMessage {
    v1::NodeMessage { message: Some(message) }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
