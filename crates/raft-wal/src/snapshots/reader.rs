//! # A snapshot that is read
//!
//! From its beginning, checked against its checksum at the end; or from any
//! place, unchecked.
//!
//! - Owns: an open file.

use std::io::{self, Read};
use std::path::PathBuf;

use super::folder::StoredSnapshot;
use super::layout::{
    FOOTER_BYTES, HEADER_BYTES_MAX, MAGIC, decode_header, encode_footer, header_checksum,
    is_supported, verified,
};
use super::{CHUNK_BYTES, SnapshotError, disk};
use crate::error::{Attempt, Operation};
use crate::format::{Reader, len_u64};
use crate::fs::File;
use crate::identity::Identity;

/// A snapshot that is being read.
#[derive(Debug)]
pub struct SnapshotReader<D: File = std::fs::File> {
    file: D,
    stored: StoredSnapshot,
    data_start: u64,
    position: u64,
    checksum: u32,
}

impl<D: File> SnapshotReader<D> {
    /// Reads header and footer.
    pub(super) fn check(
        file: D,
        path: PathBuf,
        identity: Identity,
        group: u64,
    ) -> Result<Self, SnapshotError> {
        let read = |offset: u64, len: u64| {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            file.read_exact_at(&mut bytes, offset)
                .attempt(Operation::Read, &path)
                .map_err(disk)
                .map(|()| bytes)
        };
        let damaged = |what| SnapshotError::Damaged {
            file: path.clone(),
            what,
        };
        let len = file
            .len_bytes()
            .attempt(Operation::Read, &path)
            .map_err(disk)?;
        if len < 16 + FOOTER_BYTES {
            return Err(damaged("it is too short"));
        }
        let start = read(0, 16)?;
        let mut fields = Reader(&start);
        if fields.array() != Some(MAGIC) {
            return Err(damaged("it does not begin like a snapshot"));
        }
        let version = fields.u32().unwrap_or(0);
        let header_bytes = u64::from(fields.u32().unwrap_or(0));
        if header_bytes > HEADER_BYTES_MAX || header_bytes + FOOTER_BYTES > len {
            return Err(damaged("its header has an impossible length"));
        }
        let header = read(0, header_bytes)?;
        let Some(covered) = verified(&header) else {
            return Err(damaged("its header cannot be read"));
        };
        if !is_supported(version) {
            return Err(SnapshotError::UnsupportedVersion {
                file: path.clone(),
                found: version,
            });
        }
        let Some(header_says) = decode_header(version, covered) else {
            return Err(damaged("its header means nothing"));
        };
        if (header_says.identity, header_says.group) != (identity, group) {
            return Err(SnapshotError::Foreign {
                file: path.clone(),
                found: header_says.identity,
            });
        }
        let footer = read(len - FOOTER_BYTES, FOOTER_BYTES)?;
        let data_bytes = len - FOOTER_BYTES - header_bytes;
        let mut fields = Reader(&footer);
        let data_checksum = fields.take(16).and_then(|_| fields.u32()).unwrap_or(0);
        if footer != encode_footer(header_checksum(&header), data_bytes, data_checksum) {
            return Err(damaged("its end cannot be read"));
        }
        Ok(Self {
            file,
            stored: StoredSnapshot {
                metadata: header_says.metadata,
                note: header_says.note,
                data_bytes,
                data_crc32c: data_checksum,
                file: path,
            },
            data_start: header_bytes,
            position: 0,
            checksum: 0,
        })
    }

    pub(super) fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged {
            file: self.stored.file.clone(),
            what,
        }
    }

    /// Reads all of the data once, and begins anew.
    pub(super) fn check_data(&mut self) -> Result<(), SnapshotError> {
        let len = usize::try_from(self.stored.data_bytes).unwrap_or(usize::MAX);
        let mut chunk = vec![0; len.min(CHUNK_BYTES)];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(self.damaged("its data does not match its checksum"));
                }
                Err(error) => {
                    let file = &self.stored.file;
                    return Err(error).attempt(Operation::Read, file).map_err(disk);
                }
            }
        }
        self.position = 0;
        self.checksum = 0;
        Ok(())
    }

    /// Fills `buffer` with the data from `offset` on. Nothing is checked: whoever
    /// reads in pieces compares [`StoredSnapshot::data_crc32c`] at the end.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` if the data ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(len_u64(buffer.len()));
        if end > self.stored.data_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.data_start + offset)
    }

    /// Which snapshot it is.
    pub fn stored(&self) -> &StoredSnapshot {
        &self.stored
    }
}

impl<D: File> Read for SnapshotReader<D> {
    /// Reads data. The call that reads the last byte fails with `InvalidData`
    /// if the data does not match its checksum.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.stored.data_bytes - self.position;
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = &mut buffer[..len];
        self.file
            .read_exact_at(part, self.data_start + self.position)?;
        self.position += len_u64(len);
        self.checksum = crc32c::crc32c_append(self.checksum, part);
        if self.position == self.stored.data_bytes && self.checksum != self.stored.data_crc32c {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the snapshot's data does not match its checksum",
            ));
        }
        Ok(len)
    }
}
