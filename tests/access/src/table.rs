//! A table of RPCs by identities.

use crate::rpc::{Answer, Rpc};
use std::fmt;

/// What each RPC answers to each identity, and what it should.
#[derive(Debug, Default)]
pub struct Table {
    title: String,
    identities: Vec<String>,
    rows: Vec<(Rpc, Vec<Answer>)>,
    wrong: Vec<String>,
}

impl Table {
    /// Begins a table of these columns.
    pub fn new(title: &str, identities: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let identities = identities.into_iter().map(Into::into).collect();
        Self { title: title.to_owned(), identities, ..Self::default() }
    }

    /// Adds a row: for each identity what was answered, and what should have been.
    pub fn row(&mut self, rpc: &Rpc, cells: &[(Answer, Answer)]) {
        assert_eq!(cells.len(), self.identities.len(), "{rpc}");
        for (who, (found, expected)) in self.identities.iter().zip(cells) {
            if found != expected {
                self.wrong.push(format!("{rpc} by {who}: {found:?}, expected {expected:?}"));
            }
        }
        self.rows.push((rpc.clone(), cells.iter().map(|(found, _)| *found).collect()));
    }

    /// Prints the table, and fails if a cell is not as it should be.
    ///
    /// # Panics
    /// When a cell is wrong.
    pub fn finish(self) {
        println!("{self}");
        assert!(self.wrong.is_empty(), "{}:\n  {}", self.title, self.wrong.join("\n  "));
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|(_, answers)| answers[column].to_string().chars().count());
        cells.chain([2]).max().unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} RPCs by {} identities", self.title, self.rows.len(), self.identities.len())?;
        for (number, who) in self.identities.iter().enumerate() {
            writeln!(f, "  {:2} {who}", number + 1)?;
        }
        writeln!(f, "  · no connection; denied: PermissionDenied; absent: Unimplemented")?;
        let names = self.rows.iter().map(|(rpc, _)| rpc.to_string().len()).max().unwrap_or_default();
        write!(f, "{:names$}", "")?;
        for column in 0..self.identities.len() {
            write!(f, "  {:<width$}", column + 1, width = self.width(column))?;
        }
        for (rpc, answers) in &self.rows {
            let mut line = format!("{:names$}", rpc.to_string());
            for (column, answer) in answers.iter().enumerate() {
                line.push_str(&format!("  {:width$}", answer.to_string(), width = self.width(column)));
            }
            write!(f, "\n{}", line.trim_end())?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn one_wrong_cell_fails_the_table() {
        let rpc = &crate::rpcs()[0];
        let (said, none) = (Answer::Code(Code::Ok), Answer::NoConnection);
        let mut table = Table::new("a table", ["a", "b"]);
        table.row(rpc, &[(said, said), (none, none)]);
        assert!(table.wrong.is_empty());
        table.row(rpc, &[(said, said), (none, said)]);
        assert_eq!(table.wrong, [format!("{rpc} by b: NoConnection, expected Code(Ok)")]);
        let text = table.to_string();
        assert!(text.contains("2 RPCs by 2 identities") && text.contains("Ok"), "{text}");
    }
}
