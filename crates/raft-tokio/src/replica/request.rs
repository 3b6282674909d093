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
use super::propose::Applied;
use crate::box_error::BoxError;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, TransferError};
use crate::log_store::{LogReadError, LogStoreError};
use raft_wire::frame::ResponseOutcome;

pub(super) type ProposeReply = oneshot::Sender<Result<Applied, ProposeError>>;

/// What waits in `propc`.
#[derive(Debug)]
pub(super) struct ClientRequest {
    pub(super) kind: ClientRequestKind,
    /// The tick in which it was made.
    pub(super) since_tick: u64,
    /// The room that a large command takes up until the loop has it.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(super) enum ClientRequestKind {
    Propose {
        command: Bytes,
        reply: Waiter,
    },
    /// Only if its caller has not given up.
    ProposeClaimed {
        command: Bytes,
        reply: Waiter,
        claim: Claim,
    },
    /// Only by the leader of this term.
    ProposeInTerm {
        command: Bytes,
        reply: Waiter,
        term: Term,
    },
    /// Together, in this order.
    ProposeBatch {
        commands: Vec<Bytes>,
        replies: Vec<ProposeReply>,
    },
    Read {
        read: PendingRead,
        freshness: Freshness,
    },
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
            ClientRequestKind::Propose { reply, .. }
            | ClientRequestKind::ProposeClaimed { reply, .. }
            | ClientRequestKind::ProposeInTerm { reply, .. } => reply.is_gone(),
            // Each of its commands has a caller.
            ClientRequestKind::ProposeBatch { .. } | ClientRequestKind::Read { .. } => false,
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
            ClientRequestKind::Propose { reply, .. }
            | ClientRequestKind::ProposeClaimed { reply, .. }
            | ClientRequestKind::ProposeInTerm { reply, .. } => refuse(reply, error),
            ClientRequestKind::ProposeBatch { replies, .. } => {
                for reply in replies {
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
