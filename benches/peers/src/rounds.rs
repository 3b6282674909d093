//! # Rounds
//!
//! Measures the contenders of a table in turn, row by row, several times, so that
//! what disturbs the machine for a while disturbs all of them.
//!
//! - Owns: the order, and the bar that shows how far it is.

use indicatif::{ProgressBar, ProgressStyle};

use crate::table::Table;

/// One sample of a row.
type Sample<'a> = Box<dyn Fn(usize) -> Result<f64, String> + 'a>;

/// Who is measured, for one column of a table.
pub struct Contender<'a> {
    column: usize,
    sample: Sample<'a>,
}

impl<'a> Contender<'a> {
    /// `sample` measures a row once.
    pub fn new(column: usize, sample: impl Fn(usize) -> Result<f64, String> + 'a) -> Self {
        Self {
            column,
            sample: Box::new(sample),
        }
    }
}

/// Fills a table. Each round begins with another contender, so that nobody always
/// comes right behind the same one.
pub fn measure(table: &mut Table, contenders: &[Contender<'_>]) -> Result<(), String> {
    let bar = progress(table, contenders.len());
    for round in 0..table.rounds {
        if bar.is_hidden() {
            // Nobody sees a bar, but a line in a log.
            eprintln!("{}: round {} of {}", table.title, round + 1, table.rounds);
        }
        for row in 0..table.row_count() {
            for turn in 0..contenders.len() {
                let contender = &contenders[(turn + round) % contenders.len()];
                table.push(row, contender.column, (contender.sample)(row)?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress(table: &Table, contenders: usize) -> ProgressBar {
    let bar = ProgressBar::new((table.rounds * table.row_count() * contenders) as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left  {msg}") {
        bar.set_style(style);
    }
    bar.set_message(table.title.clone());
    bar
}
