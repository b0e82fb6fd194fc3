//! Disks go from node to node over real sockets and mutual TLS, whole or not at all, and to nobody else.

mod access;
mod pki;
mod tree;

use super::fetch::Patience;
use super::listen::serve_on;
use super::*;
use crate::disk::{Disks, Expected, Shelf};
use crate::ledger::{Answer, Ledger, Moment};
use crate::link::PkiFiles;
use crate::pod::Copies;
use crate::testing::{NOW, host_view, open, order, pod};
use berth_access::Authority;
use berth_model::{
    Bytes, DiskFetch, DiskName, DiskOffer, Failure, Incarnation, NodeName, NodeOrder, NodeVerb, Target,
};
use pki::identify;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tree::{describe, make_odd};

fn disk() -> DiskName {
    "data".parse().unwrap()
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A node that has a disk of a pod that left it, and serves it.
struct Source {
    ledger: Ledger,
    disks: Arc<Disks>,
    address: SocketAddr,
    outside: TempDir,
    folder: TempDir,
}

impl Source {
    async fn new(authority: &Authority) -> Self {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ledger = open(folder.path());
        let disks = Arc::new(Disks::new(folder.path()));
        disks.ensure_directory(Shelf::Kept, &pod(), &disk(), None).unwrap();
        std::fs::write(outside.path().join("secret"), "not yours").unwrap();
        make_odd(&disks.directory_path(Shelf::Kept, &pod(), &disk()), outside.path());
        let pki = identify(authority, folder.path(), "spiffe://berth.test/node/n1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Served::new(ledger.clone(), disks.clone());
        tokio::spawn(serve_on(listener, pki, served));
        let source = Self { ledger, disks, address, outside, folder };
        // The pod's record is what a copied disk leaves, too.
        source.admit(1, NodeVerb::FetchDisk(Box::new(source.order()))).await;
        source.ledger.finish(crate::testing::order_id(1), berth_model::Outcome::Done, NOW).await.unwrap();
        source
    }

    async fn admit(&self, number: u64, verb: NodeVerb) {
        let addressed = order(number, Target::Node(NodeOrder { verb }));
        let answer = self.ledger.admit(addressed, host_view(), Moment::now()).await.unwrap();
        assert_eq!(answer, Answer::Accepted);
    }

    async fn offer(&self, number: u64, to: &str) {
        let offer =
            DiskOffer { pod: pod(), incarnation: Incarnation(3), disks: [disk()].into(), to: name(to) };
        self.admit(number, NodeVerb::OfferDisks(offer)).await;
    }

    fn order(&self) -> DiskFetch {
        DiskFetch {
            pod: pod(),
            incarnation: Incarnation(3),
            disk: disk(),
            size: None,
            from: name("n1"),
            at: vec![self.address],
        }
    }

    fn path(&self) -> PathBuf {
        self.disks.directory_path(Shelf::Kept, &pod(), &disk())
    }
}

/// A node that copies.
struct Destination {
    disks: Arc<Disks>,
    pki: PkiFiles,
    folder: TempDir,
}

impl Destination {
    fn new(authority: &Authority, identity: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disks = Arc::new(Disks::new(folder.path()));
        let pki = identify(authority, folder.path(), identity);
        Self { disks, pki, folder }
    }

    async fn fetch(&self, order: &DiskFetch) -> Result<(), String> {
        let mut courier = Courier::new(self.pki.clone(), self.disks.clone());
        let ms = Duration::from_millis;
        courier.patience = Patience { unreachable: ms(50), again: ms(10) };
        let last = watch::Sender::new(String::new());
        courier.fetch(order, &last).await.map_err(|failure: Failure| failure.to_string())
    }

    fn path(&self) -> PathBuf {
        self.disks.directory_path(Shelf::Kept, &pod(), &disk())
    }

    /// Nothing is where disks arrive, or in the trash.
    fn is_clean(&self) {
        for folder in ["arriving", ".trash"] {
            assert_eq!(
                names(&self.folder.path().join("disks").join(folder)),
                Vec::<String>::new(),
                "{folder}"
            );
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|entries| {
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    });
    entries.unwrap_or_default()
}

#[tokio::test]
async fn odd_files_come_as_they_were() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    source.offer(2, "n2").await;
    let before = describe(&source.path());
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    // What is there of an earlier life gives way, whole.
    here.disks.ensure_directory(Shelf::Kept, &pod(), &disk(), None).unwrap();
    std::fs::write(here.path().join("stale"), "old").unwrap();
    here.fetch(&source.order()).await.unwrap();
    assert_eq!(describe(&here.path()), before);
    assert_eq!(describe(&source.path()), before, "the source is only read");
    here.is_clean();
    // Once more changes nothing.
    here.fetch(&source.order()).await.unwrap();
    assert_eq!(describe(&here.path()), before);
    here.is_clean();
    assert_eq!(std::fs::read(source.outside.path().join("secret")).unwrap(), b"not yours");
    assert!(source.folder.path().exists());
}

#[tokio::test]
async fn nobody_has_what_is_not_offered_to_them() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    let refused = |said: Result<(), String>, expected: &str| {
        let said = said.unwrap_err();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    };
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    refused(here.fetch(&source.order()).await, "incarnation 3, is not offered to node n2");
    source.offer(2, "n2").await;
    let thief = Destination::new(&authority, "spiffe://berth.test/node/n3");
    refused(thief.fetch(&source.order()).await, "is not offered to node n3");
    let older = DiskFetch { incarnation: Incarnation(2), ..source.order() };
    refused(here.fetch(&older).await, "incarnation 2, is not offered");
    let other = DiskFetch { disk: "logs".parse().unwrap(), ..source.order() };
    refused(here.fetch(&other).await, "data disk logs");
    source.admit(3, NodeVerb::WithdrawDisks { pod: pod() }).await;
    refused(here.fetch(&source.order()).await, "is not offered to node n2");
    source.offer(4, "n2").await;
    here.fetch(&source.order()).await.unwrap();
    assert!(!thief.path().exists());
    thief.is_clean();
}

#[tokio::test]
async fn strangers_are_not_talked_to() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    source.offer(2, "n2").await;
    let check = async |here: Destination, order: DiskFetch, expected: &str| {
        let said = here.fetch(&order).await.unwrap_err();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert!(!here.path().exists());
    };
    // Who answers is not who was meant.
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    let other = DiskFetch { from: name("n9"), ..source.order() };
    check(here, other, "is spiffe://berth.test/node/n1, not node n9 of trust domain berth.test").await;
    // This side would not talk to its peers either; what the other side does with such a node is in `access`.
    let foreign = Destination::new(&Authority::new(), "spiffe://berth.test/node/n2");
    check(foreign, source.order(), "not signed by our authority").await;
    let other = Destination::new(&authority, "spiffe://other.test/node/n2");
    check(other, source.order(), "not node n1 of trust domain other.test").await;
    let platform = Destination::new(&authority, "spiffe://berth.test/platform/n2");
    check(platform, source.order(), "of spiffe://berth.test/platform/n2, which is no node").await;
}

