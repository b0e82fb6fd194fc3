//! What the kernel counts of want: processes that it killed for lack of memory, and how long work waited. It is looked at now
//! and then; [`Strains`] says, without I/O, what of it is news.

use super::{Event, Incident};
use crate::clock::epoch_ms;
use crate::reports::Reports;
use berth_cgroup::{CgroupError, CgroupPath, CgroupRoot, InvalidPath, Resource};
use berth_model::{ContainerName, ContainerPhase, Incarnation, PodId, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// Between two looks. Four files of each pod: at five hundred pods about a thousandth of a CPU.
const LOOK: Duration = Duration::from_secs(15);

/// From which share of the last minute on waiting is told, in hundredths of a percent of it; it is over below half of that.
/// Nothing acts on it, so the shares are where an operator would want to know: a cgroup with a CPU quota waits a good part
/// of its time when all is well, one that waits for memory does not.
fn high_permyriad(resource: Resource) -> u32 {
    match resource {
        Resource::Cpu => 6_000,
        Resource::Memory => 1_000,
        Resource::Io => 4_000,
    }
}

/// What is counted of a cgroup, as far as the kernel counts it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Counted {
    /// Processes killed for lack of memory, in it and below, since it was made.
    oom_kills: Option<u64>,
    /// How much of the last minute at least one task waited.
    waited_permyriad: BTreeMap<Resource, u32>,
}

/// What is counted of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodCounted {
    pod: PodId,
    incarnation: Incarnation,
    /// One of its containers has run since before the daemon began: what is counted may be of before.
    older: bool,
    whole: Counted,
    /// Kills in each container, by its cgroup: another attempt has another one.
    kills: BTreeMap<String, (ContainerName, u64)>,
}

/// What was counted before.
#[derive(Debug, Default)]
struct Strains {
    host: BTreeSet<Resource>,
    pods: BTreeMap<PodId, Known>,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    oom_kills: u64,
    kills: BTreeMap<String, u64>,
    high: BTreeSet<Resource>,
}

impl Strains {
    /// What is news, and remembers what was counted. Pods that are not counted any more are forgotten.
    fn news(
        &mut self,
        host: &Counted,
        pods: &[PodCounted],
    ) -> Vec<(Option<PodId>, Option<ContainerName>, Incident)> {
        let mut news = Vec::new();
        news.extend(turns(&mut self.host, host).into_iter().map(|incident| (None, None, incident)));
        self.pods.retain(|id, _| pods.iter().any(|counted| counted.pod == *id));
        for counted in pods {
            let known =
                self.pods.remove(&counted.pod).filter(|known| known.incarnation == counted.incarnation);
            let mut known = known.unwrap_or_else(|| Known::first(counted));
            news.extend(
                known
                    .news(counted)
                    .into_iter()
                    .map(|(container, incident)| (Some(counted.pod.clone()), container, incident)),
            );
            self.pods.insert(counted.pod.clone(), known);
        }
        news
    }
}

impl Known {
    /// Before the first look at a pod nothing was counted, unless it is older than the daemon.
    fn first(counted: &PodCounted) -> Self {
        let kills = counted.kills.iter().map(|(cgroup, (_, kills))| (cgroup.clone(), *kills));
        Self {
            incarnation: counted.incarnation,
            oom_kills: if counted.older { counted.whole.oom_kills.unwrap_or(0) } else { 0 },
            kills: if counted.older { kills.collect() } else { BTreeMap::new() },
            high: BTreeSet::new(),
        }
    }

    fn news(&mut self, counted: &PodCounted) -> Vec<(Option<ContainerName>, Incident)> {
        let mut news = self.kills(counted);
        news.extend(turns(&mut self.high, &counted.whole).into_iter().map(|incident| (None, incident)));
        news
    }

    /// Kills in containers by their names; those in containers that have gone by now are the pod's.
    fn kills(&mut self, counted: &PodCounted) -> Vec<(Option<ContainerName>, Incident)> {
        let mut news = Vec::new();
        let mut told = 0;
        for (cgroup, (name, kills)) in &counted.kills {
            let fresh = kills.saturating_sub(self.kills.get(cgroup).copied().unwrap_or(0));
            if fresh > 0 {
                told += fresh;
                news.push((Some(name.clone()), Incident::OomKill { processes: fresh }));
            }
        }
        // A slice that was made anew counts from the beginning.
        let whole = counted.whole.oom_kills.unwrap_or(0);
        let since = if whole < self.oom_kills { whole } else { whole - self.oom_kills };
        let rest = since.saturating_sub(told);
        if rest > 0 {
            news.push((None, Incident::OomKill { processes: rest }));
        }
        self.oom_kills = whole;
        self.kills = counted.kills.iter().map(|(cgroup, (_, kills))| (cgroup.clone(), *kills)).collect();
        news
    }
}

/// Resources for which work waits long since now, or not any more.
fn turns(high: &mut BTreeSet<Resource>, counted: &Counted) -> Vec<Incident> {
    let mut news = Vec::new();
    for (&resource, &share_permyriad) in &counted.waited_permyriad {
        let limit = high_permyriad(resource);
        if share_permyriad >= limit && high.insert(resource) {
            news.push(Incident::PressureHigh { resource, share_permyriad });
        } else if share_permyriad < limit / 2 && high.remove(&resource) {
            news.push(Incident::PressureOver { resource, share_permyriad });
        }
    }
    news
}

