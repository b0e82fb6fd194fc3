//! Probing before use and announcing after, as the node is configured.

use super::conflist::{self, Network};
use super::probe::{ProbeTiming, Verdict, announce, probe};
use crate::ledger::{Grant, Ledger};
use std::path::{Path, PathBuf};
use tonic::Status;
use tracing::warn;

/// What is said of an address that somebody else has; the runtime passes it on as a text.
pub(crate) const IN_USE: &str = "is in use by";

/// By which interface of the host addresses are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probing {
    /// By none: the network does not show duplicates, or must not be asked.
    Off,
    /// By this one.
    By(String),
    /// By the bridge or master that the network configuration in this folder names, as it stands at each ADD.
    AsConfigured(PathBuf),
}

impl Probing {
    /// As `probe_interface` says: absent is as the network configuration has it, empty is off.
    pub fn of_config(interface: Option<&str>) -> Self {
        match interface {
            None => Self::AsConfigured(PathBuf::from(conflist::FOLDER)),
            Some("") => Self::Off,
            Some(interface) => Self::By(interface.to_owned()),
        }
    }

    /// Asks whether anybody else has an address of the grant.
    ///
    /// # Errors
    /// When somebody has, with the hardware address; or when it cannot be asked.
    pub(super) async fn check(&self, grant: &Grant) -> Result<(), Status> {
        let Some(interface) = self.interface().await? else { return Ok(()) };
        for granted in &grant.addresses {
            let address = granted.address.address();
            let verdict = probe(&interface, address, ProbeTiming::BRISK).await;
            match verdict.map_err(|error| Status::unavailable(crate::report::chain(&error)))? {
                Verdict::Free => {}
                Verdict::Taken { by } => {
                    let pod = &grant.pod;
                    warn!(
                        %pod, %address, %by, interface,
                        "{pod}: address {address} is in use by {by}, seen on {interface}"
                    );
                    return Err(Status::failed_precondition(format!(
                        "address {address} of pod {} {IN_USE} {by}, heard on {interface}: find out who that is; \
                         the pod is not started with it",
                        grant.pod
                    )));
                }
            }
        }
        Ok(())
    }

    async fn interface(&self) -> Result<Option<String>, Status> {
        let folder = match self {
            Self::Off => return Ok(None),
            Self::By(interface) => return Ok(Some(interface.clone())),
            Self::AsConfigured(folder) => folder.clone(),
        };
        let read =
            tokio::task::spawn_blocking(move || Network::find(&folder).map_err(|error| (folder, error)));
        let read = read.await.map_err(|error| Status::unavailable(error.to_string()))?;
        let network = read.map_err(|(folder, error)| {
            Status::unavailable(format!("read the network configuration in {}: {error}", folder.display()))
        })?;
        let interface = network.and_then(|network| network.host_interface());
        // The bridge plugin makes a bridge that is not there; nobody is on one that is not there yet.
        Ok(interface.filter(|name| {
            let exists = Path::new("/sys/class/net").join(name).exists();
            if !exists {
                warn!(
                    interface = name,
                    "no address is probed for a second owner: there is no interface {name} yet; a bridge that the CNI \
                     plugin makes has no link to other hosts"
                );
            }
            exists
        }))
    }
}

/// Announces the addresses of a sandbox that has just been made, from inside it. What cannot be announced is found out
/// by others in time, so this is never in the way of the pod.
pub async fn announce_sandbox(ledger: &Ledger, sandbox_id: &str) {
    let attached: Vec<_> = ledger.read(|book| {
        let all = book.attachments.values();
        all.filter(|attachment| attachment.key.sandbox_id == sandbox_id).cloned().collect()
    });
    for attachment in attached {
        let netns = Path::new(&attachment.netns);
        if let Err(error) = announce(netns, &attachment.key.interface, &attachment.addresses).await {
            let error = crate::report::chain(&error);
            warn!(pod = %attachment.pod, "{}: cannot announce its addresses: {error}", attachment.pod);
        }
    }
}
