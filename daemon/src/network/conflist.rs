//! The network configuration by which containerd attaches pods: of what kind, and by which interface of the host.

use serde_json::Value;
use std::io;
use std::path::Path;

/// Where containerd looks; the first file by name counts.
pub(super) const FOLDER: &str = "/etc/cni/net.d";
/// What the `ipam` of the pods' network names.
const OURS: &str = "berth-ipam";
/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A network whose addresses are ours to answer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    /// Its name.
    pub(super) name: String,
    /// The version of the specification that it speaks.
    pub(super) version: String,
    /// Its plugins, in their order.
    pub(super) plugins: Vec<Value>,
}

impl Network {
    /// The first one of ours in the folder, by the files' names; none if there is none.
    pub(super) fn find(folder: &Path) -> io::Result<Option<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|kind| kind == "conflist" || kind == "conf"));
        files.sort();
        for path in files {
            if std::fs::metadata(&path)?.len() <= MAX_BYTES
                && let Some(network) = Self::parse(&std::fs::read(&path)?)
            {
                return Ok(Some(network));
            }
        }
        Ok(None)
    }

    /// Reads a list of plugins, or a single one; none if it is no such thing, or not ours.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(bytes).ok()?;
        let plugins = file["plugins"].as_array().cloned().unwrap_or_else(|| vec![file.clone()]);
        let text = |key: &str| Some(file[key].as_str()?.to_owned());
        let network = Self { name: text("name")?, version: text("cniVersion").unwrap_or_default(), plugins };
        network.main_plugin().is_some().then_some(network)
    }

    fn main_plugin(&self) -> Option<&Value> {
        self.plugins.iter().find(|plugin| plugin["ipam"]["type"] == OURS)
    }

    /// The host's side of the pods' network: the bridge (`cni0` unless it says), or the master of a macvlan, ipvlan
    /// or vlan. None where the configuration leaves it to the plugin.
    pub(super) fn host_interface(&self) -> Option<String> {
        let plugin = self.main_plugin()?;
        let named = |key: &str| Some(plugin[key].as_str()?.to_owned());
        match plugin["type"].as_str()? {
            "bridge" => Some(named("bridge").unwrap_or_else(|| "cni0".to_owned())),
            _ => named("master"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        let check = |file: &str, expected: Option<&str>| {
            let found = Network::parse(file.as_bytes()).and_then(|network| network.host_interface());
            assert_eq!(found.as_deref(), expected, "{file}");
        };
        let ours = r#""ipam": {"type": "berth-ipam"}"#;
        let list = |plugin: &str| {
            format!(r#"{{"name": "n", "plugins": [{{"type": "tuning"}}, {{{plugin}, {ours}}}]}}"#)
        };
        check(include_str!("../../../packaging/config/10-berth.conflist"), Some("berth0"));
        check(&list(r#""type": "bridge""#), Some("cni0"));
        check(&list(r#""type": "macvlan", "master": "eth1""#), Some("eth1"));
        check(&list(r#""type": "ipvlan", "master": "eth2""#), Some("eth2"));
        check(&list(r#""type": "ipvlan""#), None);
        check(&format!(r#"{{"name": "n", "type": "bridge", "bridge": "b", {ours}}}"#), Some("b"));
        for not_ours in ["", "{", "[]", r#"{"name": "n", "type": "bridge", "ipam": {"type": "host-local"}}"#]
        {
            check(not_ours, None);
        }
    }

    #[test]
    fn the_first_of_ours_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Network::find(&folder.path().join("absent")).unwrap(), None);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let network = |name: &str| {
            format!(r#"{{"name": "{name}", "type": "bridge", "ipam": {{"type": "berth-ipam"}}}}"#)
        };
        write("10-damaged.conflist", "{");
        write("20-b.conf", &network("b"));
        write("30-c.conflist", &network("c"));
        write("15-a.json", &network("a"));
        assert_eq!(Network::find(folder.path()).unwrap().unwrap().name, "b");
    }
}
