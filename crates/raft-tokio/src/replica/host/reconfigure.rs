//! # Changes of the members
//!
//! From a caller's wish to the entry in the log, and from the entry that is
//! applied, or the snapshot that is installed, to the transport, which learns who
//! came, who left and where everybody is reached.
//!
//! What the cluster has agreed on wins over what a replica was told at its start,
//! since it is newer. What [`set_peer`](crate::Raft::set_peer) says holds until
//! the cluster agrees on something else, or the replica restarts.
//!
//! - Owns: what was said of this server's own removal; who waits is in
//!   `changes.rs`, the configuration is the host's.
//! - Source: Raft §6, thesis §4.

use raft_core::{ConfChange, ConfState, LogIndex, NodeId, Proposed, RoleKind};
use tokio::time::Instant;

use super::{Node, ReplicaHost};
use crate::error::{ChangeMembershipError, ProposeError};
use crate::replica::configuration::Configuration;
use crate::replica::membership::{self, MembershipGoal};
use crate::replica::request::ChangeReply;

/// What was said of this server's own removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nothing: as far as it knows it is a member, or has never been one.
    #[default]
    None,
    /// Nothing yet: it is no member any more by what was handed out.
    Noticed {
        since_tick: u64,
        handed_out: LogIndex,
    },
    /// That it was removed.
    Told,
}

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
        let change = match membership::plan(node.membership(), &self.configuration.addresses, goal)
        {
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

    /// An entry has changed the members.
    pub(super) fn on_reconfigured(
        &mut self,
        node: &Node,
        change: &ConfChange,
        conf_state: ConfState,
    ) {
        self.lease.reconfigured(Instant::now());
        let next = self.configuration.after(change, conf_state);
        self.adopt(node, next);
    }

    /// Goes on with another configuration: the transport learns what is different.
    pub(super) fn adopt(&mut self, node: &Node, next: Configuration) {
        self.status_stale = true;
        let forget_at = self.now() + u64::from(self.config.election_ticks);
        let previous = std::mem::replace(&mut self.configuration, next);
        let next = &self.configuration;
        let is_other = |id: &NodeId| *id != node.id();
        for (id, address) in next.addresses.iter().filter(|(id, _)| is_other(id)) {
            if previous.addresses.get(id) != Some(address) {
                self.transport.set_peer(id, Some(address));
            }
        }
        for id in next.ids().filter(is_other) {
            self.leaving.retain(|(leaving, _)| *leaving != id);
            if !previous.conf_state.contains(id) {
                self.transport.admit_peer(id);
            }
        }
        for id in previous.ids().filter(is_other) {
            let is_known = self.leaving.iter().any(|(leaving, _)| *leaving == id);
            if !next.conf_state.contains(id) && !is_known {
                self.leaving.push((id, forget_at));
            }
        }
    }

    /// Says, once, that this server was removed. Whoever goes through its log again,
    /// or catches up, may pass a removal after which it was added again: so not
    /// before nothing has followed for an election timeout.
    pub(super) fn watch_removal(&mut self, node: &Node, now: u64) {
        let handed_out = self.handed_out;
        let noticed = Removal::Noticed {
            since_tick: now,
            handed_out,
        };
        self.removal = match self.removal {
            _ if !is_removed(node) => Removal::None,
            Removal::Told => Removal::Told,
            Removal::Noticed {
                since_tick,
                handed_out: then,
            } if then == handed_out && node.commit_index() == handed_out => {
                if now.saturating_sub(since_tick) < u64::from(self.config.election_ticks) {
                    return;
                }
                tracing::warn!(node = %node.id(), term = %node.term(),
                    "this node was removed from the cluster; it takes no more requests");
                Removal::Told
            }
            Removal::None | Removal::Noticed { .. } => noticed,
        };
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
