//! Who may call what, and how a node gets its certificate.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_control::{Authority, Token, init_pki};
use berth_proto::v1;
use berth_proto::v1::enrollment_client::EnrollmentClient;
use berth_proto::v1::node_link_client::NodeLinkClient;
use berth_proto::v1::platform_client::PlatformClient;
use common::*;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};

/// What came of a call: its code, or that no connection came to be.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Answer {
    Code(Code),
    NoConnection,
}

fn code<T>(answer: Result<T, Status>) -> Answer {
    Answer::Code(answer.map_or_else(|status| status.code(), |_| Code::Ok))
}

/// Calls every RPC; most have nothing to be about, so that whoever may call hears of that.
async fn call(channel: Channel, rpc: &str) -> Answer {
    let mut platform = PlatformClient::new(channel.clone());
    let pod = || Some(pod_ref("nobody"));
    let node = || "nobody".to_owned();
    let reason = String::new;
    match rpc {
        "SubmitPod" => code(platform.submit_pod(v1::SubmitPodRequest { pod: None }).await),
        "GetPod" => code(platform.get_pod(v1::GetPodRequest { pod: pod() }).await),
        "ListPods" => code(platform.list_pods(v1::ListPodsRequest::default()).await),
        "WatchPods" => code(platform.watch_pods(v1::ListPodsRequest::default()).await),
        "EvictPod" => code(evict(&mut platform, "nobody", false).await),
        "ReleasePod" => {
            let request = v1::ReleasePodRequest { pod: pod(), reason: reason() };
            code(platform.release_pod(request).await)
        }
        "StopPod" => {
            let request = v1::StopPodRequest { pod: pod(), grace_ms: None, reason: reason() };
            code(platform.stop_pod(request).await)
        }
        "StartPod" => code(platform.start_pod(v1::StartPodRequest { pod: pod(), reason: reason() }).await),
        "ListOrders" => code(platform.list_orders(v1::ListOrdersRequest::default()).await),
        "ListNodes" => code(platform.list_nodes(v1::ListNodesRequest {}).await),
        "GetNode" => code(platform.get_node(v1::GetNodeRequest { node: node() }).await),
        "SetSharedCpus" => {
            let (pool, cpus) = ("default".to_owned(), "1".to_owned());
            let request = v1::SetSharedCpusRequest { node: node(), pool, cpus };
            code(platform.set_shared_cpus(request).await)
        }
        "PullImage" => {
            let image = "registry.example/a:1".to_owned();
            let request = v1::PullImageRequest { node: node(), image, digest: None };
            code(platform.pull_image(request).await)
        }
        "InspectNode" => code(platform.inspect_node(v1::InspectNodeRequest { node: node() }).await),
        "PutPool" => code(platform.put_pool(v1::AddressPool::default()).await),
        "ListPools" => code(platform.list_pools(v1::ListPoolsRequest { assignments: true }).await),
        "DeletePool" => code(platform.delete_pool(v1::DeletePoolRequest { name: node() }).await),
        "Link" => {
            let stream = tokio_stream::iter([v1::NodeMessage::default()]);
            code(NodeLinkClient::new(channel).link(stream).await)
        }
        "Join" => code(EnrollmentClient::new(channel).join(v1::JoinRequest::default()).await),
        other => panic!("no RPC {other}"),
    }
}

/// Every RPC, and what a platform hears that asks for nothing sensible.
const RPCS: [(&str, Code); 19] = [
    ("SubmitPod", Code::InvalidArgument),
    ("GetPod", Code::NotFound),
    ("ListPods", Code::Ok),
    ("WatchPods", Code::Ok),
    ("EvictPod", Code::NotFound),
    ("ReleasePod", Code::NotFound),
    ("StopPod", Code::NotFound),
    ("StartPod", Code::NotFound),
    ("ListOrders", Code::Ok),
    ("ListNodes", Code::Ok),
    ("GetNode", Code::NotFound),
    ("SetSharedCpus", Code::NotFound),
    ("PullImage", Code::NotFound),
    ("InspectNode", Code::NotFound),
    ("PutPool", Code::InvalidArgument),
    ("ListPools", Code::Ok),
    ("DeletePool", Code::NotFound),
    ("Link", Code::PermissionDenied),
    // Joining is served on a port of its own.
    ("Join", Code::Unimplemented),
];

fn foreign_authority(dir: &std::path::Path) -> Authority {
    init_pki(dir, &"berth.test".parse().unwrap(), &["localhost".to_owned()], since_epoch()).unwrap()
}

async fn answer_to(fleet: &Fleet, credentials: Option<&Credentials>, rpc: &str) -> Answer {
    match fleet.dial(credentials).await {
        Err(_) => Answer::NoConnection,
        Ok(channel) => match call(channel, rpc).await {
            // A client learns only from its first request that its handshake was refused.
            Answer::Code(Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled) => {
                Answer::NoConnection
            }
            answer => answer,
        },
    }
}

#[tokio::test]
async fn every_rpc_by_every_identity() {
    let fleet = Fleet::start().await;
    let foreign_dir = tempfile::tempdir().unwrap();
    let foreign = foreign_authority(foreign_dir.path());
    let ops = berth_tls::Identity::Platform("ops".parse().unwrap());
    let issued = foreign.issue_platform(&ops, since_epoch()).unwrap();
    let stranger = Credentials {
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
        ca_pem: String::new(),
    };
    let (platform, node) = (fleet.platform_credentials(), fleet.join("n1").await);
    for (rpc, of_platform) in RPCS {
        let of_node = match rpc {
            "Link" => Code::Ok,
            "Join" => Code::Unimplemented,
            _ => Code::PermissionDenied,
        };
        let table = [
            ("nobody", None, Answer::NoConnection),
            ("a foreign authority's platform", Some(&stranger), Answer::NoConnection),
            ("a node", Some(&node), Answer::Code(of_node)),
            ("a platform", Some(&platform), Answer::Code(of_platform)),
        ];
        for (who, credentials, expected) in table {
            assert_eq!(answer_to(&fleet, credentials, rpc).await, expected, "{rpc} by {who}");
        }
    }
}

