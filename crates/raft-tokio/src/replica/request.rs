//! # Requests
//!
//! What the handle asks of the loop. Commands and reads wait in one channel, so
//! that both wait while nobody leads; administration has its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{ConfState, Entries, EntryId, LogIndex, NodeId, Snapshot, Term};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::log_view::ReadNumber;
use super::membership::MembershipGoal;
use super::reply::ProposeReply;
use crate::box_error::BoxError;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, TransferError};
use crate::log_store::{LogReadError, LogStoreError};
use raft_wire::frame::ResponseOutcome;

/// What waits in `propc`: one line of the cache, so that callers on two threads
/// whose requests lie side by side share none.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct ClientRequest {
    pub(super) kind: ClientRequestKind,
    /// The tick in which it was made.
    pub(super) since_tick: u64,
}

/// What is seldom asked for is boxed, so that the rest is small.
#[derive(Debug)]
pub(super) enum ClientRequestKind {
    Propose {
        command: Bytes,
        reply: Waiter,
    },
    /// Under a condition, or with room that it takes up.
    ProposeSpecial(Box<SpecialProposal>),
    /// Together, in this order.
    ProposeBatch(Box<ProposalBatch>),
    Read {
        read: PendingRead,
        freshness: Freshness,
    },
}

/// A proposal that is not just made.
#[derive(Debug)]
pub(super) struct SpecialProposal {
    pub(super) command: Bytes,
    pub(super) reply: Waiter,
    pub(super) condition: Option<Condition>,
    /// What it takes up until the loop has it.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// What must hold when a command is proposed.
#[derive(Debug)]
pub(super) enum Condition {
    /// Its caller has not given up.
    Claimed(Claim),
    /// This server leads in this term.
    InTerm(Term),
}

/// Commands that are proposed together, and who waits for each.
#[derive(Debug)]
pub(super) struct ProposalBatch {
    pub(super) commands: Vec<Bytes>,
    pub(super) replies: Vec<ProposeReply>,
    /// What they take up until the loop has them.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// What a read goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// A quorum confirms that the leader led when it was asked.
    Confirmed,
    /// The leader's lease, if it has one.
    Leased,
}

/// A request that its caller may withdraw until the loop takes it: whoever
/// claims it first has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether the caller of this is the first.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl ClientRequest {
    /// Whether this is a command whose caller has given up.
    pub(super) fn is_withdrawn(&self) -> bool {
        match &self.kind {
            ClientRequestKind::Propose { reply, .. } => reply.is_gone(),
            ClientRequestKind::ProposeSpecial(proposal) => proposal.reply.is_gone(),
            // Each of its commands has a caller.
            ClientRequestKind::ProposeBatch(_) | ClientRequestKind::Read { .. } => false,
        }
    }

    /// Ends the wait of whoever made this. It was not taken.
    pub(super) fn refuse(
        self,
        error: ProposeError,
        read_error: ReadError,
        mut refuse: impl FnMut(Waiter, ProposeError),
    ) {
        match self.kind {
            ClientRequestKind::Propose { reply, .. } => refuse(reply, error),
            ClientRequestKind::ProposeSpecial(proposal) => refuse(proposal.reply, error),
            ClientRequestKind::ProposeBatch(batch) => {
                for reply in batch.replies {
                    refuse(Waiter::Local(reply), error.clone());
                }
            }
            ClientRequestKind::Read { read, .. } => read.fail(read_error),
        }
    }
}

/// Who gets the reply of a command.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller in this process.
    Local(ProposeReply),
    /// A caller behind another replica, by its number there.
    Remote { from: NodeId, id: u64 },
}

impl Waiter {
    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Local(reply) => reply.is_closed(),
            Self::Remote { .. } => false,
        }
    }
}

/// A read that waits for its round, and then for the state machine.
#[derive(Debug)]
pub(super) enum PendingRead {
    /// The state machine answers a question.
    Query {
        query: Bytes,
        reply: oneshot::Sender<Result<Bytes, ReadError>>,
    },
    /// Only the moment matters.
    Barrier {
        reply: oneshot::Sender<Result<LogIndex, ReadError>>,
    },
}

impl PendingRead {
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Query { reply, .. } => reply.is_closed(),
            Self::Barrier { reply } => reply.is_closed(),
        }
    }

    pub(super) fn fail(self, error: ReadError) {
        // Whoever asked may have given up.
        match self {
            Self::Query { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            Self::Barrier { reply } => {
                let _ = reply.send(Err(error));
            }
        }
    }
}

pub(super) type ChangeReply = oneshot::Sender<Result<ConfState, ChangeMembershipError>>;
pub(super) type TransferReply = oneshot::Sender<Result<(), TransferError>>;

/// What comes in through `controlc`.
#[derive(Debug)]
pub(super) enum Command {
    ChangeMembership {
        goal: MembershipGoal,
        reply: ChangeReply,
    },
    /// A read that is content with what is at most this old.
    ReadStale {
        read: PendingRead,
        age_max: Duration,
        since_tick: u64,
    },
    Transfer {
        to: NodeId,
        reply: TransferReply,
    },
    Campaign,
    Snapshot,
    SetPeer {
        id: NodeId,
        address: Option<String>,
    },
}

/// What the workers report.
#[derive(Debug)]
pub(super) enum Event {
    /// Writes are done: there are reports that are waited for.
    Written,
    /// Entries were read back.
    LogRead {
        number: ReadNumber,
        result: Result<Entries, LogReadError>,
    },
    /// A snapshot of the state machine is stored, and the log compacted.
    Compacted(Result<(), LogStoreError>),
    /// Entries, or a snapshot, are applied: there is a report that is waited for.
    Applied,
    /// A snapshot of the state machine was built.
    SnapshotBuilt(Result<Snapshot, BoxError>),
    /// A snapshot that was to be sent cannot be read.
    SnapshotDamaged(EntryId),
    /// A command of a caller behind another replica has its reply.
    RemoteReply {
        to: NodeId,
        id: u64,
        outcome: ResponseOutcome,
    },
    /// A user wants the replica to hand over, to finish and to stop.
    Drain,
    /// The state machine cannot go on.
    StateMachineFailed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_request_is_one_line_of_the_cache() {
        assert_eq!(size_of::<ClientRequest>(), 64);
    }
}
