//! `--wait`: follows pods until all are where they should be, and says on standard error how it goes.

use super::Session;
use super::args::WaitArgs;
use crate::failure::{Failure, Result};
use crate::output::{self, Format};
use crate::program::{ask, request};
use crate::table::{self, identity};
use berth_model::{NodeName, PodId};
use berth_proto::v1;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use v1::PodState;
use v1::platform_client::PlatformClient;

/// Between two looks where there is no stream to wait on, and before a broken stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a pod should get to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Its containers run.
    Running,
    /// Its containers are stopped.
    Stopped,
    /// It is on no node.
    Evicted,
    /// Nothing is left of it.
    Released,
}

/// What a look at a pod says about its goal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    Failed(String),
}

impl Goal {
    /// Judges a pod; none is one that is not there.
    fn judge(self, pod: Option<&v1::Pod>) -> Verdict {
        let Some(pod) = pod else {
            return match self {
                Self::Released => Verdict::Reached,
                Self::Running | Self::Stopped | Self::Evicted => Verdict::Failed("it is gone".to_owned()),
            };
        };
        let state = PodState::try_from(pod.state).unwrap_or(PodState::Unspecified);
        match (self, state) {
            (Self::Running, PodState::Running)
            | (Self::Stopped, PodState::Stopped)
            | (Self::Evicted, PodState::Evicted) => Verdict::Reached,
            (_, PodState::Failed) => Verdict::Failed(match pod.message.as_str() {
                "" => "the node could not carry out its order".to_owned(),
                why => why.to_owned(),
            }),
            // Somebody else gave another order meanwhile: waiting longer would be waiting for ever.
            (Self::Running | Self::Stopped, PodState::Evicting | PodState::Evicted)
            | (Self::Running, PodState::Stopping | PodState::Stopped) => {
                Verdict::Failed(format!("it is {} by another order", table::pod_state(pod.state)))
            }
            (Self::Running | Self::Stopped | Self::Evicted | Self::Released, _) => Verdict::NotYet,
        }
    }
}

/// Waits after a change of one pod if that is wanted, and writes the pod.
pub(super) async fn after_change(
    session: &Session,
    client: PlatformClient<Channel>,
    pod: v1::Pod,
    goal: Goal,
    wait: WaitArgs,
) -> Result<()> {
    let id = berth_proto::pod_from(pod.pod.clone()).map_err(|error| {
        Failure::refused("InvalidAnswer", format!("the control plane answered with {}", error.chain()))
    })?;
    let ended = match wait.wait {
        true => until_all(client, vec![id.clone()], goal, wait.timeout).await?.pop(),
        false => Some(pod),
    };
    match (ended, session.output.format) {
        (Some(pod), Format::Json) => session.output.message(&pod, |_| String::new()),
        (Some(pod), Format::Table | Format::Wide) => {
            output::line(&format!("pod {id}: {}", table::pod_state(pod.state)))
        }
        (None, Format::Json) => output::line("null"),
        (None, Format::Table | Format::Wide) => output::line(&format!("pod {id}: released")),
    }
}

/// Waits until all of `ids` have reached `goal`, and returns those that are still there.
///
/// # Errors
/// One of them failed, or time ran out.
pub(super) async fn until_all(
    client: PlatformClient<Channel>,
    ids: Vec<PodId>,
    goal: Goal,
    timeout_ms: u64,
) -> Result<Vec<v1::Pod>> {
    let mut follow =
        Follow { goal, pods: ids.into_iter().map(|id| (id.to_string(), Seen::default())).collect() };
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    match timeout_at(deadline, follow.run(client)).await {
        Ok(Ok(())) => Ok(follow.pods.into_values().filter_map(|seen| seen.pod).collect()),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::refused(
            "Timeout",
            format!("not done after {timeout_ms} ms: {}", follow.standing()),
        )
        .remedy(
            "nothing is undone by this: berth watch shows how it goes on, berth orders what was ordered",
        )),
    }
}

#[derive(Debug, Default)]
struct Seen {
    pod: Option<v1::Pod>,
    line: String,
}

struct Follow {
    goal: Goal,
    pods: BTreeMap<String, Seen>,
}

