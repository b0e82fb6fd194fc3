//! Versions of the CNI specification.

use crate::error::{CniError, Code};
use serde::{Serialize, Serializer};
use std::fmt;

/// A version of the specification that the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SpecVersion {
    /// 0.3.0, the first with a list of `ips`.
    V0_3_0,
    /// 0.3.1, to which 0.3.0 was corrected.
    V0_3_1,
    /// 0.4.0, the first with CHECK.
    V0_4_0,
    /// 1.0.0, which dropped `version` from `ips`.
    V1_0_0,
    /// 1.1.0, the first with STATUS and GC.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, ascending.
    pub(crate) const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// Spoken where the other side did not say, or said what is not known here.
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    /// As it stands in `cniVersion`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads a configuration's `cniVersion`. An absent one means 0.1.0, by the reference implementation.
    pub(crate) fn of_config(text: Option<&str>) -> Result<Self, CniError> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or("0.1.0");
        Self::find(text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            let details = format!("the configuration has cniVersion {text:?}, berth-ipam speaks {known}");
            CniError::new(Code::IncompatibleVersion, "incompatible CNI version", details)
        })
    }

    /// Refuses `command` in a configuration older than the version that brought it.
    pub(crate) fn require(self, since: Self, command: &str) -> Result<(), CniError> {
        if self >= since {
            return Ok(());
        }
        let details = format!("{command} exists since {since}, the configuration has cniVersion {self}");
        Err(CniError::new(Code::IncompatibleVersion, "incompatible CNI version", details))
    }

    /// The version of that name.
    pub(crate) fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
