//! Amounts: bytes and thousandths of a CPU, in the notation of Kubernetes (`512Mi`, `250m`).

use std::fmt;
use std::str::FromStr;

/// Why an amount was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// The amount is negative.
    #[error("quantity {0:?} is negative")]
    Negative(String),
    /// The amount is no number with a known suffix.
    #[error(
        "quantity {0:?} is no whole number with an optional suffix (k, M, G, T, Ki, Mi, Gi, Ti; m for CPUs)"
    )]
    NotANumber(String),
    /// The amount does not fit.
    #[error("quantity {0:?} is too large")]
    Overflow(String),
}

/// An amount of memory or disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// An amount of CPU time, in thousandths of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MilliCpu(pub u32);

const BYTE_SUFFIXES: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

fn whole_number(digits: &str, text: &str) -> Result<u64, InvalidQuantity> {
    if text.starts_with('-') {
        return Err(InvalidQuantity::Negative(text.to_owned()));
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidQuantity::NotANumber(text.to_owned()));
    }
    digits.parse().map_err(|_| InvalidQuantity::Overflow(text.to_owned()))
}

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let suffixed = BYTE_SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)));
        let (digits, factor) = suffixed.unwrap_or((text, 1));
        let number = whole_number(digits, text)?;
        number.checked_mul(factor).map(Self).ok_or_else(|| InvalidQuantity::Overflow(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_SUFFIXES[..5].iter().rev();
        match binary.clone().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for MilliCpu {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let overflow = || InvalidQuantity::Overflow(text.to_owned());
        let milli = match text.strip_suffix('m') {
            Some(digits) => whole_number(digits, text)?,
            None => whole_number(text, text)?.checked_mul(1_000).ok_or_else(overflow)?,
        };
        u32::try_from(milli).map(Self).map_err(|_| overflow())
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1_000 {
            0 => write!(f, "{}", self.0 / 1_000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bytes(text: &str, expected: Result<u64, fn(String) -> InvalidQuantity>) {
        let expected = expected.map(Bytes).map_err(|error| error(text.to_owned()));
        assert_eq!(text.parse::<Bytes>(), expected, "{text:?}");
    }

    #[test]
    fn bytes() {
        check_bytes("0", Ok(0));
        check_bytes("512Mi", Ok(512 << 20));
        check_bytes("1k", Ok(1_000));
        check_bytes("16Pi", Ok(16 << 50));
        check_bytes("-1", Err(InvalidQuantity::Negative));
        check_bytes("-1Gi", Err(InvalidQuantity::Negative));
        check_bytes("20000000000000000000", Err(InvalidQuantity::Overflow));
        check_bytes("99999999Ti", Err(InvalidQuantity::Overflow));
        check_bytes("1.5Gi", Err(InvalidQuantity::NotANumber));
        check_bytes("Gi", Err(InvalidQuantity::NotANumber));
        check_bytes("", Err(InvalidQuantity::NotANumber));
    }

    #[test]
    fn cpus() {
        assert_eq!("2".parse(), Ok(MilliCpu(2_000)));
        assert_eq!("250m".parse(), Ok(MilliCpu(250)));
        assert!("-250m".parse::<MilliCpu>().is_err());
        assert!("4294968".parse::<MilliCpu>().is_err());
    }

    #[test]
    fn shown_as_written() {
        for text in ["0", "1", "1023", "1Ki", "512Mi", "3Gi"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["0", "1", "250m", "1500m"] {
            assert_eq!(text.parse::<MilliCpu>().unwrap().to_string(), text);
        }
    }
}
