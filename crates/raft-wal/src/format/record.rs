//! # Records
//!
//! What a batch consists of, and what each record says.
//!
//! - Owns: which records there are, and what they mean.

use raft_core::{Entries, EntryId, HardState, LogIndex, SnapshotMetadata, Term};

use super::Reader;
use super::payload::{decode_conf_state, decode_entries, decode_snapshot, decode_vote_and_commit};
use super::record_header::{Kind, RecordHeader};

/// What a batch ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Counts the batches of the log, from 1.
    pub(crate) batch: u64,
    /// The last batch that was durable when this one was written; 0 if none.
    pub(crate) durable_batch: u64,
    /// The length of the batch with this trailer, in bytes.
    pub(crate) batch_bytes: u32,
    /// How many records the batch has, with this trailer.
    pub(crate) records: u32,
}

/// Where a group stands, at the head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) hard_state: HardState,
    pub(crate) compacted: EntryId,
    pub(crate) next: LogIndex,
    pub(crate) snapshot: Option<SnapshotMetadata>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Entries(Entries),
    HardState(HardState),
    /// Replaces the whole log of the group.
    Snapshot(SnapshotMetadata),
    /// Drops the entries up to and with this one.
    Compact(EntryId, SnapshotMetadata),
    GroupState(GroupState),
    /// Segments before this one are not needed.
    Purge(u64),
    /// The segment ends; the next one has this number.
    Seal(u64),
    Trailer(Trailer),
    /// Nothing: moves what follows to another sector.
    Padding,
}

impl Record {
    /// Reads a payload whose checksum was good. `None` if it means nothing.
    pub(crate) fn decode(header: &RecordHeader, payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let record = match header.kind {
            Kind::Entries => return decode_entries(header, payload).map(Self::Entries),
            Kind::Padding => return Some(Self::Padding),
            Kind::HardState => Self::HardState(HardState {
                term: header.id.term,
                ..decode_vote_and_commit(&mut reader)?
            }),
            Kind::Snapshot => Self::Snapshot(SnapshotMetadata {
                index: header.id.index,
                term: header.id.term,
                conf_state: decode_conf_state(&mut reader)?,
            }),
            Kind::Compact => Self::Compact(header.id, decode_snapshot(&mut reader)?),
            Kind::GroupState => Self::GroupState(GroupState {
                compacted: header.id,
                hard_state: HardState {
                    term: Term::new(reader.u64()?),
                    ..decode_vote_and_commit(&mut reader)?
                },
                next: LogIndex::new(reader.u64()?),
                snapshot: match reader.u64()? {
                    0 => None,
                    1 => Some(decode_snapshot(&mut reader)?),
                    _ => return None,
                },
            }),
            Kind::Purge => Self::Purge(reader.u64()?),
            Kind::Seal => Self::Seal(reader.u64()?),
            Kind::Trailer => Self::Trailer(Trailer {
                batch: reader.u64()?,
                durable_batch: reader.u64()?,
                batch_bytes: reader.u32()?,
                records: reader.u32()?,
            }),
        };
        reader.end().map(|()| record)
    }
}
