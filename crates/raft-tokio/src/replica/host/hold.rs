//! # What the log keeps for followers that get a snapshot
//!
//! Whoever gets a snapshot needs the entries right behind it next. Under load
//! the leader takes further snapshots while the first one travels, and if each of
//! them cut the log as usual, those entries would be gone when it arrives: the
//! follower would need another one, and so on without an end. So the log stays
//! until the follower is as far as anybody else needs it to be, within bounds in
//! time and bytes; whoever takes longer gets another snapshot.
//!
//! - Owns: who was sent which snapshot, and since when.
//! - Source: etcd `etcdserver` (`inflightSnapshots` pauses compaction, without a
//!   bound, and until the snapshot has arrived).

use raft_core::{LogIndex, NodeId, RoleKind, Storage};

use super::{Node, ReplicaHost};

/// A follower that was sent a snapshot, or will be, and is not back in the log.
#[derive(Clone, Copy, Debug)]
struct Hold {
    to: NodeId,
    snapshot: LogIndex,
    since_tick: u64,
}

/// Whom the log is kept for.
#[derive(Debug, Default)]
pub(super) struct Holds {
    holds: Vec<Hold>,
}

impl Holds {
    /// A snapshot leaves for a follower, perhaps once more, or is the next to leave.
    pub(super) fn on_sent(&mut self, to: NodeId, snapshot: LogIndex, now: u64) {
        let known = self.holds.iter().position(|hold| hold.to == to);
        match known.map(|place| &mut self.holds[place]) {
            Some(hold) if hold.snapshot == snapshot => {}
            Some(hold) => {
                hold.snapshot = snapshot;
                hold.since_tick = now;
            }
            None => self.holds.push(Hold {
                to,
                snapshot,
                since_tick: now,
            }),
        }
    }
}

impl ReplicaHost {
    /// How far the log may be cut, where it would be cut up to `wanted`.
    pub(super) fn hold_back(&mut self, node: &Node, wanted: LogIndex) -> LogIndex {
        if self.holds.holds.is_empty() {
            return wanted;
        }
        if node.role() != RoleKind::Leader {
            self.holds.holds.clear();
            return wanted;
        }
        let now = self.now();
        let ticks_max = self.config.ticks(self.config.snapshot_hold_timeout);
        let bytes_max = self.config.snapshot_hold_bytes_max;
        let progress = node.status().progress;
        let mut cut = wanted;
        self.holds.holds.retain(|hold| {
            let follower = progress.iter().find(|(id, _)| *id == hold.to);
            let Some(matched) = follower.map(|(_, progress)| progress.matched) else {
                // It is no member any more.
                return false;
            };
            if matched >= wanted {
                return false;
            }
            let needed = matched.max(hold.snapshot);
            let ticks = now.saturating_sub(hold.since_tick);
            let bytes = node.storage().bytes_behind(needed);
            if ticks > ticks_max || bytes > bytes_max {
                tracing::warn!(node = %node.id(), peer = %hold.to, index = %hold.snapshot, ticks, bytes,
                    "a follower is not back in the log in time after a snapshot; \
                     the log is cut, and it gets another one");
                return false;
            }
            cut = cut.min(needed);
            true
        });
        cut.max(node.storage().first_index().prev())
    }
}
