//! # Snapshots on disk
//!
//! One file per snapshot. It is written under another name, synced, and then
//! given its own, so a file that has its name is whole; what a crash leaves
//! half-written never has one.
//!
//! - Owns: the folder `snapshots/<group>`.
//! - Reads and emits: the data of the state machine, as bytes or as a stream.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::{EntryId, LogIndex, Snapshot, SnapshotMetadata, Term};

use crate::error::{Attempt, Failure, Operation};
use crate::format::{FORMAT_VERSION, Reader, decode_conf_state, len_u64, put_conf_state};
use crate::fs::{File, Fs, OsFs};
use crate::identity::Identity;

const MAGIC: [u8; 8] = *b"RaftSNAP";
const FOOTER_MAGIC: [u8; 8] = *b"SnapEnd\0";
const FOOTER_BYTES: u64 = 24;
/// The largest header that is read: some thousands of members.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// How much is written or read at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
const TMP_SUFFIX: &str = ".tmp";
const SUFFIX: &str = ".snap";

/// Why a snapshot could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed. Nothing is lost that was stored before.
    #[error("{0}; check the disk")]
    Disk(#[from] Failure),
    /// The disk is full. Nothing is lost that was stored before.
    #[error("the disk is full, and a snapshot needs room; make room and try again ({0})")]
    DiskFull(Failure),
    /// The file is damaged.
    #[error(
        "the snapshot {} is damaged: {what}; an older one may do, or the leader sends a new one",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The snapshot is that of another node, cluster or group.
    #[error("the snapshot {} belongs to {found}, and not to this node", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
    },
    /// The snapshot was written by a version of this crate that this one does
    /// not know.
    #[error(
        "the snapshot {} has format version {found}; start the version that wrote it",
        file.display()
    )]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

fn disk(failure: Failure) -> SnapshotError {
    if failure.is_disk_full() {
        SnapshotError::DiskFull(failure)
    } else {
        SnapshotError::Disk(failure)
    }
}

/// The snapshots of one group of one node.
///
/// The folder belongs to whoever has the [`Wal`](crate::Wal) of the same data
/// folder open. Methods block on the disk.
#[derive(Clone, Debug)]
pub struct SnapshotStore<F: Fs = OsFs> {
    fs: F,
    dir: PathBuf,
    identity: Identity,
    group: u64,
    keep: usize,
}

