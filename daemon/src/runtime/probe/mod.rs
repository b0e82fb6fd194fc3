//! Readiness probes: over the network, asked from inside the pod's own network namespace; and what the answer to a command
//! says.

mod exec;
mod grpc;
mod http;

pub(super) use exec::{ended, hung, not_ended};

use super::error::chain;
use crate::network;
use berth_model::{ProbeAction, ProbeAnswer};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;

/// The longest that is said of why a container is not ready, characters: what a server answers may be any length.
const WHY_LIMIT: usize = 200;

/// Asks once. Whatever goes wrong is an answer: not ready.
pub(super) async fn ask(
    netns: &Path,
    address: IpAddr,
    action: &ProbeAction,
    within: Duration,
) -> ProbeAnswer {
    match tokio::time::timeout(within, try_ask(netns, address, action, within)).await {
        Ok(answer) => answer,
        Err(_) => not_ready(format!("no answer within {} ms", within.as_millis())),
    }
}

async fn try_ask(netns: &Path, address: IpAddr, action: &ProbeAction, within: Duration) -> ProbeAnswer {
    let port = match action {
        ProbeAction::Http { port, .. } | ProbeAction::Tcp { port } | ProbeAction::Grpc { port, .. } => *port,
        ProbeAction::Exec(_) => return not_ready("a command is no question over the network"),
    };
    let to = SocketAddr::new(address, port);
    match network::connect(netns, to, within).await {
        Ok(stream) => talk(stream, to, action).await,
        Err(error) => not_ready(format!("connect to {to}: {error}")),
    }
}

async fn talk(stream: TcpStream, to: SocketAddr, action: &ProbeAction) -> ProbeAnswer {
    match action {
        ProbeAction::Exec(_) | ProbeAction::Tcp { .. } => ProbeAnswer::Ready,
        ProbeAction::Http { path, .. } => match http::get(stream, to, path).await {
            Ok(status) if (200..400).contains(&status) => ProbeAnswer::Ready,
            Ok(status) => not_ready(format!("GET {path} on {to} answers with status {status}")),
            Err(error) => not_ready(format!("GET {path} on {to}: {}", chain(&error))),
        },
        ProbeAction::Grpc { service, .. } => match grpc::check(stream, service).await {
            Ok(grpc::SERVING) => ProbeAnswer::Ready,
            Ok(status) => not_ready(format!("health of {service:?} on {to} is status {status}")),
            Err(error) => not_ready(format!("ask {to} for the health of {service:?}: {}", chain(&error))),
        },
    }
}

fn not_ready(why: impl Into<String>) -> ProbeAnswer {
    let printable =
        why.into().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHY_LIMIT).collect();
    ProbeAnswer::NotReady(printable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Says something to whoever has said something.
    async fn server(says: &'static [u8]) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = [0; 1024];
                let _ = stream.read(&mut heard).await;
                let _ = stream.write_all(says).await;
            }
        });
        address
    }

    async fn check(says: &'static [u8], action: &ProbeAction, expected: Option<&str>) {
        let to = server(says).await.unwrap();
        let stream = TcpStream::connect(to).await.unwrap();
        let limit = Duration::from_secs(60);
        let said = tokio::time::timeout(limit, talk(stream, to, action)).await.unwrap();
        match (said, expected) {
            (ProbeAnswer::Ready, None) => {}
            (ProbeAnswer::NotReady(why), Some(part)) => assert!(why.contains(part), "{why}"),
            (said, expected) => panic!("{said:?}, not {expected:?}"),
        }
    }

    #[tokio::test]
    async fn http() {
        let get = ProbeAction::Http { port: 1, path: "/ready".to_owned() };
        let refused = "GET /ready on 127.0.0.1";
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", &get, None).await;
        check(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 4\r\n\r\nhere", &get, None).await;
        check(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", &get, Some("status 404")).await;
        check(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", &get, Some("status 503")).await;
        check(b"SSH-2.0-OpenSSH\r\n", &get, Some(refused)).await;
        check(b"", &get, Some(refused)).await;
    }

    #[tokio::test]
    async fn whoever_takes_the_connection_is_ready() {
        check(b"", &ProbeAction::Tcp { port: 1 }, None).await;
    }

    #[tokio::test]
    async fn what_speaks_no_grpc_is_not_ready() {
        let grpc = ProbeAction::Grpc { port: 1, service: "shop".to_owned() };
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", &grpc, Some("the health of \"shop\"")).await;
    }
}
