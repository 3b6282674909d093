//! # The durable log store
//!
//! A [`Wal`] for entries, votes and marks, and [`SnapshotFiles`] beside it for
//! the data of snapshots, in one folder. Writes go straight to the log's own
//! thread, which syncs whatever has queued up at once, and entries come back from
//! another of its threads. The log refers to snapshots that are durable already;
//! once it refers to a newer one, a thread of their own removes those that are too
//! old, so that the log waits for no unlinking.
//!
//! - Owns: the log, the thread that removes snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use raft_core::{EntryId, NodeId, Snapshot, SnapshotMetadata};
use raft_wal::{
    Identity, Incarnation, OpenError, ReadError, Recovered, SnapshotError, Sync, Wal, WalError,
    WalOptions, Write,
};

use super::{
    Durability, LogReadDone, LogReadError, LogReadRequest, LogStore, LogStoreError, LogWrite,
    SnapshotLost, StoredLog, WriteDone,
};
use crate::snapshot::{SnapshotFiles, SnapshotStorage};

/// The group of a replica that has its log for itself.
const GROUP: u64 = 0;

/// Where and how a replica's log is kept on disk.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WalLogStoreOptions {
    /// The cluster that the folder belongs to. A folder of another one is
    /// refused.
    pub cluster_id: u128,
    /// The server that the folder belongs to. A folder of another one is
    /// refused.
    pub node_id: NodeId,
    /// How the log is laid out and written.
    pub wal: WalOptions,
}

impl WalLogStoreOptions {
    /// The defaults for a server of a cluster.
    pub fn new(cluster_id: u128, node_id: NodeId) -> Self {
        Self {
            cluster_id,
            node_id,
            wal: WalOptions::default(),
        }
    }
}

/// A log store on disk.
#[derive(Debug)]
pub struct WalLogStore {
    folder: PathBuf,
    options: WalLogStoreOptions,
    incarnation: Incarnation,
    was_empty: bool,
    /// `None` once closed.
    wal: Option<Wal>,
    stored: Recovered,
    snapshots: SnapshotFiles,
    /// `None` before the first load and once closed.
    pruner: Option<Pruner>,
}

/// The folder cannot be opened. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalLogStoreError {
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshots.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
}

impl WalLogStore {
    /// Opens the log in `folder`, or begins one there.
    ///
    /// # Errors
    /// The folder belongs to another server, is in use, is damaged, or cannot be
    /// read or written.
    pub fn open(folder: &Path, options: WalLogStoreOptions) -> Result<Self, WalLogStoreError> {
        let identity = Identity {
            cluster_id: options.cluster_id,
            node_id: options.node_id,
        };
        let (wal, stored) = Wal::open(folder, identity, options.wal)?;
        let snapshots = SnapshotFiles::open(folder, identity)?;
        Ok(Self {
            folder: folder.to_owned(),
            options,
            incarnation: stored.incarnation,
            was_empty: stored.groups.is_empty(),
            wal: Some(wal),
            stored,
            snapshots,
            pruner: None,
        })
    }

    /// Which folder it is, and how often it was opened.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether nothing had been stored in the folder when it was opened: a replica
    /// that is started with initial voters then founds a cluster.
    pub fn was_empty(&self) -> bool {
        self.was_empty
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose folder it is, and how it is written.
    pub fn options(&self) -> &WalLogStoreOptions {
        &self.options
    }
}

/// What is wrong with a file, if it is that and not the disk that cannot be asked.
fn loss(error: &SnapshotError) -> Option<String> {
    match error {
        SnapshotError::Damaged { what, .. } => Some((*what).to_owned()),
        SnapshotError::Disk(failure) if failure.source.kind() == std::io::ErrorKind::NotFound => {
            Some(failure.to_string())
        }
        _ => None,
    }
}

fn failed(error: impl std::error::Error + Send + std::marker::Sync + 'static) -> LogStoreError {
    LogStoreError(Arc::new(error))
}

fn complete(done: WriteDone, result: Result<(), WalError>) {
    done.complete(result.map_err(failed));
}

impl LogStore for WalLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        let group = self.stored.take_group(GROUP);
        let installed = group.snapshot.as_ref().map(SnapshotMetadata::id);
        self.snapshots
            .remove_unrecorded(installed)
            .map_err(failed)?;
        let found = match installed {
            Some(installed) => self.usable_snapshots(installed, group.compacted)?,
            None => Vec::new(),
        };
        let mut found = found.into_iter();
        let snapshot = found.next();
        let opened = snapshot.as_ref().map(|snapshot| snapshot.metadata.id());
        if self.pruner.is_none() {
            self.pruner =
                Some(Pruner::start(self.options.node_id, self.snapshots.clone()).map_err(failed)?);
        }
        Ok(StoredLog {
            hard_state: group.hard_state,
            snapshot,
            older_snapshots: found.collect(),
            damaged_snapshot: installed.filter(|_| opened != installed).map(|id| id.index),
            terms: (group.entries.first_index() > group.terms.first_index()).then_some(group.terms),
            entries: group
                .entries
                .between(group.entries.first_index(), group.entries.next_index()),
        })
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        let Some(wal) = &self.wal else {
            return;
        };
        let installed = write
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.metadata.id());
        let done = self.pruning(installed, done);
        wal.append(wal_write(write), |result| complete(done, result));
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStorage> {
        Arc::new(self.snapshots.clone())
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        let Some(wal) = &self.wal else {
            return;
        };
        let range = request.low..request.high;
        wal.read(GROUP, range, request.bytes_max, |result| {
            done.complete(result.map_err(|error| match error {
                ReadError::Compacted { .. } => LogReadError::Compacted,
                ReadError::Corrupt(damage) => LogReadError::Damaged(Arc::new(*damage)),
                error => LogReadError::Failed(Arc::new(error)),
            }));
        });
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        let Some(wal) = &self.wal else {
            return;
        };
        let done = self.pruning(Some(snapshot.metadata.id()), done);
        wal.compact(GROUP, compact_to, snapshot.metadata, |result| {
            complete(done, result);
        });
    }

    fn close(&mut self) {
        if let Some(wal) = self.wal.take()
            && let Err(error) = wal.close()
        {
            tracing::error!(node = %self.options.node_id, %error, "closing the log failed");
        }
        self.pruner = None;
    }
}

