//! The control plane without a disk, sockets and clocks: what is said to it, and what it orders.

use crate::clock::Moment;
use crate::heard::Heard;
use crate::state::{Settings, State, Tx};
use berth_model::{NodeName, PodRequest};
use berth_proto::{InvalidMessage, v1};
use ulid::Ulid;

/// A fleet that exists only here, of one node that has joined. Time stands still, and ids follow one another, so the same
/// words have the same answer every time.
#[derive(Debug)]
pub struct Rehearsal {
    state: State,
    node: NodeName,
}

impl Rehearsal {
    /// As after a first start: the node has joined and not been heard of.
    pub fn new(node: NodeName) -> Self {
        let mut state = State::new(Settings {
            heartbeat_ms: 10_000,
            lease_ms: 40_000,
            run_deadline_ms: 600_000,
            order_deadline_ms: 300_000,
            copy_deadline_ms: 3_600_000,
            max_pods_per_node: 500,
        });
        // Fresh ids are random, those after another one are not.
        state.last_id = Ulid::from_parts(1, 0);
        let mut rehearsal = Self { state, node };
        let node = rehearsal.node.clone();
        rehearsal.act(|tx| {
            tx.begin_term();
            tx.join(&node);
        });
        rehearsal
    }

    /// The node says something over its link.
    ///
    /// # Errors
    /// What the node is told when its link is ended for it.
    pub fn hear(&mut self, message: v1::NodeMessage) -> Result<(), String> {
        let message = message.message.ok_or_else(|| InvalidMessage::missing("message").chain())?;
        let node = self.node.clone();
        match Heard::try_from(message).map_err(|error| error.chain())? {
            Heard::Hello(greeting) => {
                let strangers = self.act(|tx| tx.hello(&node, *greeting));
                strangers.map(drop).map_err(|denied| denied.to_string())
            }
            heard => {
                self.act(|tx| heard.tell(tx, &node));
                Ok(())
            }
        }
    }

    /// A platform submits a pod.
    ///
    /// # Errors
    /// What the platform is told.
    pub fn submit(&mut self, request: PodRequest) -> Result<(), String> {
        self.act(|tx| tx.submit(request, 0)).map_err(|denied| denied.to_string())
    }

    /// A platform adds an address pool.
    ///
    /// # Errors
    /// What the platform is told.
    pub fn put_pool(&mut self, pool: &v1::AddressPool) -> Result<(), String> {
        self.act(|tx| tx.put_pool(pool)).map(drop).map_err(|denied| denied.to_string())
    }

    /// The orders that the node is to have and has not ended, oldest first.
    pub fn open_orders(&self) -> Vec<v1::Order> {
        self.state.orders_to_send(&self.node).into_iter().map(|(_, record)| record.to_wire()).collect()
    }

    fn act<R>(&mut self, change: impl FnOnce(&mut Tx<'_>) -> R) -> R {
        let mut tx = Tx::begin(&mut self.state, Moment { wall_ms: 0, mono_ms: 0 });
        let result = change(&mut tx);
        // Rows are made, and go nowhere.
        tx.finish();
        result
    }
}
