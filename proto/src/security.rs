//! What the processes of a container may do.

use crate::disk::access_from;
use crate::error::{At, InvalidMessage, Result};
use crate::v1;
use berth_model::{Capabilities, Capability, PrivilegeGain, Profile, Security};
use std::collections::BTreeSet;

pub(crate) fn security_from(wire: v1::Security) -> Result<Security> {
    Ok(Security {
        groups: wire.groups,
        capabilities: Capabilities {
            add: capabilities_from(&wire.add_capabilities).at("add_capabilities")?,
            drop: capabilities_from(&wire.drop_capabilities).at("drop_capabilities")?,
        },
        seccomp: profile_from(wire.seccomp).at("seccomp")?,
        apparmor: profile_from(wire.apparmor).at("apparmor")?,
        root: access_from(wire.root).at("root")?,
        gain: match wire.no_new_privileges {
            true => PrivilegeGain::Forbidden,
            false => PrivilegeGain::Allowed,
        },
    })
}

fn capabilities_from(names: &[String]) -> Result<BTreeSet<Capability>> {
    names.iter().map(|name| name.parse().map_err(|error| InvalidMessage::new("", error))).collect()
}

fn profile_from(wire: Option<v1::Profile>) -> Result<Profile> {
    match wire.and_then(|wire| wire.profile) {
        None => Ok(Profile::RuntimeDefault),
        Some(v1::profile::Profile::Unconfined(v1::profile::Unconfined {})) => Ok(Profile::Unconfined),
        Some(v1::profile::Profile::Localhost(name)) => {
            name.parse().map(Profile::Localhost).map_err(|error| InvalidMessage::new("", error))
        }
    }
}

impl From<&Security> for v1::Security {
    fn from(security: &Security) -> Self {
        let names = |set: &BTreeSet<Capability>| set.iter().map(ToString::to_string).collect();
        Self {
            groups: security.groups.clone(),
            add_capabilities: names(&security.capabilities.add),
            drop_capabilities: names(&security.capabilities.drop),
            seccomp: profile(&security.seccomp),
            apparmor: profile(&security.apparmor),
            root: v1::Access::from(security.root).into(),
            no_new_privileges: security.gain == PrivilegeGain::Forbidden,
        }
    }
}

fn profile(profile: &Profile) -> Option<v1::Profile> {
    use v1::profile::{Profile as Wire, Unconfined};
    let profile = match profile {
        Profile::RuntimeDefault => return None,
        Profile::Unconfined => Wire::Unconfined(Unconfined {}),
        Profile::Localhost(name) => Wire::Localhost(name.to_string()),
    };
    Some(v1::Profile { profile: Some(profile) })
}
