//! # Storage in memory
//!
//! The stable log as a value: for tests, for examples, and as the view that a
//! driver keeps of a log whose bytes are on disk.
//!
//! - Owns: hard state, snapshot and the entries behind the compacted ones.
//! - Source: etcd `raft.MemoryStorage`.

use bytes::Bytes;

use crate::log::EntrySequence;
use crate::storage::{InitialState, Storage, StorageError};
use crate::types::{
    ConfState, Entries, EntryId, HardState, LogIndex, Snapshot, SnapshotMetadata, Term,
};

/// The stable log in memory.
///
/// # Invariants
/// - `entries` begins one after `compacted`.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    hard_state: HardState,
    snapshot: Snapshot,
    /// The last entry that was compacted away, or that the snapshot replaced.
    compacted: EntryId,
    entries: EntrySequence,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

/// A change of the storage that cannot be made; nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryStorageError {
    /// The snapshot is older than the one that is there.
    #[error("the snapshot is older than the one in the storage")]
    SnapshotOutOfDate,
    /// The index was compacted away already.
    #[error("the entry was compacted away already")]
    Compacted,
    /// The index is behind the end of the log.
    #[error("the entry is not in the log")]
    Unavailable,
}

impl MemoryStorage {
    /// An empty log.
    pub fn new() -> Self {
        Self {
            hard_state: HardState::EMPTY,
            snapshot: Snapshot::default(),
            compacted: EntryId::default(),
            entries: EntrySequence::starting_at(LogIndex::new(1)),
        }
    }

    /// An empty log whose cluster has these voters.
    pub fn with_conf_state(conf_state: ConfState) -> Self {
        let mut storage = Self::new();
        storage.snapshot.metadata.conf_state = conf_state;
        storage
    }

    /// The stored term, vote and commit index.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Stores term, vote and commit index.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Stores entries. What is there at and behind their first index is
    /// replaced; entries that are compacted already are passed over.
    ///
    /// # Errors
    /// [`MemoryStorageError::Unavailable`] if they would leave a gap.
    pub fn append(&mut self, entries: Entries) -> Result<(), MemoryStorageError> {
        let Some((first, next)) = entries.range() else {
            return Ok(());
        };
        let first_index = self.entries.first_index();
        if next <= first_index {
            return Ok(());
        }
        let entries = if first < first_index {
            entries.between(first_index, next)
        } else {
            entries
        };
        if self.entries.append(entries) {
            Ok(())
        } else {
            Err(MemoryStorageError::Unavailable)
        }
    }

    /// Replaces everything by a snapshot. Entries behind it are dropped.
    ///
    /// # Errors
    /// [`MemoryStorageError::SnapshotOutOfDate`] if the storage has a newer one.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), MemoryStorageError> {
        let own = self.snapshot.metadata.index;
        if own != LogIndex::ZERO && own >= snapshot.metadata.index {
            return Err(MemoryStorageError::SnapshotOutOfDate);
        }
        self.compacted = snapshot.metadata.id();
        self.entries = EntrySequence::starting_at(self.compacted.index.next());
        self.snapshot = snapshot;
        Ok(())
    }

    /// Records a snapshot of the state machine at `index`. The log stays as it
    /// is until [`compact`](Self::compact).
    ///
    /// # Errors
    /// The index is not in the log, or older than the latest snapshot.
    pub fn create_snapshot(
        &mut self,
        index: LogIndex,
        conf_state: Option<ConfState>,
        data: Bytes,
    ) -> Result<&Snapshot, MemoryStorageError> {
        if index <= self.snapshot.metadata.index {
            return Err(MemoryStorageError::SnapshotOutOfDate);
        }
        let term = self
            .term(index)
            .map_err(|_| MemoryStorageError::Unavailable)?;
        let conf_state = conf_state.unwrap_or_else(|| self.snapshot.metadata.conf_state.clone());
        self.snapshot = Snapshot {
            metadata: SnapshotMetadata {
                index,
                term,
                conf_state,
            },
            data,
        };
        Ok(&self.snapshot)
    }

    /// Drops the entries up to and including `index`.
    ///
    /// # Errors
    /// The index was compacted already, or is behind the end of the log.
    pub fn compact(&mut self, index: LogIndex) -> Result<(), MemoryStorageError> {
        if index <= self.compacted.index {
            return Err(MemoryStorageError::Compacted);
        }
        let term = self
            .entries
            .term(index)
            .ok_or(MemoryStorageError::Unavailable)?;
        self.compacted = EntryId::new(term, index);
        self.entries.drop_before(index.next());
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(InitialState {
            hard_state: self.hard_state,
            conf_state: self.snapshot.metadata.conf_state.clone(),
        })
    }

    #[inline]
    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        let log = self.entries.first_index()..self.entries.next_index();
        StorageError::check_bounds(low..high, log)?;
        Ok(self.entries.limited_between(low, high, bytes_max))
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.compacted.index {
            return Ok(self.compacted.term);
        }
        if index < self.compacted.index {
            return Err(StorageError::Compacted);
        }
        self.entries.term(index).ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> LogIndex {
        self.entries.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.entries.next_index().prev()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests;
