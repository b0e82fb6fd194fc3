//! `berth node`: what only a person can know of a node.

use super::Session;
use super::in_place::WhyArgs;
use crate::failure::Result;
use crate::output;
use crate::program::{ask, request};
use crate::table;
use berth_model::NodeName;
use berth_proto::v1;
use clap::{Args, Subcommand};

/// Say what only a person can know of a node
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    ConfirmDead(ConfirmDead),
    Revoke(Revoke),
}

/// Confirm that a silent node is powered off, or cut off for good
///
/// Its pods count as stopped from then on and may run elsewhere with the same addresses: if the node still runs, two
/// will answer to one address. When it comes back, what it still has of them is evicted by order first.
#[derive(Debug, Args)]
pub(crate) struct ConfirmDead {
    /// Which node
    pub node: NodeName,
    #[command(flatten)]
    pub why: WhyArgs,
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  berth node revoke node-1 --reason 'a disk was sent back unwiped'
  berth-control token create --node node-1      and then, on the node: berthd join --replace";

/// Trust no certificate any more that a node was given until now
///
/// The control plane cuts the node's connection at once and takes none again until the node has joined with a fresh
/// token. Its pods run on meanwhile, and orders for it wait. Other nodes, which it may give disks to and take them
/// from, go by the certificate alone, and believe an old one until it ends.
#[derive(Debug, Args)]
#[command(after_long_help = REVOKE_EXAMPLES)]
pub(crate) struct Revoke {
    /// Which node
    pub node: NodeName,
    #[command(flatten)]
    pub why: WhyArgs,
}

pub(super) async fn run(session: &Session, node: &Node) -> Result<()> {
    let record = match node {
        Node::ConfirmDead(wish) => confirm_dead(session, wish).await?,
        Node::Revoke(wish) => revoke(session, wish).await?,
    };
    session.output.message(&record, |style| table::node(&record, output::now_ms(), style))
}

async fn confirm_dead(session: &Session, wish: &ConfirmDead) -> Result<v1::NodeRecord> {
    let mut client = session.client().await?;
    let name = &wish.node;
    let message = v1::ConfirmNodeDeadRequest { node: name.to_string(), reason: wish.why.reason.clone() };
    ask(&format!("confirm that node {name} is dead"), client.confirm_node_dead(request(message))).await
}

async fn revoke(session: &Session, wish: &Revoke) -> Result<v1::NodeRecord> {
    let mut client = session.client().await?;
    let name = &wish.node;
    let message = v1::RevokeNodeRequest { node: name.to_string(), reason: wish.why.reason.clone() };
    ask(&format!("revoke the certificates of node {name}"), client.revoke_node(request(message))).await
}
