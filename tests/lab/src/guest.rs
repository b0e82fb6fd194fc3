//! A guest, as cases use it: over one ssh connection that the supervisor keeps open.

use crate::command::{Output, run};
use crate::network;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One guest of a lab.
#[derive(Debug, Clone)]
pub struct Guest {
    pub(crate) number: u8,
    pub(crate) directory: PathBuf,
}

/// The connection's socket, below the lab's directory; relative, since a socket's path has room for 108 bytes only.
pub(crate) fn control_path(number: u8) -> String {
    format!("node-{number}.ssh")
}

impl Guest {
    /// Its host name, `node-1` for the first.
    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// Its address on the management network.
    pub fn address(&self) -> String {
        network::guest_address(self.number)
    }

    /// An ssh command on the open connection. Without it the command fails: the address means nothing outside.
    pub fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.current_dir(&self.directory)
            .args(["-o", &format!("ControlPath={}", control_path(self.number))])
            .args(["-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR"])
            .arg(format!("root@{}", self.address()));
        ssh
    }

    /// Makes a Unix socket of the guest one of this machine, in the lab's directory, until the connection ends; answers
    /// its path.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn forward_socket(&self, remote: &str) -> Result<PathBuf> {
        let name = format!("{}-{}", self.name(), remote.trim_matches('/').replace('/', "-"));
        let local = self.directory.join(&name);
        let forward = format!("./{name}:{remote}");
        let control = |what: &str| run(self.ssh().args(["-O", what, "-L", &forward]).stdin(Stdio::null()));
        // One that was asked for already would be answered with itself; an earlier connection may have left its file.
        control("cancel")?;
        let _ = std::fs::remove_file(&local);
        let output = control("forward")?;
        ensure!(output.success(), "forward {remote} of {}: {}", self.name(), output.stderr.trim_end());
        Ok(local)
    }

    /// Runs a shell script in the guest; answers whatever it came to.
    ///
    /// # Errors
    /// When ssh cannot be run.
    pub fn run(&self, script: &str) -> Result<Output> {
        run(self.ssh().arg(script).stdin(Stdio::null()))
    }

    /// Runs a shell script that must end with 0; answers its standard output.
    ///
    /// # Errors
    /// When it does not.
    pub fn run_ok(&self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        ensure!(
            output.success(),
            "{}: {script:?} ended with {}: {}{}",
            self.name(),
            output.status,
            output.stdout.trim_end(),
            output.stderr.trim_end()
        );
        Ok(output.stdout)
    }

    /// Runs a shell script again and again until it ends with 0; answers its standard output.
    ///
    /// # Errors
    /// When it never does within `limit`; the error says what it said last.
    pub fn wait_until(&self, script: &str, limit: Duration) -> Result<String> {
        let mut last = String::new();
        let look = || {
            let output = self.run(script)?;
            last = format!("{}{}", output.stdout.trim_end(), output.stderr.trim_end());
            Ok(output.success().then_some(output.stdout))
        };
        let waited = crate::wait_until(&format!("{}: {script}", self.name()), limit, look);
        waited.with_context(|| format!("it said last: {last:?}"))
    }

    /// Writes a file in the guest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_file(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut ssh = self.ssh();
        ssh.arg(format!(
            "mkdir -p \"$(dirname '{path}')\" && cat > '{path}.new' && mv '{path}.new' '{path}'"
        ));
        let mut child = ssh.stdin(Stdio::piped()).spawn().context("run ssh")?;
        let mut stdin = child.stdin.take().context("ssh has no standard input")?;
        stdin.write_all(content).with_context(|| format!("send {path} to {}", self.name()))?;
        drop(stdin);
        let status = child.wait().context("wait for ssh")?;
        ensure!(status.success(), "write {path} in {}: ssh ended with {status}", self.name());
        Ok(())
    }

    /// Sets the guest's clock by this host's.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn set_clock(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.run_ok(&format!("date -s @{now:.3}")).map(drop)
    }

    /// Reads a file of the guest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get_file(&self, path: &str) -> Result<String> {
        self.run_ok(&format!("cat '{path}'"))
    }

    /// Installs a Debian package whose dependencies are there already, as a person would.
    ///
    /// # Errors
    /// When it cannot be copied or installed.
    pub fn install_deb(&self, package: &Path) -> Result<()> {
        let content = std::fs::read(package).with_context(|| format!("read {}", package.display()))?;
        let name = package.file_name().context("a package has a file name")?.to_string_lossy();
        let path = format!("/root/{name}");
        self.put_file(&path, &content)?;
        self.run_ok(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i '{path}'")).map(drop)
    }
}
