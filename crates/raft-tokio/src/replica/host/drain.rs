//! # Draining
//!
//! The way to a stop: leadership is handed over, what was taken is finished, and
//! an election timeout later the loop ends in any case.
//!
//! - Owns: nothing but the deadline.

use raft_core::RoleKind;

use super::leadership::{Successor, successor};
use super::reconfigure::is_removed;
use super::{Node, ReplicaHost};

impl ReplicaHost {
    pub(super) fn begin_drain(&mut self, node: &mut Node) {
        if self.drain_until.is_some() {
            return;
        }
        self.status_stale = true;
        self.drain_until = Some(self.now() + u64::from(self.config.election_ticks));
        if node.role() == RoleKind::Leader
            && let Some(to) = successor(node, Successor::Best)
        {
            tracing::info!(node = %node.id(), term = %node.term(), peer = %to,
                "shutting down; leadership is handed over");
            self.hand_over(node, to);
        }
    }

    /// Stops the loop once everything that was taken is finished.
    pub(super) fn drain(&self, node: &Node) {
        let Some(until) = self.drain_until else {
            return;
        };
        let handing_over = match node.role() {
            RoleKind::Leader => node.transferee().is_some(),
            // Whoever is being elected may need this server's vote.
            RoleKind::Follower | RoleKind::PreCandidate | RoleKind::Candidate => {
                node.leader().is_none() && !is_removed(node)
            }
        };
        let is_done = !handing_over
            && self.waiters.is_empty()
            && self.forwards.len() == 0
            && self.reads.len() == 0
            && self.writes.is_empty()
            && self.applied >= self.handed_out;
        if is_done || self.now() >= until {
            self.control.stop();
        }
    }
}