#[tokio::test]
async fn a_source_that_is_not_there_is_given_up() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = here.fetch(&DiskFetch { at: vec![closed], ..source.order() }).await.unwrap_err();
    assert!(said.contains(&format!("connect to {closed}")), "{said}");
    here.is_clean();
}

/// Hands bytes on between two sockets until `allowed` have gone to the node that copies; then it cuts.
async fn cutting_proxy(to: SocketAddr, allowed: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let allowed = allowed.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut buffer = vec![0; 4096];
                while let Ok(length) = from_server.read(&mut buffer).await {
                    let left = allowed.load(Ordering::SeqCst);
                    if length == 0 || left < length as u64 {
                        break;
                    }
                    allowed.store(left - length as u64, Ordering::SeqCst);
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
                up.abort();
            });
        }
    });
    address
}

#[tokio::test]
async fn a_cut_connection_leaves_nothing_and_the_next_try_begins_anew() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    source.offer(2, "n2").await;
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    here.disks.ensure_directory(Shelf::Kept, &pod(), &disk(), None).unwrap();
    std::fs::write(here.path().join("old"), "stays until all is there").unwrap();
    let allowed = Arc::new(AtomicU64::new(300_000));
    let at = vec![cutting_proxy(source.address, allowed.clone()).await];
    let (order, old) = (DiskFetch { at, ..source.order() }, describe(&here.path()));
    let fetching = here.fetch(&order);
    tokio::pin!(fetching);
    let cut = async {
        crate::testing::wait_for("the cut", || (allowed.load(Ordering::SeqCst) < 4096).then_some(())).await;
    };
    tokio::select! {
        // Not cancel-safe, and not cancelled: the cut comes first.
        done = &mut fetching => panic!("{done:?}"),
        // Cancel-safe: only looks.
        () = cut => {}
    }
    assert_eq!(describe(&here.path()), old);
    allowed.store(u64::MAX, Ordering::SeqCst);
    fetching.await.unwrap();
    assert_eq!(describe(&here.path()), describe(&source.path()));
    here.is_clean();
}

#[tokio::test]
async fn a_copy_that_is_given_up_half_way_is_thrown_away() {
    let authority = Authority::new();
    let source = Source::new(&authority).await;
    source.offer(2, "n2").await;
    let here = Destination::new(&authority, "spiffe://berth.test/node/n2");
    let allowed = Arc::new(AtomicU64::new(300_000));
    let at = vec![cutting_proxy(source.address, allowed.clone()).await];
    let order = DiskFetch { at, ..source.order() };
    let courier = Courier::new(here.pki.clone(), here.disks.clone());
    let copying = tokio::spawn(async move {
        let last = watch::Sender::new(String::new());
        courier.fetch(&order, &last).await
    });
    crate::testing::wait_for("the cut", || (allowed.load(Ordering::SeqCst) < 4096).then_some(())).await;
    copying.abort();
    let arriving = here.folder.path().join("disks/arriving");
    let trash = here.folder.path().join("disks/.trash");
    crate::testing::wait_for("nothing to be left", || {
        (names(&arriving).is_empty() && names(&trash).is_empty()).then_some(())
    })
    .await;
    assert!(!here.path().exists());
    // What a crash has left is thrown away at the next start.
    let expected = Expected { pod: &pod(), disk: &disk(), size: None, used: None };
    drop(here.disks.expect(expected).unwrap());
    assert_eq!(names(&arriving), ["shop.web"]);
    here.disks.abandon_all().unwrap();
    assert_eq!(names(&arriving), Vec::<String>::new());
}

#[tokio::test]
async fn a_disk_that_does_not_fit_is_refused_before_it_is_written() {
    let here = tempfile::tempdir().unwrap();
    let disks = Disks::new(here.path());
    let expected = Expected { pod: &pod(), disk: &disk(), size: None, used: Some(Bytes(u64::MAX)) };
    let said = disks.expect(expected).unwrap_err();
    assert!(said.is_permanent() && said.to_string().contains("has room for"), "{said}");
}
