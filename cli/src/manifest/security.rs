//! A container's `security`.

use super::scalar::{Cap, LocalProfile, Whole32};
use berth_model::{Access, Capabilities, PrivilegeGain, Profile, Security};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawSecurity {
    groups: Vec<Whole32>,
    capabilities: RawCapabilities,
    seccomp: ProfileField,
    apparmor: ProfileField,
    read_only_root: bool,
    no_new_privileges: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCapabilities {
    add: Vec<Cap>,
    drop: Vec<Cap>,
}

/// What a container's processes may do.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawSecurity")]
pub(super) struct SecurityField(pub(super) Security);

impl From<RawSecurity> for SecurityField {
    fn from(raw: RawSecurity) -> Self {
        let set = |names: Vec<Cap>| names.into_iter().map(|name| name.0).collect();
        Self(Security {
            groups: raw.groups.into_iter().map(|group| group.0).collect(),
            capabilities: Capabilities { add: set(raw.capabilities.add), drop: set(raw.capabilities.drop) },
            seccomp: raw.seccomp.0,
            apparmor: raw.apparmor.0,
            root: if raw.read_only_root { Access::ReadOnly } else { Access::ReadWrite },
            gain: match raw.no_new_privileges {
                true => PrivilegeGain::Forbidden,
                false => PrivilegeGain::Allowed,
            },
        })
    }
}

/// `RuntimeDefault`, `Unconfined`, or `{localhost: NAME}`.
#[derive(Debug, Default)]
struct ProfileField(Profile);

impl<'de> Deserialize<'de> for ProfileField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ProfileVisitor).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLocalhost {
    localhost: LocalProfile,
}

struct ProfileVisitor;

impl<'de> Visitor<'de> for ProfileVisitor {
    type Value = Profile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeDefault, Unconfined, or {localhost: NAME} for a profile that is on the node")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Profile, E> {
        match name {
            "RuntimeDefault" => Ok(Profile::RuntimeDefault),
            "Unconfined" => Ok(Profile::Unconfined),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Profile, A::Error> {
        let raw = RawLocalhost::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Profile::Localhost(raw.localhost.0))
    }
}
