//! # Tables
//!
//! - Owns: the samples of one table, the first contender being ours, and what is
//!   aimed at.
//! - Emits: medians, minimum, maximum and ratios, for people and as JSON.

use serde::Serialize;
use serde_json::{Value, json};

/// Which direction is better, and the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Measure {
    #[serde(rename = "ns per entry, all three nodes together")]
    NanosPerEntry,
    #[serde(rename = "commands per second")]
    CommandsPerSecond,
}

#[derive(Debug)]
pub struct Table {
    pub title: String,
    pub rounds: usize,
    measure: Measure,
    contenders: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    /// For each contender, what it has.
    cells: Vec<Cell>,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    samples: Vec<f64>,
    /// How many times better than this contender ours is to be.
    aim: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
}

fn summary(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Some(Summary { median, min, max })
}

impl Table {
    pub fn new(
        title: &str,
        rounds: usize,
        measure: Measure,
        contenders: &[&str],
        rows: Vec<String>,
    ) -> Self {
        let rows = rows
            .into_iter()
            .map(|name| Row {
                name,
                cells: vec![Cell::default(); contenders.len()],
            })
            .collect();
        Self {
            title: title.to_owned(),
            rounds,
            measure,
            contenders: contenders.iter().map(|&name| name.to_owned()).collect(),
            rows,
        }
    }

    pub fn push(&mut self, row: usize, contender: usize, sample: f64) {
        self.rows[row].cells[contender].samples.push(sample);
    }

    /// Ours is to be `times` times better than a contender.
    pub fn aim(&mut self, row: usize, contender: usize, times: f64) {
        self.rows[row].cells[contender].aim = Some(times);
    }

    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// How many times better ours is; below one it is worse.
    fn advantage(&self, ours: f64, theirs: f64) -> f64 {
        match self.measure {
            Measure::NanosPerEntry => theirs / ours,
            Measure::CommandsPerSecond => ours / theirs,
        }
    }

    fn figure(&self, value: f64) -> String {
        match self.measure {
            Measure::NanosPerEntry => format!("{value:.0}"),
            Measure::CommandsPerSecond => format!("{:.1}", value / 1000.0),
        }
    }

    fn unit(&self) -> &'static str {
        match self.measure {
            Measure::NanosPerEntry => "ns per entry, for all three nodes together",
            Measure::CommandsPerSecond => "thousands of commands per second",
        }
    }

    /// How many times better ours is in this cell; nothing for what was not measured.
    fn ratio(&self, row: &Row, cell: &Cell) -> Option<f64> {
        let (ours, theirs) = (summary(&row.cells[0].samples)?, summary(&cell.samples)?);
        Some(self.advantage(ours.median, theirs.median))
    }

    /// The table in Markdown: median (minimum-maximum), how many times better ours
    /// is than each, and what is aimed at.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        text += &format!("In {}: median (minimum-maximum) of ", self.unit());
        text += &format!("{} rounds. ", self.rounds);
        text += "`x` says how many times better ours is, and what is aimed at.\n\n|  |";
        for (place, name) in self.contenders.iter().enumerate() {
            text += &format!(" {name} |");
            if place > 0 {
                text += " x |";
            }
        }
        text += "\n|---|";
        text += &"--:|".repeat(2 * self.contenders.len() - 1);
        text += "\n";
        for row in &self.rows {
            text += &format!("| {} |", row.name);
            for (place, cell) in row.cells.iter().enumerate() {
                text += &summary(&cell.samples).map_or_else(
                    || " - |".to_owned(),
                    |s| {
                        let [median, min, max] = [s.median, s.min, s.max].map(|v| self.figure(v));
                        format!(" {median} ({min}-{max}) |")
                    },
                );
                if place > 0 {
                    text += &match (self.ratio(row, cell), cell.aim) {
                        (Some(ratio), Some(aim)) => format!(" {ratio:.2} (aim {aim}) |"),
                        (Some(ratio), None) => format!(" {ratio:.2} |"),
                        (None, _) => " - |".to_owned(),
                    };
                }
            }
            text += "\n";
        }
        text
    }

    /// Everything, every sample included.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({
            "title": self.title,
            "rounds": self.rounds,
            "unit": self.measure,
            "rows": rows,
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let contenders: Vec<Value> = self
            .contenders
            .iter()
            .zip(&row.cells)
            .map(|(name, cell)| {
                let summary = summary(&cell.samples);
                json!({
                    "name": name,
                    "samples": cell.samples,
                    "median": summary.map(|s| s.median),
                    "min": summary.map(|s| s.min),
                    "max": summary.map(|s| s.max),
                    "times_better_ours": self.ratio(row, cell),
                    "aim": cell.aim,
                })
            })
            .collect();
        json!({ "row": row.name, "contenders": contenders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(measure: Measure) -> Table {
        let mut table = Table::new("T", 3, measure, &["ours", "theirs"], vec!["row".to_owned()]);
        for (ours, theirs) in [(100.0, 400.0), (120.0, 300.0), (90.0, 200.0)] {
            table.push(0, 0, ours);
            table.push(0, 1, theirs);
        }
        table.aim(0, 1, 2.0);
        table
    }

    #[test]
    fn a_ratio_says_how_many_times_better_ours_is() {
        let times = table(Measure::NanosPerEntry).markdown();
        assert!(
            times.contains("| row | 100 (90-120) | 300 (200-400) | 3.00 (aim 2) |"),
            "{times}"
        );
        let rates = table(Measure::CommandsPerSecond).json();
        let ratio = &rates["rows"][0]["contenders"][1]["times_better_ours"];
        assert_eq!(ratio.as_f64(), Some(100.0 / 300.0), "{rates}");
    }

    #[test]
    fn what_was_not_measured_is_left_empty() {
        let rows = vec!["row".to_owned()];
        let table = Table::new("T", 3, Measure::NanosPerEntry, &["ours", "theirs"], rows);
        let text = table.markdown();
        assert!(
            text.contains("of 3 rounds") && text.contains("| row | - | - | - |"),
            "{text}"
        );
    }
}
