//! Points at which a test lets this process end, as suddenly as a crash: before and after everything that it does to the
//! ledger, to the runtime and to the host.
//!
//! [`Deed`] is the closed list of what is done; nothing writes to the ledger or changes the runtime without naming one.
//! Only a build with the feature `crash-points`, of which no package is made, ever looks for an order to end
//! ([`ORDERS`]) and lists its points (`berthd crash-points`). In every other build passing a point is nothing at all.

use std::fmt;
use std::future::Future;

/// The environment variable that names the file of orders: the name of a point on each line. Whoever reaches the point
/// on the first line takes the line away and ends; the next process goes by the next line. Where a colon and a command
/// follow, the command is run there by the shell, and the process waits for it and lives on: so others can die there.
#[cfg(any(test, feature = "crash-points"))]
pub const ORDERS: &str = "BERTH_CRASH_ORDERS";

/// The environment variable that names a file to which every point that is passed is added, one a line.
#[cfg(any(test, feature = "crash-points"))]
pub const TRACE: &str = "BERTH_CRASH_TRACE";

/// Defines the deeds, and lists them.
macro_rules! deeds {
    ($($deed:ident => $name:literal,)*) => {
        /// One thing that is done to the ledger, the runtime or the host.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each has its name in words")]
        pub enum Deed { $($deed,)* }

        impl Deed {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$deed,)*];

            /// In words.
            pub fn name(self) -> &'static str {
                match self { $(Self::$deed => $name,)* }
            }
        }
    };
}

deeds! {
    NoteBoot => "note boot",
    NoteBootId => "note boot id",
    NoteAcceptance => "note acceptance",
    NoteIntent => "note intent",
    NoteEffect => "note effect",
    NoteConclusion => "note conclusion",
    NoteOutcome => "note outcome",
    NoteConfirmation => "note confirmation",
    NoteAttachment => "note attachment",
    NoteDetachment => "note detachment",
    PullImage => "pull image",
    FlushImages => "flush images",
    NameImage => "name image",
    PinImage => "pin image",
    TakeLease => "take lease",
    WriteBlob => "write blob",
    LabelBlob => "label blob",
    EndLease => "end lease",
    StartSlice => "start slice",
    SetProperties => "set properties",
    StopSlice => "stop slice",
    WriteControls => "write controls",
    SetUlimits => "set ulimits",
    WriteHosts => "write hosts",
    WriteConfig => "write config",
    RemoveFiles => "remove files",
    MakeSandbox => "make sandbox",
    ForgetNetwork => "forget network result",
    StopSandbox => "stop sandbox",
    RemoveSandbox => "remove sandbox",
    MakeContainer => "make container",
    StartContainer => "start container",
    ReopenLog => "reopen log",
    StopContainer => "stop container",
    RunPreStop => "run pre-stop command",
    SignalTask => "signal task",
    RemoveContainer => "remove container",
    KillTask => "kill task",
    AwaitTask => "await task",
    DeleteTask => "delete task",
    DeleteRecord => "delete record",
    LabelDisk => "label disk",
    DetachDisk => "detach disk",
    AttachDisk => "attach disk",
    HoldSystemDisk => "hold system disk",
    AmendSpec => "amend spec",
    RemoveSnapshot => "remove snapshot",
    MakeDataDisk => "make data disk",
    GiveUpDataDisk => "give up data disk",
    EmptyTrash => "empty trash",
    FreeProjects => "free projects",
}

/// The side of a deed on which a point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it is done yet.
    Before,
    /// All of it is done, or has failed, and nobody in this process knows yet.
    After,
}

/// One point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    side: Side,
    deed: Deed,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(f, "{side} {}", self.deed.name())
    }
}

/// Every point that this program has.
pub fn points() -> impl Iterator<Item = Point> {
    Deed::ALL.iter().flat_map(|deed| [Side::Before, Side::After].map(|side| Point { side, deed: *deed }))
}

impl Deed {
    /// Does it, between its points.
    pub(crate) async fn between<T>(self, work: impl Future<Output = T>) -> T {
        pass(Point { side: Side::Before, deed: self });
        let done = work.await;
        pass(Point { side: Side::After, deed: self });
        done
    }

