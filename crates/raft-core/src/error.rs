//! # Errors
//!
//! By whose fault it is: nobody's (a proposal at the wrong time), the peer's,
//! the caller's, or this node's, which then cannot go on.

use crate::config::ConfigError;
use crate::membership::ConfChangeError;
use crate::storage::StorageError;
use crate::types::{LogIndex, MalformedConfChange, NodeId, Term};

/// A proposal was refused. It is in no log and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Nobody leads as far as this server knows. Try again after an election.
    #[error("no leader is known; try again after the election")]
    NoLeader,
    /// This server follows another one and was told not to pass proposals on, or
    /// a peer that it does not lead has passed them on to it.
    #[error("node {leader} leads and proposals are not passed on; ask it")]
    ForwardingDisabled {
        /// The server to ask.
        leader: NodeId,
    },
    /// Leadership is being handed over. Try again after the transfer.
    #[error("leadership is being handed to node {to}; try again after that")]
    TransferInProgress {
        /// The server that is to lead.
        to: NodeId,
    },
    /// The log has as many bytes that are not applied as it may have. Try again
    /// when some are.
    #[error("the log has {bytes_max} bytes that are not applied yet; try again later")]
    QuotaExceeded {
        /// The limit, `uncommitted_bytes_max`.
        bytes_max: u64,
    },
    /// This server leads but was removed from the configuration.
    #[error("this node is no longer a member; ask another one")]
    NotMember,
    /// There is nothing to append.
    #[error("the proposal is empty")]
    Empty,
    /// The proposal's data is not the configuration change it claims to be.
    #[error(transparent)]
    Malformed(MalformedConfChange),
    /// This node cannot go on.
    #[error(transparent)]
    Halted(Halted),
}

/// A peer sent something that no correct peer sends. Nothing has changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// A message that belongs to a term came without one. (Only with
    /// [`Protections::On`](crate::Protections).)
    #[error("the message has no term")]
    TermZero,
    /// A message that belongs to no term came with one.
    #[error("the message has term {term}, but its kind belongs to none")]
    UnexpectedTerm {
        /// The term it came with.
        term: Term,
    },
    /// The message is for another server.
    #[error("the message is for node {to}")]
    NotForUs {
        /// The server it is for.
        to: NodeId,
    },
    /// An answer in the name of this server came from outside.
    #[error("the answer claims to come from this node itself")]
    FromSelf,
    /// A proposal without entries.
    #[error("the proposal has no entries")]
    EmptyProposal,
    /// A proposed configuration change cannot be read.
    #[error("the proposed configuration change cannot be read: {0}")]
    MalformedConfChange(MalformedConfChange),
    /// The entries do not follow the one that the message says is before them.
    #[error("the entries do not start at index {expected}")]
    EntriesNotAfterPrev {
        /// Where they should start.
        expected: LogIndex,
    },
    /// The terms of the entries descend, or are later than the leader's. (Only
    /// with [`Protections::On`](crate::Protections).)
    #[error("the entry at {index} has a term that cannot stand there")]
    EntryTermOutOfOrder {
        /// The entry.
        index: LogIndex,
    },
    /// A leader says that something is committed here that this log does not
    /// have. Either the peer lies, or the disk of this server lost entries that
    /// it had acknowledged: this server neither votes nor campaigns any more.
    #[error(
        "the leader knows {commit} to be on this node, but its log ends at {last}: \
         acknowledged entries were lost, or the peer lies; remove this node and add it anew"
    )]
    CommitBeyondLog {
        /// The commit index in the message.
        commit: LogIndex,
        /// The end of the log here.
        last: LogIndex,
    },
    /// A follower acknowledges what this leader does not have. (Only with
    /// [`Protections::On`](crate::Protections).)
    #[error("the answer acknowledges {index}, but the log ends at {last}")]
    AckBeyondLog {
        /// The index acknowledged.
        index: LogIndex,
        /// The end of the log here.
        last: LogIndex,
    },
    /// A heartbeat's answer carries a read round that was never started.
    #[error("the heartbeat's answer carries an unknown read round")]
    UnknownReadRound,
    /// A term or index that no cluster reaches: counting on from it could
    /// overflow.
    #[error("the message has a term or an index that no cluster reaches")]
    OutOfRange,
    /// The configuration in a snapshot contradicts itself.
    #[error("the snapshot's configuration is impossible")]
    BadConfState,
    /// A snapshot of nothing. (Only with
    /// [`Protections::On`](crate::Protections).)
    #[error("the snapshot is empty")]
    EmptySnapshot,
}

