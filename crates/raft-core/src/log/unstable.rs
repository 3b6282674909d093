//! # The unstable log
//!
//! Entries and a snapshot that are not in the storage yet: waiting to be handed
//! out for writing, or being written.
//!
//! ```text
//!   storage ─────────┐first       in_progress        next
//!                    │ being written  │ waiting        │
//!                    └────────────────┴────────────────┘
//! ```
//!
//! - Owns: the entries behind the storage, the incoming snapshot, and the marks
//!   of what is being written.
//! - Source: etcd `log_unstable.go`.

use super::EntrySequence;
use crate::invariant::BrokenInvariant;
use crate::types::{Entries, EntryId, LogIndex, Snapshot, Term};

/// What is not stable yet.
///
/// # Invariants
/// - `entries.first_index() <= in_progress <= entries.next_index()`.
/// - `snapshot.is_some()` and entries ⇒ the entries begin after the snapshot.
#[derive(Debug)]
pub(crate) struct Unstable {
    snapshot: Option<Snapshot>,
    snapshot_in_progress: bool,
    entries: EntrySequence,
    /// The index after the last entry that is being written.
    in_progress: LogIndex,
}

impl Unstable {
    /// Nothing unstable behind a storage whose next entry is at `first`.
    pub(crate) fn new(first: LogIndex) -> Self {
        Self {
            snapshot: None,
            snapshot_in_progress: false,
            entries: EntrySequence::starting_at(first),
            in_progress: first,
        }
    }

    /// Whether the invariants hold; the first that does not is named.
    pub(crate) fn check(&self) -> Result<(), BrokenInvariant> {
        let (offset, next) = (self.offset(), self.entries.next_index());
        let in_progress = self.in_progress;
        if in_progress < offset || in_progress > next {
            return Err(BrokenInvariant::UnstableOutOfOrder {
                offset,
                in_progress,
                next,
            });
        }
        let entries = self.entries.between(offset, next);
        let end = entries.iter().try_fold(offset, |expected, entry| {
            (entry.index() == expected).then(|| expected.next())
        });
        if end != Some(next) {
            return Err(BrokenInvariant::UnstableNotConsecutive { offset });
        }
        let snapshot = self.snapshot.as_ref().map(|s| s.metadata.index);
        match snapshot.filter(|snapshot| *snapshot >= offset) {
            None => Ok(()),
            Some(snapshot) => Err(BrokenInvariant::UnstableBeforeSnapshot { offset, snapshot }),
        }
    }

    /// The first index that the storage need not know about.
    pub(crate) fn offset(&self) -> LogIndex {
        self.entries.first_index()
    }

    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The first index of the log, if a snapshot decides it.
    pub(crate) fn first_index(&self) -> Option<LogIndex> {
        self.snapshot
            .as_ref()
            .map(|snapshot| snapshot.metadata.index.next())
    }

    /// The last index of the log, if something unstable decides it.
    pub(crate) fn last_index(&self) -> Option<LogIndex> {
        if self.entries.is_empty() {
            self.snapshot
                .as_ref()
                .map(|snapshot| snapshot.metadata.index)
        } else {
            Some(self.entries.next_index().prev())
        }
    }

    /// The term of the entry at `index`, if it is unstable.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index < self.offset() {
            return self
                .snapshot
                .as_ref()
                .filter(|snapshot| snapshot.metadata.index == index)
                .map(|snapshot| snapshot.metadata.term);
        }
        self.entries.term(index)
    }

    pub(crate) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether entries wait to be handed out.
    pub(crate) fn has_next_entries(&self) -> bool {
        self.in_progress < self.entries.next_index()
    }

    /// The entries that wait to be handed out.
    #[inline]
    pub(crate) fn next_entries(&self) -> Entries {
        self.entries
            .between(self.in_progress, self.entries.next_index())
    }

    /// The snapshot that waits to be handed out.
    pub(crate) fn next_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot
            .as_ref()
            .filter(|_| !self.snapshot_in_progress)
    }

    /// Everything that waited has been handed out.
    pub(crate) fn accept_in_progress(&mut self) {
        if !self.entries.is_empty() {
            self.in_progress = self.entries.next_index();
        }
        if self.snapshot.is_some() {
            self.snapshot_in_progress = true;
        }
    }

    /// Everything up to `id` is stable. Ignored where another entry stands
    /// there by now.
    ///
    /// The caller attests that no write on its way can still replace these
    /// entries; see [`StableMark`](crate::ready::StableMark).
    pub(crate) fn stable_to(&mut self, id: EntryId) {
        if id.index < self.offset() || self.entries.term(id.index) != Some(id.term) {
            return;
        }
        self.entries.drop_before(id.index.next());
        self.in_progress = self.in_progress.max(self.offset());
    }

    /// The snapshot at `index` is stable.
    pub(crate) fn snapshot_stable_to(&mut self, index: LogIndex) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.metadata.index == index)
        {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    /// Replaces everything by `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        let first = snapshot.metadata.index.next();
        self.entries = EntrySequence::starting_at(first);
        self.in_progress = first;
        self.snapshot = Some(snapshot);
        self.snapshot_in_progress = false;
    }

    /// Appends entries, replacing what is at and behind their first index.
    pub(crate) fn truncate_and_append(&mut self, entries: Entries) {
        let Some(first) = entries.first_index() else {
            return;
        };
        // What is replaced is no longer being written as far as we know.
        self.in_progress = if first <= self.offset() {
            first
        } else {
            self.in_progress.min(first)
        };
        if first < self.offset() {
            self.entries = EntrySequence::starting_at(first);
        }
        // Cuts off what is replaced, and keeps its room.
        self.entries.append(entries);
    }

    /// The unstable entries from `low` up to, but not including, `high`.
    pub(crate) fn limited_between(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Entries {
        self.entries.limited_between(low, high, bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, SnapshotMetadata};
    use bytes::Bytes;
    use smallvec::SmallVec;

    fn at(indexes: impl IntoIterator<Item = u64>) -> Entries {
        let entry = |index| Entry::normal(Term::new(1), LogIndex::new(index), Bytes::new());
        Entries::from_numbered(indexes.into_iter().map(entry).collect::<SmallVec<_>>())
    }

    /// Entries 5 to 7, of which the first is being written.
    fn sound() -> Unstable {
        let mut unstable = Unstable::new(LogIndex::new(5));
        unstable.truncate_and_append(at([5]));
        unstable.accept_in_progress();
        unstable.truncate_and_append(at([6, 7]));
        assert_eq!(unstable.check(), Ok(()));
        unstable
    }

    #[test]
    fn each_invariant_is_noticed_where_it_is_broken() {
        for in_progress in [4, 9] {
            let mut unstable = sound();
            unstable.in_progress = LogIndex::new(in_progress);
            let checked = unstable.check();
            assert!(
                matches!(checked, Err(BrokenInvariant::UnstableOutOfOrder { .. })),
                "{checked:?}"
            );
        }
        // Entries that only say that they are consecutive.
        let mut unstable = sound();
        unstable.entries.append(at([8, 10]));
        let offset = unstable.offset();
        let broken = BrokenInvariant::UnstableNotConsecutive { offset };
        assert_eq!(unstable.check(), Err(broken));
        for (snapshot, is_before) in [(4, true), (5, false), (7, false)] {
            let mut unstable = sound();
            unstable.snapshot = Some(Snapshot {
                metadata: SnapshotMetadata {
                    index: LogIndex::new(snapshot),
                    ..SnapshotMetadata::default()
                },
                ..Snapshot::default()
            });
            assert_eq!(unstable.check().is_ok(), is_before, "{snapshot}");
        }
    }
}
