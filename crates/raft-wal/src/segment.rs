//! # Reading a segment
//!
//! Goes from batch to batch and believes only what every checksum proves. What
//! an unreadable place means, a torn tail or lost data, is decided here too.
//!
//! - Reads: the bytes of one segment.
//! - Emits: whole batches, then the reason why there is no further one.

use std::path::{Path, PathBuf};

use crate::error::{Corruption, Damage, OpenError, UnreadableEntries};
use crate::format::{
    ALIGNMENT, BadSegmentHeader, FORMAT_VERSION, Kind, Record, RecordHeader, SEGMENT_HEADER_BYTES,
    SegmentHeader, Trailer, len_u64,
};

/// A segment in memory.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    bytes: Vec<u8>,
}

/// A batch whose every checksum was good.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Placed>,
    pub(crate) trailer: Trailer,
    pub(crate) trailer_offset: usize,
}

/// A record and where it is.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) offset: usize,
    pub(crate) header: RecordHeader,
    pub(crate) record: Record,
}

/// Why there is no further batch.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) offset: usize,
    pub(crate) what: Damage,
    pub(crate) lost: Option<UnreadableEntries>,
}

impl Stop {
    pub(crate) fn new(offset: usize, what: Damage) -> Self {
        Self {
            offset,
            what,
            lost: None,
        }
    }

    pub(crate) fn into_corruption(self, file: &Path) -> Corruption {
        Corruption {
            file: file.to_owned(),
            offset: len_u64(self.offset),
            what: self.what,
            lost: self.lost,
        }
    }
}

impl Segment {
    pub(crate) fn parse(path: PathBuf, bytes: Vec<u8>) -> Result<Self, OpenError> {
        match SegmentHeader::decode(&bytes) {
            Ok(header) => Ok(Self {
                path,
                header,
                bytes,
            }),
            Err(BadSegmentHeader::Unreadable) => Err(Stop::new(0, Damage::SegmentHeader)
                .into_corruption(&path)
                .into()),
            Err(BadSegmentHeader::Version(found)) => Err(OpenError::UnsupportedVersion {
                file: path,
                found,
                supported: FORMAT_VERSION,
            }),
        }
    }

    pub(crate) fn batches(&self) -> Batches<'_> {
        Batches {
            segment: self,
            position: usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(usize::MAX),
            chain: SegmentHeader::chain(&self.bytes),
            next_batch: self.header.first_batch,
        }
    }

    pub(crate) fn payload(&self, placed: &Placed) -> &[u8] {
        self.bytes
            .get(placed.offset..)
            .and_then(|bytes| placed.header.payload(bytes))
            .unwrap_or(&[])
    }

    /// Whether something behind `from` was written when batch `batch` was known
    /// to be durable. Then its absence is damage, and not a torn write.
    fn proves_durable(&self, batch: u64, from: usize) -> bool {
        if self.header.durable_batch >= batch {
            return true;
        }
        (from..self.bytes.len()).step_by(ALIGNMENT).any(|offset| {
            let bytes = self.bytes.get(offset..).unwrap_or(&[]);
            RecordHeader::decode(self.header.id, len_u64(offset), bytes)
                .filter(|header| header.kind == Kind::Trailer)
                .and_then(|header| Record::decode(&header, header.payload(bytes)?))
                .is_some_and(|record| {
                    matches!(record, Record::Trailer(trailer) if trailer.durable_batch >= batch)
                })
        })
    }
}

/// The batches of a segment, front to back.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    segment: &'a Segment,
    /// Where the next batch begins.
    position: usize,
    chain: u32,
    next_batch: u64,
}

impl Batches<'_> {
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next_batch
    }

    /// The next batch, or why there is none. Asking again gives the same.
    pub(crate) fn next(&mut self) -> Result<Batch, Stop> {
        let mut position = self.position;
        let mut chain = self.chain;
        let mut records = Vec::new();
        loop {
            let bytes = self.segment.bytes.get(position..).unwrap_or(&[]);
            let Some(header) =
                RecordHeader::decode(self.segment.header.id, len_u64(position), bytes)
            else {
                return Err(Stop::new(position, Damage::RecordHeader));
            };
            if header.previous_chain != chain {
                return Err(Stop::new(position, Damage::RecordLink));
            }
            let Some(payload) = header.payload(bytes) else {
                return Err(Stop {
                    lost: (header.kind == Kind::Entries).then_some(UnreadableEntries {
                        group: header.group,
                        first: header.id.index,
                        count: header.count,
                        last_term: header.id.term,
                    }),
                    ..Stop::new(position, Damage::RecordData)
                });
            };
            let Some(record) = Record::decode(&header, payload) else {
                return Err(Stop::new(position, Damage::Meaningless));
            };
            let offset = position;
            position += header.record_len();
            chain = header.chain;
            if let Record::Trailer(trailer) = record {
                let expected = Trailer {
                    batch: self.next_batch,
                    durable_batch: trailer.durable_batch.min(self.next_batch.saturating_sub(1)),
                    batch_bytes: u32::try_from(position - self.position).unwrap_or(u32::MAX),
                    records: u32::try_from(records.len() + 1).unwrap_or(u32::MAX),
                };
                if trailer != expected {
                    return Err(Stop::new(offset, Damage::RecordLink));
                }
                self.position = position;
                self.chain = chain;
                self.next_batch = self.next_batch.saturating_add(1);
                return Ok(Batch {
                    records,
                    trailer,
                    trailer_offset: offset,
                });
            }
            records.push(Placed {
                offset,
                header,
                record,
            });
        }
    }

    /// Judges the end of the last segment. A batch that cannot be read there
    /// was never acknowledged, unless something else proves that it was
    /// durable: a later batch, or a header.
    pub(crate) fn judge_tail(&self, stop: Stop, durable_elsewhere: u64) -> Result<(), Corruption> {
        if durable_elsewhere >= self.next_batch
            || self.segment.proves_durable(self.next_batch, self.position)
        {
            return Err(stop.into_corruption(&self.segment.path));
        }
        Ok(())
    }
}
