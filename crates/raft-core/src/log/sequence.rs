//! # A growing sequence of entries
//!
//! Shared runs in order of their indexes: append at the end, cut at either end,
//! look up by index. The unstable log and the memory storage both keep their
//! entries in one.
//!
//! - Owns: runs of entries without gaps.

use alloc::collections::VecDeque;

use crate::types::{AtLeast, Entries, Entry, LogIndex, Run, Term};

/// Consecutive entries from `first` on.
///
/// # Invariants
/// - The runs are consecutive and none is empty.
/// - No runs ⇒ `next == first`.
#[derive(Clone)]
pub struct EntrySequence {
    runs: VecDeque<Run>,
    first: LogIndex,
    next: LogIndex,
}

impl core::fmt::Debug for EntrySequence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "EntrySequence[{}, {})", self.first, self.next)
    }
}

impl EntrySequence {
    /// An empty sequence whose first entry will be at `first`.
    pub fn starting_at(first: LogIndex) -> Self {
        Self {
            runs: VecDeque::new(),
            first,
            next: first,
        }
    }

    /// The index of the first entry, or where it will be.
    pub fn first_index(&self) -> LogIndex {
        self.first
    }

    /// The index after the last entry.
    pub fn next_index(&self) -> LogIndex {
        self.next
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends entries. What is there at and behind their first index is cut
    /// off before. Entries that would leave a gap are not taken, and `false`
    /// says so.
    pub fn append(&mut self, entries: Entries) -> bool {
        let Some((first, next)) = entries.range() else {
            return true;
        };
        if first > self.next {
            return false;
        }
        if first < self.first {
            *self = Self::starting_at(first);
        } else if first < self.next {
            self.truncate_from(first);
        }
        entries.move_to(&mut self.runs);
        self.next = next;
        true
    }

    /// Cuts off the entries at `index` and behind.
    pub fn truncate_from(&mut self, index: LogIndex) {
        if index >= self.next {
            return;
        }
        while let Some(last) = self.runs.pop_back() {
            if let Some(kept) = last.between(LogIndex::ZERO, index) {
                self.runs.push_back(kept);
                break;
            }
        }
        self.next = index.max(self.first);
    }

    /// Drops the entries before `index`. If the sequence ends before it, the
    /// next entry will be at `index`.
    pub fn drop_before(&mut self, index: LogIndex) {
        if index <= self.first {
            return;
        }
        while let Some(oldest) = self.runs.front() {
            if oldest.next_index() > index {
                break;
            }
            self.runs.pop_front();
        }
        if let Some(oldest) = self.runs.front_mut()
            && oldest.first_index() < index
            && let Some(kept) = oldest.between(index, oldest.next_index())
        {
            *oldest = kept;
        }
        self.first = index;
        self.next = self.next.max(index);
    }

    /// The run that has `index`, by its place.
    fn run_at(&self, index: LogIndex) -> Option<usize> {
        if index < self.first || index >= self.next {
            return None;
        }
        self.runs
            .partition_point(|run| run.next_index() <= index)
            .into()
    }

    /// The newest run, if it has everything from `low` on. Nearly every look-up
    /// is at the end.
    fn newest_from(&self, low: LogIndex) -> Option<&Run> {
        self.runs.back().filter(|run| run.first_index() <= low)
    }

    /// The newest run, if all of it and nothing else of the sequence is in
    /// `[low, high)`. That is what is asked for as long as everybody keeps up.
    fn whole_newest(&self, low: LogIndex, high: LogIndex) -> Option<&Run> {
        self.runs
            .back()
            .filter(|run| run.first_index() == low && run.next_index() <= high)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        if let Some(newest) = self.newest_from(index) {
            return newest.entry(index);
        }
        self.runs.get(self.run_at(index)?)?.entry(index)
    }

    /// The term of the entry at `index`.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if let Some(newest) = self.newest_from(index) {
            return newest.term(index);
        }
        self.runs.get(self.run_at(index)?)?.term(index)
    }

    /// The entries from `low` up to, but not including, `high`: those of them
    /// that are here.
    #[inline]
    pub fn between(&self, low: LogIndex, high: LogIndex) -> Entries {
        match self.whole_newest(low, high) {
            Some(newest) => Entries::from_run(newest.clone()),
            None => self.between_of_many(low, high),
        }
    }

    fn between_of_many(&self, low: LogIndex, high: LogIndex) -> Entries {
        let mut part = Entries::new();
        let Some(start) = self.run_at(low.max(self.first)) else {
            return part;
        };
        for run in self.runs.range(start..) {
            match run.between(low, high) {
                Some(run) => part.push_run(run),
                None => break,
            }
        }
        part
    }

    /// The entries from `low` up to, but not including, `high`, limited to
    /// `bytes_max` of encoding but one at least (etcd `limitSize`). Looks at no
    /// more entries than it returns, and one.
    #[inline]
    pub fn limited_between(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Entries {
        match self.whole_newest(low, high) {
            Some(newest) if newest.encoded_bytes() <= bytes_max => {
                Entries::from_run(newest.clone())
            }
            _ => self.limited_between_of_many(low, high, bytes_max),
        }
    }

    fn limited_between_of_many(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Entries {
        let mut limited = Entries::new();
        let Some(start) = self.run_at(low.max(self.first)) else {
            return limited;
        };
        let mut bytes_left = bytes_max;
        let mut at_least = AtLeast::OneEntry;
        for run in self.runs.range(start..) {
            let Some(part) = run.between(low, high) else {
                break;
            };
            let len = part.len();
            let Some(part) = part.limited(bytes_left, at_least) else {
                break;
            };
            let is_cut = part.len() < len;
            bytes_left = bytes_left.saturating_sub(part.encoded_bytes());
            limited.push_run(part);
            if is_cut {
                break;
            }
            at_least = AtLeast::Nothing;
        }
        limited
    }
}
