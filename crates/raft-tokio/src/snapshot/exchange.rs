//! # What a transport gets to send and to take in
//!
//! The door to the snapshots of a replica: to open one that is sent, to begin
//! one that arrives, and to say what became of it.
//!
//! - Owns: nothing; the snapshots are in custody.

use std::fmt;
use std::sync::Arc;

use raft_core::{EntryId, Snapshot};

use super::CHUNK_BYTES;
use super::custody::{Custody, Fate};
use super::incoming::{IncomingError, IncomingSnapshot, ReceivedSnapshot};
use super::manifest::SnapshotManifest;
use super::outgoing::OutgoingSnapshot;
use super::storage::{SnapshotStorage, SnapshotStorageError};

/// Where a transport finds the snapshots that it sends, and puts those that
/// arrive. Clones are the same exchange.
#[derive(Clone)]
pub struct SnapshotExchange {
    custody: Custody,
}

impl fmt::Debug for SnapshotExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotExchange").finish_non_exhaustive()
    }
}

impl SnapshotExchange {
    /// The exchange of a storage, for a test of a transport. A replica makes its
    /// own.
    pub fn new(storage: Arc<dyn SnapshotStorage>) -> Self {
        Self::reporting(storage, |_| {})
    }

    /// Calls `on_damaged` when a snapshot turns out to be unreadable.
    pub(crate) fn reporting(
        storage: Arc<dyn SnapshotStorage>,
        on_damaged: impl Fn(EntryId) + Send + Sync + 'static,
    ) -> Self {
        Self {
            custody: Custody::new(storage, on_damaged),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn SnapshotStorage> {
        self.custody.storage()
    }

    /// Opens the data of a snapshot that is to be sent.
    ///
    /// # Errors
    /// There is no such snapshot, or no longer.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn outgoing(
        &self,
        snapshot: &Snapshot,
    ) -> Result<OutgoingSnapshot, SnapshotStorageError> {
        let manifest = SnapshotManifest::of(snapshot).map_err(SnapshotStorageError::damaged)?;
        OutgoingSnapshot::open(&self.custody, snapshot.metadata.id(), manifest).await
    }

    /// Begins to take in a snapshot, or goes on where an earlier attempt
    /// stopped. Waits a few seconds for another one that is about to end.
    ///
    /// # Errors
    /// Another one arrives, or what arrived is not settled yet; or the disk
    /// failed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn incoming(&self, snapshot: &Snapshot) -> Result<IncomingSnapshot, IncomingError> {
        let manifest = SnapshotManifest::of(snapshot)?;
        IncomingSnapshot::begin(&self.custody, snapshot.metadata.clone(), manifest).await
    }

    /// Takes a snapshot to another replica of this process.
    ///
    /// # Errors
    /// As for [`outgoing`](Self::outgoing) and [`incoming`](Self::incoming).
    ///
    /// # Cancel safety
    /// What was copied is gone on with by the next attempt.
    pub async fn copy(
        &self,
        snapshot: &Snapshot,
        to: &Self,
    ) -> Result<ReceivedSnapshot, IncomingError> {
        to.copy_from(self.outgoing(snapshot).await?, snapshot).await
    }

    /// Takes in what another replica of this process has opened: the data of
    /// this snapshot.
    pub(crate) async fn copy_from(
        &self,
        mut source: OutgoingSnapshot,
        snapshot: &Snapshot,
    ) -> Result<ReceivedSnapshot, IncomingError> {
        let mut target = self.incoming(snapshot).await?;
        while target.offset() < source.manifest().data_bytes {
            let piece = source.read(target.offset(), CHUNK_BYTES).await?;
            target.append(piece).await?;
        }
        Ok(target.finish().await?)
    }

    /// Whether the data of this snapshot has arrived, and no fate is known yet.
    pub(crate) fn has_arrived(&self, id: EntryId) -> bool {
        self.custody.has_arrived(id)
    }

    /// A snapshot of the own state machine is about to be stored: it stays, even
    /// if another replica's copy of it is refused.
    pub(crate) fn protect(&self, id: EntryId) {
        self.custody.protect(id);
    }

    /// One message about a snapshot is done with. If it was the last one and
    /// nobody needs the data, that is removed, on another thread. A replica says
    /// this by itself; whoever reads an inbox without one has to.
    pub fn settle(&self, id: EntryId, fate: Fate) {
        self.custody.settle(id, fate);
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
