//! # The log
//!
//! The stable entries in the storage and the unstable ones behind them, as one
//! log; and how far it is committed.
//!
//! - Owns: the storage view, the unstable log, the commit index, the cursors of
//!   application.
//! - Reads: [`Storage`].
//! - Source: Raft §5.3, Fig. 2 (`log[]`, `commitIndex`, `lastApplied`); etcd
//!   `raftLog`.

mod applying;
mod conflict;
mod sequence;
mod unstable;

use crate::storage::{Storage, StorageError};
use crate::types::{Entries, EntryId, LogIndex, Snapshot, Term};

use applying::Applying;
pub use sequence::EntrySequence;
use unstable::Unstable;

/// Which committed entries may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appliable {
    /// All: the driver writes a Ready before it applies it.
    Committed,
    /// Only those that are stable here: writing and applying are not ordered.
    Stable,
}

/// The log of one server.
///
/// # Invariants
/// - `applied <= applying <= committed <= last_index`.
/// - `first_index - 1 <= committed`.
#[derive(Debug)]
pub(crate) struct RaftLog<S> {
    storage: S,
    unstable: Unstable,
    committed: LogIndex,
    applying: Applying,
    appliable: Appliable,
}

impl<S: Storage> RaftLog<S> {
    /// The log in `storage`, committed and applied up to its first entry.
    pub(crate) fn new(storage: S, applying_bytes_max: u64, appliable: Appliable) -> Self {
        let start = storage.first_index().prev();
        let unstable = Unstable::new(storage.last_index().next());
        Self {
            storage,
            unstable,
            committed: start,
            applying: Applying::new(start, applying_bytes_max),
            appliable,
        }
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    pub(crate) fn unstable(&self) -> &Unstable {
        &self.unstable
    }

    pub(crate) fn committed(&self) -> LogIndex {
        self.committed
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applying.applied()
    }

    pub(crate) fn applying(&self) -> LogIndex {
        self.applying.applying()
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.unstable
            .first_index()
            .unwrap_or_else(|| self.storage.first_index())
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.unstable
            .last_index()
            .unwrap_or_else(|| self.storage.last_index())
    }

    /// The term of the entry at `index`, from one before the first entry on.
    pub(crate) fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if index >= self.unstable.offset() {
            return Err(StorageError::Unavailable);
        }
        if self
            .unstable
            .first_index()
            .is_some_and(|first| index.next() < first)
        {
            return Err(StorageError::Compacted);
        }
        self.storage.term(index)
    }

