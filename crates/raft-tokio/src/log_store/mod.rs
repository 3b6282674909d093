//! # The log store
//!
//! Where a replica's log, vote and snapshots are kept. Writing is handed over
//! and acknowledged later, in order, so that one disk sync serves everything
//! that came in meanwhile. Reading is handed over too: a replica has only the
//! end of its log in memory, and reads the rest back for followers that lack it.
//! The data of snapshots goes past the log, into a
//! [`SnapshotStorage`]: here are their manifests.

mod memory;
mod wal;

use std::fmt;
use std::sync::Arc;

use raft_core::{Entries, EntryId, HardState, LogIndex, Snapshot, TermRuns};

use crate::snapshot::SnapshotStorage;

pub use memory::MemoryLogStore;
pub use raft_wal::Incarnation;
pub use wal::{WalLogStore, WalLogStoreError, WalLogStoreOptions};

/// What a store had when it was opened.
#[derive(Clone, Debug, Default)]
pub struct StoredLog {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The latest snapshot that can be opened, with the manifest of its data.
    pub snapshot: Option<Snapshot>,
    /// Older ones, newest first, in case its data is damaged. The entries reach
    /// back to each of them. May be empty.
    pub older_snapshots: Vec<Snapshot>,
    /// Where a newer snapshot stands that the log refers to, if that cannot be
    /// opened.
    pub damaged_snapshot: Option<LogIndex>,
    /// The entries behind the snapshot; perhaps some before it, without a gap.
    pub entries: Entries,
    /// If `entries` are only the newest of them, because all together would take
    /// too much memory: the terms of all. The others are [read](LogStore::read)
    /// piece by piece before the replica takes part.
    pub terms: Option<TermRuns>,
}

/// What to write, together or not at all.
#[derive(Clone, Debug, Default)]
pub struct LogWrite {
    /// Term, vote and commit index, if one of them changed.
    pub hard_state: Option<HardState>,
    /// Entries, which replace what the log has at and behind their first index.
    pub entries: Entries,
    /// A snapshot from the leader, which replaces the log. Its data is in the
    /// store's [`SnapshotStorage`] already, durably.
    pub snapshot: Option<Snapshot>,
    /// Whether the write has to survive a power failure before it is done.
    pub durability: Durability,
}

/// When a write is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it would survive a power failure.
    #[default]
    Synced,
    /// When everything before it is done. Losing it costs time only.
    Ordered,
}

/// A store failed. It takes nothing any more: what is on the disk is unknown,
/// and only a restart, which reads it back, can tell.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log store failed: {0}")]
pub struct LogStoreError(pub Arc<dyn std::error::Error + Send + Sync>);

/// The snapshot that a log begins with cannot be read, and no older one can take
/// its place. Nothing that the cluster has acknowledged is lost by it, but this
/// folder cannot be started from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{snapshot} is damaged ({why}), and no older snapshot reaches up to the log: nothing can be \
     started from this folder. Put it away, and replace this node by a new one with another id \
     (\"Replacing a node\" in docs/OPERATIONS.md)"
)]
pub struct SnapshotLost {
    /// Which, as [`SnapshotStorage::describe`] says.
    pub snapshot: String,
    /// What is wrong with it.
    pub why: String,
}

/// To be called when a write is done; writes are done in the order in which
/// they were handed over.
#[must_use = "the replica waits for this"]
pub struct WriteDone(Listener);

/// Who hears how a write ended.
enum Listener {
    /// Hears of this write only.
    Once(Box<dyn FnOnce(Result<(), LogStoreError>) + Send>),
    /// Hears of every write, by its number: a replica writes too often to make a
    /// listener for each.
    Every {
        listener: WriteListener,
        number: u64,
    },
}

/// Hears how each write ended, by its number.
pub(crate) type WriteListener = Arc<dyn Fn(u64, Result<(), LogStoreError>) + Send + Sync>;

