//! Executes a plugin as a main plugin would.

use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const SANDBOX: &str = "4f0c7a1d";
pub(crate) const WEB_UID: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// One execution: a plugin, its environment and its stdin.
#[derive(Clone)]
pub(crate) struct Call {
    program: PathBuf,
    environment: Vec<(String, OsString)>,
    config: Value,
    stdin: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Call {
    /// A call of `berth-ipam` for pod `shop/web`, as containerd's CRI and the bridge plugin would make it.
    pub(crate) fn new(command: &str, socket: &Path) -> Self {
        let ipam = json!({"type": "berth-ipam", "socket": socket});
        Self::of(Path::new(env!("CARGO_BIN_EXE_berth-ipam")), command, &ipam)
    }

    /// A call of any plugin for addresses.
    pub(crate) fn of(program: &Path, command: &str, ipam: &Value) -> Self {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={SANDBOX};K8S_POD_UID={WEB_UID}"
        );
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", SANDBOX),
            ("CNI_NETNS", "/var/run/netns/cni-1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &args),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        Self {
            program: program.to_owned(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.into())).to_vec(),
            config: json!({"cniVersion": "1.0.0", "name": "berth", "type": "bridge", "bridge": "berth0", "ipam": ipam}),
            stdin: None,
        }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes a variable away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// Sets a key of the configuration.
    pub(crate) fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Replaces the whole configuration.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Executes it and waits for its end.
    pub(crate) fn run(&self) -> Outcome {
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = self.stdin.clone().unwrap_or_else(|| self.config.to_string().into_bytes());
        // A plugin may stop reading: that must show in its answer, not here.
        let _ = child.stdin.take().unwrap().write_all(&stdin);
        let output = child.wait_with_output().unwrap();
        Outcome {
            succeeded: output.status.code() == Some(0),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It must succeed and print exactly `expected`.
    pub(crate) fn prints(&self, expected: &Value) {
        let outcome = self.run();
        assert!(outcome.succeeded, "{outcome:?}");
        assert_eq!(outcome.json(), *expected);
    }

    /// It must succeed and print nothing on stdout. Gives what it noted on stderr.
    pub(crate) fn succeeds(&self) -> String {
        let outcome = self.run();
        assert!(outcome.succeeded && outcome.stdout.is_empty(), "{outcome:?}");
        outcome.stderr
    }

    /// It must fail with the error `code` and say `text`.
    pub(crate) fn fails(&self, code: u64, text: &str) {
        let outcome = self.run();
        assert!(!outcome.succeeded, "{outcome:?} instead of {code} {text}");
        let error = outcome.json();
        assert_eq!(error["code"], code, "{error}");
        assert!(error.to_string().contains(text), "{error} does not say {text:?}");
    }
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}