    /// The term of the entry at `index`, or `None` if it is not in the log.
    pub(crate) fn known_term(&self, index: LogIndex) -> Result<Option<Term>, StorageError> {
        match self.term(index) {
            Ok(term) => Ok(Some(term)),
            Err(StorageError::Compacted | StorageError::Unavailable) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Term and index of the last entry.
    pub(crate) fn last_id(&self) -> Result<EntryId, StorageError> {
        let index = self.last_index();
        Ok(EntryId::new(self.term(index)?, index))
    }

    /// Whether the log has the entry with this id.
    pub(crate) fn matches(&self, id: EntryId) -> Result<bool, StorageError> {
        Ok(self.known_term(id.index)? == Some(id.term))
    }

    /// Appends a leader's new entries.
    pub(crate) fn append(&mut self, entries: Entries) {
        self.unstable.truncate_and_append(entries);
    }

    /// Appends what a leader sent after `prev`, from the first entry that the
    /// log does not have. Returns the last index that now matches the leader's
    /// log, or `None` if `prev` is not in the log.
    pub(crate) fn append_after(
        &mut self,
        prev: EntryId,
        entries: Entries,
        commit: LogIndex,
    ) -> Result<Option<LogIndex>, StorageError> {
        if !self.matches(prev)? {
            return Ok(None);
        }
        let last_new = prev.index.plus(entries.count());
        if let Some(conflict) = self.first_conflict(&entries)? {
            let new = if conflict == prev.index.next() {
                entries
            } else {
                entries.between(conflict, last_new.next())
            };
            self.unstable.truncate_and_append(new);
        }
        // A follower may only commit what this message proves to match.
        self.commit_to(commit.min(last_new));
        Ok(Some(last_new))
    }

    /// Moves the commit index forward; never back, never behind the end.
    pub(crate) fn commit_to(&mut self, commit: LogIndex) {
        if commit > self.committed {
            self.committed = commit.min(self.last_index());
        }
    }

    /// Commits up to `id.index` if the entry there is of `id.term`: a leader
    /// only counts replicas of entries of its own term (Raft §5.4.2).
    pub(crate) fn commit_if_of_term(&mut self, id: EntryId) -> Result<bool, StorageError> {
        if id.index > self.committed
            && id.term != Term::ZERO
            && self.known_term(id.index)? == Some(id.term)
        {
            self.commit_to(id.index);
            return Ok(true);
        }
        Ok(false)
    }

    /// The entries from `low` on, limited to `bytes_max`, but one at least.
    pub(crate) fn entries_from(
        &self,
        low: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        let end = self.last_index().next();
        if low >= end {
            return Ok(Entries::new());
        }
        if low >= self.unstable.offset() {
            return Ok(self.unstable.limited_between(low, end, bytes_max));
        }
        self.slice(low, end, bytes_max)
    }

    /// The entries from `low` up to, but not including, `high`, limited to
    /// `bytes_max`, but one at least.
    pub(crate) fn slice(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        if low >= high {
            return Ok(Entries::new());
        }
        if low < self.first_index() {
            return Err(StorageError::Compacted);
        }
        if high > self.last_index().next() {
            return Err(StorageError::Unavailable);
        }
        let offset = self.unstable.offset();
        if low >= offset {
            return Ok(self.unstable.limited_between(low, high, bytes_max));
        }
        if high <= offset {
            return self.storage.entries(low, high, bytes_max);
        }
        let mut entries = self.storage.entries(low, offset, bytes_max)?;
        if entries.count() < offset.distance_from(low) {
            return Ok(entries);
        }
        if bytes_max == u64::MAX {
            entries.extend(self.unstable.limited_between(offset, high, bytes_max));
            return Ok(entries);
        }
        let bytes = entries.encoded_bytes();
        if bytes >= bytes_max {
            return Ok(entries);
        }
        let left = bytes_max.saturating_sub(bytes);
        let more = self.unstable.limited_between(offset, high, left);
        // One entry comes in any case; here it must fit.
        if more.len() > 1 || more.encoded_bytes() <= left {
            entries.extend(more);
        }
        Ok(entries)
    }

    /// Whether a snapshot waits to be stored, or is being stored.
    pub(crate) fn has_pending_snapshot(&self) -> bool {
        self.unstable.snapshot().is_some()
    }

    /// The index of the snapshot that waits or is being stored; zero without one.
    pub(crate) fn pending_snapshot_index(&self) -> LogIndex {
        let snapshot = self.unstable.snapshot();
        snapshot.map_or(LogIndex::ZERO, |snapshot| snapshot.metadata.index)
    }

    /// The last index that may be applied now.
    fn appliable_index(&self) -> LogIndex {
        match self.appliable {
            Appliable::Committed => self.committed,
            Appliable::Stable => self.committed.min(self.unstable.offset().prev()),
        }
    }

    /// Whether there are committed entries to hand out. A snapshot is applied
    /// before anything else.
    pub(crate) fn has_next_committed(&self) -> bool {
        !self.applying.is_paused()
            && !self.has_pending_snapshot()
            && self.applying.applying() < self.appliable_index()
    }

    /// The committed entries to hand out next, within the budget.
    #[inline]
    pub(crate) fn next_committed(&self) -> Result<Entries, StorageError> {
        if !self.has_next_committed() {
            return Ok(Entries::new());
        }
        self.slice(
            self.applying.applying().next(),
            self.appliable_index().next(),
            self.applying.bytes_left(),
        )
    }

    /// Committed entries up to `index`, of `bytes` of encoding, have been handed
    /// out.
    pub(crate) fn accept_applying(&mut self, index: LogIndex, bytes: u64) {
        // Nothing is counted where there is no budget.
        let bytes = if self.applying.bytes_max() == u64::MAX {
            0
        } else {
            bytes
        };
        let appliable = self.appliable_index();
        self.applying.accept(index, bytes, appliable);
    }

    /// The state machine has applied everything up to `index`.
    pub(crate) fn applied_to(&mut self, index: LogIndex, bytes: u64) {
        self.applying.applied_to(index.min(self.committed), bytes);
    }

    /// How many bytes of committed entries may be read at once.
    pub(crate) fn applying_bytes_max(&self) -> u64 {
        self.applying.bytes_max()
    }

    pub(crate) fn accept_unstable(&mut self) {
        self.unstable.accept_in_progress();
    }

    pub(crate) fn stable_to(&mut self, id: EntryId) {
        self.unstable.stable_to(id);
    }

    pub(crate) fn snapshot_stable_to(&mut self, index: LogIndex) {
        self.unstable.snapshot_stable_to(index);
    }

    /// The latest snapshot: the incoming one, or that of the storage.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match self.unstable.snapshot() {
            Some(snapshot) => Ok(snapshot.clone()),
            None => self.storage.snapshot(),
        }
    }

    /// Replaces the log by a snapshot, which is committed by nature.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        self.committed = snapshot.metadata.index;
        self.unstable.restore(snapshot);
    }
}

#[cfg(test)]
mod tests;
