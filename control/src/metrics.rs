//! The fleet's numbers for a monitoring system.
//!
//! What they are made of is copied under the lock, which is quick; they are put into words after.

use crate::clock::Moment;
use crate::core::Core;
use crate::flow::PodState;
use crate::state::{NodeState, OrderRecord, Tx};
use berth_metrics::{Labels, Sheet, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where the numbers come from.
pub(crate) struct ControlMetrics {
    core: Arc<Core>,
    certificate_expires_at_ms: u64,
}

impl ControlMetrics {
    /// The certificate is the server's: when it ends, milliseconds after the epoch.
    pub(crate) fn new(core: Arc<Core>, certificate_expires_at_ms: u64) -> Self {
        Self { core, certificate_expires_at_ms }
    }
}

impl Source for ControlMetrics {
    async fn sheet(&self) -> Result<Sheet, String> {
        let counted = self.core.act(count).await.map_err(|error| error.to_string())?;
        Ok(tell(&Counted { certificate_expires_at_ms: self.certificate_expires_at_ms, ..counted }))
    }
}

/// Everything that is told, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counted {
    term: u64,
    certificate_expires_at_ms: u64,
    nodes: BTreeMap<&'static str, u64>,
    pods: BTreeMap<&'static str, u64>,
    /// How many are open, and how old the oldest is, milliseconds.
    open: BTreeMap<&'static str, (u64, u64)>,
    ended: BTreeMap<(&'static str, &'static str), u64>,
    each_node: Vec<NodeNumbers>,
}

/// What placement goes by.
#[derive(Debug, Clone, PartialEq)]
struct NodeNumbers {
    name: String,
    /// Milliseconds after the epoch; 0 if never.
    last_heartbeat_ms: u64,
    pods: u64,
    memory: u64,
    memory_requested: u64,
    free_cpus: u64,
}

fn count(tx: &mut Tx<'_>) -> Counted {
    let now = tx.now();
    tx.unrecorded().freshen_views(now);
    let each_node = tx.views.list().iter().map(|view| NodeNumbers {
        name: view.name.to_string(),
        last_heartbeat_ms: tx.nodes().get(&view.name).map_or(0, |node| node.last_heartbeat_wall_ms),
        pods: u64::from(view.pods),
        memory: view.memory_capacity.0,
        memory_requested: view.memory_requested.0,
        free_cpus: u64::try_from(view.free_cpus.len()).unwrap_or(u64::MAX),
    });
    let mut counted = Counted {
        term: tx.term(),
        ended: tx.ended_orders().clone(),
        each_node: each_node.collect(),
        ..Counted::default()
    };
    for node in tx.nodes().values() {
        *counted.nodes.entry(node_state(node.state(now))).or_default() += 1;
    }
    for pod in tx.pods().values() {
        *counted.pods.entry(pod_state(pod.standing.state)).or_default() += 1;
    }
    tx.orders().values().filter(|order| order.is_open()).for_each(|order| counted.add_open(order, now));
    counted
}

impl Counted {
    fn add_open(&mut self, order: &OrderRecord, now: Moment) {
        let (number, oldest_ms) = self.open.entry(order.verb()).or_default();
        *number += 1;
        *oldest_ms = (*oldest_ms).max(now.wall_ms.saturating_sub(order.created_at_ms));
    }
}

/// Stable, for programs.
fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joined => "joined",
        NodeState::Ready => "ready",
        NodeState::Silent => "silent",
        NodeState::Dead => "dead",
    }
}

