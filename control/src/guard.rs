//! Who may call what. Every connection carries who its verified certificate is for; every RPC asks for a kind.

use crate::state::NodeCertificate;
use berth_tls::{Identity, Neighbour};
use tonic::{Request, Status};

/// The caller, if it is a platform.
///
/// # Errors
/// `PermissionDenied` for everybody else, and where no identity is known.
pub(crate) fn platform<T>(request: &Request<T>) -> Result<Identity, Status> {
    match &neighbour(request)?.identity {
        platform @ Identity::Platform(_) => Ok(platform.clone()),
        other @ (Identity::Control | Identity::Node(_)) => {
            Err(Status::permission_denied(format!("{other} is no platform")))
        }
    }
}

/// The caller's certificate, if it is a node's.
///
/// # Errors
/// As [`platform`].
pub(crate) fn node<T>(request: &Request<T>) -> Result<NodeCertificate, Status> {
    let neighbour = neighbour(request)?;
    match &neighbour.identity {
        Identity::Node(node) => {
            Ok(NodeCertificate { node: node.clone(), begins_at_ms: neighbour.begins_at_ms })
        }
        other @ (Identity::Control | Identity::Platform(_)) => {
            Err(Status::permission_denied(format!("{other} is no node")))
        }
    }
}

fn neighbour<T>(request: &Request<T>) -> Result<&Neighbour, Status> {
    let missing = || Status::permission_denied("the connection carries no identity");
    request.extensions().get::<Neighbour>().ok_or_else(missing)
}
