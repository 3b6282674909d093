//! # Invariants
//!
//! What holds of every node after every step, each by the name that it has when
//! it does not. `check.rs` looks.

use crate::membership::ConfChangeError;
use crate::types::{LogIndex, NodeId, Term};

/// An invariant that does not hold: a bug of this crate, or of the driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenInvariant {
    /// applied <= applying <= committed <= last index.
    #[error("the cursors are out of order: {applied} {applying} {committed} {last}")]
    CursorsOutOfOrder {
        /// The last applied index.
        applied: LogIndex,
        /// The last index handed out to be applied.
        applying: LogIndex,
        /// The commit index.
        committed: LogIndex,
        /// The last index.
        last: LogIndex,
    },
    /// The log starts behind what is committed.
    #[error("the log starts at {first}, but only {committed} is committed")]
    CommittedBeforeLog {
        /// The first index.
        first: LogIndex,
        /// The commit index.
        committed: LogIndex,
    },
    /// The marks of the unstable log are out of order.
    #[error("the unstable log is [{offset}, {next}) and in progress up to {in_progress}")]
    UnstableOutOfOrder {
        /// The first unstable index.
        offset: LogIndex,
        /// The index after the last that is being written.
        in_progress: LogIndex,
        /// The index after the last entry.
        next: LogIndex,
    },
    /// The unstable entries have a gap, or begin elsewhere than they say.
    #[error("the unstable entries from {offset} on are not consecutive")]
    UnstableNotConsecutive {
        /// The first unstable index.
        offset: LogIndex,
    },
    /// Unstable entries begin before the snapshot that is before them.
    #[error("the unstable log starts at {offset}, but a snapshot of {snapshot} is before it")]
    UnstableBeforeSnapshot {
        /// The first unstable index.
        offset: LogIndex,
        /// The index of the snapshot.
        snapshot: LogIndex,
    },
    /// The last entry has a later term than the node. (Only checked with
    /// [`Protections::On`](crate::Protections::On).)
    #[error("the last entry is of term {last}, but the node is in term {term}")]
    LogAheadOfTerm {
        /// The term of the last entry.
        last: Term,
        /// The term of the node.
        term: Term,
    },
    /// The active configuration contradicts itself.
    #[error("the configuration is broken: {0}")]
    Membership(ConfChangeError),
    /// The members are not sorted, or one is named twice.
    #[error("the members are not sorted and different")]
    MembersOutOfOrder,
    /// A candidate that asks for votes did not vote for itself.
    #[error("a candidate has not voted for itself")]
    CandidateWithoutOwnVote,
    /// The leader replicates to others than the members.
    #[error("the leader does not replicate to exactly the members")]
    FollowersAreNotMembers,
    /// matched < next, and matched is in the leader's log. (Only checked with
    /// [`Protections::On`](crate::Protections::On): otherwise a follower that
    /// acknowledges more than the leader has is believed, and so it stays when the
    /// log has grown.)
    #[error("the progress of {id} is broken: matched {matched}, next {next}, last {last}")]
    Progress {
        /// The follower.
        id: NodeId,
        /// Its last matching index.
        matched: LogIndex,
        /// The next index to send to it.
        next: LogIndex,
        /// The last index of the leader's log.
        last: LogIndex,
    },
    /// A follower's window is over its limit.
    #[error("{id} has more messages in flight than allowed")]
    InflightsOverLimit {
        /// The follower.
        id: NodeId,
    },
    /// A follower's window has lost count of its bytes or the order of its
    /// messages.
    #[error("the window of {id} has lost count")]
    InflightsOutOfOrder {
        /// The follower.
        id: NodeId,
    },
    /// A leader did not vote for itself. (Only checked with
    /// [`Protections::On`](crate::Protections::On).)
    #[error("the leader of term {term} has not voted for itself")]
    LeaderWithoutOwnVote {
        /// The leader's term.
        term: Term,
    },
    /// A leader has a last entry of another term: it did not append its no-op.
    #[error("a leader of term {term} has no entry of its term at the end of its log")]
    LeaderWithoutOwnEntry {
        /// The leader's term.
        term: Term,
    },
}
