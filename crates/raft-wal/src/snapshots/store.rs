//! # Which snapshots there are
//!
//! Finds snapshots by the names of their files, and removes those that are not
//! needed any more. What may go is said by whoever owns the log: a snapshot that
//! the log refers to is never removed here.
//!
//! - Owns: how many are kept.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::{EntryId, LogIndex, Snapshot, SnapshotMetadata};

use super::folder::{SnapshotFolder, StoredSnapshot};
use super::part::{self, SnapshotPart};
use super::reader::SnapshotReader;
use super::writer::SnapshotWriter;
use super::{SnapshotError, disk};
use crate::error::{Attempt, Operation};
use crate::fs::{Fs, OsFs};
use crate::identity::Identity;

const TMP_SUFFIX: &str = ".tmp";

/// The snapshots of one group of one node.
///
/// The folder belongs to whoever has the [`Wal`](crate::Wal) of the same data
/// folder open. Methods block on the disk.
#[derive(Clone, Debug)]
pub struct SnapshotStore<F: Fs = OsFs> {
    folder: SnapshotFolder<F>,
    keep: usize,
}

/// The newest snapshot that can be read.
#[derive(Debug, Default)]
pub struct LatestSnapshot {
    /// The newest one that is undamaged.
    pub stored: Option<StoredSnapshot>,
    /// What is wrong with newer ones.
    pub damaged: Vec<SnapshotError>,
}

impl SnapshotStore {
    /// The snapshots of `group` in the data folder `dir`, of which the newest
    /// `keep` (at least one) stay. Removes what a crash left half-written; only
    /// the [part](SnapshotPart) of one that was arriving stays, if it is newer
    /// than what is there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        dir: impl AsRef<Path>,
        identity: Identity,
        group: u64,
        keep: usize,
    ) -> Result<Self, SnapshotError> {
        Self::open_on(OsFs, dir, identity, group, keep)
    }
}

