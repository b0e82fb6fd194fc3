//! Judging a history of addresses: no address ever has two owners at one time.

use berth_model::PodId;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One use of an address: by whom, from when until when, both on one clock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressUse {
    /// Which address.
    pub address: IpAddr,
    /// From this moment, milliseconds.
    pub from_ms: u64,
    /// Until just before this moment, milliseconds; none while it lasts.
    pub until_ms: Option<u64>,
    /// The identity. Its placements and interfaces do not matter: the address is the identity's.
    pub owner: PodId,
}

/// Two identities that used one address at one time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "address {} was {}'s from {} ms on, while {} had had it since {} ms",
    later.address, later.owner, later.from_ms, earlier.owner, earlier.from_ms
)]
pub struct TwoOwners {
    /// Who had it.
    pub earlier: AddressUse,
    /// Who got it as well.
    pub later: AddressUse,
}

/// Every use that began while another identity's lasted, by address and time. An empty list is a clean history.
/// Uses may be given in any order.
pub fn two_owners(history: impl IntoIterator<Item = AddressUse>) -> Vec<TwoOwners> {
    let mut uses: Vec<AddressUse> = history.into_iter().filter(|one| end(one) > one.from_ms).collect();
    uses.sort();
    let mut found = Vec::new();
    // Of each owner of the address at hand the use that lasts longest: what it overlaps not, its others overlap not.
    let mut longest: BTreeMap<PodId, AddressUse> = BTreeMap::new();
    for later in uses {
        longest.retain(|_, earlier| earlier.address == later.address && end(earlier) > later.from_ms);
        let others = longest.values().filter(|earlier| earlier.owner != later.owner);
        found.extend(others.map(|earlier| TwoOwners { earlier: earlier.clone(), later: later.clone() }));
        let own = longest.entry(later.owner.clone()).or_insert_with(|| later.clone());
        if end(own) < end(&later) {
            *own = later;
        }
    }
    found
}

fn end(one: &AddressUse) -> u64 {
    one.until_ms.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(address: u8, owner: u8, from_ms: u64, until_ms: Option<u64>) -> AddressUse {
        let owner = PodId::new("shop", format!("p{owner}")).unwrap();
        AddressUse { address: IpAddr::from([10, 0, 0, address]), from_ms, until_ms, owner }
    }

    #[test]
    fn histories() {
        let check = |history: Vec<AddressUse>, expected: &[&str]| {
            let found: Vec<String> = two_owners(history.clone()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{history:?}");
        };
        check(vec![], &[]);
        check(vec![one(1, 1, 0, None), one(2, 2, 0, None)], &[]);
        check(vec![one(1, 1, 0, Some(5)), one(1, 2, 5, None)], &[]);
        check(vec![one(1, 1, 0, None), one(1, 1, 3, None)], &[]);
        check(
            vec![one(1, 2, 4, None), one(1, 1, 0, Some(5))],
            &["address 10.0.0.1 was shop/p2's from 4 ms on, while shop/p1 had had it since 0 ms"],
        );
        // The long use is not forgotten for the short one of the same owner.
        check(
            vec![one(1, 1, 0, Some(9)), one(1, 1, 1, Some(2)), one(1, 2, 5, Some(6))],
            &["address 10.0.0.1 was shop/p2's from 5 ms on, while shop/p1 had had it since 0 ms"],
        );
        // Nobody had it for no time at all.
        check(vec![one(1, 1, 0, None), one(1, 2, 3, Some(3))], &[]);
    }

    proptest! {
        #[test]
        fn it_finds_trouble_exactly_when_two_uses_overlap(
            raw in prop::collection::vec((0..3u8, 0..3u8, 0..20u64, prop::option::of(0..20u64)), 0..12)
        ) {
            let uses: Vec<_> = raw.into_iter().map(|(address, owner, from, until)| one(address, owner, from, until)).collect();
            let overlap = |a: &AddressUse, b: &AddressUse| {
                a.address == b.address && a.owner != b.owner && a.from_ms.max(b.from_ms) < end(a).min(end(b))
            };
            let any = uses.iter().any(|a| uses.iter().any(|b| overlap(a, b)));
            prop_assert_eq!(!two_owners(uses).is_empty(), any);
        }
    }
}
