//! # The bytes
//!
//! Layout and checksums of segments and records; `docs/WAL.md` has the tables.
//! Every number is little endian. Reading is total: bytes that mean nothing are
//! `None` or an error, never a panic.
//!
//! - Owns: the layout, and the encoder of one batch.
//! - Emits: bytes that are valid at one offset of one segment only.

use bytes::Bytes;
use raft_core::{
    ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex, NodeId, SnapshotMetadata,
    Term,
};

use crate::Identity;

/// The version that this crate writes, and the only one that there is.
pub const FORMAT_VERSION: u32 = 1;
/// The length of a segment's header, in bytes. Records begin behind it, so
/// that no sector holds both.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
const SEGMENT_HEADER_LEN: usize = 4096;
/// The length of a record's header, in bytes.
pub(crate) const RECORD_HEADER_BYTES: u64 = 48;
const RECORD_HEADER_LEN: usize = 48;
/// The length of a batch trailer with its header, in bytes.
pub(crate) const TRAILER_BYTES: u64 = RECORD_HEADER_BYTES + 24;
/// The length of the batch that seals a segment, in bytes.
pub(crate) const SEAL_BYTES: u64 = RECORD_HEADER_BYTES + 8 + TRAILER_BYTES;
/// The most that a batch takes that only records durability, in bytes.
pub(crate) const MARK_BYTES_MAX: u64 = 2 * SECTOR_BYTES + TRAILER_BYTES;
/// What a disk writes as a whole, in bytes.
const SECTOR_BYTES: u64 = 512;
const ENTRY_HEADER_BYTES: u64 = 16;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"RaftWAL\0";

pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The rest of some bytes that somebody reads front to back.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// What stands at the head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Drawn at random; every checksum in the segment depends on it.
    pub(crate) id: u128,
    /// Counts the segments of the log, from 1.
    pub(crate) sequence: u64,
    pub(crate) identity: Identity,
    /// The id and the last chain value of the segment before.
    pub(crate) previous_id: u128,
    pub(crate) previous_chain: u32,
    /// The oldest segment that the log needed when this one was made.
    pub(crate) oldest_sequence: u64,
    /// The number of the first batch.
    pub(crate) first_batch: u64,
    /// The last batch that was durable when the segment got its name. It may
    /// be one of this segment, if that was rewritten by a recovery.
    pub(crate) durable_batch: u64,
}

/// Why a segment's header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSegmentHeader {
    Unreadable,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        self.identity.encode(&mut out);
        out.extend_from_slice(&self.previous_id.to_le_bytes());
        out.extend_from_slice(&self.previous_chain.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.oldest_sequence.to_le_bytes());
        out.extend_from_slice(&self.first_batch.to_le_bytes());
        out.extend_from_slice(&self.durable_batch.to_le_bytes());
        out.resize(SEGMENT_HEADER_LEN - 4, 0);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadSegmentHeader> {
        let (covered, checksum) = bytes
            .get(..SEGMENT_HEADER_LEN)
            .and_then(|header| header.split_last_chunk::<4>())
            .ok_or(BadSegmentHeader::Unreadable)?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return Err(BadSegmentHeader::Unreadable);
        }
        let mut reader = Reader(covered);
        if reader.array() != Some(SEGMENT_MAGIC) {
            return Err(BadSegmentHeader::Unreadable);
        }
        let version = reader.u32().ok_or(BadSegmentHeader::Unreadable)?;
        if version != FORMAT_VERSION {
            return Err(BadSegmentHeader::Version(version));
        }
        Self::decode_fields(&mut reader).ok_or(BadSegmentHeader::Unreadable)
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u32()?;
        Some(Self {
            id: reader.u128()?,
            sequence: reader.u64()?,
            identity: Identity::decode(reader)?,
            previous_id: reader.u128()?,
            previous_chain: {
                let chain = reader.u32()?;
                reader.u32()?;
                chain
            },
            oldest_sequence: reader.u64()?,
            first_batch: reader.u64()?,
            durable_batch: reader.u64()?,
        })
    }

    /// Where the chain of the segment's records begins.
    pub(crate) fn chain(encoded: &[u8]) -> u32 {
        encoded
            .get(..SEGMENT_HEADER_LEN)
            .and_then(<[u8]>::last_chunk)
            .map_or(0, |checksum| u32::from_le_bytes(*checksum))
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entries,
    HardState,
    Snapshot,
    Compact,
    GroupState,
    Purge,
    Seal,
    Trailer,
    Padding,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Self::Entries => 1,
            Self::HardState => 2,
            Self::Snapshot => 3,
            Self::Compact => 4,
            Self::GroupState => 5,
            Self::Purge => 6,
            Self::Seal => 7,
            Self::Trailer => 8,
            Self::Padding => 9,
        }
    }

    const fn of_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Entries,
            2 => Self::HardState,
            3 => Self::Snapshot,
            4 => Self::Compact,
            5 => Self::GroupState,
            6 => Self::Purge,
            7 => Self::Seal,
            8 => Self::Trailer,
            9 => Self::Padding,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Without padding.
    pub(crate) payload_len: u32,
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) id: EntryId,
    pub(crate) count: u32,
    /// The checksum of the header before, or of the segment's header.
    pub(crate) previous_chain: u32,
    pub(crate) payload_checksum: u32,
    /// This header's own checksum, on which the next record depends.
    pub(crate) chain: u32,
}