impl<F: Fs> SnapshotStore<F> {
    /// [`open`](SnapshotStore::open), on a file system of your own.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open_on(
        fs: F,
        dir: impl AsRef<Path>,
        identity: Identity,
        group: u64,
        keep: usize,
    ) -> Result<Self, SnapshotError> {
        let store = Self {
            folder: SnapshotFolder::open(fs, dir.as_ref(), identity, group)?,
            keep: keep.max(1),
        };
        let newest = store.ids()?.first().map_or(LogIndex::ZERO, |id| id.index);
        for name in store.folder.names()? {
            let is_outdated = part::index_of(&name).is_some_and(|index| index <= newest);
            if name.ends_with(TMP_SUFFIX) || is_outdated {
                store.folder.remove_file(&name)?;
            }
        }
        Ok(store)
    }

    /// Where a snapshot's file is, or would be.
    pub fn file(&self, id: EntryId) -> PathBuf {
        self.folder.file(id)
    }

    /// Which snapshots have a file, newest first. They may be damaged.
    ///
    /// # Errors
    /// The disk failed.
    pub fn ids(&self) -> Result<Vec<EntryId>, SnapshotError> {
        let names = self.folder.names()?;
        let mut ids: Vec<_> = names
            .iter()
            .filter_map(|name| SnapshotFolder::<F>::id_of(name))
            .collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse((id.index, id.term)));
        Ok(ids)
    }

    /// Stores a snapshot without a note durably, then removes those that are too old
    /// to be kept.
    ///
    /// # Errors
    /// The disk failed; the snapshot is not there.
    pub fn save(
        &self,
        metadata: &SnapshotMetadata,
        data: &[u8],
    ) -> Result<StoredSnapshot, SnapshotError> {
        let mut writer = self.writer(metadata, &Bytes::new())?;
        writer.put(data).map_err(disk)?;
        let stored = writer.finish()?;
        self.prune(metadata.id())?;
        Ok(stored)
    }

    /// Begins to store a snapshot whose data comes as a stream, with a note of at
    /// most 256 KiB. It is there once [`SnapshotWriter::finish`] has returned.
    ///
    /// # Errors
    /// The disk failed, or the note is too long.
    pub fn writer(
        &self,
        metadata: &SnapshotMetadata,
        note: &Bytes,
    ) -> Result<SnapshotWriter<F>, SnapshotError> {
        SnapshotWriter::begin(&self.folder, metadata, note)
    }

    /// Begins to take in a snapshot from elsewhere, or goes on where an earlier
    /// attempt for the same data stopped, before a restart too. The part of any
    /// other snapshot is removed: one arrives at a time.
    ///
    /// # Errors
    /// The disk failed, or the note is too long.
    pub fn resume(
        &self,
        metadata: &SnapshotMetadata,
        note: &Bytes,
        data_bytes: u64,
        data_crc32c: u32,
    ) -> Result<SnapshotPart<F>, SnapshotError> {
        SnapshotPart::resume(&self.folder, metadata, note, data_bytes, data_crc32c)
    }

    /// Reads a snapshot whole, and its data into memory.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged or not of this group.
    pub fn load(&self, id: EntryId) -> Result<Snapshot, SnapshotError> {
        let mut reader = self.reader(id)?;
        let len = usize::try_from(reader.stored().data_bytes)
            .map_err(|_| reader.damaged("it is too large for memory"))?;
        let mut data = Vec::with_capacity(len);
        reader
            .read_to_end(&mut data)
            .attempt(Operation::Read, &reader.stored().file)
            .map_err(disk)?;
        Ok(Snapshot {
            metadata: reader.stored().metadata.clone(),
            data: Bytes::from(data),
        })
    }

    /// Reads a snapshot as a stream. The whole file is checked before this
    /// returns, and again while it is read.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged or not of this group.
    pub fn reader(&self, id: EntryId) -> Result<SnapshotReader<F::File>, SnapshotError> {
        let mut reader = self.open_data(id)?;
        reader.check_data()?;
        Ok(reader)
    }

    /// Opens a snapshot whose head and end are good. The data is checked while it
    /// is read.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged or not of this group.
    pub fn open_data(&self, id: EntryId) -> Result<SnapshotReader<F::File>, SnapshotError> {
        let path = self.file(id);
        let file = self
            .folder
            .fs
            .open_read_only(&path)
            .attempt(Operation::Open, &path)
            .map_err(disk)?;
        let reader = SnapshotReader::check(file, path, self.folder.identity, self.folder.group)?;
        if reader.stored().metadata.id() != id {
            return Err(reader.damaged("it is not the snapshot that its name says"));
        }
        Ok(reader)
    }

    /// The newest snapshot that is undamaged, and the damaged ones that are
    /// newer. Where the log was compacted up to a damaged one, the node cannot
    /// go on with the older one: compare with
    /// [`RecoveredGroup::compacted`](crate::RecoveredGroup::compacted).
    ///
    /// # Errors
    /// The disk failed.
    pub fn latest(&self) -> Result<LatestSnapshot, SnapshotError> {
        let mut latest = LatestSnapshot::default();
        for id in self.ids()? {
            match self.reader(id) {
                Ok(reader) => {
                    latest.stored = Some(reader.stored().clone());
                    break;
                }
                Err(error @ SnapshotError::Damaged { .. }) => latest.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(latest)
    }

    /// Removes the oldest snapshots beyond those that are kept, counted from
    /// `installed`, the one that the log refers to; newer ones stay. A damaged
    /// file counts for nothing: it never pushes a good one out.
    ///
    /// # Errors
    /// The disk failed; too many may be there.
    pub fn prune(&self, installed: EntryId) -> Result<(), SnapshotError> {
        let mut kept = 0;
        for id in self.ids()? {
            if id.index > installed.index {
                continue;
            }
            if kept >= self.keep {
                self.remove(id)?;
            } else if self.has_good_ends(id) {
                kept += 1;
            }
        }
        self.folder.sync_dir()
    }

    /// Removes snapshots behind `installed`, the one that the log refers to:
    /// they were stored before a crash, and the log was not told. To be called
    /// before anything is stored.
    ///
    /// # Errors
    /// The disk failed; some may still be there.
    pub fn remove_unrecorded(&self, installed: Option<EntryId>) -> Result<(), SnapshotError> {
        let last = installed.map_or(LogIndex::ZERO, |id| id.index);
        for id in self.ids()? {
            if id.index > last {
                self.remove(id)?;
            }
        }
        Ok(())
    }

    /// Removes a snapshot that the log does not refer to.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove(&self, id: EntryId) -> Result<(), SnapshotError> {
        let path = self.file(id);
        self.folder
            .fs
            .remove(&path)
            .attempt(Operation::Remove, &path)
            .map_err(disk)
    }

    /// Whether header and footer are good; that is enough to keep a file.
    fn has_good_ends(&self, id: EntryId) -> bool {
        let path = self.file(id);
        self.folder
            .fs
            .open_read_only(&path)
            .ok()
            .and_then(|file| {
                SnapshotReader::check(file, path, self.folder.identity, self.folder.group).ok()
            })
            .is_some_and(|reader| reader.stored().metadata.id() == id)
    }
}
