//! The daemon dies at every point of every order, one point a life, and the next process finishes what was begun; and the
//! runtime dies there, and the same process has to get there nevertheless.
//!
//! The points are enumerated by the program itself: each look, and each side of each effect. Between two of them lies at
//! most one write of the ledger, so that every durable state is met from both sides.

use super::{Pace, Parts, Pods};
use crate::ledger::{Answer, Boot, Ledger, Moment};
use crate::node::{self, Announced};
use crate::reports::Reports;
use crate::runtime::fake::{self, BROKEN, FakeRuntime};
use crate::testing::{
    NoCopies, boot, evict_order, host_view, node as node_name, pod, pod_order, pool_order, run_order,
    run_spec, wait_for,
};
use berth_model::{
    ContainerName, ContainerRole, ContainerSpec, DiskPolicy, EnvVar, EvictDisposition, Failure, Generation,
    OrderId, Outcome, PodSpec, PodVerb, Target,
};
use berth_proto::Addressed;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime as Process};

/// One thing that happens to a node.
enum Act {
    /// An order is given, and ends so.
    Order(Addressed, Ends),
    /// The power goes, and comes back.
    PowerCut,
    /// The host is shut down in order, and booted again.
    Reboot,
}

/// How an order ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Done,
    RolledBack,
}

/// What must be so in the end: containers running, disks, how many attempts have written to the one that is left, and
/// what the runtime has.
struct Rest {
    running: usize,
    disks: usize,
    writers: usize,
    counts: [usize; 3],
}

/// It runs, upon a disk that only its first attempt has written to.
const RUNS: Rest = Rest { running: 1, disks: 1, writers: 1, counts: [1, 1, 1] };
/// It runs, and found what the attempt before had left.
const RUNS_ON: Rest = Rest { writers: 2, ..RUNS };
const GONE_WITH_DISK: Rest = Rest { running: 0, disks: 1, writers: 1, counts: [0, 0, 0] };
const GONE: Rest = Rest { running: 0, disks: 0, writers: 0, counts: [0, 0, 0] };

fn done(order: Addressed) -> Act {
    Act::Order(order, Ends::Done)
}

fn raised(number: u64, verb: PodVerb) -> Addressed {
    let mut addressed = pod_order(number, verb);
    if let Target::Pod(order) = &mut addressed.order.target {
        order.generation = Generation(number);
    }
    addressed
}

fn upgrade(number: u64, change: impl FnOnce(&mut PodSpec)) -> Addressed {
    let mut spec = fake::spec("web");
    change(&mut spec);
    raised(number, PodVerb::Upgrade { spec: Box::new(spec), settle_ms: 1 })
}

fn env(spec: &mut PodSpec, name: &str) {
    spec.containers[0].env = vec![EnvVar { name: name.to_owned(), value: "1".to_owned() }];
}

fn resize(number: u64, pids_max: u64) -> Addressed {
    let mut spec = fake::spec("web");
    spec.limits.pids_max = Some(pids_max);
    raised(number, PodVerb::Resize { spec: Box::new(spec) })
}

fn next_image() -> berth_model::ImageName {
    "registry.test:5000/app:2".parse().unwrap()
}

/// The node over all its processes: what outlives each of them.
struct Node<'a> {
    folder: &'a Path,
    fake: FakeRuntime,
    boot: u32,
    clock_ms: u64,
}

/// How one process ended.
enum Life {
    /// It has seen the script through.
    Whole,
    /// It died while this act was under way.
    DiedAt(usize),
}

impl<'a> Node<'a> {
    fn new(folder: &'a Path) -> Self {
        let fake = FakeRuntime::new();
        fake.linger();
        fake.publish(&fake::container_spec("app").image, &fake::digest('a'));
        fake.publish(&next_image(), &fake::digest('b'));
        Self { folder, fake, boot: 1, clock_ms: 0 }
    }

    fn open(&self) -> Ledger {
        let boot = Boot { boot_id: format!("boot-{}", self.boot), ..boot() };
        debug_assert_eq!(boot.node, Some(node_name()));
        // The former process's thread may be about to let go of the file: SQLite waits for it, and so does this.
        let mut tries = 0;
        loop {
            match Ledger::open(&self.folder.join("ledger.db"), &boot, Moment::now()) {
                Ok(ledger) => return ledger,
                Err(error) if tries > 3_000 => panic!("open the ledger of the former process: {error}"),
                Err(_) => tries += 1,
            }
            std::thread::yield_now();
        }
    }

    fn pods(&self, ledger: &Ledger) -> Arc<Pods<FakeRuntime>> {
        let pace = Pace {
            look: Duration::from_millis(4),
            retry: Duration::from_millis(2),
            retry_cap: Duration::from_millis(5),
        };
        let sight: super::Sight = Box::new(|| Some(host_view()));
        let runtime = Arc::new(self.fake.clone());
        Pods::new(Parts {
            ledger: ledger.clone(),
            runtime,
            reports: Arc::new(Reports::default()),
            pace,
            sight,
            copies: Arc::new(NoCopies),
        })
    }

