//! # Roles
//!
//! Follower, candidate, leader (Raft Fig. 4). Each variant owns the state that
//! only exists in that role; a handler asks for the next role and never takes it
//! itself.
//!
//! ```text
//!             times out            wins the pre-vote        wins the vote
//!  Follower ────────────► PreVote ─────────────────► Vote ───────────────► Leader
//!     ▲                      │                         │                      │
//!     └──────────────────────┴─────────────────────────┴──────────────────────┘
//!          a leader, a later term, a lost vote, or no quorum to be heard of
//! ```

pub(crate) mod candidate;
pub(crate) mod follower;
pub(crate) mod leader;

use alloc::boxed::Box;

use crate::types::{NodeId, RoleKind, Round};

pub(crate) use candidate::Candidate;
pub(crate) use follower::Follower;
pub(crate) use leader::Leader;

#[derive(Debug)]
pub(crate) enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Role {
    #[inline]
    pub(crate) fn kind(&self) -> RoleKind {
        match self {
            Self::Follower(_) => RoleKind::Follower,
            Self::Candidate(candidate) => match candidate.round() {
                Round::PreVote => RoleKind::PreCandidate,
                Round::Vote => RoleKind::Candidate,
            },
            Self::Leader(_) => RoleKind::Leader,
        }
    }

    /// Who leads the current term, as far as this server `id` knows.
    #[inline]
    pub(crate) fn leader(&self, id: NodeId) -> Option<NodeId> {
        match self {
            Self::Follower(follower) => follower.leader(),
            Self::Candidate(_) => None,
            Self::Leader(_) => Some(id),
        }
    }
}

/// What a handler wants to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// The same as before.
    Stay,
    /// A follower without a leader, in the same term.
    StepDown,
    /// A candidate, if it may be one.
    Campaign(Campaign),
    /// A candidate that asks for votes: its pre-vote was won.
    RequestVotes,
    /// The leader of the current term.
    Lead,
}

/// How an election is begun (etcd `CampaignType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Campaign {
    /// By asking whether it could be won.
    PreElection,
    /// By asking for votes.
    Election,
    /// By asking for votes in the name of the leader that hands over: voters
    /// disregard its lease.
    Transfer,
}
