//! # A growing sequence of entries
//!
//! Shared runs in order of their indexes: append at the end, cut at either end,
//! look up by index. The unstable log and the memory storage both keep their
//! entries in one.
//!
//! - Owns: runs of entries without gaps.

use alloc::collections::VecDeque;

use crate::types::{Entries, Entry, LogIndex, Run, Term};

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
        let Some(first) = entries.first().map(Entry::index) else {
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
        for run in entries.into_runs() {
            self.next = run.next_index();
            self.runs.push_back(run);
        }
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
        // Nearly every look-up is at the end.
        let last = self.runs.len().checked_sub(1)?;
        if self.runs.get(last)?.first_index() <= index {
            return Some(last);
        }
        self.runs
            .partition_point(|run| run.next_index() <= index)
            .into()
    }

    /// The entry at `index`.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.runs.get(self.run_at(index)?)?.entry(index)
    }

    /// The term of the entry at `index`.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.entry(index).map(Entry::term)
    }

    /// The entries from `low` up to, but not including, `high`: those of them
    /// that are here.
    pub fn between(&self, low: LogIndex, high: LogIndex) -> Entries {
        let mut part = Entries::new();
        let Some(start) = self.run_at(low.max(self.first)) else {
            return part;
        };
        for run in self.runs.iter().skip(start) {
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
    pub fn limited_between(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Entries {
        let mut limited = Entries::new();
        let Some(start) = self.run_at(low.max(self.first)) else {
            return limited;
        };
        let mut bytes = 0_u64;
        for run in self.runs.iter().skip(start) {
            let Some(part) = run.between(low, high) else {
                break;
            };
            let sum = bytes.saturating_add(part.encoded_bytes());
            if sum <= bytes_max {
                bytes = sum;
                limited.push_run(part);
                continue;
            }
            let mut end = part.first_index();
            for entry in part.entries() {
                bytes = bytes.saturating_add(entry.encoded_len());
                let is_first = limited.is_empty() && end == part.first_index();
                if bytes > bytes_max && !is_first {
                    break;
                }
                end = entry.index().next();
            }
            if let Some(part) = part.between(part.first_index(), end) {
                limited.push_run(part);
            }
            break;
        }
        limited
    }
}
