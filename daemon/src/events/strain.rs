//! What the kernel counts of want: processes that it killed for lack of memory, and how long work waited. It is looked at now
//! and then; [`Strains`] says, without I/O, what of it is news.

use super::{Event, Incident};
use crate::clock::epoch_ms;
use crate::reports::Reports;
use crate::runtime::ROOT_SLICE;
use berth_cgroup::{Cgroup, CgroupError, CgroupPath, CgroupRoot, InvalidPath, Resource};
use berth_model::{ContainerName, Incarnation, PodId, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// Between two looks, each of which reads four files of every pod.
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
    /// Its slice, and what is counted of it; none where it cannot be read now.
    whole: Option<(String, Counted)>,
    /// Its containers, by their cgroups, and the kills in each where they could be read: another attempt has another one.
    containers: Containers,
}

/// Containers by their cgroups.
type Containers = BTreeMap<String, (ContainerName, Option<u64>)>;

/// Kills by cgroup.
type Kills = BTreeMap<String, u64>;

/// What was counted before.
#[derive(Debug, Default)]
struct Strains {
    /// Kills that there had been when the daemon began: they were told then, or nobody looked.
    at_first: Kills,
    host: BTreeSet<Resource>,
    pods: BTreeMap<PodId, Known>,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    oom_kills: u64,
    kills: Kills,
    high: BTreeSet<Resource>,
}

/// To which pod, to which container, and what.
type News = (Option<PodId>, Option<ContainerName>, Incident);

impl Strains {
    /// What is news, and remembers what was counted. Pods that are not there any more are forgotten.
    fn news(&mut self, host: &Counted, pods: &[PodCounted]) -> Vec<News> {
        let mut news = Vec::new();
        news.extend(turns(&mut self.host, host).into_iter().map(|incident| (None, None, incident)));
        self.pods.retain(|id, _| pods.iter().any(|counted| counted.pod == *id));
        for counted in pods {
            let Some((slice, whole)) = &counted.whole else { continue };
            let known = self.pods.remove(&counted.pod);
            let known = known.filter(|known| known.incarnation == counted.incarnation);
            let mut known = known.unwrap_or_else(|| Known {
                incarnation: counted.incarnation,
                // Once: the same slice may be made anew.
                oom_kills: self.at_first.remove(slice).unwrap_or(0),
                kills: Kills::new(),
                high: BTreeSet::new(),
            });
            let told = known.news(whole, &counted.containers, &mut self.at_first).into_iter();
            news.extend(told.map(|(container, incident)| (Some(counted.pod.clone()), container, incident)));
            self.pods.insert(counted.pod.clone(), known);
        }
        news
    }
}

impl Known {
    fn news(
        &mut self,
        whole: &Counted,
        containers: &Containers,
        at_first: &mut Kills,
    ) -> Vec<(Option<ContainerName>, Incident)> {
        let mut news = self.kills(whole.oom_kills, containers, at_first);
        news.extend(turns(&mut self.high, whole).into_iter().map(|incident| (None, incident)));
        news
    }

