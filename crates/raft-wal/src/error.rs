//! # What can go wrong
//!
//! By whose fault it is: the folder ([`OpenError`]), the disk
//! ([`WalError::Poisoned`], [`WalError::DiskFull`]) or the caller (the rest of
//! [`WalError`]). Every message says what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_core::{LogIndex, Term};

use crate::Identity;

/// Why a log could not be opened. Nothing was changed that matters to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the folder open.
    #[error(
        "the data folder {} is in use by another process; stop that process, \
         or give this node a folder of its own", dir.display()
    )]
    InUse {
        /// The data folder.
        dir: PathBuf,
    },
    /// The folder is that of another node, or of another cluster.
    #[error(
        "the data folder {} belongs to {found}, and this is {own}; \
         start this node with its own folder", dir.display()
    )]
    Foreign {
        /// The data folder.
        dir: PathBuf,
        /// Whose folder it is.
        found: Identity,
        /// Who wanted to open it.
        own: Identity,
    },
    /// The log was written by a version of this crate that this one does not
    /// know.
    #[error(
        "{} has format version {found}, and this program reads version {supported}; \
         start the version that wrote it", file.display()
    )]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// Data that was acknowledged is damaged or missing.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// There is not even room for one segment.
    #[error("the disk of {} is full; make room and start again", dir.display())]
    DiskFull {
        /// The data folder.
        dir: PathBuf,
    },
    /// The operating system refused something.
    #[error("could not {operation} {}: {source}; check the disk and the rights on it", path.display())]
    Io {
        /// What was tried.
        operation: Operation,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn from_failure(failure: Failure, dir: &Path) -> Self {
        if failure.is_disk_full() {
            return Self::DiskFull {
                dir: dir.to_owned(),
            };
        }
        Self::Io {
            operation: failure.operation,
            path: failure.path,
            source: failure.source,
        }
    }
}

/// Where acknowledged data is damaged. The log is refused whole: a node that
/// went on without it could vote twice or forget what it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log is damaged: {what} ({} at byte {offset}{}); this node must not go on with it: \
     restore its data folder from before the damage only if the node has not run since, \
     otherwise remove the node from the cluster and add it with an empty folder and a new id",
    file.display(),
    lost.map(|lost| format!(", {lost}")).unwrap_or_default()
)]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: Damage,
    /// The entries that cannot be read, where their header still tells.
    pub lost: Option<UnreadableEntries>,
}

/// Entries whose header can be read and whose data cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableEntries {
    /// The group they belong to.
    pub group: u64,
    /// The first of them.
    pub first: LogIndex,
    /// How many there are.
    pub count: u32,
    /// The term of the last of them.
    pub last_term: Term,
}

impl fmt::Display for UnreadableEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries of group {} from index {} with last term {}",
            self.count, self.group, self.first, self.last_term
        )
    }
}

/// What is wrong with a damaged log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file with the identity of the folder cannot be read.
    #[error("the identity of the folder cannot be read")]
    Identity,
    /// The file with the number of starts cannot be read.
    #[error("the number of starts of the folder cannot be read")]
    Starts,
    /// The folder was in use, and has no log.
    #[error("the folder was in use and its log is missing")]
    MissingLog,
    /// A segment between others, or the first or the last one, is missing.
    #[error("segment {sequence} is missing")]
    MissingSegment {
        /// Its number.
        sequence: u64,
    },
    /// The header of a segment cannot be read.
    #[error("the header of the segment cannot be read")]
    SegmentHeader,
    /// The segment is not the one that follows the segment before it.
    #[error("the segment does not follow the one before it")]
    SegmentLink,
    /// The header of a record cannot be read.
    #[error("the header of a record cannot be read")]
    RecordHeader,
    /// A record does not follow the record before it.
    #[error("a record does not follow the one before it")]
    RecordLink,
    /// The data of a record does not match its checksum.
    #[error("the data of a record does not match its checksum")]
    RecordData,
    /// A record has a good checksum, and does not mean anything.
    #[error("a record means nothing")]
    Meaningless,
    /// There are records where the segment should have ended.
    #[error("a sealed segment has no end")]
    Unsealed,
    /// Entries do not follow the ones before them.
    #[error("group {group} has entries from {found} where {expected} should be next")]
    Hole {
        /// The group.
        group: u64,
        /// The next index of its log.
        expected: LogIndex,
        /// What comes.
        found: LogIndex,
    },
    /// A segment says something about a group that the earlier ones deny.
    #[error("the state of group {group} differs between segments")]
    State {
        /// The group.
        group: u64,
    },
}

