//! Every RPC on the port for peers, by every identity.

use super::{Source, disk};
use crate::testing::pod;
use berth_access::{Answer, Authority, Credentials, Holds, Rpc, Table, Usage, call, dial, first, rpcs};
use berth_proto::v1;
use berth_proto::v1::peer_client::PeerClient;
use std::net::SocketAddr;
use tonic::Code;

/// Services that peers have no business with.
const ELSEWHERE: [&str; 5] = ["Platform", "NodeLink", "Enrollment", "Node", "Ipam"];

#[derive(Clone, Copy)]
enum Who {
    /// Nobody that is let in.
    Nobody,
    /// A node to which nothing is offered.
    Node,
    /// The node to which the disk is offered.
    Offered,
}

/// An RPC that is not judged here fails the test: say for whom it is.
fn expected(rpc: &Rpc, who: Who) -> Answer {
    let fetches = rpc.is("Peer/FetchDisk");
    assert!(fetches || ELSEWHERE.contains(&rpc.service.as_str()), "{rpc} is not judged");
    Answer::Code(match (who, fetches) {
        (Who::Nobody, _) => return Answer::NoConnection,
        (Who::Node | Who::Offered, false) => Code::Unimplemented,
        (Who::Node, true) => Code::PermissionDenied,
        (Who::Offered, true) => Code::Ok,
    })
}

type Column = (&'static str, Option<Credentials>, Who);

fn columns(ours: &Authority) -> Vec<Column> {
    const OFFERED: &str = "spiffe://berth.test/node/n2";
    let foreign = Authority::new();
    let at = |holds: Holds| Some(ours.issue(&[OFFERED], Usage::Client, holds));
    let with = |uris: &[&str]| Some(ours.client(uris));
    let control = |usage: Usage| Some(ours.issue(&["spiffe://berth.test/control"], usage, Holds::Now));
    vec![
        ("no certificate", None, Who::Nobody),
        ("an expired one", at(Holds::LongAgo), Who::Nobody),
        ("one that is not valid yet", at(Holds::InYears), Who::Nobody),
        ("a foreign authority's", Some(foreign.client(&[OFFERED])), Who::Nobody),
        ("one of another trust domain", with(&["spiffe://other.test/node/n2"]), Who::Nobody),
        ("one that names nobody", with(&[]), Who::Nobody),
        ("one that names two nodes", with(&[OFFERED, "spiffe://berth.test/node/n3"]), Who::Nobody),
        ("a platform's", with(&["spiffe://berth.test/platform/n2"]), Who::Nobody),
        ("the control plane's", control(Usage::Server), Who::Nobody),
        ("the control plane's, made for clients", control(Usage::Client), Who::Nobody),
        ("another node's", with(&["spiffe://berth.test/node/n3"]), Who::Node),
        ("the node's to which the disk is offered", with(&[OFFERED]), Who::Offered),
    ]
}

async fn answer(port: SocketAddr, shown: Option<&Credentials>, rpc: &Rpc) -> Answer {
    let Ok(channel) = dial(port, shown).await else { return Answer::NoConnection };
    if !rpc.is("Peer/FetchDisk") {
        return call(channel, rpc).await;
    }
    let request =
        v1::FetchDiskRequest { pod: Some((&pod()).into()), incarnation: 3, disk: disk().to_string() };
    first(PeerClient::new(channel).fetch_disk(request).await).await
}

#[tokio::test]
async fn every_rpc_by_every_identity() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    source.offer(2, "n2").await;
    let columns = columns(&authority);
    let mut table = Table::new("a node's port for peers", columns.iter().map(|(who, ..)| *who));
    for rpc in rpcs() {
        let mut cells = Vec::new();
        for (_, shown, who) in &columns {
            cells.push((answer(source.address, shown.as_ref(), &rpc).await, expected(&rpc, *who)));
        }
        table.row(&rpc, &cells);
    }
    table.finish();
}
