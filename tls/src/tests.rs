//! Handshakes in memory: who gets through to whom.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Years between which a certificate holds.
type Years = (i32, i32);
const NOW: Years = (2020, 4000);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn trust(&self) -> Trust {
        Trust::new(&[self.der()], domain()).unwrap()
    }

    /// Certificate, with the authority's behind it, and key.
    fn issue(&self, uris: &[&str], usage: Usage, years: Years) -> Credential {
        let (certificate, key) = self.sign(uris, usage, years);
        Credential::new(vec![certificate, self.der()], key)
    }

    fn sign(
        &self,
        uris: &[&str],
        usage: Usage,
        years: Years,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    }

    fn node(&self, name: &str) -> Credential {
        self.issue(&[&format!("spiffe://berth.test/node/{name}")], Usage::ClientAuth, NOW)
    }

    fn control(&self) -> Credential {
        self.issue(&["spiffe://berth.test/control"], Usage::ServerAuth, NOW)
    }
}

fn domain() -> TrustDomain {
    "berth.test".parse().unwrap()
}

fn node(name: &str) -> Identity {
    Identity::Node(name.parse().unwrap())
}

/// Shakes hands; what the server makes of the client if both are content, or who was not and why.
async fn shake(client: ClientConfig, server: ServerConfig, trust: &Trust) -> Result<String, String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("wherever.example").unwrap();
    let (connector, acceptor) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
    let why = |side: &str, error: &std::io::Error| {
        format!("{side}: {}", tls_error(error).map_or_else(|| error.to_string(), reason))
    };
    let dialling = async {
        let mut stream = connector.connect(name, near).await.map_err(|error| why("client", &error))?;
        // A client learns only by reading that it was refused.
        stream.read_u8().await.map_err(|error| why("client", &error))
    };
    let serving = async {
        let mut stream = acceptor.accept(far).await.map_err(|error| why("server", &error))?;
        stream.write_u8(1).await.map_err(|error| why("server", &error))?;
        drop(stream.flush().await);
        let found = trust.neighbour(stream.get_ref().1);
        Ok(found.map_or_else(|error| format!("nobody: {error}"), |found| found.identity.to_string()))
    };
    match tokio::join!(dialling, serving) {
        (Ok(_), Ok(found)) => Ok(found),
        // Who speaks of an alert only heard of it.
        (Err(why), Ok(_)) => Err(why),
        (Ok(_), Err(why)) => Err(why),
        (Err(one), Err(other)) if one.contains("alert") => Err(other),
        (Err(one), Err(_)) => Err(one),
    }
}

fn assert_refused(said: Result<String, String>, expected: &str) {
    let said = said.unwrap_err();
    assert!(said.contains(expected), "{said:?} does not say {expected:?}");
}

#[tokio::test]
async fn a_client_speaks_to_the_neighbour_that_it_wants_and_to_nobody_else() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let check = async |shown: Credential, wanted: Identity, expected: Result<(), &str>| {
        let trust = ours.trust();
        let client = trust.client(&ours.node("n1"), wanted).unwrap();
        let said = shake(client, trust.server(&shown).unwrap(), &trust).await;
        match expected {
            Ok(()) => assert_eq!(said.as_deref(), Ok("node/n1")),
            Err(expected) => assert_refused(said, expected),
        }
    };
    let uri = |uri: &str, usage| ours.issue(&[uri], usage, NOW);
    let (control, server) = ("spiffe://berth.test/control", Usage::ServerAuth);
    check(ours.control(), Identity::Control, Ok(())).await;
    check(ours.node("n2"), node("n2"), Ok(())).await;
    let stranger = "is spiffe://other.test/control, not the control plane of trust domain berth.test";
    check(uri("spiffe://other.test/control", server), Identity::Control, Err(stranger)).await;
    let other = "is spiffe://berth.test/node/n3, not node n2 of trust domain berth.test";
    check(ours.node("n3"), node("n2"), Err(other)).await;
    check(uri("https://berth.test/control", Usage::ServerAuth), Identity::Control, Err("not the control"))
        .await;
    check(uri("spiffe://berth.test/node/n2", Usage::ServerAuth), Identity::Control, Err("not the control"))
        .await;
    let two = ours.issue(&[control, "spiffe://berth.test/node/n2"], Usage::ServerAuth, NOW);
    check(two, Identity::Control, Err("carries 2 URIs")).await;
    check(ours.issue(&[], Usage::ServerAuth, NOW), Identity::Control, Err("carries 0 URIs")).await;
    // A node's certificate is one for clients, the control plane's one for servers; neither serves for the other.
    check(uri(control, Usage::ClientAuth), Identity::Control, Err("does not allow extended key usage")).await;
    check(
        uri("spiffe://berth.test/node/n2", Usage::ServerAuth),
        node("n2"),
        Err("does not allow extended key usage"),
    )
    .await;
    check(foreign.control(), Identity::Control, Err("not signed by our authority")).await;
    check(foreign.node("n2"), node("n2"), Err("not signed by our authority")).await;
    for (years, expected) in [
        ((2000, 2001), "has expired: this host's clock says"),
        ((3900, 4000), "not valid yet: this host's clock"),
    ] {
        check(ours.issue(&[control], Usage::ServerAuth, years), Identity::Control, Err(expected)).await;
    }
}

