//! # Reading back
//!
//! Entries that were written, read again while the log goes on being written.
//! The writer says where they are; everything that is read there is checked as
//! in a recovery. A place may have gone meanwhile: then its file is missing, or
//! is another segment by now, which every checksum notices.
//!
//! - Owns: the thread that reads.
//! - Reads: segments, through handles of its own.
//! - Emits: one call of `done` per read.
//! - Source: `docs/WAL.md`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use raft_core::{Entries, Entry, EntrySequence, LogIndex};

use crate::error::{Attempt, Damage, Failure, Operation, ReadError, WalError};
use crate::folder::segment_name;
use crate::format::{Kind, Record, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, len_u64};
use crate::fs::{File, Fs};
use crate::group::Span;
use crate::segment::Stop;

type ReadDone = Box<dyn FnOnce(Result<Entries, ReadError>) + Send>;

/// What somebody wants to read.
pub(crate) struct ReadJob {
    pub(crate) group: u64,
    pub(crate) range: Range<LogIndex>,
    /// Of encoded entries; one comes in any case.
    pub(crate) bytes_max: u64,
    pub(crate) done: ReadDone,
    /// Where it was looked for in vain, and what was found there.
    pub(crate) tried: Option<(Vec<Span>, ReadError)>,
}

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadJob")
            .field("group", &self.group)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// A read whose entries were found.
#[derive(Debug)]
pub(crate) struct Located {
    job: ReadJob,
    spans: Vec<Span>,
}

impl ReadJob {
    /// Takes the writer's answer. Where the entries still are where they could
    /// not be read, they cannot be read at all.
    pub(crate) fn located(self, found: Result<Vec<Span>, ReadError>) -> Option<Located> {
        match (found, self.tried) {
            (Err(error), _) => (self.done)(Err(error)),
            (Ok(spans), Some((tried, error))) if spans == tried => (self.done)(Err(error)),
            (Ok(spans), _) => {
                return Some(Located {
                    job: Self {
                        tried: None,
                        ..self
                    },
                    spans,
                });
            }
        }
        None
    }
}

impl Located {
    /// Nobody will read it.
    pub(crate) fn refuse(self, error: WalError) {
        (self.job.done)(Err(error.into()));
    }
}

/// Reads whatever comes until nobody can send any more. What cannot be read goes
/// to `again`: the writer knows whether it has gone.
pub(crate) fn read_all<F: Fs>(
    fs: &F,
    dir: &Path,
    work: &Receiver<Located>,
    again: impl Fn(ReadJob),
) {
    for Located { job, spans } in work {
        match read(fs, dir, &job, &spans) {
            Ok(entries) => (job.done)(Ok(entries)),
            Err(error) => again(ReadJob {
                tried: Some((spans, error)),
                ..job
            }),
        }
    }
}

pub(crate) fn read<F: Fs>(
    fs: &F,
    dir: &Path,
    job: &ReadJob,
    spans: &[Span],
) -> Result<Entries, ReadError> {
    let Range {
        start: low,
        end: high,
    } = job.range;
    let mut found = EntrySequence::starting_at(low);
    let mut bytes = 0_u64;
    let mut open: Option<OpenSegment<F::File>> = None;
    for span in spans {
        let is_open = |segment: &OpenSegment<F::File>| segment.sequence == span.place.sequence;
        let segment = match open.take().filter(is_open) {
            Some(segment) => segment,
            None => OpenSegment::open(fs, dir, span.place.sequence)?,
        };
        for entries in segment.entries(job.group, span)? {
            let entries = entries.between(low, high.min(span.next));
            bytes = bytes.saturating_add(entries.encoded_bytes());
            found.append(entries);
            if bytes >= job.bytes_max && !found.is_empty() {
                return Ok(found.limited_between(low, high, job.bytes_max));
            }
        }
        open = Some(segment);
    }
    Ok(found.limited_between(low, high, job.bytes_max))
}

/// A segment that is read.
struct OpenSegment<D> {
    path: PathBuf,
    file: D,
    id: u128,
    sequence: u64,
}

impl<D: File> OpenSegment<D> {
    fn open<F: Fs<File = D>>(fs: &F, dir: &Path, sequence: u64) -> Result<Self, ReadError> {
        let path = dir.join(segment_name(sequence));
        let file = fs
            .open_read_only(&path)
            .attempt(Operation::Open, &path)
            .map_err(io)?;
        let mut bytes = vec![0; usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)
            .attempt(Operation::Read, &path)
            .map_err(io)?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.sequence == sequence => Ok(Self {
                path,
                file,
                id: header.id,
                sequence,
            }),
            _ => Err(corrupt(Stop::new(0, Damage::SegmentHeader), &path)),
        }
    }

    /// The entries of the records of a span, which must follow one another.
    fn entries(&self, group: u64, span: &Span) -> Result<Vec<Entries>, ReadError> {
        let len = usize::try_from(span.place.end - span.place.start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, span.place.start)
            .attempt(Operation::Read, &self.path)
            .map_err(io)?;
        let base = usize::try_from(span.place.start).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut next: Option<LogIndex> = None;
        let mut chain: Option<u32> = None;
        let mut at = 0;
        while at < bytes.len() {
            let damaged = |what| corrupt(Stop::new(base + at, what), &self.path);
            let record = bytes.get(at..).unwrap_or(&[]);
            let header = RecordHeader::decode(self.id, len_u64(base + at), record)
                .ok_or_else(|| damaged(Damage::RecordHeader))?;
            if chain.is_some_and(|chain| chain != header.previous_chain) {
                return Err(damaged(Damage::RecordLink));
            }
            if header.kind == Kind::Entries && header.group == group {
                let payload = header
                    .payload(record)
                    .ok_or_else(|| damaged(Damage::RecordData))?;
                let Some(Record::Entries(entries)) = Record::decode(&header, payload) else {
                    return Err(damaged(Damage::Meaningless));
                };
                let first = entries.first().map_or(LogIndex::ZERO, Entry::index);
                // What a compaction has passed may stand before the first.
                if next.map_or(first > span.first, |next| first != next) {
                    return Err(damaged(Damage::Hole {
                        group,
                        expected: next.unwrap_or(span.first),
                        found: first,
                    }));
                }
                next = entries.last_id().map(|id| id.index.next());
                found.push(entries);
            }
            chain = Some(header.chain);
            at += header.record_len();
        }
        match next {
            Some(next) if next >= span.next => Ok(found),
            _ => Err(corrupt(
                Stop::new(
                    base,
                    Damage::Hole {
                        group,
                        expected: span.next,
                        found: next.unwrap_or(span.first),
                    },
                ),
                &self.path,
            )),
        }
    }
}

fn corrupt(stop: Stop, path: &Path) -> ReadError {
    ReadError::Corrupt(Box::new(stop.into_corruption(path)))
}

fn io(failure: Failure) -> ReadError {
    ReadError::Io(Arc::new(failure))
}
