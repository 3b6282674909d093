//! # The encoder of batches
//!
//! Owns the bytes of the batch that is being made, in a buffer that is used
//! again, and the chain of checksums through it.

use raft_core::{Entries, EntryId, HardState, LogIndex, SnapshotMetadata};

use super::payload::{entry_kind, put_conf_state, put_snapshot, put_vote_and_commit};
use super::record::GroupState;
use super::record_header::{Kind, RECORD_HEADER_LEN, RecordHeader, header_checksum, padding};
use super::{RECORD_HEADER_BYTES, SECTOR_BYTES, TRAILER_BYTES, len_u64};

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