#[tokio::test]
async fn a_server_certificate_is_no_clients() {
    let fleet = Fleet::start().await;
    let read = |name: &str| std::fs::read_to_string(fleet.config.pki_dir().join(name)).unwrap();
    let server = Credentials {
        certificate_pem: read("control.crt"),
        key_pem: read("control.key"),
        ca_pem: String::new(),
    };
    assert_eq!(answer_to(&fleet, Some(&server), "ListNodes").await, Answer::NoConnection);
}

#[tokio::test]
async fn a_node_links_as_itself_only() {
    let fleet = Fleet::start().await;
    let credentials = fleet.join("n1").await;
    fleet.join("n2").await;
    let check = async |hello: v1::Hello, expected: &str| {
        let error = FakeNode::connect_saying(&fleet, &credentials, hello).await.err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}");
    };
    check(hello("n2"), "the certificate is of node n1, the hello of").await;
    check(v1::Hello { facts: None, ..hello("n1") }, "facts: is missing").await;
    let facts = Some(v1::NodeFacts::default());
    check(v1::Hello { facts, ..hello("n1") }, "facts.topology: is missing").await;
    check(v1::Hello { term: u64::MAX, ..hello("n1") }, "part of another fleet").await;
    assert!(FakeNode::connect(&fleet, &credentials, "n1").await.is_ok());
}

#[tokio::test]
async fn one_nodes_word_moves_no_other_nodes_orders() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    let mut request = shared_pod("web");
    request.node = Some("n1".to_owned());
    submit(&mut platform, request).await.unwrap();
    let run = node.next_order().await;
    let (_, mut liar) = fleet.ready_node("n2").await;
    // The liar hears that its word was taken down; nothing follows from it.
    liar.done(&run).await;
    let status = v1::PodStatus {
        pod: Some(pod_ref("web")),
        incarnation: 1,
        phase: v1::PodPhase::Running.into(),
        ..v1::PodStatus::default()
    };
    liar.say(v1::node_message::Message::PodStatus(status)).await;
    // A link's messages are taken in one after the other: once this answer is there, so is the status.
    liar.seen.clear();
    liar.done(&run).await;
    let pod = get(&mut platform, "web").await.unwrap();
    assert_eq!((pod.state(), pod.status), (v1::PodState::Placed, None));
}

#[tokio::test]
async fn joining() {
    let fleet = Fleet::start().await;
    let minute = Duration::from_secs(60);
    let token = fleet.token(None, minute);
    fleet.join_with(&token, "n1").await.unwrap();
    let check = async |token: &Token, node: &str, code: Code, text: &str| {
        assert_denied(fleet.join_with(token, node).await, code, text);
    };
    check(&token, "n2", Code::Unauthenticated, "token was used already, by node n1").await;
    let expired = fleet.token(None, Duration::ZERO);
    check(&expired, "n2", Code::Unauthenticated, "token has expired").await;
    let bound = fleet.token(Some("n3"), minute);
    check(&bound, "n2", Code::Unauthenticated, "token is for node n3").await;
    let any = fleet.token(None, minute);
    check(&any, "n1", Code::Unauthenticated, "node n1 has joined before").await;
    check(&any, "N_1", Code::InvalidArgument, "node: name \"N_1\"").await;
    let made_up = Token::generate(fleet.authority.fingerprint()).unwrap();
    check(&made_up, "n2", Code::Unauthenticated, "token is unknown").await;
    // What was refused used nothing up.
    fleet.join_with(&any, "n2").await.unwrap();
    fleet.join_with(&bound, "n3").await.unwrap();
    fleet.join_with(&fleet.token(Some("n1"), minute), "n1").await.unwrap();
}

#[tokio::test]
async fn bad_certificate_requests_use_no_token_up() {
    let fleet = Fleet::start().await;
    let token = fleet.token(None, Duration::from_secs(60));
    let check = async |token: &str, pem: &str, code: Code, text: &str| {
        let request = v1::JoinRequest {
            token: token.to_owned(),
            node: "n1".to_owned(),
            certificate_request_pem: pem.to_owned(),
        };
        let answer = fleet.enrollment().await.join(request).await;
        assert_denied(answer, code, text);
    };
    let reveal = token.reveal();
    check("berth1.x", "", Code::Unauthenticated, "token is not of the form").await;
    check(&reveal, "", Code::InvalidArgument, "certificate_request_pem: certificate request is malformed")
        .await;
    check(&reveal, fleet.authority.certificate_pem(), Code::InvalidArgument, "malformed").await;
    check(&reveal, &"x".repeat(20_000), Code::InvalidArgument, "at most 16384").await;
    check(&reveal, &"x".repeat(100_000), Code::OutOfRange, "limit").await;
    fleet.join_with(&token, "n1").await.unwrap();
}

#[tokio::test]
async fn the_enrollment_port_serves_joining_only() {
    let fleet = Fleet::start().await;
    let credentials = fleet.platform_credentials();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(fleet.authority.certificate_pem()))
        .identity(Identity::from_pem(&credentials.certificate_pem, &credentials.key_pem))
        .domain_name("localhost");
    let channel = channel(fleet.serving().enroll_listen, tls).await.unwrap();
    assert_eq!(call(channel, "ListNodes").await, Answer::Code(Code::Unimplemented));
}
