//! The plugin for addresses that ours is held against: `host-local`, the one of the CNI project.

use crate::prereqs::{self, Need};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

const NEEDS: &[Need] = &[("containernetworking-plugins", "has the plugin that ours is held against")];
const HOST_LOCAL: &str = "/usr/lib/cni/host-local";

/// Where it is, once its package is installed.
pub(crate) fn host_local() -> Result<PathBuf> {
    prereqs::ensure(NEEDS)?;
    ensure!(Path::new(HOST_LOCAL).exists(), "package containernetworking-plugins has no {HOST_LOCAL}");
    Ok(PathBuf::from(HOST_LOCAL))
}
