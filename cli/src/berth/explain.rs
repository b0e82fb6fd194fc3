//! `berth explain`: one field of a manifest, as the example explains it. The example is the one place where fields are
//! explained; this only finds the lines.

use crate::failure::{Failure, Result};
use crate::manifest::EXAMPLE;
use crate::output;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  berth explain                        the whole example
  berth explain spec.recovery
  berth explain spec.containers.config
  berth explain AddressPool.spec.gateway";

/// Explain a field of a manifest
///
/// Shows the lines of the example (berth apply --example) that are about it, with what is below it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Explain {
    /// Which field: its names from the outermost, with dots between them; of a Pod unless it begins with another kind
    #[arg(value_name = "FIELD")]
    pub field: Option<String>,
}

pub(super) fn explain(explain: &Explain) -> Result<()> {
    match &explain.field {
        None => output::write(EXAMPLE),
        Some(field) => output::write(&found(field)?),
    }
}

/// Some lines of the example, one after the other.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    lines: &'a [&'a str],
    /// How far a field directly in it is indented.
    indent: usize,
}

fn found(field: &str) -> Result<String> {
    let mut names = field.split('.').peekable();
    let kind = names.next_if(|name| name.chars().next().is_some_and(char::is_uppercase)).unwrap_or("Pod");
    let documents: Vec<Vec<&str>> = EXAMPLE.split("---\n").map(|text| text.lines().collect()).collect();
    let is_of_kind = |lines: &&Vec<&str>| lines.contains(&format!("kind: {kind}").as_str());
    let document = documents.iter().find(is_of_kind).ok_or_else(|| {
        Failure::usage(format!("{kind:?} is no kind of a manifest"))
            .remedy("there are Pod, AddressPool and SharedCpus")
    })?;
    let mut block = Block { lines: document, indent: 0 };
    let mut path = Vec::new();
    while let Some(name) = names.next() {
        block = match block.field(name) {
            Some(below) => below,
            // Told on one line with what it is in: {max: 256Mi}.
            None if block.is_on_one_line(name) && names.peek().is_none() => break,
            None => return Err(block.unknown(name, &path)),
        };
        path.push(name);
    }
    Ok(block.text())
}

impl<'a> Block<'a> {
    /// A field directly in the block, with the comment before it and all that is below it. Of several items of a list the
    /// one that says most of it.
    fn field(&self, name: &str) -> Option<Self> {
        let is_it = |line: &&str| key(line).is_some_and(|(indent, key)| indent == self.indent && key == name);
        let starts = self.lines.iter().enumerate().filter(|(_, line)| is_it(line)).map(|(at, _)| at);
        starts
            .map(|at| self.from(at))
            .max_by_key(|block| block.lines.iter().map(|line| comment(line)).sum::<usize>())
    }

    fn from(&self, at: usize) -> Self {
        let own = is_comment_at(self.indent);
        let before = self.lines[..at].iter().rev().take_while(|line| own(line)).count();
        let below = self.lines[at + 1..].iter().take_while(|line| is_below(line, self.indent)).count();
        let mut lines = &self.lines[at - before..=at + below];
        while let [rest @ .., last] = lines
            && last.trim().is_empty()
        {
            lines = rest;
        }
        // What is below is indented by two, or an item of a list at the same depth.
        let first = lines[before + 1..].iter().find_map(|line| key(line));
        Self { lines, indent: first.map_or(self.indent + 2, |(indent, _)| indent) }
    }

    fn is_on_one_line(&self, name: &str) -> bool {
        let own = self.lines.iter().find(|line| !line.trim_start().starts_with('#'));
        own.is_some_and(|line| {
            let code = line.split(" #").next().unwrap_or_default();
            let braces = code.find('{').map_or("", |at| &code[at..]);
            let mut words = braces.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
            words.any(|word| word.strip_suffix(':') == Some(name))
        })
    }

    fn unknown(&self, name: &str, path: &[&str]) -> Failure {
        let mut there: Vec<_> = self.lines.iter().filter_map(|line| key(line)).collect();
        there.retain(|(indent, _)| *indent == self.indent);
        let mut names: Vec<_> = there.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        let of = if path.is_empty() { "a manifest".to_owned() } else { path.join(".") };
        let failure = Failure::usage(format!("{of} has no field {name:?}"));
        match names.as_slice() {
            [] => failure,
            names => failure.remedy(format!("there are {}", names.join(", "))),
        }
    }

