//! # Errors of the handle
//!
//! Each says whether the request may still happen, and what to do.

use bytes::Bytes;
use raft_core::{
    ConfChangeError, ConfChangeRefusal, LogIndex, NodeId, ProposeError as CoreProposeError, Term,
};

use crate::box_error::BoxError;
use crate::log_store::{LogReadError, LogStoreError, SnapshotLost};
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
    /// gone, or this one stopped meanwhile. **It may have been applied, or may still
    /// be.** Only try again what may be done twice.
    #[error("no reply came in time; the command may have been applied, or may still be")]
    OutcomeUnknown,
    /// The leader applied it for this server, and the reply is longer than what
    /// servers pass on to each other. **It was applied.** Ask the leader itself, or
    /// for less.
    #[error(
        "the command was applied at {index}, but its reply of {bytes} bytes is too long to be \
         passed on; ask the leader itself, or for less"
    )]
    ReplyTooLong {
        /// Where it is in the log.
        index: LogIndex,
        /// How long the reply is.
        bytes: u64,
    },
    /// This server does not lead in the term that the proposal is tied to. It
    /// was not applied, and will not be. The term does not come back: look at
    /// the state again, and propose anew.
    #[error("the proposal is tied to the leader of term {wanted}, but it is term {term}")]
    OtherTerm {
        /// The term that the proposal is tied to.
        wanted: Term,
        /// This server's term. The same one if another server leads in it.
        term: Term,
    },
    /// Its own deadline passed before the replica took it. It was not applied,
    /// and will not be. Try again later.
    #[error("the deadline passed before the command was proposed; try again later")]
    Expired,
    /// This server has stopped, or is about to, and did not take the command. It
    /// was not applied, and will not be. Ask another one.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A command that was not taken, and goes back to its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotTaken {
    /// The command.
    pub command: Bytes,
    /// Why: queue full, too large, empty or stopped.
    #[source]
    pub error: ProposeError,
}

fn not_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("this node does not lead; ask node {leader}"),
        None => "no node leads at the moment; try again after the election".to_owned(),
    }
}

impl ProposeError {
    /// A refusal of the core, in the handle's words.
    pub(crate) fn of_core(error: &CoreProposeError) -> Self {
        match error {
            CoreProposeError::NoLeader => Self::NotLeader { leader: None },
            CoreProposeError::ForwardingDisabled { leader } => Self::NotLeader {
                leader: Some(*leader),
            },
            CoreProposeError::TransferInProgress { to } => Self::TransferInProgress { to: *to },
            CoreProposeError::QuotaExceeded { .. } => Self::QuotaExceeded,
            CoreProposeError::NotMember => Self::NotMember,
            CoreProposeError::Empty => Self::Empty,
            // The loop ends with the next turn; the caller cannot know how far the
            // proposal got.
            _ => Self::OutcomeUnknown,
        }
    }

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
                | Self::Expired
                | Self::Stopped(_)
        )
    }

    /// Whether the command may have been applied, or may still be, while its caller
    /// has no reply.
    pub fn is_indeterminate(&self) -> bool {
        matches!(self, Self::OutcomeUnknown | Self::ReplyTooLong { .. })
    }
}

