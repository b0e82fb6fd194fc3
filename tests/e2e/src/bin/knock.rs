//! A client of a pod, beside the guests: it connects again and again, and notes when it was answered, and what.
//!
//! A line an attempt: when it began, when it ended (milliseconds after the epoch), `ok` and the answer, or `failed` and
//! why. It ends with whoever started it.

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

/// Between the beginnings of two attempts, which may overlap.
const PERIOD: Duration = Duration::from_millis(200);
/// How long an attempt may take to connect, and then to be answered.
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (address, path) =
        arguments.next().zip(arguments.next()).context("ADDRESS:PORT and PATH are missing")?;
    let address: SocketAddr = address.parse().with_context(|| format!("understand {address:?}"))?;
    let mut ticks = interval(PERIOD);
    loop {
        ticks.tick().await;
        let path = path.clone();
        tokio::spawn(async move {
            let begun_ms = now_ms();
            let said = match knock(address, &path).await {
                Ok(answer) => format!("ok {answer}"),
                Err(error) => format!("failed {error:#}"),
            };
            // One write a line, so that no two mix. If nobody listens any more, nobody misses it.
            drop(writeln!(std::io::stdout().lock(), "{begun_ms} {} {said}", now_ms()));
        });
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Asks for one file by HTTP.
async fn knock(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream =
        timeout(PATIENCE, TcpStream::connect(address)).await.context("connect")?.context("connect")?;
    let asked = async {
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.context("ask")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("read")?;
        Ok::<_, anyhow::Error>(answer)
    };
    let answer = timeout(PATIENCE, asked).await.context("read")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("it is no answer")?;
    ensure!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "it says {head:?}");
    Ok(body.trim().replace('\n', " "))
}
