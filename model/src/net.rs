//! Addresses as they are assigned and granted.

use crate::PoolName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why an address with prefix was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// Not of the form address/prefix.
    #[error("{0:?} is no address with a prefix length, such as 10.0.0.7/24")]
    NotACidr(String),
    /// The prefix is longer than an address.
    #[error("prefix length of {0:?} is above {1}")]
    PrefixTooLong(String, u8),
}

/// An address with its prefix length, such as `10.0.0.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// Joins the two.
    ///
    /// # Errors
    /// When the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, InvalidCidr> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > longest {
            return Err(InvalidCidr::PrefixTooLong(format!("{address}/{prefix_len}"), longest));
        }
        Ok(Self { address, prefix_len })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the network's prefix, in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `other` lies in this network.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix_len);
                let network = |address: u32| address.checked_shr(shift).unwrap_or(0);
                network(ours.to_bits()) == network(theirs.to_bits())
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix_len);
                let network = |address: u128| address.checked_shr(shift).unwrap_or(0);
                network(ours.to_bits()) == network(theirs.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let not_a_cidr = || InvalidCidr::NotACidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(not_a_cidr)?;
        let address = address.parse().map_err(|_| not_a_cidr())?;
        let prefix = prefix.parse().map_err(|_| not_a_cidr())?;
        Self::new(address, prefix)
    }
}

/// One address, granted to one node and one incarnation of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressGrant {
    /// The pool that the address was assigned from.
    pub pool: PoolName,
    /// The address, with the prefix length of its layer-2 domain.
    pub address: Cidr,
    /// Default route, in the same domain.
    pub gateway: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let check = |network: &str, address: &str, inside: bool| {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{address} in {network}");
        };
        check("10.0.0.7/24", "10.0.0.255", true);
        check("10.0.0.7/24", "10.0.1.0", false);
        check("10.0.0.7/32", "10.0.0.7", true);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("::/0", "2001:db8::1", true);
        check("2001:db8::/64", "2001:db8::ffff", true);
        check("2001:db8::/64", "10.0.0.1", false);
        for bad in ["10.0.0.1", "10.0.0.1/33", "::1/129", "10.0.0/8", "10.0.0.1/x", "/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }
}