/// A read did not get an answer. Reads change nothing, so all of these may be
/// tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nobody who leads confirmed the read in time, or the state machine was too
    /// far behind to answer it.
    #[error("no leader confirmed the read in time, or the state machine is too slow; try again")]
    Timeout,
    /// Too many reads wait. Try again later.
    #[error("too many reads are waiting; try again later")]
    QueueFull,
    /// This server was removed from the cluster. Ask another one.
    #[error("this node is no longer a member; ask another one")]
    NotMember,
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
    /// The server is a member already. Nothing has changed.
    #[error("node {id} is a member already")]
    AlreadyMember {
        /// The server.
        id: NodeId,
    },
    /// The server votes already. Nothing has changed.
    #[error("node {id} votes already")]
    AlreadyVoter {
        /// The server.
        id: NodeId,
    },
    /// The server is not a member. Nothing has changed. Who is to vote is added as a
    /// learner first.
    #[error("node {id} is not a member of the cluster")]
    NotMember {
        /// The server.
        id: NodeId,
    },
    /// A server is to be a voter and a learner at once. Nothing has changed.
    #[error("node {id} cannot vote and be a learner at once")]
    VoterAndLearner {
        /// The server.
        id: NodeId,
    },
    /// The address is empty, or longer than 512 bytes. Nothing has changed.
    #[error("the address of node {id} is empty, or longer than 512 bytes")]
    BadAddress {
        /// The server.
        id: NodeId,
    },
    /// The addresses of all members would take more than 64 KiB. Nothing has
    /// changed. Remove members, or tell each replica by
    /// [`set_peer`](crate::Raft::set_peer).
    #[error("there is no room for the address of node {id}: remove members first")]
    TooManyAddresses {
        /// The server.
        id: NodeId,
    },
    /// The learner did not catch up within `catch_up_timeout`, so it got no
    /// vote: with it, the cluster could not commit. Look at its connection and
    /// its disk, and try again.
    #[error("node {id} did not catch up: it has {matched} of {last}; look at it and try again")]
    NotCaughtUp {
        /// The learner.
        id: NodeId,
        /// How far its log is known to match.
        matched: LogIndex,
        /// How far the leader's log goes.
        last: LogIndex,
    },
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
    /// An entry of the log cannot be read back.
    #[error(transparent)]
    LogRead(#[from] LogReadError),
    /// The state machine panicked on an entry of its log.
    #[error("the state machine failed on an entry of its log: {0}")]
    Apply(BoxError),
    /// No stored snapshot can be read that the log reaches back to.
    #[error(transparent)]
    SnapshotLost(#[from] SnapshotLost),
    /// The state machine cannot build the snapshot that a new cluster begins
    /// with.
    #[error("the state machine cannot build its first snapshot: {0}")]
    FirstSnapshot(BoxError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::StopReason;

    /// What a caller may make of an error.
    #[derive(Debug, PartialEq, Eq)]
    enum Truth {
        /// Nothing happened; the same request may succeed.
        Retryable,
        /// Nothing happened, and the same request never succeeds.
        Final,
        /// It may have happened.
        Indeterminate,
    }

    fn truth(error: &ProposeError) -> Truth {
        // No wildcard: whoever adds an error has to say what it means.
        match error {
            ProposeError::NotLeader { .. }
            | ProposeError::QuotaExceeded
            | ProposeError::QueueFull
            | ProposeError::TransferInProgress { .. }
            | ProposeError::NotMember
            | ProposeError::Superseded
            | ProposeError::Expired
            | ProposeError::Stopped(_) => Truth::Retryable,
            ProposeError::TooLarge { .. }
            | ProposeError::Empty
            | ProposeError::OtherTerm { .. } => Truth::Final,
            ProposeError::OutcomeUnknown | ProposeError::ReplyTooLong { .. } => {
                Truth::Indeterminate
            }
        }
    }

    #[test]
    fn every_error_says_whether_it_may_have_happened_and_may_be_tried_again() {
        let node = NodeId::new(3).unwrap();
        let stopped = Stopped {
            reason: StopReason::Shutdown,
        };
        let all = [
            ProposeError::NotLeader { leader: Some(node) },
            ProposeError::NotLeader { leader: None },
            ProposeError::QuotaExceeded,
            ProposeError::QueueFull,
            ProposeError::TooLarge {
                bytes: 2,
                bytes_max: 1,
            },
            ProposeError::Empty,
            ProposeError::TransferInProgress { to: node },
            ProposeError::NotMember,
            ProposeError::Superseded,
            ProposeError::OutcomeUnknown,
            ProposeError::ReplyTooLong {
                index: LogIndex::new(9),
                bytes: 1 << 30,
            },
            ProposeError::OtherTerm {
                wanted: Term::new(1),
                term: Term::new(2),
            },
            ProposeError::Expired,
            ProposeError::Stopped(stopped),
        ];
        for error in all {
            let wanted = truth(&error);
            let said = match (error.is_retryable(), error.is_indeterminate()) {
                (true, false) => Truth::Retryable,
                (false, false) => Truth::Final,
                (false, true) => Truth::Indeterminate,
                (true, true) => unreachable!("{error}: nobody may retry what may have happened"),
            };
            assert_eq!(said, wanted, "{error}");
        }
    }
}
