//! Pods' tasks over the fake runtime: orders get to their end through every trouble, and nothing lives or dies otherwise.

use super::{Pace, Parts, Pods};
use crate::ledger::{Answer, Ledger, Moment};
use crate::node;
use crate::reports::{Report, Reports};
use crate::runtime::fake::{self, Call, FakeRuntime, Trouble};
use crate::testing::{
    NoCopies, evict_order, host_view, open, order, order_id, pod, pod_order, pool_order, run_order, run_spec,
    wait_for,
};
use berth_model::{
    ContainerName, DiskFetch, DiskOffer, EvictDisposition, Failure, Incarnation, NodeOrder, NodeVerb,
    Outcome, PodPhase, PodVerb, RestartPolicy, Target,
};
use berth_proto::Addressed;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A daemon's middle: ledger, tasks, reports, over a fake host.
struct Rig {
    fake: FakeRuntime,
    ledger: Ledger,
    pods: Arc<Pods<FakeRuntime>>,
    reports: Arc<Reports>,
}

impl Rig {
    fn over(folder: &Path, fake: FakeRuntime) -> Self {
        let ledger = open(folder);
        let reports = Arc::new(Reports::default());
        let pace = Pace {
            look: Duration::from_secs(30),
            retry: Duration::from_millis(2),
            retry_cap: Duration::from_millis(20),
        };
        let parts = Parts {
            ledger: ledger.clone(),
            runtime: Arc::new(fake.clone()),
            reports: reports.clone(),
            pace,
            sight: Box::new(|| Some(host_view())),
            copies: Arc::new(NoCopies),
        };
        Self { fake, ledger, pods: Pods::new(parts), reports }
    }

    /// A host with the pool set and the image in a registry.
    async fn fresh(folder: &Path) -> Self {
        let rig = Self::over(folder, FakeRuntime::new());
        rig.fake.publish(&fake::container_spec("app").image, &fake::digest('a'));
        rig.give(pool_order(1, 1, "0")).await;
        assert_eq!(rig.outcome(1).await, Outcome::Done);
        rig
    }

    async fn give(&self, addressed: Addressed) {
        let order = addressed.order.clone();
        let answer = self.ledger.admit(addressed, host_view(), Moment::now()).await.unwrap();
        assert_eq!(answer, Answer::Accepted);
        self.pods.carry_out(&order);
    }

    async fn outcome(&self, number: u64) -> Outcome {
        let id = order_id(number);
        let ended = || {
            let ended = self.ledger.read(|book| book.orders.get(&id)?.ended.clone());
            ended.map(|ended| ended.outcome)
        };
        wait_for(&format!("the end of order {number}, after {:?}", self.fake.effects()), ended).await
    }

    async fn phase(&self, phase: PodPhase) {
        let status = || self.reports.status(&pod()).filter(|status| status.phase == phase);
        wait_for(&format!("{phase:?}"), status).await;
    }

    fn running(&self) -> Vec<String> {
        self.fake.running(&pod(), &ContainerName::new("app").unwrap())
    }

    /// The process ends, in order or not, and another one begins on the same host and ledger.
    async fn restarted(self, folder: &Path) -> Self {
        assert!(self.pods.drain(Duration::from_secs(10)).await);
        let fake = self.fake.clone();
        drop(self);
        let rig = Self::over(folder, fake);
        rig.pods.adopt();
        rig
    }

