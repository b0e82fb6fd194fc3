//! Whose certificates still count.
//!
//! A node's certificates are revoked all at once, by a moment: those that begin earlier count no more, and whatever is
//! signed for the node later begins no earlier. So a renewal writes nothing down, and no list of certificates is kept.

use super::{Denied, NodeDenied, Tx};
use berth_model::NodeName;

/// Certificates tell the time in whole seconds (RFC 5280, 4.1.2.5).
const CERTIFICATE_TICK_MS: u64 = 1_000;

/// The certificate that a node has shown: whose it is is verified, whether it was revoked is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeCertificate {
    /// Whose.
    pub node: NodeName,
    /// When it begins, milliseconds after the epoch.
    pub begins_at_ms: u64,
}

impl Tx<'_> {
    /// Looks whether a node's certificate counts.
    ///
    /// # Errors
    /// When it does not, or the node has never joined.
    pub(crate) fn check_certificate(&mut self, shown: &NodeCertificate) -> Result<(), NodeDenied> {
        let node = &shown.node;
        let Some(record) = self.unrecorded().nodes.get_mut(node) else {
            return Err(NodeDenied::Unknown(node.clone()));
        };
        record.latest_certificate_ms = record.latest_certificate_ms.max(shown.begins_at_ms);
        match shown.begins_at_ms < record.certificates_from_ms {
            true => Err(NodeDenied::Revoked(node.clone())),
            false => Ok(()),
        }
    }

    /// When a node's certificates may begin at the earliest, milliseconds after the epoch; 0 for one that never joined.
    pub(crate) fn certificates_from_ms(&self, node: &NodeName) -> u64 {
        self.nodes.get(node).map_or(0, |record| record.certificates_from_ms)
    }

    /// Ends the trust in every certificate that a node has been given until now.
    ///
    /// # Errors
    /// When there is no such node.
    pub(crate) fn revoke_node(&mut self, node: &NodeName) -> Result<(), Denied> {
        let now_ms = self.now().wall_ms;
        let Some(record) = self.node_mut(node) else {
            return Err(Denied::NotFound(format!("there is no node {node}")));
        };
        // Certificates begin some seconds before they are signed, unless that was before the moment of an earlier
        // revocation, and unless our clock was set back since: so each moment lies after the last one, and after the
        // beginning of whatever the node has shown.
        let this_second = now_ms / CERTIFICATE_TICK_MS * CERTIFICATE_TICK_MS;
        let known = record.certificates_from_ms.max(record.latest_certificate_ms);
        record.certificates_from_ms = this_second.max(known + CERTIFICATE_TICK_MS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::clock::Moment;

    fn act<R>(state: &mut State, wall_ms: u64, change: impl FnOnce(&mut Tx<'_>) -> R) -> R {
        let mut tx = Tx::begin(state, Moment { wall_ms, mono_ms: 0 });
        let result = change(&mut tx);
        tx.finish();
        result
    }

    #[test]
    fn what_was_given_until_now_counts_no_more_and_what_is_given_then_counts() {
        let mut state = State::new(super::super::tests::settings());
        let node = NodeName::new("n1").unwrap();
        let check = |state: &mut State, begins_at_ms: u64, expected: Result<(), NodeDenied>| {
            let shown = NodeCertificate { node: node.clone(), begins_at_ms };
            assert_eq!(act(state, 0, |tx| tx.check_certificate(&shown)), expected, "{begins_at_ms}");
        };
        let revoked = || Err(NodeDenied::Revoked(node.clone()));
        check(&mut state, 5_000, Err(NodeDenied::Unknown(node.clone())));
        assert!(act(&mut state, 0, |tx| tx.revoke_node(&node)).is_err());
        act(&mut state, 0, |tx| tx.join(&node));
        check(&mut state, 5_000, Ok(()));
        act(&mut state, 5_400, |tx| tx.revoke_node(&node)).unwrap();
        // It has shown one that begins in this very second.
        check(&mut state, 5_000, revoked());
        check(&mut state, 6_000, Ok(()));
        // In the same second, and with a clock that was set back.
        for (now_ms, from_ms) in [(5_900, 7_000), (100, 8_000), (60_000, 60_000)] {
            act(&mut state, now_ms, |tx| tx.revoke_node(&node)).unwrap();
            assert_eq!(act(&mut state, 0, |tx| tx.certificates_from_ms(&node)), from_ms);
            check(&mut state, from_ms - 1_000, revoked());
            check(&mut state, from_ms, Ok(()));
        }
    }
}
