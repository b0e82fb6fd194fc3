//! Who held which address from when until when.

use berth_model::{PodId, PoolName};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One identity's time with one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenure {
    /// Where the address is from.
    pub pool: PoolName,
    /// Which.
    pub address: IpAddr,
    /// Whose it was.
    pub pod: PodId,
    /// Milliseconds after the epoch.
    pub assigned_at_ms: u64,
    /// Milliseconds after the epoch; none as long as it is assigned.
    pub released_at_ms: Option<u64>,
}

/// Two tenures, in the order of their beginning, that give one address to two owners at a time; none is as it must be.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the checker of tests, which must not be taught what to find")
)]
pub(crate) fn two_owners<'a>(tenures: impl Iterator<Item = &'a Tenure>) -> Option<(&'a Tenure, &'a Tenure)> {
    let mut last: BTreeMap<IpAddr, &Tenure> = BTreeMap::new();
    for tenure in tenures {
        if let Some(before) = last.insert(tenure.address, tenure)
            && before.released_at_ms.is_none_or(|released_at_ms| released_at_ms > tenure.assigned_at_ms)
        {
            return Some((before, tenure));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let tenure = |address: &str, pod: &str, assigned_at_ms, released_at_ms| Tenure {
            pool: PoolName::new("lan").unwrap(),
            address: address.parse().unwrap(),
            pod: PodId::new("shop", pod).unwrap(),
            assigned_at_ms,
            released_at_ms,
        };
        let check = |tenures: &[Tenure], expected: bool| {
            assert_eq!(two_owners(tenures.iter()).is_none(), expected, "{tenures:?}");
        };
        check(&[], true);
        check(&[tenure("10.0.0.1", "a", 1, None), tenure("10.0.0.2", "b", 1, None)], true);
        check(&[tenure("10.0.0.1", "a", 1, Some(2)), tenure("10.0.0.1", "b", 2, None)], true);
        check(&[tenure("10.0.0.1", "a", 1, None), tenure("10.0.0.1", "b", 2, None)], false);
        check(&[tenure("10.0.0.1", "a", 1, Some(3)), tenure("10.0.0.1", "b", 2, None)], false);
        check(&[tenure("10.0.0.1", "a", 1, None), tenure("10.0.0.1", "a", 2, None)], false);
    }
}
