//! # Snapshots
//!
//! The state machine's data up to an index, with what the log needs to go on
//! from there (Raft §7).

use bytes::Bytes;

use super::{ConfState, EntryId, LogIndex, Term};

/// Where a snapshot stands in the log, and the configuration there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The last entry that the snapshot covers.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The configuration after that entry was applied.
    pub conf_state: ConfState,
}

impl SnapshotMetadata {
    /// Term and index of the last entry that the snapshot covers.
    pub const fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }
}

/// A state machine's data and where it stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the data stands.
    pub metadata: SnapshotMetadata,
    /// The data, opaque to the protocol. A driver that moves large snapshots
    /// on their own channel leaves it empty here.
    pub data: Bytes,
}

impl Snapshot {
    /// Whether this is the snapshot of nothing: index zero.
    pub fn is_empty(&self) -> bool {
        self.metadata.index == LogIndex::ZERO
    }
}
