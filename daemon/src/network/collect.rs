//! CNI's GC, called by the agent.
//!
//! Why: containerd never calls it (go-cni#131), and what a plugin leaves behind when a DEL was cut short (rules of
//! portmap or firewall, an address of some other IPAM in the chain) stays for ever. So every plugin of the pods'
//! network is told which attachments are valid, at start and then every ten minutes. Plugins take that from version
//! 1.1.0 of the specification on; a configuration that speaks an older one says that they do not know GC, and is left
//! alone: the agent's own notes are swept without any plugin (see `reconcile`).
//!
//! Valid is what the ledger has attached: each ADD on this network passes by it, and asks before anything is made.
//! The specification wants no ADD beside a GC. ADDs come whenever containerd likes, so they wait meanwhile (`gate`):
//! an ADD that was answered before is on the list, and one that comes after has made nothing yet. Whatever hangs is
//! ended after [`LIMIT`], and nothing here is ever in the way of a DEL.

use super::conflist::Network;
use crate::ledger::{AttachmentKey, Ledger};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::RwLock;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

/// How often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// How long all plugins together may take; half of what the plugin for addresses waits for an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The version that brought GC.
const SINCE: (u32, u32) = (1, 1);

/// Held by ADDs for reading, and by GC for writing.
pub(super) type Gate = Arc<RwLock<()>>;

/// Where to look for what.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Network configurations.
    pub(super) configurations: PathBuf,
    /// Plugins, the first folder that has one first.
    pub(super) plugins: Vec<PathBuf>,
}

impl Places {
    /// Those of Debian and of containerd's default.
    pub(super) fn system() -> Self {
        Self {
            configurations: super::conflist::FOLDER.into(),
            plugins: ["/usr/lib/cni", "/opt/cni/bin"].map(PathBuf::from).to_vec(),
        }
    }
}

/// Why a plugin did not collect.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    /// The configurations cannot be read.
    #[error("read the network configurations in {path}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plugin cannot be run.
    #[error("run plugin {plugin} for GC of network {network}")]
    Run {
        /// Which.
        plugin: String,
        /// Of which network.
        network: String,
        /// Why.
        source: io::Error,
    },
    /// It was run and failed.
    #[error("plugin {plugin} failed to collect for network {network}: {said}")]
    Failed {
        /// Which.
        plugin: String,
        /// Of which network.
        network: String,
        /// What it printed.
        said: String,
    },
    /// All of them together took too long.
    #[error("the plugins of network {0} did not end in time")]
    TooSlow(String),
}

/// Collects at once and then for ever.
pub(super) async fn collect_for_ever(ledger: Ledger, gate: Gate, places: Places) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for error in collect(&ledger, &gate, &places).await {
            let error = crate::report::chain(&error);
            warn!("left-over network resources could not all be collected: {error}");
        }
    }
}

/// Collects once; answers what failed. One plugin's failure keeps no other from its turn.
pub(super) async fn collect(ledger: &Ledger, gate: &Gate, places: &Places) -> Vec<CollectError> {
    let network = match Network::find(&places.configurations) {
        Ok(Some(network)) if speaks_gc(&network.version) => network,
        Ok(Some(network)) => {
            debug!(network = network.name, version = network.version, "this network's version has no GC");
            return Vec::new();
        }
        Ok(None) => return Vec::new(),
        Err(source) => return vec![CollectError::Read { path: places.configurations.clone(), source }],
    };
    let _closed = gate.write().await;
    let valid: Vec<AttachmentKey> = ledger.read(|book| book.attachments.keys().cloned().collect());
    let all = async {
        let mut failures = Vec::new();
        for plugin in &network.plugins {
            failures.extend(run(&network, plugin, &valid, places).await.err());
        }
        failures
    };
    match timeout(LIMIT, all).await {
        Ok(failures) => failures,
        Err(_) => vec![CollectError::TooSlow(network.name)],
    }
}

fn speaks_gc(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SINCE,
        (Some(Ok(_) | Err(_)) | None, Some(Ok(_) | Err(_)) | None) => false,
    }
}

async fn run(
    network: &Network,
    plugin: &Value,
    valid: &[AttachmentKey],
    places: &Places,
) -> Result<(), CollectError> {
    let kind = plugin["type"].as_str().unwrap_or_default().to_owned();
    let failed = |source| CollectError::Run { plugin: kind.clone(), network: network.name.clone(), source };
    let program = find(&kind, places).map_err(failed)?;
    let path = std::env::join_paths(&places.plugins).map_err(|error| failed(io::Error::other(error)))?;
    let mut child = Command::new(program)
        .env_clear()
        .env("CNI_COMMAND", "GC")
        .env("CNI_PATH", path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that reads nothing says by its end what it thinks of it.
        let _ = stdin.write_all(question(network, plugin, valid).to_string().as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Err(CollectError::Failed { plugin: kind, network: network.name.clone(), said })
        }
    }
}

