//! The endpoint.

use crate::Sheet;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, warn};

/// Questions at a time: two monitoring systems and a person. Whoever comes beyond that waits.
const CONNECTIONS: usize = 8;
/// From a connection until its question is there.
const QUESTION: Duration = Duration::from_secs(5);
/// From a connection until its answer is sent.
const ANSWER: Duration = Duration::from_secs(30);
/// Who asks within this time of another gets the same answer: looking reads thousands of files.
const SAME: Duration = Duration::from_secs(1);
/// The largest head of a question.
const MAX_QUESTION_BYTES: usize = 16 << 10;
/// After a failed accept, which is a lack of descriptors in most cases.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries of opening the listener.
const LISTEN_AGAIN: Duration = Duration::from_secs(30);
/// As OpenMetrics 1.0 has it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where numbers come from.
pub trait Source: Send + Sync + 'static {
    /// All of them, as they are now.
    ///
    /// # Errors
    /// Why there are none, for people.
    fn sheet(&self) -> impl Future<Output = Result<Sheet, String>> + Send;
}

/// A source that is asked by one at a time.
struct Asked<S> {
    source: S,
    last: Mutex<Option<(Instant, String)>>,
}

impl<S: Source> Asked<S> {
    async fn text(&self) -> Result<String, String> {
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < SAME) {
            return Ok(text.clone());
        }
        let text = self.source.sheet().await?.text();
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

/// Answers questions for numbers, for ever. A port that cannot be had is tried again: nothing else depends on it.
pub async fn serve(address: SocketAddr, source: impl Source) -> Infallible {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                error!(%address, "cannot listen for questions for metrics on {address}; trying again: {error}");
            }
        }
        sleep(LISTEN_AGAIN).await;
    };
    let asked = Asked { source, last: Mutex::default() };
    serve_on(listener, Arc::new(asked)).await
}

async fn serve_on(listener: TcpListener, source: Arc<Asked<impl Source>>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match accept(&listener, &places).await {
            Ok((stream, place)) => drop(tokio::spawn(answer_one(stream, place, source.clone()))),
            Err(error) => {
                warn!("a connection cannot be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One question a connection: so none is held open beyond its time.
async fn answer_one(stream: TcpStream, place: OwnedSemaphorePermit, source: Arc<Asked<impl Source>>) {
    let service = service_fn(|request| answer(request, &source));
    let mut server = http1::Builder::new();
    server
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(QUESTION)
        .max_buf_size(MAX_QUESTION_BYTES);
    match timeout(ANSWER, server.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a question for metrics was not answered"),
        Err(_) => debug!(seconds = ANSWER.as_secs(), "a question for metrics took too long"),
    }
    drop(place);
}

async fn answer(
    request: Request<Incoming>,
    source: &Asked<impl Source>,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let plain = |status| Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND).body("metrics are at /metrics\n".into());
    }
    if request.method() != Method::GET {
        let refused = plain(StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, "GET");
        return refused.body("metrics are only read\n".into());
    }
    match source.text().await {
        Ok(text) => Response::builder().header(CONTENT_TYPE, OPENMETRICS).body(text.into()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE).body(format!("{why}\n").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Counts its questions, and has nothing to say to the first.
    #[derive(Default)]
    struct Counted(AtomicU32);

    impl Source for Counted {
        async fn sheet(&self) -> Result<Sheet, String> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err("not yet".to_owned()),
                asked => {
                    let mut sheet = Sheet::new("berth");
                    sheet.one("asked", "How often.", f64::from(asked));
                    Ok(sheet)
                }
            }
        }
    }

    async fn ask(address: SocketAddr, question: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{question} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn questions_and_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked { source: Counted::default(), last: Mutex::default() };
        let serving = tokio::spawn(serve_on(listener, Arc::new(asked)));
        // Whoever says nothing has one place of all, and not for ever.
        let mut silent = Vec::new();
        for _ in 1..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let none = ask(address, "GET /metrics").await;
        assert!(none.starts_with("HTTP/1.1 503") && none.ends_with("not yet\n"), "{none}");
        for _ in 0..2 * CONNECTIONS {
            let said = ask(address, "GET /metrics").await;
            assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
            assert!(said.contains(OPENMETRICS) && said.ends_with("\n# EOF\n"), "{said}");
        }
        let again = ask(address, "GET /metrics").await;
        assert_eq!(ask(address, "GET /metrics").await, again, "asked twice within a second");
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404 Not Found\r\n"));
        let refused = ask(address, "POST /metrics").await;
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET\r\n"), "{refused}");
        assert!(ask(address, "nonsense").await.starts_with("HTTP/1.1 400"));
        drop(silent);
        serving.abort();
    }
}
