//! # A snapshot that arrives
//!
//! It comes in pieces, over connections that may break, and perhaps over more
//! than one start of this process. What has arrived stays in a file whose name
//! says which data it is a part of, so that another attempt goes on where the
//! last one stopped. What counts is the checksum of the whole: nothing else says
//! that what a crash left in the file is good.
//!
//! - Owns: the file `<index>-<term>.<length>-<checksum>.part`.

use std::path::PathBuf;

use bytes::Bytes;
use raft_core::{LogIndex, SnapshotMetadata};

use super::folder::{SnapshotFolder, StoredSnapshot};
use super::layout::{FOOTER_BYTES, encode_footer, header_checksum};
use super::{CHUNK_BYTES, SnapshotError, disk};
use crate::error::{Attempt, Operation};
use crate::format::len_u64;
use crate::fs::{File, Fs, OsFs};

const SUFFIX: &str = ".part";

/// How much may wait for the disk, in bytes, so that the sync at the end does
/// not take as long as the whole transfer did.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;

/// Where the snapshot stands of which a file with this name is a part; `None` if
/// it is something else.
pub(super) fn index_of(name: &str) -> Option<LogIndex> {
    let (index, _) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    u64::from_str_radix(index, 16).ok().map(LogIndex::new)
}

/// A snapshot of which a part has arrived. Dropping it keeps the part.
#[derive(Debug)]
pub struct SnapshotPart<F: Fs = OsFs> {
    folder: SnapshotFolder<F>,
    metadata: SnapshotMetadata,
    note: Bytes,
    header: Vec<u8>,
    /// What all of it will be.
    data_bytes_expected: u64,
    crc32c_expected: u32,
    data_bytes: u64,
    crc32c: u32,
    synced_bytes: u64,
    file: F::File,
    path: PathBuf,
}

impl<F: Fs> SnapshotPart<F> {
    pub(super) fn resume(
        folder: &SnapshotFolder<F>,
        metadata: &SnapshotMetadata,
        note: &Bytes,
        data_bytes: u64,
        data_crc32c: u32,
    ) -> Result<Self, SnapshotError> {
        let header = folder.header(metadata, note)?;
        let id = metadata.id();
        let name = format!(
            "{:016x}-{:016x}.{data_bytes:016x}-{data_crc32c:08x}{SUFFIX}",
            id.index.get(),
            id.term.get()
        );
        let mut has_part = false;
        for other in folder.names()? {
            if other == name {
                has_part = true;
            } else if other.ends_with(SUFFIX) {
                folder.remove_file(&other)?;
            }
        }
        let path = folder.path.join(name);
        let part = |file| Self {
            folder: folder.clone(),
            metadata: metadata.clone(),
            note: note.clone(),
            header: header.clone(),
            data_bytes_expected: data_bytes,
            crc32c_expected: data_crc32c,
            data_bytes: 0,
            crc32c: 0,
            synced_bytes: 0,
            file,
            path: path.clone(),
        };
        if has_part {
            let file = folder
                .fs
                .open(&path)
                .attempt(Operation::Open, &path)
                .map_err(disk)?;
            let mut part = part(file);
            if part.read_what_is_there()? {
                return Ok(part);
            }
        }
        let file = folder
            .fs
            .create(&path)
            .attempt(Operation::Create, &path)
            .map_err(disk)?;
        file.write_all_at(&header, 0)
            .attempt(Operation::Write, &path)
            .map_err(disk)?;
        Ok(part(file))
    }

    /// Counts what an earlier attempt left; whether it is of use.
    fn read_what_is_there(&mut self) -> Result<bool, SnapshotError> {
        let read = |buffer: &mut [u8], offset| {
            self.file
                .read_exact_at(buffer, offset)
                .attempt(Operation::Read, &self.path)
                .map_err(disk)
        };
        let len = self
            .file
            .len_bytes()
            .attempt(Operation::Read, &self.path)
            .map_err(disk)?;
        let header_bytes = len_u64(self.header.len());
        let written = len.saturating_sub(header_bytes);
        // Longer by the end alone if a crash came between that and the name.
        if len < header_bytes || written > self.data_bytes_expected + FOOTER_BYTES {
            return Ok(false);
        }
        let data_bytes = written.min(self.data_bytes_expected);
        let mut header = vec![0; self.header.len()];
        read(&mut header, 0)?;
        if header != self.header {
            return Ok(false);
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut position = 0;
        let mut crc32c = 0;
        while position < data_bytes {
            let left = usize::try_from(data_bytes - position).unwrap_or(usize::MAX);
            let piece = &mut chunk[..left.min(CHUNK_BYTES)];
            read(piece, header_bytes + position)?;
            crc32c = crc32c::crc32c_append(crc32c, piece);
            position += len_u64(piece.len());
        }
        self.data_bytes = data_bytes;
        self.crc32c = crc32c;
        Ok(true)
    }

    /// How much of the data is there, in bytes.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Appends data.
    ///
    /// # Errors
    /// The disk failed, or the data is longer than it was to be. After a failure
    /// this part is good for nothing but to be dropped; the next attempt finds
    /// what is good.
    pub fn append(&mut self, data: &[u8]) -> Result<(), SnapshotError> {
        let end = self.data_bytes.saturating_add(len_u64(data.len()));
        if end > self.data_bytes_expected {
            return Err(self.damaged("its data is longer than it was to be"));
        }
        let header_bytes = len_u64(self.header.len());
        if let Err(failure) = self
            .file
            .write_all_at(data, header_bytes + self.data_bytes)
            .attempt(Operation::Write, &self.path)
        {
            if failure.is_disk_full() {
                // Half a snapshot must not keep the log from its room.
                let _ = self.folder.fs.remove(&self.path);
            }
            return Err(disk(failure));
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, data);
        self.data_bytes = end;
        if end - self.synced_bytes >= UNSYNCED_BYTES_MAX {
            self.file
                .sync_data()
                .attempt(Operation::Sync, &self.path)
                .map_err(disk)?;
            self.synced_bytes = end;
        }
        Ok(())
    }

    /// Checks the whole, makes it durable and gives it its name. Older snapshots
    /// stay until [`SnapshotStore::prune`](super::SnapshotStore::prune).
    ///
    /// # Errors
    /// - [`SnapshotError::Damaged`] if the data is not what it was to be. Nothing
    ///   of it is kept.
    /// - The disk failed; the snapshot is not there, or it is not known whether
    ///   it will be after a crash.
    pub fn finish(self) -> Result<StoredSnapshot, SnapshotError> {
        if (self.data_bytes, self.crc32c) != (self.data_bytes_expected, self.crc32c_expected) {
            let _ = self.folder.fs.remove(&self.path);
            return Err(self.damaged("what arrived does not match its checksum"));
        }
        let footer = encode_footer(header_checksum(&self.header), self.data_bytes, self.crc32c);
        self.file
            .write_all_at(&footer, len_u64(self.header.len()) + self.data_bytes)
            .attempt(Operation::Write, &self.path)
            .map_err(disk)?;
        let path = self.folder.file(self.metadata.id());
        self.folder.publish(&self.file, &self.path, &path)?;
        self.folder.sync_dir()?;
        Ok(StoredSnapshot {
            metadata: self.metadata,
            note: self.note,
            data_bytes: self.data_bytes,
            data_crc32c: self.crc32c,
            file: path,
        })
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged {
            file: self.path.clone(),
            what,
        }
    }
}
