//! The command line.

use anyhow::{Context, bail};
use berth_model::NodeName;
use berthd::config::{Config, DEFAULT_CONFIG_PATH};
use berthd::join_command::join_and_configure;
use berthd::link::{Existing, JoinRequest, LinkStatus, PkiFiles, Token, split_address};
use clap::{Args, Parser, Subcommand};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes of a token that are read.
const TOKEN_MAX_BYTES: u64 = 4_096;

/// The node agent of Berth: carries out orders, keeps what it was told to keep, reports facts.
///
/// It decides nothing: which pod runs here, on which CPUs and with which address is the control plane's word.
/// Ending it, restarting it or upgrading it stops no container.
#[derive(Debug, Parser)]
#[command(
    name = "berthd",
    version,
    after_help = "A new node:\n  \
        berth-control token create                              (on the control plane)\n  \
        berthd join --control control.example:7443 --token …    (here)\n  \
        systemctl restart berthd\n  \
        berthctl status"
)]
pub(crate) struct Cli {
    /// The configuration [default: /etc/berth/berthd.toml, if it is there]
    #[arg(long, short, global = true, value_name = "FILE", env = "BERTHD_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent (the default)
    Run,
    /// Give this node an identity: a key that never leaves it, and a certificate by the control plane
    Join(Join),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the points at which a test can let this program end
    #[cfg(feature = "crash-points")]
    CrashPoints,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The control plane, as nodes dial it
    #[arg(long, value_name = "HOST:PORT")]
    control: String,
    /// Where it takes in nodes [default: the same host, port 7444]
    #[arg(long, value_name = "HOST:PORT")]
    enroll: Option<String>,
    /// The one-use token of `berth-control token create`; other users of this host can see it on the command line
    #[arg(long, value_name = "TOKEN", env = "BERTH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Read the token from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// This node's name, a DNS label [default: `node` of the configuration, or the host name's first part]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Give up an identity that this node has already
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it; succeeds if nothing is
    Check,
}

pub(crate) fn config(command: &ConfigCommand, config: &Config) {
    match command {
        // It has been read to get here.
        ConfigCommand::Check => {
            print!("# The configuration is fine. With all defaults it says:\n{}", config.to_toml());
        }
    }
}

pub(crate) async fn join(join: Join, path: Option<PathBuf>, config: &Config) -> anyhow::Result<()> {
    split_address(&join.control).context("read --control")?;
    let token = Token::parse(&read_token(&join)?)?;
    let request = JoinRequest {
        enroll: join.enroll.clone().unwrap_or_else(|| config.enroll_address(&join.control)),
        token,
        node: node_name(&join, config)?,
        files: PkiFiles::below(&config.state_dir),
        existing: match join.replace {
            true => Existing::Replace,
            false => Existing::Keep,
        },
    };
    let path = path.unwrap_or_else(|| DEFAULT_CONFIG_PATH.into());
    let (joined, added) = join_and_configure(&request, &join.control, &path).await?;
    println!("This node is {} of {}.", joined.node, joined.trust_domain);
    match added.as_slice() {
        [] => println!("{} names its control plane already; it was left as it is.", path.display()),
        [key] => println!("{key} was added to {}.", path.display()),
        keys => println!("{} were added to {}.", keys.join(" and "), path.display()),
    }
    warn_about_other_control(&join, config, &path);
    println!("Next: systemctl restart berthd, then berthctl status.");
    Ok(())
}

fn warn_about_other_control(join: &Join, config: &Config, path: &Path) {
    if let Some(control) = config.control.as_ref().filter(|control| **control != join.control) {
        println!(
            "Mind: {} says control = {control:?}, and that is where this node will dial.",
            path.display()
        );
    }
}

fn read_token(join: &Join) -> anyhow::Result<String> {
    match (&join.token, &join.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) if path == Path::new("-") => {
            read_bounded(std::io::stdin().lock()).context("read the token from standard input")
        }
        (None, Some(path)) => {
            let file = std::fs::File::open(path);
            let text = file.map_err(anyhow::Error::from).and_then(read_bounded);
            text.with_context(|| format!("read the token from {}", path.display()))
        }
        (None, None) => {
            bail!(
                "give the token by --token, --token-file or BERTH_TOKEN; `berth-control token create` makes one"
            )
        }
    }
}

fn read_bounded(source: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    source.take(TOKEN_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn node_name(join: &Join, config: &Config) -> anyhow::Result<NodeName> {
    if let Some(name) = &join.node {
        let name: NodeName = name.parse().context("read --node")?;
        if let Some(other) = config.node.as_ref().filter(|other| **other != name) {
            bail!(
                "--node is {name}, and the configuration says node = {:?}: make them agree",
                other.as_str()
            );
        }
        return Ok(name);
    }
    if let Some(name) = &config.node {
        return Ok(name.clone());
    }
    let host = nix::unistd::gethostname().context("read the host name")?;
    let host = host.to_string_lossy().to_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    first.parse().with_context(|| format!("make a node name of host name {host:?}; give one by --node"))
}

/// The daemon in one line, for `systemctl status`.
pub(crate) fn status_line(link: &LinkStatus, adopted: usize) -> String {
    match link.connected {
        true => format!("{adopted} pods taken up at start; connected"),
        false => format!("{adopted} pods taken up at start; not connected: {}", link.message),
    }
}
