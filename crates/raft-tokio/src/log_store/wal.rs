//! # The durable log store
//!
//! A [`Wal`] for entries, votes and marks, and a [`SnapshotStore`] beside it for
//! the data of snapshots, in one folder. Entries go straight to the log's own
//! thread, which syncs whatever has queued up at once, and come back from another
//! of its threads. Snapshots are large and
//! rare: a second thread writes them, and only then tells the log about them.
//!
//! - Owns: the log, the snapshot store's thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use raft_core::{EntryId, NodeId, Snapshot};
use raft_wal::{
    Identity, Incarnation, OpenError, ReadError, Recovered, SnapshotError, SnapshotStore, Sync,
    Wal, WalError, WalOptions, Write,
};

use super::{
    Durability, LogReadDone, LogReadError, LogReadRequest, LogStore, LogStoreError, LogWrite,
    StoredLog, WriteDone,
};

/// The group of a replica that has its log for itself.
const GROUP: u64 = 0;

/// How many snapshots stay on the disk: the latest, and the one before it.
const SNAPSHOTS_KEPT: usize = 2;

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
    /// `None` once closed.
    wal: Option<Arc<Wal>>,
    stored: Recovered,
    snapshots: SnapshotStore,
    /// `None` before the first load and once closed.
    saver: Option<Saver>,
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
        let snapshots = SnapshotStore::open(folder, identity, GROUP, SNAPSHOTS_KEPT)?;
        Ok(Self {
            folder: folder.to_owned(),
            options,
            incarnation: stored.incarnation,
            wal: Some(Arc::new(wal)),
            stored,
            snapshots,
            saver: None,
        })
    }

    /// Which folder it is, and how often it was opened.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
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

fn failed(error: impl std::error::Error + Send + std::marker::Sync + 'static) -> LogStoreError {
    LogStoreError(Arc::new(error))
}

fn complete(done: WriteDone, result: Result<(), WalError>) {
    done.complete(result.map_err(failed));
}

impl LogStore for WalLogStore {
    fn load(&mut self) -> Result<StoredLog, LogStoreError> {
        let group = self.stored.take_group(GROUP);
        let snapshot = match &group.snapshot {
            Some(metadata) => Some(self.snapshots.load(metadata.id()).map_err(failed)?),
            None => None,
        };
        if let (None, Some(wal)) = (&self.saver, &self.wal) {
            let saver = Saver::start(self.snapshots.clone(), wal.clone()).map_err(failed)?;
            self.saver = Some(saver);
        }
        Ok(StoredLog {
            hard_state: group.hard_state,
            snapshot,
            entries: group
                .entries
                .between(group.entries.first_index(), group.entries.next_index()),
        })
    }

    fn append(&mut self, write: LogWrite, done: WriteDone) {
        let (Some(saver), Some(wal)) = (&self.saver, &self.wal) else {
            return;
        };
        if write.snapshot.is_some() || saver.holds_writes() {
            // What comes behind a snapshot must not overtake it.
            saver.save(Save::Write { write, done });
        } else {
            wal.append(wal_write(write), |result| complete(done, result));
        }
    }

    fn read(&mut self, request: LogReadRequest, done: LogReadDone) {
        let Some(wal) = &self.wal else {
            return;
        };
        let range = request.low..request.high;
        wal.read(GROUP, range, request.bytes_max, |result| {
            done.complete(result.map_err(|error| match error {
                ReadError::Compacted { .. } => LogReadError::Compacted,
                error => LogReadError::Failed(Arc::new(error)),
            }));
        });
    }

    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone) {
        if let Some(saver) = &self.saver {
            saver.save(Save::Compact {
                snapshot,
                compact_to,
                done,
            });
        }
    }

    fn close(&mut self) {
        // Snapshots under way are finished first; then the log has one owner.
        self.saver = None;
        if let Some(Ok(wal)) = self.wal.take().map(Arc::try_unwrap)
            && let Err(error) = wal.close()
        {
            tracing::error!(node = %self.options.node_id, %error, "closing the log failed");
        }
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

/// What the snapshot thread does, in order.
#[derive(Debug)]
enum Save {
    /// A write with a snapshot in it, or behind one.
    Write { write: LogWrite, done: WriteDone },
    /// A snapshot of the own state machine.
    Compact {
        snapshot: Snapshot,
        compact_to: EntryId,
        done: WriteDone,
    },
}

/// The thread that writes snapshots. Joined when it is dropped.
#[derive(Debug)]
struct Saver {
    queue: Option<Sender<Save>>,
    /// Writes that wait in the queue: what comes later has to wait there too.
    writes: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    fn start(snapshots: SnapshotStore, wal: Arc<Wal>) -> std::io::Result<Self> {
        let (queue, work) = channel();
        let writes = Arc::new(AtomicUsize::new(0));
        let waiting = writes.clone();
        let thread = std::thread::Builder::new()
            .name("raft-snapshots".to_owned())
            .spawn(move || save_all(&work, &snapshots, &wal, &waiting))?;
        Ok(Self {
            queue: Some(queue),
            writes,
            thread: Some(thread),
        })
    }

    fn holds_writes(&self) -> bool {
        self.writes.load(Ordering::Acquire) > 0
    }

    fn save(&self, save: Save) {
        if matches!(save, Save::Write { .. }) {
            self.writes.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(queue) = &self.queue {
            // The thread lives as long as this.
            let _ = queue.send(save);
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes snapshots panicked");
        }
    }
}

fn save_all(work: &Receiver<Save>, snapshots: &SnapshotStore, wal: &Wal, waiting: &AtomicUsize) {
    for save in work {
        match save {
            Save::Write { write, done } => {
                let saved = match &write.snapshot {
                    Some(snapshot) => snapshots.save(&snapshot.metadata, &snapshot.data).map(drop),
                    None => Ok(()),
                };
                match saved {
                    Ok(()) => wal.append(wal_write(write), |result| complete(done, result)),
                    Err(error) => done.complete(Err(failed(error))),
                }
                // Behind the log's own queue now, so nothing overtakes it.
                waiting.fetch_sub(1, Ordering::AcqRel);
            }
            Save::Compact {
                snapshot,
                compact_to,
                done,
            } => match snapshots.save(&snapshot.metadata, &snapshot.data) {
                Ok(_) => wal.compact(GROUP, compact_to, snapshot.metadata, |result| {
                    complete(done, result);
                }),
                Err(error) => done.complete(Err(failed(error))),
            },
        }
    }
}
