//! Who a node is on its link, and how it gets its certificate. Who may call what is in `access_table.rs`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_control::Token;
use berth_proto::v1;
use common::*;
use std::time::Duration;
use tonic::Code;

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
