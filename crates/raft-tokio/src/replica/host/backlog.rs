//! # The backlog
//!
//! What is in the log and not applied: it is in memory, whatever the limits of
//! the tail. A leader that has as much of it as it may have takes no more
//! requests; a follower takes no more entries of its leader. Both go on with
//! everything else, heartbeats above all.
//!
//! A follower that takes no entries drops them: to the leader that is a lost
//! message, which it sends again, one per heartbeat, until one is taken. It does
//! so only while it has something committed to apply, since nothing else lets
//! the backlog fall; what is not committed is the leader's backlog, and bounded
//! there. So no backlog can hold up the commit that would let it fall.
//!
//! - Owns: nothing; it reads the view of the log and the writes under way.
//! - Source: etcd `MaxUncommittedEntriesSize`, for leaders; thesis §10.2.

use raft_core::{Body, LogIndex, Message, RoleKind, Storage};

use super::{Node, ReplicaHost};

impl ReplicaHost {
    /// Whether so much is not applied that no more is taken.
    pub(super) fn is_overloaded(&self, node: &Node) -> bool {
        match node.role() {
            RoleKind::Leader => self.has_full_backlog(node),
            RoleKind::Follower | RoleKind::PreCandidate | RoleKind::Candidate => {
                node.commit_index() > self.backlog_start(node) && self.has_full_backlog(node)
            }
        }
    }

    /// Whether the node may have this message. Entries of its leader that
    /// lengthen the log may have to wait; whatever replaces some, or is refused
    /// with an answer, may not.
    pub(super) fn has_room_for(&self, node: &Node, message: &Message) -> bool {
        let Body::Append { prev, entries, .. } = &message.body else {
            return true;
        };
        let is_of_the_leader = node.leader() == Some(message.from) && node.term() == message.term;
        let lengthens = !entries.is_empty() && prev.index == node.last_index();
        !(is_of_the_leader && lengthens && self.is_overloaded(node))
    }

    /// The last index that takes no memory of its own: applied, or replaced by a
    /// snapshot that the state machine is yet to read.
    fn backlog_start(&self, node: &Node) -> LogIndex {
        self.applied.max(node.storage().first_index().prev())
    }

    /// What the entries in the log take that are not applied, encoded.
    pub(super) fn unapplied_bytes(&self, node: &Node) -> u64 {
        node.storage().unapplied_bytes() + self.writes.bytes()
    }

    fn has_full_backlog(&self, node: &Node) -> bool {
        let entries = node.last_index().distance_from(self.backlog_start(node));
        entries >= self.config.unapplied_entries_max
            || self.unapplied_bytes(node) >= self.config.unapplied_bytes_max
    }
}
