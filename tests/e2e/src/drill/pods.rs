//! The pods of the reboot drill: two databases with CPUs of their own, and small ones that share the rest.

use crate::image;
use crate::raw_cri::RawPod;

/// The namespace of all drills' pods.
pub(crate) const NAMESPACE: &str = "drill";

/// postgresql's data disk, which belongs to root at first: its container gives it away, and then is the user postgres.
const POSTGRESQL_DISK: &str = "  disks: [{name: data, size: 1Gi}]\n";
const POSTGRESQL_MOUNT: &str =
    "    user: {uid: 0, gid: 0}\n    mounts: [{disk: data, path: /var/lib/postgresql}]\n";
const POSTGRESQL: [&str; 3] =
    ["sh", "-c", "chown 101:101 /var/lib/postgresql && exec su postgres -c 'exec /entry'"];
/// Nothing, until told to end.
const IDLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"];
/// Every write is in redis's log, and the log on the disk, before it is answered.
const REDIS_ARGS: [&str; 10] = [
    "--bind",
    "0.0.0.0",
    "--protected-mode",
    "no",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--dir",
    "/data",
];

/// A pod of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrillPod {
    pub(crate) name: String,
    app: &'static str,
    command: &'static [&'static str],
    args: &'static [&'static str],
    spec: &'static str,
    /// A line of the spec, if it has a data disk.
    disk: &'static str,
    container: &'static str,
}

impl DrillPod {
    /// `namespace/name`.
    pub(crate) fn id(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }

    /// The same for the runtime's bare calls.
    pub(crate) fn raw(&self) -> RawPod {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        // The bare calls know no data disks: without its disk a pod runs as its image says.
        let command = if self.disk.is_empty() { self.command } else { &[] };
        RawPod {
            name: self.name.clone(),
            image: image(self.app),
            command: words(command),
            args: words(self.args),
        }
    }

    fn document(&self) -> String {
        let words = |key: &str, words: &[&str]| match words {
            [] => String::new(),
            some => format!("    {key}: {some:?}\n"),
        };
        format!(
            "kind: Pod\nmetadata: {{namespace: {NAMESPACE}, name: {}}}\nspec:\n  addressPool: pods\n  stopGrace: 20s\n\
             {}{}  containers:\n  - name: main\n    image: {}\n{}{}{}",
            self.name,
            self.spec,
            self.disk,
            image(self.app),
            words("command", self.command),
            words("args", self.args),
            self.container
        )
    }
}

/// So many pods, at least 2.
pub(crate) fn pods(count: usize) -> Vec<DrillPod> {
    let postgresql = DrillPod {
        name: "postgresql".to_owned(),
        app: "postgresql",
        command: &POSTGRESQL,
        args: &[],
        spec: "  cpu: {exclusive: 1}\n  priority: 10\n  limits: {memory: {max: 512Mi}}\n",
        disk: POSTGRESQL_DISK,
        container: POSTGRESQL_MOUNT,
    };
    let redis = DrillPod {
        name: "redis".to_owned(),
        app: "redis",
        command: &[],
        args: &REDIS_ARGS,
        spec: "  cpu: {exclusive: 1}\n  priority: 5\n  limits: {memory: {max: 256Mi}, swapMax: 0}\n",
        disk: "",
        container: "",
    };
    let small = (1..=count.saturating_sub(2)).map(|number| DrillPod {
        name: format!("small-{number}"),
        app: "busybox",
        command: &IDLE,
        args: &[],
        spec: "  cpu: {shared: default}\n  limits: {pidsMax: 50}\n",
        disk: "",
        container: "    ulimits: [{name: nofile, soft: 1111}]\n",
    });
    [postgresql, redis].into_iter().chain(small).collect()
}

/// The manifest of pods.
pub(crate) fn manifest(pods: &[DrillPod]) -> String {
    pods.iter().map(DrillPod::document).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_has_every_pod() {
        let pods = pods(10);
        assert_eq!(pods.len(), 10);
        let manifest = manifest(&pods);
        assert_eq!(manifest.matches("kind: Pod").count(), 10);
        assert!(manifest.contains("    args: [\"--bind\", \"0.0.0.0\", "), "{manifest}");
        assert!(manifest.contains("\n    command: [\"sh\", \"-c\", "), "{manifest}");
    }
}
