//! A node whose agent ends where a case says: a build of `berthd` that lists its own points, and ends at those that are
//! ordered, one after another. systemd starts it again each time, as after any crash. Or something else ends there, while
//! the agent waits. Which points it passes is written down.

use anyhow::{Context, Result, ensure};
use berth_lab::{Guest, wait_until};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where that build is on the node. What the package has installed stays where it is.
const PROGRAM: &str = "/usr/local/sbin/berthd-crash-points";
/// Has systemd run it in place of the package's.
const DROP_IN: &str = "/etc/systemd/system/berthd.service.d/crash-points.conf";
/// The orders, over reboots too: the name of a point on each line.
const ORDERS: &str = "/var/lib/berth-crash-orders";
/// The variable that names the file of the orders.
const VARIABLE: &str = "BERTH_CRASH_ORDERS";
/// Every point that was passed, one a line, and the variable that names this file.
const TRACE: &str = "/run/berth-crash-trace";
const TRACE_VARIABLE: &str = "BERTH_CRASH_TRACE";
/// There as long as the agent is held at a point.
const HELD: &str = "/run/berth-crash-held";
/// The agent goes on by itself after so many seconds.
const HOLD_S: u32 = 120;
/// From the last crash until the agent has started again.
const START_LIMIT: Duration = Duration::from_secs(120);

/// One death of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Death {
    /// Where it died.
    pub point: String,
    /// When, seconds after the epoch, by the node's clock.
    pub at_s: f64,
    /// Until the next process of it was ready; none if the next one died before that.
    pub back_after_s: Option<f64>,
}

/// A node with such an agent, until this is dropped.
#[derive(Debug)]
pub struct CrashPoints {
    guest: Guest,
    known: BTreeSet<String>,
}

impl CrashPoints {
    /// Has the node run the build with crash points.
    ///
    /// # Errors
    /// When that build is not there, or does not start.
    pub fn install(guest: &Guest) -> Result<Self> {
        let path = program()?;
        let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        guest.put_file(PROGRAM, &content)?;
        let listed =
            guest.run_ok(&format!("chmod 755 {PROGRAM} && rm -f {ORDERS} && {PROGRAM} crash-points"))?;
        let node = Self { guest: guest.clone(), known: listed.lines().map(str::to_owned).collect() };
        node.enable()?;
        Ok(node)
    }

