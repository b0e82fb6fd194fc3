//! `berth`: what a platform's operator drives the control plane by. Start with [`main`].

mod apply;
mod args;
mod change;
mod describe;
mod explain;
mod in_place;
mod migrate;
mod node;
mod patch;
mod rollout;
mod show;
mod wait;

use crate::channel;
use crate::config::{Connection, ConnectionArgs};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::program;
use args::{Cli, Command};
use berth_model::PodId;
use berth_proto::v1;
use clap::CommandFactory;
use std::ffi::OsString;
use std::process::ExitCode;
use tonic::transport::Channel;
use v1::platform_client::PlatformClient;

/// Largest answer: ten thousand pods with all that is known of them.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Runs `berth` with these arguments, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    program::run(args, |cli: Cli| (cli.output, run(cli)))
}

async fn run(cli: Cli) -> Result<()> {
    let output = Output::new(cli.output);
    let session = Session { connection: cli.connection, output };
    match cli.command {
        Command::Apply(apply) => apply::apply(&session, &apply).await,
        Command::Get(get) => show::get(&session, &get).await,
        Command::Describe(describe) => describe::describe(&session, &describe).await,
        Command::Explain(explain) => explain::explain(&explain),
        Command::Watch(watch) => show::watch(&session, &watch).await,
        Command::Evict(evict) => change::evict(&session, &evict).await,
        Command::Release(release) => change::release(&session, &release).await,
        Command::Stop(stop) => change::stop(&session, &stop).await,
        Command::Start(start) => change::start(&session, &start).await,
        Command::Restart(restart) => in_place::restart(&session, &restart).await,
        Command::Upgrade(upgrade) => in_place::upgrade(&session, &upgrade).await,
        Command::Resize(resize) => in_place::resize(&session, &resize).await,
        Command::Rollout(rollout) => rollout::run(&session, &rollout).await,
        Command::Migrate(migrate) => migrate::run(&session, &migrate).await,
        Command::Node(node) => node::run(&session, &node).await,
        Command::Nodes(nodes) => show::nodes(&session, &nodes).await,
        Command::Inspect(inspect) => change::inspect(&session, &inspect).await,
        Command::Pools(pools) => show::pools(&session, &pools).await,
        Command::DeletePool(delete) => change::delete_pool(&session, &delete).await,
        Command::Orders(orders) => show::orders(&session, &orders).await,
        Command::Events(events) => show::events(&session, &events).await,
        Command::Pull(pull) => change::pull(&session, &pull).await,
        Command::Generate(generate) => generate.run(Cli::command()),
    }
}

/// What every command needs. It connects only when asked to, so that a usage error needs no server.
struct Session {
    connection: ConnectionArgs,
    output: Output,
}

impl Session {
    async fn client(&self) -> Result<PlatformClient<Channel>> {
        let connection = Connection::resolve(&self.connection)?;
        let channel = channel::to_control(&connection).await?;
        Ok(PlatformClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
    }
}

fn parse_pod(text: &str) -> Result<PodId> {
    text.parse().map_err(|error| {
        Failure::usage(format!("{error}")).remedy("name a pod by namespace and name, such as shop/web")
    })
}
