//! What Berth needs of containerd, in the words of each version of its configuration.

use toml_edit::{Array, Value};

/// The pause image that the package brings; the agent imports it at its start.
pub const PAUSE_IMAGE: &str = "berth.local/pause:1";

/// Where Debian's package `containernetworking-plugins` puts its plugins, and ours its own.
const CNI_BIN_DIR: &str = "/usr/lib/cni";
/// Where containerd looks for registries' `hosts.toml`.
const CERTS_DIR: &str = "/etc/containerd/certs.d";
/// With `mirrors`, or `configs` that name certificates, containerd 1.5 and later do not load CRI when `config_path` is set.
const OLD_REGISTRY: [&str; 2] = ["mirrors", "configs"];

/// One key of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// From the root.
    pub(crate) path: Vec<&'static str>,
    /// What Berth wants there.
    pub(crate) value: Value,
    /// What to do with a value that is there already.
    pub(crate) rule: Rule,
    /// Keys beside it that containerd does not take together with it: an administrator's older words for the same.
    pub(crate) unless: &'static [&'static str],
}

/// What to do with a value that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Berth cannot work with another one.
    Replace,
    /// Any other one will do.
    KeepTheirs,
}

fn setting(path: &[&'static str], value: impl Into<Value>, rule: Rule) -> Setting {
    Setting { path: path.to_vec(), value: value.into(), rule, unless: &[] }
}

impl Setting {
    fn unless(self, unless: &'static [&'static str]) -> Self {
        Self { unless, ..self }
    }
}

/// The settings for a configuration of `version` (2 for containerd 1.x, 3 for 2.x); none for a version unknown to us.
pub(crate) fn settings(version: i64) -> Option<Vec<Setting>> {
    match version {
        2 => Some(version_2()),
        3 => Some(version_3()),
        _ => None,
    }
}

fn version_2() -> Vec<Setting> {
    const CRI: [&str; 2] = ["plugins", "io.containerd.grpc.v1.cri"];
    let cri = |rest: &[&'static str]| [&CRI[..], rest].concat();
    let runc = ["containerd", "runtimes", "runc"];
    vec![
        setting(&cri(&["sandbox_image"]), PAUSE_IMAGE, Rule::Replace),
        setting(&cri(&["cni", "bin_dir"]), CNI_BIN_DIR, Rule::KeepTheirs),
        setting(&cri(&["registry", "config_path"]), CERTS_DIR, Rule::KeepTheirs).unless(&OLD_REGISTRY),
        setting(&cri(&[&runc[..], &["runtime_type"]].concat()), "io.containerd.runc.v2", Rule::KeepTheirs),
        setting(&cri(&[&runc[..], &["options", "SystemdCgroup"]].concat()), true, Rule::Replace),
    ]
}

fn version_3() -> Vec<Setting> {
    let runtime = |rest: &[&'static str]| [&["plugins", "io.containerd.cri.v1.runtime"][..], rest].concat();
    let images = |rest: &[&'static str]| [&["plugins", "io.containerd.cri.v1.images"][..], rest].concat();
    let runc = ["containerd", "runtimes", "runc"];
    let bin_dirs: Array = [CNI_BIN_DIR].into_iter().collect();
    vec![
        setting(&images(&["pinned_images", "sandbox"]), PAUSE_IMAGE, Rule::Replace),
        setting(&images(&["registry", "config_path"]), CERTS_DIR, Rule::KeepTheirs).unless(&OLD_REGISTRY),
        setting(&runtime(&["cni", "bin_dirs"]), bin_dirs, Rule::KeepTheirs).unless(&["bin_dir"]),
        setting(
            &runtime(&[&runc[..], &["runtime_type"]].concat()),
            "io.containerd.runc.v2",
            Rule::KeepTheirs,
        ),
        setting(&runtime(&[&runc[..], &["options", "SystemdCgroup"]].concat()), true, Rule::Replace),
    ]
}