    /// One process, from the act `from` on.
    fn live(&mut self, script: &[Act], from: usize) -> Life {
        for (at, act) in script.iter().enumerate().skip(from) {
            let survived = match act {
                Act::Order(order, ends) => self.order(order, *ends),
                Act::PowerCut => self.reboot(None),
                Act::Reboot => self.reboot(Some(Duration::from_secs(5))),
            };
            if !survived {
                return Life::DiedAt(at);
            }
        }
        Life::Whole
    }

    /// Gives an order, as upstream would after every reconnection, and waits for its end; whether the process survived.
    fn order(&self, addressed: &Addressed, ends: Ends) -> bool {
        process().block_on(async {
            let ledger = self.open();
            let pods = self.pods(&ledger);
            pods.adopt();
            let work = async {
                let order = addressed.order.clone();
                let answer = ledger.admit(addressed.clone(), host_view(), Moment::now()).await.unwrap();
                assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
                pods.carry_out(&order);
                let outcome = self.outcome(&ledger, &order.id).await;
                match ends {
                    Ends::Done => assert_eq!(outcome, Outcome::Done),
                    Ends::RolledBack => {
                        assert!(
                            matches!(outcome, Outcome::RolledBack(Failure::NotReady { .. })),
                            "{outcome:?}"
                        );
                    }
                }
                pods.drain(Duration::from_secs(5)).await;
            };
            tokio::select! {
                () = work => true,
                () = self.fake.crashed() => false,
            }
        })
    }

    async fn outcome(&self, ledger: &Ledger, id: &OrderId) -> Outcome {
        let ended = || ledger.read(|book| book.orders.get(id)?.ended.clone());
        wait_for(&format!("the end of order {id}, after {:?}", self.fake.effects()), ended).await.outcome
    }

    /// The host goes down, in order if it has time, and the pod comes back with nothing else reachable.
    fn reboot(&mut self, grace: Option<Duration>) -> bool {
        if let Some(grace) = grace {
            let survived = process().block_on(async {
                let ledger = self.open();
                let pods = self.pods(&ledger);
                pods.adopt();
                tokio::select! {
                    left = pods.shut_down(Announced::in_a_test(grace)) => {
                        assert_eq!(left, 0);
                        true
                    }
                    () = self.fake.crashed() => false,
                }
            });
            if !survived {
                return false;
            }
        }
        self.boot += 1;
        self.fake.reboot();
        self.clock_ms += 3_600_000;
        self.fake.set_now_ms(node::monotonic_ms() + self.clock_ms);
        self.recover()
    }

    /// Whoever has a charter comes to running; whether the process survived.
    fn recover(&self) -> bool {
        process().block_on(async {
            let ledger = self.open();
            let pods = self.pods(&ledger);
            pods.adopt();
            let work = async {
                if ledger.pod(&pod()).is_some_and(|record| record.charter.is_some()) {
                    wait_for("it runs again", || (self.running() == 1).then_some(())).await;
                }
                pods.drain(Duration::from_secs(5)).await;
            };
            tokio::select! {
                () = work => true,
                () = self.fake.crashed() => false,
            }
        })
    }

    fn running(&self) -> usize {
        self.fake.running(&pod(), &ContainerName::new("app").unwrap()).len()
    }

    fn writers(&self) -> usize {
        self.fake.disks().iter().filter_map(|key| self.fake.written(key)).map(|written| written.len()).sum()
    }

    /// Nothing more happens: everything superfluous goes, and the rest is as it must be.
    fn judge(&self, rest: &Rest, at: &str) {
        let is_so = || {
            self.running() == rest.running
                && self.fake.disks().len() == rest.disks
                && self.writers() == rest.writers
                && self.fake.counts() == rest.counts
        };
        process().block_on(async {
            let ledger = self.open();
            let pods = self.pods(&ledger);
            pods.adopt();
            let what = format!(
                "{at}: {} running of {}, {} writers of {}, disks {:?}, counts {:?} of {:?}, after {:?}",
                self.running(),
                rest.running,
                self.writers(),
                rest.writers,
                self.fake.disks(),
                self.fake.counts(),
                rest.counts,
                self.fake.effects()
            );
            wait_for(&what, || is_so().then_some(())).await;
        });
        assert_eq!(self.fake.violations(), Vec::<String>::new(), "{at}");
    }
}

/// The point of a look, which there may be any number of.
const LOOK: &str = "Observe";

/// The runtime dies at that point, and the daemon lives on: it has to see the script through all the same. Whether it
/// came to the point is answered: how often it looks, and what it tidies up once the last order is done, is a matter of time.
fn outage(script: &[Act], rest: &Rest, point: &str, time: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path());
    node.fake.outage_at(point, time);
    assert!(matches!(node.live(script, 0), Life::Whole), "outage at {point}, time {time}");
    let reached = node.fake.revive().iter().filter(|passed| *passed == point).count() >= time;
    node.judge(rest, &format!("outage at {point}, time {time}"));
    reached
}

