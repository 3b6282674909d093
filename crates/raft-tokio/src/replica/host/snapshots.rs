//! # Snapshots
//!
//! When one of the own state machine is due, and what it lets the log forget:
//! the state machine writes it into the log store, and only then the log is cut.
//! And what becomes of those that arrive from the leader.
//!
//! - Owns: which snapshot is stored, which is under way, and which arrived and
//!   were not taken by the protocol.
//! - Emits: work for the state machine and for the log store; the fates of
//!   snapshots that arrived.
//! - Source: Raft §7.

use raft_core::{Body, EntryId, LogIndex, Message, NodeId, Snapshot, SnapshotMetadata, Storage};

use super::{Node, ReplicaHost};
use crate::box_error::BoxError;
use crate::log_store::{LogStoreError, WriteDone};
use crate::replica::apply::ApplyWork;
use crate::replica::request::Event;
use crate::snapshot::{Fate, SnapshotExchange};

/// After which part of `snapshot_entries` a snapshot that failed is tried again.
const RETRY_FRACTION: u64 = 10;

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
    exchange: SnapshotExchange,
    /// Those that a message of this turn spoke of and no write has taken.
    offered: Vec<EntryId>,
    /// The one that the state machine has not read yet.
    restoring: Option<EntryId>,
    /// The stored one cannot be read, or the one that the log refers to.
    is_damaged: bool,
    /// The next one is not begun by itself before so much is applied.
    not_before: LogIndex,
}

impl Snapshots {
    /// With the stored one that the replica began with; `damaged` is a newer one
    /// that the log refers to and that cannot be read. Then another one is taken
    /// as soon as it can be newer than that.
    pub(super) fn new(
        stored: LogIndex,
        damaged: Option<LogIndex>,
        exchange: SnapshotExchange,
    ) -> Self {
        Self {
            stored,
            newest: damaged.unwrap_or(stored),
            progress: Progress::Idle,
            exchange,
            offered: Vec::new(),
            restoring: None,
            is_damaged: damaged.is_some(),
            not_before: damaged.map_or(LogIndex::ZERO, LogIndex::next),
        }
    }

    /// Where the stored snapshot stands.
    pub(super) fn stored(&self) -> LogIndex {
        self.stored
    }

    /// Whether the node may have this message: a snapshot has to have its data
    /// in the log store, or the log would refer to what is not there.
    pub(super) fn admits(&mut self, message: &Message) -> bool {
        let Body::Snapshot(snapshot) = &message.body else {
            return true;
        };
        let id = snapshot.metadata.id();
        let has_arrived = self.exchange.has_arrived(id);
        if has_arrived {
            self.offered.push(id);
        }
        has_arrived
    }

    /// One of the leader's is on its way into the log.
    pub(super) fn on_taken(&mut self, id: EntryId) {
        self.newest = id.index;
        if let Some(at) = self.offered.iter().position(|offered| *offered == id) {
            self.offered.swap_remove(at);
        }
    }

    /// What was offered and not taken by the end of a turn is not needed: the
    /// node hands out what it takes within the same turn.
    pub(super) fn settle_refused(&mut self) {
        for id in self.offered.drain(..) {
            self.exchange.settle(id, Fate::Refused);
        }
    }

    /// One of the leader's has replaced the log. Its data may not go before the
    /// state machine has it, so until then no other one is taken in.
    pub(super) fn on_installed(&mut self, id: EntryId) {
        self.stored = id.index;
        self.is_damaged = false;
        self.restoring = Some(id);
    }

    /// The state machine has everything up to here.
    pub(super) fn on_applied(&mut self, index: LogIndex) {
        if let Some(id) = self.restoring.take_if(|id| id.index <= index) {
            self.exchange.settle(id, Fate::Installed);
        }
    }
}

impl ReplicaHost {
    pub(super) fn snapshot_if_due(&mut self) {
        let every = self.config.snapshot_entries;
        let is_due = every > 0 && self.applied.distance_from(self.snapshots.stored) >= every;
        let is_wanted = is_due || self.snapshots.is_damaged;
        if is_wanted && self.applied >= self.snapshots.not_before {
            self.begin_snapshot();
        }
    }

    pub(super) fn begin_snapshot(&mut self) {
        let is_idle = matches!(self.snapshots.progress, Progress::Idle);
        // What was handed out is applied before the snapshot is taken, whether or
        // not the report of it has come: whoever has a reply gets it covered.
        if is_idle && self.handed_out > self.snapshots.stored {
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
                // A full disk would be filled with attempts otherwise.
                let pause = (self.config.snapshot_entries / RETRY_FRACTION).max(1);
                self.snapshots.not_before = LogIndex::new(self.applied.get().saturating_add(pause));
                tracing::error!(node = %node.id(), %error,
                    "the state machine could not build a snapshot; the log keeps growing");
            }
        }
    }

    /// The stored snapshot cannot be sent to anybody: another one takes its
    /// place, at once or with the next entry that is applied.
    pub(super) fn on_snapshot_damaged(&mut self, node: &Node, id: EntryId) {
        tracing::error!(node = %node.id(), index = %id.index,
            "the stored snapshot is damaged; another one takes its place. Look at the disk");
        if id.index == self.snapshots.stored {
            self.snapshots.is_damaged = true;
            self.begin_snapshot();
        }
    }

    /// How far the log goes with a snapshot at `index`: a part of it stays, so
    /// that followers that are a little late need no snapshot.
    fn compact_to(&mut self, node: &Node, index: LogIndex) -> EntryId {
        let storage = node.storage();
        let start = storage.first_index().prev();
        let keep = self.config.snapshot_keep_entries;
        let wanted = LogIndex::new(index.get().saturating_sub(keep)).max(start);
        let cut = self.hold_back(node, wanted);
        let term = storage.term(cut).unwrap_or_default();
        EntryId::new(term, cut)
    }

    /// Whether a snapshot may be sent. If not, one that may is there by the next
    /// attempt, or is on its way.
    pub(super) fn lets_leave(
        &mut self,
        node: &Node,
        to: NodeId,
        snapshot: &SnapshotMetadata,
    ) -> bool {
        // From before its receiver joined: it would not take it, since it is not in
        // the configuration there.
        if !snapshot.conf_state.contains(to) {
            self.begin_snapshot();
            return false;
        }
        let newer = self.overtaken_by(node, snapshot.index);
        // The log stays behind the one that it will get.
        let index = newer.unwrap_or(snapshot.index);
        self.holds.on_sent(to, index, self.now());
        newer.is_none()
    }

    /// The snapshot that is needed instead, if the log no longer goes on right behind
    /// `snapshot`, or is about to be cut there: whoever got that would need the newer
    /// one next.
    fn overtaken_by(&self, node: &Node, snapshot: LogIndex) -> Option<LogIndex> {
        match &self.snapshots.progress {
            Progress::Storing(pending) if pending.compact_to.index > snapshot => {
                Some(pending.snapshot.metadata.index)
            }
            _ if node.storage().first_index() > snapshot.next() => Some(self.snapshots.stored),
            _ => None,
        }
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
            self.snapshots.is_damaged = false;
            // Shorter already is as good.
            let _ = storage.compact(compact_to.index);
        }
        // Much may have been applied meanwhile.
        self.snapshot_if_due();
    }
}
