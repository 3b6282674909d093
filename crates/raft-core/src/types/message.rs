//! # Messages between servers
//!
//! Only what crosses the network. etcd's nine local message types are methods
//! of [`RawNode`](crate::RawNode) here, so no peer can even express them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Entries, EntryId, LogIndex, NodeId, Proposal, Snapshot, Term};

/// A message from one server to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who is to get it.
    pub to: NodeId,
    /// Who speaks. For [`Body::TransferLeader`] this is the server that is to
    /// become leader, and for a forwarded [`Body::Propose`] or
    /// [`Body::ReadIndex`] the server that asked first, as in etcd.
    pub from: NodeId,
    /// The term of the sender, or the one that it campaigns for. Zero for
    /// [`Body::Propose`] and [`Body::ReadIndex`], which belong to no term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Entries that somebody wants appended, on their way to the leader
    /// (etcd `MsgProp`).
    Propose {
        /// The entries, not yet numbered.
        proposals: Vec<Proposal>,
    },
    /// Replicates entries, or with none says how far the log is committed
    /// (`AppendEntries`, Raft §5.3; etcd `MsgApp`).
    Append {
        /// The entry directly before `entries`.
        prev: EntryId,
        /// New entries, starting at `prev.index + 1`.
        entries: Entries,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// Answers `Append` and `Snapshot` (etcd `MsgAppResp`).
    AppendResponse(AppendResponse),
    /// Asks for a vote (`RequestVote`, Raft §5.2; etcd `MsgVote`, `MsgPreVote`).
    RequestVote {
        /// A vote, or only the promise of one.
        round: Round,
        /// The last entry of the candidate's log.
        last: EntryId,
        /// Whether the leader told the candidate to campaign, so that the
        /// leader's lease does not protect it (thesis §3.10, §4.2.3).
        transfer: bool,
    },
    /// Answers `RequestVote` (etcd `MsgVoteResp`, `MsgPreVoteResp`).
    VoteResponse {
        /// Which round it answers.
        round: Round,
        /// Whether the vote was given.
        vote: VoteResponse,
    },
    /// Replaces the log of a follower that is too far behind (`InstallSnapshot`,
    /// Raft §7; etcd `MsgSnap`).
    Snapshot(Box<Snapshot>),
    /// Says that the leader is alive, and carries a read round (etcd
    /// `MsgHeartbeat`).
    Heartbeat {
        /// The part of the leader's commit index that this follower is known
        /// to have.
        commit: LogIndex,
        /// Opaque; the answer carries it back.
        context: Bytes,
    },
    /// Answers `Heartbeat`.
    HeartbeatResponse {
        /// What the heartbeat carried.
        context: Bytes,
    },
    /// Asks the leader to hand leadership to `Message::from` (thesis §3.10).
    TransferLeader,
    /// Tells a follower to campaign at once (thesis §3.10).
    TimeoutNow,
    /// Asks the leader for an index at which a read is linearizable (thesis
    /// §6.4).
    ReadIndex {
        /// Opaque; the answer carries it back.
        context: Bytes,
    },
    /// Answers `ReadIndex`.
    ReadIndexResponse {
        /// Reads are linearizable once this index is applied.
        index: LogIndex,
        /// What the request carried.
        context: Bytes,
    },
    /// Tells a follower to forget who leads, so that it votes (etcd
    /// `MsgForgetLeader`).
    ForgetLeader,
}

/// A follower's answer to an append or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResponse {
    /// The log matches the leader's up to here, and is durable.
    Accepted {
        /// The last matching index.
        matched: LogIndex,
    },
    /// The entry before the new ones is missing or of another term.
    Rejected {
        /// The index of that entry.
        at: LogIndex,
        /// The follower's best guess at the last entry on which the logs agree.
        /// Its term is zero where the follower does not know it.
        hint: EntryId,
    },
}

/// The two rounds of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// Would you vote for me? Changes no state (thesis §9.6).
    PreVote,
    /// Vote for me (Raft §5.2).
    Vote,
}

/// The answer of a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResponse {
    /// The candidate has the vote.
    Granted,
    /// The candidate does not get it in this term.
    Rejected,
}

impl Body {
    /// Whether this answers a message, and so only makes sense from a member
    /// of the configuration (etcd `IsResponseMsg`).
    pub const fn is_response(&self) -> bool {
        matches!(
            self,
            Self::AppendResponse(_)
                | Self::VoteResponse { .. }
                | Self::HeartbeatResponse { .. }
                | Self::ReadIndexResponse { .. }
        )
    }

    /// Whether only the leader of a term says this.
    pub const fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Self::Append { .. } | Self::Heartbeat { .. } | Self::Snapshot(_)
        )
    }

    /// Whether messages of this kind belong to no term.
    pub const fn is_termless(&self) -> bool {
        matches!(self, Self::Propose { .. } | Self::ReadIndex { .. })
    }
}
