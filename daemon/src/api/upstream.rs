//! What `berthctl doctor` says of the way to the control plane.

use crate::link::{IdentityError, LinkStatus, NodeIdentity};
use crate::node::{Check, Finding};
use crate::report::chain;

/// A certificate is renewed at half of its life. With less than this part of it left, renewals have failed for long.
const PART_OF_LIFE: u64 = 4;
const MS_PER_HOUR: u64 = 3_600_000;

/// The link, and the certificate that it lives by.
pub(super) fn upstream(
    link: &LinkStatus,
    identity: &Result<NodeIdentity, IdentityError>,
    now_ms: u64,
) -> Vec<Finding> {
    match identity {
        Ok(identity) => {
            vec![connection(link), certificate([identity.begins_at_ms, identity.expires_at_ms], now_ms)]
        }
        Err(error) => {
            let remedy = "berth-control token create --node NAME on the control plane, and here berthd join with that token, \
                          with --replace if it had joined before";
            vec![Finding::warning(Check::Certificate, chain(error), remedy)]
        }
    }
}

fn connection(link: &LinkStatus) -> Finding {
    match link.connected {
        true => Finding::ok(Check::ControlPlane, "connected"),
        false => Finding::warning(
            Check::ControlPlane,
            format!("not connected: {}", link.message),
            "see that `control` of /etc/berth/berthd.toml is its address, and that it runs; pods run on meanwhile",
        ),
    }
}

/// By when it begins and ends, milliseconds after the epoch.
fn certificate([begins_at_ms, expires_at_ms]: [u64; 2], now_ms: u64) -> Finding {
    let (life_ms, left_ms) =
        (expires_at_ms.saturating_sub(begins_at_ms), expires_at_ms.saturating_sub(now_ms));
    let found = format!("{} h left of {}", left_ms / MS_PER_HOUR, life_ms / MS_PER_HOUR);
    if left_ms == 0 {
        let remedy = "give this node another one: berthd join --replace, with a token made with --node";
        return Finding::error(Check::Certificate, "it has expired", remedy);
    }
    match left_ms < life_ms / PART_OF_LIFE {
        true => Finding::warning(
            Check::Certificate,
            found,
            "it should have been renewed long ago: journalctl -u berthd says why it is not",
        ),
        false => Finding::ok(Check::Certificate, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::PkiFiles;
    use crate::node::Level;

    #[test]
    fn a_certificate_is_renewed_well_before_its_end() {
        let hour = |hours: u64| hours * MS_PER_HOUR;
        let check = |now_ms: u64, level: Level, found: &str| {
            let finding = certificate([hour(100), hour(140)], now_ms);
            assert_eq!((finding.level, finding.found.as_str()), (level, found));
            assert_eq!(finding.remedy.is_empty(), level == Level::Ok);
        };
        check(hour(100), Level::Ok, "40 h left of 40");
        check(hour(130), Level::Ok, "10 h left of 40");
        check(hour(130) + 1, Level::Warning, "9 h left of 40");
        check(hour(140), Level::Error, "it has expired");
        check(hour(900), Level::Error, "it has expired");
    }

    #[test]
    fn who_has_not_joined_is_told_how_to() {
        let folder = tempfile::tempdir().unwrap();
        let identity = NodeIdentity::load(&PkiFiles::below(folder.path()));
        let link = LinkStatus { connected: false, message: "nobody to dial".to_owned() };
        let findings = upstream(&link, &identity, 0);
        assert!(findings.iter().all(|finding| finding.level == Level::Warning), "{findings:?}");
        assert!(findings[0].remedy.contains("berthd join"), "{findings:?}");
        assert!(connection(&link).found.contains("nobody to dial"));
    }
}
