//! # Tables
//!
//! - Owns: the samples of one table, the first contender being ours.
//! - Emits: medians, minimum, maximum and ratios, for people and as JSON.

use serde::Serialize;

/// Which direction is better, and the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Measure {
    #[serde(rename = "ns per entry, all three nodes together")]
    NanosPerEntry,
    #[serde(rename = "commands per second")]
    CommandsPerSecond,
}

#[derive(Debug, Serialize)]
pub struct Table {
    pub title: String,
    pub measure: Measure,
    pub contenders: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    /// For each contender, its samples.
    pub samples: Vec<Vec<f64>>,
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
    pub fn new(title: &str, measure: Measure, contenders: &[&str], rows: Vec<String>) -> Self {
        let rows = rows
            .into_iter()
            .map(|name| Row {
                name,
                samples: vec![Vec::new(); contenders.len()],
            })
            .collect();
        Self {
            title: title.to_owned(),
            measure,
            contenders: contenders.iter().map(|&name| name.to_owned()).collect(),
            rows,
        }
    }

    pub fn push(&mut self, row: usize, contender: usize, sample: f64) {
        self.rows[row].samples[contender].push(sample);
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

    /// The table in Markdown: median (minimum-maximum), and how many times
    /// better ours is than each.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        text += &format!("In {}: median (minimum-maximum) of ", self.unit());
        text += &format!("{} rounds. ", self.rows[0].samples[0].len());
        text += "`x` says how many times better ours is.\n\n|  |";
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
            let ours = summary(&row.samples[0]);
            for (place, samples) in row.samples.iter().enumerate() {
                let theirs = summary(samples);
                text += &theirs.map_or_else(
                    || " - |".to_owned(),
                    |s| {
                        let [median, min, max] = [s.median, s.min, s.max].map(|v| self.figure(v));
                        format!(" {median} ({min}-{max}) |")
                    },
                );
                if place > 0 {
                    text += &match (ours, theirs) {
                        (Some(ours), Some(theirs)) => {
                            format!(" {:.2} |", self.advantage(ours.median, theirs.median))
                        }
                        _ => " - |".to_owned(),
                    };
                }
            }
            text += "\n";
        }
        text
    }
}
