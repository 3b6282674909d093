//! # Jobs of the log
//!
//! What the log is asked to do: a write, or a compaction, and which of them may
//! be refused when the disk is full.
//!
//! - Owns: nothing.

use raft_core::{EntryId, SnapshotMetadata};

use crate::format::size;
use crate::write::{Sync, Write};

/// Something to write.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Write(Write),
    Compact {
        group: u64,
        up_to: EntryId,
        snapshot: SnapshotMetadata,
    },
}

/// Whether a job may be refused to keep room for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Entries and snapshots: they can wait for room.
    Data,
    /// Votes and compactions: they may use the reserve.
    State,
}

impl Growth {
    /// How many spares must be left for what is more important.
    pub(super) const fn spares_left(self) -> usize {
        match self {
            Self::Data => 2,
            Self::State => 1,
        }
    }
}

impl Job {
    /// The most that this takes in the log, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Write(write) => write.log_bytes(),
            Self::Compact { snapshot, .. } => size::compact(&snapshot.conf_state),
        }
    }

    pub(super) fn growth(&self) -> Growth {
        match self {
            Self::Write(write) if !write.entries.is_empty() || write.snapshot.is_some() => {
                Growth::Data
            }
            Self::Write(_) | Self::Compact { .. } => Growth::State,
        }
    }

    pub(super) fn sync(&self) -> Sync {
        match self {
            Self::Write(write) => write.sync,
            Self::Compact { .. } => Sync::Required,
        }
    }

    pub(super) fn group(&self) -> u64 {
        match self {
            Self::Write(write) => write.group,
            Self::Compact { group, .. } => *group,
        }
    }
}
