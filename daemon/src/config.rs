//! Configuration: `/etc/berth/berthd.toml`. Every key has a default, unknown ones are refused, and each error names
//! the file, the key and the value.

use crate::link;
use crate::node::Reservation;
use crate::runtime::LogLimits;
use berth_model::{Access, Bytes, NodeName, SharedPaths, is_shareable};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Where configuration is read from unless the command line says otherwise.
pub const DEFAULT_CONFIG_PATH: &str = "/etc/berth/berthd.toml";
/// The port on which the control plane signs certificates, unless `control_enroll` says otherwise.
pub const DEFAULT_ENROLL_PORT: u16 = 7444;

/// Where other nodes are served, unless `peer_listen` says otherwise.
const DEFAULT_PEER_LISTEN: &str = "0.0.0.0:7445";
/// Where a monitoring system asks, unless `metrics_listen` says otherwise: what pods are there is not everybody's business.
const DEFAULT_METRICS_LISTEN: &str = "127.0.0.1:7446";

/// Longest key and value of a label, in bytes; Kubernetes has 63 for the parts of both.
const LABEL_MAX_BYTES: usize = 253;
/// Most labels of a node: they are compared at every placement.
const LABELS_MAX: usize = 64;

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `node`: this node's name, a DNS label. Default: the one in the certificate that joining gave.
    pub node: Option<NodeName>,
    /// `control`: the control plane, `host:port`. Default: none; then the node keeps what it has and reports to nobody.
    pub control: Option<String>,
    /// `control_enroll`: where joining goes, `host:port`. Default: the host of `control`, port 7444.
    pub control_enroll: Option<String>,
    /// `state_dir`: ledger, keys and pods' files; absolute. Default: `/var/lib/berth`.
    pub state_dir: PathBuf,
    /// `log_dir`: containers' logs; absolute. Default: `/var/log/berth/pods`.
    pub log_dir: PathBuf,
    /// `log_max_bytes` and `log_files`: how much is kept of each container's logs. Default: `10Mi`, 5.
    pub log_limits: LogLimits,
    /// `peer_listen`: where other nodes of the fleet are served data disks that pods take along, `address:port`; on
    /// every address of the host by default, port 7445. Empty: nowhere, and no such disk leaves this node.
    pub peer_listen: Option<SocketAddr>,
    /// `metrics_listen`: where a monitoring system asks for numbers, `address:port`, over plain HTTP (`/metrics`). Default:
    /// `127.0.0.1:7446`. Empty: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// `socket`: where `berthctl` asks; absolute. Default: `/run/berth/berthd.sock`.
    pub socket: PathBuf,
    /// `socket_group`: whose members may ask there. Default: `berth`.
    pub socket_group: String,
    /// `cni_socket`: where the CNI plugin asks, root only; absolute. Default: `/run/berth/cni.sock`.
    pub cni_socket: PathBuf,
    /// `probe_interface`: the host's interface by which addresses are probed for a second owner before a pod uses
    /// them. Default: the bridge or master that the network configuration of containerd names. Empty: not at all.
    pub probe_interface: Option<String>,
    /// `containerd_socket`: absolute. Default: `/run/containerd/containerd.sock`.
    pub containerd_socket: PathBuf,
    /// `pause_image`: the archive that the package ships; absolute. Default: `/usr/share/berth/pause.tar`.
    pub pause_image: PathBuf,
    /// `reserved_cpus`, `reserved_memory` and `reserved_pids`: what is kept for the system's own services: CPUs that no pod
    /// is given, in the kernel's list format; memory, such as `512Mi`; processes and threads. Default: nothing.
    pub reservation: Reservation,
    /// `labels`: a table of what placement may select this node by. Default: none. At most 64.
    pub labels: BTreeMap<String, String>,
    /// `host_network`: whether orders may have pods in this host's network, where they take its ports, reach what listens on
    /// its loopback device and its abstract sockets, and send raw packets. Default: false.
    pub host_network: bool,
    /// `host_paths`: a table of what orders may have of this host in containers (folders, files, sockets and devices, by
    /// exactly these names), each `read-only` or `read-write`. Default: nothing.
    pub host_paths: SharedPaths,
    /// `log`: what is logged, as `tracing_subscriber::EnvFilter` has it. Default: `info`.
    pub log: String,
    /// `log_format`: `auto` (the journal under systemd, text otherwise), `journal`, `text` or `json`. Default: `auto`.
    pub log_format: LogFormat,
}