    /// As [`Deed::between`], of work that does not wait for others.
    pub(crate) fn between_now<T>(self, work: impl FnOnce() -> T) -> T {
        pass(Point { side: Side::Before, deed: self });
        let done = work();
        pass(Point { side: Side::After, deed: self });
        done
    }
}

#[cfg(not(any(test, feature = "crash-points")))]
fn pass(_point: Point) {}

#[cfg(any(test, feature = "crash-points"))]
use armed::pass;

#[cfg(any(test, feature = "crash-points"))]
mod armed {
    use super::{ORDERS, Point, TRACE};
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::{fs, io};

    /// What is ordered of whoever reaches a point.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Ordered {
        Nothing,
        End,
        Run(String),
    }

    /// Ends the process here, or runs a command, if that is ordered.
    pub(super) fn pass(point: Point) {
        if let Some(file) = std::env::var_os(TRACE) {
            trace(Path::new(&file), point).unwrap_or_else(|error| panic!("trace {point}: {error}"));
        }
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        // Of two threads that reach the same point only one takes the order.
        static TURN: Mutex<()> = Mutex::new(());
        let Some(file) = FILE.get_or_init(|| std::env::var_os(ORDERS).map(PathBuf::from)) else {
            return;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        match take(file, point) {
            Ok(Ordered::Nothing) => {}
            Ok(Ordered::End) => {
                eprintln!("crash point: {point}");
                end();
            }
            Ok(Ordered::Run(command)) => {
                let ended = Command::new("/bin/sh").args(["-c", &command]).status();
                eprintln!("crash point: {point}: {command}: {ended:?}");
            }
            // What is in the file is a test's; going on as if nothing were ordered would let it wait in vain.
            Err(error) => panic!("read the crash orders in {}: {error}", file.display()),
        }
        drop(turn);
    }

    fn trace(file: &Path, point: Point) -> io::Result<()> {
        let mut file = fs::File::options().append(true).create(true).open(file)?;
        file.write_all(format!("{point}\n").as_bytes())
    }

    /// Takes the first line away if it names this point; answers what it orders.
    pub(super) fn take(file: &Path, point: Point) -> io::Result<Ordered> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ordered::Nothing),
            text => text?,
        };
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let (name, command) = first.split_once(':').map_or((first, None), |(name, rest)| (name, Some(rest)));
        if name.trim() != point.to_string() {
            return Ok(Ordered::Nothing);
        }
        let new = file.with_extension("new");
        fs::write(&new, rest)?;
        fs::rename(&new, file)?;
        Ok(command.map_or(Ordered::End, |command| Ordered::Run(command.trim().to_owned())))
    }

    /// No destructor runs, nothing is flushed, no signal handler hears of it.
    fn end() -> ! {
        let ended = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        unreachable!("SIGKILL of this very process came back: {ended:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::armed::Ordered;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<String> = points().map(|point| point.to_string()).collect();
        assert_eq!(names.len(), 2 * Deed::ALL.len());
        assert!(names.contains("after detach disk"), "{names:?}");
    }

    #[test]
    fn orders_are_taken_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders");
        let point = |side, deed| Point { side, deed };
        let take = |point| armed::take(&file, point).unwrap();
        let (detached, stopped) =
            (point(Side::After, Deed::DetachDisk), point(Side::Before, Deed::StopSandbox));
        assert_eq!(take(detached), Ordered::Nothing, "without a file nothing is ordered");
        std::fs::write(&file, "after detach disk\nbefore stop sandbox: kill -9 1: now\n").unwrap();
        for not_yet in [stopped, point(Side::Before, Deed::DetachDisk)] {
            assert_eq!(take(not_yet), Ordered::Nothing, "{not_yet} is not the first");
        }
        assert_eq!(take(detached), Ordered::End);
        assert_eq!(take(detached), Ordered::Nothing, "each order is taken once");
        assert_eq!(take(stopped), Ordered::Run("kill -9 1: now".to_owned()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    }
}
