//! # A storage that the user writes to
//!
//! [`Node`](crate::Node) reads its log while its user writes it. This shares a
//! [`MemoryStorage`] between the two. (The replica behind
//! [`Raft`](crate::Raft) needs none: one task does both.)
//!
//! - Owns: the storage, behind a lock that is only held to read or write memory.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use raft_core::{
    Entries, InitialState, LogIndex, MemoryStorage, MemoryStorageError, Snapshot, Storage,
    StorageAppend, StorageError, Term,
};

/// A memory storage with many owners.
#[derive(Clone, Debug, Default)]
pub struct SharedStorage(Arc<RwLock<MemoryStorage>>);

impl SharedStorage {
    /// Shares `storage`.
    pub fn new(storage: MemoryStorage) -> Self {
        Self(Arc::new(RwLock::new(storage)))
    }

    /// Stores what a Ready says.
    ///
    /// # Errors
    /// The snapshot is older than the storage's, or the entries leave a gap.
    pub fn write(&self, append: StorageAppend) -> Result<(), MemoryStorageError> {
        let mut storage = self.lock();
        if let Some(snapshot) = append.snapshot {
            storage.apply_snapshot(snapshot)?;
        }
        storage.append(append.entries)?;
        if let Some(hard_state) = append.hard_state {
            storage.set_hard_state(hard_state);
        }
        Ok(())
    }

    /// The storage itself, for as long as the guard lives.
    pub fn lock(&self) -> RwLockWriteGuard<'_, MemoryStorage> {
        // Whoever panicked with the lock held had finished or not begun: every
        // change of the storage is a single call.
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, MemoryStorage> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for SharedStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.read().initial_state()
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.read().entries(low, high, bytes_max)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.read().term(index)
    }

    fn first_index(&self) -> LogIndex {
        self.read().first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.read().last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.read().snapshot()
    }
}
