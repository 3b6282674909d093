//! # Sizes
//!
//! How much of the log is behind an index, in encoded bytes and roughly: there is
//! a mark for every MiB, and nothing per entry.
//!
//! - Owns: the marks.

use std::collections::VecDeque;

use raft_core::{Entries, LogIndex};

/// So much is between two marks, in bytes, unless one entry is larger.
const MARK_BYTES: u64 = 1 << 20;

/// How much there was when the log ended here.
#[derive(Clone, Copy, Debug)]
struct Mark {
    next: LogIndex,
    total_bytes: u64,
}

/// How large the parts of the log are.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Oldest first.
    marks: VecDeque<Mark>,
    /// Everything that was appended and not replaced, roughly.
    total_bytes: u64,
}

impl Sizes {
    /// Follows an append, which replaces what is there.
    pub(super) fn append(&mut self, entries: &Entries) {
        let Some(first) = entries.first() else {
            return;
        };
        while let Some(last) = self.marks.back()
            && last.next > first.index()
        {
            self.marks.pop_back();
            self.total_bytes = self.marks.back().map_or(0, |mark| mark.total_bytes);
        }
        if entries.encoded_bytes() <= MARK_BYTES {
            self.add(first.index(), entries.encoded_bytes());
        } else {
            // At a start the whole log may come at once.
            for entry in entries.iter() {
                self.add(entry.index(), entry.encoded_len());
            }
        }
    }

    fn add(&mut self, first: LogIndex, bytes: u64) {
        let is_due = self.marks.back().is_none_or(|mark| {
            self.total_bytes.saturating_add(bytes) - mark.total_bytes > MARK_BYTES
        });
        if is_due {
            self.marks.push_back(Mark {
                next: first,
                total_bytes: self.total_bytes,
            });
        }
        self.total_bytes = self.total_bytes.saturating_add(bytes);
    }

    /// Drops the entries up to and including `index`.
    pub(super) fn drop_to(&mut self, index: LogIndex) {
        while self
            .marks
            .get(1)
            .is_some_and(|second| second.next <= index.next())
        {
            self.marks.pop_front();
        }
    }

    /// What the entries behind `index` take, or up to a mark more.
    pub(super) fn bytes_behind(&self, index: LogIndex) -> u64 {
        let behind = self.marks.partition_point(|mark| mark.next <= index.next());
        let before = behind
            .checked_sub(1)
            .and_then(|place| self.marks.get(place));
        let start = before.or(self.marks.front());
        start.map_or(0, |mark| self.total_bytes - mark.total_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raft_core::{Entry, Term};

    const ENTRY_BYTES: usize = 100 << 10;

    fn entries(from: u64, to: u64) -> Entries {
        let entry = |index| {
            let data = Bytes::from(vec![0; ENTRY_BYTES]);
            Entry::normal(Term::new(1), LogIndex::new(index), data)
        };
        Entries::from_batch((from..to).map(entry).collect()).unwrap()
    }

    /// The entries from 1 up to, but not including, `next`.
    fn assert_is_right(sizes: &Sizes, next: u64) {
        for index in 0..next {
            let exact = (next - 1 - index) * u64::try_from(ENTRY_BYTES).unwrap();
            let found = sizes.bytes_behind(LogIndex::new(index));
            let slack = MARK_BYTES + exact / 100;
            assert!(found >= exact && found <= exact + slack, "{index}: {found}");
        }
    }

    #[test]
    fn what_is_behind_an_index_is_known_to_a_mib() {
        let mut one_by_one = Sizes::default();
        for index in 1..200 {
            one_by_one.append(&entries(index, index + 1));
        }
        assert_is_right(&one_by_one, 200);
        let mut at_once = Sizes::default();
        at_once.append(&entries(1, 200));
        assert_is_right(&at_once, 200);
        assert!(at_once.marks.len() < 25, "{} marks", at_once.marks.len());
        at_once.drop_to(LogIndex::new(150));
        assert!(at_once.marks.len() < 8, "{} marks", at_once.marks.len());
        let behind = at_once.bytes_behind(LogIndex::new(150));
        assert_eq!(behind, one_by_one.bytes_behind(LogIndex::new(150)));
    }

    #[test]
    fn what_is_replaced_counts_once() {
        let mut sizes = Sizes::default();
        sizes.append(&entries(1, 200));
        sizes.append(&entries(20, 60));
        let exact = 59 * u64::try_from(ENTRY_BYTES).unwrap();
        let found = sizes.bytes_behind(LogIndex::ZERO);
        assert!(found.abs_diff(exact) <= MARK_BYTES, "{found} of {exact}");
        sizes.append(&entries(1, 2));
        assert!(sizes.bytes_behind(LogIndex::ZERO) <= MARK_BYTES);
    }
}
