//! Keeping the certificate: another one, of another key, when half of the old one's life is over.
//!
//! It is asked for beside the stream of orders, on the same connection, and counts from the next connection on: the
//! stream does not end.

use super::durable::FileError;
use super::identity::{IdentityError, NodeIdentity, PkiFiles};
use super::request::KeyRequest;
use crate::clock::epoch_ms;
use crate::report::chain;
use berth_proto::v1;
use berth_proto::v1::node_link_client::NodeLinkClient;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;
use tracing::{info, warn};

/// How long upstream may take to sign.
const RENEW_TIMEOUT: Duration = Duration::from_secs(30);
/// The clock is looked at this often: it may be set, and the host may sleep.
const LOOK: Duration = Duration::from_secs(60);
/// After a try the next one waits this long, then twice as long …
const RETRY: Duration = Duration::from_secs(5);
/// … and at most this long: a small part of half a life, unless that is very short.
const RETRY_CAP: Duration = Duration::from_secs(600);

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    /// A key or a request could not be made.
    #[error("make a key and a certificate request")]
    Request(#[source] rcgen::Error),
    /// Upstream did not answer, or said no.
    #[error("upstream: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// What it answered is of no use.
    #[error("upstream's answer is of no use: {0}")]
    Answer(String),
    /// The certificate could not be stored.
    #[error("store the certificate")]
    File(#[from] FileError),
    /// Storing was cut off.
    #[error("store the certificate")]
    Interrupted(#[source] tokio::task::JoinError),
    /// The one that there is cannot be read.
    #[error("read the identity")]
    Identity(#[from] IdentityError),
}

/// Renews over `channel` whenever it is time; ends with the connection, whose owner drops it.
pub(super) async fn keep_renewed(files: &PkiFiles, channel: Channel) -> Infallible {
    let mut failures = 0;
    loop {
        let wait = match NodeIdentity::load(files) {
            Ok(identity) => due_in(identity.begins_at_ms, identity.expires_at_ms, epoch_ms()),
            // Whatever is wrong, the next connection says so.
            Err(_) => LOOK,
        };
        if !wait.is_zero() {
            sleep(wait.min(LOOK)).await;
            continue;
        }
        match renew(files, channel.clone()).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                warn!("the certificate is not renewed: {}", chain(&error));
            }
        }
        sleep(pause(failures)).await;
    }
}

/// How long until half of a certificate's life is over; times in milliseconds after the epoch.
fn due_in(begins_at_ms: u64, expires_at_ms: u64, now_ms: u64) -> Duration {
    let middle_ms = begins_at_ms.midpoint(expires_at_ms.max(begins_at_ms));
    Duration::from_millis(middle_ms.saturating_sub(now_ms))
}

fn pause(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RETRY_CAP)
}

/// Asks once, and stores what came if it is what was asked for.
pub(super) async fn renew(files: &PkiFiles, channel: Channel) -> Result<(), RenewError> {
    let identity = NodeIdentity::load(files)?;
    let asked = KeyRequest::make().map_err(RenewError::Request)?;
    let request = v1::RenewRequest { certificate_request_pem: asked.request_pem.clone() };
    let mut client = NodeLinkClient::new(channel);
    let answer = timeout(RENEW_TIMEOUT, client.renew(request)).await;
    let late = || Status::deadline_exceeded(format!("nothing in {} s", RENEW_TIMEOUT.as_secs()));
    let answer = answer.unwrap_or_else(|_| Err(late())).map_err(RenewError::Refused)?.into_inner();
    asked.check(&answer.certificate_pem, &identity.node, &identity.trust).map_err(RenewError::Answer)?;
    let (files, key_pem) = (files.clone(), asked.key_pem());
    // Flushing takes as long as the disk takes, and heartbeats are sent from here.
    let stored = tokio::task::spawn_blocking(move || files.store_node(&answer.certificate_pem, &key_pem));
    stored.await.map_err(RenewError::Interrupted)??;
    info!("the certificate is renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_half_life() {
        let check = |begins_at_ms: u64, expires_at_ms: u64, now_ms: u64, expected_ms: u64| {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(due_in(begins_at_ms, expires_at_ms, now_ms), expected, "{begins_at_ms} {now_ms}");
        };
        check(1_000, 3_000, 1_000, 1_000);
        check(1_000, 3_000, 0, 2_000);
        check(1_000, 3_000, 1_999, 1);
        check(1_000, 3_000, 2_000, 0);
        check(1_000, 3_000, 9_000, 0);
        check(3_000, 1_000, 0, 3_000);
        check(0, u64::MAX, u64::MAX, 0);
    }

    #[test]
    fn tries_grow_rarer() {
        let seconds: Vec<u64> = (0..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [5, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(pause(u32::MAX), RETRY_CAP);
    }
}
