//! What the commands do.

use super::{CaCommand, Cli, Command, ConfigCommand, PlatformCert, TokenCommand};
use crate::clock::{SystemClock, wall_ms};
use crate::config::{Config, DEFAULT_CONFIG_PATH};
use crate::pki::{self, Authority, give_to_owner, write_new};
use crate::server;
use crate::store::{Store, TokenRow};
use crate::token::Token;
use anyhow::{Context, bail};
use berth_model::NodeName;
use berth_tls::Identity;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Longest life of a token: one that is forgotten somewhere must not open the fleet next year.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// SQLite's files beside the store's own.
const STORE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

pub(super) fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref())?;
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run_service(&config),
        Command::Ca(CaCommand::Init { trust_domain }) => ca_init(&config, &trust_domain),
        Command::Ca(CaCommand::Server) => ca_server(&config),
        Command::Ca(CaCommand::Fingerprint) => say(&load_authority(&config)?.fingerprint()),
        Command::Token(TokenCommand::Create { node, ttl }) => token_create(&config, node, ttl),
        Command::Token(TokenCommand::List) => token_list(&config),
        Command::Token(TokenCommand::Revoke { id }) => token_revoke(&config, &id),
        Command::PlatformCert(wanted) => platform_cert(&config, &wanted),
        Command::Config(ConfigCommand::Check) => {
            let path = cli.config.unwrap_or_else(|| DEFAULT_CONFIG_PATH.into());
            say(&format!("{} is right", path.display()))
        }
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

fn since_epoch() -> Duration {
    Duration::from_millis(wall_ms())
}

/// A number with a unit: `90s`, `15m`, `1h`, `2d`.
pub(super) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no number with s, m, h or d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let ttl = number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)?;
    match ttl {
        Duration::ZERO => Err("a token of no duration could not be used".to_owned()),
        ttl if ttl > MAX_TTL => Err(format!("a token lives at most {} days", MAX_TTL.as_secs() / 86_400)),
        ttl => Ok(ttl),
    }
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&config.log).with_context(|| format!("parse log filter {:?}", config.log))?;
    let registry = tracing_subscriber::registry().with(filter);
    // systemd says by this that standard error ends in its journal.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let journal = tracing_journald::layer().context("open the journal")?;
        registry.with(journal).try_init().context("start logging")
    } else {
        let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        registry.with(text).try_init().context("start logging")
    }
}

fn run_service(config: &Config) -> anyhow::Result<()> {
    start_logging(config)?;
    let _only = lock(config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let served = runtime.block_on(serve(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut serving = server::serve(config, Arc::new(SystemClock::start())).await?;
    tracing::info!(
        listen = %serving.listen,
        enroll_listen = %serving.enroll_listen,
        "serving on {}, enrolling on {}",
        serving.listen,
        serving.enroll_listen
    );
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog());
    // All arms only wait.
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = serving.failure() => Some(error),
    };
    watchdog.abort();
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    match failed {
        Some(error) => Err(error),
        None => {
            tracing::info!("going down");
            serving.drain().await
        }
    }
}

fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be told how we are: {error}");
    }
}

async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        tell_systemd(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(limit / 3).await;
    }
}

/// Two services on one store would both give orders.
fn lock(config: &Config) -> anyhow::Result<std::fs::File> {
    let path = config.state_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.try_lock().with_context(|| {
        format!("lock {}: another berth-control runs on this state directory", path.display())
    })?;
    Ok(file)
}

fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("create directory {}", dir.display()))
}

/// What an administrator made as root belongs to the service's account, which owns the state directory.
fn hand_over(config: &Config) -> anyhow::Result<()> {
    let pki = config.pki_dir();
    let keys = [pki::CA_CERT, pki::CA_KEY, pki::SERVER_CERT, pki::SERVER_KEY].map(|name| pki.join(name));
    let store = STORE_SUFFIXES.map(|suffix| {
        let mut path = config.store_path().into_os_string();
        path.push(suffix);
        path.into()
    });
    for path in std::iter::once(pki).chain(keys).chain(store) {
        give_to_owner(&path, &config.state_dir)?;
    }
    Ok(())
}

fn load_authority(config: &Config) -> anyhow::Result<Authority> {
    Authority::load(&config.pki_dir()).context("load the authority: run berth-control ca init first")
}

