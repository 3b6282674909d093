//! # A snapshot that is made here
//!
//! Data goes into a file of a temporary name, chunk by chunk; only the end gives
//! it the name under which it is found.
//!
//! - Owns: the temporary file.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use raft_core::SnapshotMetadata;

use super::folder::{SnapshotFolder, StoredSnapshot};
use super::layout::{encode_footer, header_checksum};
use super::{CHUNK_BYTES, SnapshotError, disk};
use crate::error::{Attempt, Failure, Operation};
use crate::format::len_u64;
use crate::fs::{File, Fs, OsFs};

/// A snapshot that is being stored. Dropping it before
/// [`finish`](Self::finish) leaves nothing behind.
#[derive(Debug)]
pub struct SnapshotWriter<F: Fs = OsFs> {
    folder: SnapshotFolder<F>,
    metadata: SnapshotMetadata,
    note: Bytes,
    header: Vec<u8>,
    /// The header at first, then data that was not written yet.
    buffer: Vec<u8>,
    written: u64,
    checksum: u32,
    data_bytes: u64,
    /// `None` once the snapshot has its name.
    file: Option<F::File>,
    tmp: PathBuf,
    path: PathBuf,
}

impl<F: Fs> SnapshotWriter<F> {
    pub(super) fn begin(
        folder: &SnapshotFolder<F>,
        metadata: &SnapshotMetadata,
        note: &Bytes,
    ) -> Result<Self, SnapshotError> {
        let header = folder.header(metadata, note)?;
        let path = folder.file(metadata.id());
        let tmp = path.with_extension("snap.tmp");
        let file = folder
            .fs
            .create(&tmp)
            .attempt(Operation::Create, &tmp)
            .map_err(disk)?;
        Ok(Self {
            folder: folder.clone(),
            metadata: metadata.clone(),
            note: note.clone(),
            buffer: header.clone(),
            header,
            written: 0,
            checksum: 0,
            data_bytes: 0,
            file: Some(file),
            tmp,
            path,
        })
    }

    pub(super) fn put(&mut self, data: &[u8]) -> Result<(), Failure> {
        for chunk in data.chunks(CHUNK_BYTES) {
            self.checksum = crc32c::crc32c_append(self.checksum, chunk);
            self.data_bytes += len_u64(chunk.len());
            self.buffer.extend_from_slice(chunk);
            if self.buffer.len() >= CHUNK_BYTES {
                self.flush_buffer()?;
            }
        }
        Ok(())
    }

    fn flush_buffer(&mut self) -> Result<(), Failure> {
        if let Some(file) = &self.file {
            file.write_all_at(&self.buffer, self.written)
                .attempt(Operation::Write, &self.tmp)?;
        }
        self.written += len_u64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    /// Makes the snapshot durable and gives it its name. Older ones stay until
    /// [`SnapshotStore::prune`](super::SnapshotStore::prune).
    ///
    /// # Errors
    /// The disk failed; the snapshot is not there, or it is not known whether
    /// it will be after a crash.
    pub fn finish(mut self) -> Result<StoredSnapshot, SnapshotError> {
        let footer = encode_footer(
            header_checksum(&self.header),
            self.data_bytes,
            self.checksum,
        );
        self.buffer.extend_from_slice(&footer);
        self.flush_buffer().map_err(disk)?;
        if let Some(file) = &self.file {
            self.folder.publish(file, &self.tmp, &self.path)?;
        }
        self.file = None;
        self.folder.sync_dir()?;
        Ok(StoredSnapshot {
            metadata: self.metadata.clone(),
            note: self.note.clone(),
            data_bytes: self.data_bytes,
            data_crc32c: self.checksum,
            file: self.path.clone(),
        })
    }
}

impl<F: Fs> Write for SnapshotWriter<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.put(data).map_err(|failure| failure.source)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer().map_err(|failure| failure.source)
    }
}

impl<F: Fs> Drop for SnapshotWriter<F> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // If this fails, the next start removes it.
            let _ = self.folder.fs.remove(&self.tmp);
        }
    }
}
