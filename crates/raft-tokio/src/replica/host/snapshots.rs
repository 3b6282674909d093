//! # Snapshots of the own state machine
//!
//! When one is due, and what it lets the log forget. The state machine builds
//! it, the log store keeps it, and only then the log is cut.
//!
//! - Owns: which snapshot is stored, and which is under way.
//! - Emits: work for the state machine and for the log store.
//! - Source: Raft §7.

use raft_core::{EntryId, LogIndex, Snapshot, Storage};

use super::{Node, ReplicaHost};
use crate::log_store::{LogStoreError, WriteDone};
use crate::replica::apply::ApplyWork;
use crate::replica::request::Event;
use crate::state_machine::BoxError;

/// A snapshot that was handed to the log store. Once it is stored the view drops
/// the log up to `compact_to`.
#[derive(Debug)]
struct PendingCompaction {
    snapshot: Snapshot,
    compact_to: EntryId,
}

/// How far a snapshot of the own state machine has come.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    Idle,
    /// The state machine builds it.
    Building,
    /// The log store keeps it.
    Storing(PendingCompaction),
}

/// What there is of snapshots on this replica.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Where the stored one stands.
    stored: LogIndex,
    /// The newest that was handed to the log store, the leader's included.
    newest: LogIndex,
    progress: Progress,
}

impl Snapshots {
    pub(super) fn new(stored: LogIndex) -> Self {
        Self {
            stored,
            newest: stored,
            progress: Progress::Idle,
        }
    }

    /// Where the stored snapshot stands.
    pub(super) fn stored(&self) -> LogIndex {
        self.stored
    }

    /// One of the leader's is on its way to the log store.
    pub(super) fn on_received(&mut self, index: LogIndex) {
        self.newest = index;
    }

    /// One of the leader's has replaced the log.
    pub(super) fn on_installed(&mut self, index: LogIndex) {
        self.stored = index;
    }
}

impl ReplicaHost {
    pub(super) fn snapshot_if_due(&mut self) {
        let every = self.config.snapshot_entries;
        if every > 0 && self.applied.distance_from(self.snapshots.stored) >= every {
            self.begin_snapshot();
        }
    }

    pub(super) fn begin_snapshot(&mut self) {
        let is_idle = matches!(self.snapshots.progress, Progress::Idle);
        if is_idle && self.applied > self.snapshots.stored {
            self.snapshots.progress = Progress::Building;
            // A state machine that has failed has said so in another event.
            let _ = self.apply.send(ApplyWork::Snapshot);
        }
    }

    pub(super) fn on_snapshot_built(&mut self, node: &Node, built: Result<Snapshot, BoxError>) {
        match built {
            Ok(snapshot) if snapshot.metadata.index > self.snapshots.newest => {
                self.snapshots.newest = snapshot.metadata.index;
                let compact_to = self.compact_to(node, snapshot.metadata.index);
                self.snapshots.progress = Progress::Storing(PendingCompaction {
                    snapshot: snapshot.clone(),
                    compact_to,
                });
                let events = self.events.clone();
                let done = WriteDone::new(move |result| {
                    // A loop that is gone no longer waits.
                    let _ = events.send(Event::Compacted(result));
                });
                self.log.compact(snapshot, compact_to, done);
            }
            // The leader's snapshot was faster.
            Ok(_) => self.snapshots.progress = Progress::Idle,
            Err(error) => {
                self.snapshots.progress = Progress::Idle;
                tracing::error!(node = %node.id(), %error,
                    "the state machine could not build a snapshot; the log keeps growing");
            }
        }
    }

    /// How far the log goes with a snapshot at `index`: a part of it stays, so
    /// that followers that are a little late need no snapshot.
    fn compact_to(&self, node: &Node, index: LogIndex) -> EntryId {
        let storage = node.storage();
        let start = storage.first_index().prev();
        let keep = self.config.snapshot_keep_entries;
        let wanted = LogIndex::new(index.get().saturating_sub(keep)).max(start);
        let term = storage.term(wanted).unwrap_or_default();
        EntryId::new(term, wanted)
    }

    pub(super) fn on_compacted(&mut self, node: &mut Node, result: Result<(), LogStoreError>) {
        self.status_stale = true;
        let progress = std::mem::take(&mut self.snapshots.progress);
        if let Err(error) = result {
            self.on_store_failed(node, &error);
            return;
        }
        let Progress::Storing(PendingCompaction {
            snapshot,
            compact_to,
        }) = progress
        else {
            return;
        };
        let index = snapshot.metadata.index;
        let storage = node.storage_mut();
        let conf_state = snapshot.metadata.conf_state;
        if storage
            .create_snapshot(index, Some(conf_state), snapshot.data)
            .is_ok()
        {
            self.snapshots.stored = index;
            // Shorter already is as good.
            let _ = storage.compact(compact_to.index);
        }
        // Much may have been applied meanwhile.
        self.snapshot_if_due();
    }
}
