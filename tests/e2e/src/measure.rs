//! What a drill or a bench measures, as a table for people and as JSON for machines.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What was measured.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// Of what: `s`, `pods`, …
    pub unit: &'static str,
    /// What could not be done without: the same thing by the runtime alone, or what was there before.
    pub floor: Option<f64>,
    /// The highest value over its floor that is good.
    pub budget: Option<f64>,
}

impl Measure {
    /// The value over its floor.
    pub fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.value / floor)
    }

    fn is_over(&self) -> bool {
        self.ratio().zip(self.budget).is_some_and(|(ratio, budget)| ratio > budget)
    }

    fn to_json(&self) -> Value {
        json!({
            "metric": self.metric,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio(),
            "budget": self.budget,
        })
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Beside {
    /// What could not be done without.
    pub(crate) floor: f64,
    /// The highest value over that which is good.
    pub(crate) budget: f64,
}

/// What came of a drill or a bench.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What was measured.
    pub measures: Vec<Measure>,
    /// What must not be: lost, doubled, changed or left over.
    pub faults: Vec<String>,
}

impl Report {
    /// A value without anything to compare it with.
    pub(crate) fn add(&mut self, metric: impl Into<String>, value: f64, unit: &'static str) {
        self.measures.push(Measure { metric: metric.into(), value, unit, floor: None, budget: None });
    }

    /// A value beside what could not be done without, and the highest value over that which is good.
    pub(crate) fn compare(
        &mut self,
        metric: impl Into<String>,
        value: f64,
        unit: &'static str,
        beside: Beside,
    ) {
        let (floor, budget) = (Some(beside.floor), Some(beside.budget));
        self.measures.push(Measure { metric: metric.into(), value, unit, floor, budget });
    }

    /// All that is wrong, values beyond their budgets included.
    pub fn wrongs(&self) -> Vec<String> {
        let over = self.measures.iter().filter(|measure| measure.is_over());
        let say = |measure: &Measure| format!("{} is over its budget: {}", measure.metric, measure.to_json());
        self.faults.iter().cloned().chain(over.map(say)).collect()
    }

    /// The table.
    pub fn table(&self) -> String {
        let optional =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let mut table = format!(
            "{:<52} {:>10} {:<8} {:>8} {:>6} {:>6}\n",
            "METRIC", "VALUE", "UNIT", "FLOOR", "RATIO", "BUDGET"
        );
        for measure in &self.measures {
            let (floor, ratio, budget) =
                (optional(measure.floor), optional(measure.ratio()), optional(measure.budget));
            let Measure { metric, value, unit, .. } = measure;
            // A String takes whatever is written to it.
            let _ = writeln!(table, "{metric:<52} {value:>10.2} {unit:<8} {floor:>8} {ratio:>6} {budget:>6}");
        }
        table
    }

    /// Writes the values to a file, whose directory is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        let measures: Vec<_> = self.measures.iter().map(Measure::to_json).collect();
        let text = serde_json::to_string_pretty(&measures)?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(value: f64, floor: Option<f64>, budget: Option<f64>) -> Measure {
        Measure { metric: "time".to_owned(), value, unit: "s", floor, budget }
    }

    #[test]
    fn a_value_over_its_budget_is_wrong() {
        let check = |measure: Measure, expected: usize| {
            assert_eq!(Report { measures: vec![measure], faults: Vec::new() }.wrongs().len(), expected);
        };
        check(measure(3.0, Some(2.0), Some(1.4)), 1);
        check(measure(3.0, Some(2.0), Some(1.5)), 0);
        check(measure(3.0, None, Some(1.0)), 0);
        check(measure(3.0, Some(0.0), Some(1.0)), 0);
    }

    #[test]
    fn what_is_saved_has_every_column() {
        let file = tempfile::tempdir().unwrap().path().join("deep/x.json");
        let report = Report { measures: vec![measure(3.0, Some(2.0), None)], faults: Vec::new() };
        report.save(&file).unwrap();
        let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let expected = json!([{"metric": "time", "value": 3.0, "unit": "s", "floor": 2.0, "ratio": 1.5, "budget": null}]);
        assert_eq!(saved, expected);
        assert!(report.table().contains("1.50"));
    }
}