/// A snapshot that was read whole and is undamaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Where it stands, and the configuration there.
    pub metadata: SnapshotMetadata,
    /// The length of its data, in bytes.
    pub data_bytes: u64,
    /// Its file.
    pub file: PathBuf,
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
    /// `keep` (at least one) stay. Removes what a crash left half-written.
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
        let dir = dir.as_ref().join("snapshots").join(format!("{group:016x}"));
        fs.create_dir_all(&dir)
            .attempt(Operation::Create, &dir)
            .map_err(disk)?;
        let store = Self {
            fs,
            dir,
            identity,
            group,
            keep: keep.max(1),
        };
        for name in store.names()? {
            if name.ends_with(TMP_SUFFIX) {
                store.remove(&name)?;
            }
        }
        Ok(store)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.fs
            .list(&self.dir)
            .attempt(Operation::List, &self.dir)
            .map_err(disk)
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.dir.join(name);
        self.fs
            .remove(&path)
            .attempt(Operation::Remove, &path)
            .map_err(disk)
    }

    fn path(&self, id: EntryId) -> PathBuf {
        self.dir.join(format!(
            "{:016x}-{:016x}{SUFFIX}",
            id.index.get(),
            id.term.get()
        ))
    }

    /// Which snapshots have a file, newest first. They may be damaged.
    ///
    /// # Errors
    /// The disk failed.
    pub fn ids(&self) -> Result<Vec<EntryId>, SnapshotError> {
        let mut ids: Vec<_> = self
            .names()?
            .iter()
            .filter_map(|name| {
                let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
                let index = LogIndex::new(u64::from_str_radix(index, 16).ok()?);
                let term = Term::new(u64::from_str_radix(term, 16).ok()?);
                Some(EntryId::new(term, index))
            })
            .collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse((id.index, id.term)));
        Ok(ids)
    }

    /// Stores a snapshot durably, then removes those that are too old to be
    /// kept.
    ///
    /// # Errors
    /// The disk failed; the snapshot is not there.
    pub fn save(
        &self,
        metadata: &SnapshotMetadata,
        data: &[u8],
    ) -> Result<StoredSnapshot, SnapshotError> {
        let mut writer = self.writer(metadata)?;
        writer.put(data).map_err(disk)?;
        writer.finish()
    }

    /// Begins to store a snapshot whose data comes as a stream. It is there
    /// once [`SnapshotWriter::finish`] has returned.
    ///
    /// # Errors
    /// The disk failed.
    pub fn writer(&self, metadata: &SnapshotMetadata) -> Result<SnapshotWriter<F>, SnapshotError> {
        let path = self.path(metadata.id());
        let tmp = path.with_extension("snap.tmp");
        let file = self
            .fs
            .create(&tmp)
            .attempt(Operation::Create, &tmp)
            .map_err(disk)?;
        let header = encode_header(self.identity, self.group, metadata);
        Ok(SnapshotWriter {
            store: self.clone(),
            metadata: metadata.clone(),
            buffer: header,
            written: 0,
            checksum: 0,
            data_bytes: 0,
            file: Some(file),
            tmp,
            path,
        })
    }

    /// Reads a snapshot whole, and its data into memory.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged or not of this group.
    pub fn load(&self, id: EntryId) -> Result<Snapshot, SnapshotError> {
        let mut reader = self.reader(id)?;
        let len =
            usize::try_from(reader.stored.data_bytes).map_err(|_| SnapshotError::Damaged {
                file: reader.stored.file.clone(),
                what: "it is too large for memory",
            })?;
        let mut data = Vec::with_capacity(len);
        reader
            .read_to_end(&mut data)
            .attempt(Operation::Read, &reader.stored.file)
            .map_err(disk)?;
        Ok(Snapshot {
            metadata: reader.stored.metadata,
            data: Bytes::from(data),
        })
    }

    /// Reads a snapshot as a stream. The whole file is checked before this
    /// returns, and again while it is read.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged or not of this group.
    pub fn reader(&self, id: EntryId) -> Result<SnapshotReader<F::File>, SnapshotError> {
        let path = self.path(id);
        let file = self
            .fs
            .open_read_only(&path)
            .attempt(Operation::Open, &path)
            .map_err(disk)?;
        let mut reader = SnapshotReader::check(file, path, self.identity, self.group)?;
        if reader.stored.metadata.id() != id {
            return Err(reader.damaged("it is not the snapshot that its name says"));
        }
        let len = usize::try_from(reader.stored.data_bytes).unwrap_or(usize::MAX);
        let mut chunk = vec![0; len.min(CHUNK_BYTES)];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(reader.damaged("its data does not match its checksum"));
                }
                Err(error) => {
                    let file = &reader.stored.file;
                    return Err(error).attempt(Operation::Read, file).map_err(disk);
                }
            }
        }
        reader.rewind();
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
                    latest.stored = Some(reader.stored);
                    break;
                }
                Err(error @ SnapshotError::Damaged { .. }) => latest.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(latest)
    }

    /// Removes the oldest snapshots beyond those that are kept. A damaged file
    /// counts for nothing: it never pushes a good one out.
    fn prune(&self) -> Result<(), SnapshotError> {
        let mut kept = 0;
        for id in self.ids()? {
            if kept >= self.keep {
                let path = self.path(id);
                self.fs
                    .remove(&path)
                    .attempt(Operation::Remove, &path)
                    .map_err(disk)?;
            } else if self.has_good_ends(id) {
                kept += 1;
            }
        }
        self.sync_dir()
    }

    /// Whether header and footer are good; that is enough to keep a file.
    fn has_good_ends(&self, id: EntryId) -> bool {
        let path = self.path(id);
        self.fs
            .open_read_only(&path)
            .ok()
            .and_then(|file| SnapshotReader::check(file, path, self.identity, self.group).ok())
            .is_some_and(|reader| reader.stored.metadata.id() == id)
    }

    fn sync_dir(&self) -> Result<(), SnapshotError> {
        self.fs
            .sync_dir(&self.dir)
            .attempt(Operation::Sync, &self.dir)
            .map_err(disk)
    }
}

