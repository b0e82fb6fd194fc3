//! One connection: TCP, TLS, HTTP/2, each with its own error.

use crate::report::chain;
use berth_tls::{reason, tls_error};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

/// For connecting, and again for the handshake: a machine that is overloaded still answers in this time.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves is asked whether it lives, this often …
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// … and is given up after this long. Both together are shorter than a lease.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is none.
    #[error("address {0:?} is not of the form host:port")]
    Address(String),
    /// Nobody answers there.
    #[error("connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The other side is not who we want, or does not want us.
    #[error("TLS handshake with {address}: {why}")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// It speaks something else.
    #[error("speak HTTP/2 to {address}: {why}")]
    Protocol {
        /// Where.
        address: String,
        /// Why not.
        why: String,
    },
}

/// Connects to `address`, `host:port`.
pub(crate) async fn dial(address: &str, config: ClientConfig) -> Result<Channel, DialError> {
    let (host, _) = split(address)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Address(address.to_owned()))?;
    let connecting = |source| DialError::Connect { address: address.to_owned(), source };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let tcp = timeout(STEP_TIMEOUT, TcpStream::connect(address)).await;
    let tcp = tcp.map_err(late).and_then(|tcp| tcp).map_err(connecting)?;
    tcp.set_nodelay(true).map_err(connecting)?;
    let tls = timeout(STEP_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;
    let tls = tls
        .map_err(late)
        .and_then(|tls| tls)
        .map_err(|error| DialError::Handshake { address: address.to_owned(), why: why(&error) })?;
    // One connection, one stream of orders: when it ends it is dialled anew, with the certificates of that time.
    let mut stream = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    endpoint(address)?
        .connect_with_connector(connector)
        .await
        .map_err(|error| DialError::Protocol { address: address.to_owned(), why: chain(&error) })
}

fn why(error: &io::Error) -> String {
    tls_error(error).map_or_else(|| error.to_string(), reason)
}

fn endpoint(address: &str) -> Result<Endpoint, DialError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| DialError::Address(address.to_owned()))?;
    Ok(endpoint
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Host, without brackets, and port of `host:port`.
///
/// # Errors
/// When the text is no such address.
pub fn split(address: &str) -> Result<(&str, u16), DialError> {
    let bad = || DialError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let bare = inner.unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
    let ipv6_without_brackets = inner.is_none() && bare.contains(':');
    if bare.is_empty() || ipv6_without_brackets || ServerName::try_from(bare).is_err() {
        return Err(bad());
    }
    Ok((bare, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |address: &str, expected: Option<(&str, u16)>| {
            assert_eq!(split(address).ok(), expected, "{address:?}");
        };
        check("control.example:7443", Some(("control.example", 7443)));
        check("10.0.0.1:7443", Some(("10.0.0.1", 7443)));
        check("[2001:db8::1]:7443", Some(("2001:db8::1", 7443)));
        for bad in
            ["", "control", "control:", ":7443", "control:0", "control:70000", "2001:db8::1:7443", "a b:1"]
        {
            check(bad, None);
        }
    }
}