/// How and where the daemon logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal under systemd, text otherwise.
    #[default]
    Auto,
    /// The journal.
    Journal,
    /// Lines on stderr.
    Text,
    /// JSON lines on stderr.
    Json,
}

/// What containers may do with a path of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sharing {
    ReadOnly,
    ReadWrite,
}

impl Sharing {
    fn name(access: Access) -> &'static str {
        match access {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        }
    }
}

impl From<Sharing> for Access {
    fn from(sharing: Sharing) -> Self {
        match sharing {
            Sharing::ReadOnly => Self::ReadOnly,
            Sharing::ReadWrite => Self::ReadWrite,
        }
    }
}

impl LogFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Journal => "journal",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The file, before its values are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node: Option<String>,
    control: Option<String>,
    control_enroll: Option<String>,
    state_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    log_max_bytes: Option<String>,
    log_files: Option<usize>,
    peer_listen: Option<String>,
    metrics_listen: Option<String>,
    socket: Option<PathBuf>,
    socket_group: Option<String>,
    cni_socket: Option<PathBuf>,
    probe_interface: Option<String>,
    containerd_socket: Option<PathBuf>,
    pause_image: Option<PathBuf>,
    reserved_cpus: Option<String>,
    reserved_memory: Option<String>,
    reserved_pids: u64,
    labels: BTreeMap<String, String>,
    host_network: bool,
    host_paths: BTreeMap<String, Sharing>,
    log: Option<String>,
    log_format: LogFormat,
}

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has keys that are unknown or of the wrong type.
    #[error("parse configuration {path}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where in it, and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("configuration {path}: {key} = {value:?}: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it says.
        value: String,
        /// Why not.
        why: String,
    },
}

