//! What containers have of their host.

use crate::disk::access_from;
use crate::error::{At, Result, each};
use crate::v1;
use berth_model::{HostPath, SharedPaths};
use std::collections::HashMap;

pub(crate) fn host_paths_from(wire: Vec<v1::HostPath>) -> Result<Vec<HostPath>> {
    each(wire, "host_paths", |wire| {
        Ok(HostPath { source: wire.source, path: wire.path, access: access_from(wire.access).at("access")? })
    })
}

impl From<&HostPath> for v1::HostPath {
    fn from(shared: &HostPath) -> Self {
        Self {
            source: shared.source.clone(),
            path: shared.path.clone(),
            access: v1::Access::from(shared.access).into(),
        }
    }
}

/// What a node says that it shares. What it shares for a purpose that is not known here is not counted on.
pub fn shared_from(facts: &v1::NodeFacts) -> SharedPaths {
    let known =
        facts.host_paths.iter().filter_map(|(path, access)| Some((path.clone(), access_from(*access).ok()?)));
    known.collect()
}

/// What a node shares, for its facts.
pub fn shared_to_wire(shared: &SharedPaths) -> HashMap<String, i32> {
    shared.iter().map(|(path, access)| (path.clone(), v1::Access::from(*access).into())).collect()
}
