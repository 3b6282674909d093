//! # Requests
//!
//! What the handle asks of the loop. Commands and reads wait in one channel, so
//! that both wait while nobody leads; administration has its own.

use bytes::Bytes;
use raft_core::{ConfChange, ConfState, LogIndex, NodeId, Snapshot};
use tokio::sync::oneshot;

use super::apply::AppliedBatch;
use super::handle::Applied;
use crate::error::{ChangeMembershipError, ProposeError, ReadError, TransferError};
use crate::log_store::LogStoreError;
use crate::state_machine::BoxError;
use raft_wire::frame::ResponseOutcome;

pub(super) type ProposeReply = oneshot::Sender<Result<Applied, ProposeError>>;

/// What waits in `propc`.
#[derive(Debug)]
pub(super) struct ClientRequest {
    pub(super) kind: ClientRequestKind,
    /// The tick in which it was made.
    pub(super) since_tick: u64,
}

#[derive(Debug)]
pub(super) enum ClientRequestKind {
    Propose { command: Bytes, reply: Waiter },
    Read { read: PendingRead },
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
        change: ConfChange,
        reply: ChangeReply,
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
    /// A write is done.
    Written {
        sequence: u64,
        result: Result<(), LogStoreError>,
    },
    /// A snapshot of the state machine is stored, and the log compacted.
    Compacted(Result<(), LogStoreError>),
    /// Entries, or a snapshot, are applied.
    Applied(AppliedBatch),
    /// A snapshot of the state machine was built.
    SnapshotBuilt(Result<Snapshot, BoxError>),
    /// A command of a caller behind another replica has its reply.
    RemoteReply {
        to: NodeId,
        id: u64,
        outcome: ResponseOutcome,
    },
    /// The state machine cannot go on.
    StateMachineFailed(String),
}
