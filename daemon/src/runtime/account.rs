//! What containerd says of itself when it is asked for its status in full: as CRI has it, and its configuration as JSON, which
//! is of the same shape in 1.x and 2.x.

use k8s_cri::v1::{RuntimeCondition, StatusResponse};
use serde_json::Value;
use std::path::PathBuf;

/// Without these no pod runs (CRI, `RuntimeCondition`); containerd adds others of its own.
const NEEDED: [&str; 2] = ["RuntimeReady", "NetworkReady"];

/// containerd, by its own account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Whether the runtime called runc uses systemd's cgroup driver; none if it does not say.
    pub systemd_cgroups: Option<bool>,
    /// What keeps it from running pods, each with containerd's own reason.
    pub unready: Vec<String>,
    /// What else is not as containerd would have it, such as settings that a later version does not know any more.
    pub complaints: Vec<String>,
    /// Where it looks for CNI plugins; empty if it does not say.
    pub cni_plugins: Vec<PathBuf>,
    /// Where it looks for CNI network lists; none if it does not say.
    pub cni_configuration: Option<PathBuf>,
}

impl From<StatusResponse> for Account {
    fn from(answer: StatusResponse) -> Self {
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        let unmet = conditions.into_iter().filter(|condition| !condition.status);
        let (unready, others): (Vec<_>, Vec<_>) =
            unmet.partition(|condition| NEEDED.contains(&condition.r#type.as_str()));
        let config = answer.info.get("config").and_then(|text| serde_json::from_str(text).ok());
        let config: Value = config.unwrap_or_default();
        let path = |value: &Value| value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
        // 2.1 and later have several.
        let several = config["cni"]["binDirs"].as_array().into_iter().flatten().filter_map(path);
        Self {
            systemd_cgroups: config
                .pointer("/containerd/runtimes/runc/options/SystemdCgroup")
                .and_then(Value::as_bool),
            unready: unready.iter().map(words).collect(),
            complaints: others.iter().map(words).collect(),
            cni_plugins: several.chain(path(&config["cni"]["binDir"])).collect(),
            cni_configuration: path(&config["cni"]["confDir"]),
        }
    }
}

fn words(condition: &RuntimeCondition) -> String {
    format!("{} is false: {}: {}", condition.r#type, condition.reason, condition.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_cri::v1::RuntimeStatus;

    fn account(config: &str) -> Account {
        let condition = |kind: &str, status| RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: "Because".to_owned(),
            message: "of that".to_owned(),
        };
        let conditions =
            ["RuntimeReady", "NetworkReady", "Other"].map(|kind| condition(kind, kind == "RuntimeReady"));
        let conditions = conditions.into();
        Account::from(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: [("config".to_owned(), config.to_owned())].into(),
            ..StatusResponse::default()
        })
    }

    #[test]
    fn what_it_says_is_understood() {
        let unready = vec!["NetworkReady is false: Because: of that".to_owned()];
        let complaints = vec!["Other is false: Because: of that".to_owned()];
        let silent = Account { unready, complaints, ..Account::default() };
        assert_eq!(account("no JSON"), silent);
        let runc = r#""containerd": {"runtimes": {"runc": {"options": {"SystemdCgroup": true}}}}"#;
        let said = Account {
            systemd_cgroups: Some(true),
            cni_plugins: vec!["/usr/lib/cni".into()],
            cni_configuration: Some("/etc/cni/net.d".into()),
            ..silent.clone()
        };
        let cni = r#""cni": {"binDir": "/usr/lib/cni", "confDir": "/etc/cni/net.d"}"#;
        assert_eq!(account(&format!("{{{runc}, {cni}}}")), said);
        let cni = r#""cni": {"binDir": "", "binDirs": ["/a", "/b"], "confDir": "/etc/cni/net.d"}"#;
        let several = Account { cni_plugins: vec!["/a".into(), "/b".into()], ..said };
        assert_eq!(account(&format!("{{{runc}, {cni}}}")), several);
    }
}
