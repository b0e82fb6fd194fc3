//! The program itself: commands, their files, the service, and its end.
#![allow(missing_docs, clippy::unwrap_used)]

use berth_proto::v1;
use berth_proto::v1::platform_client::PlatformClient;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

struct Home {
    dir: TempDir,
    config: PathBuf,
}

impl Home {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("berth-control.toml");
        let state = dir.path().join("state");
        let text = format!(
            "state_dir = {state:?}\nlisten = \"127.0.0.1:0\"\nenroll_listen = \"127.0.0.1:0\"\n\
             metrics_listen = \"\"\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-control"));
        command.arg("--config").arg(&self.config).args(args);
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        command
    }

    /// What it prints, if it succeeds, and what it complains of, if not.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn the_authority_is_made_once_and_secret() {
    let home = Home::new("");
    let before = home.run(&["token", "create"]).unwrap_err();
    assert!(before.contains("run berth-control ca init first"), "{before}");
    let bad = home.run(&["ca", "init", "--trust-domain", "Berth/x"]).unwrap_err();
    assert!(bad.contains("trust domain \"Berth/x\""), "{bad}");
    let made = home.run(&["ca", "init", "--trust-domain", "berth.test"]).unwrap();
    assert!(made.contains("berth.test"), "{made}");
    let pki = home.path("state/pki");
    assert_eq!(mode(&pki), 0o700);
    for name in ["ca.crt", "ca.key", "control.crt", "control.key"] {
        assert_eq!(mode(&pki.join(name)), 0o600, "{name}");
    }
    let key = std::fs::read(pki.join("ca.key")).unwrap();
    let again = home.run(&["ca", "init"]).unwrap_err();
    assert!(again.contains("ca.crt is there already"), "{again}");
    assert_eq!(std::fs::read(pki.join("ca.key")).unwrap(), key);
    let server = std::fs::read(pki.join("control.crt")).unwrap();
    home.run(&["ca", "server"]).unwrap();
    assert_ne!(std::fs::read(pki.join("control.crt")).unwrap(), server);
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let home = Home::new("");
    home.run(&["ca", "init"]).unwrap();
    let token = home.run(&["token", "create", "--node", "n1", "--ttl", "5m"]).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let fingerprint = home.run(&["ca", "fingerprint"]).unwrap();
    assert_eq!((parts[0], parts[3]), ("berth1", fingerprint.as_str()), "{token}");
    let list = home.run(&["token", "list"]).unwrap();
    assert!(list.contains(parts[1]) && list.contains("n1") && !list.contains(parts[2]), "{list}");
    let store = std::fs::read(home.path("state/control.db")).unwrap();
    assert!(
        !store.windows(parts[2].len()).any(|window| window == parts[2].as_bytes()),
        "the secret is stored"
    );
    home.run(&["token", "revoke", parts[1]]).unwrap();
    assert!(home.run(&["token", "revoke", parts[1]]).unwrap_err().contains("there is no token"));
    for bad in [["--ttl", "1y"], ["--ttl", "0s"], ["--node", "N1"]] {
        home.run(&["token", "create", bad[0], bad[1]]).unwrap_err();
    }
}

#[test]
fn configuration_is_checked() {
    assert!(Home::new("").run(&["config", "check"]).unwrap().contains("is right"));
    let check = |more: &str, expected: &str| {
        let said = Home::new(more).run(&["config", "check"]).unwrap_err();
        assert!(said.contains("berth-control.toml") && said.contains(expected), "{said}");
    };
    check("port = 1", "unknown field `port`");
    check("lease_ms = \"x\"", "invalid type");
    check("lease_ms = 1", "lease_ms: 1 is outside");
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed half-way must not leave its service behind.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the service and reads from its log where it listens.
fn start(home: &Home) -> (Service, String) {
    let mut command = home.command(&["run"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let service = Service(child);
    let mut seen = String::new();
    let mut lines = BufReader::new(stderr).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        seen.push_str(&line);
        if let Some((_, after)) = line.split_once("serving") {
            let port = after.split("127.0.0.1:").nth(1).unwrap();
            let port = port.chars().take_while(char::is_ascii_digit).collect();
            // The pipe must not fill up, nor break under the service's next line.
            std::thread::spawn(move || lines.for_each(drop));
            return (service, port);
        }
    }
    panic!("it never served: {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_serves_whom_it_made_a_certificate_for_and_ends_when_told() {
    let home = Home::new("log = \"info\"");
    let early = home.run(&["run"]).unwrap_err();
    assert!(early.contains("berth-control:"), "{early}");
    home.run(&["ca", "init"]).unwrap();
    let out = home.path("ops");
    home.run(&["platform-cert", "ops", "--out", out.to_str().unwrap()]).unwrap();
    let again = home.run(&["platform-cert", "ops", "--out", out.to_str().unwrap()]).unwrap_err();
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(mode(&out.join("client.key")), 0o600);

    let (mut service, port) = start(&home);
    let second = home.run(&["run"]).unwrap_err();
    assert!(second.contains("another berth-control runs"), "{second}");
    let config: toml::Table = std::fs::read_to_string(out.join("config.toml")).unwrap().parse().unwrap();
    let file = |key: &str| std::fs::read(config[key].as_str().unwrap()).unwrap();
    assert!(config["server"].as_str().unwrap().starts_with("localhost:"));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(file("ca")))
        .identity(Identity::from_pem(file("cert"), file("key")))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut platform = PlatformClient::new(channel);
    let nodes = platform.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!(nodes, []);

    let pid = service.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(service.0.wait().unwrap().success());
}
