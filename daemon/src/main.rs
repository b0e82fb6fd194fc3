//! `berthd`: reads the configuration, opens the ledger, and lets the daemon run until it is told to end.

mod cli;

use anyhow::Context;
use berth_cgroup::CgroupRoot;
use berthd::config::{Config, LogFormat};
use berthd::events;
use berthd::host::LocalHost;
use berthd::ledger::{Boot, Ledger, Moment};
use berthd::link::{NodeIdentity, PkiFiles};
use berthd::node;
use berthd::pod::is_busy;
use berthd::runtime::{ContainerdRuntime, KernelRoots, RuntimePaths};
use berthd::serve::{Daemon, Ending};
use clap::Parser;
use cli::{Cli, Command};
use sd_notify::NotifyState;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry};

/// How long a start waits for the host to be prepared: systemd's patience with a start is longer.
const PREPARE: Duration = Duration::from_secs(10);
/// Between two tries of preparing the host, while the runtime is away.
const PREPARE_AGAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match work(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berthd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref())?;
    let runtime = tokio::runtime::Runtime::new().context("start the async runtime")?;
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => {
            log_to(&config)?;
            runtime.block_on(run(config))
        }
        Command::Join(join) => runtime.block_on(cli::join(join, cli.config, &config)),
        Command::Config(command) => {
            cli::config(&command, &config);
            Ok(())
        }
        #[cfg(feature = "crash-points")]
        Command::CrashPoints => {
            berthd::crash_point::points().for_each(|point| println!("{point}"));
            Ok(())
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let kernel = KernelRoots::default();
    status("reading the ledger");
    let ledger = open_ledger(&config, &kernel)?;
    let runtime = ContainerdRuntime::new(RuntimePaths {
        containerd_socket: config.containerd_socket.clone(),
        state: config.state_dir.clone(),
        logs: config.log_dir.clone(),
        kernel,
        ..RuntimePaths::default()
    });
    let host = LocalHost::new(&config, runtime.clone());
    let (keeper, charted) = (runtime.log_keeper(config.log_limits), ledger.clone());
    tokio::spawn(keeper.run(move || {
        charted.read(|book| {
            let here = book.pods.values().filter(|record| record.charter.is_some());
            here.map(|record| (record.pod.clone(), record.incarnation)).collect()
        })
    }));
    let here = ledger.read(|book| {
        let busy = book.pods.values().filter(|record| is_busy(record));
        busy.map(|record| record.pod.clone()).collect()
    });
    runtime.forget_all_but(&here);
    let (eyes, ordered) = (runtime.clone(), ledger.clone());
    tokio::spawn(runtime.lost_shims().run());
    let strain = events::StrainWatch::begin(CgroupRoot::system());
    status("preparing the host");
    prepare(&runtime, config.pause_image.clone()).await;
    tokio::spawn(host.reservation().run());
    // Handlers first: a signal from here on ends the daemon in order.
    let told = told()?;
    let running = Daemon {
        disks: runtime.disks().clone(),
        hints: runtime.subscribe(),
        config,
        ledger,
        runtime: Arc::new(runtime),
        host: Arc::new(host),
        beat: Box::new(|| notify(&[NotifyState::Watchdog])),
        shutdowns: node::watch_shutdown(),
    }
    .start()?;
    let (reports, journal) = (running.reports().clone(), running.reports().journal().clone());
    tokio::spawn(strain.run(reports));
    tokio::spawn(events::watch_strangers(ordered, eyes, journal));
    tracing::info!(pods = running.adopted(), "ready, with {} pods", running.adopted());
    notify(&[NotifyState::Ready]);
    let adopted = running.adopted();
    let mut link = running.link().subscribe();
    tokio::spawn(async move {
        loop {
            let line = cli::status_line(&link.borrow_and_update(), adopted);
            status(&line);
            if link.changed().await.is_err() {
                return;
            }
        }
    });
    match running.run(told).await {
        Ending::Told => Ok(()),
        Ending::Ledger(reason) => anyhow::bail!("the ledger cannot be written: {reason}"),
    }
}

fn open_ledger(config: &Config, kernel: &KernelRoots) -> anyhow::Result<Ledger> {
    let state = &config.state_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
    made.with_context(|| format!("make folder {}", state.display()))?;
    let boot_id = node::boot_id(&kernel.proc).context("read the kernel's boot id")?;
    // The certificate names the node where the configuration does not.
    let joined = NodeIdentity::load(&PkiFiles::below(state)).ok().map(|identity| identity.node);
    let boot = Boot { node: config.node.clone().or(joined), boot_id };
    Ok(Ledger::open(&state.join("ledger.db"), &boot, Moment::now())?)
}

/// Prepares the host; while the runtime is away that goes on beside everything else, since pods that run need no help.
async fn prepare(runtime: &ContainerdRuntime, pause_image: PathBuf) {
    match tokio::time::timeout(PREPARE, runtime.prepare(&pause_image)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!("the host is not prepared yet; trying again: {error}"),
        Err(_) => tracing::warn!(
            seconds = PREPARE.as_secs(),
            "the host is not prepared after {} s; trying again",
            PREPARE.as_secs()
        ),
    }
    let runtime = runtime.clone();
    tokio::spawn(async move {
        while let Err(error) = runtime.prepare(&pause_image).await {
            tracing::debug!(%error, "the host is not prepared yet");
            tokio::time::sleep(PREPARE_AGAIN).await;
        }
        tracing::info!("the host is prepared");
    });
}

/// Returns when systemd, or a person, wants the daemon to end.
fn told() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    Ok(async move {
        tokio::select! {
            // Cancel-safe: a signal that is not taken stays.
            _ = terminate.recv() => {}
            // Likewise.
            _ = interrupt.recv() => {}
        }
        notify(&[NotifyState::Stopping]);
    })
}

fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Without systemd there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell systemd how the daemon is: {error}");
    }
}

fn log_to(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("read the log filter")?;
    let registry = Registry::default().with(filter);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = match config.log_format {
        LogFormat::Auto if under_systemd => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        given @ (LogFormat::Journal | LogFormat::Text | LogFormat::Json) => given,
    };
    match format {
        LogFormat::Journal => registry.with(tracing_journald::layer().context("reach the journal")?).init(),
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
        }
        LogFormat::Text | LogFormat::Auto => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).init();
        }
    }
    Ok(())
}
