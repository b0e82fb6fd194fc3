//! Order admission, and the node's next step, as pure functions.
//!
//! Two entry points. [`admit`] answers an order with accept, already done, or refuse, given what the ledger and the
//! host say. [`next_step`] says what one pod needs next, given its [`PodRecord`] and what was [`Observed`]; the daemon
//! does that one thing, looks again, and asks again, so that a crash needs no replay.
//!
//! Nothing here reads a clock, touches a file or knows an async runtime. Nothing here asks for an effect on something
//! live without naming the order that covers it ([`Cover::Order`]).
#![forbid(unsafe_code)]

mod admit;
mod next;
mod observed;
mod record;
mod step;

pub use admit::{Admission, Change, HostView, Known, LedgerView, admit};
pub use next::next_step;
pub use observed::{
    Controls, ImageState, Liveness, Observed, ObservedContainer, ObservedSandbox, SliceState, TaskState,
};
pub use record::{Charter, ContainerRecord, KeptDisk, Leaving, OpenOrder, PodRecord, SharedPool, SystemDisk};
pub use step::{Cover, Step, Wait};
