//! Rollouts: started, changed, and driven. Each step and what it orders become durable together, so a crash at any
//! moment finds both or neither.

use super::revise::{Revise, Wish};
use super::rollout_record::Rollout;
use super::{Denied, Pod, State, Tx};
use crate::flow::rollout::{self, Direction, Member, Next, Plan, RolloutState, Seen};
use crate::flow::{Ending, InPlace, PodState, Presence};
use crate::state::node_ops::NodeState;
use berth_model::{PodId, PodOrder, PodPhase, RolloutName};
use berth_proto::v1;
use std::collections::BTreeMap;

/// Most rollouts that are remembered: the oldest that is done makes room.
const MAX_ROLLOUTS: usize = 256;
/// Most pods of one: each step looks at all of them.
const MAX_ROLLOUT_PODS: usize = 4_096;

/// A wish to upgrade many pods.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StartRollout {
    pub name: RolloutName,
    pub selector: v1::PodSelector,
    pub patch: v1::PodPatch,
    pub max_unavailable: u32,
    pub settle_ms: u64,
    pub reason: String,
}

/// What a person can do with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeRollout {
    Pause,
    Resume,
    Undo,
}

/// Whether `text` is what `glob` describes; `*` stands for any characters.
fn matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The leftmost place leaves the most for those that follow.
        let Some((_, after)) = text.split_once(part) else {
            return false;
        };
        text = after;
    }
    text.ends_with(last)
}

fn selects(selector: &v1::PodSelector, pod: &Pod) -> bool {
    let id = &pod.request.pod;
    selector.namespace.as_deref().is_none_or(|namespace| id.namespace() == namespace)
        && (selector.name_glob.is_empty() || matches(&selector.name_glob, id.name()))
        && selector.labels.iter().all(|(key, value)| pod.request.labels.get(key) == Some(value))
}

impl State {
    /// What is to be seen of a pod, for rollouts.
    fn seen(&self, pod: &Pod, now: crate::clock::Moment) -> Seen {
        let state = pod.standing.state;
        let node = pod.node.as_ref().and_then(|name| self.nodes.get(name));
        match (pod.standing.presence, state) {
            (Presence::Gone, _)
            | (Presence::OnNode, PodState::Stopped | PodState::Failed | PodState::Evicted) => {
                return Seen::Unfit(format!("it is {}", state.name()));
            }
            (Presence::OnNode, PodState::Placed | PodState::Stopping | PodState::Evicting) => {
                return Seen::Busy(format!("it is {}", state.name()));
            }
            (Presence::OnNode, PodState::Running) => {}
        }
        if self.check_not_migrating(&pod.request.pod).is_err() {
            return Seen::Busy("it is being migrated".to_owned());
        }
        if let Some(revision) = &pod.revision {
            return Seen::Busy(format!("{} is under way", revision.how.name()));
        }
        if node.is_none_or(|node| node.state(now) != NodeState::Ready) {
            return Seen::Busy("its node is silent".to_owned());
        }
        match pod.status.as_ref().map(|status| status.phase) {
            Some(PodPhase::Running) => Seen::Available,
            Some(PodPhase::Degraded | PodPhase::Pending) => Seen::Broken("it does not run whole".to_owned()),
            Some(PodPhase::Held) => Seen::Busy("it waits to be started since a reboot".to_owned()),
            Some(PodPhase::Stopped | PodPhase::Evicting | PodPhase::Gone | PodPhase::Unknown) | None => {
                Seen::Busy("its node has not reported it running".to_owned())
            }
        }
    }

    /// The rollout that is about to change a pod, or is changing it.
    fn claimed_by(&self, pod: &PodId) -> Option<&RolloutName> {
        self.rollouts.iter().find(|(_, rollout)| rollout.plan.claims(pod)).map(|(name, _)| name)
    }
}

