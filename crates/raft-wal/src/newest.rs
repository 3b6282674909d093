//! # The newest entries
//!
//! What a recovery keeps of a group's entries in memory. The oldest records go
//! first, whole.
//!
//! - Owns: the entries, and what each record's take.

use std::collections::VecDeque;

use raft_core::{Entries, EntrySequence, LogIndex};

/// The newest entries of a group, within a limit.
#[derive(Debug)]
pub(crate) struct Newest {
    entries: EntrySequence,
    /// Where each record's entries end, and what they take.
    records: VecDeque<(LogIndex, u64)>,
    bytes: u64,
}

impl Newest {
    /// None; the first will be at `first`.
    pub(crate) fn starting_at(first: LogIndex) -> Self {
        Self {
            entries: EntrySequence::starting_at(first),
            records: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Appends entries, which replace what is there, and drops the oldest beyond
    /// `bytes_max`.
    pub(crate) fn append(&mut self, entries: Entries, bytes_max: u64) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        while let Some((next, bytes)) = self.records.back().copied()
            && next > first.index()
        {
            self.records.pop_back();
            self.bytes -= bytes;
        }
        // A record that is overwritten in its middle keeps its beginning.
        let start = self.records.back().map(|(next, _)| *next);
        let kept = start.unwrap_or(self.entries.first_index());
        if kept < first.index() {
            let bytes = self.entries.between(kept, first.index()).encoded_bytes();
            self.records.push_back((first.index(), bytes));
            self.bytes += bytes;
        }
        let bytes = entries.encoded_bytes();
        self.records.push_back((last.index().next(), bytes));
        self.bytes += bytes;
        self.entries.append(entries);
        while self.bytes > bytes_max && self.records.len() > 1 {
            self.drop_record();
        }
    }

    fn drop_record(&mut self) {
        if let Some((next, bytes)) = self.records.pop_front() {
            self.bytes -= bytes;
            self.entries.drop_before(next);
        }
    }

    /// Drops the entries before `index`.
    pub(crate) fn drop_before(&mut self, index: LogIndex) {
        while self.records.front().is_some_and(|(next, _)| *next <= index) {
            self.drop_record();
        }
        self.entries.drop_before(index);
    }

    pub(crate) fn into_entries(self) -> EntrySequence {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raft_core::{Entry, Term};

    fn entries(from: u64, to: u64) -> Entries {
        let entry = |index| {
            let data = Bytes::from_static(&[7; 100]);
            Entry::normal(Term::new(1), LogIndex::new(index), data)
        };
        Entries::from_batch((from..to).map(entry).collect()).unwrap()
    }

    fn range(newest: &Newest) -> (u64, u64) {
        let entries = &newest.entries;
        (entries.first_index().get(), entries.next_index().get())
    }

    #[test]
    fn whole_records_stay_within_the_limit_and_one_in_any_case() {
        let bytes_max = entries(1, 11).encoded_bytes();
        let mut newest = Newest::starting_at(LogIndex::new(1));
        for first in [1, 5, 9] {
            newest.append(entries(first, first + 4), bytes_max);
        }
        assert_eq!(range(&newest), (5, 13));
        // What is overwritten makes room again.
        newest.append(entries(7, 9), bytes_max);
        newest.append(entries(9, 13), bytes_max);
        assert_eq!(range(&newest), (5, 13));
        newest.append(entries(13, 16), bytes_max);
        assert_eq!(range(&newest), (7, 16));
        newest.append(entries(16, 46), bytes_max);
        assert_eq!(range(&newest), (16, 46));
        newest.drop_before(LogIndex::new(20));
        assert_eq!(range(&newest), (20, 46));
        newest.append(entries(3, 4), bytes_max);
        assert_eq!(range(&newest), (3, 4));
    }
}
