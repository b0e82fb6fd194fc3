//! Every RPC tried by every identity, on both ports. `cargo test -p berth-control --test access_table -- --nocapture`
//! shows the tables.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_access::{Answer, Authority, Credentials, Holds, Rpc, Table, Usage, call, dial, first, rpcs};
use berth_proto::v1;
use berth_proto::v1::node_link_client::NodeLinkClient;
use berth_proto::v1::node_message::Message as FromNode;
use common::{Fleet, hello};
use std::net::SocketAddr;
use tonic::Code;
use tonic::transport::Channel;

/// Every RPC of `Platform`, and what a platform hears that asks for nothing: whoever hears that was let in.
const PLATFORM: [(&str, Code); 32] = [
    ("SubmitPod", Code::InvalidArgument),
    ("GetPod", Code::InvalidArgument),
    ("ListPods", Code::Ok),
    ("WatchPods", Code::Ok),
    ("EvictPod", Code::InvalidArgument),
    ("ReleasePod", Code::InvalidArgument),
    ("StopPod", Code::InvalidArgument),
    ("StartPod", Code::InvalidArgument),
    ("RestartPod", Code::InvalidArgument),
    ("UpgradePod", Code::InvalidArgument),
    ("ResizePod", Code::InvalidArgument),
    ("ListOrders", Code::Ok),
    ("WatchEvents", Code::Ok),
    ("StartRollout", Code::InvalidArgument),
    ("GetRollout", Code::InvalidArgument),
    ("ListRollouts", Code::Ok),
    ("ChangeRollout", Code::InvalidArgument),
    ("MigratePod", Code::InvalidArgument),
    ("AbortMigration", Code::InvalidArgument),
    ("GetMigration", Code::InvalidArgument),
    ("ListMigrations", Code::Ok),
    ("ConfirmNodeDead", Code::InvalidArgument),
    ("RevokeNode", Code::InvalidArgument),
    ("ListNodes", Code::Ok),
    ("GetNode", Code::InvalidArgument),
    ("SetSharedCpus", Code::InvalidArgument),
    ("PullImage", Code::InvalidArgument),
    ("InspectNode", Code::InvalidArgument),
    ("PutPool", Code::InvalidArgument),
    ("ListPools", Code::Ok),
    ("ListTenures", Code::Ok),
    ("DeletePool", Code::InvalidArgument),
];

/// Services that only nodes serve.
const OF_NODES: [&str; 3] = ["Node", "Ipam", "Peer"];

/// Who tries the port that asks for no certificate.
const ENROLLING: [&str; 4] =
    ["no certificate", "a foreign authority's platform's", "the node's", "a platform's"];

/// Whom an RPC is for.
enum For {
    /// Platforms, which hear this.
    Platforms(Code),
    /// The node that it is about.
    Node,
    /// Any node: it is about the one that calls, which hears that it has asked for nothing.
    Nodes,
    /// Strangers, on the enrollment port.
    Strangers,
    /// Nobody: it is served elsewhere.
    Nobody,
}

/// An RPC that is not judged here fails the test: say for whom it is.
fn judge(rpc: &Rpc) -> For {
    match rpc.service.as_str() {
        "Platform" => {
            let judged = PLATFORM.iter().find(|(method, _)| *method == rpc.method);
            For::Platforms(judged.unwrap_or_else(|| panic!("{rpc} is not judged")).1)
        }
        "NodeLink" if rpc.method == "Link" => For::Node,
        "NodeLink" if rpc.method == "Renew" => For::Nodes,
        "Enrollment" if rpc.method == "Join" => For::Strangers,
        service if OF_NODES.contains(&service) => For::Nobody,
        _ => panic!("{rpc} is not judged"),
    }
}

/// Who a certificate is for, once it is accepted.
#[derive(Clone, Copy)]
enum Who {
    /// It is not accepted.
    Nobody,
    /// The control plane, which calls nobody.
    Control,
    /// The node that the Hello names.
    Node,
    /// Another node than the Hello names.
    OtherNode,
    Platform,
}

/// What the main port answers.
fn expected(rpc: &Rpc, who: Who) -> Answer {
    Answer::Code(match (judge(rpc), who) {
        (_, Who::Nobody) => return Answer::NoConnection,
        (For::Platforms(code), Who::Platform) => code,
        (For::Node, Who::Node) => Code::Ok,
        (For::Nodes, Who::Node | Who::OtherNode) => Code::InvalidArgument,
        (For::Platforms(_), Who::Control | Who::Node | Who::OtherNode) => Code::PermissionDenied,
        (For::Node, Who::Control | Who::OtherNode | Who::Platform) => Code::PermissionDenied,
        (For::Nodes, Who::Control | Who::Platform) => Code::PermissionDenied,
        (For::Strangers | For::Nobody, Who::Control | Who::Node | Who::OtherNode | Who::Platform) => {
            Code::Unimplemented
        }
    })
}