fn encode_header(identity: Identity, group: u64, metadata: &SnapshotMetadata) -> Vec<u8> {
    let mut conf_state = Vec::new();
    put_conf_state(&mut conf_state, &metadata.conf_state);
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let header_bytes = 68 + len_u64(conf_state.len());
    out.extend_from_slice(
        &u32::try_from(header_bytes)
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    identity.encode(&mut out);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&metadata.term.get().to_le_bytes());
    out.extend_from_slice(&metadata.index.get().to_le_bytes());
    out.extend_from_slice(&conf_state);
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The header without its checksum, if that is good.
fn verified(header: &[u8]) -> Option<&[u8]> {
    let (covered, checksum) = header.split_last_chunk()?;
    (crc32c::crc32c(covered) == u32::from_le_bytes(*checksum)).then_some(covered)
}

fn decode_header(covered: &[u8]) -> Option<(Identity, u64, SnapshotMetadata)> {
    let mut reader = Reader(covered.get(16..)?);
    let identity = Identity::decode(&mut reader)?;
    let group = reader.u64()?;
    let term = Term::new(reader.u64()?);
    let index = LogIndex::new(reader.u64()?);
    let conf_state = decode_conf_state(&mut reader)?;
    reader.end()?;
    Some((
        identity,
        group,
        SnapshotMetadata {
            index,
            term,
            conf_state,
        },
    ))
}

/// The footer. Its checksum also covers the header's, so that the ends of two
/// files cannot be mixed up.
fn encode_footer(header_checksum: &[u8], data_bytes: u64, data_checksum: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&FOOTER_MAGIC);
    out.extend_from_slice(&data_bytes.to_le_bytes());
    out.extend_from_slice(&data_checksum.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(header_checksum), &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// A snapshot that is being stored. Dropping it before
/// [`finish`](Self::finish) leaves nothing behind.
#[derive(Debug)]
pub struct SnapshotWriter<F: Fs = OsFs> {
    store: SnapshotStore<F>,
    metadata: SnapshotMetadata,
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
    fn put(&mut self, data: &[u8]) -> Result<(), Failure> {
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

    /// Makes the snapshot durable and gives it its name; then removes those
    /// that are too old to be kept.
    ///
    /// # Errors
    /// The disk failed; the snapshot is not there, or it is not known whether
    /// it will be after a crash.
    pub fn finish(mut self) -> Result<StoredSnapshot, SnapshotError> {
        let header = encode_header(self.store.identity, self.store.group, &self.metadata);
        let header_checksum = header.last_chunk::<4>().map_or(&[][..], |sum| &sum[..]);
        let footer = encode_footer(header_checksum, self.data_bytes, self.checksum);
        self.buffer.extend_from_slice(&footer);
        self.flush_buffer().map_err(disk)?;
        if let Some(file) = &self.file {
            file.sync_data()
                .attempt(Operation::Sync, &self.tmp)
                .map_err(disk)?;
        }
        self.store
            .fs
            .rename(&self.tmp, &self.path)
            .attempt(Operation::Rename, &self.path)
            .map_err(disk)?;
        self.file = None;
        self.store.sync_dir()?;
        self.store.prune()?;
        Ok(StoredSnapshot {
            metadata: self.metadata.clone(),
            data_bytes: self.data_bytes,
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
            let _ = self.store.fs.remove(&self.tmp);
        }
    }
}

/// A snapshot that is being read.
#[derive(Debug)]
pub struct SnapshotReader<D: File = std::fs::File> {
    file: D,
    stored: StoredSnapshot,
    data_start: u64,
    expected_checksum: u32,
    position: u64,
    checksum: u32,
}

impl<D: File> SnapshotReader<D> {
    /// Reads header and footer.
    fn check(
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
        if version != FORMAT_VERSION {
            return Err(SnapshotError::UnsupportedVersion {
                file: path.clone(),
                found: version,
            });
        }
        let Some((found, found_group, metadata)) = decode_header(covered) else {
            return Err(damaged("its header means nothing"));
        };
        if (found, found_group) != (identity, group) {
            return Err(SnapshotError::Foreign {
                file: path.clone(),
                found,
            });
        }
        let footer = read(len - FOOTER_BYTES, FOOTER_BYTES)?;
        let data_bytes = len - FOOTER_BYTES - header_bytes;
        let mut fields = Reader(&footer);
        let data_checksum = fields.take(16).and_then(|_| fields.u32()).unwrap_or(0);
        let header_checksum = header.last_chunk::<4>().map_or(&[][..], |sum| &sum[..]);
        if footer != encode_footer(header_checksum, data_bytes, data_checksum) {
            return Err(damaged("its end cannot be read"));
        }
        Ok(Self {
            file,
            stored: StoredSnapshot {
                metadata,
                data_bytes,
                file: path,
            },
            data_start: header_bytes,
            expected_checksum: data_checksum,
            position: 0,
            checksum: 0,
        })
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged {
            file: self.stored.file.clone(),
            what,
        }
    }

    fn rewind(&mut self) {
        self.position = 0;
        self.checksum = 0;
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
        if self.position == self.stored.data_bytes && self.checksum != self.expected_checksum {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the snapshot's data does not match its checksum",
            ));
        }
        Ok(len)
    }
}
