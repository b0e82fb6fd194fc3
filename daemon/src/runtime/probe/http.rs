//! One `GET` by HTTP/1.1.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::http::uri::InvalidUri;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    /// No request can carry the path.
    #[error("the path")]
    Path(#[from] InvalidUri),
    /// Whoever took the connection does not speak HTTP, or hung up.
    #[error("no answer")]
    Talk(#[from] hyper::Error),
}

/// The status of the answer; redirects are not followed, and the body is left where it is.
pub(super) async fn get(stream: TcpStream, to: SocketAddr, path: &str) -> Result<u16, GetError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse()?;
    let headers = [(header::HOST, to.to_string()), (header::USER_AGENT, "berthd".to_owned())];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?)));
    request.headers_mut().extend(headers);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let ask = sender.send_request(request);
    tokio::pin!(ask);
    let answer = tokio::select! {
        // Cancel-safe: whichever ends first decides, and the other is not wanted any more.
        answer = &mut ask => answer?,
        // Likewise. A connection that has ended has said all that it will say.
        ended = connection => {
            ended?;
            ask.await?
        }
    };
    Ok(answer.status().as_u16())
}
