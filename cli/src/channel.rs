//! Connections: to the control plane by mutual TLS, to a node's daemon by its Unix socket.

use crate::config::Connection;
use crate::failure::{Failure, Result, chain};
use crate::tls::ControlTls;
use berth_tls::{reason, tls_error};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::Error as TlsError;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// A host that does not answer is given up after this: people wait for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch over a dead connection ends after the interval and the timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

fn endpoint() -> Endpoint {
    // The connector knows the address; the URI only fills the :authority of requests.
    Endpoint::from_static("http://berth")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
}

/// Connects to the control plane.
///
/// # Errors
/// Nobody answers, or it is not the control plane.
pub(crate) async fn to_control(connection: &Connection) -> Result<Channel> {
    let tls = ControlTls::load(connection)?;
    let server = connection.server.clone();
    let connector = service_fn(move |_| {
        let (tls, server) = (tls.clone(), server.clone());
        async move {
            let stream = TcpStream::connect(&server).await?;
            stream.set_nodelay(true)?;
            tls.handshake(&server, stream).await.map(TokioIo::new)
        }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| no_control(&connection.server, &error))
}

fn no_control(server: &str, error: &tonic::transport::Error) -> Failure {
    let refused = tls_error(error);
    let why = refused.map_or_else(|| chain(error), reason);
    let message = format!("cannot reach the control plane at {server}: {why}");
    match refused {
        Some(TlsError::AlertReceived(_)) => Failure::unreachable("Untrusted", message)
            .remedy("it does not accept our certificate: is it of this fleet, and has it not expired?"),
        Some(_) => Failure::unreachable("Untrusted", message)
            .remedy("--ca must be the authority of this fleet, --server its control plane"),
        None => Failure::unreachable("Unreachable", message)
            .remedy("is --server right, and does berth-control run there?"),
    }
}

/// Connects to the daemon of this node.
///
/// # Errors
/// Nobody listens there, or we may not ask.
pub(crate) async fn to_node(socket: &Path) -> Result<Channel> {
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| {
        let message = format!("cannot reach berthd at {}: {}", socket.display(), chain(&error));
        Failure::unreachable("Unreachable", message).remedy(match io_kind(&error) {
            Some(io::ErrorKind::PermissionDenied) => "run it as root, or as a member of the group berth",
            Some(_) | None => "does berthd run? systemctl status berthd; journalctl -u berthd",
        })
    })
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