/// Why a cgroup has no counts: most often it is gone since the last look.
#[derive(Debug, thiserror::Error)]
enum Uncounted {
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Looks now and then, for ever, and notes what is news.
pub async fn watch_strain(reports: Arc<Reports>, cgroups: CgroupRoot, began_ms: u64) -> Infallible {
    let mut strains = Strains::default();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (seen, cgroups) = (reports.statuses(), cgroups.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let pods: Vec<_> = seen.iter().filter_map(|pod| count_pod(&cgroups, pod, began_ms)).collect();
            (count(&cgroups, "/").unwrap_or_default(), pods)
        });
        // It ends early only with the daemon.
        let Ok((host, pods)) = looked.await else { continue };
        let event = |(pod, container, incident)| Event { at_ms: epoch_ms(), pod, container, incident };
        reports.journal().note(strains.news(&host, &pods).into_iter().map(event).collect());
    }
}

fn count_pod(cgroups: &CgroupRoot, status: &PodStatus, began_ms: u64) -> Option<PodCounted> {
    let whole = count(cgroups, &status.applied.as_ref()?.cgroup)?;
    let mut kills = BTreeMap::new();
    // Most pods have lost nobody; the others' containers are looked at one by one.
    for container in status.containers.iter().filter(|_| whole.oom_kills.is_some_and(|kills| kills > 0)) {
        let Some(applied) = &container.applied else { continue };
        let Some(here) = kills_of(cgroups, &applied.cgroup) else { continue };
        kills.insert(applied.cgroup.clone(), (container.name.clone(), here));
    }
    let older = |phase: &ContainerPhase| matches!(phase, ContainerPhase::Running { started_at_ns, .. } if started_at_ns / 1_000_000 < began_ms);
    Some(PodCounted {
        pod: status.pod.clone(),
        incarnation: status.incarnation,
        older: status.containers.iter().any(|container| older(&container.phase)),
        whole,
        kills,
    })
}

fn kills_of(cgroups: &CgroupRoot, path: &str) -> Option<u64> {
    let read = || Ok::<_, Uncounted>(cgroups.open(&path.parse::<CgroupPath>()?)?.memory_events()?);
    told(path, read())??.oom_kill
}

fn count(cgroups: &CgroupRoot, path: &str) -> Option<Counted> {
    let read = || {
        let cgroup = cgroups.open(&path.parse::<CgroupPath>()?)?;
        let mut waited_permyriad = BTreeMap::new();
        for resource in Resource::ALL {
            let some = cgroup.pressure(resource)?.and_then(|pressure| pressure.some);
            waited_permyriad.extend(some.map(|line| (resource, line.avg60_permyriad)));
        }
        let oom_kills = cgroup.memory_events()?.and_then(|events| events.oom_kill);
        Ok::<_, Uncounted>(Counted { oom_kills, waited_permyriad })
    };
    told(path, read())
}

fn told<T>(path: &str, read: Result<T, Uncounted>) -> Option<T> {
    read.inspect_err(|error| debug!(cgroup = path, %error, "a cgroup is not counted")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn counted(oom_kills: u64, containers: &[(&str, &str, u64)], older: bool) -> PodCounted {
        let kills = containers.iter().map(|(cgroup, name, kills)| {
            ((*cgroup).to_owned(), (name.parse::<ContainerName>().unwrap(), *kills))
        });
        PodCounted {
            pod: pod(),
            incarnation: Incarnation(1),
            older,
            whole: Counted { oom_kills: Some(oom_kills), waited_permyriad: BTreeMap::new() },
            kills: kills.collect(),
        }
    }

    fn check(strains: &mut Strains, counted: &PodCounted, expected: &[&str]) {
        let news = strains.news(&Counted::default(), std::slice::from_ref(counted));
        let said = news.iter().map(|(_, container, incident)| {
            let Incident::OomKill { processes } = incident else { panic!("{incident}") };
            format!("{} {processes}", container.as_ref().map_or("pod", |name| name.as_str()))
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn kills_are_told_once_and_by_container_where_that_is_known() {
        let mut strains = Strains::default();
        check(&mut strains, &counted(0, &[], false), &[]);
        check(&mut strains, &counted(2, &[("a", "web", 2)], false), &["web 2"]);
        check(&mut strains, &counted(2, &[("a", "web", 2)], false), &[]);
        // One more in a container whose successor runs by now, and one in that.
        check(&mut strains, &counted(4, &[("b", "web", 1)], false), &["web 1", "pod 1"]);
        // The slice was made anew.
        check(&mut strains, &counted(1, &[], false), &["pod 1"]);
    }

    #[test]
    fn what_happened_before_the_daemon_began_is_no_news() {
        let mut strains = Strains::default();
        check(&mut strains, &counted(3, &[("a", "web", 3)], true), &[]);
        check(&mut strains, &counted(4, &[("a", "web", 4)], true), &["web 1"]);
        // A pod that has come since then has lost them since then.
        let mut strains = Strains::default();
        check(&mut strains, &counted(3, &[("a", "web", 3)], false), &["web 3"]);
    }

    #[test]
    fn waiting_is_told_when_it_begins_and_when_it_is_over() {
        let mut high = BTreeSet::new();
        let mut check = |share, expected: &[&str]| {
            let waited_permyriad = BTreeMap::from([(Resource::Memory, share)]);
            let news = turns(&mut high, &Counted { waited_permyriad, ..Counted::default() });
            assert_eq!(news.iter().map(Incident::code).collect::<Vec<_>>(), expected, "{share}");
        };
        check(999, &[]);
        check(1_000, &["PressureHigh"]);
        check(5_000, &[]);
        check(500, &[]);
        check(499, &["PressureOver"]);
        check(999, &[]);
    }
}
