//! # The size of records
//!
//! The most that records take, before they are encoded, in bytes: room on the
//! disk is taken before a batch is made.
//!
//! - Owns: nothing.

use raft_core::{ConfState, Entries, SnapshotMetadata};

use super::payload::{ENTRY_HEADER_BYTES, conf_state_bytes};
use super::record_header::record_bytes;

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
