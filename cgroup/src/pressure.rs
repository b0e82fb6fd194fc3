//! Pressure stall information. Source of the format: `Documentation/accounting/psi.rst`.

use crate::parse;

/// What work can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// CPU time.
    Cpu,
    /// Memory: reclaim, refault, swap.
    Memory,
    /// Block I/O.
    Io,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// What the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }

    /// The file that counts it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
        }
    }
}

/// Share of time in which work waited. Averages are in hundredths of a percent: 10 000 is all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PressureLine {
    /// Average of the last 10 s.
    pub avg10_permyriad: u32,
    /// Average of the last 60 s.
    pub avg60_permyriad: u32,
    /// Average of the last 300 s.
    pub avg300_permyriad: u32,
    /// Since the cgroup was made, µs.
    pub total_us: u64,
}

/// Pressure on one resource. A line is absent where the kernel does not print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<PressureLine>,
    /// All tasks that had anything to do waited.
    pub full: Option<PressureLine>,
}

impl Pressure {
    /// Reads the text of a pressure file.
    pub fn parse(text: &str) -> Self {
        let line = |kind: &str| {
            text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).map(PressureLine::parse)
        };
        Self { some: line("some"), full: line("full") }
    }
}

impl PressureLine {
    fn parse(rest: &str) -> Self {
        let mut parsed = Self::default();
        for (key, value) in parse::sub_keys(rest) {
            match key {
                "avg10" => parsed.avg10_permyriad = permyriad(value),
                "avg60" => parsed.avg60_permyriad = permyriad(value),
                "avg300" => parsed.avg300_permyriad = permyriad(value),
                "total" => parsed.total_us = parse::number(value).unwrap_or_default(),
                _ => {}
            }
        }
        parsed
    }
}

/// The kernel prints a percentage with exactly two digits after the point.
fn permyriad(percent: &str) -> u32 {
    let (whole, hundredths) = percent.split_once('.').unwrap_or((percent, "0"));
    let whole: u32 = whole.parse().unwrap_or_default();
    let hundredths: u32 = hundredths.parse().unwrap_or_default();
    whole.saturating_mul(100).saturating_add(hundredths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(avg10: u32, avg60: u32, avg300: u32, total_us: u64) -> PressureLine {
        PressureLine { avg10_permyriad: avg10, avg60_permyriad: avg60, avg300_permyriad: avg300, total_us }
    }

    fn check(text: &str, some: Option<PressureLine>, full: Option<PressureLine>) {
        assert_eq!(Pressure::parse(text), Pressure { some, full }, "{text:?}");
    }

    #[test]
    fn texts() {
        check("", None, None);
        check(
            "some avg10=1.53 avg60=0.87 avg300=100.00 total=157656722\nfull avg10=0.00 avg60=0.00 avg300=0.05 total=7\n",
            Some(line(153, 87, 10_000, 157_656_722)),
            Some(line(0, 0, 5, 7)),
        );
        check("some avg10=0.10 new=3\n", Some(line(10, 0, 0, 0)), None);
        check("something avg10=1.00\n", None, None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in r"(some|full|avg10=|total=|[0-9a-z=. \n]){0,30}") {
            Pressure::parse(&text);
        }
    }
}
