//! # Violations
//!
//! What must not happen, each with who did it, where and what stands against it.

use raft_core::{EntryId, HardState, LogIndex, NodeId, Term};

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Election Safety.
    #[error("election safety: {first} and {second} both lead term {term}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// Who was seen first.
        first: NodeId,
        /// Who was seen later.
        second: NodeId,
    },
    /// One vote per term.
    #[error("{voter} voted for {first} and for {second} in term {term}")]
    TwoVotes {
        /// Who voted.
        voter: NodeId,
        /// The term.
        term: Term,
        /// For whom first.
        first: NodeId,
        /// For whom later.
        second: NodeId,
    },
    /// Log Matching.
    #[error("log matching: {node} has another entry {id:?}, or another before it, than was seen")]
    LogMatching {
        /// Whose log.
        node: NodeId,
        /// Which entry.
        id: EntryId,
    },
    /// State Machine Safety, on the log.
    #[error("state machine safety: {node} committed {second:?} where {first:?} was committed")]
    TwoCommitted {
        /// Who committed the second.
        node: NodeId,
        /// What was committed first.
        first: EntryId,
        /// What was committed later.
        second: EntryId,
    },
    /// A commit index behind the end of the log.
    #[error("{node} committed up to {index}, which its log does not have")]
    CommitWithoutEntry {
        /// Who.
        node: NodeId,
        /// Which index.
        index: LogIndex,
    },
    /// Leader Completeness.
    #[error("leader completeness: {leader} leads term {term} without {missing:?}")]
    LeaderIncomplete {
        /// The leader.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// What was committed before.
        missing: EntryId,
    },
    /// Committed without a quorum of disks.
    #[error("{id:?} is committed and no quorum has it on disk")]
    NotDurable {
        /// The entry.
        id: EntryId,
    },
    /// State Machine Safety, on the state.
    #[error("{node} computed another state or configuration at {index}")]
    OtherState {
        /// Who.
        node: NodeId,
        /// After which entry.
        index: LogIndex,
    },
    /// Applied what is not committed.
    #[error("{node} applied up to {index}, which nobody knows to be committed")]
    AppliedUncommitted {
        /// Who.
        node: NodeId,
        /// What it applied.
        index: LogIndex,
    },
    /// A number that only grows became smaller.
    #[error("the {what} of {node} went back from {before} to {after}")]
    WentBack {
        /// Who.
        node: NodeId,
        /// Which number.
        what: &'static str,
        /// What it was.
        before: u64,
        /// What it is.
        after: u64,
    },
    /// A restart that does not begin with what is on disk.
    #[error("{node} restarted with {found:?} where {stored:?} is on disk")]
    RestartedOtherwise {
        /// Who.
        node: NodeId,
        /// What it began with.
        found: HardState,
        /// What the disk has.
        stored: HardState,
    },
    /// A read that does not see what was committed when it began.
    #[error("{node} may read at {index}, but {needed} was committed when the read began")]
    StaleRead {
        /// Who.
        node: NodeId,
        /// The index it was given.
        index: LogIndex,
        /// The index it needs.
        needed: LogIndex,
    },
    /// A read that nobody began.
    #[error("{node} may make a read that nobody asked for")]
    UnknownRead {
        /// Who.
        node: NodeId,
    },
    /// A leader counts on what a follower does not have.
    #[error("{leader} takes {follower} to have everything up to {matched}, but its disk has not")]
    MatchedTooMuch {
        /// The leader.
        leader: NodeId,
        /// The follower.
        follower: NodeId,
        /// What the leader believes.
        matched: LogIndex,
    },
}
