//! What the fake runtime claims about the real one, as one table of cases that both are held to.
//!
//! [`CASES`] is the table; a [`Player`] plays cases on a [`Ground`], which is a runtime and the hands to do to it what
//! nobody orders: programs that end, a runtime that restarts, a power cut. The unit tests play all on the fake;
//! `examples/runtime_cases.rs` plays all on the host that it is started on, which must be one that can be spoilt.

mod clerk;
#[cfg(test)]
mod on_fake;
mod play;
mod real;
mod table;

pub use clerk::Clerk;
pub use play::{Difference, Player};
pub use real::Host;
pub use table::{CASES, Case};

use super::{Runtime, fake};
use berth_model::{ImageName, PodSpec, Rlimit, Ulimit};
use std::future::Future;
use std::time::Duration;

/// Says on its system disk that it was started, and ends with 3 when it is asked to.
const PROGRAM: &str =
    "echo start >> /starts; trap 'exit 3' USR1; trap 'exit 143' TERM; while :; do sleep 0.1; done";
/// What no runtime has by itself.
const ULIMIT: Ulimit = Ulimit { rlimit: Rlimit::Nofile, soft: 1111, hard: 2222 };

/// The pod of the cases: one container of this image, which has a shell and its tools.
pub fn spec(image: &ImageName) -> PodSpec {
    let mut spec = fake::spec("web");
    let container = &mut spec.containers[0];
    container.image = image.clone();
    container.command = ["sh", "-c", PROGRAM].map(str::to_owned).to_vec();
    container.ulimits = vec![ULIMIT];
    spec
}

/// What a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Makes the pod's slice.
    Slice,
    /// Makes the sandbox of this attempt.
    Sandbox(u32),
    /// Makes the container of this attempt in a sandbox.
    Create {
        /// The sandbox's attempt.
        sandbox: u32,
        /// The container's.
        attempt: u32,
    },
    /// Hands a disk on.
    Adopt {
        /// Who has it, if anybody does.
        from: Option<u32>,
        /// Who gets it.
        to: u32,
        /// The attempt that it was made for.
        disk: u32,
    },
    /// Takes a disk off its holder.
    Detach {
        /// Who has it.
        from: u32,
        /// The attempt that it was made for.
        disk: u32,
    },
    /// Writes into a created container's spec what CRI cannot say: ulimits.
    Amend(u32),
    /// Starts a container.
    Start(u32),
    /// Stops a container, by order.
    Stop(u32),
    /// Removes a container.
    Remove(By, u32),
    /// Stops a sandbox.
    StopSandbox(By, u32),
    /// Removes a sandbox.
    RemoveSandbox(By, u32),
    /// Removes the slice.
    RemoveSlice(By),
    /// Releases the disk that was made for this attempt.
    Release(u32),
    /// A container's program ends by itself, with code 3.
    Exit(u32),
    /// CRI loses a container's record; the runtime beneath has it.
    LoseRecord(u32),
    /// The runtime is restarted, and nothing else.
    RestartRuntime,
    /// Everything that runs ends with the host, which comes back.
    PowerCut,
    /// Asks whether a running container's program has the ulimits of its spec.
    HasUlimits(u32),
    /// Looks at the pod.
    Look,
}

/// What covers an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An order.
    Order,
    /// The charter, which covers the dead.
    Charter,
}

/// A runtime, and what happens to it.
pub trait Ground: Sync {
    /// Which runtime.
    type Runtime: Runtime;

    /// The runtime.
    fn runtime(&self) -> &Self::Runtime;

    /// How long what has happened may take to be seen.
    fn patience(&self) -> Duration;

    /// How many containers have been started on this disk; none if it is gone.
    fn starts(&self, key: &str) -> impl Future<Output = Option<usize>> + Send;

    /// Whether the container's program has the ulimits of [`spec`].
    fn has_ulimits(&self, id: &str) -> impl Future<Output = bool> + Send;

    /// What is so and must never be, whatever the case.
    fn faults(&self) -> impl Future<Output = Vec<String>> + Send;

    /// The container's program ends with code 3.
    fn exit(&self, id: &str) -> impl Future<Output = ()> + Send;

    /// CRI loses the record.
    fn lose_record(&self, id: &str) -> impl Future<Output = ()> + Send;

    /// The runtime restarts.
    fn restart_runtime(&self) -> impl Future<Output = ()> + Send;

    /// The host loses its power, and comes back.
    fn power_cut(&self) -> impl Future<Output = ()> + Send;
}
