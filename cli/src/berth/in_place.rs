//! `berth restart | upgrade | resize`: changes of a pod that keep its address, host name, sandbox and disks.

use super::Session;
use super::args::WaitArgs;
use super::patch::{LimitArgs, PatchArgs};
use super::wait;
use crate::failure::{Failure, Result};
#[cfg(test)]
use crate::manifest;
use crate::manifest::{Manifest, parse_duration_ms};
use crate::output::{self, Format};
use crate::program::{ask, request};
use crate::table;
use berth_model::{NodeName, PodId, PodRequest};
use berth_proto::v1;
use clap::Args;
use std::path::PathBuf;
use tonic::transport::Channel;
use v1::platform_client::PlatformClient;

const RESTART_EXAMPLES: &str = "\
Examples:
  berth restart shop/web --wait        new containers on the disks that there are
  berth restart shop/web --rebuild     on fresh disks, from the same images";

const UPGRADE_EXAMPLES: &str = "\
Examples:
  berth upgrade shop/web --image web=registry.example/shop/web:2 --wait
  berth upgrade shop/web --env web:LOG=debug --unset-env web:TRACE
  berth upgrade shop/web --config-file web:/etc/web/web.conf=./web.conf --wait
  berth upgrade -f web.yaml --wait --timeout 10m

With --wait the exit code is 1 when the pod was rolled back; berth get then says why.
berth rollout start upgrades many pods, a few at a time.";

const RESIZE_EXAMPLES: &str = "\
Examples:
  berth resize shop/web --memory-max 1Gi --wait
  berth resize shop/web --container web --pids-max 400 --ulimit nofile=4096:8192
  berth resize shop/web --exclusive 4  CPUs of its own; the node's shared pool gives way first
  berth resize shop/web --memory-max 256Mi --within 20s --wait
  berth resize -f web.yaml --wait";

