//! # Hard and soft state
//!
//! What must survive a restart (Raft Fig. 2, "persistent state"), and what is
//! only worth knowing while the process runs.

use super::{LogIndex, NodeId, Term};

/// What a server must have on disk before it answers anybody (Raft §5.2, §5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this server has seen.
    pub term: Term,
    /// The candidate that got this server's vote in `term`.
    pub vote: Option<NodeId>,
    /// The highest index known to be committed. Losing it costs time only.
    pub commit: LogIndex,
}

impl HardState {
    /// The state of a server that has never run.
    pub const EMPTY: Self = Self {
        term: Term::ZERO,
        vote: None,
        commit: LogIndex::ZERO,
    };

    /// Whether nothing has been recorded yet.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }
}

/// What a server is at the moment; never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// The leader of the current term, as far as this server knows.
    pub leader: Option<NodeId>,
    /// This server's role.
    pub role: RoleKind,
}

/// The role of a server (Raft Fig. 4, and the pre-vote phase of thesis §9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Answers leaders and candidates.
    #[default]
    Follower,
    /// Asks whether an election could be won, without raising its term.
    PreCandidate,
    /// Asks for votes in a new term.
    Candidate,
    /// Replicates its log to everybody else.
    Leader,
}
