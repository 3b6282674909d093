//! # Errors of the handle
//!
//! Each says whether the request may still happen, and what to do.

use raft_core::{ConfChangeError, ConfChangeRefusal, NodeId};

use crate::log_store::LogStoreError;
use crate::state_machine::BoxError;
use crate::task::Stopped;

/// A proposal did not get a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This server does not lead, and does not pass requests on or cannot. It
    /// was not applied, and will not be.
    #[error("{}", not_leader(*leader))]
    NotLeader {
        /// Who leads, as far as this server knows.
        leader: Option<NodeId>,
    },
    /// The log has as much that is not applied as it may have. It was not
    /// applied, and will not be. Try again later.
    #[error("the log is full of commands that are not applied yet; try again later")]
    QuotaExceeded,
    /// Too many requests wait. It was not applied, and will not be. Try again
    /// later.
    #[error("too many requests are waiting; try again later")]
    QueueFull,
    /// The command is larger than `command_bytes_max`. It was not applied, and
    /// will not be.
    #[error("the command has {bytes} bytes, more than the {bytes_max} that are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The command has no bytes, which a replica cannot tell from a leader's
    /// no-op. It was not applied.
    #[error("the command is empty; a command has at least one byte")]
    Empty,
    /// Leadership is being handed over. It was not applied, and will not be.
    /// Try again.
    #[error("leadership is being handed to node {to}; try again")]
    TransferInProgress {
        /// Who is to lead.
        to: NodeId,
    },
    /// This server was removed from the cluster. It was not applied, and will
    /// not be. Ask another one.
    #[error("this node is no longer a member; ask another one")]
    NotMember,
    /// Another leader's entry took its place in the log. It was not applied,
    /// and will not be. Try again.
    #[error("another leader's entry took the proposal's place; try again")]
    Superseded,
    /// It was made, but no reply came in time, or the server that knows is
    /// gone. **It may have been applied, or may still be.** Only try again what
    /// may be done twice.
    #[error("no reply came in time; the command may have been applied, or may still be")]
    OutcomeUnknown,
    /// This server has stopped. If the command had reached it, it may have been
    /// applied, or may still be.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn not_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("this node does not lead; ask node {leader}"),
        None => "no node leads at the moment; try again after the election".to_owned(),
    }
}

impl ProposeError {
    /// Whether the same request may succeed later, here or at another server,
    /// and certainly did not happen yet.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotLeader { .. }
                | Self::QuotaExceeded
                | Self::QueueFull
                | Self::TransferInProgress { .. }
                | Self::NotMember
                | Self::Superseded
        )
    }

    /// Whether the command may have been applied, or may still be.
    pub fn is_indeterminate(&self) -> bool {
        matches!(self, Self::OutcomeUnknown | Self::Stopped(_))
    }
}

/// A read did not get an answer. Reads change nothing, so all of these may be
/// tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nobody who leads confirmed the read in time.
    #[error("no leader confirmed the read in time; try again")]
    Timeout,
    /// This server has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A configuration change is not in effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeMembershipError {
    /// This server does not lead. Nothing has changed. Ask the leader.
    #[error("{}", not_leader(*leader))]
    NotLeader {
        /// Who leads, as far as this server knows.
        leader: Option<NodeId>,
    },
    /// The leader can tell that the change is impossible now.
    #[error(transparent)]
    Refused(#[from] ConfChangeRefusal),
    /// The change is impossible in the configuration that it found.
    #[error(transparent)]
    Invalid(#[from] ConfChangeError),
    /// The proposal was refused, or its outcome is unknown.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This server does not lead. Ask the leader.
    #[error("{}", not_leader(*leader))]
    NotLeader {
        /// Who leads, as far as this server knows.
        leader: Option<NodeId>,
    },
    /// The server does not vote in this cluster, so it cannot lead.
    #[error("node {to} does not vote in this cluster, so it cannot lead")]
    NotVoter {
        /// The server.
        to: NodeId,
    },
    /// It was not elected within an election timeout. The leader leads on.
    #[error("node {to} was not elected in time; the leader leads on")]
    Failed {
        /// The server.
        to: NodeId,
    },
    /// Another transfer or another election came between.
    #[error("another server was elected, or another transfer began")]
    Superseded,
    /// This server has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A replica cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration or the stored log contradicts itself.
    #[error(transparent)]
    Core(#[from] raft_core::StartError),
    /// The stored log cannot be read.
    #[error(transparent)]
    LogStore(#[from] LogStoreError),
    /// The stored log contradicts itself.
    #[error("the stored log is damaged: {0}")]
    Damaged(raft_core::MemoryStorageError),
    /// The state machine cannot read its own snapshot.
    #[error("the state machine cannot read its snapshot: {0}")]
    Restore(BoxError),
    /// The state machine cannot build the snapshot that a new cluster begins
    /// with.
    #[error("the state machine cannot build its first snapshot: {0}")]
    FirstSnapshot(BoxError),
}
