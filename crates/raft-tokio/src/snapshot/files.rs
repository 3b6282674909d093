//! # Snapshots on disk
//!
//! Joins raft-wal's snapshot files to the runtime. Where the members are reached
//! is the note in a file.
//!
//! - Owns: the folder `snapshots/` in a data folder.

use std::io;
use std::path::Path;

use raft_core::{EntryId, Snapshot, SnapshotMetadata};
use raft_wal::{Identity, SnapshotError, SnapshotStore};

use super::manifest::SnapshotManifest;
use super::storage::{
    SnapshotData, SnapshotPart, SnapshotSink, SnapshotStorage, SnapshotStorageError, StoredSnapshot,
};
use crate::address_book::AddressBook;

/// The group of a replica that has its folder for itself.
const GROUP: u64 = 0;

/// How many snapshots stay on the disk: the latest, and the one before it.
const SNAPSHOTS_KEPT: usize = 2;

/// Keeps snapshots in a folder, one file each. A log store of one's own that
/// keeps its log elsewhere can use it as it is:
///
/// 1. open it, and say which snapshot the log refers to
///    ([`remove_unrecorded`](Self::remove_unrecorded));
/// 2. whenever the log refers to another one, durably, say so
///    ([`prune`](Self::prune)).
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    store: SnapshotStore,
}

impl SnapshotFiles {
    /// The snapshots in `folder/snapshots`, which belong to one server of one
    /// cluster.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(folder: &Path, owner: Identity) -> Result<Self, SnapshotError> {
        let store = SnapshotStore::open(folder, owner, GROUP, SNAPSHOTS_KEPT)?;
        Ok(Self { store })
    }

    /// Removes snapshots that the log was never told of, because the process
    /// ended in between. `installed` is the one that the log refers to. To be
    /// called before a replica is started. Blocks.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_unrecorded(&self, installed: Option<EntryId>) -> Result<(), SnapshotError> {
        self.store.remove_unrecorded(installed)
    }

    /// Removes snapshots that are much older than `installed`, the one that the
    /// log refers to. Blocks.
    ///
    /// # Errors
    /// The disk failed; more than necessary are there.
    pub fn prune(&self, installed: EntryId) -> Result<(), SnapshotError> {
        self.store.prune(installed)
    }

    /// The snapshots that have a file, newest first. They may be damaged. Blocks.
    ///
    /// # Errors
    /// The disk failed.
    pub fn ids(&self) -> Result<Vec<EntryId>, SnapshotError> {
        self.store.ids()
    }

    /// A snapshot whose file is there and has good ends, with its manifest. Blocks.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn snapshot(&self, id: EntryId) -> Result<Snapshot, SnapshotError> {
        let reader = self.store.open_data(id)?;
        let stored = reader.stored();
        Ok(manifest_of(stored)?.snapshot(stored.metadata.clone()))
    }
}

fn manifest_of(stored: &raft_wal::StoredSnapshot) -> Result<SnapshotManifest, SnapshotError> {
    let addresses = AddressBook::decode(&stored.note).map_err(|_| SnapshotError::Damaged {
        file: stored.file.clone(),
        what: "the addresses of the members in it cannot be read",
    })?;
    Ok(SnapshotManifest {
        data_bytes: stored.data_bytes,
        crc32c: stored.data_crc32c,
        addresses,
    })
}

impl From<SnapshotError> for SnapshotStorageError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Disk(failure) if failure.source.kind() == io::ErrorKind::NotFound => {
                Self::Missing
            }
            SnapshotError::Damaged { .. }
            | SnapshotError::Foreign { .. }
            | SnapshotError::UnsupportedVersion { .. } => Self::damaged(error),
            error => Self::failed(error),
        }
    }
}

impl SnapshotStorage for SnapshotFiles {
    fn create(
        &self,
        metadata: &SnapshotMetadata,
        addresses: &AddressBook,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotStorageError> {
        Ok(Box::new(self.store.writer(metadata, &addresses.encode())?))
    }

    fn open(&self, id: EntryId) -> Result<StoredSnapshot, SnapshotStorageError> {
        let reader = self.store.open_data(id)?;
        Ok(StoredSnapshot {
            manifest: manifest_of(reader.stored())?,
            data: Box::new(reader),
        })
    }

    fn resume(
        &self,
        metadata: &SnapshotMetadata,
        manifest: SnapshotManifest,
    ) -> Result<Box<dyn SnapshotPart>, SnapshotStorageError> {
        let note = manifest.addresses.encode();
        let (data_bytes, crc32c) = (manifest.data_bytes, manifest.crc32c);
        let part = self.store.resume(metadata, &note, data_bytes, crc32c)?;
        Ok(Box::new(part))
    }

    fn describe(&self, id: EntryId) -> String {
        format!("the snapshot {}", self.store.file(id).display())
    }

    fn remove(&self, id: EntryId) -> Result<(), SnapshotStorageError> {
        Ok(self.store.remove(id)?)
    }
}

impl SnapshotSink for raft_wal::SnapshotWriter {
    fn finish(self: Box<Self>) -> Result<SnapshotManifest, SnapshotStorageError> {
        Ok(manifest_of(&raft_wal::SnapshotWriter::finish(*self)?)?)
    }
}

impl SnapshotPart for raft_wal::SnapshotPart {
    fn data_bytes(&self) -> u64 {
        raft_wal::SnapshotPart::data_bytes(self)
    }

    fn append(&mut self, data: &[u8]) -> Result<(), SnapshotStorageError> {
        Ok(raft_wal::SnapshotPart::append(self, data)?)
    }

    fn finish(self: Box<Self>) -> Result<(), SnapshotStorageError> {
        raft_wal::SnapshotPart::finish(*self)?;
        Ok(())
    }
}

impl SnapshotData for raft_wal::SnapshotReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        raft_wal::SnapshotReader::read_exact_at(self, buffer, offset)
    }
}
