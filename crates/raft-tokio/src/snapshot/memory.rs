//! # Snapshots in memory
//!
//! For tests and benches, and for log stores that keep nothing on a disk.
//!
//! - Owns: the data, shared by all clones.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_core::{EntryId, LogIndex, SnapshotMetadata, Term};

use super::manifest::{SnapshotManifest, len_u64};
use super::storage::{
    SnapshotData, SnapshotPart, SnapshotSink, SnapshotStorage, SnapshotStorageError, StoredSnapshot,
};
use crate::address_book::AddressBook;

/// Keeps snapshots in memory. Clones are the same storage.
#[derive(Clone, Debug, Default)]
pub struct MemorySnapshots {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By index and term, so that the oldest comes first.
    whole: BTreeMap<(LogIndex, Term), Whole>,
    part: Option<Arrived>,
}

/// One with all of its data.
#[derive(Clone, Debug)]
struct Whole {
    manifest: SnapshotManifest,
    data: Bytes,
}

/// What has arrived of one.
#[derive(Debug)]
struct Arrived {
    id: EntryId,
    manifest: SnapshotManifest,
    data: Vec<u8>,
}

impl Arrived {
    fn is(&self, id: EntryId, manifest: &SnapshotManifest) -> bool {
        self.id == id && self.manifest == *manifest
    }
}

fn key(id: EntryId) -> (LogIndex, Term) {
    (id.index, id.term)
}

impl MemorySnapshots {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes what is older than `installed`, the snapshot that the log refers to,
    /// but for the one before it: somebody may be about to send that.
    pub fn prune(&self, installed: EntryId) {
        let mut kept = self.lock();
        let mut older = kept.whole.range(..(installed.index, Term::ZERO));
        if let Some((&before, _)) = older.next_back() {
            kept.whole.retain(|key, _| *key >= before);
        }
    }

    /// How much has arrived of a snapshot that is not whole, in bytes.
    pub fn arriving_bytes(&self) -> u64 {
        self.lock()
            .part
            .as_ref()
            .map_or(0, |part| len_u64(&part.data))
    }

    /// Nothing is left half done in here by a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotStorage for MemorySnapshots {
    fn create(
        &self,
        metadata: &SnapshotMetadata,
        addresses: &AddressBook,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotStorageError> {
        Ok(Box::new(Sink {
            storage: self.clone(),
            id: metadata.id(),
            addresses: addresses.clone(),
            data: Vec::new(),
        }))
    }

    fn open(&self, id: EntryId) -> Result<StoredSnapshot, SnapshotStorageError> {
        let kept = self.lock();
        let whole = kept.whole.get(&key(id)).cloned();
        let whole = whole.ok_or(SnapshotStorageError::Missing)?;
        Ok(StoredSnapshot {
            manifest: whole.manifest,
            data: Box::new(whole.data),
        })
    }

    fn resume(
        &self,
        metadata: &SnapshotMetadata,
        manifest: SnapshotManifest,
    ) -> Result<Box<dyn SnapshotPart>, SnapshotStorageError> {
        let id = metadata.id();
        let mut kept = self.lock();
        let has_part = kept
            .part
            .as_ref()
            .is_some_and(|part| part.is(id, &manifest));
        if !has_part {
            kept.part = Some(Arrived {
                id,
                manifest: manifest.clone(),
                data: Vec::new(),
            });
        }
        Ok(Box::new(Part {
            storage: self.clone(),
            id,
            manifest,
        }))
    }

    fn remove(&self, id: EntryId) -> Result<(), SnapshotStorageError> {
        self.lock().whole.remove(&key(id));
        Ok(())
    }
}

struct Sink {
    storage: MemorySnapshots,
    id: EntryId,
    addresses: AddressBook,
    data: Vec<u8>,
}

impl io::Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.data.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotSink for Sink {
    fn finish(self: Box<Self>) -> Result<SnapshotManifest, SnapshotStorageError> {
        let manifest = SnapshotManifest {
            addresses: self.addresses,
            ..SnapshotManifest::of_data(&self.data)
        };
        let whole = Whole {
            manifest: manifest.clone(),
            data: self.data.into(),
        };
        self.storage.lock().whole.insert(key(self.id), whole);
        Ok(manifest)
    }
}

struct Part {
    storage: MemorySnapshots,
    id: EntryId,
    manifest: SnapshotManifest,
}

impl Part {
    /// Looks at what is there, unless another one has begun to arrive.
    fn with<T>(
        &self,
        look: impl FnOnce(&mut Arrived) -> Result<T, SnapshotStorageError>,
    ) -> Result<T, SnapshotStorageError> {
        let mut kept = self.storage.lock();
        match &mut kept.part {
            Some(part) if part.is(self.id, &self.manifest) => look(part),
            _ => Err(SnapshotStorageError::Missing),
        }
    }
}

impl SnapshotPart for Part {
    fn data_bytes(&self) -> u64 {
        self.with(|part| Ok(len_u64(&part.data))).unwrap_or(0)
    }

    fn append(&mut self, data: &[u8]) -> Result<(), SnapshotStorageError> {
        self.with(|part| {
            if len_u64(&part.data) + len_u64(data) > part.manifest.data_bytes {
                return Err(SnapshotStorageError::damaged(
                    "it is longer than it was to be",
                ));
            }
            part.data.extend_from_slice(data);
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Result<(), SnapshotStorageError> {
        let data = self.with(|part| Ok(std::mem::take(&mut part.data)))?;
        let mut kept = self.storage.lock();
        kept.part = None;
        let SnapshotManifest {
            data_bytes, crc32c, ..
        } = SnapshotManifest::of_data(&data);
        if (data_bytes, crc32c) != (self.manifest.data_bytes, self.manifest.crc32c) {
            return Err(SnapshotStorageError::damaged("its checksum is wrong"));
        }
        let whole = Whole {
            manifest: self.manifest,
            data: data.into(),
        };
        kept.whole.insert(key(self.id), whole);
        Ok(())
    }
}

impl SnapshotData for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        match part {
            Some(part) => {
                buffer.copy_from_slice(part);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> EntryId {
        EntryId::new(Term::new(1), LogIndex::new(index))
    }

    #[test]
    fn the_snapshot_before_the_installed_one_stays_as_it_may_be_about_to_be_sent() {
        let snapshots = MemorySnapshots::new();
        for index in [10, 20, 30] {
            let metadata = SnapshotMetadata {
                index: LogIndex::new(index),
                term: Term::new(1),
                ..SnapshotMetadata::default()
            };
            let sink = snapshots.create(&metadata, &AddressBook::default());
            sink.unwrap().finish().unwrap();
        }
        snapshots.prune(id(30));
        assert!(matches!(
            snapshots.open(id(10)),
            Err(SnapshotStorageError::Missing)
        ));
        assert!(snapshots.open(id(20)).is_ok());
        assert!(snapshots.open(id(30)).is_ok());
    }
}
