//! How to tell that a container can do its work.

/// A question that is put to a container again and again. What comes of it is reported, and holds back what waits for the
/// container to be ready; nothing is ever ended for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// The question.
    pub action: ProbeAction,
    /// Between one try and the next, milliseconds, at least [`Probe::MIN_MS`].
    pub period_ms: u64,
    /// How long one try may take, milliseconds, at least [`Probe::MIN_MS`].
    pub timeout_ms: u64,
}

/// What is asked, and what answer says that all is well. Questions over the network are put from inside the pod's network
/// namespace to the pod's first address (127.0.0.1 in the host's): no other host can come between, and a main plugin
/// whose interfaces the host itself cannot reach (macvlan, ipvlan) makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeAction {
    /// Program and arguments, no shell, run in the container: exit code 0.
    Exec(Vec<String>),
    /// `GET` by HTTP/1.1: a status from 200 to 399, as Kubernetes has it.
    Http {
        /// Not 0.
        port: u16,
        /// Begins with `/`.
        path: String,
    },
    /// The connection is taken.
    Tcp {
        /// Not 0.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`, without TLS: `SERVING`.
    Grpc {
        /// Not 0.
        port: u16,
        /// Which service is asked after; the server as a whole when empty.
        service: String,
    },
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeAnswer {
    /// All is well.
    Ready,
    /// It is not; what was said, for people.
    NotReady(String),
}

impl Probe {
    /// Shortest period and timeout, milliseconds: a probe may be a process in the container.
    pub const MIN_MS: u64 = 100;
    /// Longest period and timeout, milliseconds.
    pub const MAX_MS: u64 = 3_600_000;
    /// Longest path and name of a service, bytes.
    pub const MAX_TEXT: usize = 1_024;

    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        self.action.validate()?;
        let sensible = |time_ms: &u64| (Self::MIN_MS..=Self::MAX_MS).contains(time_ms);
        match sensible(&self.period_ms) && sensible(&self.timeout_ms) {
            true => Ok(()),
            false => Err("has a period or timeout below 100 ms or above an hour"),
        }
    }
}

impl ProbeAction {
    fn validate(&self) -> Result<(), &'static str> {
        match self {
            Self::Exec(command) if command.first().is_none_or(String::is_empty) => Err("names no program"),
            Self::Exec(command) if command.iter().any(|word| word.contains('\0')) => Err("holds a NUL byte"),
            Self::Http { port: 0, .. } | Self::Tcp { port: 0 } | Self::Grpc { port: 0, .. } => {
                Err("asks port 0")
            }
            Self::Http { path, .. } if !is_path(path) => {
                Err("has a path that no request can carry: it begins with / and is percent-encoded")
            }
            Self::Grpc { service, .. } if !is_text(service) => {
                Err("names a service that is no printable ASCII without spaces")
            }
            Self::Exec(_) | Self::Http { .. } | Self::Tcp { .. } | Self::Grpc { .. } => Ok(()),
        }
    }
}

/// What a request line can carry as it is (RFC 9112, section 3.2.1; RFC 3986, section 2).
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && is_text(text)
        && !text.contains(['#', '<', '>', '`', '"', '\\', '^', '{', '|', '}'])
}

fn is_text(text: &str) -> bool {
    text.len() <= Probe::MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: ProbeAction, times: [u64; 2], expected: Result<(), &'static str>) {
        let probe = Probe { action, period_ms: times[0], timeout_ms: times[1] };
        assert_eq!(probe.validate(), expected, "{probe:?}");
    }

    #[test]
    fn probes() {
        let http = |port, path: &str| ProbeAction::Http { port, path: path.to_owned() };
        let grpc = |port, service: &str| ProbeAction::Grpc { port, service: service.to_owned() };
        let exec = |words: &[&str]| ProbeAction::Exec(words.iter().map(ToString::to_string).collect());
        let (usual, path) = (
            [100, 3_600_000],
            "has a path that no request can carry: it begins with / and is percent-encoded",
        );
        check(exec(&["true", ""]), usual, Ok(()));
        check(exec(&[]), usual, Err("names no program"));
        check(exec(&["", "x"]), usual, Err("names no program"));
        check(exec(&["a\0"]), usual, Err("holds a NUL byte"));
        check(http(80, "/ready?now=1"), usual, Ok(()));
        check(http(0, "/"), usual, Err("asks port 0"));
        check(http(80, "ready"), usual, Err(path));
        check(http(80, "/a b"), usual, Err(path));
        check(http(80, "/a<b"), usual, Err(path));
        check(http(80, "/a\r\nHost: b"), usual, Err(path));
        check(http(80, &format!("/{}", "a".repeat(1_024))), usual, Err(path));
        check(ProbeAction::Tcp { port: 1 }, usual, Ok(()));
        check(ProbeAction::Tcp { port: 0 }, usual, Err("asks port 0"));
        check(grpc(9000, ""), usual, Ok(()));
        check(grpc(9000, "a b"), usual, Err("names a service that is no printable ASCII without spaces"));
        let times = "has a period or timeout below 100 ms or above an hour";
        check(ProbeAction::Tcp { port: 1 }, [99, 100], Err(times));
        check(ProbeAction::Tcp { port: 1 }, [100, 3_600_001], Err(times));
    }
}
