//! What a node's agent costs with many pods: a ledger of its own and every pod's task, over the runtime that exists in
//! memory only, which takes its time for a look as the real one does. For `cargo xtask bench adopt`.

use crate::ledger::{Answer, Ledger, Moment};
use crate::pod::{Pace, Parts, Pods};
use crate::reports::Reports;
use crate::runtime::fake::{self, FakeRuntime};
use crate::testing::{NoCopies, host_view, open, order, order_id, pool_order};
use anyhow::{Context, Result, ensure};
use berth_model::{
    AddressGrant, Disk, Generation, Incarnation, OrderId, PodId, PodOrder, PodPhase, PodSpec, PodVerb, Seq,
    Target,
};
use berth_proto::Addressed;
use nix::sys::resource::{UsageWho, getrusage};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The numbers of a ULID's last digits that a test's order has.
const MAX_PODS: u16 = 9_000;
/// Until all pods run, or all are reported.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many pods.
    pub pods: u16,
    /// How long the runtime takes to say how one pod is.
    pub look: Duration,
    /// For how long nothing is ordered, while CPU time is counted.
    pub idle: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// From opening the ledger until every pod is reported to run, by a process that had not known them.
    pub adopted: Duration,
    /// How many effects that had.
    pub effects: usize,
    /// Proportional set size before the first pod, KiB; the runtime in memory is a part of the process.
    pub empty_kib: u64,
    /// The same after the idle time.
    pub full_kib: u64,
    /// The part of one core that was used while nothing was ordered, percent.
    pub idle_percent: f64,
}

struct Agent {
    ledger: Ledger,
    pods: Arc<Pods<FakeRuntime>>,
    reports: Arc<Reports>,
}

fn agent(folder: &Path, fake: &FakeRuntime) -> Agent {
    let (ledger, reports) = (open(folder), Arc::new(Reports::default()));
    let pods = Pods::new(Parts {
        ledger: ledger.clone(),
        runtime: Arc::new(fake.clone()),
        reports: reports.clone(),
        pace: Pace::default(),
        sight: Box::new(|| Some(host_view())),
        copies: Arc::new(NoCopies),
    });
    Agent { ledger, pods, reports }
}

/// Measures it in an empty folder.
///
/// # Errors
/// When the pods do not come to run, or the kernel does not say what this process uses.
pub async fn measure(folder: &Path, plan: Plan) -> Result<Figures> {
    ensure!((1..=MAX_PODS).contains(&plan.pods), "1 to {MAX_PODS} pods, not {}", plan.pods);
    let fake = FakeRuntime::new();
    fake.publish(&fake::container_spec("app").image, &fake::digest('a'));
    let first = agent(folder, &fake);
    give(&first, pool_order(0, 1, "0")).await?;
    ensure!(ended(&first, &order_id(0)).await, "the pool is not set");
    let empty_kib = pss_kib()?;
    for number in 1..=plan.pods {
        give(&first, run_order(number)).await?;
    }
    all_run(&first, plan.pods).await?;
    ensure!(first.pods.drain(PATIENCE).await, "the tasks do not end");
    drop(first);

    fake.set_look_time(plan.look);
    let before = fake.effects().len();
    let begun = Instant::now();
    let second = agent(folder, &fake);
    second.pods.adopt();
    all_run(&second, plan.pods).await?;
    let adopted = begun.elapsed();

    let (used, begun) = (cpu_time()?, Instant::now());
    tokio::time::sleep(plan.idle).await;
    let idle_percent = (cpu_time()? - used).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let effects = fake.effects().len() - before;
    Ok(Figures { adopted, effects, empty_kib, full_kib: pss_kib()?, idle_percent })
}

async fn give(agent: &Agent, addressed: Addressed) -> Result<()> {
    let order = addressed.order.clone();
    let answer = agent.ledger.admit(addressed, host_view(), Moment::now()).await?;
    ensure!(answer == Answer::Accepted, "order {}: {answer:?}", order.id);
    agent.pods.carry_out(&order);
    Ok(())
}

async fn ended(agent: &Agent, id: &OrderId) -> bool {
    let is_ended =
        || agent.ledger.read(|book| book.orders.get(id).is_some_and(|entry| entry.ended.is_some()));
    wait(is_ended).await
}

/// Waits until every pod is reported to run.
async fn all_run(agent: &Agent, pods: u16) -> Result<()> {
    let count = || agent.reports.statuses().iter().filter(|status| status.phase == PodPhase::Running).count();
    let run = wait(|| count() == usize::from(pods)).await;
    ensure!(run, "{} of {pods} pods run after {PATIENCE:?}", count());
    Ok(())
}

async fn wait(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn run_order(number: u16) -> Addressed {
    let name = format!("pod-{number}");
    let address = format!("10.{}.{}.7/8", number / 250, number % 250 + 1);
    let one = fake::spec(&name);
    let grant = AddressGrant { address: address.parse().unwrap(), ..one.addresses[0].clone() };
    let spec = PodSpec { addresses: vec![grant], ..one };
    let order_of_pod = PodOrder {
        pod: PodId::new("bench", name).unwrap(),
        incarnation: Incarnation(1),
        generation: Generation(1),
        seq: Seq(1),
        verb: PodVerb::Run { spec: Box::new(spec), disk: Disk::Fresh },
    };
    let mut addressed = order(u64::from(number), Target::Pod(order_of_pod));
    // The last of many waits for all the others.
    addressed.order.deadline_ms = 3_600_000;
    addressed
}

fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("ask for the CPU time")?;
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default()
    };
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

/// Proportional set size (proc_pid_smaps(5)).
fn pss_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").context("ask for the memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{line:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_adopted_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { pods: 3, look: Duration::from_millis(1), idle: Duration::ZERO };
        let figures = Box::pin(measure(folder.path(), plan)).await.unwrap();
        assert_eq!(figures.effects, 0);
        assert!(figures.full_kib > 0 && figures.adopted > Duration::ZERO);
    }
}