fn padding(payload_len: usize) -> usize {
    payload_len.next_multiple_of(ALIGNMENT) - payload_len
}

/// The length of a record with this payload, in bytes.
fn record_bytes(payload_len: u64) -> u64 {
    RECORD_HEADER_BYTES.saturating_add(
        payload_len
            .checked_next_multiple_of(len_u64(ALIGNMENT))
            .unwrap_or(u64::MAX),
    )
}

/// A header's checksum. It covers where the header is, so that a record of
/// another segment or offset is none here.
fn header_checksum(segment_id: u128, offset: u64, covered: &[u8]) -> u32 {
    let salt = crc32c::crc32c(&segment_id.to_le_bytes());
    let salt = crc32c::crc32c_append(salt, &offset.to_le_bytes());
    crc32c::crc32c_append(salt, covered)
}

impl RecordHeader {
    /// Reads the header at the front of `bytes`, which are at `offset` of the
    /// segment. `None` if there is none that is valid there.
    pub(crate) fn decode(segment_id: u128, offset: u64, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let payload_len = reader.u32()?;
        // Zeros and most garbage end here, before the checksum.
        let kind = Kind::of_number(reader.u16()?)?;
        if reader.u16()? != 0 {
            return None;
        }
        let header = Self {
            payload_len,
            kind,
            group: reader.u64()?,
            id: EntryId::new(Term::new(reader.u64()?), LogIndex::new(reader.u64()?)),
            count: reader.u32()?,
            previous_chain: reader.u32()?,
            payload_checksum: reader.u32()?,
            chain: reader.u32()?,
        };
        let covered = bytes.get(..RECORD_HEADER_LEN - 4)?;
        (header_checksum(segment_id, offset, covered) == header.chain).then_some(header)
    }

    /// The length of the record with header and padding, in bytes.
    pub(crate) fn record_len(&self) -> usize {
        let len = usize::try_from(self.payload_len).unwrap_or(usize::MAX / 2);
        RECORD_HEADER_LEN + len + padding(len)
    }

    /// The payload of the record at the front of `bytes`, if it is undamaged.
    pub(crate) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let padded = bytes.get(RECORD_HEADER_LEN..self.record_len())?;
        if crc32c::crc32c(padded) != self.payload_checksum {
            return None;
        }
        padded.get(..usize::try_from(self.payload_len).ok()?)
    }
}

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

fn decode_vote_and_commit(reader: &mut Reader<'_>) -> Option<HardState> {
    Some(HardState {
        term: Term::ZERO,
        vote: match reader.u64()? {
            0 => None,
            vote => Some(NodeId::new(vote)?),
        },
        commit: LogIndex::new(reader.u64()?),
    })
}

fn decode_snapshot(reader: &mut Reader<'_>) -> Option<SnapshotMetadata> {
    Some(SnapshotMetadata {
        term: Term::new(reader.u64()?),
        index: LogIndex::new(reader.u64()?),
        conf_state: decode_conf_state(reader)?,
    })
}