    /// How many points the program has.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// The node's clock, seconds after the epoch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn now_s(&self) -> Result<f64> {
        let said = self.guest.run_ok("date +%s.%N")?;
        said.trim().parse().with_context(|| format!("{said:?} is no time"))
    }

    fn enable(&self) -> Result<()> {
        let unit = format!(
            "[Service]\nExecStart=\nExecStart={PROGRAM} run\nEnvironment={VARIABLE}={ORDERS} {TRACE_VARIABLE}={TRACE}\n"
        );
        self.guest.put_file(DROP_IN, unit.as_bytes())?;
        self.guest.run_ok("systemctl daemon-reload && systemctl restart berthd").map(drop)
    }

    /// Orders deaths, which come about in this order.
    ///
    /// # Errors
    /// When the program has no such point.
    pub fn order(&self, points: &[&str]) -> Result<()> {
        for point in points {
            ensure!(self.known.contains(*point), "the program has no point {point:?}: {:?}", self.known);
        }
        self.guest.put_file(ORDERS, (points.join("\n") + "\n").as_bytes())
    }

    /// Has a command run on the node when the agent gets to a point; the agent waits for it, and lives on.
    ///
    /// # Errors
    /// When the program has no such point.
    pub fn order_command(&self, point: &str, command: &str) -> Result<()> {
        ensure!(self.known.contains(point), "the program has no point {point:?}: {:?}", self.known);
        self.guest.put_file(ORDERS, format!("{point}: {command}\n").as_bytes())
    }

    /// Has the agent held when it gets to a point, until [`CrashPoints::release`].
    ///
    /// # Errors
    /// When the program has no such point.
    pub fn order_hold(&self, point: &str) -> Result<()> {
        self.release()?;
        let hold = format!(
            "touch {HELD}; i=0; while test -e {HELD} && test $i -lt {HOLD_S}; do sleep 1; i=$((i+1)); done"
        );
        self.order_command(point, &hold)
    }

    /// Whether the agent is held at a point.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn is_held(&self) -> Result<bool> {
        Ok(self.guest.run(&format!("test -e {HELD}"))?.success())
    }

    /// Lets the agent go on.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn release(&self) -> Result<()> {
        self.guest.run_ok(&format!("rm -f {HELD}")).map(drop)
    }

    /// Takes an order back that nobody has got to; whether there was one.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn take_back(&self) -> Result<bool> {
        let left = self.guest.run_ok(&format!("cat {ORDERS} 2>/dev/null || true; rm -f {ORDERS}"))?;
        Ok(!left.trim().is_empty())
    }

    /// Forgets which points were passed so far.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn begin_trace(&self) -> Result<()> {
        self.guest.run_ok(&format!("rm -f {TRACE}")).map(drop)
    }

    /// The points that were passed, each once, in the order in which they were first.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn trace(&self) -> Result<Vec<String>> {
        let said = self.guest.run_ok(&format!("awk '!seen[$0]++' {TRACE} 2>/dev/null || true"))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Waits until the agent has died everywhere that was ordered, and runs.
    ///
    /// # Errors
    /// When it has not; the error names where it should still have died.
    pub fn wait_over(&self) -> Result<()> {
        let mut left = String::new();
        let over = wait_until("the agent to have died as ordered", START_LIMIT, || {
            left = self.guest.run_ok(&format!("cat {ORDERS}"))?;
            Ok(left.trim().is_empty().then_some(()))
        });
        over.with_context(|| format!("it has not died {:?}", left.trim()))?;
        self.guest.wait_until("systemctl is-active berthd && berthctl pods", START_LIMIT).map(drop)
    }

    /// The deaths that the journal has; it begins anew with each boot of the host.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn deaths(&self) -> Result<Vec<Death>> {
        let journal = self.guest.run_ok("journalctl -u berthd -o short-unix --no-pager")?;
        Ok(understand(&journal))
    }
}

impl Drop for CrashPoints {
    fn drop(&mut self) {
        let script = format!(
            "rm -f {DROP_IN} {ORDERS} {PROGRAM} {TRACE} {HELD}; systemctl daemon-reload; systemctl restart berthd"
        );
        if let Err(error) = self.guest.run_ok(&script) {
            eprintln!("the agent of the package is not back: {error:#}");
        }
    }
}

/// `cargo xtask test` builds it.
fn program() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace")?;
    let path = workspace.join("target/e2e/berthd-crash-points");
    ensure!(path.exists(), "{} is missing: `cargo xtask test` makes it", path.display());
    Ok(path)
}

fn understand(journal: &str) -> Vec<Death> {
    let mut deaths: Vec<Death> = Vec::new();
    for line in journal.lines() {
        let Some(at) = line.split_whitespace().next().and_then(|at| at.parse::<f64>().ok()) else { continue };
        if let Some((_, point)) = line.split_once("crash point: ") {
            deaths.push(Death { point: point.trim().to_owned(), at_s: at, back_after_s: None });
        } else if line.ends_with("]: ready")
            && let Some(death) = deaths.last_mut()
            && death.back_after_s.is_none()
        {
            death.back_after_s = Some(at - death.at_s);
        }
    }
    deaths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_read_from_the_journal() {
        let journal = "-- Boot 1 --\n10.0 n berthd[1]: ready\n12.0 n berthd[1]: crash point: after stop sandbox\n\
                       13.5 n berthd[2]: crash point: before note boot\n16.0 n berthd[3]: ready\n";
        let death = |point: &str, at_s, back_after_s| Death { point: point.to_owned(), at_s, back_after_s };
        let expected = [death("after stop sandbox", 12.0, None), death("before note boot", 13.5, Some(2.5))];
        assert_eq!(understand(journal), expected);
        assert_eq!(understand(""), []);
    }
}