impl WriteDone {
    /// Calls `done` when the write is done.
    pub fn new(done: impl FnOnce(Result<(), LogStoreError>) + Send + 'static) -> Self {
        Self(Listener::Once(Box::new(done)))
    }

    /// Tells `listener` when the write with this number is done.
    pub(crate) fn numbered(listener: WriteListener, number: u64) -> Self {
        Self(Listener::Every { listener, number })
    }

    /// Says how the write ended. Callable from any thread.
    pub fn complete(self, result: Result<(), LogStoreError>) {
        match self.0 {
            Listener::Once(done) => done(result),
            Listener::Every { listener, number } => listener(number, result),
        }
    }
}

impl fmt::Debug for WriteDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteDone")
    }
}

/// Entries that a replica wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReadRequest {
    /// The first of them.
    pub low: LogIndex,
    /// The index after the last of them.
    pub high: LogIndex,
    /// How much of them is wanted at once, in bytes of
    /// [`encoded_len`](raft_core::Entry::encoded_len).
    pub bytes_max: u64,
}

/// Entries could not be read back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogReadError {
    /// They were compacted away, before or while they were read.
    #[error("the entries were compacted away; the snapshot has them")]
    Compacted,
    /// What was written is damaged. It is not read again: a follower that lacks
    /// it gets a snapshot, and [`Health`](crate::Health) says so from now on.
    #[error("an entry of the log is damaged: {0}")]
    Damaged(Arc<dyn std::error::Error + Send + Sync>),
    /// The disk failed the read, which may pass: it is tried a few times more.
    /// Then a follower that lacks the entries gets a snapshot.
    #[error("the entries cannot be read: {0}; check the disk")]
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// The store has dropped the request.
    #[error("the log store has not answered the read")]
    NotAnswered,
}

type OnRead = Box<dyn FnOnce(Result<Entries, LogReadError>) + Send>;

/// To be called when a read is done. Dropping it says that there is no answer.
#[must_use = "a follower waits for this"]
pub struct LogReadDone(Option<OnRead>);

impl LogReadDone {
    /// Calls `done` when the read is done.
    pub fn new(done: impl FnOnce(Result<Entries, LogReadError>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    /// Says what was read. Callable from any thread.
    pub fn complete(mut self, result: Result<Entries, LogReadError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for LogReadDone {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(LogReadError::NotAnswered));
        }
    }
}

impl fmt::Debug for LogReadDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogReadDone")
    }
}

/// Keeps a replica's log. No method may block: disks belong on other threads.
pub trait LogStore: Send + 'static {
    /// Everything that was stored before. Called once, first.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&mut self) -> Result<StoredLog, LogStoreError>;

    /// Starts a write, and calls `done` when it is done, or failed: perhaps
    /// before this returns.
    fn append(&mut self, write: LogWrite, done: WriteDone);

    /// Starts to read entries back, whose writes are done, and calls `done` with
    /// those that begin at `low` and fit into `bytes_max`, or with fewer, but
    /// one at least: perhaps before this returns. Writes go on meanwhile. The
    /// replica takes only what has the terms that it knows, so a read that
    /// overlaps with an overwrite does no harm.
    fn read(&mut self, request: LogReadRequest, done: LogReadDone);

    /// Where the data of snapshots is kept. What is stored there and neither
    /// written nor compacted to before the process ends is not needed after it.
    fn snapshots(&self) -> Arc<dyn SnapshotStorage>;

    /// Refers to a snapshot of this replica's own state machine, whose data is
    /// stored, and drops the log up to and including `compact_to`, which is not
    /// behind the snapshot. Calls `done` when that is durable. From then on older
    /// snapshots may go; from before, the one that the log referred to may not.
    fn compact(&mut self, snapshot: Snapshot, compact_to: EntryId, done: WriteDone);

    /// Flushes and closes, away from the caller; returns when it is done. May
    /// block: it is called on a thread for blocking work.
    fn close(&mut self) {}
}
