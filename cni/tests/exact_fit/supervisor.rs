//! What keeps the node's process up, and kills it.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Longest life between two kills, once the node is ready, milliseconds: most plugins that wait are served in it.
const LONGEST_LIFE_MS: u64 = 120;
/// How many plugins end in such a life at least: half of those that run at one time.
const SERVED: usize = 32;
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// One life in so many is ended before the node is ready: its ledger is then being opened or recovered.
const UNREADY_ONE_IN: u64 = 8;

/// The node's process.
pub(crate) struct Node {
    child: Child,
}

impl Node {
    /// Starts it; it is not ready yet.
    pub(crate) fn spawn(folder: &Path) -> Result<Self> {
        let me = std::env::current_exe().context("find this program")?;
        let child =
            Command::new(me).arg("serve").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self { child: child.context("start the node")? })
    }

    /// Waits until it answers.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("it was ready before")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("hear of the node")?;
        ensure!(line == "ready\n", "the node ended before it was ready: {line:?}");
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill the node")?;
        self.child.wait().context("wait for the node's end").map(drop)
    }
}

/// A test that fails leaves no node behind.
impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the node `count` times and starts it again each time; gives back the last one, which is ready. Ends before
/// that, with how many there were, when `enough` is told or dropped.
/// `finished` counts the plugins that have ended.
pub(crate) fn torment(
    folder: &Path,
    count: u64,
    enough: &Receiver<()>,
    finished: &AtomicUsize,
) -> Result<(Node, u64)> {
    let folder = PathBuf::from(folder);
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    let mut node = Node::spawn(&folder)?;
    for kills in 0..count {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (unready, life_ms) =
            ((dice >> 33).is_multiple_of(UNREADY_ONE_IN), (dice >> 40) % LONGEST_LIFE_MS);
        if !unready {
            node.ready()?;
        }
        // On a machine that is busy with other things a short life serves nobody, and then patience runs out.
        let served = finished.load(Ordering::Relaxed) + if unready { 0 } else { SERVED };
        let mut life = Duration::from_millis(life_ms);
        loop {
            match enough.recv_timeout(life) {
                Err(RecvTimeoutError::Timeout) if finished.load(Ordering::Relaxed) >= served => break,
                Err(RecvTimeoutError::Timeout) => life = LOOK_AGAIN,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    if unready {
                        node.ready()?;
                    }
                    return Ok((node, kills));
                }
            }
        }
        node.kill()?;
        node = Node::spawn(&folder)?;
    }
    node.ready()?;
    Ok((node, count))
}
