//! One execution of the real plugin.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How often a DEL is made until it is heard.
const DELS: usize = 5;

/// Whose interface, in which sandbox.
pub(crate) struct Caller<'a> {
    pub(crate) program: &'a Path,
    pub(crate) ipam: &'a Value,
    pub(crate) pod: &'a str,
    pub(crate) sandbox: &'a str,
}

impl Caller<'_> {
    /// Adds the interface; gives the addresses that were printed.
    pub(crate) fn add(&self) -> Result<Vec<String>> {
        let output = self.run("ADD")?;
        ensure!(output.status.success(), "ADD {}: {}", self.sandbox, String::from_utf8_lossy(&output.stdout));
        let result: Value = serde_json::from_slice(&output.stdout).context("understand the result")?;
        let ips = result["ips"].as_array().context("a result without ips")?;
        ips.iter().map(|ip| Ok(ip["address"].as_str().context("an ip without address")?.to_owned())).collect()
    }

    /// Deletes it. A DEL that a node on a busy machine was too slow to hear succeeds, and says so; it is made again
    /// here, as the agent's own look would find it out in time.
    pub(crate) fn del(&self) -> Result<()> {
        let mut said = String::new();
        for _ in 0..DELS {
            let output = self.run("DEL")?;
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "DEL {}: {said}", self.sandbox);
            if said.is_empty() {
                return Ok(());
            }
        }
        anyhow::bail!("nobody heard {DELS} times DEL {}: {said}", self.sandbox)
    }

    fn run(&self, command: &str) -> Result<Output> {
        let Self { program, ipam, pod, sandbox } = self;
        let config = json!({"cniVersion": "1.0.0", "name": "exact", "type": "bridge", "bridge": "berth0", "ipam": ipam});
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={sandbox}"
        );
        let mut child = Command::new(program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", sandbox)
            .env("CNI_NETNS", "/var/run/netns/none")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", args)
            .env("CNI_PATH", "/usr/lib/cni")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", program.display()))?;
        let mut stdin = child.stdin.take().context("the plugin has no stdin")?;
        stdin.write_all(config.to_string().as_bytes()).context("tell the plugin its configuration")?;
        drop(stdin);
        child.wait_with_output().context("wait for the plugin")
    }
}