type Column = (&'static str, Option<Credentials>, Who);

/// Good certificates of every kind, and each way in which one can be bad: for a platform and for a node, since some
/// RPCs are for the one and some for the other.
fn columns(ours: &Authority, control: Credentials) -> Vec<Column> {
    const NODE: &str = "spiffe://berth.test/node/n1";
    const PLATFORM: &str = "spiffe://berth.test/platform/ops";
    let foreign = Authority::new();
    let at = |uri: &str, holds: Holds| Some(ours.issue(&[uri], Usage::Client, holds));
    let with = |uris: &[&str]| Some(ours.client(uris));
    let theirs = |uri: &str| Some(foreign.client(&[uri]));
    let serving = |uri: &str| Some(ours.issue(&[uri], Usage::Server, Holds::Now));
    vec![
        ("no certificate", None, Who::Nobody),
        ("an expired node's", at(NODE, Holds::LongAgo), Who::Nobody),
        ("an expired platform's", at(PLATFORM, Holds::LongAgo), Who::Nobody),
        ("a node's, not valid yet", at(NODE, Holds::InYears), Who::Nobody),
        ("a platform's, not valid yet", at(PLATFORM, Holds::InYears), Who::Nobody),
        ("a foreign authority's node's", theirs(NODE), Who::Nobody),
        ("a foreign authority's platform's", theirs(PLATFORM), Who::Nobody),
        ("a node's of another trust domain", with(&["spiffe://other.test/node/n1"]), Who::Nobody),
        ("a platform's of another trust domain", with(&["spiffe://other.test/platform/ops"]), Who::Nobody),
        ("one that names nobody", with(&[]), Who::Nobody),
        ("one that names a node and a platform", with(&[NODE, PLATFORM]), Who::Nobody),
        ("a node's, made for servers", serving(NODE), Who::Nobody),
        ("the control plane's own", Some(control), Who::Nobody),
        ("the control plane's, made for clients", with(&["spiffe://berth.test/control"]), Who::Control),
        ("another node's", with(&["spiffe://berth.test/node/n2"]), Who::OtherNode),
        ("the node's", with(&[NODE]), Who::Node),
        ("a platform's", with(&[PLATFORM]), Who::Platform),
    ]
}

/// Says hello as n1, whoever calls.
async fn link(channel: Channel) -> Answer {
    let message = Some(FromNode::Hello(hello("n1")));
    // The stream stays open: it is for the server to end it.
    let (open, messages) = tokio::sync::mpsc::channel(1);
    open.send(v1::NodeMessage { message }).await.unwrap();
    first(NodeLinkClient::new(channel).link(tokio_stream::wrappers::ReceiverStream::new(messages)).await)
        .await
}

async fn answer(port: SocketAddr, shown: Option<&Credentials>, rpc: &Rpc) -> Answer {
    match dial(port, shown).await {
        Err(_) => Answer::NoConnection,
        Ok(channel) if rpc.is("NodeLink/Link") => link(channel).await,
        Ok(channel) => call(channel, rpc).await,
    }
}

async fn fill(title: &str, port: SocketAddr, columns: &[Column], expected: impl Fn(&Rpc, Who) -> Answer) {
    let mut table = Table::new(title, columns.iter().map(|(who, ..)| *who));
    for rpc in rpcs() {
        let mut cells = Vec::new();
        for (_, shown, who) in columns {
            cells.push((answer(port, shown.as_ref(), &rpc).await, expected(&rpc, *who)));
        }
        table.row(&rpc, &cells);
    }
    table.finish();
}

#[tokio::test]
async fn every_rpc_by_every_identity() {
    let fleet = Fleet::start().await;
    for node in ["n1", "n2"] {
        fleet.join(node).await;
    }
    let read = |name: &str| std::fs::read_to_string(fleet.config.pki_dir().join(name)).unwrap();
    let ours = Authority::from_pem(read("ca.crt"), &read("ca.key"));
    let control = Credentials { certificate_pem: read("control.crt"), key_pem: read("control.key") };
    let columns = columns(&ours, control);
    fill("the control plane's main port", fleet.serving().listen, &columns, expected).await;
    // The enrollment port asks for no certificate, so that none helps; a token does.
    let enrolling = |rpc: &Rpc, _: Who| {
        Answer::Code(match judge(rpc) {
            For::Strangers => Code::Unauthenticated,
            For::Platforms(_) | For::Node | For::Nodes | For::Nobody => Code::Unimplemented,
        })
    };
    let any: Vec<Column> = columns.into_iter().filter(|(who, ..)| ENROLLING.contains(who)).collect();
    assert_eq!(any.len(), ENROLLING.len());
    fill("the control plane's enrollment port", fleet.serving().enroll_listen, &any, enrolling).await;
}

#[test]
fn nothing_is_judged_that_is_not_there() {
    let rpcs = rpcs();
    for (method, _) in PLATFORM {
        assert!(
            rpcs.iter().any(|rpc| rpc.is(&format!("Platform/{method}"))),
            "there is no RPC Platform/{method}"
        );
    }
    for service in OF_NODES {
        assert!(rpcs.iter().any(|rpc| rpc.service == service), "there is no service {service}");
    }
}