    fn is_clean(&self) {
        assert_eq!(self.fake.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_pod_runs_stops_starts_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    rig.phase(PodPhase::Running).await;
    let first = rig.running();
    assert_eq!(first.len(), 1);
    rig.give(pod_order(3, PodVerb::Stop { grace_ms: 10 })).await;
    assert_eq!(rig.outcome(3).await, Outcome::Done);
    assert_eq!(rig.running(), Vec::<String>::new());
    rig.phase(PodPhase::Stopped).await;
    rig.give(pod_order(4, PodVerb::Start)).await;
    assert_eq!(rig.outcome(4).await, Outcome::Done);
    let second = rig.running();
    // The second attempt found what the first one had written.
    assert_eq!(rig.fake.written(&first[0]), Some([first, second].concat()));
    rig.give(evict_order(5, EvictDisposition::Keep)).await;
    assert_eq!(rig.outcome(5).await, Outcome::Done);
    assert_eq!(rig.running(), Vec::<String>::new());
    assert_eq!(rig.fake.disks().len(), 1);
    wait_for("the report that it is gone", || {
        rig.reports.take().into_iter().find(|report| matches!(report, Report::Gone(..)))
    })
    .await;
    rig.give(pod_order(6, PodVerb::Release)).await;
    assert_eq!(rig.outcome(6).await, Outcome::Done);
    assert_eq!(rig.fake.disks(), Vec::<String>::new());
    rig.is_clean();
}

#[tokio::test]
async fn every_call_may_go_wrong_and_orders_still_get_there() {
    let calls = [
        Call::Observe,
        Call::ProveDead,
        Call::EnsureImage,
        Call::EnsureSlice,
        Call::RunSandbox,
        Call::CreateContainer,
        Call::AdoptDisk,
        Call::AmendSpec,
        Call::StartContainer,
        Call::StopContainer,
        Call::RemoveContainer,
        Call::StopSandbox,
        Call::RemoveSandbox,
        Call::RemoveSlice,
    ];
    for trouble in [Trouble::FailBefore, Trouble::FailAfter, Trouble::DoNothing] {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::fresh(folder.path()).await;
        for call in calls {
            // What neither looks nor does is no trouble that the fake can have with these.
            if trouble != Trouble::DoNothing
                || !matches!(call, Call::Observe | Call::ProveDead | Call::EnsureImage)
            {
                rig.fake.trouble(call, trouble);
            }
        }
        rig.give(run_order(2)).await;
        assert_eq!(rig.outcome(2).await, Outcome::Done, "{trouble:?}");
        rig.give(pod_order(3, PodVerb::Stop { grace_ms: 10 })).await;
        assert_eq!(rig.outcome(3).await, Outcome::Done, "{trouble:?}");
        rig.give(pod_order(4, PodVerb::Start)).await;
        assert_eq!(rig.outcome(4).await, Outcome::Done, "{trouble:?}");
        rig.give(evict_order(5, EvictDisposition::Keep)).await;
        assert_eq!(rig.outcome(5).await, Outcome::Done, "{trouble:?}");
        assert_eq!(rig.fake.disks().len(), 1, "{trouble:?}");
        rig.is_clean();
    }
}

#[tokio::test]
async fn a_run_that_cannot_work_is_undone_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.fake.trouble(Call::StartContainer, Trouble::Refuse);
    rig.give(run_order(2)).await;
    let outcome = rig.outcome(2).await;
    assert!(
        matches!(&outcome, Outcome::Failed(Failure::Effect { step, .. }) if step.contains("start")),
        "{outcome:?}"
    );
    assert!(rig.ledger.pod(&pod()).unwrap().charter.is_none());
    assert_eq!(rig.fake.disks(), Vec::<String>::new());
    rig.is_clean();
}

#[tokio::test]
async fn a_wrong_digest_and_a_missing_image_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    let mut spec = fake::spec("web");
    spec.containers[0].digest = Some(fake::digest('b'));
    rig.give(run_spec(2, spec)).await;
    let outcome = rig.outcome(2).await;
    assert!(matches!(outcome, Outcome::Failed(Failure::WrongDigest { .. })), "{outcome:?}");
    let image = "registry.test:5000/absent:1".parse().unwrap();
    let pull = Target::Node(NodeOrder { verb: NodeVerb::PullImage { image, digest: None } });
    rig.give(order(3, pull)).await;
    let outcome = rig.outcome(3).await;
    assert!(matches!(outcome, Outcome::Failed(Failure::Image { .. })), "{outcome:?}");
}

#[tokio::test]
async fn an_evict_does_not_wait_for_a_pull_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    for _ in 0..10_000 {
        rig.fake.trouble(Call::EnsureImage, Trouble::FailBefore);
    }
    rig.give(run_order(2)).await;
    rig.give(evict_order(3, EvictDisposition::Release)).await;
    assert_eq!(rig.outcome(3).await, Outcome::Done);
    assert_eq!(rig.outcome(2).await, Outcome::Failed(Failure::Superseded { by: order_id(3) }));
}

#[tokio::test]
async fn time_that_runs_out_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    for _ in 0..10_000 {
        rig.fake.trouble(Call::RunSandbox, Trouble::FailBefore);
    }
    let mut run = run_order(2);
    run.order.deadline_ms = 100;
    rig.give(run).await;
    let outcome = rig.outcome(2).await;
    let Outcome::Failed(Failure::DeadlineExceeded { deadline_ms: 100, last }) = outcome else {
        panic!("{outcome:?}");
    };
    let told =
        last.starts_with("make sandbox, attempt ") && last.ends_with(": RunSandbox: programmed failure");
    assert!(told, "{last}");
    rig.is_clean();
}

#[tokio::test]
async fn a_restart_of_the_daemon_touches_no_container() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    let (running, effects) = (rig.running(), rig.fake.effects());
    let rig = rig.restarted(folder.path()).await;
    rig.phase(PodPhase::Running).await;
    assert_eq!((rig.running(), rig.fake.effects()), (running, effects));
    // The ledger knows what it had answered.
    let again = rig.ledger.admit(run_order(2), host_view(), Moment::now()).await.unwrap();
    assert_eq!(again, Answer::Ended(Outcome::Done));
}

