//! From a container's death to the report of it upstream, beside containerd's own event of it. Both are seen beside the
//! guest, by one clock, at the end of one connection each.

use super::{NAMESPACE, discard, manifest, node, percentile};
use crate::measure::Beside;
use crate::{Fleet, Report};
use anyhow::{Context, Result, bail};
use berth_lab::{Guest, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How many pods die, one after the other.
const DEATHS: u32 = 20;
/// The longest that is good beyond containerd's event, milliseconds: of twenty, the 99th percentile is the longest.
const BUDGET_MS: f64 = 100.0;
/// Until both have said it.
const LIMIT: Duration = Duration::from_secs(60);

/// A program's lines as they come.
struct Lines {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Lines {
    fn of(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("run {command:?}"))?;
        let stdout = child.stdout.take().context("its output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// When the first line came of which this is true.
    fn when(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<Instant> {
        let until = Instant::now() + LIMIT;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if is_it(&line) => return Ok(at),
                Ok(_) => {}
                Err(error) => bail!("{what}: {error}"),
            }
        }
        bail!("{what}: not within {LIMIT:?}")
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the bench.
///
/// # Errors
/// When a death is not told.
pub fn exit(lab: &str) -> Result<Report> {
    let fleet = node(lab)?;
    let guest = fleet.lab().guest(0);
    let names: Vec<_> = (0..DEATHS).map(|number| format!("exit-{number}")).collect();
    for name in &names {
        fleet.apply(&manifest(name, "  restart: Never\n"), &["--wait"])?;
    }
    let events = Lines::of(guest.ssh().arg("exec ctr events"))?;
    let watch = Lines::of(fleet.berth_command().args(["-o", "json", "watch", "-n", NAMESPACE]))?;
    // Until one of its events has come, nobody knows whether they come.
    wait_until("containerd's events", LIMIT, || {
        guest.run_ok(
            "ctr -n bench namespaces label bench at=$(date +%s%N) 2>/dev/null || ctr namespaces create bench",
        )?;
        Ok(events.lines.try_recv().is_ok().then_some(()))
    })?;
    watch.when("all that there was", |line| line.contains("synced"))?;
    let lags =
        names.iter().map(|name| lag_ms(&fleet, &guest, &events, &watch, name)).collect::<Result<Vec<_>>>()?;
    println!("bench: {lags:.0?} ms");
    for name in &names {
        discard(&fleet, name)?;
    }
    let mut report = Report::default();
    report.add("report after containerd's event, p50", percentile(&lags, 50), "ms");
    // There is no floor, since the events are taken off: what is allowed stands for it.
    report.compare(
        "the same, longest; floor: what is allowed",
        percentile(&lags, 100),
        "ms",
        Beside { floor: BUDGET_MS, budget: 1.0 },
    );
    Ok(report)
}

fn lag_ms(fleet: &Fleet, guest: &Guest, events: &Lines, watch: &Lines, name: &str) -> Result<f64> {
    let process = fleet.kernel(0).process(name)?;
    let id = process.container_id()?;
    guest.run_ok(&format!("kill -KILL {}", process.pid))?;
    let told = watch.when(&format!("a report of {name}"), |line| has_exited(line, name))?;
    let event = events
        .when(&format!("the event of {name}"), |line| line.contains("/tasks/exit") && line.contains(id))?;
    wait_until("the process to be gone", LIMIT, || Ok((!fleet.kernel(0).has_process(name)?).then_some(())))?;
    let (later, earlier) = (told.saturating_duration_since(event), event.saturating_duration_since(told));
    Ok((later.as_secs_f64() - earlier.as_secs_f64()) * 1e3)
}

/// Whether the event says that the pod's container does not run any more.
fn has_exited(line: &str, name: &str) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
    let pod = &event["changed"];
    pod["pod"]["name"] == name && pod["status"]["containers"][0]["phase"]["exited"].is_object()
}

#[cfg(test)]
mod tests {
    use super::has_exited;

    #[test]
    fn an_exit_is_known_when_it_is_seen() {
        let line = |name: &str, phase: &str| {
            format!(
                r#"{{"changed": {{"pod": {{"name": "{name}"}}, "status": {{"containers": [{{"phase": {{"{phase}": {{}}}}}}]}}}}}}"#
            )
        };
        assert!(has_exited(&line("a", "exited"), "a"));
        assert!(!has_exited(&line("b", "exited"), "a"));
        assert!(!has_exited(&line("a", "running"), "a"));
        assert!(!has_exited(r#"{"synced": {}}"#, "a"));
    }
}
