//! A certificate is renewed, and only by one that is what was asked for.

use super::super::dial::dial;
use super::super::renew::renew;
use super::*;

const NODE: &str = "spiffe://berth.test/node/n1";

fn signing(authority: &Arc<Authority>, name: &'static str) -> Renews {
    let authority = authority.clone();
    Box::new(move |request| Ok(authority.sign_request(request, name)))
}

#[tokio::test]
async fn a_certificate_past_its_middle_is_renewed_and_the_stream_holds() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let renews = signing(&authority, NODE);
    let (address, mut connections) = control_that(renews, &authority, CONTROL, Holds::Now, 1).await;
    let shown = authority.issue(&[NODE], Usage::Client, Holds::UntilTomorrow);
    let pki = store(&shown, folder.path(), &authority);
    let expires_at_ms = || NodeIdentity::load(&pki).unwrap().expires_at_ms;
    let before = expires_at_ms();
    let _rig = link(folder.path(), &address, pki.clone());
    let (connection, _) = connected(&mut connections).await;
    wait_for("another certificate", || (expires_at_ms() > before).then_some(())).await;
    assert!(!std::fs::read_to_string(pki.node()).unwrap().contains(&shown.key_pem));
    connection.next("a heartbeat", |message| matches!(message, Up::Heartbeat(_)).then_some(())).await;
    assert!(connections.try_recv().is_err(), "the stream was dropped");
    // The next connection shows the new one.
    drop(connection);
    connected(&mut connections).await;
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_stored() {
    let (ours, foreign) = (Arc::new(Authority::new()), Arc::new(Authority::new()));
    let check = async |renews: Renews, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (address, _connections) = control_that(renews, &ours, CONTROL, Holds::Now, 1).await;
        let pki = identify(&ours, folder.path(), NODE, &ours);
        let before = std::fs::read(pki.node()).unwrap();
        let identity = NodeIdentity::load(&pki).unwrap();
        let tls = identity.trust.client(&identity.credential, berth_tls::Identity::Control).unwrap();
        let channel = dial(&address, tls).await.unwrap();
        let said = chain(&renew(&pki, channel).await.unwrap_err());
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert_eq!(std::fs::read(pki.node()).unwrap(), before);
    };
    let other_key = {
        let authority = ours.clone();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        Box::new(move |_: &str| Ok(authority.sign_request(&request, NODE)))
    };
    check(other_key, "another key").await;
    check(signing(&foreign, NODE), "does not hold here").await;
    check(signing(&ours, "spiffe://berth.test/node/n2"), "for spiffe://berth.test/node/n2").await;
    check(signing(&ours, "spiffe://berth.test/platform/n1"), "no node").await;
    check(Box::new(|_| Ok("nothing".to_owned())), "it holds no certificate").await;
    check(Box::new(|_| Err(Status::permission_denied("it was revoked"))), "it was revoked").await;
    check(Box::new(|_| Err(Status::unimplemented(""))), "Unimplemented").await;
}
