//! `berth rollout`: upgrades of many pods, a few at a time. The control plane drives them; these commands only ask.

use super::Session;
use super::in_place::WhyArgs;
use super::patch::PatchArgs;
use crate::failure::{Failure, Result};
use crate::manifest::parse_duration_ms;
use crate::output;
use crate::program::{ask, request};
use crate::table;
use berth_model::RolloutName;
use berth_proto::v1;
use clap::{Args, Subcommand};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use v1::platform_client::PlatformClient;

/// Between two looks at a rollout that is watched.
const PAUSE: Duration = Duration::from_millis(500);

const START_EXAMPLES: &str = "\
Examples:
  berth rollout start front-2 -n shop -l tier=front --image web=registry.example/shop/web:2 --max-unavailable 3
  berth rollout start debug -n shop --name 'web-*' --env web:LOG=debug --watch
  berth rollout status front-2 --watch";

/// Upgrade many pods in place, a few at a time
///
/// A rollout goes on by itself, also over a restart of the control plane. It stops itself when more pods were rolled
/// back than may be unavailable.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    Start(Box<Start>),
    Status(Status),
    Pause(Named),
    Resume(Named),
    Undo(Undo),
}

/// Begin a rollout over the pods that are selected now
#[derive(Debug, Args)]
#[command(after_long_help = START_EXAMPLES)]
pub(crate) struct Start {
    /// What to call it
    pub rollout: RolloutName,
    /// Only pods of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only pods of such names; * stands for any characters
    #[arg(long, value_name = "GLOB", default_value = "", hide_default_value = true)]
    pub name: String,
    /// Only pods with this label; repeat it for several
    #[arg(short = 'l', long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    #[command(flatten)]
    pub patch: PatchArgs,
    /// So many of them may be unavailable at a time
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub max_unavailable: u32,
    /// How long a container without a readiness probe must run to count as ready [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub settle: Option<u64>,
    #[command(flatten)]
    pub why: WhyArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Show rollouts, or one rollout and its pods
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this one, with its pods
    pub rollout: Option<RolloutName>,
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Order nothing more (pause), or go on after a look at what went wrong (resume)
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Which
    pub rollout: RolloutName,
}

/// Put every pod that was upgraded back to what it was
///
/// Pods that somebody else has changed since are passed over.
#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// Which
    pub rollout: RolloutName,
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Watching.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WatchArgs {
    /// Show how it goes until it is done; 1 is the exit code when it stops, or pods were rolled back
    #[arg(long)]
    pub watch: bool,
    /// Give up watching after this; the rollout goes on
    #[arg(long, requires = "watch", default_value = "1h", value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: u64,
}

fn parse_label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

pub(super) async fn run(session: &Session, rollout: &Rollout) -> Result<()> {
    use v1::change_rollout_request::Action;
    match rollout {
        Rollout::Start(wish) => start(session, wish).await,
        Rollout::Status(wish) => status(session, wish).await,
        Rollout::Pause(wish) => change(session, &wish.rollout, Action::Pause, NO_WATCH).await,
        Rollout::Resume(wish) => change(session, &wish.rollout, Action::Resume, NO_WATCH).await,
        Rollout::Undo(wish) => change(session, &wish.rollout, Action::Undo, wish.watch).await,
    }
}

const NO_WATCH: WatchArgs = WatchArgs { watch: false, timeout: 0 };

async fn start(session: &Session, start: &Start) -> Result<()> {
    let patch = start.patch.patch(super::apply::read_config)?;
    if patch == v1::PodPatch::default() {
        return Err(Failure::usage("nothing to change is named")
            .remedy("name an image, a variable or a file: --help"));
    }
    let labels: HashMap<String, String> = start.labels.iter().cloned().collect();
    let selector =
        v1::PodSelector { namespace: start.namespace.clone(), name_glob: start.name.clone(), labels };
    if selector == v1::PodSelector::default() {
        return Err(Failure::usage("no pod is selected: name a namespace, names or labels"));
    }
    let mut client = session.client().await?;
    let call = client.start_rollout(request(v1::StartRolloutRequest {
        name: start.rollout.to_string(),
        selector: Some(selector),
        patch: Some(patch),
        max_unavailable: start.max_unavailable,
        settle_ms: start.settle,
        reason: start.why.reason.clone(),
    }));
    let rollout = ask(&format!("start rollout {}", start.rollout), call).await?;
    show(session, client, rollout, start.watch).await
}