#[tokio::test]
async fn an_open_order_is_taken_up_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    for _ in 0..3 {
        rig.fake.trouble(Call::StartContainer, Trouble::FailBefore);
    }
    rig.give(run_order(2)).await;
    wait_for("a container", || {
        rig.fake.effects().iter().any(|effect| effect.starts_with("create")).then_some(())
    })
    .await;
    let rig = rig.restarted(folder.path()).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    assert_eq!(rig.running().len(), 1);
    rig.is_clean();
}

#[tokio::test]
async fn after_a_reboot_a_pod_comes_back_with_everything_else_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    let before = rig.running();
    rig.fake.cut_off();
    assert!(rig.pods.drain(Duration::from_secs(10)).await);
    rig.fake.reboot();
    // Restarting backs off from the exit; here the host was away for an hour.
    rig.fake.set_now_ms(node::monotonic_ms() + 3_600_000);
    let fake = rig.fake.clone();
    drop(rig);
    let rig = Rig::over(folder.path(), fake);
    rig.pods.adopt();
    let again = wait_for("it runs again", || Some(rig.running()).filter(|running| running.len() == 1)).await;
    assert_eq!(rig.fake.written(&before[0]), Some([before, again].concat()));
    rig.is_clean();
}

#[tokio::test]
async fn what_was_told_to_end_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    let mut spec = fake::spec("web");
    spec.restart = RestartPolicy::Never;
    rig.give(run_spec(2, spec)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    rig.fake.exit(&rig.running()[0], 1);
    rig.pods.wake(&pod());
    rig.phase(PodPhase::Degraded).await;
    assert_eq!(rig.running(), Vec::<String>::new());
}

#[tokio::test]
async fn shared_cpus_are_set_when_all_members_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    let id = rig.running()[0].clone();
    for of in ["", &id] {
        rig.fake.drift(&pod(), of, "cpuset.cpus");
    }
    rig.give(pool_order(3, 2, "0-1")).await;
    assert_eq!(rig.outcome(3).await, Outcome::Done);
    let written = |what: &str| rig.fake.effects().iter().filter(|effect| effect.starts_with(what)).count();
    assert!(written("update") + written("slice") >= 2, "{:?}", rig.fake.effects());
    assert_eq!(rig.running(), [id]);
}

#[tokio::test]
async fn an_inspection_has_everything_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    rig.phase(PodPhase::Running).await;
    rig.reports.take();
    rig.give(order(3, Target::Node(NodeOrder { verb: NodeVerb::Inspect }))).await;
    assert_eq!(rig.outcome(3).await, Outcome::Done);
    assert!(rig.reports.take().iter().any(|report| matches!(report, Report::Status(_))));
}

#[tokio::test]
async fn what_cannot_be_seen_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    let running = rig.running();
    for _ in 0..10_000 {
        rig.fake.trouble(Call::Observe, Trouble::FailBefore);
    }
    rig.pods.wake(&pod());
    rig.phase(PodPhase::Unknown).await;
    assert_eq!(rig.running(), running);
    rig.is_clean();
}

#[tokio::test]
async fn disks_are_offered_and_copied_by_order() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::fresh(folder.path()).await;
    let node_order = |number, verb| order(number, Target::Node(NodeOrder { verb }));
    let offer = DiskOffer {
        pod: pod(),
        incarnation: Incarnation(1),
        disks: ["data".parse().unwrap()].into(),
        to: "n2".parse().unwrap(),
    };
    let offered = |rig: &Rig| rig.ledger.read(|book| book.offers.get(&pod()).cloned());
    rig.give(run_order(2)).await;
    assert_eq!(rig.outcome(2).await, Outcome::Done);
    rig.give(evict_order(3, EvictDisposition::Keep)).await;
    assert_eq!(rig.outcome(3).await, Outcome::Done);
    rig.give(node_order(4, NodeVerb::OfferDisks(offer.clone()))).await;
    assert_eq!(rig.outcome(4).await, Outcome::Done);
    let rig = rig.restarted(folder.path()).await;
    assert_eq!(offered(&rig), Some(offer));
    let fetch = DiskFetch {
        pod: "shop/other".parse().unwrap(),
        incarnation: Incarnation(1),
        disk: "data".parse().unwrap(),
        size: None,
        from: "n2".parse().unwrap(),
        at: vec!["192.0.2.2:7445".parse().unwrap()],
    };
    rig.give(node_order(5, NodeVerb::FetchDisk(Box::new(fetch)))).await;
    let Outcome::Failed(Failure::Effect { why, .. }) = rig.outcome(5).await else { panic!("it was copied") };
    assert_eq!(why, "there is no node n2");
    rig.give(pod_order(6, PodVerb::Release)).await;
    assert_eq!(rig.outcome(6).await, Outcome::Done);
    assert_eq!(offered(&rig), None);
    rig.is_clean();
}