/// A value that makes no sense: key, value, why.
type Bad = (&'static str, String, String);

impl Config {
    /// Reads a file. A missing one is an error only where the path was given by hand.
    ///
    /// # Errors
    /// When it cannot be read, is malformed, or holds a value that makes no sense.
    pub fn load(given: Option<&Path>) -> Result<Self, ConfigError> {
        let path = given.unwrap_or(Path::new(DEFAULT_CONFIG_PATH));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound && given.is_none() => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        Self::parse(&text, path)
    }

    /// Reads a text; `path` is for its errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        Self::from_file(file).map_err(|(key, value, why)| ConfigError::Value {
            path: path.to_owned(),
            key,
            value,
            why,
        })
    }

    fn from_file(file: File) -> Result<Self, Bad> {
        check_labels(&file.labels)?;
        let state_dir = absolute("state_dir", file.state_dir, "/var/lib/berth")?;
        let log_dir = absolute("log_dir", file.log_dir, "/var/log/berth/pods")?;
        let socket = "/run/containerd/containerd.sock";
        let containerd_socket = absolute("containerd_socket", file.containerd_socket, socket)?;
        let own = never_shared(&[&state_dir, &log_dir, &containerd_socket]);
        Ok(Self {
            node: parsed("node", file.node)?,
            control: address("control", file.control)?,
            control_enroll: address("control_enroll", file.control_enroll)?,
            host_network: file.host_network,
            host_paths: host_paths(file.host_paths, &own)?,
            state_dir,
            log_dir,
            containerd_socket,
            log_limits: log_limits(file.log_max_bytes, file.log_files)?,
            peer_listen: listener("peer_listen", file.peer_listen, DEFAULT_PEER_LISTEN)?,
            metrics_listen: listener("metrics_listen", file.metrics_listen, DEFAULT_METRICS_LISTEN)?,
            socket: absolute("socket", file.socket, "/run/berth/berthd.sock")?,
            socket_group: not_empty("socket_group", file.socket_group, "berth")?,
            cni_socket: absolute("cni_socket", file.cni_socket, "/run/berth/cni.sock")?,
            probe_interface: interface("probe_interface", file.probe_interface)?,
            pause_image: absolute("pause_image", file.pause_image, "/usr/share/berth/pause.tar")?,
            reservation: Reservation {
                cpus: parsed("reserved_cpus", file.reserved_cpus)?.unwrap_or_default(),
                memory: parsed("reserved_memory", file.reserved_memory)?.unwrap_or(Bytes(0)),
                pids: file.reserved_pids,
            },
            labels: file.labels,
            log: filter(file.log)?,
            log_format: file.log_format,
        })
    }

    /// The configuration as it takes effect, defaults included: a file that says the same.
    pub fn to_toml(&self) -> String {
        use toml_edit::{DocumentMut, Table, value};
        let mut document = DocumentMut::new();
        let node = self.node.as_ref().map(ToString::to_string);
        let named = [
            ("node", node),
            ("control", self.control.clone()),
            ("control_enroll", self.control_enroll.clone()),
            ("probe_interface", self.probe_interface.clone()),
        ];
        for (key, text) in named {
            if let Some(text) = text {
                document.insert(key, value(text));
            }
        }
        let paths = [
            ("state_dir", &self.state_dir),
            ("log_dir", &self.log_dir),
            ("socket", &self.socket),
            ("cni_socket", &self.cni_socket),
            ("containerd_socket", &self.containerd_socket),
            ("pause_image", &self.pause_image),
        ];
        for (key, path) in paths {
            document.insert(key, value(path.display().to_string()));
        }
        for (key, address) in [("peer_listen", self.peer_listen), ("metrics_listen", self.metrics_listen)] {
            let address = address.map(|address| address.to_string());
            document.insert(key, value(address.unwrap_or_default()));
        }
        document.insert("socket_group", value(&self.socket_group));
        let Reservation { cpus, memory, pids } = &self.reservation;
        document.insert("reserved_cpus", value(cpus.to_string()));
        document.insert("reserved_memory", value(memory.0.to_string()));
        document.insert("reserved_pids", value(i64::try_from(*pids).unwrap_or(i64::MAX)));
        document.insert("log_max_bytes", value(self.log_limits.max_bytes.to_string()));
        document.insert("log_files", value(i64::try_from(self.log_limits.files).unwrap_or(i64::MAX)));
        document.insert("host_network", value(self.host_network));
        document.insert("log", value(&self.log));
        document.insert("log_format", value(self.log_format.name()));
        let labels = self.labels.iter().map(|(key, text)| (key, value(text)));
        document.insert("labels", Table::from_iter(labels).into());
        let shared = self.host_paths.iter().map(|(path, access)| (path, value(Sharing::name(*access))));
        document.insert("host_paths", Table::from_iter(shared).into());
        document.to_string()
    }

    /// Folders of this agent and its runtime, of which nothing is shared with containers, by whatever name.
    pub fn never_shared(&self) -> Vec<PathBuf> {
        let own = [&self.state_dir, &self.log_dir, &self.containerd_socket, &self.socket, &self.cni_socket];
        never_shared(&own.map(PathBuf::as_path))
    }

    /// Where joining goes, for a control plane at `control`.
    pub fn enroll_address(&self, control: &str) -> String {
        match (&self.control_enroll, control.rsplit_once(':')) {
            (Some(enroll), _) => enroll.clone(),
            (None, Some((host, _))) => format!("{host}:{DEFAULT_ENROLL_PORT}"),
            (None, None) => format!("{control}:{DEFAULT_ENROLL_PORT}"),
        }
    }
}

fn parsed<T>(key: &'static str, text: Option<String>) -> Result<Option<T>, Bad>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let parse = |text: String| text.parse().map_err(|error: T::Err| (key, text, error.to_string()));
    text.map(parse).transpose()
}

/// The kernel's IFNAMSIZ less the NUL.
const INTERFACE_MAX_BYTES: usize = 15;