/// Why a write is not durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Nothing of the write was written, because the disk is full; writes
    /// without entries still go through for a while. Tried again with every
    /// write.
    #[error("the disk is full; make room, and no entry is taken until then")]
    DiskFull,
    /// The entries do not follow the log of the group. Nothing was written.
    #[error(
        "group {group} wants to write entries from {found} where {expected} is next; \
         write what is missing first"
    )]
    Gap {
        /// The group.
        group: u64,
        /// The next index of its log.
        expected: LogIndex,
        /// The first index of the write.
        found: LogIndex,
    },
    /// The snapshot is older than what was compacted. Nothing was written.
    #[error(
        "group {group} wants to go back to index {found}, and is compacted up to {compacted}; \
         drop the older snapshot"
    )]
    OutOfDate {
        /// The group.
        group: u64,
        /// What was compacted already.
        compacted: LogIndex,
        /// What was asked for.
        found: LogIndex,
    },
    /// The write is larger than [`WRITE_BYTES_MAX`](crate::WRITE_BYTES_MAX).
    /// Nothing was written.
    #[error("the write has {bytes} bytes, which is too much for one; split it")]
    TooLarge {
        /// Its size in the log.
        bytes: u64,
    },
    /// The disk failed. It is not known what of this write is there; no write
    /// of this process will succeed any more, and none is tried.
    #[error("{0}; the log takes nothing any more: stop this process and check the disk")]
    Poisoned(Arc<Failure>),
    /// The log was closed.
    #[error("the log is closed; open it again")]
    Closed,
}

impl WalError {
    /// Whether every later write of this process fails as well.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Poisoned(_) | Self::Closed)
    }
}

/// Why entries could not be read back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// They were compacted away, before or while they were read.
    #[error("the entries before {first} were compacted away; use the snapshot")]
    Compacted {
        /// The first that is left.
        first: LogIndex,
    },
    /// They are not in the log, or not written yet.
    #[error("the log ends before {next}; read what was written")]
    Unavailable {
        /// The index after the last entry.
        next: LogIndex,
    },
    /// What was written is damaged. The log would not open like this: until a
    /// compaction has passed the place, this node must not be restarted.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// The disk failed the read. Nothing else is affected; it may be tried again.
    #[error("{0}; try again, and check the disk")]
    Io(Arc<Failure>),
    /// The log takes nothing any more.
    #[error(transparent)]
    Log(#[from] WalError),
}

/// What was tried on a disk when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Make a file or folder.
    Create,
    /// Open a file.
    Open,
    /// List a folder.
    List,
    /// Lock the folder.
    Lock,
    /// Read a file.
    Read,
    /// Write a file.
    Write,
    /// Make a file or folder durable.
    Sync,
    /// Give a file another name.
    Rename,
    /// Remove a file.
    Remove,
    /// Start the thread that writes.
    StartThread,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::StartThread => "start a thread for",
        })
    }
}

/// An operation that a disk failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {}: {source}", path.display())]
pub struct Failure {
    /// What was tried.
    pub operation: Operation,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

impl Failure {
    /// Whether there was no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Says what was tried on which file when it failed.
pub(crate) trait Attempt<T> {
    fn attempt(self, operation: Operation, path: &Path) -> Result<T, Failure>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, operation: Operation, path: &Path) -> Result<T, Failure> {
        self.map_err(|source| Failure {
            operation,
            path: path.to_owned(),
            source,
        })
    }
}
