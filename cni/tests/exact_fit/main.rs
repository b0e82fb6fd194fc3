//! Exact fit: 1 000 identities on exactly 1 000 addresses, 64 at a time, through the real plugin, while the node that
//! answers it is killed with SIGKILL and started again 200 times. No ADD or DEL may fail, no address be given twice
//! or lost.
//!
//! It has no harness of its own kind because it must be able to start itself as the node: `exact_fit serve FOLDER`.

mod node;
mod plugin;
mod supervisor;

use anyhow::{Context, Result, bail, ensure};
use berth_model::AddressGrant;
use berth_placement::{AddressUse, two_owners};
use berthd::ledger::{Attachment, KEPT_TENURES, Ledger};
use node::PODS;
use plugin::Caller;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

/// Plugins at one time.
const AT_ONCE: usize = 64;
/// How often the node is killed.
const KILLS: u64 = 200;
const NAME: &str = "exact_fit";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", folder] => node::serve(Path::new(folder)),
        words if words.contains(&"--list") => {
            // As a test harness lists its tests; none of them is ignored.
            if !words.contains(&"--ignored") {
                println!("{NAME}: test");
            }
            Ok(())
        }
        words => match words.iter().find(|word| !word.starts_with('-')) {
            Some(filter) if !NAME.contains(*filter) => Ok(()),
            Some(_) | None => exact_fit(),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// What the plugins are told.
struct Fleet<'a> {
    ipam: &'a serde_json::Value,
    grants: &'a [AddressGrant],
    /// Plugins that have ended.
    finished: AtomicUsize,
}

impl Fleet<'_> {
    fn call<T>(&self, round: usize, number: usize, call: impl FnOnce(&Caller<'_>) -> Result<T>) -> Result<T> {
        let (pod, sandbox) = (format!("p{number}"), format!("s{round}-{number}"));
        call(&Caller {
            program: Path::new(env!("CARGO_BIN_EXE_berth-ipam")),
            ipam: self.ipam,
            pod: &pod,
            sandbox: &sandbox,
        })
    }

    /// Every pod once, [`AT_ONCE`] at a time. All that goes wrong is told, not the first thing only.
    fn all(&self, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < PODS)
                    {
                        let worked = work(number);
                        self.finished.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = worked {
                            failures
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(format!("{error:#}"));
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            failures.is_empty(),
            "{} failures, such as {:?}",
            failures.len(),
            &failures[..failures.len().min(3)]
        );
        Ok(())
    }

    fn add_all(&self, round: usize) -> Result<()> {
        let given = Mutex::new(BTreeSet::new());
        self.all(|number| {
            let addresses = self.call(round, number, |caller| caller.add())?;
            let granted = self.grants[number].address.to_string();
            ensure!(
                addresses == [granted.as_str()],
                "p{number} was given {addresses:?} instead of {granted}"
            );
            let first = given.lock().unwrap_or_else(PoisonError::into_inner).insert(granted.clone());
            ensure!(first, "{granted} was given twice");
            Ok(())
        })
    }

    fn del_all(&self, round: usize) -> Result<()> {
        self.all(|number| self.call(round, number, |caller| caller.del()))
    }
}

fn exact_fit() -> Result<()> {
    let begun = Instant::now();
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let grants = node::grants()?;
    let ipam = json!({"type": "berth-ipam", "socket": node::socket(folder)});
    let fleet = Fleet { ipam: &ipam, grants: &grants, finished: AtomicUsize::new(0) };
    // The first start writes the charters; what is tormented begins afterwards.
    let mut first = supervisor::Node::spawn(folder)?;
    first.ready()?;
    first.kill()?;

    let (round, kills, node) = under_torment(&fleet, folder)?;
    ensure!(kills == KILLS, "only {kills} kills");
    node.kill()?;
    judge(&node::open(folder)?, &grants, Some(round))?;

    let mut last = supervisor::Node::spawn(folder)?;
    last.ready()?;
    fleet.del_all(round)?;
    last.kill()?;
    judge(&node::open(folder)?, &grants, None)?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{NAME}: {PODS} pods, {} rounds of ADD, {kills} kills, {seconds:.0} s", round + 1);
    Ok(())
}

/// Adds and deletes all until the node has been killed often enough; ends after an ADD of all.
fn under_torment(fleet: &Fleet<'_>, folder: &Path) -> Result<(usize, u64, supervisor::Node)> {
    std::thread::scope(|scope| {
        // Dropped when something fails, which ends the torment.
        let (enough, told) = mpsc::channel();
        let tormented = scope.spawn(move || supervisor::torment(folder, KILLS, &told, &fleet.finished));
        let mut round = 0;
        fleet.add_all(round)?;
        while !tormented.is_finished() {
            fleet.del_all(round)?;
            round += 1;
            fleet.add_all(round)?;
        }
        drop(enough);
        let ended = tormented.join().map_err(|_| anyhow::anyhow!("the supervisor panicked"))?;
        let (node, kills) = ended.context("torment the node")?;
        Ok((round, kills, node))
    })
}

/// After an ADD of all in `attached`, each pod has one attachment of that round; after a DEL of all there is none.
/// Assigned is everything, always.
fn judge(ledger: &Ledger, grants: &[AddressGrant], attached: Option<usize>) -> Result<()> {
    ledger.read(|book| {
        let attachments: BTreeMap<_, _> =
            book.attachments.values().map(|one| (one.key.sandbox_id.clone(), one)).collect();
        let expected = if attached.is_some() { PODS } else { 0 };
        ensure!(attachments.len() == expected, "{} attachments instead of {expected}", attachments.len());
        for (number, granted) in grants.iter().enumerate() {
            let pod = node::pod(number)?;
            let held = book.grant(&pod).with_context(|| format!("{pod} has lost its address"))?;
            ensure!(held.addresses == [granted.clone()], "{pod} has {:?}", held.addresses);
            let Some(round) = attached else { continue };
            let Some(one) = attachments.get(&format!("s{round}-{number}")) else {
                bail!("{pod} is not attached");
            };
            ensure!(one.pod == pod && one.addresses == [granted.address.address()], "{one:?} for {pod}");
        }
        let ended = book.tenures.values().map(|tenure| (&tenure.attachment, Some(tenure.detached_at_ms)));
        let lasting = book.attachments.values().map(|attachment| (attachment, None));
        let uses: Vec<AddressUse> = ended.chain(lasting).flat_map(uses_of).collect();
        ensure!(uses.len() >= PODS && book.tenures.len() <= KEPT_TENURES, "a history of {}", uses.len());
        let doubled = two_owners(uses);
        ensure!(doubled.is_empty(), "{}", doubled[0]);
        Ok(())
    })
}

fn uses_of((attachment, until_ms): (&Attachment, Option<u64>)) -> Vec<AddressUse> {
    let one = |address: &std::net::IpAddr| AddressUse {
        address: *address,
        from_ms: attachment.attached_at_ms,
        until_ms,
        owner: attachment.pod.clone(),
    };
    attachment.addresses.iter().map(one).collect()
}
