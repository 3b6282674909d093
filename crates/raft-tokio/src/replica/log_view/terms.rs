//! # Terms
//!
//! The term of every entry of the log, in a few bytes per term.
//!
//! - Owns: the runs of entries of one term.

use std::collections::VecDeque;

use raft_core::{Entries, EntryId, LogIndex, Term};

/// Entries of one term, up to the next run.
#[derive(Clone, Copy, Debug)]
struct TermRun {
    first: LogIndex,
    term: Term,
}

/// The terms of the entries behind the compacted ones.
///
/// # Invariants
/// - The first run begins one after `compacted`; neighbours differ in term.
/// - No runs ⇒ `next == compacted.index + 1`.
#[derive(Debug)]
pub(super) struct Terms {
    compacted: EntryId,
    runs: VecDeque<TermRun>,
    next: LogIndex,
}

impl Terms {
    /// Of a log that begins behind `compacted`, and has no entries.
    pub(super) fn behind(compacted: EntryId) -> Self {
        Self {
            compacted,
            runs: VecDeque::new(),
            next: compacted.index.next(),
        }
    }

    pub(super) fn first_index(&self) -> LogIndex {
        self.compacted.index.next()
    }

    pub(super) fn next_index(&self) -> LogIndex {
        self.next
    }

    /// The term of the entry at `index`, which may be one before the first.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
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
    pub(super) fn append(&mut self, entries: &Entries) -> bool {
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
    pub(super) fn compact(&mut self, index: LogIndex) -> bool {
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
}