    /// The lines as far to the left as they go.
    fn text(&self) -> String {
        let depth = |line: &&&str| line.len() - line.trim_start().len();
        let filled = self.lines.iter().filter(|line| !line.trim().is_empty());
        let left = filled.map(|line| depth(&line)).min().unwrap_or(0);
        let cut = |line: &&str| format!("{}\n", line.get(left..).unwrap_or_default());
        self.lines.iter().map(cut).collect()
    }
}

/// The field that a line begins, and how far it is indented; an item of a list counts as far as its fields are.
fn key(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start();
    let text = text.strip_prefix("- ").unwrap_or(text);
    let (name, rest) = text.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && (rest.is_empty() || rest.starts_with(' '))).then(|| (line.len() - text.len(), name))
}

/// How much a line explains.
fn comment(line: &str) -> usize {
    line.split_once("# ").map_or(0, |(_, comment)| comment.len())
}

fn is_comment_at(indent: usize) -> impl Fn(&&&str) -> bool {
    move |line| line.trim_start().starts_with('#') && line.len() - line.trim_start().len() == indent
}

/// Whether a line is about what is in a field of this depth: it is deeper, or an item of its list.
fn is_below(line: &str, indent: usize) -> bool {
    let depth = line.len() - line.trim_start().len();
    line.trim().is_empty() || depth > indent || depth == indent && line.trim_start().starts_with("- ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &str, first: &str, last: &str) {
        let text = found(field).unwrap_or_else(|failure| panic!("{field}: {failure}"));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains(first) && lines[lines.len() - 1].contains(last), "{field}:\n{text}");
    }

    #[test]
    fn a_field_is_shown_with_what_explains_it() {
        check("spec.recovery", "recovery: Offline", "control plane's word");
        check("spec.cpu", "# How it wants its CPUs", "cpu: {exclusive: 2}");
        check("spec.limits", "# What all containers together", "{pageSize: 2Mi, max: 4Mi}");
        check("spec.limits.io.weight", "weight: 200", "1 to 10000");
        check("spec.limits.memory.high", "memory: {min: 64Mi", "high: 480Mi");
        check("spec.containers.image", "image: registry.example:5000/library/redis:7", "never guessed");
        check("spec.containers.role", "role: Sidecar", "stopped after them");
        check("spec.containers.readiness", "# When it is ready", "readiness: {exec");
        check("spec.containers.config.files.content", "content: |", "appendonly yes");
        check("spec.disks.pageSize", "pageSize: 2Mi", "pageSize: 2Mi");
        check("metadata.labels", "labels: {tier: front}", "no node hears of them");
        check("AddressPool.spec.gateway", "gateway: 10.0.0.1", "never assigned");
        check("SharedCpus", "# CPUs of one node", "cpus: \"0-1\"");
    }

    #[test]
    fn what_there_is_not_is_said_with_what_there_is() {
        let check = |field: &str, parts: &[&str]| {
            let failure = format!("{:?}", found(field).unwrap_err());
            parts.iter().for_each(|part| assert!(failure.contains(part), "{field}: {failure}"));
        };
        check("spec.imagee", &["spec has no field", "imagee", "recovery"]);
        check("spec.ize", &["spec has no field", "ize"]);
        check("spec.max", &["spec has no field", "max"]);
        check("spec.cpu.exclusive.nonsense", &["has no field"]);
        check("spec.containers.disks", &["spec.containers has no field", "hostPaths"]);
        check("Volume.spec", &["is no kind", "AddressPool"]);
    }

    #[test]
    fn every_field_of_the_example_can_be_asked_for() {
        for (kind, document) in ["AddressPool", "SharedCpus", "Pod"].iter().zip(EXAMPLE.split("---\n")) {
            let mut path: Vec<(usize, &str)> = Vec::new();
            let mut literal = None;
            for line in document.lines() {
                let depth = line.len() - line.trim_start().len();
                if literal.is_some_and(|indent| depth > indent) {
                    continue;
                }
                let Some((indent, name)) = key(line) else { continue };
                literal = line.ends_with('|').then_some(indent);
                path.retain(|(above, _)| *above < indent);
                path.push((indent, name));
                let names: Vec<_> =
                    std::iter::once(*kind).chain(path.iter().map(|(_, name)| *name)).collect();
                let field = names.join(".");
                let text = found(&field).unwrap_or_else(|failure| panic!("{field}: {failure}"));
                assert!(text.contains(&format!("{name}:")), "{field}:\n{text}");
            }
        }
    }
}
