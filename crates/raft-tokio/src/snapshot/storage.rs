//! # Where the data of snapshots is kept
//!
//! A log store says where: [`SnapshotStorage`] finds data by its place in the
//! log. Its methods wait for disks; they are called on threads that may.
//!
//! - Owns: nothing; an implementation owns the data.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use raft_core::{EntryId, Snapshot, SnapshotMetadata};

use super::manifest::{SnapshotManifest, len_u64};
use super::{SnapshotJob, SnapshotReader};
use crate::address_book::AddressBook;
use crate::box_error::BoxError;

/// Why data cannot be stored or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotStorageError {
    /// There is no such snapshot, or no longer: a newer one is in its place.
    #[error("there is no such snapshot any more; use the newest one")]
    Missing,
    /// The data is not what it was, or is to be.
    #[error("the data is damaged: {0}; make or get a new snapshot")]
    Damaged(Arc<dyn std::error::Error + Send + Sync>),
    /// The disk failed, or is full.
    #[error("the data cannot be stored or read: {0}; look at the disk")]
    Failed(Arc<dyn std::error::Error + Send + Sync>),
}

impl SnapshotStorageError {
    /// The data is damaged, as this says.
    pub fn damaged(why: impl Into<BoxError>) -> Self {
        let why: BoxError = why.into();
        Self::Damaged(why.into())
    }

    /// The disk failed, as this says.
    pub fn failed(why: impl Into<BoxError>) -> Self {
        let why: BoxError = why.into();
        Self::Failed(why.into())
    }
}

/// Keeps the data of snapshots. Methods may block.
pub trait SnapshotStorage: Send + Sync + 'static {
    /// Begins a snapshot of the own state machine; its manifest has these addresses.
    /// Whatever has the same place in the log stays until this one is finished.
    ///
    /// # Errors
    /// The disk failed.
    fn create(
        &self,
        metadata: &SnapshotMetadata,
        addresses: &AddressBook,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotStorageError>;

    /// Opens a snapshot that is whole. It can be read to its end even if it is
    /// removed meanwhile.
    ///
    /// # Errors
    /// There is none there, or it cannot be read.
    fn open(&self, id: EntryId) -> Result<StoredSnapshot, SnapshotStorageError>;

    /// Begins to take in a snapshot of another replica, or goes on where an
    /// earlier attempt for the same metadata and manifest stopped. Only the
    /// latest attempt has to be remembered.
    ///
    /// # Errors
    /// The disk failed.
    fn resume(
        &self,
        metadata: &SnapshotMetadata,
        manifest: SnapshotManifest,
    ) -> Result<Box<dyn SnapshotPart>, SnapshotStorageError>;

    /// What to call a snapshot in a sentence for whoever runs this server: its
    /// file, if it has one.
    fn describe(&self, id: EntryId) -> String {
        format!("the snapshot at index {} of term {}", id.index, id.term)
    }

    /// Removes a snapshot that arrived and was not needed.
    ///
    /// # Errors
    /// The disk failed.
    fn remove(&self, id: EntryId) -> Result<(), SnapshotStorageError>;
}

/// Takes a snapshot of the own state machine. Dropping it leaves nothing.
pub trait SnapshotSink: io::Write + Send {
    /// Makes the data durable; from now on it can be opened.
    ///
    /// # Errors
    /// The disk failed; the snapshot is not there.
    fn finish(self: Box<Self>) -> Result<SnapshotManifest, SnapshotStorageError>;
}

/// Takes a snapshot of another replica. Dropping it keeps what is there for the
/// next attempt.
pub trait SnapshotPart: Send {
    /// How much is there, in bytes.
    fn data_bytes(&self) -> u64;

    /// Appends data.
    ///
    /// # Errors
    /// The disk failed, or the data is longer than its manifest says.
    fn append(&mut self, data: &[u8]) -> Result<(), SnapshotStorageError>;

    /// Checks the whole against its manifest and makes it durable; from now on
    /// it can be opened.
    ///
    /// # Errors
    /// [`SnapshotStorageError::Damaged`] if it is not what it was to be; then
    /// nothing of it is kept. Or the disk failed.
    fn finish(self: Box<Self>) -> Result<(), SnapshotStorageError>;
}

/// The data of a snapshot.
pub trait SnapshotData: Send {
    /// Fills `buffer` with the data from `offset` on.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` if the data ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A snapshot that is whole.
pub struct StoredSnapshot {
    /// What its data is like.
    pub manifest: SnapshotManifest,
    /// Its data, unchecked.
    pub data: Box<dyn SnapshotData>,
}

impl fmt::Debug for StoredSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSnapshot")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl StoredSnapshot {
    /// Reads all of it, and compares it with its checksum.
    pub(super) fn into_reader(self) -> SnapshotReader {
        let data_bytes = self.manifest.data_bytes;
        let checked = Checked {
            stored: self,
            position: 0,
            crc32c: 0,
        };
        SnapshotReader::new(checked, data_bytes)
    }
}

/// Reads data from beginning to end; the last read fails if the checksum is
/// wrong.
struct Checked {
    stored: StoredSnapshot,
    position: u64,
    crc32c: u32,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let manifest = &self.stored.manifest;
        let left = manifest.data_bytes - self.position;
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = &mut buffer[..len];
        self.stored.data.read_exact_at(part, self.position)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, part);
        self.position += len_u64(part);
        if self.position == manifest.data_bytes && self.crc32c != manifest.crc32c {
            let what = "the snapshot's data does not match its checksum";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(len)
    }
}

/// Does the job, and stores what it writes.
pub(crate) fn build(
    storage: &dyn SnapshotStorage,
    metadata: SnapshotMetadata,
    addresses: &AddressBook,
    job: SnapshotJob,
) -> Result<Snapshot, BoxError> {
    let mut sink = storage.create(&metadata, addresses)?;
    job.write_to(&mut sink)?;
    Ok(sink.finish()?.snapshot(metadata))
}

/// Opens the data that a snapshot's manifest speaks of.
pub(crate) fn open_checked(
    storage: &dyn SnapshotStorage,
    snapshot: &Snapshot,
) -> Result<SnapshotReader, BoxError> {
    let manifest = SnapshotManifest::of(snapshot)?;
    let stored = storage.open(snapshot.metadata.id())?;
    if stored.manifest != manifest {
        return Err("the stored data is not that of the snapshot".into());
    }
    Ok(stored.into_reader())
}
