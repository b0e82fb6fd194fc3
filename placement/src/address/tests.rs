use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn address(text: &str) -> Option<IpAddr> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

fn range(network: &str, first: &str, last: &str, gateway: &str) -> Result<AddressRange, InvalidRange> {
    AddressRange::new(network.parse().unwrap(), address(first), address(last), address(gateway))
}

fn pod(number: usize) -> PodId {
    PodId::new("shop", format!("web-{number}")).unwrap()
}

#[test]
fn ranges() {
    let check = |[network, first, last, gateway]: [&str; 4], expected: &str| {
        let said = match range(network, first, last, gateway) {
            Ok(range) => format!("{} to {}, {}", range.first(), range.last(), range.size()),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected, "{network} {first} {last} {gateway}");
    };
    check(["10.0.0.0/24", "", "", ""], "10.0.0.1 to 10.0.0.254, 254");
    check(["10.0.0.0/24", "", "", "10.0.0.1"], "10.0.0.1 to 10.0.0.254, 253");
    check(["10.0.0.0/24", "10.0.0.10", "10.0.0.19", "10.0.0.1"], "10.0.0.10 to 10.0.0.19, 10");
    check(["10.0.0.4/31", "", "", ""], "10.0.0.4 to 10.0.0.5, 2");
    check(["10.0.0.4/32", "", "", ""], "10.0.0.4 to 10.0.0.4, 1");
    check(["2001:db8::/126", "", "", ""], "2001:db8::1 to 2001:db8::3, 3");
    check(
        ["2001:db8::/32", "", "", ""],
        "2001:db8::1 to 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff, 18446744073709551615",
    );
    check(
        ["10.0.0.0/24", "10.0.1.1", "", ""],
        "first address 10.0.1.1 is not one of the hosts of network 10.0.0.0/24, 10.0.0.1 to 10.0.0.254",
    );
    check(
        ["10.0.0.0/24", "", "10.0.0.255", ""],
        "last address 10.0.0.255 is not one of the hosts of network 10.0.0.0/24, 10.0.0.1 to 10.0.0.254",
    );
    check(
        ["10.0.0.0/24", "", "", "2001:db8::1"],
        "gateway address 2001:db8::1 is not one of the hosts of network 10.0.0.0/24, 10.0.0.1 to 10.0.0.254",
    );
    check(
        ["10.0.0.0/24", "10.0.0.9", "10.0.0.8", ""],
        "first address 10.0.0.9 is above last address 10.0.0.8",
    );
    check(
        ["10.0.0.0/24", "10.0.0.1", "10.0.0.1", "10.0.0.1"],
        "range 10.0.0.1 to 10.0.0.1 holds the gateway only",
    );
}

#[test]
fn one_address_for_life() {
    let mut pool = AddressPool::new(range("10.0.0.0/29", "", "", "10.0.0.1").unwrap(), None);
    let first = pool.assign(&pod(0)).unwrap();
    assert_eq!(first.to_string(), "10.0.0.2");
    assert_eq!(pool.assign(&pod(0)).unwrap(), first);
    assert_ne!(pool.assign(&pod(1)).unwrap(), first);
    assert_eq!(pool.release(&pod(0)), Some(first));
    assert_eq!(pool.release(&pod(0)), None);
    // It rests until the search has gone round.
    for number in 2..5 {
        assert_ne!(pool.assign(&pod(number)).unwrap(), first);
    }
    assert_eq!(pool.assign(&pod(5)).unwrap(), first);
    let error = pool.assign(&pod(6)).unwrap_err().to_string();
    assert!(error.starts_with("all 5 addresses of 10.0.0.1 to 10.0.0.6"), "{error}");
}

#[test]
fn where_the_search_goes_on_survives() {
    let range = range("10.0.0.0/24", "", "", "").unwrap();
    let mut pool = AddressPool::new(range, None);
    let first = pool.assign(&pod(0)).unwrap();
    pool.release(&pod(0));
    let mut again = AddressPool::new(range, Some(pool.next()));
    assert_ne!(again.assign(&pod(1)).unwrap(), first);
}

#[test]
fn a_false_record_is_noticed() {
    let mut pool = AddressPool::new(range("10.0.0.0/29", "", "", "10.0.0.1").unwrap(), None);
    pool.restore(&pod(0), "10.0.0.3".parse().unwrap()).unwrap();
    pool.restore(&pod(0), "10.0.0.3".parse().unwrap()).unwrap();
    let mut check = |number, address: &str, expected: &str| {
        let error = pool.restore(&pod(number), address.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(1, "10.0.0.3", "address 10.0.0.3 is assigned to shop/web-0");
    check(0, "10.0.0.4", "pod shop/web-0 holds address 10.0.0.3 already");
    check(1, "10.0.0.1", "address 10.0.0.1 is not assigned from this pool");
    check(1, "10.0.0.7", "address 10.0.0.7 is not assigned from this pool");
}

proptest! {
    #[test]
    fn never_two_owners_and_never_outside(
        prefix in 26u8..=31,
        steps in prop::collection::vec((0usize..80, any::<bool>()), 1..300),
    ) {
        let network: Cidr = format!("10.1.2.128/{prefix}").parse().unwrap();
        let gateway = (prefix < 31).then(|| "10.1.2.129".parse().unwrap());
        let range = AddressRange::new(network, None, None, gateway).unwrap();
        let mut pool = AddressPool::new(range, None);
        for (number, release) in steps {
            if release {
                pool.release(&pod(number));
                continue;
            }
            let before = pool.held_by(&pod(number));
            match pool.assign(&pod(number)) {
                Ok(address) => prop_assert!(before.is_none_or(|before| before == address)),
                Err(error) => prop_assert_eq!(error.size, pool.assignments().len() as u64),
            }
            let held: BTreeSet<IpAddr> = pool.assignments().map(|(_, address)| address).collect();
            prop_assert_eq!(held.len(), pool.assignments().len());
            let broadcast: IpAddr = to_address(to_number(network.address()) | ((1 << (32 - prefix)) - 1), true);
            for address in held {
                prop_assert!(network.contains(address));
                prop_assert_ne!(Some(address), gateway);
                prop_assert!(prefix == 31 || (address != network.address() && address != broadcast));
            }
        }
    }
}
