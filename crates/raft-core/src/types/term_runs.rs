//! # Terms of a log
//!
//! The term of every entry of a log, in a few bytes per term: what a storage
//! has to know of entries that it does not have in memory.
//!
//! - Owns: the runs of entries of one term.

use alloc::collections::VecDeque;

use super::{Entries, EntryId, LogIndex, Term};

/// Entries of one term, up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TermRun {
    first: LogIndex,
    term: Term,
}

/// The terms of the entries behind the compacted ones.
///
/// # Invariants
/// - The first run begins one after `compacted`; neighbours differ in term.
/// - No runs ⇒ `next == compacted.index + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermRuns {
    compacted: EntryId,
    runs: VecDeque<TermRun>,
    next: LogIndex,
}

impl TermRuns {
    /// Of a log that begins behind `compacted`, and has no entries.
    pub fn behind(compacted: EntryId) -> Self {
        Self {
            compacted,
            runs: VecDeque::new(),
            next: compacted.index.next(),
        }
    }

    /// The index of the first entry, or where it will be.
    pub fn first_index(&self) -> LogIndex {
        self.compacted.index.next()
    }

    /// The index after the last entry.
    pub fn next_index(&self) -> LogIndex {
        self.next
    }

    /// The term of the entry at `index`, which may be one before the first.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        if index < self.compacted.index || index >= self.next {
            return None;
        }
        // Nearly every look-up is at the end.
        let last = self.runs.back().filter(|run| run.first <= index);
        let run = if let Some(last) = last {
            last
        } else {
            let behind = self.runs.partition_point(|run| run.first <= index);
            self.runs.get(behind.checked_sub(1)?)?
        };
        Some(run.term)
    }

    /// Follows an append behind the compacted entries, which replaces what is
    /// there. Whether it leaves no gap; if it does nothing has changed.
    pub fn append(&mut self, entries: &Entries) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return true;
        };
        if first.index() > self.next || first.index() < self.first_index() {
            return false;
        }
        while self
            .runs
            .back()
            .is_some_and(|run| run.first >= first.index())
        {
            self.runs.pop_back();
        }
        self.next = last.index().next();
        // Terms never fall along a log, so equal ends are one term.
        if first.term() == last.term() {
            self.begin_run(first.id());
        } else {
            for entry in entries.iter() {
                self.begin_run(entry.id());
            }
        }
        true
    }

    fn begin_run(&mut self, id: EntryId) {
        if self.runs.back().is_none_or(|run| run.term != id.term) {
            self.runs.push_back(TermRun {
                first: id.index,
                term: id.term,
            });
        }
    }

    /// Drops the entries up to and including `index`, if that is in the log.
    pub fn compact(&mut self, index: LogIndex) -> bool {
        let Some(term) = self.term(index) else {
            return false;
        };
        self.compacted = EntryId::new(term, index);
        let first = index.next();
        while self.runs.get(1).is_some_and(|second| second.first <= first) {
            self.runs.pop_front();
        }
        if first == self.next {
            self.runs.clear();
        } else if let Some(oldest) = self.runs.front_mut() {
            oldest.first = oldest.first.max(first);
        }
        true
    }

    /// The entries up to and with this one are compacted, or replaced by a
    /// snapshot, wherever the log ends.
    pub fn compact_to(&mut self, id: EntryId) {
        if id.index >= self.next {
            *self = Self::behind(id);
        } else if id.index >= self.compacted.index {
            self.compact(id.index);
            self.compacted = id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Entry;
    use alloc::vec::Vec;
    use bytes::Bytes;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term::new(term), LogIndex::new(index))
    }

    fn entries(ids: &[(u64, u64)]) -> Entries {
        let entry = |(term, index): &(u64, u64)| {
            Entry::normal(Term::new(*term), LogIndex::new(*index), Bytes::new())
        };
        Entries::from_batch(ids.iter().map(entry).collect()).unwrap()
    }

    fn terms(runs: &TermRuns) -> Vec<Option<u64>> {
        (0..=runs.next_index().get())
            .map(|index| runs.term(LogIndex::new(index)).map(Term::get))
            .collect()
    }

    #[test]
    fn each_entry_has_its_term_whatever_is_replaced_or_compacted() {
        let mut runs = TermRuns::behind(id(1, 1));
        assert!(runs.append(&entries(&[(2, 2), (2, 3), (3, 4), (5, 5)])));
        assert_eq!(
            terms(&runs),
            [None, Some(1), Some(2), Some(2), Some(3), Some(5), None]
        );
        assert!(runs.append(&entries(&[(6, 4)])));
        assert!(!runs.append(&entries(&[(6, 9)])), "a gap");
        assert_eq!(
            terms(&runs),
            [None, Some(1), Some(2), Some(2), Some(6), None]
        );
        runs.compact_to(id(2, 3));
        assert_eq!(terms(&runs), [None, None, None, Some(2), Some(6), None]);
        // It knows better than before.
        runs.compact_to(id(4, 3));
        assert_eq!(terms(&runs), [None, None, None, Some(4), Some(6), None]);
        runs.compact_to(id(1, 1));
        assert_eq!(runs.first_index(), LogIndex::new(4), "no way back");
        runs.compact_to(id(7, 9));
        assert_eq!(runs, TermRuns::behind(id(7, 9)));
    }
}