/// Replace every container of a pod by a new one, in place
///
/// Address, host name and sandbox stay; a stopped pod runs again by it.
#[derive(Debug, Args)]
#[command(after_long_help = RESTART_EXAMPLES)]
pub(crate) struct Restart {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    /// On fresh system disks [default: the pod's own policy]
    #[arg(long, conflicts_with = "reuse")]
    pub rebuild: bool,
    /// On the system disks that there are [default: the pod's own policy]
    #[arg(long)]
    pub reuse: bool,
    #[command(flatten)]
    pub stop: super::args::StopArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Change images, environment and whatever else a pod's containers are made with, in place
///
/// Only the containers that differ are replaced. A container whose image stays keeps its system disk; what does not
/// become ready goes back to what it was. What lives on the sandbox, such as the host name, is refused by its name.
#[derive(Debug, Args)]
#[command(after_long_help = UPGRADE_EXAMPLES, override_usage = "berth upgrade [OPTIONS] <NAMESPACE/NAME | --file <FILE>>")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub what: WhatArgs,
    #[command(flatten)]
    pub patch: PatchArgs,
    /// How long a container without a readiness probe must run to count as ready [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub settle: Option<u64>,
    /// What is not ready by then goes back to what it was [default: run_deadline_ms of berth-control, and the time to settle]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub within: Option<u64>,
    #[command(flatten)]
    pub why: WhyArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Hold a running pod to other limits, CPUs or memory; nothing is restarted
#[derive(Debug, Args)]
#[command(after_long_help = RESIZE_EXAMPLES, override_usage = "berth resize [OPTIONS] <NAMESPACE/NAME | --file <FILE>>")]
pub(crate) struct Resize {
    #[command(flatten)]
    pub what: WhatArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What does not fit by then goes back to what it was [default: order_deadline_ms of berth-control]
    ///
    /// Memory that is in use may yet be given back: until then the node tries again.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub within: Option<u64>,
    #[command(flatten)]
    pub why: WhyArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// A pod and single changes, or a manifest of the whole.
#[derive(Debug, Args)]
pub(crate) struct WhatArgs {
    /// Which pod, to change single things
    #[arg(value_name = "NAMESPACE/NAME", required_unless_present = "file", conflicts_with = "file")]
    pub pod: Option<PodId>,
    /// The pod's whole manifest, as it should be; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Why, for people.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Why, for people; it goes into the order
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// What is to be changed, and to what.
enum Change {
    Whole(Box<PodRequest>),
    Patch(Box<v1::PodPatch>),
}

fn change(what: &WhatArgs, patch: v1::PodPatch) -> Result<(PodId, Change)> {
    let empty = patch == v1::PodPatch::default();
    match (&what.pod, &what.file) {
        (Some(_), None) if empty => {
            Err(Failure::usage("nothing to change is named").remedy("--help shows what can be changed"))
        }
        (Some(pod), None) => Ok((pod.clone(), Change::Patch(Box::new(patch)))),
        (_, Some(_)) if !empty => {
            Err(Failure::usage("a manifest says all of it: leave out the single changes, or the file"))
        }
        (_, Some(path)) => {
            only_pod(super::apply::read(path)?).map(|pod| (pod.pod.clone(), Change::Whole(pod)))
        }
        (None, None) => Err(Failure::usage("neither a pod nor a manifest is named")),
    }
}

fn only_pod(manifests: Vec<Manifest>) -> Result<Box<PodRequest>> {
    let mut pods = manifests.into_iter().filter_map(|one| match one {
        Manifest::Pod(pod) => Some(pod),
        Manifest::AddressPool(_) | Manifest::SharedCpus(_) => None,
    });
    match (pods.next(), pods.next()) {
        (Some(pod), None) => Ok(pod),
        (None, _) => Err(Failure::manifest("the manifest describes no pod")),
        (Some(_), Some(_)) => {
            Err(Failure::manifest("the manifest describes several pods: change one at a time")
                .remedy("berth rollout start changes many, a few at a time"))
        }
    }
}

pub(super) async fn restart(session: &Session, restart: &Restart) -> Result<()> {
    let mut client = session.client().await?;
    let id = &restart.pod;
    let disk = match (restart.rebuild, restart.reuse) {
        (true, _) => v1::DiskPolicy::Rebuild,
        (false, true) => v1::DiskPolicy::Reuse,
        (false, false) => v1::DiskPolicy::Unspecified,
    };
    let call = client.restart_pod(request(v1::RestartPodRequest {
        pod: Some(id.into()),
        disk: disk.into(),
        grace_ms: restart.stop.grace,
        reason: restart.stop.reason.clone(),
    }));
    let pod = ask(&format!("restart pod {id}"), call).await?;
    after_order(session, client, id, pod, restart.wait).await
}

pub(super) async fn upgrade(session: &Session, upgrade: &Upgrade) -> Result<()> {
    use v1::upgrade_pod_request::Change as Wire;
    let (id, change) = change(&upgrade.what, upgrade.patch.patch(super::apply::read_config)?)?;
    let mut client = session.client().await?;
    let call = client.upgrade_pod(request(v1::UpgradePodRequest {
        pod: Some((&id).into()),
        change: Some(match change {
            Change::Whole(pod) => Wire::Request((&*pod).into()),
            Change::Patch(patch) => Wire::Patch(*patch),
        }),
        settle_ms: upgrade.settle,
        within_ms: upgrade.within,
        reason: upgrade.why.reason.clone(),
    }));
    let pod = ask(&format!("upgrade pod {id}"), call).await?;
    after_order(session, client, &id, pod, upgrade.wait).await
}

pub(super) async fn resize(session: &Session, resize: &Resize) -> Result<()> {
    use v1::resize_pod_request::Change as Wire;
    let (id, change) = change(&resize.what, resize.limits.patch()?)?;
    let mut client = session.client().await?;
    let call = client.resize_pod(request(v1::ResizePodRequest {
        pod: Some((&id).into()),
        change: Some(match change {
            Change::Whole(pod) => Wire::Request((&*pod).into()),
            Change::Patch(patch) => Wire::Patch(*patch),
        }),
        reason: resize.why.reason.clone(),
        within_ms: resize.within,
    }));
    let pod = ask(&format!("resize pod {id}"), call).await?;
    after_order(session, client, &id, pod, resize.wait).await
}

/// The order that was just given to a pod: the newest that is open.
fn given(pod: &v1::Pod) -> Option<(NodeName, String)> {
    let is = |order: &&v1::Order| matches!(&order.target, Some(v1::order::Target::Pod(target)) if target.seq == pod.seq);
    let order = pod.orders.iter().find(is)?;
    Some((order.node.parse().ok()?, order.id.clone()))
}

/// Waits for the order's own end: the pod runs before and after, so its state says nothing.
async fn after_order(
    session: &Session,
    mut client: PlatformClient<Channel>,
    id: &PodId,
    mut pod: v1::Pod,
    wait: WaitArgs,
) -> Result<()> {
    let order = given(&pod);
    if let Some((node, order)) = order.as_ref().filter(|_| wait.wait) {
        wait::until_order(&mut client, node, order, wait.timeout).await?;
        let call = client.get_pod(request(v1::GetPodRequest { pod: Some(id.into()) }));
        pod = ask(&format!("get pod {id}"), call).await?;
    }
    match (session.output.format, order) {
        (Format::Json, _) => session.output.message(&pod, |_| String::new()),
        (Format::Table | Format::Wide, None) => {
            output::line(&format!("pod {id}: nothing to do, it is so already"))
        }
        (Format::Table | Format::Wide, Some((node, order))) => {
            let state = table::pod_state(pod.state);
            let done = if wait.wait { "done" } else { "ordered" };
            output::line(&format!("pod {id}: {done}, {state} on {node} (order {order})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_of_a_manifest() {
        let pod = "kind: Pod\nmetadata: {namespace: shop, name: web}\nspec: {containers: [{name: web, image: 'a.example/b:1'}]}\n";
        let pool = "kind: AddressPool\nmetadata: {name: blue}\nspec: {network: 10.0.0.0/24}\n";
        let check = |text: &str, expected: &str| match only_pod(manifest::parse(text).unwrap()) {
            Ok(pod) => assert_eq!(pod.pod.to_string(), expected),
            Err(failure) => assert!(failure.to_string().contains(expected), "{failure}"),
        };
        check(pod, "shop/web");
        check(&format!("{pool}---\n{pod}"), "shop/web");
        check(pool, "describes no pod");
        check(&format!("{pod}---\n{pod}"), "several pods");
    }
}
