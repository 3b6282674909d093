//! # Who leads
//!
//! News of a leader, and handing leadership over: by request, before a shutdown,
//! or because the disk has stalled.
//!
//! - Owns: nothing; who waits for a transfer is in `changes.rs`.
//! - Source: thesis §3.10.

use raft_core::{Flow, NodeId, RoleKind, SoftState};

use super::{Node, ReplicaHost};
use crate::error::TransferError;
use crate::replica::request::TransferReply;

/// Who could lead instead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// Whoever could right now.
    CaughtUp,
    /// Whoever is nearest to it.
    Best,
}

impl ReplicaHost {
    pub(super) fn on_soft_state(&mut self, node: &mut Node, soft_state: SoftState) {
        self.status_stale = true;
        if soft_state.role != RoleKind::Leader {
            node.storage_mut().forget_reads();
        }
        if let Some(leader) = soft_state.leader
            && soft_state.leader != self.status.borrow().leader
        {
            self.leader_changes += 1;
            tracing::info!(node = %node.id(), term = %node.term(), %leader,
                role = ?soft_state.role, "a leader was elected");
        }
        // Whom the round was asked of may never answer.
        self.reads.abandon_round();
        self.changes.on_leader(
            node.term(),
            soft_state.leader,
            soft_state.role == RoleKind::Leader,
            node.transferee(),
        );
    }

    pub(super) fn transfer(&mut self, node: &mut Node, to: NodeId, reply: TransferReply) {
        if node.role() != RoleKind::Leader {
            let leader = node.leader();
            let _ = reply.send(Err(TransferError::NotLeader { leader }));
            return;
        }
        if to == node.id() {
            let _ = reply.send(Ok(()));
            return;
        }
        if !node.membership().voters().contains(to) {
            let _ = reply.send(Err(TransferError::NotVoter { to }));
            return;
        }
        let now = self.now();
        self.changes.await_transfer(to, node.term(), now, reply);
        self.hand_over(node, to);
    }

    pub(super) fn hand_over(&mut self, node: &mut Node, to: NodeId) {
        self.lease.bar(node.term());
        // A node that has halted ends the loop with the next turn.
        let _ = node.transfer_leadership(to);
    }
}

pub(super) fn successor(node: &Node, wanted: Successor) -> Option<NodeId> {
    let last = node.last_index();
    node.status()
        .progress
        .into_iter()
        .filter(|(id, progress)| {
            *id != node.id()
                && node.membership().voters().contains(*id)
                && progress.flow == Flow::Replicate
                && (wanted == Successor::Best || progress.matched == last)
        })
        .max_by_key(|(_, progress)| {
            (
                progress.recent_active,
                !progress.is_silent,
                progress.matched,
            )
        })
        .map(|(id, _)| id)
}
