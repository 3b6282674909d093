//! # Changes of the members
//!
//! From a caller's wish to the entry in the log, and from the entry that is
//! applied to the transport, which learns who came and who left.
//!
//! - Owns: nothing; who waits is in `changes.rs`.
//! - Source: Raft §6, thesis §4.

use raft_core::{ConfChange, ConfChangeType, Proposed, RoleKind};
use tokio::time::Instant;

use super::{Node, ReplicaHost};
use crate::error::{ChangeMembershipError, ProposeError};
use crate::replica::membership::{self, MembershipGoal};
use crate::replica::request::ChangeReply;

impl ReplicaHost {
    pub(super) fn change_membership(
        &mut self,
        node: &mut Node,
        goal: MembershipGoal,
        reply: ChangeReply,
    ) {
        if node.role() != RoleKind::Leader {
            let leader = node.leader();
            let _ = reply.send(Err(ChangeMembershipError::NotLeader { leader }));
            return;
        }
        let change = match membership::plan(node.membership(), goal) {
            Ok(Some(change)) => change,
            Ok(None) => {
                let _ = reply.send(Ok(node.membership().conf_state()));
                return;
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        match node.propose_conf_change(&change) {
            Ok(Proposed::Appended {
                refused: Some(why), ..
            }) => {
                let _ = reply.send(Err(why.into()));
            }
            Ok(Proposed::Appended { term, last, .. }) => {
                let now = self.now();
                self.changes.await_change(term, last, now, reply);
            }
            Ok(Proposed::Forwarded { .. }) => {
                let _ = reply.send(Err(ProposeError::OutcomeUnknown.into()));
            }
            Err(error) => {
                let _ = reply.send(Err(ProposeError::of_core(&error).into()));
            }
        }
    }

    /// The members changed: the transport learns who came and who left.
    pub(super) fn on_reconfigured(&mut self, node: &Node, change: &ConfChange) {
        self.lease.reconfigured(Instant::now());
        self.status_stale = true;
        if let Some((id, address)) = membership::decode_address(&change.context)
            && id != node.id()
        {
            self.transport.set_peer(id, Some(address));
        }
        let forget_at = self.now() + u64::from(self.config.election_ticks);
        for single in &change.changes {
            let Some(id) = single.node_id else { continue };
            self.leaving.retain(|(leaving, _)| *leaving != id);
            match single.change_type {
                _ if id == node.id() => {}
                ConfChangeType::RemoveNode => self.leaving.push((id, forget_at)),
                ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                    self.transport.admit_peer(id);
                }
                ConfChangeType::UpdateNode => {}
            }
        }
        if is_removed(node) {
            tracing::warn!(node = %node.id(), term = %node.term(),
                "this node was removed from the cluster; it takes no more requests");
        }
    }

    pub(super) fn forget_who_left(&mut self, node: &Node, now: u64) {
        let Self {
            leaving, transport, ..
        } = self;
        leaving.retain(|(id, at)| {
            let is_due = *at <= now;
            // In a joint configuration whoever leaves is needed until the end.
            if is_due && !node.membership().contains(*id) {
                transport.remove_peer(*id);
                return false;
            }
            true
        });
    }
}

/// Whether this server knows the members, and is none of them.
pub(super) fn is_removed(node: &Node) -> bool {
    let membership = node.membership();
    !membership.contains(node.id()) && !membership.voters().incoming.is_empty()
}
