//! Who may call what. Every connection carries the identity from its verified certificate; every RPC asks for a kind.

use berth_tls::Identity;
use tonic::{Request, Status};

/// The kind of peer that an RPC is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nodes.
    Node,
    /// Platforms and operators.
    Platform,
}

/// The caller, if it is of the kind that may call.
///
/// # Errors
/// `PermissionDenied` for every other kind, and where no identity is known.
pub(crate) fn peer<T>(request: &Request<T>, wanted: Peer) -> Result<Identity, Status> {
    let Some(identity) = request.extensions().get::<Identity>() else {
        return Err(Status::permission_denied("the connection carries no identity"));
    };
    match (identity, wanted) {
        (Identity::Node(_), Peer::Node) | (Identity::Platform(_), Peer::Platform) => Ok(identity.clone()),
        (Identity::Control | Identity::Node(_) | Identity::Platform(_), Peer::Node | Peer::Platform) => {
            Err(Status::permission_denied(match wanted {
                Peer::Node => format!("{identity} is no node"),
                Peer::Platform => format!("{identity} is no platform"),
            }))
        }
    }
}