impl Follow {
    /// Opens the stream again as often as it breaks: a control plane may be restarted while we wait.
    async fn run(&mut self, mut client: PlatformClient<Channel>) -> Result<()> {
        loop {
            match client.watch_pods(v1::ListPodsRequest::default()).await {
                Ok(events) => {
                    if self.follow(events.into_inner()).await? {
                        return Ok(());
                    }
                }
                Err(status) => {
                    let failure = Failure::from_status(&status, "watch pods");
                    match failure.exit {
                        crate::failure::Exit::Unreachable => output::progress(&failure.message),
                        crate::failure::Exit::Refused | crate::failure::Exit::Usage => return Err(failure),
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether all got there; false when the stream broke.
    async fn follow(&mut self, mut events: tonic::Streaming<v1::PodEvent>) -> Result<bool> {
        use v1::pod_event::Event;
        // What is there is told anew by each stream; what is not told until its mark is not there.
        self.pods.values_mut().for_each(|seen| seen.pod = None);
        let mut synced = false;
        loop {
            match events.message().await {
                Ok(Some(v1::PodEvent { event: Some(Event::Changed(pod)) })) => self.see(pod),
                Ok(Some(v1::PodEvent { event: Some(Event::Released(pod)) })) => {
                    if let Some(seen) = self.pods.get_mut(&identity(Some(&pod))) {
                        seen.pod = None;
                    }
                }
                Ok(Some(v1::PodEvent { event: Some(Event::Synced(_)) })) => synced = true,
                Ok(Some(v1::PodEvent { event: None })) => {}
                Ok(None) | Err(_) => return Ok(false),
            }
            if synced && self.all_reached()? {
                return Ok(true);
            }
        }
    }

    fn see(&mut self, pod: v1::Pod) {
        let id = identity(pod.pod.as_ref());
        let Some(seen) = self.pods.get_mut(&id) else {
            return;
        };
        let event = v1::PodEvent { event: Some(v1::pod_event::Event::Changed(pod.clone())) };
        let line = table::pod_event(&event).unwrap_or_default();
        if line != seen.line {
            output::progress(&line);
            seen.line = line;
        }
        seen.pod = Some(pod);
    }

    fn all_reached(&self) -> Result<bool> {
        let mut all = true;
        for (id, seen) in &self.pods {
            match self.goal.judge(seen.pod.as_ref()) {
                Verdict::Reached => {}
                Verdict::NotYet => all = false,
                Verdict::Failed(why) => {
                    return Err(Failure::refused("Failed", format!("pod {id}: {why}"))
                        .remedy(format!("berth orders --pod {id} shows what was ordered and how it ended")));
                }
            }
        }
        Ok(all)
    }

    fn standing(&self) -> String {
        let one = |(id, seen): (&String, &Seen)| {
            let state = seen.pod.as_ref().map_or("not seen", |pod| table::pod_state(pod.state));
            format!("{id} is {state}")
        };
        self.pods.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Waits until an order has ended well.
///
/// # Errors
/// It did not, or time ran out.
pub(super) async fn until_order(
    client: &mut PlatformClient<Channel>,
    node: &NodeName,
    id: &str,
    timeout_ms: u64,
) -> Result<()> {
    let ended = async {
        let mut state = String::new();
        loop {
            let message = v1::ListOrdersRequest { pod: None, node: Some(node.to_string()) };
            let orders = ask("list orders", client.list_orders(request(message))).await?.orders;
            let record =
                orders.into_iter().find(|record| record.order.as_ref().is_some_and(|order| order.id == id));
            if let Some(record) = record {
                match table::outcome(record.outcome.as_ref()) {
                    Some(("done", _)) => return Ok(()),
                    Some(("rolled back", why)) => {
                        let why = format!("order {id}: {why}; everything is as it was before");
                        return Err(Failure::refused("RolledBack", why));
                    }
                    Some((_, why)) => return Err(Failure::refused("Failed", format!("order {id}: {why}"))),
                    None if record.state != state => {
                        output::progress(&format!("order {id}: {}", record.state));
                        state = record.state;
                    }
                    None => {}
                }
            }
            sleep(PAUSE).await;
        }
    };
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    timeout_at(deadline, ended).await.unwrap_or_else(|_| {
        Err(Failure::refused("Timeout", format!("order {id} on {node} has not ended after {timeout_ms} ms"))
            .remedy("nothing is undone by this: berth orders shows how it stands"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(goal: Goal, state: Option<PodState>, expected: &str) {
        let pod = state.map(|state| v1::Pod {
            state: state.into(),
            message: "disk".to_owned(),
            ..v1::Pod::default()
        });
        let verdict = match goal.judge(pod.as_ref()) {
            Verdict::Reached => "reached".to_owned(),
            Verdict::NotYet => "not yet".to_owned(),
            Verdict::Failed(why) => why,
        };
        assert_eq!(verdict, expected, "{goal:?} {state:?}");
    }

    #[test]
    fn verdicts() {
        check(Goal::Running, Some(PodState::Placed), "not yet");
        check(Goal::Running, Some(PodState::Running), "reached");
        check(Goal::Running, Some(PodState::Failed), "disk");
        check(Goal::Running, Some(PodState::Evicting), "it is Evicting by another order");
        check(Goal::Running, None, "it is gone");
        check(Goal::Stopped, Some(PodState::Running), "not yet");
        check(Goal::Stopped, Some(PodState::Stopped), "reached");
        check(Goal::Evicted, Some(PodState::Evicting), "not yet");
        check(Goal::Evicted, Some(PodState::Evicted), "reached");
        check(Goal::Evicted, Some(PodState::Failed), "disk");
        check(Goal::Released, Some(PodState::Evicted), "not yet");
        check(Goal::Released, None, "reached");
    }
}
