//! # A log store in memory
//!
//! For tests and benches: nothing survives the process, every write is done at
//! once. What would have been on the disk can be looked at, and opened again.
//!
//! - Owns: the stored log, shared with whoever wants to reopen it.

use std::sync::{Arc, Mutex, PoisonError};

use raft_core::{EntryId, EntrySequence, HardState, LogIndex, Snapshot};

use super::{
    LogReadDone, LogReadError, LogReadRequest, LogStore, LogStoreError, LogWrite, StoredLog,
    WriteDone,
};
use crate::snapshot::{MemorySnapshots, SnapshotStorage};

/// A log store in memory. Clones share what is stored, so a replica can be
/// stopped and started again with the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogStore {
    stored: Arc<Mutex<Stored>>,
    snapshots: MemorySnapshots,
}

#[derive(Debug)]
struct Stored {
    hard_state: HardState,
    snapshot: Option<Snapshot>,
    entries: EntrySequence,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            hard_state: HardState::EMPTY,
            snapshot: None,
            entries: EntrySequence::starting_at(LogIndex::new(1)),
        }
    }
}

impl MemoryLogStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, read: impl FnOnce(&mut Stored) -> T) -> T {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut stored)
    }
}

impl LogStore for MemoryLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        Ok(self.with(|stored| {
            let first = stored
                .snapshot
                .as_ref()
                .map_or(LogIndex::new(1), |snapshot| snapshot.metadata.index.next());
            StoredLog {
                hard_state: stored.hard_state,
                snapshot: stored.snapshot.clone(),
                entries: stored.entries.between(first, stored.entries.next_index()),
                ..StoredLog::default()
            }
        }))
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        if let Some(snapshot) = &write.snapshot {
            self.snapshots.prune(snapshot.metadata.id());
        }
        self.with(|stored| {
            if let Some(snapshot) = write.snapshot {
                stored.entries = EntrySequence::starting_at(snapshot.metadata.index.next());
                stored.snapshot = Some(snapshot);
            }
            stored.entries.append(write.entries);
            if let Some(hard_state) = write.hard_state {
                stored.hard_state = hard_state;
            }
        });
        done.complete(Ok(()));
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        let LogReadRequest {
            low,
            high,
            bytes_max,
        } = request;
        let found = self.with(|stored| {
            if low < stored.entries.first_index() {
                return Err(LogReadError::Compacted);
            }
            Ok(stored.entries.limited_between(low, high, bytes_max))
        });
        done.complete(found);
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStorage> {
        Arc::new(self.snapshots.clone())
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        self.snapshots.prune(snapshot.metadata.id());
        self.with(|stored| {
            stored.entries.drop_before(compact_to.index.next());
            stored.snapshot = Some(snapshot);
        });
        done.complete(Ok(()));
    }
}