fn interface(key: &'static str, name: Option<String>) -> Result<Option<String>, Bad> {
    let plain = |name: &String| {
        name.len() <= INTERFACE_MAX_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    match name {
        Some(name) if !plain(&name) => Err((key, name, "it is no interface name".to_owned())),
        name => Ok(name),
    }
}

fn address(key: &'static str, text: Option<String>) -> Result<Option<String>, Bad> {
    if let Some(text) = &text {
        link::split_address(text).map_err(|error| (key, text.clone(), error.to_string()))?;
    }
    Ok(text)
}

fn listener(key: &'static str, text: Option<String>, default: &str) -> Result<Option<SocketAddr>, Bad> {
    let text = text.unwrap_or_else(|| default.to_owned());
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        Ok(_) => Err((key, text, "names no port".to_owned())),
        Err(_) if text.is_empty() => Ok(None),
        Err(_) => Err((key, text, "is not of the form address:port".to_owned())),
    }
}

fn absolute(key: &'static str, path: Option<PathBuf>, default: &str) -> Result<PathBuf, Bad> {
    let path = path.unwrap_or_else(|| default.into());
    let clean = path.is_absolute() && path.components().all(|part| part != std::path::Component::ParentDir);
    match clean {
        true => Ok(path),
        false => Err((key, path.display().to_string(), "is no absolute path without `..`".to_owned())),
    }
}

/// Below the least a log would be rotated at every look; what is larger than the most is packed for minutes.
const LOG_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Most files that are kept of a container's logs.
const LOG_MAX_FILES: usize = 1_000;

fn log_limits(max_bytes: Option<String>, files: Option<usize>) -> Result<LogLimits, Bad> {
    let default = LogLimits::default();
    let max_bytes = parsed::<Bytes>("log_max_bytes", max_bytes)?.map_or(default.max_bytes, |bytes| bytes.0);
    let files = files.unwrap_or(default.files);
    if !LOG_BYTES.contains(&max_bytes) {
        return Err(("log_max_bytes", max_bytes.to_string(), "is outside 64Ki to 1Gi".to_owned()));
    }
    match (1..=LOG_MAX_FILES).contains(&files) {
        true => Ok(LogLimits { max_bytes, files }),
        false => Err(("log_files", files.to_string(), format!("is outside 1 to {LOG_MAX_FILES}"))),
    }
}

fn not_empty(key: &'static str, text: Option<String>, default: &str) -> Result<String, Bad> {
    let text = text.unwrap_or_else(|| default.to_owned());
    match text.is_empty() {
        true => Err((key, text, "is empty".to_owned())),
        false => Ok(text),
    }
}

