//! The node: a real ledger on a disk, and `berthd`'s own service for the plugin before it, in a process of its own
//! that may be killed at any time.

use anyhow::{Context, Result};
use berth_model::{AddressGrant, Cidr, PodId, PoolName};
use berth_placement::{AddressPool, AddressRange};
use berth_proto::{Addressed, v1};
use berthd::api::{Who, listen};
use berthd::ledger::{Answer, Boot, Ledger, Moment};
use berthd::network::{Ipam, Probing};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Identities, and addresses: exactly as many.
pub(crate) const PODS: usize = 1_000;

/// Where the node listens.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("cni.sock")
}

/// The pod of that number.
pub(crate) fn pod(number: usize) -> Result<PodId> {
    Ok(PodId::new("shop", format!("p{number}"))?)
}

/// What each pod is assigned, by the control plane's own pool of exactly as many addresses.
pub(crate) fn grants() -> Result<Vec<AddressGrant>> {
    let network: Cidr = "10.64.0.0/22".parse()?;
    let (first, last) = ("10.64.0.1".parse()?, "10.64.3.232".parse()?);
    let mut pool = AddressPool::new(AddressRange::new(network, Some(first), Some(last), None)?, None);
    anyhow::ensure!(pool.range().size() == PODS as u64, "the pool has {}", pool.range().size());
    (0..PODS)
        .map(|number| {
            let address = Cidr::new(pool.assign(&pod(number)?)?, network.prefix_len())?;
            Ok(AddressGrant { pool: PoolName::new("exact")?, address, gateway: None })
        })
        .collect()
}

/// Opens the ledger as a start of `berthd` does.
pub(crate) fn open(folder: &Path) -> Result<Ledger> {
    let boot = Boot { node: Some("n1".parse()?), boot_id: "boot-1".to_owned() };
    Ok(Ledger::open(&folder.join("ledger.db"), &boot, Moment::now())?)
}

/// Serves until it is killed. Says `ready` on stdout once the plugin is answered.
pub(crate) fn serve(folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let ledger = open(folder)?;
        charter_all(&ledger).await?;
        let serving = Ipam::new(ledger, Probing::Off).serve(listen(&socket(folder), Who::Root)?);
        let mut stdout = std::io::stdout();
        writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("say that it is ready")?;
        // Whoever started this holds the other end, and has ended, in whatever way, when it is closed.
        let orphaned = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::select! {
            // Cancel-safe: the process ends with either.
            served = serving => served.context("serve"),
            // Likewise.
            _ = orphaned => Ok(()),
        }
    })
}

/// Orders every pod to run here, by the same admission as upstream's orders; those that are known are left alone.
async fn charter_all(ledger: &Ledger) -> Result<()> {
    for (number, grant) in grants()?.into_iter().enumerate() {
        if ledger.pod(&pod(number)?).is_some() {
            continue;
        }
        if number == 0 {
            admit(ledger, pool_order()?).await?;
        }
        admit(ledger, run_order(number, &grant)?).await?;
    }
    Ok(())
}

async fn admit(ledger: &Ledger, order: Addressed) -> Result<()> {
    let id = order.order.id.clone();
    let answer = ledger.admit(order, host(), Moment::now()).await?;
    anyhow::ensure!(matches!(answer, Answer::Accepted | Answer::StillOpen), "order {id}: {answer:?}");
    Ok(())
}

fn host() -> berth_plan::HostView {
    berth_plan::HostView {
        online_cpus: "0-3".parse().unwrap_or_default(),
        reserved_cpus: berth_model::CpuSet::default(),
        possible_cpus: "0-3".parse().unwrap_or_default(),
        mems: "0".parse().unwrap_or_default(),
        mount_points: [].into(),
        page_sizes: [].into(),
        io_weight: true,
        swap: true,
        data_disk_quota: berth_plan::QuotaView::Enforced,
        system_disk_quota: berth_plan::QuotaView::Enforced,
        profiles: berth_plan::ProfileView::default(),
        host_network: false,
        host_paths: [].into(),
    }
}

fn order(number: usize, target: v1::order::Target) -> Result<Addressed> {
    let order = v1::Order {
        id: format!("01ARZ3NDEKTSV4RRFFQ69G{number:04}"),
        term: 1,
        node: "n1".to_owned(),
        reason: "exact fit".to_owned(),
        deadline_ms: 3_600_000,
        target: Some(target),
    };
    Addressed::try_from(order).map_err(|error| anyhow::anyhow!(error.chain()))
}

fn pool_order() -> Result<Addressed> {
    let set = v1::node_order::SetSharedCpus {
        pool: "default".to_owned(),
        cpus: "0-3".to_owned(),
        mems: "0".to_owned(),
        generation: 1,
    };
    let verb = Some(v1::node_order::Verb::SetSharedCpus(set));
    order(PODS, v1::order::Target::NodeOrder(v1::NodeOrder { verb }))
}

fn run_order(number: usize, grant: &AddressGrant) -> Result<Addressed> {
    let container = v1::ContainerSpec {
        name: "app".to_owned(),
        image: "registry.example/app:1".to_owned(),
        ..v1::ContainerSpec::default()
    };
    let shared = v1::cpu_binding::Binding::Shared(v1::SharedCpus { pool: "default".to_owned() });
    let spec = v1::PodSpec {
        hostname: format!("p{number}"),
        containers: vec![container],
        cpu: Some(v1::CpuBinding { binding: Some(shared) }),
        addresses: vec![grant.into()],
        class: v1::AppClass::Standard.into(),
        restart: v1::RestartPolicy::Always.into(),
        disk: v1::DiskPolicy::Reuse.into(),
        recovery: v1::RecoveryPolicy::Offline.into(),
        ..v1::PodSpec::default()
    };
    let run = v1::pod_order::Run { spec: Some(spec), kept_disk_incarnation: None };
    let pod_order = v1::PodOrder {
        pod: Some((&pod(number)?).into()),
        incarnation: 1,
        generation: 1,
        seq: 1,
        verb: Some(v1::pod_order::Verb::Run(run)),
    };
    order(number, v1::order::Target::Pod(pod_order))
}
