//! The command line of `berth-control`.

mod commands;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// The control plane of Berth.
#[derive(Debug, Parser)]
#[command(name = "berth-control", version, about, long_about = None)]
pub struct Cli {
    /// The configuration file [default: /etc/berth/berth-control.toml, which may be missing].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve nodes and platforms (this is what happens without a command).
    Run,
    /// The certificate authority of the fleet.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Tokens by which nodes join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make a client certificate and a configuration file for a platform or an operator.
    PlatformCert(PlatformCert),
    /// The configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make the authority and the server's certificate, once.
    Init {
        /// The name that all certificates of this fleet share.
        #[arg(long, default_value = "berth")]
        trust_domain: String,
    },
    /// Make a new server certificate, for the names that configuration has now. Restart the service afterwards.
    Server,
    /// Print the sha256 of the authority's certificate.
    Fingerprint,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token that lets one node join, once, and print it.
    Create {
        /// Only this node may use it. A node that joins again needs such a token.
        #[arg(long)]
        node: Option<String>,
        /// How long it can be used: a number with s, m, h or d.
        #[arg(long, default_value = "1h", value_parser = commands::parse_ttl)]
        ttl: std::time::Duration,
    },
    /// List tokens, without their secrets.
    List,
    /// Forget a token, so that it can no longer be used.
    Revoke {
        /// The token's id: the second part of its text.
        id: String,
    },
}

#[derive(Debug, Args)]
struct PlatformCert {
    /// The platform's name, a DNS label.
    name: String,
    /// Where ca.crt, client.crt, client.key and config.toml are put; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where the client dials [default: the first of server_names].
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read the file and say what is wrong with it.
    Check,
}

/// Does what the command line says.
///
/// # Errors
/// When that fails; the error's chain says at what.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    commands::run(cli)
}