impl WalLogStore {
    /// The snapshots up to the one that the log refers to which can be opened and
    /// to which the log reaches back, newest first: one at least.
    fn usable_snapshots(
        &self,
        installed: EntryId,
        compacted: EntryId,
    ) -> Result<Vec<Snapshot>, LogStoreError> {
        let mut usable = Vec::new();
        let mut damage = None;
        let stored = self.snapshots.ids().map_err(failed)?;
        let older = stored.into_iter().filter(|id| id.index < installed.index);
        for id in std::iter::once(installed).chain(older) {
            if id.index < compacted.index {
                break;
            }
            let error = match self.snapshots.snapshot(id) {
                Ok(snapshot) => {
                    usable.push(snapshot);
                    continue;
                }
                Err(error) => error,
            };
            let Some(why) = loss(&error) else {
                return Err(failed(error));
            };
            tracing::error!(node = %self.options.node_id, index = %id.index, %error,
                "a stored snapshot cannot be opened. Look at the disk");
            damage.get_or_insert(SnapshotLost {
                snapshot: self.snapshots.describe(id),
                why,
            });
        }
        match damage {
            Some(lost) if usable.is_empty() => Err(failed(lost)),
            _ => Ok(usable),
        }
    }

    /// Once the log refers to another snapshot, older ones go.
    fn pruning(&self, installed: Option<EntryId>, done: WriteDone) -> WriteDone {
        let (Some(installed), Some(pruner)) = (installed, &self.pruner) else {
            return done;
        };
        let queue = pruner.queue.clone();
        WriteDone::new(move |result| {
            if result.is_ok()
                && let Some(queue) = queue
            {
                // A thread that has ended leaves it to the next start.
                let _ = queue.send(installed);
            }
            done.complete(result);
        })
    }
}

fn wal_write(write: LogWrite) -> Write {
    let sync = match write.durability {
        Durability::Synced => Sync::Required,
        Durability::Ordered => Sync::NotNeeded,
    };
    let mut out = Write::new(GROUP, sync);
    out.hard_state = write.hard_state;
    out.entries = write.entries;
    out.snapshot = write.snapshot.map(|snapshot| snapshot.metadata);
    out
}

/// The thread that removes snapshots. Joined when it is dropped, which must not
/// be before the log is closed: a write that is not done keeps the queue open.
#[derive(Debug)]
struct Pruner {
    node: NodeId,
    /// `None` while it ends.
    queue: Option<Sender<EntryId>>,
    thread: Option<JoinHandle<()>>,
}

impl Pruner {
    fn start(node: NodeId, snapshots: SnapshotFiles) -> std::io::Result<Self> {
        let (queue, installed) = channel();
        let thread = std::thread::Builder::new()
            .name("raft-snapshots".to_owned())
            .spawn(move || prune_all(node, &installed, &snapshots))?;
        Ok(Self {
            node,
            queue: Some(queue),
            thread: Some(thread),
        })
    }
}

impl Drop for Pruner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(node = %self.node, "the thread that removes snapshots panicked");
        }
    }
}

fn prune_all(node: NodeId, installed: &Receiver<EntryId>, snapshots: &SnapshotFiles) {
    for id in installed {
        if let Err(error) = snapshots.prune(id) {
            tracing::warn!(%node, %error, "old snapshots could not be removed; the next one tries again");
        }
    }
}
