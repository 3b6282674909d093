//! # The folder of a group's snapshots
//!
//! What a snapshot's file is called, and how it gets its name once it is whole.
//!
//! - Owns: the names in the folder `snapshots/<group>`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::{EntryId, LogIndex, SnapshotMetadata, Term};

use super::layout::{HEADER_BYTES_MAX, NOTE_BYTES_MAX, encode_header};
use super::{SnapshotError, disk};
use crate::error::{Attempt, Operation};
use crate::format::len_u64;
use crate::fs::{File, Fs, OsFs};
use crate::identity::Identity;

const SUFFIX: &str = ".snap";

/// A snapshot that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Where it stands, and the configuration there.
    pub metadata: SnapshotMetadata,
    /// What its owner wanted to be known of it before its data is read.
    pub note: Bytes,
    /// The length of its data, in bytes.
    pub data_bytes: u64,
    /// The CRC-32C of its data.
    pub data_crc32c: u32,
    /// Its file.
    pub file: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) struct SnapshotFolder<F: Fs = OsFs> {
    pub(super) fs: F,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) group: u64,
}

impl<F: Fs> SnapshotFolder<F> {
    /// The folder of `group` in a data folder, made if it is not there.
    pub(super) fn open(
        fs: F,
        data_dir: &Path,
        identity: Identity,
        group: u64,
    ) -> Result<Self, SnapshotError> {
        let path = data_dir.join("snapshots").join(format!("{group:016x}"));
        fs.create_dir_all(&path)
            .attempt(Operation::Create, &path)
            .map_err(disk)?;
        Ok(Self {
            fs,
            path,
            identity,
            group,
        })
    }

    /// Where a snapshot's file is, or would be.
    pub(super) fn file(&self, id: EntryId) -> PathBuf {
        self.path.join(format!(
            "{:016x}-{:016x}{SUFFIX}",
            id.index.get(),
            id.term.get()
        ))
    }

    /// Which snapshot a file with this name is; `None` if it is something else.
    pub(super) fn id_of(name: &str) -> Option<EntryId> {
        let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let index = LogIndex::new(u64::from_str_radix(index, 16).ok()?);
        let term = Term::new(u64::from_str_radix(term, 16).ok()?);
        Some(EntryId::new(term, index))
    }

    pub(super) fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.fs
            .list(&self.path)
            .attempt(Operation::List, &self.path)
            .map_err(disk)
    }

    pub(super) fn remove_file(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.path.join(name);
        self.fs
            .remove(&path)
            .attempt(Operation::Remove, &path)
            .map_err(disk)
    }

    /// The header of a file that can be read again.
    pub(super) fn header(
        &self,
        metadata: &SnapshotMetadata,
        note: &Bytes,
    ) -> Result<Vec<u8>, SnapshotError> {
        let header = encode_header(self.identity, self.group, metadata, note);
        if note.len() > NOTE_BYTES_MAX || len_u64(header.len()) > HEADER_BYTES_MAX {
            return Err(SnapshotError::HeaderTooLong {
                bytes: len_u64(header.len()),
            });
        }
        Ok(header)
    }

    /// Makes a file durable and gives it its name; whoever calls this syncs the
    /// folder.
    pub(super) fn publish(
        &self,
        file: &F::File,
        from: &Path,
        to: &Path,
    ) -> Result<(), SnapshotError> {
        file.sync_data()
            .attempt(Operation::Sync, from)
            .map_err(disk)?;
        self.fs
            .rename(from, to)
            .attempt(Operation::Rename, to)
            .map_err(disk)
    }

    pub(super) fn sync_dir(&self) -> Result<(), SnapshotError> {
        self.fs
            .sync_dir(&self.path)
            .attempt(Operation::Sync, &self.path)
            .map_err(disk)
    }
}
