//! The network configuration by which containerd attaches pods: of what kind, and by which interface of the host.

use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// Where containerd looks unless it is told otherwise.
pub(super) const FOLDER: &str = "/etc/cni/net.d";
/// What the `ipam` of the pods' network names.
pub(crate) const IPAM: &str = "berth-ipam";
/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The file that containerd goes by: the first by name of those that it takes for a network. If that one is damaged, it has
/// none (go-cni, `loadFromConfDir`).
pub(crate) fn first_list(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    let taken = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "conflist" || end == "conf" || end == "json")
    };
    Ok(files.into_iter().filter(|path| taken(path) && path.is_file()).min())
}

/// The plugins of a list, in their order, or the only one of a single network.
pub(crate) fn plugins(file: &Value) -> Vec<Value> {
    file["plugins"].as_array().cloned().unwrap_or_else(|| vec![file.clone()])
}

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
    /// The one that containerd goes by, if it is ours.
    pub(super) fn find(folder: &Path) -> io::Result<Option<Self>> {
        let first = match first_list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            first => first?,
        };
        match first {
            Some(path) if std::fs::metadata(&path)?.len() <= MAX_BYTES => {
                Ok(Self::parse(&std::fs::read(&path)?))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Reads a list of plugins, or a single one; none if it is no such thing, or not ours.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(bytes).ok()?;
        let plugins = plugins(&file);
        let text = |key: &str| Some(file[key].as_str()?.to_owned());
        let network = Self { name: text("name")?, version: text("cniVersion").unwrap_or_default(), plugins };
        network.main_plugin().is_some().then_some(network)
    }

    fn main_plugin(&self) -> Option<&Value> {
        self.plugins.iter().find(|plugin| plugin["ipam"]["type"] == IPAM)
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
    fn the_first_by_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Network::find(&folder.path().join("absent")).unwrap(), None);
        assert_eq!(Network::find(folder.path()).unwrap(), None);
        let ours = |name: &str| {
            format!(r#"{{"name": "{name}", "type": "bridge", "ipam": {{"type": "berth-ipam"}}}}"#)
        };
        let check = |name: &str, text: &str, expected: Option<&str>| {
            std::fs::write(folder.path().join(name), text).unwrap();
            let found = Network::find(folder.path()).unwrap();
            assert_eq!(found.map(|network| network.name).as_deref(), expected, "with {name}");
        };
        check("30-c.conflist", &ours("c"), Some("c"));
        check("20-b.conf", &ours("b"), Some("b"));
        check("15-a.json", &ours("a"), Some("a"));
        check("10-x.txt", &ours("x"), Some("a"));
        check("05-theirs.conflist", &ours("t").replace("berth-ipam", "host-local"), None);
        check("04-ours.conflist", &ours("o"), Some("o"));
        check("03-damaged.conflist", "{", None);
    }
}