    /// Kills in containers by their names; those in containers that have gone by now are the pod's.
    fn kills(
        &mut self,
        whole: Option<u64>,
        containers: &Containers,
        at_first: &mut Kills,
    ) -> Vec<(Option<ContainerName>, Incident)> {
        let mut news = Vec::new();
        let mut told = 0;
        for (cgroup, (name, kills)) in containers {
            let Some(kills) = *kills else { continue };
            let before = self.kills.insert(cgroup.clone(), kills).or_else(|| at_first.remove(cgroup));
            let fresh = kills.saturating_sub(before.unwrap_or(0));
            if fresh > 0 {
                told += fresh;
                news.push((Some(name.clone()), Incident::OomKill { processes: fresh }));
            }
        }
        self.kills.retain(|cgroup, _| containers.contains_key(cgroup));
        let whole = whole.unwrap_or(0);
        // A slice that was made anew counts from the beginning.
        let before = if whole < self.oom_kills { 0 } else { self.oom_kills };
        // The containers are counted a moment later than the slice: what was told of them already is in the next count.
        let rest = whole.saturating_sub(before.saturating_add(told));
        if rest > 0 {
            news.push((None, Incident::OomKill { processes: rest }));
        }
        self.oom_kills = whole.max(before.saturating_add(told));
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

/// Looks at what the kernel counts.
#[derive(Debug)]
pub struct StrainWatch {
    cgroups: CgroupRoot,
    strains: Strains,
}

impl StrainWatch {
    /// Notes what there has been so far. To be done before any pod is taken up.
    pub fn begin(cgroups: CgroupRoot) -> Self {
        let strains = Strains { at_first: kills_beneath(&cgroups, ROOT_SLICE), ..Strains::default() };
        Self { cgroups, strains }
    }

    /// Looks now and then, for ever, and notes what is news.
    pub async fn run(mut self, reports: Arc<Reports>) -> Infallible {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (seen, cgroups) = (reports.statuses(), self.cgroups.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let pods: Vec<_> = seen.iter().map(|pod| count_pod(&cgroups, pod)).collect();
                (count(&cgroups, "/"), pods)
            });
            // It ends early only with the daemon.
            let Ok((host, pods)) = looked.await else { continue };
            let event = |(pod, container, incident)| Event { at_ms: epoch_ms(), pod, container, incident };
            reports.journal().note(self.strains.news(&host, &pods).into_iter().map(event).collect());
        }
    }
}

/// Of every slice of a pod, and of every container in it, by their paths as reports have them.
fn kills_beneath(cgroups: &CgroupRoot, path: &str) -> Kills {
    let mut found = Kills::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        found.extend(kills_of(cgroups, &folder).map(|kills| (folder.clone(), kills)));
        // Below a container's own it is the container's business.
        if folder.matches('/').count() > 1 {
            continue;
        }
        let opened = told(&folder, open(cgroups, &folder));
        let children = opened.and_then(|cgroup| cgroup.children().ok()).unwrap_or_default();
        folders.extend(children.iter().map(|child| format!("{folder}/{child}")));
    }
    found
}

fn count_pod(cgroups: &CgroupRoot, status: &PodStatus) -> PodCounted {
    let slice = status.applied.as_ref().map(|applied| applied.cgroup.clone());
    let whole = slice.filter(|slice| open(cgroups, slice).is_ok());
    let whole = whole.map(|slice| (slice.clone(), count(cgroups, &slice)));
    // Most pods have lost nobody; the others' containers are looked at one by one.
    let lost = whole.as_ref().is_some_and(|(_, counted)| counted.oom_kills.is_some_and(|kills| kills > 0));
    let containers = status.containers.iter().filter_map(|container| {
        let cgroup = container.applied.as_ref()?.cgroup.clone();
        let kills = if lost { kills_of(cgroups, &cgroup) } else { None };
        Some((cgroup, (container.name.clone(), kills)))
    });
    PodCounted {
        pod: status.pod.clone(),
        incarnation: status.incarnation,
        whole,
        containers: containers.collect(),
    }
}

fn open(cgroups: &CgroupRoot, path: &str) -> Result<Cgroup, Uncounted> {
    Ok(cgroups.open(&path.parse::<CgroupPath>()?)?)
}

fn kills_of(cgroups: &CgroupRoot, path: &str) -> Option<u64> {
    told(path, open(cgroups, path).and_then(|cgroup| Ok(cgroup.memory_events()?)))??.oom_kill
}

/// A file that cannot be read costs its own number only.
fn count(cgroups: &CgroupRoot, path: &str) -> Counted {
    let pressure = |resource: Resource| {
        let read = open(cgroups, path).and_then(|cgroup| Ok(cgroup.pressure(resource)?));
        Some((resource, told(path, read)??.some?.avg60_permyriad))
    };
    Counted {
        oom_kills: kills_of(cgroups, path),
        waited_permyriad: Resource::ALL.into_iter().filter_map(pressure).collect(),
    }
}