/// This node cannot go on: its storage failed, now or in an earlier call.
/// [`RawNode::failure`](crate::RawNode::failure) says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped because its storage failed")]
pub struct Halted;

/// A message was not taken. Unless it is [`StepError::Halted`], nothing has
/// changed here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// An answer from a server that is not in the configuration.
    #[error("node {0} is not in the configuration, so its answer does not count")]
    PeerNotFound(NodeId),
    /// The peer sent something that no correct peer sends.
    #[error("node {from} misbehaved: {why}")]
    Misbehaved {
        /// The peer.
        from: NodeId,
        /// What it did.
        why: Misbehaved,
    },
    /// A forwarded proposal was refused.
    #[error("a forwarded proposal was refused: {0}")]
    Propose(#[from] ProposeError),
    /// This node cannot go on.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// A Ready cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// The Ready before has not been carried out: call
    /// [`advance`](crate::RawNode::advance) first.
    #[error("the Ready taken before was not advanced; call advance() first")]
    Outstanding,
    /// This node cannot go on.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// A node cannot be made from this configuration and storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration's choices do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The storage cannot be read.
    #[error("the storage cannot be read: {0}")]
    Storage(#[from] StorageError),
    /// The stored configuration contradicts itself.
    #[error("the stored configuration is impossible: {0}")]
    ConfState(ConfChangeError),
    /// The stored commit index is not in the stored log: entries were lost.
    #[error("the stored commit index {commit} is not in the log, which has {first} to {last}")]
    CommitOutOfRange {
        /// The stored commit index.
        commit: LogIndex,
        /// The first index of the log.
        first: LogIndex,
        /// The last index of the log.
        last: LogIndex,
    },
    /// The stored term or log ends where no cluster gets to.
    #[error("the stored term {term} or last index {last} is one that no cluster reaches")]
    OutOfRange {
        /// The stored term.
        term: Term,
        /// The last index of the log.
        last: LogIndex,
    },
    /// The stored term is earlier than that of the last entry: the hard state
    /// was lost, and with it perhaps a vote. (Only with
    /// [`Protections::On`](crate::Protections).)
    #[error("the stored term {term} is earlier than the last entry's, {last}; a vote may be lost")]
    TermBehindLog {
        /// The stored term.
        term: Term,
        /// The term of the last entry.
        last: Term,
    },
    /// `Config::applied` is not between the start of the log and the commit
    /// index.
    #[error("{applied} cannot be applied: the log starts at {first} and is committed to {commit}")]
    AppliedOutOfRange {
        /// What the state machine says it has applied.
        applied: LogIndex,
        /// The first index of the log.
        first: LogIndex,
        /// The stored commit index.
        commit: LogIndex,
    },
}

/// A configuration change that a leader replaced by an empty entry, as etcd
/// does, because it can tell that it is impossible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeRefusal {
    /// An earlier change may not be applied yet.
    #[error("an earlier change at {pending} is not applied yet (applied: {applied})")]
    Pending {
        /// Where the earlier change may be.
        pending: LogIndex,
        /// How far this leader has applied.
        applied: LogIndex,
    },
    /// The joint configuration must be left first.
    #[error("the configuration is joint; leave it first")]
    MustLeaveJoint,
    /// There is no joint configuration to leave.
    #[error("the configuration is not joint, so it cannot be left")]
    NotJoint,
}

/// A read was not taken. Nothing has changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadIndexError {
    /// Nobody leads as far as this server knows. Try again after an election.
    #[error("no leader is known; try again after the election")]
    NoLeader,
    /// This node cannot go on.
    #[error(transparent)]
    Halted(#[from] Halted),
}
