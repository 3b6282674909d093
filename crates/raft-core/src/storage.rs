//! # Storage
//!
//! What the protocol reads of the log that is stable: a synchronous view that
//! must not block. Writing is the driver's business; the view follows.
//!
//! - Source: etcd `raft.Storage`.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;

use crate::types::{ConfState, Entries, HardState, LogIndex, Snapshot, Term};

/// What a server finds when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialState {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The configuration at the entry that is [applied](crate::Config::applied)
    /// already: mostly that of the snapshot, or the initial one.
    pub conf_state: ConfState,
}

/// Why the storage has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The index is older than the log, which was compacted.
    Compacted,
    /// The index is newer than the log.
    Unavailable,
    /// A snapshot is being made; ask again later.
    SnapshotTemporarilyUnavailable,
    /// The entries are in the log, and not in memory: they are being read. The
    /// driver says when to ask again, with
    /// [`RawNode::entries_available`](crate::RawNode::entries_available).
    EntriesTemporarilyUnavailable,
    /// Reading failed. The node stops.
    Failed(Box<dyn core::error::Error + Send + Sync>),
}

impl StorageError {
    /// Whether the wanted entries are among those of a log with these bounds.
    ///
    /// # Errors
    /// [`Compacted`](Self::Compacted) if they begin before it,
    /// [`Unavailable`](Self::Unavailable) if they end behind it.
    pub fn check_bounds(wanted: Range<LogIndex>, log: Range<LogIndex>) -> Result<(), Self> {
        if wanted.start < log.start {
            Err(Self::Compacted)
        } else if wanted.end > log.end {
            Err(Self::Unavailable)
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted => f.write_str("the entry was compacted away"),
            Self::Unavailable => f.write_str("the entry is not in the log"),
            Self::SnapshotTemporarilyUnavailable => {
                f.write_str("the snapshot is not ready; ask again later")
            }
            Self::EntriesTemporarilyUnavailable => {
                f.write_str("the entries are being read; ask again when they are there")
            }
            Self::Failed(error) => write!(f, "the storage failed: {error}"),
        }
    }
}

impl core::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// The stable part of the log, for reading. Answers come from memory or fail:
/// no method may block.
pub trait Storage {
    /// What was stored last. Read once, when the node is made.
    ///
    /// # Errors
    /// [`StorageError::Failed`] if it cannot be read.
    fn initial_state(&self) -> Result<InitialState, StorageError>;

    /// The entries from `low` up to, but not including, `high`: as many as fit
    /// into `bytes_max` of [`encoded_len`](crate::Entry::encoded_len), but one
    /// at least.
    ///
    /// A storage need not have applied entries in memory. It may return fewer of
    /// them, or [`StorageError::EntriesTemporarilyUnavailable`] while it has
    /// them read: a leader then sends nothing to a follower that lacks them, and
    /// everything else goes on. Entries that are not applied have to be at hand.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] or [`StorageError::Unavailable`] if the
    /// range is not in the log, or can no longer be read: a follower that lacks
    /// it needs a snapshot.
    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError>;

    /// The term of the entry at `index`, which may be one before the first.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] or [`StorageError::Unavailable`] if the
    /// index is not in the log.
    fn term(&self, index: LogIndex) -> Result<Term, StorageError>;

    /// The index of the first entry, which is one after the last compacted one.
    fn first_index(&self) -> LogIndex;

    /// The index of the last entry, or one before the first if there is none.
    fn last_index(&self) -> LogIndex;

    /// The latest snapshot.
    ///
    /// # Errors
    /// [`StorageError::SnapshotTemporarilyUnavailable`] while it is being made.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}
