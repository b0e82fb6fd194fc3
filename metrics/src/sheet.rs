//! Numbers of one moment, in the text format of OpenMetrics 1.0. The format is a page long, and the crates for it keep
//! numbers of their own between two questions; what is told here is looked up for each.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What tells rows of one number apart: names, and values.
pub type Labels = Vec<(&'static str, String)>;

/// Numbers of one moment, by name. Names carry the unit, in the base units of Prometheus (seconds, bytes).
#[derive(Debug, Clone)]
pub struct Sheet {
    prefix: &'static str,
    text: String,
}

impl Sheet {
    /// An empty one, whose names all begin with `prefix` and `_`.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// A number that goes up and down. Of rows with the same labels the last one counts.
    pub fn gauge(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        self.family(Kind::Gauge, name, help, rows);
    }

    /// A number that only grows, until what it counts is gone. `_total` is added to its name.
    pub fn counter(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        self.family(Kind::Counter, name, help, rows);
    }

    /// A single number that goes up and down.
    pub fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, [(Labels::new(), value)]);
    }

    /// Texts that say what something is. `_info` is added to its name.
    pub fn info(&mut self, name: &str, help: &str, labels: Labels) {
        self.family(Kind::Info, name, help, [(labels, 1.0)]);
    }

    /// All of it.
    pub fn text(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn family(&mut self, kind: Kind, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        let name = format!("{}_{name}", self.prefix);
        let rows: BTreeMap<Labels, f64> = rows.into_iter().collect();
        let (kind, suffix) = kind.words();
        // A text takes whatever is written to it.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help));
        for (labels, value) in rows {
            let _ = writeln!(self.text, "{name}{suffix}{} {value}", braced(&labels));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
    Info,
}

impl Kind {
    /// Its name, and what names of its samples end with.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Gauge => ("gauge", ""),
            Self::Counter => ("counter", "_total"),
            Self::Info => ("info", "_info"),
        }
    }
}

/// What a sheet's text tells, without the values: the rows of a table in Markdown, of name, kind and help.
pub fn catalogue(text: &str) -> String {
    let mut rows = String::new();
    let mut help = "";
    for line in text.lines() {
        if let Some((_, said)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            help = said;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let kinds = [Kind::Gauge, Kind::Counter, Kind::Info].map(Kind::words);
            let suffix = kinds.into_iter().find(|(word, _)| *word == kind).map_or("", |(_, suffix)| suffix);
            // A text takes whatever is written to it.
            let _ = writeln!(rows, "| `{name}{suffix}` | {kind} | {help} |");
        }
    }
    rows
}

fn braced(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics() {
        let mut sheet = Sheet::new("berth");
        sheet.info("build", "What it is.", vec![("version", "1".to_owned())]);
        sheet.one("open_orders", "Orders without an outcome.", 2.0);
        let pod = |name: &str, value| (vec![("pod", name.to_owned())], value);
        sheet.counter("cpu_seconds", "CPU time.", [pod("c", 0.0), pod("a\"b\\\n", 1.5), pod("c", 7.0)]);
        sheet.gauge("none", "Nothing.", []);
        let expected = "\
# HELP berth_build What it is.
# TYPE berth_build info
berth_build_info{version=\"1\"} 1
# HELP berth_open_orders Orders without an outcome.
# TYPE berth_open_orders gauge
berth_open_orders 2
# HELP berth_cpu_seconds CPU time.
# TYPE berth_cpu_seconds counter
berth_cpu_seconds_total{pod=\"a\\\"b\\\\\\n\"} 1.5
berth_cpu_seconds_total{pod=\"c\"} 7
# HELP berth_none Nothing.
# TYPE berth_none gauge
# EOF
";
        assert_eq!(sheet.text(), expected);
    }
}
