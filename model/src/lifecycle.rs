//! How a container is asked to end.

use std::fmt;
use std::str::FromStr;

/// How a container is asked to end, within its grace. After the grace it is killed, whatever it does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Lifecycle {
    /// The command that is run in the container before its first process gets the signal; none if empty. Its time
    /// counts towards the grace, and what it ends with changes nothing. A crash of the agent may have it run twice.
    pub pre_stop: Vec<String>,
    /// What the first process gets then; the image's own stop signal when absent, SIGTERM if it has none.
    pub stop_signal: Option<Signal>,
}

/// A signal by its name in signal(7), such as `USR1` or `RTMIN+3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u32);

impl Signal {
    /// Names in the order of their numbers, from 1 on, as x86 and ARM have them (signal(7)).
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// SIGRTMIN as glibc has it: it keeps the kernel's first two real-time signals for itself.
    const RTMIN: u32 = 34;
    /// SIGRTMAX.
    const RTMAX: u32 = 64;

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = InvalidLifecycle;

    /// With or without the leading `SIG`.
    fn from_str(text: &str) -> Result<Self, InvalidLifecycle> {
        let bare = text.strip_prefix("SIG").unwrap_or(text);
        let number = match bare.strip_prefix("RTMIN") {
            Some("") => Some(Self::RTMIN),
            Some(rest) => rest.strip_prefix('+').and_then(real_time),
            None => (1..).zip(Self::NAMES).find(|(_, name)| *name == bare).map(|(number, _)| number),
        };
        number.map(Self).ok_or_else(|| InvalidLifecycle::Signal(text.to_owned()))
    }
}

fn real_time(offset: &str) -> Option<u32> {
    let digits = offset.bytes().all(|byte| byte.is_ascii_digit());
    let number = Signal::RTMIN.checked_add(offset.parse().ok().filter(|_| digits)?)?;
    (number <= Signal::RTMAX).then_some(number)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(self.0 as usize - 1) {
            Some(name) => f.write_str(name),
            None if self.0 == Self::RTMIN => f.write_str("RTMIN"),
            None => write!(f, "RTMIN+{}", self.0 - Self::RTMIN),
        }
    }
}

/// Why a lifecycle was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLifecycle {
    /// No signal has that name.
    #[error("signal {0:?} is unknown (as in signal(7), such as TERM, USR1 or RTMIN+3)")]
    Signal(String),
    /// A signal that asks for nothing.
    #[error("signal {0} cannot be caught: no process can end in good order by it")]
    Deaf(Signal),
    /// A command that cannot be run.
    #[error("the command before the stop {0}")]
    PreStop(&'static str),
}

impl Lifecycle {
    /// Checks what the parts' own types cannot know.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidLifecycle> {
        if let Some(signal) =
            self.stop_signal.filter(|signal| ["KILL", "STOP"].contains(&signal.to_string().as_str()))
        {
            return Err(InvalidLifecycle::Deaf(signal));
        }
        if self.pre_stop.first().is_some_and(String::is_empty) {
            return Err(InvalidLifecycle::PreStop("names no program"));
        }
        match self.pre_stop.iter().any(|word| word.contains('\0')) {
            true => Err(InvalidLifecycle::PreStop("holds a NUL byte")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name() {
        for (text, number) in [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("HUP", Some(1)),
            ("SYS", Some(31)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMIN+", None),
            ("RTMIN++1", None),
            ("RTMIN-1", None),
            ("term", None),
            ("15", None),
            ("", None),
        ] {
            let signal = text.parse::<Signal>().ok();
            assert_eq!(signal.map(Signal::number), number, "{text:?}");
            if let Some(signal) = signal {
                assert_eq!(signal.to_string().parse(), Ok(signal), "{text:?}");
            }
        }
    }

    fn check(pre_stop: &[&str], signal: Option<&str>, expected: Result<(), &str>) {
        let lifecycle = Lifecycle {
            pre_stop: pre_stop.iter().map(|word| (*word).to_owned()).collect(),
            stop_signal: signal.map(|name| name.parse().unwrap()),
        };
        let said = lifecycle.validate().map_err(|error| error.to_string());
        assert_eq!(said, expected.map_err(str::to_owned), "{lifecycle:?}");
    }

    #[test]
    fn what_the_parts_cannot_know() {
        check(&[], None, Ok(()));
        check(&["/bin/drain", ""], Some("QUIT"), Ok(()));
        check(&[""], None, Err("the command before the stop names no program"));
        check(&["a", "b\0"], None, Err("the command before the stop holds a NUL byte"));
        check(&[], Some("KILL"), Err("signal KILL cannot be caught: no process can end in good order by it"));
        check(&[], Some("STOP"), Err("signal STOP cannot be caught: no process can end in good order by it"));
    }
}
