//! Orders, one after another as fast as the platform takes them, to pods that nobody else cares for; and the pods that
//! write.

use crate::drill::random::Random;
use crate::{Fleet, image};
use anyhow::Result;

/// Pods that write records, and are never told anything.
pub(crate) const WRITERS: [&str; 2] = ["writer-1", "writer-2"];
/// Pods that are run, stopped, started and evicted.
const LIVES: [&str; 3] = ["life-1", "life-2", "life-3"];
/// Each record is on the disk before it is said. What was half-way when the power went is begun again.
const WRITE: &str = "trap 'exit 0' TERM; touch /records; n=$(wc -l < /records); while :; do n=$((n+1)); \
    echo $n | dd of=/records oflag=append conv=notrunc,fsync 2>/dev/null && echo record $n; sleep 0.2; done";
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
    WRITERS.map(|name| pod(name, WRITE, "{shared: default}")).join("---\n")
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

    /// Asks the platform for one thing. That it refuses what does not fit the pod's state is as good: only what it
    /// takes is an order.
    pub(crate) fn step(&mut self) -> Result<()> {
        let name = *self.random.pick(&LIVES);
        let pod_id = format!("drill/{name}");
        self.steps += 1;
        let words: &[&str] = match self.random.between(0, 8) {
            0..=2 => {
                let cpu = if name == LIVES[0] { "{exclusive: 1}" } else { "{shared: default}" };
                return self.fleet.try_apply(&pod(name, IDLE, cpu), &[]).map(drop);
            }
            3 => &["stop"],
            4 | 5 => &["start"],
            6 => &["evict"],
            _ => &["evict", "--release"],
        };
        self.fleet.berth(&[words, &[&pod_id]].concat()).map(drop)
    }
}
