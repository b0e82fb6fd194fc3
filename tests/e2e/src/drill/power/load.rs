//! Orders, one after another as fast as the platform takes them, to pods that nobody else cares for; and the pods that
//! write.

use crate::drill::random::Random;
use crate::{Fleet, image};
use anyhow::Result;

/// Pods that write records, and are never told anything.
pub(crate) const WRITERS: [&str; 2] = ["writer-1", "writer-2"];
/// A pod that writes past the page cache and flushes nothing, so that a cut finds writes to tear and to lose.
const SCRIBBLER: &str = "scribbler";
/// Pods that are run, stopped, started and evicted.
const LIVES: [&str; 3] = ["life-1", "life-2", "life-3"];
/// Each record is on the disk before it is said. What was half-way when the power went is begun again.
const WRITE: &str = "trap 'exit 0' TERM; touch /records; n=$(wc -l < /records); while :; do n=$((n+1)); \
    echo $n | dd of=/records oflag=append conv=notrunc,fsync 2>/dev/null && echo record $n; sleep 0.2; done";
const SCRIBBLE: &str = "trap 'exit 0' TERM; while :; do \
    dd if=/dev/zero of=/scribble bs=16k count=64 oflag=direct conv=notrunc 2>/dev/null; sleep 0.1; done";
const IDLE: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

fn pod(name: &str, script: &str, cpu: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{namespace: drill, name: {name}}}\nspec:\n  addressPool: pods\n  stopGrace: 2s\n  \
         cpu: {cpu}\n  containers:\n  - name: main\n    image: {}\n    command: [sh, -c, \"{script}\"]\n",
        image("busybox")
    )
}

/// The manifest of the pods that write.
pub(crate) fn writers() -> String {
    let write = WRITERS.map(|name| pod(name, WRITE, "{shared: default}"));
    [write.join("---\n"), pod(SCRIBBLER, SCRIBBLE, "{shared: default}")].join("---\n")
}

/// A sequence of orders.
pub(crate) struct Load<'a> {
    fleet: &'a Fleet,
    random: Random,
    steps: u32,
}

impl<'a> Load<'a> {
    pub(crate) fn new(fleet: &'a Fleet, seed: u64) -> Self {
        Self { fleet, random: Random::new(seed), steps: 0 }
    }

    /// How many requests were made.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// Asks the platform for one thing that fits a pod's state, or for nothing where it is under way: mostly it is to
    /// get somewhere. That the platform refuses is as good: only what it takes is an order.
    pub(crate) fn step(&mut self) -> Result<()> {
        let name = *self.random.pick(&LIVES);
        let chance = self.random.between(0, 8);
        let Some(words) = words(self.state(name)?.as_deref(), chance) else { return Ok(()) };
        self.steps += 1;
        if words == ["apply"] {
            let cpu = if name == LIVES[0] { "{exclusive: 1}" } else { "{shared: default}" };
            return self.fleet.try_apply(&pod(name, IDLE, cpu), &[]).map(drop);
        }
        self.fleet.berth(&[words, &[&format!("drill/{name}")]].concat()).map(drop)
    }

    /// How far the control plane sees a pod; none when there is none of that name.
    fn state(&self, name: &str) -> Result<Option<String>> {
        let pods = self.fleet.berth_json(&["get"])?;
        let mut pods = pods.as_array().into_iter().flatten();
        let found = pods.find(|pod| pod["pod"]["name"] == name);
        Ok(found.and_then(|pod| pod["state"].as_str()).map(str::to_owned))
    }
}

/// What to ask for, by the pod's state and a chance in eight.
fn words(state: Option<&str>, chance: u64) -> Option<&'static [&'static str]> {
    match (state, chance) {
        (None | Some("Evicted"), _) | (Some("Failed"), 0..=3) => Some(&["apply"]),
        (Some("Running"), 0..=2) => Some(&["stop"]),
        (Some("Running" | "Stopped"), 3) | (Some("Failed"), 4..) => Some(&["evict"]),
        (Some("Running" | "Stopped"), 4) | (Some("Placed"), 0) => Some(&["evict", "--release"]),
        (Some("Stopped"), _) => Some(&["start"]),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn every_state_has_a_way_on() {
        let check = |state, chance, expected: Option<&[&str]>| assert_eq!(words(state, chance), expected);
        check(None, 7, Some(&["apply"]));
        check(Some("Evicted"), 0, Some(&["apply"]));
        check(Some("Failed"), 0, Some(&["apply"]));
        check(Some("Failed"), 7, Some(&["evict"]));
        check(Some("Running"), 0, Some(&["stop"]));
        check(Some("Running"), 3, Some(&["evict"]));
        check(Some("Running"), 7, None);
        check(Some("Stopped"), 7, Some(&["start"]));
        check(Some("Stopping"), 0, None);
        check(Some("Placed"), 0, Some(&["evict", "--release"]));
        check(Some("Placed"), 1, None);
    }
}
