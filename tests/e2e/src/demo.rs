//! The demo's pods, which are a case too: a redis and a postgresql with exclusive CPUs on different memory nodes.

use crate::{Fleet, image};
use anyhow::{Context, Result, ensure};
use berth_lab::wait_until;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

/// The demo's pods.
pub const PODS: [&str; 2] = ["demo/redis", "demo/postgresql"];
/// The programs that they run.
pub const PROGRAMS: [&str; 2] = ["redis-server", "postgres"];
/// Until a database answers for the first time: postgresql makes its cluster in an emulated guest.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);

/// The pods' manifest.
pub fn manifest() -> String {
    // Together three of the host's four CPUs: the shared pool keeps one, and two memory nodes are needed.
    let pod = |name: &str, cpus: u8, limits: &str| {
        format!(
            "kind: Pod\nmetadata: {{namespace: demo, name: {name}}}\nspec:\n  class: latency-critical\n  \
             cpu: {{exclusive: {cpus}}}\n  memory: {{request: 256Mi}}\n  addressPool: pods\n  stopGrace: 5s\n  \
             limits: {{memory: {{max: 512Mi}}, pidsMax: 200, {limits}}}\n  containers:\n  - name: {name}\n    \
             image: {}\n    env: [{{name: CASE, value: {name}}}]\n    \
             ulimits: [{{name: nofile, soft: 10032, hard: 20064}}]\n",
            image(name)
        )
    };
    let io = "io: [{mountPoint: /, writeBytesPerSec: 64Mi}]";
    format!("{}---\n{}", pod("redis", 2, "swapMax: 0"), pod("postgresql", 1, io))
}

/// Runs both pods.
///
/// # Errors
/// When they do not run.
pub fn submit(fleet: &Fleet) -> Result<()> {
    fleet.apply(&manifest(), &["--wait", "--timeout", "10m"]).map(drop)
}

/// Asks both databases something over the network, beside the guests; answers what they said.
///
/// # Errors
/// When one does not answer as it must.
pub fn ask(fleet: &Fleet) -> Result<[String; 2]> {
    let redis = wait_until("redis to answer", ANSWER_LIMIT, || Ok(ask_redis(fleet).ok()))?;
    ensure!(redis.contains("42"), "redis said {redis:?}");
    let query = "select 6 * 7 as answer, split_part(version(), ' ', 2) as version";
    let address = fleet.address("demo/postgresql")?;
    let kernel = fleet.kernel(0);
    let postgresql = wait_until("postgresql to answer", ANSWER_LIMIT, || {
        let Ok(process) = kernel.program(PROGRAMS[1]) else { return Ok(None) };
        let container = process.container_id()?;
        let output = kernel.guest().run(&format!(
            "ctr -n k8s.io tasks exec --exec-id ask-$$ {container} psql -h {address} -U postgres -Atc \"{query}\""
        ))?;
        Ok(output.success().then_some(output.stdout))
    })?;
    ensure!(postgresql.starts_with("42|"), "postgresql said {postgresql:?}");
    Ok([redis.trim().to_owned(), postgresql.trim().to_owned()])
}

/// Sets and gets a value by redis's own protocol, through a connection made in the lab's network.
fn ask_redis(fleet: &Fleet) -> Result<String> {
    let address = fleet.address("demo/redis")?;
    let script = format!(
        "exec 3<>/dev/tcp/{address}/6379; printf 'SET answer 42\\r\\nGET answer\\r\\nQUIT\\r\\n' >&3; timeout 10 cat <&3"
    );
    let mut child = fleet
        .lab()
        .command("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("run bash")?;
    let mut said = String::new();
    child.stdout.take().context("bash has no output")?.read_to_string(&mut said)?;
    let status = child.wait()?;
    ensure!(status.success(), "redis at {address} does not answer");
    std::io::stdout().flush()?;
    Ok(said.replace("\r\n", " "))
}
