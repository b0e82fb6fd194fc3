//! A connection to QEMU's monitor (QEMU machine protocol, QMP): one JSON object a line.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to QEMU's monitor (QMP).
pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let connect = || Ok(UnixStream::connect(path).ok());
        let stream = crate::wait_until("QEMU's monitor", Duration::from_secs(30), connect)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        let mut monitor = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        monitor.read()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("read QEMU's monitor")? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("understand QEMU's {line:?}"))
    }

    pub(crate) fn execute(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({ "execute": name, "arguments": arguments }).to_string();
        request.push('\n');
        self.writer.write_all(request.as_bytes()).context("write to QEMU's monitor")?;
        loop {
            let reply = self.read()?;
            if let Some(error) = reply.get("error") {
                bail!("QEMU refused {name}: {error}");
            }
            if let Some(value) = reply.get("return") {
                return Ok(value.clone());
            }
            // Anything else is an event.
        }
    }

    /// Asks `query` until its status is `wanted`.
    pub(crate) fn wait_for(&mut self, query: &str, wanted: &str) -> Result<()> {
        crate::wait_until(&format!("{query}: {wanted}"), Duration::from_secs(600), || {
            let answer = self.execute(query, &json!({}))?;
            match answer.get("status").and_then(Value::as_str) {
                Some(status) if status == wanted => Ok(Some(())),
                Some("failed") => bail!("{query}: {answer}"),
                Some(_) | None => Ok(None),
            }
        })
    }

    /// Lets a guest that was loaded from a saved state go on, once the load is done.
    pub(crate) fn continue_loaded(&mut self) -> Result<()> {
        crate::wait_until("the saved state to be loaded", Duration::from_secs(300), || {
            let answer = self.execute("query-status", &json!({}))?;
            let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
            Ok((status != "inmigrate").then_some(()))
        })?;
        self.execute("cont", &json!({})).map(drop)
    }
}
