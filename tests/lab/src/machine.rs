//! What a guest's machine is like when it is started: other hardware and another kernel on the same disks.

use crate::image::Kernel;
use serde::{Deserialize, Serialize};

/// A machine; the default is what every guest is started with at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Which of the image's kernels it boots.
    pub kernel: Kernel,
    /// Its processors and memory nodes.
    pub topology: Topology,
    /// What becomes of its disks' writes.
    pub writes: Writes,
}

/// Processors and memory nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// CPUs 0-1 on memory node 0, CPUs 2-3 on memory node 1.
    #[default]
    Whole,
    /// CPU 3 is gone.
    WithoutCpu3,
    /// Memory node 1 is gone, and CPUs 2-3 with it. The memory that is left is as much as it was.
    WithoutNode1,
}

impl Topology {
    /// QEMU's `-smp`.
    pub(crate) fn processors(self) -> &'static str {
        match self {
            Self::Whole => "4,sockets=2,cores=2",
            Self::WithoutCpu3 => "3,sockets=3,cores=1",
            Self::WithoutNode1 => "2,sockets=1,cores=2",
        }
    }

    /// The CPUs of each memory node.
    pub(crate) fn nodes(self) -> &'static [&'static str] {
        match self {
            Self::Whole => &["0-1", "2-3"],
            Self::WithoutCpu3 => &["0-1", "2"],
            Self::WithoutNode1 => &["0-1"],
        }
    }
}

/// What becomes of the writes to a guest's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// They are on the disks, flushed or not, whatever ends the guest.
    #[default]
    Kept,
    /// They are in a log, and [`Guest::cut_power`](crate::Guest::cut_power) makes the disks of it.
    Logged,
}
