//! # Showing a log
//!
//! What the records of a log say, one after the other, for people and tools.
//! Nothing is changed and nothing is locked, so the log of a running node can
//! be looked at: it shows what had been written when each segment was read.
//!
//! - Reads: the segments of a folder, one at a time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use raft_core::{EntryId, EntryType, HardState, LogIndex, SnapshotMetadata};

use crate::error::{Attempt, Corruption, OpenError, Operation};
use crate::folder::{log_dir, segments};
use crate::format::{Record, len_u64};
use crate::fs::{Fs, OsFs};
use crate::recovery::read_segment;

use crate::segment::Segment;

/// The records of a log in the order in which they were written.
///
/// Where a segment cannot be read on, the reason comes as an error, and the
/// next segment goes on: this is for looking, not for recovering.
#[derive(Debug)]
pub struct Dump<F: Fs = OsFs> {
    fs: F,
    dir: PathBuf,
    segments: VecDeque<PathBuf>,
    ready: VecDeque<Result<DumpItem, OpenError>>,
}

/// One thing that a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpItem {
    /// The segment's file.
    pub file: PathBuf,
    /// Where its record begins, in bytes.
    pub offset: u64,
    /// The length of the record with header and padding, in bytes. The entries
    /// of one record share it.
    pub record_bytes: u64,
    /// The group; 0 for what concerns the log itself.
    pub group: u64,
    /// What it says.
    pub record: DumpRecord,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpRecord {
    /// An entry.
    Entry {
        /// Its term and index.
        id: EntryId,
        /// What its data means.
        entry_type: EntryType,
        /// The length of its data, in bytes.
        data_bytes: u64,
    },
    /// Term, vote and commit index.
    HardState(HardState),
    /// A snapshot that replaced the log of the group.
    Snapshot(SnapshotMetadata),
    /// Entries up to and with this one were dropped.
    Compact {
        /// The last of them.
        up_to: EntryId,
        /// The snapshot that has them.
        snapshot: SnapshotMetadata,
    },
    /// Where the group stood when the segment began.
    GroupState {
        /// Term, vote and commit index.
        hard_state: HardState,
        /// The last entry that was dropped.
        compacted: EntryId,
        /// The index after the last entry.
        next: LogIndex,
        /// The latest snapshot.
        snapshot: Option<SnapshotMetadata>,
    },
    /// Segments before this one are not needed.
    Purge {
        /// The oldest segment that is.
        oldest_segment: u64,
    },
    /// The segment ended.
    Seal {
        /// The next one.
        next_segment: u64,
    },
    /// A batch ended.
    Batch {
        /// Its number.
        number: u64,
        /// The last batch that was durable when it was written.
        durable: u64,
    },
}

impl Dump {
    /// The log in a data folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_on(OsFs, dir)
    }
}

impl<F: Fs> Dump<F> {
    /// The log in a data folder on a file system of your own.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open_on(fs: F, dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let log = log_dir(dir);
        let names = fs
            .list(&log)
            .attempt(Operation::List, &log)
            .map_err(|failure| OpenError::from_failure(failure, dir))?;
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            segments: segments(&log, &names)
                .into_iter()
                .map(|(_, path)| path)
                .collect(),
            ready: VecDeque::new(),
        })
    }

    fn read(&mut self, path: &Path) {
        match read_segment(&self.fs, &self.dir, path) {
            Ok(segment) => self.read_batches(&segment),
            Err(error) => self.ready.push_back(Err(error)),
        }
    }

    fn read_batches(&mut self, segment: &Segment) {
        let mut batches = segment.batches();
        let stop = loop {
            match batches.next() {
                Ok(batch) => {
                    for placed in batch.records {
                        let item = |record| DumpItem {
                            file: segment.path.clone(),
                            offset: len_u64(placed.offset),
                            record_bytes: len_u64(placed.header.record_len()),
                            group: placed.header.group,
                            record,
                        };
                        self.ready
                            .extend(shown(placed.record).into_iter().map(|said| Ok(item(said))));
                    }
                    self.ready.push_back(Ok(DumpItem {
                        file: segment.path.clone(),
                        offset: len_u64(batch.trailer_offset),
                        record_bytes: len_u64(batches.position() - batch.trailer_offset),
                        group: 0,
                        record: DumpRecord::Batch {
                            number: batch.trailer.batch,
                            durable: batch.trailer.durable_batch,
                        },
                    }));
                }
                Err(stop) => break stop,
            }
        };
        // The end of a segment is only worth a word if something follows it.
        if let Err(corruption) = batches.judge_tail(stop, 0) {
            self.ready.push_back(Err(Corruption::into(corruption)));
        }
    }
}

fn shown(record: Record) -> Vec<DumpRecord> {
    let one = match record {
        Record::Entries(entries) => {
            return entries
                .iter()
                .map(|entry| DumpRecord::Entry {
                    id: entry.id(),
                    entry_type: entry.entry_type(),
                    data_bytes: entry.payload_len(),
                })
                .collect();
        }
        Record::HardState(hard_state) => DumpRecord::HardState(hard_state),
        Record::Snapshot(snapshot) => DumpRecord::Snapshot(snapshot),
        Record::Compact(up_to, snapshot) => DumpRecord::Compact { up_to, snapshot },
        Record::GroupState(state) => DumpRecord::GroupState {
            hard_state: state.hard_state,
            compacted: state.compacted,
            next: state.next,
            snapshot: state.snapshot,
        },
        Record::Purge(oldest_segment) => DumpRecord::Purge { oldest_segment },
        Record::Seal(next_segment) => DumpRecord::Seal { next_segment },
        // A batch is shown by its place, and padding says nothing.
        Record::Trailer(_) | Record::Padding => return Vec::new(),
    };
    vec![one]
}

impl<F: Fs> Iterator for Dump<F> {
    type Item = Result<DumpItem, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let path = self.segments.pop_front()?;
            self.read(&path);
        }
        self.ready.pop_front()
    }
}