async fn change(
    session: &Session,
    name: &RolloutName,
    action: v1::change_rollout_request::Action,
    watch: WatchArgs,
) -> Result<()> {
    let mut client = session.client().await?;
    let call = client
        .change_rollout(request(v1::ChangeRolloutRequest { name: name.to_string(), action: action.into() }));
    let rollout = ask(&format!("change rollout {name}"), call).await?;
    show(session, client, rollout, watch).await
}

async fn status(session: &Session, status: &Status) -> Result<()> {
    if status.rollout.is_none() && status.watch.watch {
        return Err(Failure::usage("--watch shows one rollout: name it"));
    }
    let mut client = session.client().await?;
    let Some(name) = &status.rollout else {
        let call = client.list_rollouts(request(v1::ListRolloutsRequest {}));
        let rollouts = ask("list rollouts", call).await?.rollouts;
        return session.output.list(&rollouts, |style| table::rollouts(&rollouts, output::now_ms(), style));
    };
    let rollout = get(&mut client, name.as_str()).await?;
    show(session, client, rollout, status.watch).await
}

async fn get(client: &mut PlatformClient<Channel>, name: &str) -> Result<v1::Rollout> {
    let call = client.get_rollout(request(v1::GetRolloutRequest { name: name.to_owned() }));
    ask(&format!("get rollout {name}"), call).await
}

async fn show(
    session: &Session,
    client: PlatformClient<Channel>,
    mut rollout: v1::Rollout,
    watch: WatchArgs,
) -> Result<()> {
    if watch.watch {
        let deadline = Instant::now() + Duration::from_millis(watch.timeout);
        let name = rollout.name.clone();
        let ended = timeout_at(deadline, until_still(client, rollout)).await;
        rollout = ended.map_err(|_| {
            Failure::refused("Timeout", format!("rollout {name} is not done after {} ms", watch.timeout))
                .remedy("it goes on: berth rollout status shows how")
        })??;
    }
    session.output.message(&rollout, |style| table::rollout(&rollout, output::now_ms(), style))?;
    if watch.watch { judge(&rollout) } else { Ok(()) }
}

/// Follows a rollout until it goes on no more by itself.
async fn until_still(mut client: PlatformClient<Channel>, mut rollout: v1::Rollout) -> Result<v1::Rollout> {
    let mut said = String::new();
    loop {
        let line = table::rollout_line(&rollout);
        if line != said {
            output::progress(&line);
            said = line;
        }
        if rollout.state() != v1::RolloutState::Running {
            return Ok(rollout);
        }
        sleep(PAUSE).await;
        // A control plane may be restarted meanwhile.
        match get(&mut client, &rollout.name).await {
            Ok(later) => rollout = later,
            Err(failure) if failure.exit == crate::failure::Exit::Unreachable => {
                output::progress(&failure.message);
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn judge(rollout: &v1::Rollout) -> Result<()> {
    let name = &rollout.name;
    let why = match rollout.state() {
        v1::RolloutState::Done if rollout.rolled_back + rollout.skipped == 0 => return Ok(()),
        v1::RolloutState::Done => {
            format!(
                "rollout {name}: {} pods were rolled back, {} passed over",
                rollout.rolled_back, rollout.skipped
            )
        }
        v1::RolloutState::Paused | v1::RolloutState::Running | v1::RolloutState::Unspecified => {
            format!("rollout {name}: {}", rollout.message)
        }
    };
    Err(Failure::refused("Failed", why).remedy("berth rollout resume goes on, berth rollout undo puts back"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let check = |state: v1::RolloutState, rolled_back, expected: &str| {
            let rollout = v1::Rollout {
                state: state.into(),
                rolled_back,
                message: "why".to_owned(),
                ..Default::default()
            };
            let said = judge(&rollout).err().map(|failure| failure.message).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check(v1::RolloutState::Done, 0, "");
        check(v1::RolloutState::Done, 2, "2 pods were rolled back");
        check(v1::RolloutState::Paused, 0, "why");
        assert!(parse_label("tier").is_err() && parse_label("=x").is_err());
        assert_eq!(parse_label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    }
}
