//! A control plane and joined nodes, set up from the packages by the steps of the README.

use crate::kernel::Kernel;
use crate::redact::redact;
use anyhow::{Context, Result, ensure};
use berth_lab::{GATEWAY, Guest, Lab, LabSpec, Output, POD_GATEWAY, POD_NETWORK, Process, Suite, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Until a node that was just joined is ready.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The control plane's name among the lab's processes.
const CONTROL: &str = "control";
/// The pool that pods get their addresses from.
const POOL: &str = "pods";

/// Which fleet.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// The lab's name.
    pub name: String,
    /// How many virtual hosts.
    pub guests: u8,
    /// How many of them, the first ones, are nodes; nothing of Berth is on the others.
    pub joined: u8,
    /// What they are made from.
    pub suite: Suite,
}

/// A fleet that is up.
#[derive(Debug)]
pub struct Fleet {
    lab: Lab,
    directory: PathBuf,
}

impl Fleet {
    /// Brings up a lab, installs the packages, joins the nodes, and makes an address pool.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn up(spec: &FleetSpec) -> Result<Self> {
        let lab = Lab::up(&LabSpec { name: spec.name.clone(), nodes: spec.guests, suite: spec.suite })?;
        let directory = lab.directory().join("fleet");
        let fleet = Self { lab, directory };
        if fleet.directory.join("complete").exists() {
            return Ok(fleet);
        }
        println!("fleet: control plane");
        fleet.start_control()?;
        for guest in (0..spec.joined).map(|index| fleet.lab.guest(index)) {
            println!("fleet: install berth-node on {}, and join it", guest.name());
            fleet.join(&guest)?;
        }
        fleet.make_pool()?;
        std::fs::write(fleet.directory.join("complete"), "").context("note that the fleet is complete")?;
        Ok(fleet)
    }

    /// The package's own files, unpacked: the control plane runs beside the guests, and not on a host of its own.
    fn start_control(&self) -> Result<()> {
        let root = self.directory.join("control");
        if root.exists() {
            std::fs::remove_dir_all(&self.directory).context("remove an unfinished fleet")?;
        }
        std::fs::create_dir_all(&root).context("make the control plane's directory")?;
        ran(Command::new("dpkg-deb").arg("-x").arg(package("berth-control")?).arg(&root))?;
        self.configure_control("")?;
        ran(self.control().args(["ca", "init"]))?;
        ran(self
            .control()
            .args(["platform-cert", "operator", "--server", &format!("{GATEWAY}:7443"), "--out"])
            .arg(self.directory.join("operator")))?;
        self.run_control()
    }

    fn configure_control(&self, more: &str) -> Result<()> {
        let config = format!(
            "state_dir = \"{}\"\nserver_names = [\"{GATEWAY}\"]\nlisten = \"{GATEWAY}:7443\"\n\
             enroll_listen = \"{GATEWAY}:7444\"\nheartbeat_ms = 2000\nlease_ms = 20000\n{more}\n",
            self.directory.join("state").display()
        );
        std::fs::write(self.directory.join("berth-control.toml"), config).context("write the configuration")
    }

    /// Restarts the control plane, with these lines in its configuration beside the usual ones.
    ///
    /// # Errors
    /// When it did not run, or does not answer.
    pub fn restart_control(&self, more: &str) -> Result<()> {
        self.configure_control(more)?;
        self.stop_control()?;
        self.run_control()
    }

    /// Runs the control plane, whose state is there.
    ///
    /// # Errors
    /// When it runs, or does not answer.
    pub fn run_control(&self) -> Result<()> {
        let argv = vec![
            self.directory.join("control/usr/sbin/berth-control").display().to_string(),
            "--config".to_owned(),
            self.directory.join("berth-control.toml").display().to_string(),
            "run".to_owned(),
        ];
        self.lab.spawn(Process { name: CONTROL.to_owned(), argv, env: Vec::new() })?;
        wait_until("the control plane", READY_LIMIT, || Ok(self.berth(&["nodes"])?.success().then_some(())))
    }

    /// Stops the control plane.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_control(&self) -> Result<()> {
        self.lab.stop(CONTROL)
    }

    /// Ends the control plane as a crash would, and runs it again.
    ///
    /// # Errors
    /// When it did not run, or does not answer.
    pub fn kill_control(&self) -> Result<()> {
        let config = self.directory.join("berth-control.toml");
        ran(self
            .lab
            .command("pkill")
            .args(["-KILL", "-f"])
            .arg(format!("^[^ ]*berth-control .*{}", config.display())))?;
        self.stop_control()?;
        self.run_control()
    }

    fn control(&self) -> Command {
        let mut control = self.lab.command(self.directory.join("control/usr/sbin/berth-control"));
        control.arg("--config").arg(self.directory.join("berth-control.toml"));
        control
    }

    /// Installs a node's package on a guest, and has it join.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn join(&self, guest: &Guest) -> Result<()> {
        guest.install_deb(&package("berth-node")?)?;
        self.enroll(guest, "")?;
        guest.run_ok("systemctl restart berthd")?;
        self.wait_ready(guest)
    }

    /// Gives a node that has joined another identity, by a fresh token.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn join_again(&self, guest: &Guest) -> Result<()> {
        // A certificate that begins now must not begin in the guest's future.
        guest.set_clock()?;
        self.enroll(guest, "--replace")?;
        self.wait_connected(guest)
    }

    /// Waits until a node's agent says that it is connected; the control plane goes by the lease, which outlasts a cut.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_connected(&self, guest: &Guest) -> Result<()> {
        let connected = "berthctl -o json status | grep -Eq '\"connected\": ?true'";
        guest.wait_until(connected, READY_LIMIT).map(drop)
    }

    fn enroll(&self, guest: &Guest, how: &str) -> Result<()> {
        let name = guest.name();
        let token = ran(self.control().args(["token", "create", "--node", &name]))?;
        let token = token
            .split_whitespace()
            .find(|word| word.starts_with("berth1."))
            .context("no token was printed")?;
        let joined = guest
            .run_ok(&format!("berthd join {how} --control {GATEWAY}:7443 --node {name} --token {token}"));
        joined.map(drop).map_err(|error| anyhow::anyhow!(redact(&format!("{error:#}"))))
    }

    /// Waits until the control plane sees a node as ready.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_ready(&self, guest: &Guest) -> Result<()> {
        self.wait_state(guest, "Ready").map(drop)
    }

    /// Waits until the control plane sees a node in a state, such as `Silent`; answers all it says of the node.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_state(&self, guest: &Guest, state: &str) -> Result<Value> {
        let name = guest.name();
        wait_until(&format!("{name} to be {state}"), READY_LIMIT, || {
            let nodes = self.berth_json(&["nodes"])?;
            let wanted = |node: &&Value| node["name"] == name.as_str() && node["state"] == state;
            Ok(nodes.as_array().and_then(|nodes| nodes.iter().find(wanted).cloned()))
        })
    }

    fn make_pool(&self) -> Result<()> {
        let manifest = format!(
            "kind: AddressPool\nmetadata: {{name: {POOL}}}\n\
             spec: {{network: {POD_NETWORK}, first: 10.89.1.1, last: 10.89.1.250, gateway: {POD_GATEWAY}}}\n"
        );
        self.apply(&manifest, &[]).map(drop)
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The kernel of a node, by its index from 0.
    pub fn kernel(&self, index: u8) -> Kernel {
        Kernel::new(self.lab.guest(index))
    }

    /// Runs `berth` beside the guests, as an operator; answers whatever it came to.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn berth(&self, arguments: &[&str]) -> Result<Output> {
        finish(self.berth_command().args(arguments))
    }

    /// `berth` beside the guests, as an operator.
    pub(crate) fn berth_command(&self) -> Command {
        let mut berth = self.lab.command(self.directory.join("control/usr/bin/berth"));
        berth.env("BERTH_CONFIG", self.directory.join("operator/config.toml"));
        berth
    }

    /// Runs `berth -o json`, which must succeed; answers what it said.
    ///
    /// # Errors
    /// When it does not.
    pub fn berth_json(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.berth_ok(&[&["-o", "json"], arguments].concat())?;
        serde_json::from_str(&said).with_context(|| format!("understand {said:?}"))
    }

    /// Runs `berth`, which must succeed; answers its standard output.
    ///
    /// # Errors
    /// When it does not.
    pub fn berth_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.berth(arguments)?;
        ensure!(
            output.success(),
            "berth {arguments:?}: {}{}",
            output.stdout.trim_end(),
            output.stderr.trim_end()
        );
        Ok(output.stdout)
    }

    /// Applies a manifest; answers whatever `berth apply` came to.
    ///
    /// # Errors
    /// When `berth` cannot be run.
    pub fn try_apply(&self, manifest: &str, arguments: &[&str]) -> Result<Output> {
        let file = self.directory.join("manifest.yaml");
        std::fs::write(&file, manifest).context("write the manifest")?;
        let path = file.display().to_string();
        self.berth(&[&["apply", "-f", &path], arguments].concat())
    }

    /// Applies a manifest, which must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn apply(&self, manifest: &str, arguments: &[&str]) -> Result<String> {
        let output = self.try_apply(manifest, arguments)?;
        ensure!(output.success(), "berth apply: {}{}", output.stdout.trim_end(), output.stderr.trim_end());
        Ok(output.stdout)
    }

    /// Changes a pod in place by a whole manifest: `berth upgrade -f` or `berth resize -f`.
    ///
    /// # Errors
    /// When `berth` cannot be run.
    pub fn change(&self, verb: &str, manifest: &str, arguments: &[&str]) -> Result<Output> {
        let file = self.directory.join("manifest.yaml");
        std::fs::write(&file, manifest).context("write the manifest")?;
        let path = file.display().to_string();
        self.berth(&[&[verb, "-f", &path], arguments].concat())
    }

    /// What the control plane says of a pod.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, pod: &str) -> Result<Value> {
        self.berth_json(&["get", pod])
    }

    /// The pod's address, without prefix length.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, pod: &str) -> Result<String> {
        let found = self.pod(pod)?;
        let address = found["spec"]["addresses"][0]["address"].as_str().context("the pod has no address")?;
        Ok(address.split('/').next().unwrap_or(address).to_owned())
    }
}

/// A package that `cargo xtask package` has made.
///
/// # Errors
/// When it is not there.
pub fn package(name: &str) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace")?;
    let path = workspace.join("target/debian").join(format!("{name}.deb"));
    ensure!(path.exists(), "{} is missing: `cargo xtask package` makes it", path.display());
    Ok(path)
}

fn finish(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    Ok(Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn ran(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    ensure!(output.success(), "{command:?}: {}{}", output.stdout.trim_end(), output.stderr.trim_end());
    Ok(output.stdout)
}
