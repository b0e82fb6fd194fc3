//! How a node's certificate is renewed, and how all of them are revoked.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::node_link_client::NodeLinkClient;
use berth_tls::Certified;
use common::*;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tonic::{Code, Response, Status};

fn request_pem(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

async fn ask(
    fleet: &Fleet,
    shown: &Credentials,
    certificate_request_pem: String,
) -> Result<Response<v1::RenewResponse>, Status> {
    let mut client = NodeLinkClient::new(fleet.dial(Some(shown)).await.unwrap());
    client.renew(v1::RenewRequest { certificate_request_pem }).await
}

async fn renew(fleet: &Fleet, shown: &Credentials) -> Result<Credentials, Status> {
    let key = rcgen::KeyPair::generate().unwrap();
    let answer = ask(fleet, shown, request_pem(&key)).await?.into_inner();
    let certificate_pem = answer.certificate_pem;
    Ok(Credentials { certificate_pem, key_pem: key.serialize_pem(), ca_pem: shown.ca_pem.clone() })
}

async fn revoke(fleet: &Fleet, node: &str) -> Result<v1::NodeRecord, Status> {
    let request = v1::RevokeNodeRequest { node: node.to_owned(), reason: "its disk was stolen".to_owned() };
    Ok(fleet.platform().await.revoke_node(request).await?.into_inner())
}

/// Node n1 is not let in by any of these.
async fn is_cut_off(fleet: &Fleet, shown: [&Credentials; 2]) {
    for shown in shown {
        assert_denied(renew(fleet, shown).await, Code::PermissionDenied, "was revoked");
        let link = FakeNode::connect(fleet, shown, "n1").await.err().unwrap();
        assert!(format!("{link:#}").contains("was revoked"), "{link:#}");
    }
}

fn certified(credentials: &Credentials) -> Certified {
    let der = CertificateDer::from_pem_slice(credentials.certificate_pem.as_bytes()).unwrap();
    Certified::read(&der).unwrap()
}

#[tokio::test]
async fn a_node_renews_while_its_link_holds() {
    let fleet = Fleet::start().await;
    let (first, mut node) = fleet.ready_node("n1").await;
    let second = renew(&fleet, &first).await.unwrap();
    assert_eq!(certified(&second).uris, ["spiffe://berth.test/node/n1"]);
    assert_ne!(certified(&second).public_key, certified(&first).public_key);
    // The old link still answers, and the new certificate is as good as the old one.
    let mut platform = fleet.platform().await;
    platform.inspect_node(v1::InspectNodeRequest { node: "n1".to_owned() }).await.unwrap();
    let order = node.next_order().await;
    node.done(&order).await;
    assert!(FakeNode::connect(&fleet, &second, "n1").await.is_ok());
    // A request that is none costs nothing.
    let bad = ask(&fleet, &second, "nothing".to_owned()).await;
    assert_denied(bad, Code::InvalidArgument, "certificate_request_pem: certificate request is malformed");
}

#[tokio::test]
async fn certificates_hold_for_as_long_as_is_configured() {
    let mut fleet = Fleet::start().await;
    let first = fleet.join("n1").await;
    let life_s = |credentials: &Credentials| {
        let certified = certified(credentials);
        (certified.expires_at_ms - certified.begins_at_ms) / 1_000
    };
    const DAY_S: u64 = 24 * 60 * 60;
    assert_eq!(life_s(&first), 30 * DAY_S + 60 * 60);
    fleet.config.node_certificate_ms = 600_000;
    fleet.restart().await;
    assert_eq!(life_s(&renew(&fleet, &first).await.unwrap()), 600 + 60);
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_until_it_joins_again() {
    let mut fleet = Fleet::start().await;
    let (first, mut node) = fleet.ready_node("n1").await;
    let (_, mut other) = fleet.ready_node("n2").await;
    let second = renew(&fleet, &first).await.unwrap();
    let record = revoke(&fleet, "n1").await.unwrap();
    assert!(record.certificates_from_ms > 0);
    let end = format!("{:#}", node.next().await.unwrap_err());
    assert!(end.contains("the certificate of node n1 was revoked"), "{end}");
    is_cut_off(&fleet, [&first, &second]).await;
    // Nobody else is.
    let mut platform = fleet.platform().await;
    platform.inspect_node(v1::InspectNodeRequest { node: "n2".to_owned() }).await.unwrap();
    other.next_order().await;
    fleet.restart().await;
    is_cut_off(&fleet, [&first, &second]).await;
    let token = fleet.token(Some("n1"), Duration::from_secs(60));
    let fresh = fleet.join_with(&token, "n1").await.unwrap();
    assert!(FakeNode::connect(&fleet, &fresh, "n1").await.is_ok());
    assert_denied(renew(&fleet, &first).await, Code::PermissionDenied, "was revoked");
    renew(&fleet, &fresh).await.unwrap();
    assert_denied(revoke(&fleet, "n9").await, Code::NotFound, "there is no node n9");
}
