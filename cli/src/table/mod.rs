//! Tables for people: plain columns, no borders, one line a row. Programs read JSON.

mod events;
mod local;
mod migration;
mod platform;
mod rollout;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use events::{event_line, events};
pub(crate) use local::{
    cgroup, differing, disks, findings, found, images, leases, local_order, local_orders, local_pod,
    local_pods, node_facts, status, tenures, top, topology,
};
pub(crate) use migration::{migration_line, migrations, pool_history};
pub(crate) use platform::{Width, node, nodes, orders, pod, pod_event, pods, pools};
pub(crate) use rollout::{rollout, rollout_line, rollouts};
pub(crate) use words::{identity, outcome, pod_state};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

/// Whether what matters is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For files, pipes, and who set `NO_COLOR`.
    Plain,
    /// For terminals.
    Coloured,
}

/// How a cell is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Wait,
    Bad,
}

/// One cell: text, and how it is to be taken.
#[derive(Debug, Clone)]
struct Field {
    text: String,
    mood: Option<Mood>,
}

impl<T: ToString> From<T> for Field {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), mood: None }
    }
}

impl Field {
    fn mood(text: impl Into<String>, mood: Mood) -> Self {
        Self { text: text.into(), mood: Some(mood) }
    }

    fn cell(self, style: Style) -> Cell {
        // An empty cell would make the columns hard to tell apart, for people and for awk. What a node reports must
        // not move the terminal's cursor.
        let clean: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let cell = Cell::new(if clean.trim().is_empty() { "-".to_owned() } else { clean });
        match (style, self.mood) {
            (Style::Coloured, Some(mood)) => cell.fg(match mood {
                Mood::Good => Color::Green,
                Mood::Wait => Color::Yellow,
                Mood::Bad => Color::Red,
            }),
            (Style::Coloured, None) | (Style::Plain, _) => cell,
        }
    }
}

/// Renders rows below a header, every line ended, no line padded at its end.
fn columns<const N: usize>(header: [&str; N], rows: Vec<[Field; N]>, style: Style) -> String {
    let mut table = new_table(style);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|field| field.cell(style)));
    }
    finish(&table)
}

/// Renders names and values, one pair a line. Pairs without a value are left out.
fn pairs(rows: Vec<(&str, Field)>, style: Style) -> String {
    let mut table = new_table(style);
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.text.is_empty()) {
        table.add_row([Cell::new(format!("{name}:")), value.cell(style)]);
    }
    finish(&table)
}

fn new_table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    match style {
        Style::Plain => table.force_no_tty(),
        Style::Coloured => table.enforce_styling(),
    };
    table
}

fn finish(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        // The preset pads each cell on both sides; the first column needs no margin.
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

/// A heading and a table of these below it, indented; nothing where there are none.
pub(crate) fn part<T>(title: &str, items: &[T], table: impl FnOnce(&[T]) -> String) -> String {
    if items.is_empty() { String::new() } else { section(title, &table(items)) }
}

/// A heading and what is below it, indented; nothing where nothing is below it.
fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let indented: String = body.lines().map(|line| format!("  {line}\n")).collect();
    format!("\n{title}\n{indented}")
}
