//! Benches in a virtual host: what Berth takes beside what the runtime alone takes, in the same guest and the same run.

mod exit;
mod footprint;
mod raw_pod;
mod start;

pub use exit::exit;
pub use footprint::footprint;
pub use raw_pod::time_raw_pod;
pub use start::start;

use crate::{Fleet, FleetSpec, image};
use anyhow::Result;
use berth_lab::Suite;

/// The namespace of all benches' pods.
const NAMESPACE: &str = "bench";
/// Nothing, until told to end.
const IDLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"];

/// One node, which has the image that all benches use.
fn node(lab: &str) -> Result<Fleet> {
    let fleet = Fleet::up(&FleetSpec { name: lab.to_owned(), guests: 1, joined: 1, suite: Suite::Trixie })?;
    fleet.apply(&manifest("warm", ""), &["--wait"])?;
    discard(&fleet, "warm")?;
    Ok(fleet)
}

fn discard(fleet: &Fleet, name: &str) -> Result<()> {
    fleet.berth_ok(&["evict", &format!("{NAMESPACE}/{name}"), "--release", "--wait"]).map(drop)
}

/// A pod of one container that does nothing; `spec` are lines of its spec.
fn manifest(name: &str, spec: &str) -> String {
    let [shell, flag, script] = IDLE;
    format!(
        "kind: Pod\nmetadata: {{namespace: {NAMESPACE}, name: {name}}}\nspec:\n  addressPool: pods\n  \
         stopGrace: 2s\n{spec}  containers:\n  - name: main\n    image: {}\n    \
         command: [{shell}, {flag}, \"{script}\"]\n    env: [{{name: CASE, value: {name}}}]\n",
        image("busybox")
    )
}

/// The value that so many of a hundred are not above; `values` are not empty.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        for (percent, expected) in [(0, 1.0), (5, 1.0), (50, 10.0), (99, 20.0), (100, 20.0)] {
            assert!((percentile(&values, percent) - expected).abs() < 1e-9, "{percent}");
        }
        assert!((percentile(&[7.0], 50) - 7.0).abs() < 1e-9);
    }
}