/// A name without a slash, so that nothing outside of the folders is run.
fn find(kind: &str, places: &Places) -> io::Result<PathBuf> {
    let plain = !kind.is_empty() && !kind.contains('/') && kind != "..";
    let mut folders =
        places.plugins.iter().filter(|_| plain).map(|folder: &PathBuf| Path::new(folder).join(kind));
    folders
        .find(|path| path.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such plugin"))
}

/// The plugin's own configuration with what the specification adds to it.
fn question(network: &Network, plugin: &Value, valid: &[AttachmentKey]) -> Value {
    let valid: Vec<Value> =
        valid.iter().map(|key| json!({"containerID": key.sandbox_id, "ifname": key.interface})).collect();
    let mut question = plugin.clone();
    question["cniVersion"] = json!(network.version);
    question["name"] = json!(network.name);
    question["cni.dev/valid-attachments"] = json!(valid);
    // As libcni has had it before the specification had its word.
    question["cni.dev/attachments"] = json!(valid);
    question
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::epoch_ms;
    use crate::ledger::{Attachment, Moment};
    use crate::testing::{host_view, open, pod, pool_order, run_order};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions() {
        let speaking: Vec<_> = ["", "0.4.0", "1.0.0", "1", "x.1", "1.1.0", "1.2", "2.0.0"]
            .into_iter()
            .filter(|version| speaks_gc(version))
            .collect();
        assert_eq!(speaking, ["1.1.0", "1.2", "2.0.0"]);
    }

    /// A node with one attachment, and plugins that are scripts.
    struct Rig {
        folder: tempfile::TempDir,
        ledger: Ledger,
        places: Places,
    }

    impl Rig {
        async fn new(version: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let ledger = open(folder.path());
            for order in [pool_order(1, 1, "0"), run_order(2)] {
                ledger.admit(order, host_view(), Moment::now()).await.unwrap();
            }
            let attachment = Attachment {
                key: AttachmentKey { sandbox_id: "s1".to_owned(), interface: "eth0".to_owned() },
                netns: String::new(),
                pod: pod(),
                incarnation: berth_model::Incarnation(1),
                attached_at_ms: epoch_ms(),
                network: "berth".to_owned(),
                addresses: Vec::new(),
            };
            ledger.attach(attachment).await.unwrap();
            let places = Places {
                configurations: folder.path().join("net.d"),
                plugins: vec![folder.path().join("bin")],
            };
            std::fs::create_dir(&places.configurations).unwrap();
            std::fs::create_dir(&places.plugins[0]).unwrap();
            let list = json!({"cniVersion": version, "name": "berth", "plugins": [
                {"type": "first", "bridge": "berth0", "ipam": {"type": "berth-ipam"}}, {"type": "second"}]});
            std::fs::write(places.configurations.join("10.conflist"), list.to_string()).unwrap();
            Self { folder, ledger, places }
        }

        fn plugin(&self, name: &str, script: &str) {
            let path = self.places.plugins[0].join(name);
            let told = self.folder.path().join(name);
            let text = format!(
                "#!/bin/sh\ncat > {}\n[ \"$CNI_COMMAND\" = GC ] || exit 9\n{script}\n",
                told.display()
            );
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn told(&self, name: &str) -> Option<Value> {
            Some(serde_json::from_slice(&std::fs::read(self.folder.path().join(name)).ok()?).unwrap())
        }

        async fn collect(&self) -> Vec<String> {
            let errors = collect(&self.ledger, &Gate::default(), &self.places).await;
            errors.iter().map(|error| crate::report::chain(error)).collect()
        }
    }

    #[tokio::test]
    async fn every_plugin_is_told_what_is_valid() {
        let rig = Rig::new("1.1.0").await;
        rig.plugin("first", "echo '{\"code\": 99, \"msg\": \"oh\"}'; exit 1");
        rig.plugin("second", "exit 0");
        let failed = rig.collect().await;
        assert_eq!(
            failed,
            ["plugin first failed to collect for network berth: {\"code\": 99, \"msg\": \"oh\"}"]
        );
        for name in ["first", "second"] {
            let told = rig.told(name).unwrap();
            assert_eq!(told["cni.dev/valid-attachments"], json!([{"containerID": "s1", "ifname": "eth0"}]));
            assert_eq!((&told["name"], &told["cniVersion"]), (&json!("berth"), &json!("1.1.0")));
        }
        assert_eq!(rig.told("first").unwrap()["bridge"], "berth0");
    }

    #[tokio::test]
    async fn a_missing_plugin_is_told_by_name() {
        let rig = Rig::new("1.1.0").await;
        rig.plugin("second", "exit 0");
        let failed = rig.collect().await;
        assert_eq!(failed, ["run plugin first for GC of network berth: there is no such plugin"]);
        assert!(rig.told("second").is_some());
    }

    #[tokio::test]
    async fn an_older_network_is_left_alone() {
        let rig = Rig::new("1.0.0").await;
        rig.plugin("first", "exit 1");
        assert_eq!(rig.collect().await, [""; 0]);
        assert_eq!(rig.told("first"), None);
    }

    #[tokio::test]
    async fn nobody_is_attached_meanwhile() {
        let rig = Rig::new("1.1.0").await;
        let gate = Gate::default();
        let attaching = gate.read().await;
        let collecting = collect(&rig.ledger, &gate, &rig.places);
        assert!(timeout(Duration::from_millis(20), collecting).await.is_err(), "an ADD is under way");
        drop(attaching);
        assert_eq!(collect(&rig.ledger, &gate, &rig.places).await.len(), 2);
    }
}
