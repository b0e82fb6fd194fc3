//! The same limits for a container that is about to be made through CRI.
//!
//! What is here holds from the container's first instruction. The runtime writes it to the files, and, with the
//! systemd driver, tells most of it to systemd as properties of the container's scope.

use crate::{ControlWrite, Ordered};
use std::collections::BTreeMap;

/// What to put into CRI's `linux.resources`. Every other field of it is to stay at zero, else the runtime derives
/// values of its own: a weight from shares, a swap limit from memory plus swap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeResources {
    /// For `cpuset_cpus`; empty means unchanged.
    pub cpuset_cpus: String,
    /// For `cpuset_mems`; empty means unchanged.
    pub cpuset_mems: String,
    /// For `unified`: file to text.
    ///
    /// `pids.max` is always among them: a scope for which it is not given gets systemd's own default, 15 % of what the
    /// kernel can number, and nobody ordered that.
    /// `io.max` and `io.weight` never are: runc before 1.2 writes all lines of a file at once, and the kernel takes
    /// only one. They are written after the start; until then the pod's own limits hold.
    pub unified: BTreeMap<String, String>,
}

impl RuntimeResources {
    /// Picks what the runtime is told. `writes` is what [`plan_writes`](crate::plan_writes) made of the same order.
    pub fn new(ordered: &Ordered<'_>, writes: &[ControlWrite]) -> Self {
        let mut unified: BTreeMap<String, String> = writes
            .iter()
            .filter(|write| write.key.is_none() && !write.file.starts_with("cpuset."))
            .map(|write| (write.file.clone(), write.value.clone()))
            .collect();
        unified.entry("pids.max".to_owned()).or_insert_with(|| "max".to_owned());
        Self {
            cpuset_cpus: ordered.cpus.map(ToString::to_string).unwrap_or_default(),
            cpuset_mems: ordered.mems.map(ToString::to_string).unwrap_or_default(),
            unified,
        }
    }
}
