//! # Leader
//!
//! Takes proposals, replicates them, commits what a quorum has, answers reads,
//! hands leadership over.
//!
//! - Owns: the progress of everybody, read rounds, the transfer, the gate for
//!   configuration changes, the quota of uncommitted bytes, the heartbeat
//!   counter. Its rooms are the files of this folder.
//! - Source: Raft §5.3, §5.4; etcd `stepLeader`.

mod ack;
mod conf_gate;
mod propose;
mod pulse;
mod quota;
mod read;
mod reconfig;
mod send;
mod transfer;

use core::mem;

use crate::common::Common;
use crate::progress::{Followers, ProgressState};
use crate::role::Next;
use crate::storage::{Storage, StorageError};
use crate::types::{AppendResponse, Body, LogIndex, Message, NodeId};

pub use ack::SnapshotOutcome;
pub(crate) use propose::NotAppended;

use conf_gate::ConfChangeGate;
use quota::UncommittedQuota;
use read::ReadRounds;
use transfer::Transfer;

#[derive(Debug)]
pub(crate) struct Leader {
    followers: Followers,
    reads: ReadRounds,
    transfer: Option<Transfer>,
    conf_changes: ConfChangeGate,
    quota: UncommittedQuota,
    heartbeat_elapsed: u32,
}

impl Leader {
    /// A leader that has just been elected and knows nothing of the others. Its
    /// own log counts as matched.
    pub(crate) fn elected<S: Storage>(common: &Common<S>) -> Self {
        let last_index = common.log.last_index();
        Self {
            followers: Followers::at_election(
                &common.membership,
                common.config.inflight_limits(),
                common.id(),
                last_index,
            ),
            reads: ReadRounds::default(),
            transfer: None,
            // Any entry of earlier leaders may be a configuration change;
            // looking through them could take long, waiting for them is safe.
            conf_changes: ConfChangeGate::pending_until(last_index),
            quota: UncommittedQuota::new(common.config.uncommitted_bytes_max),
            heartbeat_elapsed: 0,
        }
    }

    pub(crate) fn followers(&self) -> &Followers {
        &self.followers
    }

    #[cfg(test)]
    pub(crate) fn followers_mut(&mut self) -> &mut Followers {
        &mut self.followers
    }

    pub(crate) fn transferee(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    pub(crate) fn progress_states(&self) -> alloc::vec::Vec<(NodeId, ProgressState)> {
        self.followers
            .iter()
            .map(|(id, progress)| (id, progress.state()))
            .collect()
    }

    pub(crate) fn on_message<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        message: &mut Message,
    ) -> Result<Next, StorageError> {
        let from = message.from;
        match &mut message.body {
            Body::AppendResponse(AppendResponse::Accepted { matched }) => {
                self.on_accepted(common, from, *matched)?;
            }
            Body::AppendResponse(AppendResponse::Rejected { at, hint }) => {
                self.on_rejected(common, from, *at, *hint)?;
            }
            Body::HeartbeatResponse { context } => {
                self.on_heartbeat_response(common, from, context)?;
            }
            Body::TransferLeader => self.on_transfer(common, from)?,
            Body::ReadIndex { context } => {
                self.on_read_index(common, Some(from), mem::take(context))?;
            }
            // Another leader of this term cannot be, and nobody else may tell a
            // leader anything.
            Body::Propose { .. }
            | Body::Append { .. }
            | Body::RequestVote { .. }
            | Body::VoteResponse { .. }
            | Body::Snapshot(_)
            | Body::Heartbeat { .. }
            | Body::TimeoutNow
            | Body::ReadIndexResponse { .. }
            | Body::ForgetLeader => {}
        }
        Ok(Next::Stay)
    }

    /// Entries up to `index` have been applied here, which frees quota and may
    /// be what a joint configuration was waiting for.
    pub(crate) fn on_applied<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        applied: LogIndex,
    ) -> Result<(), StorageError> {
        if common.membership.auto_leave() && applied >= self.conf_changes.pending() {
            self.leave_joint(common)?;
        }
        Ok(())
    }

    /// How many bytes count against the quota.
    pub(crate) fn uncommitted_bytes(&self) -> u64 {
        self.quota.bytes()
    }

    /// Applied entries no longer count against the quota.
    pub(crate) fn release_quota(&mut self, payload_bytes: u64) {
        self.quota.release(payload_bytes);
    }

    /// Whether a read round that `context` names has been started.
    pub(crate) fn knows_read_round(&self, context: &[u8]) -> bool {
        self.reads.knows(context)
    }
}
