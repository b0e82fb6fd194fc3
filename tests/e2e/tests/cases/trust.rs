//! A node's certificate: renewed while the link holds, and revoked.

use crate::{discard, fleet, idle_pod};
use berth_lab::{GATEWAY, Guest, wait_until};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Short enough to see its middle pass.
const SHORT: &str = "node_certificate_ms = 60000";
/// A renewal is due after half a minute.
const RENEWAL_LIMIT: Duration = Duration::from_secs(60);
/// Until a node has noticed that it was cut off.
const CUT_LIMIT: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn identity(guest: &Guest) -> String {
    guest.run_ok("sha256sum < /var/lib/berth/pki/node.pem").expect("look at the identity")
}

fn wait_for_another_identity(guest: &Guest, before: &str) {
    wait_until("another certificate", RENEWAL_LIMIT, || Ok((identity(guest) != before).then_some(())))
        .expect("the certificate is renewed");
}

/// The port that the node's one connection to the control plane comes from.
fn link_port(guest: &Guest) -> String {
    let said = guest.run_ok(&format!("ss -Htn state established dst {GATEWAY} dport = :7443")).expect("ss");
    let local = said.split_whitespace().nth(2).expect("there is a connection");
    assert_eq!(said.lines().count(), 1, "{said}");
    local.to_owned()
}

fn status(guest: &Guest) -> serde_json::Value {
    let said = guest.run_ok("berthctl -o json status").expect("berthctl status");
    serde_json::from_str(&said).expect("it is JSON")
}

fn lives_for_days(guest: &Guest) -> bool {
    let expires_at_ms = status(guest)["certificateExpiresAtMs"].as_u64().expect("it has a certificate");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
    u128::from(expires_at_ms) > now + u128::from(DAY_MS)
}

#[test]
fn certificates_are_renewed_and_revoked_and_no_pod_is_touched() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    fleet().apply(&idle_pod("trusting", "", ""), &["--wait"]).expect("run the pod");
    let before = kernel.process("trusting").expect("find the container");
    fleet().restart_control(SHORT).expect("restart the control plane");
    fleet().wait_connected(guest).expect("the node is back");
    assert!(lives_for_days(guest));

    fleet().berth_ok(&["node", "revoke", "node-1", "--reason", "a test"]).expect("revoke");
    guest.wait_until("berthctl status | grep -q 'was revoked'", CUT_LIMIT).expect("the node is cut off");
    fleet().join_again(guest).expect("join again");
    assert!(!lives_for_days(guest));

    let (port, short) = (link_port(guest), identity(guest));
    wait_for_another_identity(guest, &short);
    assert_eq!(link_port(guest), port, "the stream was dropped");
    // What the new one is good for, and the way back to the usual ones.
    fleet().restart_control("").expect("restart the control plane");
    fleet().wait_connected(guest).expect("the node is back, by its new certificate");
    wait_until("a certificate for days", RENEWAL_LIMIT, || Ok(lives_for_days(guest).then_some(())))
        .expect("the certificate is renewed");
    assert_eq!(kernel.process("trusting").expect("find the container again"), before);
    discard("case/trusting");
}
