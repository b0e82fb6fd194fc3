//! Configuration: `/etc/berth/berth-control.toml`. Unknown keys are refused; every key has a default.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Where configuration is read from unless the command line says otherwise.
pub const DEFAULT_CONFIG_PATH: &str = "/etc/berth/berth-control.toml";

/// Longest deadline of an order and longest lease: a typing error of three digits should not pass.
const MAX_INTERVAL_MS: u64 = DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Shortest life of a node's certificate, and longest: the authority itself lives for ten years.
const CERTIFICATE_MS: RangeInclusive<u64> = 60_000..=365 * DAY_MS;
/// Shortest heartbeat: ten thousand nodes at this rate are ten thousand messages a second.
const MIN_HEARTBEAT_MS: u64 = 100;

/// The keys of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the store and the keys are.
    pub state_dir: PathBuf,
    /// Nodes and platforms, mutual TLS.
    pub listen: SocketAddr,
    /// Nodes that join, server-authenticated TLS.
    pub enroll_listen: SocketAddr,
    /// Where a monitoring system asks for numbers, plain HTTP; none for nowhere.
    #[serde(deserialize_with = "somewhere")]
    pub metrics_listen: Option<SocketAddr>,
    /// DNS names and addresses that the server's certificate is made for; clients verify the one they dial.
    pub server_names: Vec<String>,
    /// How often a node says that it lives, milliseconds.
    pub heartbeat_ms: u64,
    /// How long it counts as ready without saying so, milliseconds.
    pub lease_ms: u64,
    /// How long a node may take to run a pod, images included, milliseconds.
    pub run_deadline_ms: u64,
    /// How long it may take for any other order, milliseconds; a stop's grace is added.
    pub order_deadline_ms: u64,
    /// How long a migration's target may take to copy one data disk, milliseconds.
    pub copy_deadline_ms: u64,
    /// How long a node's certificate holds, milliseconds; nodes renew theirs at half of that.
    pub node_certificate_ms: u64,
    /// Most pods that are placed on one node.
    pub max_pods_per_node: u32,
    /// What is logged, as `tracing_subscriber::EnvFilter` has it.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            state_dir: PathBuf::from("/var/lib/berth-control"),
            listen: any(7443),
            enroll_listen: any(7444),
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7447))),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            heartbeat_ms: 10_000,
            lease_ms: 40_000,
            run_deadline_ms: 600_000,
            order_deadline_ms: 120_000,
            copy_deadline_ms: 14_400_000,
            node_certificate_ms: 30 * DAY_MS,
            max_pods_per_node: 500,
            log: "info".to_owned(),
        }
    }
}

/// An address, or nothing where the text is empty: TOML has no other word for none.
fn somewhere<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("{text:?} is not of the form address:port"))),
    }
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
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("configuration {path}: {key}: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

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
            Err(source) => {
                let path = path.to_owned();
                return Err(ConfigError::Read { path, source });
            }
        };
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        config.validate().map_err(|(key, why)| ConfigError::Value { path: path.to_owned(), key, why })?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        if !self.state_dir.is_absolute() {
            return Err(("state_dir", format!("{:?} is no absolute path", self.state_dir)));
        }
        if let Some(address) = self.metrics_listen.filter(|address| address.port() == 0) {
            return Err(("metrics_listen", format!("{address} names no port")));
        }
        if self.listen == self.enroll_listen && self.listen.port() != 0 {
            return Err(("enroll_listen", format!("{} is taken by listen", self.listen)));
        }
        if self.server_names.is_empty() {
            return Err(("server_names", "at least one name or address is needed".to_owned()));
        }
        if let Some(name) = self.server_names.iter().find(|name| !is_server_name(name)) {
            return Err(("server_names", format!("{name:?} is no DNS name and no address")));
        }
        let up_from = |least: u64| least..=MAX_INTERVAL_MS;
        let intervals = [
            ("heartbeat_ms", self.heartbeat_ms, up_from(MIN_HEARTBEAT_MS)),
            ("lease_ms", self.lease_ms, up_from(self.heartbeat_ms.saturating_mul(2))),
            ("run_deadline_ms", self.run_deadline_ms, up_from(1_000)),
            ("order_deadline_ms", self.order_deadline_ms, up_from(1_000)),
            ("copy_deadline_ms", self.copy_deadline_ms, up_from(1_000)),
            ("node_certificate_ms", self.node_certificate_ms, CERTIFICATE_MS),
        ];
        for (key, value, range) in intervals {
            if !range.contains(&value) {
                return Err((key, format!("{value} is outside {} to {}", range.start(), range.end())));
            }
        }
        if self.max_pods_per_node == 0 {
            return Err(("max_pods_per_node", "0 would place nothing".to_owned()));
        }
        Ok(())
    }

    /// Where the keys and certificates are.
    pub fn pki_dir(&self) -> PathBuf {
        self.state_dir.join("pki")
    }

    /// The store's file.
    pub fn store_path(&self) -> PathBuf {
        self.state_dir.join("control.db")
    }

    /// Where a client that is given no other address dials, `host:port`: the first server name.
    pub fn advertised(&self, port: u16) -> String {
        let name = self.server_names.first().map_or("localhost", String::as_str);
        match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            Ok(IpAddr::V4(_)) | Err(_) => format!("{name}:{port}"),
        }
    }
}

fn is_server_name(name: &str) -> bool {
    let label = |part: &str| berth_model::NodeName::new(part).is_ok();
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match Config::parse(text, Path::new("c.toml")) {
            Ok(_) => String::new(),
            Err(error) => crate::error::chain(&error),
        };
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{text:?}: {said}");
    }

    #[test]
    fn files() {
        check("", "");
        check("listen = \"[::]:7443\"\nserver_names = [\"control.example\", \"::1\"]", "");
        check("listne = \"[::]:7443\"", "unknown field `listne`");
        check("listen = 7443", "invalid type");
        check("listen = ", "parse configuration c.toml");
        check("state_dir = \"var\"", "state_dir: \"var\" is no absolute path");
        check("enroll_listen = \"0.0.0.0:7443\"", "enroll_listen: 0.0.0.0:7443 is taken by listen");
        check("server_names = []", "server_names: at least one");
        check("server_names = [\"a b\"]", "server_names: \"a b\" is no DNS name");
        check("heartbeat_ms = 0", "heartbeat_ms: 0 is outside 100");
        check("heartbeat_ms = -1", "invalid value");
        check("lease_ms = 15000", "lease_ms: 15000 is outside 20000");
        check("run_deadline_ms = 99999999999", "run_deadline_ms: 99999999999 is outside");
        check("node_certificate_ms = 59999", "node_certificate_ms: 59999 is outside 60000 to 31536000000");
        check("max_pods_per_node = 0", "max_pods_per_node: 0");
    }

    #[test]
    fn a_missing_file_is_an_error_only_when_named() {
        let missing = Path::new("/nonexistent/berth-control.toml");
        let error = Config::load(Some(missing)).unwrap_err();
        assert!(
            crate::error::chain(&error).starts_with("read configuration /nonexistent/berth-control.toml: ")
        );
    }
}