fn told<T>(path: &str, read: Result<T, Uncounted>) -> Option<T> {
    read.inspect_err(|error| debug!(cgroup = path, %error, "a cgroup is not counted")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn counted(oom_kills: u64, containers: &[(&str, &str, Option<u64>)]) -> PodCounted {
        let containers = containers.iter().map(|(cgroup, name, kills)| {
            ((*cgroup).to_owned(), (name.parse::<ContainerName>().unwrap(), *kills))
        });
        let whole = Counted { oom_kills: Some(oom_kills), waited_permyriad: BTreeMap::new() };
        PodCounted {
            pod: pod(),
            incarnation: Incarnation(1),
            whole: Some(("slice".to_owned(), whole)),
            containers: containers.collect(),
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
        check(&mut strains, &counted(0, &[("a", "web", None)]), &[]);
        check(&mut strains, &counted(2, &[("a", "web", Some(2))]), &["web 2"]);
        check(&mut strains, &counted(2, &[("a", "web", Some(2))]), &[]);
        // One more in a container whose successor runs by now, and one in that.
        check(&mut strains, &counted(4, &[("b", "web", Some(1))]), &["web 1", "pod 1"]);
        // One between the count of the slice and that of the container.
        check(&mut strains, &counted(4, &[("b", "web", Some(2))]), &["web 1"]);
        check(&mut strains, &counted(5, &[("b", "web", Some(2))]), &[]);
        // What cannot be read for a while is not counted anew.
        check(&mut strains, &counted(5, &[("b", "web", None)]), &[]);
        let unreadable = PodCounted { whole: None, ..counted(0, &[("b", "web", None)]) };
        check(&mut strains, &unreadable, &[]);
        check(&mut strains, &counted(5, &[("b", "web", Some(2))]), &[]);
        // The slice was made anew.
        check(&mut strains, &counted(1, &[]), &["pod 1"]);
    }

    #[test]
    fn what_there_was_is_known_by_the_paths_that_reports_have() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "memory\n").unwrap();
        let make = |path: &str, kills: u64| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("memory.events"), format!("oom 0\noom_kill {kills}\n")).unwrap();
        };
        let (slice, scope) =
            ("berth.slice/berth-1.slice", "berth.slice/berth-1.slice/cri-containerd-1.scope");
        make("berth.slice", 3);
        make(slice, 3);
        make(scope, 2);
        make(&format!("{scope}/its-own"), 2);
        let cgroups = CgroupRoot::new(root.path());
        let expected =
            [("berth.slice", 3), (slice, 3), (scope, 2)].map(|(path, kills)| (path.to_owned(), kills));
        assert_eq!(kills_beneath(&cgroups, ROOT_SLICE), Kills::from(expected));
        let path: CgroupPath = format!("/{scope}").parse().unwrap();
        assert_eq!(path.as_str(), scope, "as a cgroup is reported");
    }

    #[test]
    fn what_happened_before_the_daemon_began_is_no_news() {
        let at_first = Kills::from([("slice".to_owned(), 3), ("a".to_owned(), 3)]);
        let mut strains = Strains { at_first, ..Strains::default() };
        check(&mut strains, &counted(3, &[("a", "web", Some(3))]), &[]);
        check(&mut strains, &counted(4, &[("a", "web", Some(4))]), &["web 1"]);
        // While nothing can be counted, nothing is known.
        let at_first = Kills::from([("slice".to_owned(), 3)]);
        let mut strains = Strains { at_first, ..Strains::default() };
        check(&mut strains, &PodCounted { whole: None, ..counted(0, &[]) }, &[]);
        check(&mut strains, &counted(3, &[]), &[]);
        // A pod that has come since then has lost them since then.
        let mut strains = Strains::default();
        check(&mut strains, &counted(3, &[("a", "web", Some(3))]), &["web 3"]);
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
