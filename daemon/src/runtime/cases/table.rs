//! The table: what is done, and what comes of it.
//!
//! A look says what is there: `app 2 created dead on disk 1` is the container of attempt 2, created, proven dead, naming
//! the disk that was made for attempt 1; `disk 1 started 2` is that disk, on which two containers have been started.

use super::Act;
use super::Act::{
    Adopt, Amend, Create, Detach, Exit, HasUlimits, Look, LoseRecord, PowerCut, Release, Remove,
    RemoveSandbox, RemoveSlice, RestartRuntime, Sandbox, Slice, Start, Stop, StopSandbox,
};
use super::By::{Charter, Order};

/// One claim.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is claimed.
    pub name: &'static str,
    /// What is done once attempt 1 of container `app` runs in sandbox 1, and the answer to each.
    pub steps: &'static [(Act, &'static str)],
}

/// Nothing of that id was ever there.
const UNKNOWN: u32 = 99;
const OK: &str = "ok";
/// Not now; at another time perhaps.
const NOT_NOW: &str = "transient";
/// Either: runtimes differ, and nothing leans on it.
pub(super) const EITHER: &str = "ok or transient";
/// Never.
const NEVER: &str = "permanent";

const SECOND: Act = Create { sandbox: 1, attempt: 2 };
const HAND_ON: Act = Adopt { from: Some(1), to: 2, disk: 1 };
const TAKE_OFF: Act = Detach { from: 1, disk: 1 };
/// The disk of attempt 1, which nobody names, goes to attempt 2.
const PICK_UP: Act = Adopt { from: None, to: 2, disk: 1 };

const fn remove(attempt: u32) -> Act {
    Remove(Charter, attempt)
}