fn ca_init(config: &Config, trust_domain: &str) -> anyhow::Result<()> {
    let domain = trust_domain.parse()?;
    make_private_dir(&config.state_dir)?;
    let dir = config.pki_dir();
    make_private_dir(&dir)?;
    let authority = pki::init(&dir, &domain, &config.server_names, since_epoch())?;
    hand_over(config)?;
    say(&format!("authority:    {}", dir.join(pki::CA_CERT).display()))?;
    say(&format!("trust domain: {domain}"))?;
    say(&format!("server names: {}", config.server_names.join(" ")))?;
    say(&format!("sha256:       {}", authority.fingerprint()))
}

fn ca_server(config: &Config) -> anyhow::Result<()> {
    let dir = config.pki_dir();
    load_authority(config)?.write_server(&dir, &config.server_names, since_epoch())?;
    hand_over(config)?;
    say(&format!(
        "{} is made for: {}; restart berth-control.service to use it",
        dir.join(pki::SERVER_CERT).display(),
        config.server_names.join(" ")
    ))
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(&config.store_path())?;
    hand_over(config)?;
    Ok(store)
}

fn token_create(config: &Config, node: Option<String>, ttl: Duration) -> anyhow::Result<()> {
    let node = node.map(NodeName::new).transpose().context("read the node's name")?;
    let token = Token::generate(load_authority(config)?.fingerprint())?;
    let now_ms = wall_ms();
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    open_store(config)?.add_token(&TokenRow {
        version: 1,
        id: token.id.clone(),
        secret_hash: token.secret_hash(),
        node: node.map(|node| node.to_string()),
        created_at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(ttl_ms),
        used_by: None,
    })?;
    hand_over(config)?;
    // Alone on standard output, so that a script can take it.
    say(&token.reveal())
}

fn token_list(config: &Config) -> anyhow::Result<()> {
    let now_ms = wall_ms();
    say(&format!("{:16}  {:24}  STATE", "ID", "NODE"))?;
    for row in open_store(config)?.tokens()? {
        let state = match (&row.used_by, row.expires_at_ms.checked_sub(now_ms)) {
            (Some(node), _) => format!("used by {node}"),
            (None, None | Some(0)) => "expired".to_owned(),
            (None, Some(left_ms)) => format!("good for {} s", left_ms / 1_000),
        };
        say(&format!("{:16}  {:24}  {state}", row.id, row.node.as_deref().unwrap_or("any")))?;
    }
    Ok(())
}

fn token_revoke(config: &Config, id: &str) -> anyhow::Result<()> {
    if !open_store(config)?.revoke_token(id)? {
        bail!("there is no token {id:?}");
    }
    say(&format!("token {id} is revoked"))
}

fn platform_cert(config: &Config, wanted: &PlatformCert) -> anyhow::Result<()> {
    let identity = Identity::Platform(wanted.name.parse()?);
    let authority = load_authority(config)?;
    make_private_dir(&wanted.out)?;
    let out =
        std::fs::canonicalize(&wanted.out).with_context(|| format!("resolve {}", wanted.out.display()))?;
    let [ca, certificate, key, file] =
        ["ca.crt", "client.crt", "client.key", "config.toml"].map(|name| out.join(name));
    for path in [&ca, &certificate, &key, &file] {
        if path.symlink_metadata().is_ok() {
            bail!("{} is there already: remove it, or choose another directory", path.display());
        }
    }
    let default = || config.advertised(config.listen.port());
    let server = wanted.server.clone().unwrap_or_else(default);
    let text = client_config(&server, [("ca", &ca), ("cert", &certificate), ("key", &key)])?;
    let issued = authority.issue_platform(&identity, since_epoch())?;
    write_new(&key, &issued.key_pem)?;
    write_new(&certificate, &issued.certificate_pem)?;
    write_new(&ca, authority.certificate_pem())?;
    write_new(&file, &text)?;
    say(&format!("{identity}: {}", file.display()))
}

/// What `berth` reads: where to dial, and by which files both sides know each other.
fn client_config(server: &str, files: [(&str, &PathBuf); 3]) -> anyhow::Result<String> {
    let mut table = toml::Table::new();
    table.insert("server".to_owned(), server.into());
    for (key, path) in files {
        let path = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
        table.insert(key.to_owned(), path.into());
    }
    toml::to_string(&table).context("write the client's configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_tokens() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(parse_ttl(text).ok(), seconds.map(Duration::from_secs), "{text:?}");
        };
        check("90s", Some(90));
        check("15m", Some(900));
        check("1h", Some(3_600));
        check("30d", Some(30 * 86_400));
        for bad in ["", "1", "h", "-1h", "1.5h", "31d", "0s", "1w", "99999999999999999999h", "é"] {
            check(bad, None);
        }
    }
}
