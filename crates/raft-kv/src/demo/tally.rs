//! # What happened
//!
//! What the clients of the load were told, and what they found wrong.
//!
//! - Owns: the counts, the latencies, the faults in words.

use std::collections::HashSet;

use hdrhistogram::Histogram;

use crate::resp::Reply;

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// How many faults are kept in words.
const FAULTS_SHOWN: usize = 5;

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyHistory {
    pub(super) name: String,
    /// The last acknowledged number; zero if there is none.
    pub(super) acknowledged: u64,
    /// A number that may be written at any time, or never.
    pub(super) uncertain: Option<u64>,
}

/// What happened, over all.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) writes_acknowledged: u64,
    pub(super) reads_answered: u64,
    pub(super) failed: u64,
    pub(super) indeterminate: u64,
    pub(super) lost: u64,
    pub(super) stale_reads: u64,
    /// Sums of the counter that came back twice, or that it cannot have.
    pub(super) miscounted: u64,
    /// Keys that the check at the end has read.
    pub(super) keys_checked: u64,
    pub(super) write_us: Histogram<u64>,
    pub(super) read_us: Histogram<u64>,
    /// The first faults in words.
    pub(super) faults: Vec<String>,
    /// What the counter was, each time that it was added to.
    pub(super) sums: HashSet<u64>,
    /// How often it is unknown whether it was added to.
    pub(super) sums_uncertain: u64,
    pub(super) keys: Vec<KeyHistory>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            writes_acknowledged: 0,
            reads_answered: 0,
            failed: 0,
            indeterminate: 0,
            lost: 0,
            stale_reads: 0,
            miscounted: 0,
            keys_checked: 0,
            write_us: latencies(),
            read_us: latencies(),
            faults: Vec::new(),
            sums: HashSet::new(),
            sums_uncertain: 0,
            keys: Vec::new(),
        }
    }
}

/// A histogram of latencies in microseconds.
fn latencies() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that are allowed"));
    histogram.auto(false);
    histogram
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.writes_acknowledged += other.writes_acknowledged;
        self.reads_answered += other.reads_answered;
        self.failed += other.failed;
        self.indeterminate += other.indeterminate;
        self.lost += other.lost;
        self.stale_reads += other.stale_reads;
        self.miscounted += other.miscounted;
        self.sums_uncertain += other.sums_uncertain;
        // Both have the same bounds.
        let _ = self.write_us.add(other.write_us);
        let _ = self.read_us.add(other.read_us);
        self.keys.extend(other.keys);
        for fault in other.faults {
            self.describe(fault);
        }
        for sum in other.sums {
            if !self.sums.insert(sum) {
                self.miscounted += 1;
                self.describe(format!("two clients were told that they counted {sum}"));
            }
        }
    }

    pub(super) fn describe(&mut self, fault: String) {
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault);
        }
    }
}

/// The number at the beginning of a value; zero if there is no value.
pub(super) fn number_in(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Nil => Some(0),
        Reply::Bulk(value) => {
            let digits = value.split(|byte| *byte == b':').next()?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_values() {
        let bulk = |text: &'static str| Reply::Bulk(text.into());
        assert_eq!(number_in(&bulk("17:xxx")), Some(17));
        assert_eq!(number_in(&bulk("17")), Some(17));
        assert_eq!(number_in(&Reply::Nil), Some(0));
        assert_eq!(number_in(&bulk("x:17")), None);
        assert_eq!(number_in(&Reply::Error("ERR".into())), None);
    }

    #[test]
    fn a_sum_that_two_clients_got_is_found() {
        let counted = |sums: &[u64]| Tally {
            sums: sums.iter().copied().collect(),
            ..Tally::default()
        };
        let mut tally = counted(&[1, 2, 4]);
        tally.add(counted(&[3, 5]));
        assert_eq!(tally.miscounted, 0);
        tally.add(counted(&[4]));
        assert_eq!(tally.miscounted, 1);
        assert_eq!(tally.faults.len(), 1);
    }
}
