//! Order admission, and the node's next step, as pure functions.
//!
//! Two entry points. [`admit`] answers an order with accept, already done, or refuse, given what the ledger and the
//! host say. [`next_step`] says what one pod needs next, given its [`PodRecord`] and what was [`Observed`].
//!
//! The daemon's loop for one pod, after which nothing is left to decide there:
//! 1. observe; `step = next_step(record, observed)`; [`check`] it, independently of how it was found;
//! 2. store [`before`]`(record, observed, step)` durably, if it says something;
//! 3. do the step; store [`after`]`(record, step, effect)` durably, if it says something;
//! 4. at [`Step::Settled`] and [`Step::Refuse`] store what [`conclude`] says, outcome included; go to 1.
//!
//! Every step is idempotent, so a crash anywhere needs no replay: the loop simply begins again.
//!
//! Nothing here reads a clock, touches a file or knows an async runtime. Nothing here asks for an effect on something
//! live without naming the order that covers it ([`Cover::Order`]).
#![forbid(unsafe_code)]

mod admit;
mod check;
mod next;
mod observed;
mod phase;
mod record;
mod step;
mod transition;

pub use admit::{
    Accepted, Admission, Change, HostView, Known, LedgerView, ProfileView, QuotaView, admit, obstacle,
};
pub use check::{Violation, check};
pub use next::{is_ordered, next_step};
pub use observed::{
    Controls, DiskState, ImageState, Liveness, Observed, ObservedContainer, ObservedSandbox, Shutdown,
    SliceState, TaskState,
};
pub use phase::phase;
pub use record::{
    Charter, ContainerRecord, KeptDisk, Leaving, OpenOrder, PodLimits, PodRecord, Previous, Replaced,
    SharedPool,
};
pub use step::{Cover, Step, Wait};
pub use transition::{Concluded, Effect, after, before, booted, conclude, give_up};
