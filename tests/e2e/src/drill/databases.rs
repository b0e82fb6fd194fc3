//! The databases of the reboot drill: rows that were acknowledged, up to the moment when the host goes off.

use crate::Kernel;
use anyhow::{Context, Result, ensure};
use berth_lab::wait_until;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A database answers within this time, its recovery included.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);
/// A guest that goes off ends its connections within this time.
const END_LIMIT: Duration = Duration::from_secs(120);
/// Rows that are there before the host is told to go off.
const FIRST_ROWS: u64 = 50;
/// What redis keeps.
const REDIS_VALUE: &str = "kept-by-redis";

/// Rows go in one by one, each committed before its number is said.
pub(crate) struct Writer {
    ssh: Child,
    said: PathBuf,
}

impl Writer {
    /// Starts writing, and waits for the first rows.
    pub(crate) fn start(kernel: &Kernel, said: PathBuf) -> Result<Self> {
        psql(kernel, "create table rows (id serial primary key, text text)")?;
        let insert = "insert into rows (text) select repeat(md5(random()::text), 8) returning id;";
        let process = kernel.program("postgres")?;
        let command = format!(
            "nsenter -t {} -a -r -w /bin/sh -c \"yes '{insert}' | psql -h /tmp -U postgres -qAt\"",
            process.pid
        );
        let output = File::create(&said).with_context(|| format!("make {}", said.display()))?;
        let mut ssh = kernel.guest().ssh();
        let ssh = ssh.arg(command).stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn();
        let writer = Self { ssh: ssh.context("run ssh")?, said };
        wait_until("the first rows", ANSWER_LIMIT, || {
            Ok((writer.acknowledged()? >= FIRST_ROWS).then_some(()))
        })?;
        Ok(writer)
    }

    /// The number of the last row that was acknowledged; all before it were, too.
    fn acknowledged(&self) -> Result<u64> {
        let text = std::fs::read_to_string(&self.said).context("read what the database said")?;
        // The last line may have been cut.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().last().unwrap_or("0");
        last.parse().with_context(|| format!("{last:?} is no number of a row"))
    }

    /// Waits for the end of the writing; answers how many rows were acknowledged.
    pub(crate) fn finish(mut self) -> Result<u64> {
        let ended = wait_until("the writer to end", END_LIMIT, || Ok(self.ssh.try_wait()?.map(drop)));
        if ended.is_err() {
            self.ssh.kill().context("end the writer")?;
            self.ssh.wait().context("wait for the writer")?;
        }
        self.acknowledged()
    }
}

/// How many of the first `acknowledged` rows are there.
pub(crate) fn rows(kernel: &Kernel, acknowledged: u64) -> Result<u64> {
    let said = psql(kernel, &format!("select count(*) from rows where id <= {acknowledged}"))?;
    said.trim().parse().with_context(|| format!("{said:?} is no count"))
}

/// Asks postgresql as soon as it answers.
fn psql(kernel: &Kernel, query: &str) -> Result<String> {
    wait_until("postgresql to answer", ANSWER_LIMIT, || {
        let Ok(process) = kernel.program("postgres") else { return Ok(None) };
        let output = kernel.inside(&process, &format!("psql -h /tmp -U postgres -qAtc \"{query}\""))?;
        Ok(output.success().then_some(output.stdout))
    })
}

/// Gives redis something to keep.
pub(crate) fn tell_redis(kernel: &Kernel) -> Result<()> {
    let said = redis(kernel, &format!("set drill {REDIS_VALUE}"))?;
    ensure!(said.trim() == "OK", "redis said {said:?}");
    Ok(())
}

/// What redis has kept that it should not have lost: nothing if all is well.
pub(crate) fn redis_fault(kernel: &Kernel) -> Result<Option<String>> {
    let said = redis(kernel, "get drill")?;
    Ok((said.trim() != REDIS_VALUE).then(|| format!("redis says {said:?}, and was told {REDIS_VALUE:?}")))
}

fn redis(kernel: &Kernel, command: &str) -> Result<String> {
    wait_until("redis to answer", ANSWER_LIMIT, || {
        let Ok(process) = kernel.program("redis-server") else { return Ok(None) };
        let output = kernel.inside(&process, &format!("redis-cli {command}"))?;
        let answered = output.success() && !output.stdout.contains("LOADING");
        Ok(answered.then_some(output.stdout))
    })
}
