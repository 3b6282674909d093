//! # Which snapshots have arrived, and who still needs them
//!
//! A snapshot that arrived and was refused by the protocol is removed; one that
//! the log refers to never is. One arrives at a time, and the next one is taken
//! in when it is known what became of the one before.
//!
//! - Owns: which snapshots have arrived and are not settled; the place of the
//!   one that may arrive.
//! - Reads, emits: data of the [`SnapshotStorage`]; that some of it is damaged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_core::EntryId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::manifest::SnapshotManifest;
use super::storage::{SnapshotStorage, SnapshotStorageError};

/// How long a new attempt waits for the one that it replaces to notice.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);

/// What became of a snapshot that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The log refers to it.
    Installed,
    /// Nobody needs it.
    Refused,
}

/// Clones are the same custody.
#[derive(Clone)]
pub(super) struct Custody {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn SnapshotStorage>,
    /// One arrives at a time.
    receiving: Arc<Semaphore>,
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

impl Custody {
    pub(super) fn new(
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

    pub(super) fn storage(&self) -> &Arc<dyn SnapshotStorage> {
        &self.inner.storage
    }

    /// The place of the one that may arrive, or `None` if it does not become
    /// free.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.inner.receiving.clone().acquire_owned();
        timeout(PLACE_PATIENCE, place).await.ok()?.ok()
    }

    /// Whether the data of this snapshot has arrived, and no fate is known yet.
    pub(super) fn has_arrived(&self, id: EntryId) -> bool {
        let ledger = self.ledger();
        let arrived = ledger.arrived.get(&id);
        arrived.is_some_and(|arrived| arrived.messages > 0)
    }

    /// A snapshot of the own state machine is about to be stored: it stays, even
    /// if another replica's copy of it is refused.
    pub(super) fn protect(&self, id: EntryId) {
        self.ledger().own = Some(id);
    }

    /// One message about a snapshot is done with. If it was the last one and
    /// nobody needs the data, that is removed, on another thread.
    pub(super) fn settle(&self, id: EntryId, fate: Fate) {
        let custody = self.clone();
        let settle = move || {
            if let Err(error) = custody.settle_now(id, fate) {
                tracing::warn!(index = %id.index, %error,
                    "a snapshot that is not needed could not be removed; the next start does");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(settle)),
            Err(_) => settle(),
        }
    }

    pub(super) fn settle_now(&self, id: EntryId, fate: Fate) -> Result<(), SnapshotStorageError> {
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
