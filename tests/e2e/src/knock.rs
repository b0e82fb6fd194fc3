//! A client that connects to a pod all the while.

use anyhow::{Context, Result};
use berth_lab::{Lab, Process, wait_until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From the start of the client until its first answer.
const FIRST_LIMIT: Duration = Duration::from_secs(30);

/// A client at work.
#[derive(Debug)]
pub struct Knocking<'a> {
    lab: &'a Lab,
    name: String,
    log: PathBuf,
}

/// One attempt to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Milliseconds after the epoch.
    pub begun_ms: u64,
    /// Milliseconds after the epoch.
    pub ended_ms: u64,
    /// The answer, or why there is none.
    pub answer: Result<String, String>,
}

impl<'a> Knocking<'a> {
    /// Begins to ask for a file by HTTP, five times a second, and waits for the first answer. `program` is `berth-knock`.
    ///
    /// # Errors
    /// When it cannot be started, or is never answered.
    pub fn start(lab: &'a Lab, name: &str, program: &Path, url: (&str, &str)) -> Result<Self> {
        let argv = vec![program.display().to_string(), url.0.to_owned(), url.1.to_owned()];
        lab.spawn(Process { name: name.to_owned(), argv, env: Vec::new() })?;
        let log = lab.directory().join(format!("{name}.log"));
        let knocking = Self { lab, name: name.to_owned(), log };
        wait_until("the first answer", FIRST_LIMIT, || {
            Ok(knocking.attempts()?.iter().any(|attempt| attempt.answer.is_ok()).then_some(()))
        })?;
        Ok(knocking)
    }

    /// What came of all attempts so far, in the order of their ends.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn attempts(&self) -> Result<Vec<Attempt>> {
        let text = std::fs::read_to_string(&self.log).context("read what the client notes")?;
        // The last line may be half-written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| parse(line).with_context(|| format!("understand {line:?}"))).collect()
    }
}

impl Drop for Knocking<'_> {
    fn drop(&mut self) {
        // It ends with the lab at the latest.
        drop(self.lab.stop(&self.name));
    }
}

fn parse(line: &str) -> Result<Attempt> {
    let mut words = line.splitn(4, ' ');
    let mut next = || words.next().context("too few words");
    let (begun, ended) = (next()?.parse().context("a time")?, next()?.parse().context("a time")?);
    let (outcome, text) = (next()?, next().unwrap_or_default().to_owned());
    let answer = if outcome == "ok" { Ok(text) } else { Err(text) };
    Ok(Attempt { begun_ms: begun, ended_ms: ended, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let ok = Attempt { begun_ms: 5, ended_ms: 7, answer: Ok("one two".to_owned()) };
        assert_eq!(parse("5 7 ok one two").unwrap(), ok);
        let failed = Attempt { answer: Err("connect: timed out".to_owned()), ..ok };
        assert_eq!(parse("5 7 failed connect: timed out").unwrap(), failed);
        assert!(parse("5 x ok").is_err());
    }
}