#[tokio::test]
async fn a_server_knows_who_is_behind_a_connection() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let check = async |shown: Credential, expected: Result<&str, &str>| {
        let trust = ours.trust();
        let client = trust.client(&shown, Identity::Control).unwrap();
        let said = shake(client, trust.server(&ours.control()).unwrap(), &trust).await;
        match expected {
            Ok(expected) => assert_eq!(said.as_deref(), Ok(expected)),
            Err(expected) => assert_refused(said, expected),
        }
    };
    let client = |uris: &[&str]| ours.issue(uris, Usage::ClientAuth, NOW);
    check(ours.node("n1"), Ok("node/n1")).await;
    check(client(&["spiffe://berth.test/platform/ops"]), Ok("platform/ops")).await;
    check(client(&["spiffe://berth.test/control"]), Ok("control")).await;
    let other = "nobody: \"spiffe://other.test/node/n1\" is no identity of trust domain berth.test";
    check(client(&["spiffe://other.test/node/n1"]), Ok(other)).await;
    check(client(&[]), Ok("nobody: certificate carries 0 URIs, exactly one is expected")).await;
    let two = ["spiffe://berth.test/node/n1", "spiffe://berth.test/node/n2"];
    check(client(&two), Ok("nobody: certificate carries 2 URIs, exactly one is expected")).await;
    check(foreign.node("n1"), Err("BadSignature")).await;
    check(ours.control(), Err("does not allow extended key usage")).await;
    let expired = ours.issue(&["spiffe://berth.test/node/n1"], Usage::ClientAuth, (2000, 2001));
    check(expired, Err("expired")).await;
}

#[tokio::test]
async fn a_joining_node_speaks_to_the_authority_of_its_token() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let check = async |server: Credential, expected: Result<(), &str>| {
        let joining = Joining::new(fingerprint(&ours.der()));
        let trust = ours.trust();
        let said = shake(joining.client().unwrap(), serve_anyone(&server).unwrap(), &trust).await;
        match expected {
            Ok(()) => {
                assert_eq!(said.as_deref(), Ok("nobody: no certificate was shown"));
                assert_eq!(joining.seen(), Some(domain()));
            }
            Err(expected) => {
                assert_refused(said, expected);
                assert_eq!(joining.seen(), None);
            }
        }
    };
    check(ours.control(), Ok(())).await;
    check(foreign.control(), Err("whose fingerprint the token carries")).await;
    check(ours.issue(&["spiffe://berth.test/node/n1"], Usage::ServerAuth, NOW), Err("not the control plane"))
        .await;
    // Somebody who shows our authority's certificate behind one of their own.
    let (theirs, key) = foreign.sign(&["spiffe://berth.test/control"], Usage::ServerAuth, NOW);
    check(Credential::new(vec![theirs, ours.der()], key), Err("not signed by our authority")).await;
}

#[tokio::test]
async fn nobody_without_a_certificate_is_served() {
    let ours = Authority::new();
    let joining = Joining::new(fingerprint(&ours.der()));
    let trust = ours.trust();
    let said = shake(joining.client().unwrap(), trust.server(&ours.control()).unwrap(), &trust).await;
    assert_refused(said, "peer sent no certificates");
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let ours = Authority::new();
    let trust = ours.trust();
    let mut roots = RootCertStore::empty();
    roots.add(ours.der()).unwrap();
    let (certificate, key) = ours.sign(&["spiffe://berth.test/node/n1"], Usage::ClientAuth, NOW);
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    let said = shake(client, trust.server(&ours.control()).unwrap(), &trust).await;
    assert_refused(said, "Tls12NotOffered");
}

#[test]
fn a_clients_certificate_is_judged_for_its_time() {
    let ours = Authority::new();
    let (certificate, _) = ours.sign(&["spiffe://berth.test/node/n1"], Usage::ClientAuth, (2020, 2021));
    let at = |year: i32| {
        let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap()))
    };
    let judge =
        |trust: Trust, year| trust.check_client(&certificate, at(year)).map_err(|error| reason(&error));
    assert_eq!(judge(ours.trust(), 2020), Ok(()));
    assert!(
        judge(ours.trust(), 2019)
            .unwrap_err()
            .starts_with("the certificate is not valid yet: this host's clock")
    );
    assert!(judge(ours.trust(), 2021).unwrap_err().starts_with("the certificate has expired"));
    let foreign = judge(Authority::new().trust(), 2020).unwrap_err();
    assert_eq!(foreign, "the certificate is not signed by our authority");
    let certified = Certified::read(&certificate).unwrap();
    assert_eq!(certified.holder().unwrap().to_string(), "spiffe://berth.test/node/n1");
    let second = |year| u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap();
    let life = (certified.begins_at_ms / 1_000, certified.expires_at_ms / 1_000);
    assert_eq!(life, (second(2020), second(2021)));
    assert_eq!(Certified::read(b"nothing").unwrap_err(), IdentityError::Malformed);
}
