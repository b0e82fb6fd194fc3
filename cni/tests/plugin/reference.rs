//! What every plugin for addresses has in common, so that these cases can be held against the reference one:
//! `BERTH_CNI_REFERENCE=/usr/lib/cni/host-local` (Debian: containernetworking-plugins) runs them on it as well.

use crate::call::{Call, WEB_UID};
use crate::fake::FakeDaemon;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// A plugin that has one address to give, 10.0.0.7/24 by 10.0.0.1.
struct Subject {
    program: PathBuf,
    ipam: Value,
    // Both live as long as the plugin may be called.
    _daemon: Option<FakeDaemon>,
    _state: Option<TempDir>,
}

impl Subject {
    fn berth() -> Self {
        let daemon = FakeDaemon::start();
        daemon.state().grant("shop/web", WEB_UID, "10.0.0.7/24", Some("10.0.0.1"));
        Self {
            program: env!("CARGO_BIN_EXE_berth-ipam").into(),
            ipam: json!({"type": "berth-ipam", "socket": daemon.socket()}),
            _daemon: Some(daemon),
            _state: None,
        }
    }

    fn reference(program: PathBuf) -> Self {
        let state = tempfile::tempdir().unwrap();
        let range = json!({
            "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.7", "rangeEnd": "10.0.0.7", "gateway": "10.0.0.1",
        });
        Self {
            program,
            ipam: json!({
                "type": "host-local", "dataDir": state.path(), "ranges": [[range]], "routes": [{"dst": "0.0.0.0/0"}],
            }),
            _daemon: None,
            _state: Some(state),
        }
    }

    fn call(&self, command: &str, version: &str) -> Call {
        Call::of(&self.program, command, &self.ipam).config("cniVersion", version.into())
    }
}

fn subjects() -> Vec<Subject> {
    let reference = std::env::var_os("BERTH_CNI_REFERENCE").map(|program| Subject::reference(program.into()));
    [Subject::berth()].into_iter().chain(reference).collect()
}

#[test]
fn an_attachment_comes_and_goes() {
    for subject in subjects() {
        for version in ["0.4.0", "1.0.0"] {
            let mut ip = json!({"address": "10.0.0.7/24", "gateway": "10.0.0.1"});
            if version == "0.4.0" {
                ip["version"] = json!("4");
            }
            let result =
                json!({"cniVersion": version, "ips": [ip], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}});
            subject.call("ADD", version).prints(&result);
            subject.call("CHECK", version).config("prevResult", result).succeeds();
            subject.call("DEL", version).succeeds();
            subject.call("DEL", version).succeeds();
            subject.call("DEL", version).env("CNI_NETNS", "").succeeds();
        }
    }
}

#[test]
fn versions_are_listed() {
    for subject in subjects() {
        let versions = subject.call("VERSION", "1.0.0").run().json();
        let listed = versions["supportedVersions"].as_array().unwrap();
        assert!(["0.4.0", "1.0.0"].iter().all(|version| listed.contains(&json!(version))), "{versions}");
        assert_eq!(versions["cniVersion"], "1.0.0");
    }
}

#[test]
fn bad_input_has_the_codes_of_the_specification() {
    for subject in subjects() {
        let add = || subject.call("ADD", "1.0.0");
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            add().without(name).fails(4, name);
        }
        add().env("CNI_COMMAND", "NONE").fails(4, "CNI_COMMAND");
        add().env("CNI_CONTAINERID", "a/b").fails(4, "a/b");
        for name in ["..", "eth/0", "eth:0", "eth 0", "abcdefghijklmnop"] {
            add().env("CNI_IFNAME", name).fails(4, "interface name");
        }
        for stdin in ["", "{", "[]", r#"{"name": 5}"#] {
            add().stdin(stdin).fails(6, "");
        }
        add().config("cniVersion", json!("9.0.0")).fails(1, "9.0.0");
        add().config("name", json!("")).fails(7, "name");
        add().config("name", json!("a b")).fails(7, "a b");
    }
}
