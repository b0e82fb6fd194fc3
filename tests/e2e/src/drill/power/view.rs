//! What the control plane and the node's ledger say, each for itself.

use crate::Fleet;
use anyhow::{Context, Result};
use berth_lab::Guest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An order, as one of the two has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OrderView {
    pub(crate) id: String,
    /// The control plane's word for how far it is; empty on the node.
    pub(crate) state: String,
    /// How it ended, as JSON; null while it is open.
    pub(crate) outcome: Value,
}

impl OrderView {
    /// Whether the node has answered for it: from then on it stands in the node's ledger.
    pub(crate) fn is_acknowledged(&self) -> bool {
        matches!(self.state.as_str(), "accepted" | "done" | "failed") && !self.is_withdrawn()
    }

    /// Whether the control plane has taken it back before the node heard of it.
    fn is_withdrawn(&self) -> bool {
        let why = self.outcome["failed"]["details"]["why"].as_str();
        why.is_some_and(|why| why.ends_with("before any node was told of it"))
    }
}

/// A pod, as the control plane has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodView {
    pub(crate) state: String,
    pub(crate) incarnation: u64,
    /// What was assigned to it.
    pub(crate) address: Option<String>,
}

/// The control plane's side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ControlView {
    pub(crate) orders: Vec<OrderView>,
    /// By `namespace/name`.
    pub(crate) pods: BTreeMap<String, PodView>,
}

impl ControlView {
    pub(crate) fn of(fleet: &Fleet) -> Result<Self> {
        let orders = orders(&fleet.berth_json(&["orders"])?)?;
        let pods = fleet.berth_json(&["get"])?;
        let pods = pods.as_array().context("the control plane lists its pods")?;
        let pods = pods.iter().map(|pod| Ok((name(&pod["pod"])?, pod_view(pod)))).collect::<Result<_>>()?;
        Ok(Self { orders, pods })
    }

    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = &OrderView> {
        self.orders.iter().filter(|order| order.is_acknowledged())
    }

    /// How many system disks may be kept for pods that are on no node.
    pub(crate) fn kept_disks(&self) -> usize {
        self.pods.values().filter(|pod| matches!(pod.state.as_str(), "Evicted" | "Failed")).count()
    }
}

fn pod_view(pod: &Value) -> PodView {
    PodView {
        state: pod["state"].as_str().unwrap_or_default().to_owned(),
        incarnation: pod["incarnation"].as_u64().unwrap_or(0),
        address: pod["spec"]["addresses"][0]["address"].as_str().map(str::to_owned),
    }
}

/// A pod, as the node has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LocalPod {
    pub(crate) run_state: String,
    pub(crate) next_step: String,
    pub(crate) sandbox: Option<String>,
    pub(crate) containers: BTreeSet<String>,
    /// The name of its slice.
    pub(crate) slice: Option<String>,
}

/// The node's side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeView {
    pub(crate) orders: Vec<OrderView>,
    /// By `namespace/name`.
    pub(crate) pods: BTreeMap<String, LocalPod>,
}

impl NodeView {
    pub(crate) fn of(guest: &Guest) -> Result<Self> {
        let ask = |what: &str| -> Result<Value> {
            let said = guest.run_ok(&format!("berthctl -o json {what}"))?;
            serde_json::from_str(&said).with_context(|| format!("understand berthctl {what}"))
        };
        let orders = orders(&ask("orders")?)?;
        let pods = ask("pods")?;
        let pods = pods.as_array().context("the node lists its pods")?;
        let pods =
            pods.iter().map(|pod| Ok((name(&pod["status"]["pod"])?, local(pod)))).collect::<Result<_>>()?;
        Ok(Self { orders, pods })
    }
}

fn local(pod: &Value) -> LocalPod {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let status = &pod["status"];
    let containers = status["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let cgroup = text(&status["applied"]["cgroup"]);
    LocalPod {
        run_state: text(&pod["runState"]).unwrap_or_default(),
        next_step: text(&pod["nextStep"]).unwrap_or_default(),
        sandbox: text(&status["sandboxId"]),
        containers: containers.iter().filter_map(|container| text(&container["id"])).collect(),
        slice: cgroup.and_then(|path| path.rsplit('/').next().map(str::to_owned)),
    }
}

fn name(pod: &Value) -> Result<String> {
    let part = |key: &str| pod[key].as_str().with_context(|| format!("{pod} is no pod's identity"));
    Ok(format!("{}/{}", part("namespace")?, part("name")?))
}

fn orders(said: &Value) -> Result<Vec<OrderView>> {
    let understand = |record: &Value| {
        Ok(OrderView {
            id: record["order"]["id"].as_str().context("an order has an id")?.to_owned(),
            state: record["state"].as_str().unwrap_or_default().to_owned(),
            outcome: record["outcome"].clone(),
        })
    };
    said.as_array().context("orders are a list")?.iter().map(understand).collect()
}
