//! # Follower
//!
//! Takes entries, heartbeats and snapshots from the leader, and passes on what
//! only the leader can do.
//!
//! - Owns: who leads.
//! - Reads, changes: the log, the configuration (by snapshot), the timer.
//! - Emits: answers to the leader, forwarded requests.
//! - Source: Raft §5.2, §5.3, §7; etcd `stepFollower`, `handleAppendEntries`,
//!   `handleHeartbeat`, `handleSnapshot`, `restore`.

use core::mem;

use crate::common::Common;
use crate::config::ReadOnly;
use crate::error::ProposeError;
use crate::membership::Membership;
use crate::role::{Campaign, Next};
use crate::storage::{Storage, StorageError};
use crate::types::{AppendResponse, Body, Entries, EntryId, LogIndex, Message, NodeId, Snapshot};

#[derive(Debug)]
pub(crate) struct Follower {
    leader: Option<NodeId>,
}

impl Follower {
    pub(crate) fn of(leader: Option<NodeId>) -> Self {
        Self { leader }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub(crate) fn on_message<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        message: &mut Message,
    ) -> Result<Next, StorageError> {
        let from = message.from;
        if message.body.is_from_leader() {
            common.timer.restart();
            self.leader = Some(from);
        }
        match &mut message.body {
            Body::Append {
                prev,
                entries,
                commit,
            } => on_append(common, from, *prev, mem::take(entries), *commit)?,
            Body::Heartbeat { commit, context } => {
                common.log.commit_to(*commit);
                let context = mem::take(context);
                common.send(from, Body::HeartbeatResponse { context });
            }
            Body::Snapshot(snapshot) => on_snapshot(common, from, mem::take(snapshot))?,
            Body::TransferLeader => {
                // Only the leader can hand over; `from` is who is to lead.
                if let Some(leader) = self.leader_for_peers(common) {
                    common.send_as(from, leader, Body::TransferLeader);
                }
            }
            Body::TimeoutNow => {
                // The leader asks, so nothing is disturbed: no pre-vote.
                return Ok(Next::Campaign(Campaign::Transfer));
            }
            Body::ReadIndex { context } => {
                if let Some(leader) = self.leader_for_peers(common) {
                    let context = mem::take(context);
                    common.send_as(from, leader, Body::ReadIndex { context });
                }
            }
            Body::ReadIndexResponse { index, context } => {
                common.read_done(*index, mem::take(context));
            }
            Body::ForgetLeader => self.forget_leader(common),
            Body::Propose { .. }
            | Body::AppendResponse(_)
            | Body::RequestVote { .. }
            | Body::VoteResponse { .. }
            | Body::HeartbeatResponse { .. } => {}
        }
        Ok(Next::Stay)
    }

    /// Who gets what a peer has passed on to this server. Nobody: it goes no
    /// further, or two followers that take each other for the leader would
    /// never stop, as etcd's do not.
    fn leader_for_peers<S>(&self, common: &Common<S>) -> Option<NodeId> {
        self.leader.filter(|_| !common.config.is_protected())
    }

    /// Passes proposals on to the leader that a peer has passed on to this
    /// server.
    pub(crate) fn forward_for_peer<S>(
        &self,
        common: &mut Common<S>,
        from: NodeId,
        body: Body,
    ) -> Result<NodeId, ProposeError> {
        match (self.leader, self.leader_for_peers(common)) {
            (Some(leader), None) => Err(ProposeError::ForwardingDisabled { leader }),
            _ => self.forward(common, from, body),
        }
    }

    /// Passes proposals on to the leader, in the name of who made them.
    pub(crate) fn forward<S>(
        &self,
        common: &mut Common<S>,
        from: NodeId,
        body: Body,
    ) -> Result<NodeId, ProposeError> {
        let leader = self.leader.ok_or(ProposeError::NoLeader)?;
        if !common.config.proposal_forwarding {
            return Err(ProposeError::ForwardingDisabled { leader });
        }
        common.send_as(from, leader, body);
        Ok(leader)
    }

    /// Passes a read of this server's user on to the leader. Without one it is
    /// lost, and whoever asked has to ask again.
    pub(crate) fn on_read_index<S>(&self, common: &mut Common<S>, context: bytes::Bytes) {
        if let Some(leader) = self.leader {
            common.send(leader, Body::ReadIndex { context });
        }
    }

    /// Forgets who leads, so that this server votes before its timeout. Leases
    /// forbid it: they rest on exactly this memory.
    pub(crate) fn forget_leader<S>(&mut self, common: &Common<S>) {
        if common.config.read_only != ReadOnly::LeaseBased {
            self.leader = None;
        }
    }
}

fn on_append<S: Storage>(
    common: &mut Common<S>,
    from: NodeId,
    prev: EntryId,
    entries: Entries,
    commit: LogIndex,
) -> Result<(), StorageError> {
    let committed = common.log.committed();
    if prev.index < committed {
        // What is committed matches any leader's log.
        common.send_acceptance(from, committed);
        return Ok(());
    }
    if let Some(matched) = common.log.append_after(prev, entries, commit)? {
        common.send_acceptance(from, matched);
        return Ok(());
    }
    // Where the logs may agree: at or before the missing entry, and not at an
    // entry of a later term than the leader has there.
    let last = prev.index.min(common.log.last_index());
    let hint = common.log.conflict_guess(last, prev.term)?;
    common.send(
        from,
        Body::AppendResponse(AppendResponse::Rejected {
            at: prev.index,
            hint,
        }),
    );
    Ok(())
}

fn on_snapshot<S: Storage>(
    common: &mut Common<S>,
    from: NodeId,
    snapshot: Snapshot,
) -> Result<(), StorageError> {
    let matched = if restore(common, snapshot)? {
        common.log.last_index()
    } else {
        common.log.committed()
    };
    common.send_acceptance(from, matched);
    Ok(())
}

/// Replaces log and configuration by the snapshot, unless the log has all of it
/// already. Whether it did.
fn restore<S: Storage>(common: &mut Common<S>, snapshot: Snapshot) -> Result<bool, StorageError> {
    let id = snapshot.metadata.id();
    if id.index <= common.log.committed() {
        return Ok(false);
    }
    let conf_state = &snapshot.metadata.conf_state;
    // A snapshot of a cluster without us cannot be for us. (Who is staged as a
    // learner votes in the outgoing half.)
    if !conf_state.contains(common.id()) {
        return Ok(false);
    }
    if common.log.matches(id)? {
        // The log has it; all that is news is that it is committed.
        common.log.commit_to(id.index);
        return Ok(false);
    }
    let Ok(membership) = Membership::restore(conf_state) else {
        // The gate has refused it; nothing may change here.
        return Ok(false);
    };
    common.log.restore(snapshot);
    common.membership = membership;
    Ok(true)
}
