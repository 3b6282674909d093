//! # What a group writes

use raft_core::{Entries, HardState, SnapshotMetadata};

use crate::format::size;

/// What a group writes in one piece: after a crash all of it is there or
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The group. One log serves many.
    pub group: u64,
    /// Term, vote and commit index, if one of them changed.
    pub hard_state: Option<HardState>,
    /// Entries, which replace what the log has at and behind their first index.
    /// Those that are compacted already are passed over.
    pub entries: Entries,
    /// A snapshot that replaces the whole log of the group, before the entries.
    /// Its data must be durable already, in a
    /// [`SnapshotStore`](crate::SnapshotStore) or elsewhere.
    pub snapshot: Option<SnapshotMetadata>,
    /// When the write counts as done.
    pub sync: Sync,
}

impl Write {
    /// A write of nothing yet, for `group`.
    pub fn new(group: u64, sync: Sync) -> Self {
        Self {
            group,
            hard_state: None,
            entries: Entries::new(),
            snapshot: None,
            sync,
        }
    }

    /// The most that this takes in the log, in bytes. Limits count it.
    pub fn log_bytes(&self) -> u64 {
        let hard_state = self.hard_state.map_or(0, |_| size::hard_state());
        let snapshot = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| size::snapshot(&snapshot.conf_state));
        size::entries(&self.entries)
            .saturating_add(hard_state)
            .saturating_add(snapshot)
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When it is durable.
    Required,
    /// When the operating system has it. A later write that is durable makes
    /// this one durable as well.
    NotNeeded,
}
