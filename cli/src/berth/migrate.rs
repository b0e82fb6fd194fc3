//! `berth migrate`: moving pods.

use super::Session;
use super::in_place::WhyArgs;
use crate::failure::{Failure, Result};
use crate::manifest::parse_duration_ms;
use crate::output;
use crate::program::{ask, request};
use crate::table;
use berth_model::{NodeName, PodId};
use berth_proto::v1;
use clap::{Args, Subcommand};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use v1::platform_client::PlatformClient;

/// Between two looks at a migration that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

const MIGRATE_EXAMPLES: &str = "\
Examples:
  berth migrate shop/web --to node-2 --wait
  berth migrate shop/db --leave-data     begins with fresh disks; the old node keeps what was written
  berth migrate status                   all migrations
  berth migrate status shop/web
  berth migrate abort shop/web           as long as the target was not told to run it

A migration waits as long as the pod's node is merely silent: the pod may still run there. Whoever knows that the node
is powered off, or cut off for good, says so: berth node confirm-dead node-1";

/// Move a pod to another node; it keeps the addresses and host name that are its own
///
/// The target takes the images and frees CPUs while the pod still runs; the source stops the pod and says so durably;
/// only then does the target copy its movable data disks and run it. If the target cannot, the source runs it again.
/// The gap that is shown is the time from the order to stop until the pod ran again, in which it may not answer.
#[derive(Debug, Args)]
#[command(after_long_help = MIGRATE_EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Migrate {
    #[command(subcommand)]
    pub other: Option<Other>,
    #[command(flatten)]
    pub start: Start,
}

/// What else there is to do with migrations.
#[derive(Debug, Subcommand)]
pub(crate) enum Other {
    Status(Status),
    Abort(Abort),
}

/// Which pod, and how.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME", required = true)]
    pub pod: Option<PodId>,
    /// Where to [default: the node that fits best]
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeName>,
    /// Leave behind what cannot be taken along, as what a dead node has: it stays on the old node until the pod is
    /// released
    #[arg(long, conflicts_with = "discard_data")]
    pub leave_data: bool,
    /// Give up what cannot be taken along, once the pod runs on its new node
    #[arg(long)]
    pub discard_data: bool,
    #[command(flatten)]
    pub why: WhyArgs,
    /// Wait until it is done, showing how it goes; 1 is the exit code when it failed
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this; the migration goes on
    #[arg(long, requires = "wait", default_value = "15m", value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: u64,
}

/// Show migrations, or that of one pod
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this pod's
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: Option<PodId>,
}

/// Give up a migration whose target was not told to run the pod yet; a pod that was stopped runs on its old node again
#[derive(Debug, Args)]
pub(crate) struct Abort {
    /// Which pod's
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
}

pub(super) async fn run(session: &Session, migrate: &Migrate) -> Result<()> {
    match (&migrate.other, &migrate.start.pod) {
        (Some(Other::Status(wish)), _) => status(session, wish).await,
        (Some(Other::Abort(wish)), _) => abort(session, wish).await,
        (None, Some(pod)) => start(session, pod, &migrate.start).await,
        (None, None) => Err(Failure::usage("no pod is named")),
    }
}

async fn start(session: &Session, id: &PodId, start: &Start) -> Result<()> {
    let mut client = session.client().await?;
    let leave_behind = match (start.leave_data, start.discard_data) {
        (true, _) => v1::LeaveBehind::Keep,
        (false, true) => v1::LeaveBehind::Discard,
        (false, false) => v1::LeaveBehind::Unspecified,
    };
    let call = client.migrate_pod(request(v1::MigratePodRequest {
        pod: Some(id.into()),
        to: start.to.as_ref().map(ToString::to_string),
        leave_behind: leave_behind.into(),
        reason: start.why.reason.clone(),
    }));
    let mut migration = ask(&format!("migrate pod {id}"), call).await?;
    if start.wait {
        let deadline = Instant::now() + Duration::from_millis(start.timeout);
        let ended = timeout_at(deadline, until_ended(client, id, migration)).await;
        migration = ended.map_err(|_| {
            Failure::refused(
                "Timeout",
                format!("the migration of pod {id} is not done after {} ms", start.timeout),
            )
            .remedy("it goes on: berth migrate status shows how")
        })??;
    }
    show(session, &migration)?;
    match migration.phase() {
        v1::MigrationPhase::Failed if start.wait => {
            Err(Failure::refused("Failed", format!("pod {id} was not migrated: {}", migration.message)))
        }
        _ => Ok(()),
    }
}

async fn get(client: &mut PlatformClient<Channel>, id: &PodId) -> Result<v1::Migration> {
    let call = client.get_migration(request(v1::GetMigrationRequest { pod: Some(id.into()) }));
    ask(&format!("get the migration of pod {id}"), call).await
}

async fn until_ended(
    mut client: PlatformClient<Channel>,
    id: &PodId,
    mut migration: v1::Migration,
) -> Result<v1::Migration> {
    let mut said = String::new();
    loop {
        let line = table::migration_line(&migration);
        if line != said {
            output::progress(&line);
            said = line;
        }
        if matches!(migration.phase(), v1::MigrationPhase::Done | v1::MigrationPhase::Failed) {
            return Ok(migration);
        }
        sleep(PAUSE).await;
        // A control plane may be restarted meanwhile.
        match get(&mut client, id).await {
            Ok(later) => migration = later,
            Err(failure) if failure.exit == crate::failure::Exit::Unreachable => {
                output::progress(&failure.message);
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn status(session: &Session, status: &Status) -> Result<()> {
    let mut client = session.client().await?;
    if let Some(id) = &status.pod {
        return show(session, &get(&mut client, id).await?);
    }
    let call = client.list_migrations(request(v1::ListMigrationsRequest {}));
    let migrations = ask("list migrations", call).await?.migrations;
    session.output.list(&migrations, |style| table::migrations(&migrations, output::now_ms(), style))
}

async fn abort(session: &Session, abort: &Abort) -> Result<()> {
    let mut client = session.client().await?;
    let id = &abort.pod;
    let call = client.abort_migration(request(v1::AbortMigrationRequest { pod: Some(id.into()) }));
    let migration = ask(&format!("abort the migration of pod {id}"), call).await?;
    show(session, &migration)
}

fn show(session: &Session, migration: &v1::Migration) -> Result<()> {
    let one = std::slice::from_ref(migration);
    session.output.message(migration, |style| table::migrations(one, output::now_ms(), style))
}
