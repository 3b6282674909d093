//! # What records carry
//!
//! Entries, hard states, snapshots' metadata and configurations, to bytes and
//! back, and how long they will be.
//!
//! - Owns: the layout of payloads.

use bytes::Bytes;
use raft_core::{
    ConfState, Entries, Entry, EntryType, HardState, LogIndex, NodeId, SnapshotMetadata, Term,
};

use super::record_header::RecordHeader;
use super::{Reader, len_u64};

pub(super) const ENTRY_HEADER_BYTES: u64 = 16;

pub(super) fn decode_vote_and_commit(reader: &mut Reader<'_>) -> Option<HardState> {
    Some(HardState {
        term: Term::ZERO,
        vote: match reader.u64()? {
            0 => None,
            vote => Some(NodeId::new(vote)?),
        },
        commit: LogIndex::new(reader.u64()?),
    })
}

pub(super) fn decode_snapshot(reader: &mut Reader<'_>) -> Option<SnapshotMetadata> {
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

pub(super) fn decode_entries(header: &RecordHeader, payload: &[u8]) -> Option<Entries> {
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

pub(super) fn entry_kind(entry: &Entry) -> u16 {
    match entry.entry_type() {
        EntryType::Normal if entry.type_is_explicit() && entry.data().is_empty() => 3,
        EntryType::Normal => 0,
        EntryType::ConfChange => 1,
        EntryType::ConfChangeV2 => 2,
    }
}

pub(super) fn put_vote_and_commit(out: &mut Vec<u8>, hard_state: HardState) {
    out.extend_from_slice(&hard_state.vote.map_or(0, NodeId::get).to_le_bytes());
    out.extend_from_slice(&hard_state.commit.get().to_le_bytes());
}

pub(super) fn put_snapshot(out: &mut Vec<u8>, snapshot: &SnapshotMetadata) {
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

pub(super) fn conf_state_bytes(conf_state: &ConfState) -> u64 {
    let members = conf_state.voters.len()
        + conf_state.learners.len()
        + conf_state.voters_outgoing.len()
        + conf_state.learners_next.len();
    len_u64(members) * 8 + 17
}
