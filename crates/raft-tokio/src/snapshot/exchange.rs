//! # What is on its way, and who still needs it
//!
//! What a transport gets to send and to take in snapshots, and what keeps their
//! number within bounds: one arrives at a time, and the next one is taken in
//! when it is known what became of the one before. A snapshot that arrived and
//! was refused by the protocol is removed; one that the log refers to never is.
//!
//! - Owns: which snapshots have arrived and are not settled.
//! - Reads, emits: data of the [`SnapshotStorage`]; that some of it is damaged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_core::{EntryId, Snapshot};
use tokio::sync::Semaphore;

use super::incoming::{self, IncomingError, IncomingSnapshot, ReceivedSnapshot};
use super::manifest::SnapshotManifest;
use super::outgoing::OutgoingSnapshot;
use super::storage::{SnapshotStorage, SnapshotStorageError};

/// What became of a snapshot that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The log refers to it.
    Installed,
    /// Nobody needs it.
    Refused,
}

/// Where a transport finds the snapshots that it sends, and puts those that
/// arrive. Clones are the same exchange.
#[derive(Clone)]
pub struct SnapshotExchange {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) storage: Arc<dyn SnapshotStorage>,
    /// One arrives at a time.
    pub(super) receiving: Arc<Semaphore>,
    /// Held while it is decided whether a file is there and whether it stays.
    files: Mutex<()>,
    ledger: Mutex<Ledger>,
    on_damaged: Box<dyn Fn(EntryId) + Send + Sync>,
}

/// Held briefly, never while a disk is waited for.
#[derive(Debug, Default)]
struct Ledger {
    arrived: HashMap<EntryId, Arrived>,
    /// The latest of the own state machine, from before it has its name.
    own: Option<EntryId>,
}

/// A snapshot that arrived and is not settled.
#[derive(Debug, Default)]
struct Arrived {
    /// How many messages speak of it.
    messages: usize,
    /// It was there before, or the log refers to it by now.
    stays: bool,
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
            inner: Arc::new(Inner {
                storage,
                receiving: Arc::new(Semaphore::new(1)),
                files: Mutex::default(),
                ledger: Mutex::default(),
                on_damaged: Box::new(on_damaged),
            }),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn SnapshotStorage> {
        &self.inner.storage
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
        OutgoingSnapshot::open(self, snapshot.metadata.id(), manifest).await
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
        incoming::begin(self, snapshot.metadata.clone(), manifest).await
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
        self.outgoing(snapshot).await?.copy_to(snapshot, to).await
    }

    /// Whether the data of this snapshot has arrived, and no fate is known yet.
    pub(crate) fn has_arrived(&self, id: EntryId) -> bool {
        let ledger = self.ledger();
        let arrived = ledger.arrived.get(&id);
        arrived.is_some_and(|arrived| arrived.messages > 0)
    }

    /// A snapshot of the own state machine is about to be stored: it stays, even
    /// if another replica's copy of it is refused.
    pub(crate) fn protect(&self, id: EntryId) {
        self.ledger().own = Some(id);
    }

    /// One message about a snapshot is done with. If it was the last one and
    /// nobody needs the data, that is removed, on another thread. A replica says
    /// this by itself; whoever reads an inbox without one has to.
    pub fn settle(&self, id: EntryId, fate: Fate) {
        let exchange = self.clone();
        let settle = move || {
            if let Err(error) = exchange.settle_now(id, fate) {
                tracing::warn!(index = %id.index, %error,
                    "a snapshot that is not needed could not be removed; the next start does");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(settle)),
            Err(_) => settle(),
        }
    }

    fn settle_now(&self, id: EntryId, fate: Fate) -> Result<(), SnapshotStorageError> {
        let _files = self.files();
        let goes = {
            let mut ledger = self.ledger();
            let Some(arrived) = ledger.arrived.get_mut(&id) else {
                return Ok(());
            };
            arrived.messages = arrived.messages.saturating_sub(1);
            arrived.stays |= fate == Fate::Installed;
            let (is_last, stays) = (arrived.messages == 0, arrived.stays);
            if is_last {
                ledger.arrived.remove(&id);
            }
            is_last && !stays && ledger.own != Some(id)
        };
        if !goes {
            return Ok(());
        }
        match self.inner.storage.remove(id) {
            // It never became whole.
            Err(SnapshotStorageError::Missing) => Ok(()),
            removed => removed,
        }
    }

    /// Counts a message more about a snapshot that is there, if it is. Blocks.
    pub(super) fn claim_existing(
        &self,
        id: EntryId,
    ) -> Result<Option<SnapshotManifest>, SnapshotStorageError> {
        let _files = self.files();
        let found = match self.inner.storage.open(id) {
            Ok(stored) => Some(stored.manifest),
            Err(SnapshotStorageError::Missing) => None,
            // It will be replaced; but the log may refer to it.
            Err(SnapshotStorageError::Damaged(_)) => {
                self.ledger().arrived.entry(id).or_default().stays = true;
                None
            }
            Err(error) => return Err(error),
        };
        if found.is_some() {
            let mut ledger = self.ledger();
            let is_unknown = !ledger.arrived.contains_key(&id);
            let arrived = ledger.arrived.entry(id).or_default();
            arrived.messages += 1;
            // Somebody else has put it there.
            arrived.stays |= is_unknown;
        }
        Ok(found)
    }

    /// Counts a message about a snapshot that is about to be whole.
    pub(super) fn claim(&self, id: EntryId) {
        self.ledger().arrived.entry(id).or_default().messages += 1;
    }

    /// Whether another snapshot than this one has arrived and is not settled.
    pub(super) fn is_busy_but_for(&self, id: EntryId) -> bool {
        let ledger = self.ledger();
        let mut others = ledger.arrived.iter().filter(|(other, _)| **other != id);
        others.any(|(_, arrived)| arrived.messages > 0)
    }

    pub(super) fn report_damaged(&self, id: EntryId) {
        (self.inner.on_damaged)(id);
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        self.inner
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.inner
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
