//! Profiles and capabilities, as CRI says them.

use berth_model::{Capabilities, Capability, Profile, ProfileName, SECCOMP_FOLDER};
use k8s_cri::v1::{Capability as CriCapabilities, SecurityProfile, security_profile::ProfileType};
use std::collections::BTreeSet;

/// Without any word containerd confines by its own profile where the kernel has AppArmor; asked for that by its name, it
/// fails where the kernel has none.
pub(super) fn apparmor(of: &Profile) -> Option<SecurityProfile> {
    match of {
        Profile::RuntimeDefault => None,
        Profile::Unconfined | Profile::Localhost(_) => Some(profile(of, ToString::to_string)),
    }
}

/// Without any word containerd gives no seccomp profile at all, so every one is said.
pub(super) fn profile(profile: &Profile, local: impl Fn(&ProfileName) -> String) -> SecurityProfile {
    let (profile_type, localhost_ref) = match profile {
        Profile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Profile::Unconfined => (ProfileType::Unconfined, String::new()),
        Profile::Localhost(name) => (ProfileType::Localhost, local(name)),
    };
    SecurityProfile { profile_type: profile_type.into(), localhost_ref }
}

/// Where a seccomp profile is on the host.
pub(super) fn seccomp_file(name: &ProfileName) -> String {
    format!("{SECCOMP_FOLDER}/{name}")
}

pub(super) fn capabilities(changes: &Capabilities) -> CriCapabilities {
    let names = |set: &BTreeSet<Capability>| set.iter().map(ToString::to_string).collect();
    CriCapabilities {
        add_capabilities: names(&changes.add),
        drop_capabilities: names(&changes.drop),
        ..CriCapabilities::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apparmors_own_is_not_said() {
        assert_eq!(apparmor(&Profile::RuntimeDefault), None);
        let named = apparmor(&Profile::Localhost("web".parse().unwrap())).unwrap();
        assert_eq!((named.profile_type(), named.localhost_ref.as_str()), (ProfileType::Localhost, "web"));
    }

    #[test]
    fn a_seccomp_profile_is_always_said() {
        let local = Profile::Localhost("audit.json".parse().unwrap());
        for (of, kind, place) in [
            (&Profile::RuntimeDefault, ProfileType::RuntimeDefault, ""),
            (&Profile::Unconfined, ProfileType::Unconfined, ""),
            (&local, ProfileType::Localhost, "/etc/berth/seccomp/audit.json"),
        ] {
            let said = profile(of, seccomp_file);
            assert_eq!((said.profile_type(), said.localhost_ref.as_str()), (kind, place), "{of:?}");
        }
    }
}