/// Stable, for programs.
fn pod_state(state: PodState) -> &'static str {
    match state {
        PodState::Placed => "placed",
        PodState::Running => "running",
        PodState::Stopping => "stopping",
        PodState::Stopped => "stopped",
        PodState::Evicting => "evicting",
        PodState::Evicted => "evicted",
        PodState::Failed => "failed",
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact for nine petabytes")]
fn float(number: u64) -> f64 {
    number as f64
}

/// All numbers of one moment.
fn tell(counted: &Counted) -> Sheet {
    let mut sheet = Sheet::new("berth_control");
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    sheet.info("build", "The control plane.", version);
    let help = "The control plane's term: it grows with every start, and with every change of leadership.";
    sheet.one("term", help, float(counted.term));
    let help = "When the server's certificate ends, seconds after the epoch: berth-control ca server makes another one.";
    sheet.one("certificate_expiry_timestamp_seconds", help, float(counted.certificate_expires_at_ms) / 1e3);
    let state = |counts: &BTreeMap<&'static str, u64>, name: &'static str| {
        (vec![("state", name.to_owned())], float(counts.get(name).copied().unwrap_or_default()))
    };
    let rows = NodeState::ALL.map(|of| state(&counted.nodes, node_state(of)));
    sheet.gauge("nodes", "Nodes that have joined, by their state.", rows);
    let rows = PodState::ALL.map(|of| state(&counted.pods, pod_state(of)));
    sheet.gauge("pods", "Pods that the control plane knows, by their state.", rows);
    orders(&mut sheet, counted);
    each_node(&mut sheet, &counted.each_node);
    sheet
}

fn orders(sheet: &mut Sheet, counted: &Counted) {
    // A verb that was ever asked for is told of from then on, also where none is open.
    let verbs: BTreeSet<_> = counted.open.keys().chain(counted.ended.keys().map(|(verb, _)| verb)).collect();
    let open = |verb: &str| counted.open.get(verb).copied().unwrap_or_default();
    let label = |verb: &str| vec![("verb", verb.to_owned())];
    let rows = verbs.iter().map(|verb| (label(verb), float(open(verb).0)));
    sheet.gauge("open_orders", "Orders without an outcome, by verb.", rows);
    let help = "For how long the oldest order without an outcome is open, by verb; 0 where none is.";
    let rows = verbs.iter().map(|verb| (label(verb), float(open(verb).1) / 1e3));
    sheet.gauge("oldest_open_order_seconds", help, rows);
    let rows = counted.ended.iter().map(|((verb, outcome), number)| {
        let outcome = ("outcome", outcome.replace(' ', "_"));
        ([label(verb), vec![outcome]].concat(), float(*number))
    });
    let help = "Orders that have ended since the control plane began, by verb and outcome.";
    sheet.counter("ended_orders", help, rows);
}

fn each_node(sheet: &mut Sheet, nodes: &[NodeNumbers]) {
    let rows = |number: fn(&NodeNumbers) -> Option<f64>| {
        let row = move |node: &NodeNumbers| -> Option<(Labels, f64)> {
            Some((vec![("node", node.name.clone())], number(node)?))
        };
        nodes.iter().filter_map(row)
    };
    let help = "When the node was last heard of, seconds after the epoch; absent if never.";
    let heard = rows(|node| (node.last_heartbeat_ms > 0).then(|| float(node.last_heartbeat_ms) / 1e3));
    sheet.gauge("node_last_heartbeat_timestamp_seconds", help, heard);
    sheet.gauge(
        "node_pods",
        "Pods of the node, those that are on their way there included.",
        rows(|node| Some(float(node.pods))),
    );
    let help = "Memory of the node for pods.";
    sheet.gauge("node_memory_bytes", help, rows(|node| Some(float(node.memory))));
    let help = "Memory that the node's pods have reserved.";
    sheet.gauge("node_memory_requested_bytes", help, rows(|node| Some(float(node.memory_requested))));
    let help = "CPUs that pods could have for themselves alone.";
    sheet.gauge("node_free_cpus", help, rows(|node| Some(float(node.free_cpus))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_name() {
        let node = NodeNumbers {
            name: "node-1".to_owned(),
            last_heartbeat_ms: 1_500,
            pods: 2,
            memory: 4096,
            memory_requested: 1024,
            free_cpus: 3,
        };
        let never = NodeNumbers { name: "node-2".to_owned(), last_heartbeat_ms: 0, ..node.clone() };
        let counted = Counted {
            term: 7,
            certificate_expires_at_ms: 2_500,
            nodes: [("ready", 2)].into(),
            pods: [("running", 1)].into(),
            open: [("Run", (1, 2_500))].into(),
            ended: [(("Run", "done"), 3), (("Upgrade", "rolled back"), 1)].into(),
            each_node: vec![node, never],
        };
        let text = tell(&counted).text();
        let rows = berth_metrics::catalogue(&text);
        let said = include_str!("../../docs/observability.md").contains(&format!("--- |\n{rows}\n"));
        assert!(said, "docs/observability.md has to say exactly:\n{rows}");
        let values: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        insta::assert_snapshot!(values);
    }
}
