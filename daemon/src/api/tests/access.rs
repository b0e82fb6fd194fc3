//! Every RPC on both sockets, by everybody.

use super::{Rig, connect_by};
use crate::testing::{order_id, wait_for};
use berth_access::{Answer, Rpc, Table, call, rpcs};
use nix::unistd::{Group, Uid};
use rustix::process::{Gid as ThreadGid, Uid as ThreadUid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use tonic::Code;

/// Who is nobody on every host.
const NOBODY: u32 = 65_534;

/// What `Node` answers to whoever may look and asks for nothing. All of it only looks.
const NODE: [(&str, Code); 13] = [
    ("GetStatus", Code::Ok),
    ("ListPods", Code::Ok),
    ("GetPod", Code::InvalidArgument),
    ("ListOrders", Code::Ok),
    ("GetOrder", Code::InvalidArgument),
    ("GetTopology", Code::Ok),
    ("GetCgroup", Code::InvalidArgument),
    ("ListLeases", Code::Ok),
    ("ListDisks", Code::Ok),
    ("ListImages", Code::Ok),
    ("ReadLogs", Code::InvalidArgument),
    ("WatchEvents", Code::Ok),
    ("Diagnose", Code::Ok),
];

/// What `Ipam` answers to the plugin.
const IPAM: [(&str, Code); 5] = [
    ("Attach", Code::InvalidArgument),
    ("Detach", Code::InvalidArgument),
    ("CheckAttachment", Code::InvalidArgument),
    ("Collect", Code::InvalidArgument),
    ("CheckReady", Code::Ok),
];

/// Services that are not for the host's own people.
const ELSEWHERE: [&str; 4] = ["Platform", "NodeLink", "Enrollment", "Peer"];

/// The service of a socket, and what its RPCs answer.
type Served = (&'static str, &'static [(&'static str, Code)]);

/// What a socket answers to those whom it admits. An RPC that is judged nowhere fails the test.
fn judge(rpc: &Rpc, served: Served) -> Code {
    let of = |(service, answers): Served| {
        let judged = || answers.iter().find(|(method, _)| *method == rpc.method).map(|(_, code)| *code);
        (service == rpc.service).then(|| judged().unwrap_or_else(|| panic!("{rpc} is not judged")))
    };
    let answers = [("Node", &NODE[..]), ("Ipam", &IPAM[..])].map(of);
    let known = answers.iter().flatten().next().is_some() || ELSEWHERE.contains(&rpc.service.as_str());
    assert!(known, "{rpc} is not judged");
    of(served).unwrap_or(Code::Unimplemented)
}

/// Who calls, what the socket's mode is then, and whether that is somebody to answer.
struct Column {
    who: &'static str,
    /// User and group; ourselves if there is none.
    ids: Option<(u32, u32)>,
    mode: u32,
    admitted: bool,
}

/// The kernel takes the credentials of the thread that connects, at that moment; so it is a thread of its own.
fn connect_as(socket: &Path, ids: Option<(u32, u32)>) -> io::Result<UnixStream> {
    let socket = socket.to_owned();
    let connecting = std::thread::spawn(move || {
        if let Some((uid, gid)) = ids {
            let (uid, gid) = (ThreadUid::from_raw(uid), ThreadGid::from_raw(gid));
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        UnixStream::connect(socket)
    });
    connecting.join().unwrap()
}

async fn answer(socket: &Path, column: &Column, rpc: &Rpc) -> Answer {
    std::fs::set_permissions(socket, Permissions::from_mode(column.mode)).unwrap();
    let Ok(stream) = connect_as(socket, column.ids) else { return Answer::NoConnection };
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(tokio::net::UnixStream::from_std(stream));
    let once = move || stream.take().unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()));
    match connect_by(once).await {
        Err(_) => Answer::NoConnection,
        Ok(channel) => call(channel, rpc).await,
    }
}

async fn fill(title: &str, socket: &Path, columns: &[Column], served: Served) {
    let mut table = Table::new(title, columns.iter().map(|column| column.who));
    for rpc in rpcs() {
        let judged = Answer::Code(judge(&rpc, served));
        let mut cells = Vec::new();
        for column in columns {
            let expected = if column.admitted { judged } else { Answer::NoConnection };
            cells.push((answer(socket, column, &rpc).await, expected));
        }
        table.row(&rpc, &cells);
    }
    table.finish();
}

#[tokio::test]
async fn every_rpc_on_both_sockets_by_everybody() {
    // Whatever group it is, root is not of it.
    let group = Group::from_gid(1.into()).unwrap().unwrap();
    let rig = Rig::start_for(&group.name).await;
    wait_for("the pod runs", || rig.ledger.read(|book| book.orders[&order_id(2)].ended.clone())).await;
    let others = Uid::effective().is_root();
    if others {
        // Others may come as far as the sockets.
        std::fs::set_permissions(rig.folder.path(), Permissions::from_mode(0o755)).unwrap();
    } else {
        println!("only root can come as somebody else: those columns are left out");
    }
    let (member, stranger) = (Some((NOBODY, group.gid.as_raw())), Some((NOBODY, NOBODY)));
    let columns = |made: u32, members: bool| -> Vec<Column> {
        let column = |who, ids, mode, admitted| Column { who, ids, mode, admitted };
        let all = [
            column("the daemon's own user", None, made, true),
            column("a member of the group", member, made, members),
            column("a member of the group, the socket's mode laid open", member, 0o666, members),
            column("anybody else", stranger, made, false),
            column("anybody else, the socket's mode laid open", stranger, 0o666, false),
        ];
        all.into_iter().filter(|column| others || column.ids.is_none()).collect()
    };
    let mode = |name: &str| rig.socket(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("berthd.sock"), mode("cni.sock")), (0o660, 0o600));
    let before = rig.ledger.read(Clone::clone);
    fill("berthd.sock", &rig.socket("berthd.sock"), &columns(0o660, true), ("Node", &NODE)).await;
    assert!(rig.ledger.read(|book| *book == before), "whoever looks changes nothing");
    fill("cni.sock", &rig.socket("cni.sock"), &columns(0o600, false), ("Ipam", &IPAM)).await;
}