fn filter(text: Option<String>) -> Result<String, Bad> {
    let text = not_empty("log", text, "info")?;
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(("log", text, error.to_string())),
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Bad> {
    if labels.len() > LABELS_MAX {
        let count = labels.len().to_string();
        return Err(("labels", count, format!("are too many, at most {LABELS_MAX} are possible")));
    }
    let word = |text: &str| text.len() <= LABEL_MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let bad = labels.iter().find(|(key, value)| key.is_empty() || !word(key) || !word(value));
    match bad {
        Some((key, value)) => {
            let why = format!("is no label: printable characters, at most {LABEL_MAX_BYTES}");
            Err(("labels", format!("{key}={value}"), why))
        }
        None => Ok(()),
    }
}

/// Most paths of the host that are shared: all of them are among its facts.
const HOST_PATHS_MAX: usize = 256;

/// What is the host's own in any case: who may write there is root on it.
const NEVER_SHARED: [&str; 4] = ["/etc/berth", "/run/berth", "/run/containerd", "/var/lib/containerd"];

fn never_shared(own: &[&Path]) -> Vec<PathBuf> {
    own.iter().copied().chain(NEVER_SHARED.iter().map(Path::new)).map(Path::to_owned).collect()
}

fn host_paths(shared: BTreeMap<String, Sharing>, own: &[PathBuf]) -> Result<SharedPaths, Bad> {
    if shared.len() > HOST_PATHS_MAX {
        let count = shared.len().to_string();
        return Err(("host_paths", count, format!("are too many, at most {HOST_PATHS_MAX} are possible")));
    }
    let shared: SharedPaths = shared.into_iter().map(|(path, sharing)| (path, sharing.into())).collect();
    match shared.keys().find_map(|path| Some((path.clone(), not_to_share(path, &shared, own)?))) {
        Some((path, why)) => Err(("host_paths", path, why)),
        None => Ok(shared),
    }
}

fn not_to_share(path: &str, shared: &SharedPaths, own: &[PathBuf]) -> Option<String> {
    if !is_shareable(path) {
        return Some("is no absolute path without . and .., or is all of the host".to_owned());
    }
    if let Some(own) = own.iter().find(|own| own.starts_with(path) || Path::new(path).starts_with(own)) {
        return Some(format!("has to do with {}, which is this agent's or its runtime's", own.display()));
    }
    // Whoever may write around it may have it lead elsewhere.
    let open = shared.iter().filter(|(other, access)| *other != path && **access == Access::ReadWrite);
    let around = open.map(|(other, _)| other).find(|other| Path::new(path).starts_with(other));
    around.map(|around| format!("is in {around}, where containers may write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chain;

    fn check(text: &str, expected: &[&str]) {
        let error = Config::parse(text, Path::new("/etc/berth/berthd.toml"));
        let error = chain(&error.expect_err(text));
        for part in expected.iter().chain(&["/etc/berth/berthd.toml"]) {
            assert!(error.contains(part), "{text:?}: {error:?} does not say {part:?}");
        }
    }

    /// What the package brings is read by whoever looks for a key: all are there, each with a value that is accepted.
    #[test]
    fn the_packaged_file_has_every_key() {
        let packaged = include_str!("../../packaging/config/berthd.toml");
        let keys =
            packaged.lines().filter_map(|line| line.strip_prefix('#').filter(|line| line.contains(" = ")));
        let keys: Vec<&str> = keys.filter(|line| !line.starts_with(' ')).collect();
        let config = Config::parse(&keys.join("\n"), Path::new("/etc/berth/berthd.toml")).unwrap();
        let said: toml_edit::DocumentMut = config.to_toml().parse().unwrap();
        let known: Vec<&str> = said.iter().map(|(key, _)| key).collect();
        for key in &known {
            assert!(keys.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not in it");
        }
        assert_eq!(keys.len(), known.len(), "{known:?}");
        let defaults = Config::parse("", Path::new("/etc/berth/berthd.toml")).unwrap().to_toml();
        let defaults: toml_edit::DocumentMut = defaults.parse().unwrap();
        let examples = ["node", "control", "control_enroll", "labels", "host_paths", "probe_interface"];
        for key in known.iter().filter(|key| !examples.contains(key)) {
            assert_eq!(
                said[*key].to_string(),
                defaults[*key].to_string(),
                "{key} is not shown with its default"
            );
        }
    }

    #[test]
    fn bad_files() {
        check("node = ", &["line 1"]);
        check("nodes = \"a\"", &["nodes", "unknown field"]);
        check("node = 7", &["node", "string"]);
        check("node = \"Web_1\"", &["node", "Web_1", "DNS label"]);
        check("node = \"a\"\nnode = \"b\"", &["line 2", "duplicate key"]);
        check("control = \"control.example\"", &["control", "control.example", "host:port"]);
        check("control = \"control.example:0\"", &["control", "host:port"]);
        check("control_enroll = \"x y:1\"", &["control_enroll", "x y:1"]);
        check("state_dir = \"var/lib\"", &["state_dir", "var/lib", "absolute"]);
        check("socket = \"/run/../etc/x\"", &["socket", "/run/../etc/x"]);
        check("socket_group = \"\"", &["socket_group", "empty"]);
        check("reserved_cpus = \"0-\"", &["reserved_cpus", "0-"]);
        check("reserved_memory = \"-1\"", &["reserved_memory", "-1"]);
        check("reserved_memory = \"20000000000Gi\"", &["reserved_memory"]);
        check("reserved_pids = -1", &["reserved_pids"]);
        check("log_max_bytes = \"1Ki\"", &["log_max_bytes", "1024", "outside 64Ki to 1Gi"]);
        check("log_files = 0", &["log_files", "outside 1 to 1000"]);
        check("log_files = -1", &["log_files"]);
        check("log = \"berthd=loud\"", &["log", "berthd=loud"]);
        check("log_format = \"xml\"", &["log_format", "xml"]);
        check("probe_interface = \"eth/0\"", &["probe_interface", "no interface name"]);
        check("peer_listen = \"node:7445\"", &["peer_listen", "address:port"]);
        check("peer_listen = \"0.0.0.0:0\"", &["peer_listen", "no port"]);
        check("metrics_listen = \"7446\"", &["metrics_listen", "address:port"]);
        check("host_network = \"yes\"", &["host_network", "boolean"]);
        check("[labels]\nzone = \"a b\"", &["labels", "zone=a b"]);
        check("[labels]\nzone = 1", &["zone", "string"]);
        let host_paths = |line: &str, expected: &[&str]| check(&format!("[host_paths]\n{line}"), expected);
        host_paths("\"/srv\" = \"rw\"", &["rw", "read-only"]);
        host_paths("\"srv\" = \"read-only\"", &["host_paths", "srv", "no absolute path"]);
        host_paths("\"/\" = \"read-only\"", &["all of the host"]);
        host_paths("\"/var/lib\" = \"read-only\"", &["/var/lib", "has to do with /var/lib/berth"]);
        host_paths(
            "\"/var/lib/berth/tls\" = \"read-only\"",
            &["has to do with /var/lib/berth, which is this agent's"],
        );
        host_paths("\"/run/containerd\" = \"read-only\"", &["has to do with /run/containerd"]);
        host_paths("\"/etc/berth/seccomp\" = \"read-only\"", &["has to do with /etc/berth"]);
        host_paths("\"/var/log\" = \"read-only\"", &["has to do with /var/log/berth/pods"]);
        let nested = "\"/srv\" = \"read-write\"\n\"/srv/models\" = \"read-only\"";
        host_paths(nested, &["/srv/models", "is in /srv, where containers may write"]);
    }

    #[test]
    fn defaults_and_values() {
        let path = Path::new("x");
        let empty = Config::parse("", path).unwrap();
        assert_eq!(empty.socket, Path::new("/run/berth/berthd.sock"));
        assert_eq!((empty.node, empty.control), (None, None));
        assert_eq!(empty.peer_listen.map(|address| address.port()), Some(7445));
        assert_eq!(Config::parse("peer_listen = \"\"", path).unwrap().peer_listen, None);
        assert_eq!(empty.metrics_listen.map(|address| address.ip().is_loopback()), Some(true));
        let full = "node = \"n1\"\ncontrol = \"[2001:db8::1]:7443\"\nreserved_cpus = \"0-1\"\n\
                    reserved_memory = \"512Mi\"\nreserved_pids = 1000\nlog_max_bytes = \"1Mi\"\nlog_files = 2\n\
                    host_network = true\nlog_format = \"json\"\n[labels]\nzone = \"a\"\n\
                    [host_paths]\n\"/srv\" = \"read-only\"\n\"/srv/x\" = \"read-write\"\n";
        let full = Config::parse(full, path).unwrap();
        assert_eq!((full.reservation.memory, full.reservation.pids), (Bytes(512 << 20), 1_000));
        assert_eq!(full.log_limits, LogLimits { max_bytes: 1 << 20, files: 2 });
        assert_eq!(full.enroll_address("[2001:db8::1]:7443"), "[2001:db8::1]:7444");
        assert_eq!(full.log_format, LogFormat::Json);
        for config in [full, Config::parse("", path).unwrap()] {
            let said = config.to_toml();
            assert_eq!(Config::parse(&said, path).unwrap(), config, "{said}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_only_if_it_was_named() {
        let error = Config::load(Some(Path::new("/nonexistent/berthd.toml"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/berthd.toml"), "{error}");
    }
}