pub(crate) fn decode_conf_state(reader: &mut Reader<'_>) -> Option<ConfState> {
    fn set(reader: &mut Reader<'_>) -> Option<Vec<NodeId>> {
        let count = usize::try_from(reader.u32()?).ok()?;
        let ids = reader.take(count.checked_mul(8)?)?;
        ids.chunks_exact(8)
            .map(|id| NodeId::new(Reader(id).u64()?))
            .collect()
    }
    Some(ConfState {
        voters: set(reader)?,
        learners: set(reader)?,
        voters_outgoing: set(reader)?,
        learners_next: set(reader)?,
        auto_leave: match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
    })
}

fn decode_entries(header: &RecordHeader, payload: &[u8]) -> Option<Entries> {
    // One allocation for the record; its entries share it.
    let shared = Bytes::copy_from_slice(payload);
    let mut reader = Reader(&shared);
    let mut batch = Vec::with_capacity(usize::try_from(header.count).ok()?.min(payload.len() / 16));
    let mut index = header.id.index;
    for _ in 0..header.count {
        let term = Term::new(reader.u64()?);
        let len = usize::try_from(reader.u32()?).ok()?;
        let kind = reader.u16()?;
        if reader.u16()? != 0 {
            return None;
        }
        let data = shared.slice_ref(reader.take(len)?);
        batch.push(match kind {
            0 => Entry::normal(term, index, data),
            1 => Entry::new(term, index, EntryType::ConfChange, data),
            2 => Entry::new(term, index, EntryType::ConfChangeV2, data),
            3 if data.is_empty() => Entry::refused_conf_change(term, index),
            _ => return None,
        });
        index = index.next();
    }
    reader.end()?;
    let last = batch.last()?;
    (last.term() == header.id.term)
        .then(|| Entries::from_batch(batch))
        .flatten()
}

fn entry_kind(entry: &Entry) -> u16 {
    match entry.entry_type() {
        EntryType::Normal if entry.type_is_explicit() && entry.data().is_empty() => 3,
        EntryType::Normal => 0,
        EntryType::ConfChange => 1,
        EntryType::ConfChangeV2 => 2,
    }
}

fn put_vote_and_commit(out: &mut Vec<u8>, hard_state: HardState) {
    out.extend_from_slice(&hard_state.vote.map_or(0, NodeId::get).to_le_bytes());
    out.extend_from_slice(&hard_state.commit.get().to_le_bytes());
}

fn put_snapshot(out: &mut Vec<u8>, snapshot: &SnapshotMetadata) {
    out.extend_from_slice(&snapshot.term.get().to_le_bytes());
    out.extend_from_slice(&snapshot.index.get().to_le_bytes());
    put_conf_state(out, &snapshot.conf_state);
}

pub(crate) fn put_conf_state(out: &mut Vec<u8>, conf_state: &ConfState) {
    for set in [
        &conf_state.voters,
        &conf_state.learners,
        &conf_state.voters_outgoing,
        &conf_state.learners_next,
    ] {
        out.extend_from_slice(&u32::try_from(set.len()).unwrap_or(u32::MAX).to_le_bytes());
        for id in set {
            out.extend_from_slice(&id.get().to_le_bytes());
        }
    }
    out.push(u8::from(conf_state.auto_leave));
}

fn conf_state_bytes(conf_state: &ConfState) -> u64 {
    let members = conf_state.voters.len()
        + conf_state.learners.len()
        + conf_state.voters_outgoing.len()
        + conf_state.learners_next.len();
    len_u64(members) * 8 + 17
}

/// The most that records take, before they are encoded, in bytes.
pub(crate) mod size {
    use super::{
        ConfState, ENTRY_HEADER_BYTES, Entries, SnapshotMetadata, conf_state_bytes, record_bytes,
    };

    pub(crate) fn entries(entries: &Entries) -> u64 {
        if entries.is_empty() {
            return 0;
        }
        record_bytes(
            entries
                .payload_bytes()
                .saturating_add(entries.count().saturating_mul(ENTRY_HEADER_BYTES)),
        )
    }

    pub(crate) fn hard_state() -> u64 {
        record_bytes(16)
    }

    pub(crate) fn snapshot(conf_state: &ConfState) -> u64 {
        record_bytes(conf_state_bytes(conf_state))
    }