/// All claims that the tests of crashes lean on.
pub const CASES: &[Case] = &[
    Case {
        name: "removing a container removes the disk that it names",
        steps: &[
            (Look, "slice; sandbox 1 ready live; app 1 running live on disk 1; disk 1 started 1"),
            (Exit(1), OK),
            (Look, "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 1; disk 1 started 1"),
            (remove(1), OK),
            (Look, "slice; sandbox 1 ready live"),
            (remove(1), OK),
        ],
    },
    Case {
        name: "a disk that was handed on outlives the container that it was made for",
        steps: &[
            (Exit(1), OK),
            (SECOND, OK),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 1; app 2 created dead on disk 2; \
                 disk 1 started 1; disk 2 started 0",
            ),
            (HAND_ON, OK),
            (HAND_ON, OK),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 2; app 2 created dead on disk 1; \
                 disk 1 started 1; disk 2 started 0",
            ),
            (remove(1), OK),
            (Start(2), OK),
            (Look, "slice; sandbox 1 ready live; app 2 running live on disk 1; disk 1 started 2"),
        ],
    },
    Case {
        name: "what is amended between making and starting is what the program gets",
        steps: &[
            (HasUlimits(1), "no"),
            (Amend(1), OK),
            (HasUlimits(1), "no"),
            (SECOND, OK),
            (Amend(2), OK),
            (Amend(2), OK),
            (Start(2), OK),
            (HasUlimits(2), "yes"),
        ],
    },
    Case {
        name: "a disk that was taken off is nobody's, and stays until it is picked up or released",
        steps: &[
            (Exit(1), OK),
            (Release(1), NOT_NOW),
            (TAKE_OFF, OK),
            (TAKE_OFF, OK),
            (Look, "slice; sandbox 1 ready live; app 1 exited 3 dead on no disk; disk 1 started 1"),
            (remove(1), OK),
            (SECOND, OK),
            (PICK_UP, OK),
            (PICK_UP, OK),
            (Look, "slice; sandbox 1 ready live; app 2 created dead on disk 1; disk 1 started 1"),
            (Detach { from: 2, disk: 1 }, OK),
            (Release(1), OK),
            (Release(1), OK),
            (Look, "slice; sandbox 1 ready live; app 2 created dead on no disk"),
        ],
    },
    Case {
        // As after a crash between the halves of handing on.
        name: "who picks a disk up gives up its own, and who names that one can still be removed",
        steps: &[
            (Exit(1), OK),
            (SECOND, OK),
            (HAND_ON, OK),
            (Detach { from: 2, disk: 1 }, OK),
            (PICK_UP, OK),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 2; app 2 created dead on disk 1; \
                 disk 1 started 1",
            ),
            (remove(1), OK),
            (Start(2), OK),
            (Look, "slice; sandbox 1 ready live; app 2 running live on disk 1; disk 1 started 2"),
        ],
    },
    Case {
        name: "what has ended never starts again, and what has started takes no disk",
        steps: &[
            (Exit(1), OK),
            (Start(1), NOT_NOW),
            (SECOND, OK),
            (Create { sandbox: 1, attempt: 3 }, OK),
            (HAND_ON, OK),
            (Adopt { from: Some(1), to: 3, disk: 1 }, NEVER),
            (Start(2), OK),
            (Start(2), NOT_NOW),
            (PICK_UP, NEVER),
            (Start(UNKNOWN), NOT_NOW),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 2; app 2 running live on disk 1; \
                 app 3 created dead on disk 3; disk 1 started 2; disk 2 started 0; disk 3 started 0",
            ),
        ],
    },
    Case {
        name: "making the same again makes nothing, and ending what is not there succeeds",
        steps: &[
            (Sandbox(1), OK),
            (Create { sandbox: 1, attempt: 1 }, OK),
            (Stop(UNKNOWN), OK),
            (Remove(Order, UNKNOWN), OK),
            (StopSandbox(Order, UNKNOWN), OK),
            (RemoveSandbox(Order, UNKNOWN), OK),
            (Look, "slice; sandbox 1 ready live; app 1 running live on disk 1; disk 1 started 1"),
        ],
    },
    Case {
        name: "the charter ends nothing that lives",
        steps: &[
            (remove(1), NOT_NOW),
            (StopSandbox(Charter, 1), NOT_NOW),
            (RemoveSandbox(Charter, 1), NOT_NOW),
            (RemoveSlice(Charter), NEVER),
            (Look, "slice; sandbox 1 ready live; app 1 running live on disk 1; disk 1 started 1"),
            (Stop(1), OK),
            (Look, "slice; sandbox 1 ready live; app 1 exited 143 dead on disk 1; disk 1 started 1"),
        ],
    },
    Case {
        name: "stopping a sandbox kills what it holds, and removing it removes the disks",
        steps: &[
            (StopSandbox(Order, 1), OK),
            (Look, "slice; sandbox 1 ended dead; app 1 exited 137 dead on disk 1; disk 1 started 1"),
            // containerd 2 makes it, earlier ones do not.
            (SECOND, EITHER),
            (Start(2), NOT_NOW),
            (StopSandbox(Charter, 1), OK),
            (RemoveSandbox(Order, 1), OK),
            (Look, "slice"),
        ],
    },
    Case {
        name: "an order removes what lives",
        steps: &[
            (SECOND, OK),
            (Remove(Order, 1), OK),
            (Look, "slice; sandbox 1 ready live; app 2 created dead on disk 2; disk 2 started 0"),
            (Start(2), OK),
            (RemoveSlice(Order), OK),
            (Look, "sandbox 1 ended dead; app 2 exited 143 dead on disk 2; disk 2 started 1"),
        ],
    },
    Case {
        name: "the runtime's restart changes nothing",
        steps: &[
            (SECOND, OK),
            (RestartRuntime, OK),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 running live on disk 1; app 2 created dead on disk 2; \
                 disk 1 started 1; disk 2 started 0",
            ),
            (Exit(1), OK),
            (HAND_ON, OK),
            (Amend(2), OK),
            (RestartRuntime, OK),
            (
                Look,
                "slice; sandbox 1 ready live; app 1 exited 3 dead on disk 2; app 2 created dead on disk 1; \
                 disk 1 started 1; disk 2 started 0",
            ),
            (Start(2), OK),
            (HasUlimits(2), "yes"),
        ],
    },
    Case {
        name: "what CRI has lost is there all the same",
        steps: &[
            (LoseRecord(1), OK),
            (Look, "slice; sandbox 1 ready live; app 1 running live on disk 1; disk 1 started 1"),
            (Stop(1), OK),
            (Look, "slice; sandbox 1 ready live; app 1 interrupted dead on disk 1; disk 1 started 1"),
            (Start(1), NOT_NOW),
            (SECOND, OK),
            (HAND_ON, OK),
            (remove(1), OK),
            (Look, "slice; sandbox 1 ready live; app 2 created dead on disk 1; disk 1 started 1"),
        ],
    },
    Case {
        name: "a power cut ends what runs and keeps every disk, and a sandbox is replaced after it",
        steps: &[
            (SECOND, OK),
            (PowerCut, OK),
            (
                Look,
                "sandbox 1 ended dead; app 1 interrupted dead on disk 1; app 2 created dead on disk 2; \
                 disk 1 started 1; disk 2 started 0",
            ),
            (Start(2), NOT_NOW),
            (StopSandbox(Charter, 1), OK),
            (StopSandbox(Charter, 1), OK),
            (Slice, OK),
            (Sandbox(2), OK),
            (Create { sandbox: 2, attempt: 3 }, OK),
            (Adopt { from: Some(1), to: 3, disk: 1 }, OK),
            (Start(3), OK),
            (remove(1), OK),
            (remove(2), OK),
            (RemoveSandbox(Charter, 1), OK),
            (Look, "slice; sandbox 2 ready live; app 3 running live on disk 1; disk 1 started 2"),
        ],
    },
];