impl Tx<'_> {
    /// Begins a rollout over the pods that are selected now.
    ///
    /// # Errors
    /// When it makes no sense, its name is taken, no pod or too many are selected, or one is in another rollout.
    pub(crate) fn start_rollout(&mut self, wish: StartRollout) -> Result<(), Denied> {
        let StartRollout { name, selector, patch, max_unavailable, settle_ms, reason } = wish;
        if max_unavailable == 0 {
            return Err(Denied::Invalid("max_unavailable: is 0: nothing could be upgraded".to_owned()));
        }
        if selector == v1::PodSelector::default() {
            return Err(Denied::Invalid("selector: is empty: name a namespace, names or labels".to_owned()));
        }
        if self.rollouts.contains_key(&name) {
            return Err(Denied::Exists(format!("there is a rollout {name} already: choose another name")));
        }
        let members = self.select(&selector, &patch)?;
        self.make_room()?;
        let plan = Plan {
            max_unavailable,
            state: RolloutState::Running,
            direction: Direction::Forward,
            forgiven: 0,
            members: members.iter().map(|id| (id.clone(), Member::Waiting)).collect(),
        };
        let now = self.now().wall_ms;
        let rollout = Rollout {
            selector,
            patch,
            settle_ms,
            reason,
            message: String::new(),
            created_at_ms: now,
            changed_at_ms: now,
            plan,
            before: BTreeMap::new(),
        };
        self.touch_rollout(&name).rollouts.insert(name.clone(), rollout);
        for pod in &members {
            self.touch_rollout_pod(&name, pod);
        }
        Ok(())
    }

    fn select(&self, selector: &v1::PodSelector, patch: &v1::PodPatch) -> Result<Vec<PodId>, Denied> {
        let selected: Vec<&Pod> = self.pods.values().filter(|pod| selects(selector, pod)).collect();
        if selected.is_empty() {
            return Err(Denied::NotFound("selector: no pod is selected".to_owned()));
        }
        if selected.len() > MAX_ROLLOUT_PODS {
            return Err(Denied::Exhausted(format!(
                "selector: {} pods are selected, a rollout has at most {MAX_ROLLOUT_PODS}: divide them",
                selected.len()
            )));
        }
        for pod in &selected {
            let id = &pod.request.pod;
            if let Some(other) = self.claimed_by(id) {
                return Err(Denied::Precondition(format!(
                    "selector: pod {id} is in rollout {other}, which is not done"
                )));
            }
            // What no pod can take would otherwise be found out one by one.
            let wish = Wish::Patch(Box::new(patch.clone()));
            let wished = pod.wished(&wish).and_then(|request| super::submit::check(&request));
            wished.map_err(|denied| Denied::Invalid(format!("pod {id}: {denied}")))?;
        }
        Ok(selected.into_iter().map(|pod| pod.request.pod.clone()).collect())
    }

    fn make_room(&mut self) -> Result<(), Denied> {
        if self.rollouts.len() < MAX_ROLLOUTS {
            return Ok(());
        }
        let done = self.rollouts.iter().filter(|(_, rollout)| rollout.plan.state == RolloutState::Done);
        let oldest = done.min_by_key(|(_, rollout)| rollout.changed_at_ms).map(|(name, _)| name.clone());
        let Some(oldest) = oldest else {
            return Err(Denied::Exhausted(format!(
                "{MAX_ROLLOUTS} rollouts are under way, which is the most"
            )));
        };
        let removed = self.touch_rollout(&oldest).rollouts.remove(&oldest);
        for pod in removed.iter().flat_map(|rollout| rollout.plan.members.keys()) {
            self.touch_rollout_pod(&oldest, pod);
        }
        Ok(())
    }

    /// Pauses, resumes or undoes a rollout. Doing so again changes nothing.
    ///
    /// # Errors
    /// When there is no such rollout, or it is done and cannot be paused or resumed.
    pub(crate) fn change_rollout(&mut self, name: &RolloutName, change: ChangeRollout) -> Result<(), Denied> {
        let Some(rollout) = self.rollouts.get(name) else {
            return Err(Denied::NotFound(format!("there is no rollout {name}")));
        };
        let (state, undoing) = (rollout.plan.state, rollout.plan.direction == Direction::Undo);
        match (change, state) {
            (ChangeRollout::Undo, RolloutState::Running) if undoing => return Ok(()),
            (ChangeRollout::Undo, RolloutState::Done) if undoing => return Ok(()),
            (ChangeRollout::Undo, _) => self.check_undo(name)?,
            (ChangeRollout::Pause | ChangeRollout::Resume, RolloutState::Done) => {
                return Err(Denied::Precondition(format!("rollout {name} is done")));
            }
            (ChangeRollout::Pause, RolloutState::Paused) | (ChangeRollout::Resume, RolloutState::Running) => {
                return Ok(());
            }
            (ChangeRollout::Pause, RolloutState::Running) | (ChangeRollout::Resume, RolloutState::Paused) => {
            }
        }
        let now = self.now().wall_ms;
        let Some(rollout) = self.touch_rollout(name).rollouts.get_mut(name) else { return Ok(()) };
        (rollout.changed_at_ms, rollout.message) = (now, String::new());
        match change {
            ChangeRollout::Pause => {
                rollout.plan.state = RolloutState::Paused;
                "paused by a platform".clone_into(&mut rollout.message);
            }
            ChangeRollout::Resume => {
                rollout.plan.state = RolloutState::Running;
                rollout.plan.forgiven = rollout.plan.rolled_back();
            }
            ChangeRollout::Undo => {
                // Turned round already, it only goes on.
                if undoing {
                    rollout.plan.state = RolloutState::Running;
                    rollout.plan.forgiven = rollout.plan.rolled_back();
                } else {
                    rollout.plan.undo();
                }
                let pods: Vec<PodId> = rollout.plan.members.keys().cloned().collect();
                for pod in pods {
                    self.touch_rollout_pod(name, &pod);
                }
            }
        }
        Ok(())
    }

    /// A rollout that was done gets its pods back, unless another one has them.
    fn check_undo(&self, name: &RolloutName) -> Result<(), Denied> {
        let Some(rollout) = self.rollouts.get(name) else { return Ok(()) };
        for pod in rollout.plan.members.keys() {
            if let Some(other) = self.claimed_by(pod).filter(|other| *other != name) {
                return Err(Denied::Precondition(format!(
                    "pod {pod} is in rollout {other}, which is not done"
                )));
            }
        }
        Ok(())
    }

    /// An order of a pod has ended: if it was a rollout's, the pod is that far.
    pub(super) fn rollout_outcome(&mut self, order: &PodOrder, ending: &Ending) {
        let waits = |member: &Member| matches!(member, Member::Ordered { seq, .. } if *seq == order.seq);
        // One that is done waits for nothing, and most are done.
        let ours = |rollout: &Rollout| {
            rollout.plan.state != RolloutState::Done
                && rollout.plan.members.get(&order.pod).is_some_and(waits)
        };
        let Some(name) =
            self.rollouts.iter().find(|(_, rollout)| ours(rollout)).map(|(name, _)| name.clone())
        else {
            return;
        };
        self.set_member(&name, &order.pod, |plan, member| match (ending, member) {
            (Ending::Done, Member::Ordered { direction, .. }) => plan.after_done(*direction),
            (Ending::Done, member) => member.clone(),
            (Ending::Failed(reason) | Ending::RolledBack(reason), _) => {
                Member::RolledBack(reason.text.clone())
            }
            (Ending::Refused(reason), _) => Member::RolledBack(format!("refused: {}", reason.text)),
        });
    }

    fn set_member(&mut self, name: &RolloutName, pod: &PodId, to: impl FnOnce(&Plan, &Member) -> Member) {
        let now = self.now().wall_ms;
        self.touch_rollout_pod(name, pod);
        let Some(rollout) = self.touch_rollout(name).rollouts.get_mut(name) else { return };
        let Some(member) = rollout.plan.members.get(pod).map(|member| to(&rollout.plan, member)) else {
            return;
        };
        rollout.plan.members.insert(pod.clone(), member);
        rollout.changed_at_ms = now;
    }

    /// Takes every rollout that may have something to do as far as it goes now.
    pub(super) fn advance_rollouts(&mut self) {
        let due = |rollout: &Rollout| rollout.plan.state == RolloutState::Running;
        let names: Vec<RolloutName> = self
            .rollouts
            .iter()
            .filter(|(name, rollout)| due(rollout) && self.concerns(name, rollout))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            while self.step_rollout(&name) {}
        }
    }

    /// One step; false when there is nothing to do until something changes.
    fn step_rollout(&mut self, name: &RolloutName) -> bool {
        let Some(rollout) = self.rollouts.get(name) else { return false };
        let now = self.now();
        let members = rollout.plan.members.keys();
        let seen = members.filter_map(|id| Some((id.clone(), self.seen(self.pods.get(id)?, now)))).collect();
        match rollout::next(&rollout.plan, &seen) {
            Next::Order(pods) => {
                pods.iter().for_each(|pod| self.order_member(name, pod));
                true
            }
            Next::Skip(pods) => {
                for (pod, why) in pods {
                    self.set_member(name, &pod, |_, _| Member::Skipped(why));
                }
                true
            }
            Next::Wait(why) => {
                self.say(name, RolloutState::Running, why);
                false
            }
            Next::Pause(why) => {
                tracing::warn!(rollout = %name, "rollout {name} has stopped itself: {why}");
                self.say(name, RolloutState::Paused, why);
                false
            }
            Next::Done => {
                self.say(name, RolloutState::Done, String::new());
                false
            }
        }
    }

    fn say(&mut self, name: &RolloutName, state: RolloutState, message: String) {
        let same = |rollout: &Rollout| rollout.plan.state == state && rollout.message == message;
        if self.rollouts.get(name).is_none_or(same) {
            return;
        }
        let now = self.now().wall_ms;
        if let Some(rollout) = self.touch_rollout(name).rollouts.get_mut(name) {
            (rollout.plan.state, rollout.message, rollout.changed_at_ms) = (state, message, now);
        }
    }

    fn order_member(&mut self, name: &RolloutName, pod: &PodId) {
        let Some(rollout) = self.rollouts.get(name) else { return };
        let direction = rollout.plan.direction;
        let (settle_ms, reason) = (rollout.settle_ms, rollout.reason.clone());
        let wish = self.member_wish(rollout, pod);
        let before = self.pods.get(pod).map(|pod| pod.request.clone());
        let revised = wish.and_then(|wish| {
            self.revise(pod, &Revise { how: InPlace::Upgrade, wish, settle_ms, within_ms: None, reason })
        });
        let seq = self.pods.get(pod).map(|pod| pod.seq).unwrap_or_default();
        if let (Direction::Forward, Some(before), Ok(_)) = (direction, before, &revised)
            && let Some(rollout) = self.touch_rollout(name).rollouts.get_mut(name)
        {
            rollout.before.insert(pod.clone(), before);
        }
        self.set_member(name, pod, |plan, _| match revised {
            Ok(Some(_)) => Member::Ordered { seq, direction },
            Ok(None) => plan.after_done(direction),
            Err(denied) => Member::Skipped(denied.to_string()),
        });
    }

    /// What a pod is to be: patched, or what it was before, unless somebody else has changed it since.
    fn member_wish(&self, rollout: &Rollout, id: &PodId) -> Result<Wish, Denied> {
        let patch = Wish::Patch(Box::new(rollout.patch.clone()));
        match rollout.plan.direction {
            Direction::Forward => Ok(patch),
            Direction::Undo => {
                let changed = || Denied::Precondition("it was changed since, by somebody else".to_owned());
                let before = rollout.before.get(id).ok_or_else(changed)?;
                let pod = self.pods.get(id).ok_or_else(changed)?;
                let was = Pod { request: before.clone(), ..pod.clone() };
                match was.wished(&patch)? == pod.request {
                    true => Ok(Wish::Whole(Box::new(before.clone()))),
                    false => Err(changed()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        let check = |glob: &str, text: &str, expected: bool| {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        };
        check("web", "web", true);
        check("web", "web-1", false);
        check("*", "", true);
        check("web-*", "web-1", true);
        check("web-*", "web", false);
        check("*-1", "web-1", true);
        check("w*b-*1", "web-11", true);
        check("w*b*b", "wb", false);
        check("a*a", "a", false);
        check("a*b*c", "axbxc", true);
        check("a*b*c", "axcxb", false);
    }
}