    pub(crate) fn compact(conf_state: &ConfState) -> u64 {
        record_bytes(16 + conf_state_bytes(conf_state))
    }

    pub(crate) fn group_state(snapshot: Option<&SnapshotMetadata>) -> u64 {
        let snapshot = snapshot.map_or(0, |snapshot| 16 + conf_state_bytes(&snapshot.conf_state));
        record_bytes(40 + snapshot)
    }
}

/// Encodes batches for one place of one segment, into a buffer that is used
/// again.
#[derive(Debug)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    segment_id: u128,
    /// Where in the segment `bytes` begins.
    start: u64,
    chain: u32,
    records: u32,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            segment_id: 0,
            start: 0,
            chain: 0,
            records: 0,
        }
    }

    /// Begins a batch at `start` of a segment, behind a record with `chain`.
    pub(crate) fn begin(&mut self, segment_id: u128, start: u64, chain: u32) {
        self.bytes.clear();
        self.segment_id = segment_id;
        self.start = start;
        self.chain = chain;
        self.records = 0;
    }

    /// The encoded batches, and the chain behind them.
    pub(crate) fn encoded(&self) -> (&[u8], u32) {
        (&self.bytes, self.chain)
    }

    /// Gives memory back after an unusually large batch.
    pub(crate) fn shrink_to(&mut self, bytes_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes_max);
    }

    fn record(
        &mut self,
        kind: Kind,
        group: u64,
        id: EntryId,
        count: u32,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let at = self.bytes.len();
        self.bytes.resize(at + RECORD_HEADER_LEN, 0);
        payload(&mut self.bytes);
        let payload_at = at + RECORD_HEADER_LEN;
        let payload_len = self.bytes.len() - payload_at;
        self.bytes
            .resize(self.bytes.len() + padding(payload_len), 0);
        let payload_checksum = crc32c::crc32c(&self.bytes[payload_at..]);

        // The engine refuses writes of more than `WRITE_BYTES_MAX`, which fits.
        let payload_len = u32::try_from(payload_len).unwrap_or(u32::MAX);
        let mut header = [0; RECORD_HEADER_LEN];
        header[0..4].copy_from_slice(&payload_len.to_le_bytes());
        header[4..6].copy_from_slice(&kind.number().to_le_bytes());
        header[8..16].copy_from_slice(&group.to_le_bytes());
        header[16..24].copy_from_slice(&id.term.get().to_le_bytes());
        header[24..32].copy_from_slice(&id.index.get().to_le_bytes());
        header[32..36].copy_from_slice(&count.to_le_bytes());
        header[36..40].copy_from_slice(&self.chain.to_le_bytes());
        header[40..44].copy_from_slice(&payload_checksum.to_le_bytes());
        let offset = self.start + len_u64(at);
        self.chain = header_checksum(self.segment_id, offset, &header[..RECORD_HEADER_LEN - 4]);
        header[44..48].copy_from_slice(&self.chain.to_le_bytes());
        self.bytes[at..payload_at].copy_from_slice(&header);
        self.records += 1;
    }

    pub(crate) fn entries(&mut self, group: u64, entries: &Entries) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let id = EntryId::new(last.term(), first.index());
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.record(Kind::Entries, group, id, count, |out| {
            for entry in entries.iter() {
                let len = u32::try_from(entry.data().len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&entry.term().get().to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&entry_kind(entry).to_le_bytes());
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(entry.data());
            }
        });
    }

    pub(crate) fn hard_state(&mut self, group: u64, hard_state: HardState) {
        let id = EntryId::new(hard_state.term, LogIndex::ZERO);
        self.record(Kind::HardState, group, id, 0, |out| {
            put_vote_and_commit(out, hard_state);
        });
    }

    pub(crate) fn snapshot(&mut self, group: u64, snapshot: &SnapshotMetadata) {
        self.record(Kind::Snapshot, group, snapshot.id(), 0, |out| {
            put_conf_state(out, &snapshot.conf_state);
        });
    }

    pub(crate) fn compact(&mut self, group: u64, up_to: EntryId, snapshot: &SnapshotMetadata) {
        self.record(Kind::Compact, group, up_to, 0, |out| {
            put_snapshot(out, snapshot);
        });
    }

    pub(crate) fn group_state(&mut self, group: u64, state: &GroupState) {
        self.record(Kind::GroupState, group, state.compacted, 0, |out| {
            out.extend_from_slice(&state.hard_state.term.get().to_le_bytes());
            put_vote_and_commit(out, state.hard_state);
            out.extend_from_slice(&state.next.get().to_le_bytes());
            out.extend_from_slice(&u64::from(state.snapshot.is_some()).to_le_bytes());
            if let Some(snapshot) = &state.snapshot {
                put_snapshot(out, snapshot);
            }
        });
    }

    pub(crate) fn purge(&mut self, oldest_sequence: u64) {
        self.record(Kind::Purge, 0, EntryId::default(), 0, |out| {
            out.extend_from_slice(&oldest_sequence.to_le_bytes());
        });
    }

    pub(crate) fn seal(&mut self, next_sequence: u64) {
        self.record(Kind::Seal, 0, EntryId::default(), 0, |out| {
            out.extend_from_slice(&next_sequence.to_le_bytes());
        });
    }

    /// Fills the sector, so that what follows is not lost together with what
    /// was before.
    pub(crate) fn pad_to_sector(&mut self) {
        let at = self.start + len_u64(self.bytes.len());
        let mut target = at.next_multiple_of(SECTOR_BYTES);
        if target == at {
            return;
        }
        if target - at < RECORD_HEADER_BYTES {
            target += SECTOR_BYTES;
        }
        let fill = usize::try_from(target - at - RECORD_HEADER_BYTES).unwrap_or(0);
        self.record(Kind::Padding, 0, EntryId::default(), 0, |out| {
            out.resize(out.len() + fill, 0);
        });
    }

    /// Writes a record as it was read, for another place.
    pub(crate) fn copy(&mut self, header: &RecordHeader, payload: &[u8]) {
        self.record(header.kind, header.group, header.id, header.count, |out| {
            out.extend_from_slice(payload);
        });
    }

    /// Ends a batch that began with `begin`, or behind the batch before.
    pub(crate) fn trailer(&mut self, batch: u64, durable_batch: u64, batch_start: usize) {
        let batch_bytes = len_u64(self.bytes.len() - batch_start) + TRAILER_BYTES;
        let batch_bytes = u32::try_from(batch_bytes).unwrap_or(u32::MAX);
        let records = self.records + 1;
        self.record(Kind::Trailer, 0, EntryId::default(), 0, |out| {
            out.extend_from_slice(&batch.to_le_bytes());
            out.extend_from_slice(&durable_batch.to_le_bytes());
            out.extend_from_slice(&batch_bytes.to_le_bytes());
            out.extend_from_slice(&records.to_le_bytes());
        });
        self.records = 0;
    }

    /// Where the next batch in the buffer will begin.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_valid_in_its_segment_and_at_its_place_only() {
        let mut encoder = Encoder::new();
        encoder.begin(7, 4096, 0);
        encoder.purge(1);
        let (bytes, chain) = encoder.encoded();
        let header = RecordHeader::decode(7, 4096, bytes).expect("a record");
        assert_eq!(header.chain, chain);
        assert_eq!(RecordHeader::decode(8, 4096, bytes), None);
        assert_eq!(RecordHeader::decode(7, 4104, bytes), None);
    }

    #[test]
    fn a_seal_is_as_long_as_its_reserve() {
        let mut encoder = Encoder::new();
        encoder.begin(7, 4096, 0);
        encoder.seal(2);
        encoder.trailer(1, 0, 0);
        assert_eq!(len_u64(encoder.encoded().0.len()), SEAL_BYTES);
    }

    #[test]
    fn a_mark_is_never_longer_than_its_reserve_and_begins_a_sector() {
        for start in (4096..8192).step_by(8) {
            let mut encoder = Encoder::new();
            encoder.begin(7, start, 0);
            encoder.pad_to_sector();
            assert_eq!((start + len_u64(encoder.position())) % SECTOR_BYTES, 0);
            encoder.trailer(1, 0, 0);
            assert!(len_u64(encoder.position()) <= MARK_BYTES_MAX);
        }
    }
}