/// Sees the script through once, then dies at every point of it, one after the other. Answers how many there were.
fn check(script: &[Act], rest: &Rest) -> usize {
    let points = {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(folder.path());
        assert!(matches!(node.live(script, 0), Life::Whole));
        let points = node.fake.revive();
        node.judge(rest, "without a crash");
        points
    };
    let mut outages = 0;
    for (number, point) in points.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(folder.path());
        node.fake.crash_at(u64::try_from(number).unwrap());
        if let Life::DiedAt(act) = node.live(script, 0) {
            node.fake.revive();
            // What upstream orders it orders again; a host that goes down goes down, with or without us.
            let again = match &script[act] {
                Act::Order(..) => node.live(script, act),
                Act::Reboot if node.boot == 1 => {
                    assert!(node.reboot(None));
                    node.live(script, act + 1)
                }
                Act::PowerCut | Act::Reboot => {
                    assert!(node.recover());
                    node.live(script, act + 1)
                }
            };
            assert!(matches!(again, Life::Whole), "point {number}, {point}");
        }
        node.fake.revive();
        node.judge(rest, &format!("point {number}, {point}"));
        let time = points[..=number].iter().filter(|passed| *passed == point).count();
        outages += usize::from(outage(script, rest, point, time) && point != LOOK);
    }
    let effects = points.iter().filter(|point| *point != LOOK).count();
    assert!(outages * 4 >= effects * 3, "{outages} outages at {effects} points");
    points.len()
}

/// A process of the daemon: when it is dropped, everything in it is gone, wherever it was.
fn process() -> Process {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn run() -> Vec<Act> {
    vec![done(pool_order(1, 1, "0")), done(run_order(2))]
}

fn after_run(acts: impl IntoIterator<Item = Act>) -> Vec<Act> {
    run().into_iter().chain(acts).collect()
}

#[test]
fn run_and_evict_survive_every_crash() {
    assert!(check(&after_run([done(evict_order(3, EvictDisposition::Keep))]), &GONE_WITH_DISK) > 20);
}

#[test]
fn release_survives_every_crash() {
    let evict = done(evict_order(3, EvictDisposition::Keep));
    check(&after_run([evict, done(pod_order(4, PodVerb::Release))]), &GONE);
}

#[test]
fn restart_survives_every_crash() {
    for (disk, rest) in [(DiskPolicy::Reuse, &RUNS_ON), (DiskPolicy::Rebuild, &RUNS)] {
        check(&after_run([done(pod_order(3, PodVerb::Restart { disk, grace_ms: 1 }))]), rest);
    }
}

#[test]
fn an_upgrade_survives_every_crash() {
    check(&after_run([done(upgrade(3, |spec| env(spec, "NEW")))]), &RUNS_ON);
    check(&after_run([done(upgrade(3, |spec| spec.containers[0].image = next_image()))]), &RUNS);
}

#[test]
fn taking_an_upgrade_back_survives_every_crash() {
    let broken = upgrade(3, |spec| {
        env(spec, BROKEN);
        spec.containers[0].image = next_image();
    });
    check(&after_run([Act::Order(broken, Ends::RolledBack)]), &RUNS_ON);
}

#[test]
fn a_resize_survives_every_crash() {
    check(&after_run([done(resize(3, 7))]), &RUNS);
}

/// A pod of which one container prepares for the others, and one serves them.
fn staged() -> PodSpec {
    let with_role = |name, role| ContainerSpec { role, ..fake::container_spec(name) };
    let (prepare, proxy) = (ContainerRole::Init, ContainerRole::Sidecar);
    let containers =
        vec![fake::container_spec("app"), with_role("prepare", prepare), with_role("proxy", proxy)];
    PodSpec { containers, ..fake::spec("web") }
}

/// What prepares has written its disk once for each time that the pod has come from rest, and no time more.
#[test]
fn init_containers_and_sidecars_survive_every_crash() {
    let after_run = |acts: Vec<Act>| {
        let run = [done(pool_order(1, 1, "0")), done(run_spec(2, staged()))];
        run.into_iter().chain(acts).collect::<Vec<_>>()
    };
    let rest = |writers| Rest { running: 1, disks: 3, writers, counts: [1, 3, 1] };
    let restart = PodVerb::Restart { disk: DiskPolicy::Reuse, grace_ms: 1 };
    check(&after_run(vec![]), &rest(3));
    check(&after_run(vec![done(pod_order(3, restart))]), &rest(5));
    let stop = pod_order(3, PodVerb::Stop { grace_ms: 1 });
    check(&after_run(vec![done(stop), done(pod_order(4, PodVerb::Start))]), &rest(6));
    check(&after_run(vec![Act::PowerCut]), &rest(6));
}

#[test]
fn the_boot_survives_every_crash() {
    check(&after_run([Act::PowerCut]), &RUNS_ON);
    check(&after_run([Act::Reboot]), &RUNS_ON);
}
