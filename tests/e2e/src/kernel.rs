//! What the kernel of a node says, found without asking Berth: a pod's process is found by its environment, its cgroup
//! by the process.

use anyhow::{Context, Result, ensure};
use berth_lab::{Guest, Output, wait_until};
use std::time::Duration;

/// The environment variable by which cases find their processes.
const MARK: &str = "CASE";

/// From a container's start until its program runs, in an emulated guest.
const PROCESS_LIMIT: Duration = Duration::from_secs(30);

/// A node's kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    guest: Guest,
}

/// The first process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcess {
    /// On the host.
    pub pid: u32,
    /// The container's cgroup, below the mount.
    pub cgroup: String,
    /// When it was started, clock ticks after boot.
    pub started_at_ticks: u64,
}

impl PodProcess {
    /// The runtime's id of the container, from its cgroup's name.
    ///
    /// # Errors
    /// When the process is in no container.
    pub fn container_id(&self) -> Result<&str> {
        let scope = self.cgroup.rsplit('/').next().unwrap_or_default();
        let id = scope.strip_prefix("cri-containerd-").and_then(|scope| scope.strip_suffix(".scope"));
        id.with_context(|| format!("{} is no container's cgroup", self.cgroup))
    }

    /// The pod's cgroup: the one above the container's.
    pub fn pod_cgroup(&self) -> &str {
        self.cgroup.rsplit_once('/').map_or("", |(pod, _)| pod)
    }
}

impl Kernel {
    pub(crate) fn new(guest: Guest) -> Self {
        Self { guest }
    }

    /// The node.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The process whose environment says `CASE=mark`; the oldest, which is the container's first.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self, mark: &str) -> Result<PodProcess> {
        let select = format!("grep -slzx '{MARK}={mark}' /proc/[0-9]*/environ");
        // A container has started once its process may go on; its program comes a moment later.
        let mut last = None;
        let found = wait_until(&format!("a process with {MARK}={mark}"), PROCESS_LIMIT, || {
            Ok(self.oldest(&select).map_err(|error| last = Some(error)).ok())
        });
        found.with_context(|| last.map_or_else(String::new, |error| format!("last: {error:#}")))
    }

    /// The oldest process in a pod that runs a program of this name: for those that overwrite their environment.
    ///
    /// # Errors
    /// When there is none.
    pub fn program(&self, name: &str) -> Result<PodProcess> {
        let select =
            format!("grep -l berth.slice $(grep -slx '{name}' /proc/[0-9]*/comm | sed 's/comm$/cgroup/')");
        self.oldest(&select).with_context(|| format!("no program {name} runs in a pod"))
    }

    /// The oldest of the processes that a script lists by files in their folders of `/proc`; of one that has ended since, not
    /// all three words are told.
    fn oldest(&self, select: &str) -> Result<PodProcess> {
        let script = format!(
            "for p in $({select} | cut -d/ -f3); do \
               echo \"$p $(cut -d: -f3 /proc/$p/cgroup) $(sed 's/.*) //' /proc/$p/stat | cut -d' ' -f20)\"; done | \
             awk 'NF == 3' | sort -n -k3 | head -1"
        );
        let said = self.guest.run_ok(&script)?;
        let mut words = said.split_whitespace();
        let mut next = || words.next().context("no process was found");
        Ok(PodProcess {
            pid: next()?.parse().context("a pid")?,
            cgroup: next()?.trim_start_matches('/').to_owned(),
            started_at_ticks: next()?.parse().context("a start time")?,
        })
    }

    /// Whether any process has `CASE=mark`.
    ///
    /// # Errors
    /// When the guest cannot be asked.
    pub fn has_process(&self, mark: &str) -> Result<bool> {
        // What grep ends with says nothing: files of processes that end meanwhile are errors to it.
        let found = self.guest.run(&format!("grep -slzx '{MARK}={mark}' /proc/[0-9]*/environ"))?;
        Ok(!found.stdout.trim().is_empty())
    }

    /// The text of a control file, trimmed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn control(&self, cgroup: &str, file: &str) -> Result<String> {
        ensure!(!cgroup.is_empty(), "a process that is in no cgroup of a pod");
        Ok(self.guest.run_ok(&format!("cat /sys/fs/cgroup/{cgroup}/{file}"))?.trim().to_owned())
    }

    /// A line of `/proc/<pid>/status`, such as `Cpus_allowed_list`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn status(&self, pid: u32, key: &str) -> Result<String> {
        let said = self.guest.run_ok(&format!("sed -n 's/^{key}:[[:space:]]*//p' /proc/{pid}/status"))?;
        Ok(said.trim().to_owned())
    }

    /// What a script says inside the container, run by the runtime as a process of the container: with its user, its
    /// capabilities and its filter of system calls. Trimmed, whatever it ends with.
    ///
    /// # Errors
    /// When the guest cannot be asked.
    pub fn exec(&self, process: &PodProcess, script: &str) -> Result<String> {
        let id = process.container_id()?;
        let quoted = script.replace('\'', r"'\''");
        let exec = format!("ctr -n k8s.io task exec --exec-id case-$$ {id} sh -c '{quoted}'");
        Ok(self.guest.run(&exec)?.stdout.trim().to_owned())
    }

    /// Runs a script by the shell of a process's own namespaces and cgroup: inside the container.
    ///
    /// # Errors
    /// When the guest cannot be asked.
    pub fn inside(&self, process: &PodProcess, script: &str) -> Result<Output> {
        let (pid, cgroup) = (process.pid, &process.cgroup);
        let quoted = script.replace('\'', r"'\''");
        self.guest.run(&format!(
            "echo $$ > /sys/fs/cgroup/{cgroup}/cgroup.procs && exec nsenter -t {pid} -a -r -w /bin/sh -c '{quoted}'"
        ))
    }
}
