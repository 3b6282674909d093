//! # What every role has
//!
//! The state that Figure 2 of the paper lists for all servers, borrowed apart
//! from the role's own.
//!
//! - Owns: term, vote, log, configuration, election timer, outbox.
//! - Source: Raft Fig. 2; etcd `raft` (the fields that outlive a role).

use alloc::vec::Vec;

use crate::config::Config;
use crate::log::RaftLog;
use crate::membership::Membership;
use crate::outbox::Outbox;
use crate::ready::{OwnAnswer, ReadState};
use crate::timer::Timer;
use crate::types::{
    AppendResponse, Body, Entries, EntryId, HardState, LogIndex, Message, NodeId, Round, Term,
};

/// A read that waits for the leader's first commit.
#[derive(Clone, Debug)]
pub(crate) struct ReadRequest {
    /// Who asked; `None` if it was this server's own user.
    pub(crate) from: Option<NodeId>,
    pub(crate) context: bytes::Bytes,
}

/// Evidence that the disk of this server lost what it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntries {
    /// What a leader knew to be here.
    pub acknowledged: LogIndex,
    /// Where the log ended instead.
    pub last: LogIndex,
}

/// Whether this server campaigns when its election timeout has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidacy {
    /// It does.
    #[default]
    Allowed,
    /// It votes and follows, and leaves leading to others: its disk or its
    /// machine is not fit for it now.
    Withheld,
}

#[derive(Debug)]
pub(crate) struct Common<S> {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: RaftLog<S>,
    pub(crate) membership: Membership,
    pub(crate) timer: Timer,
    pub(crate) outbox: Outbox,
    /// Reads that came before the first commit of a term. Like etcd's they
    /// outlive the loss of leadership, and are answered if it comes back.
    pub(crate) deferred_reads: Vec<ReadRequest>,
    /// Set once acknowledged entries are known to be lost: no more votes.
    pub(crate) quarantine: Option<LostEntries>,
    pub(crate) candidacy: Candidacy,
}

impl<S> Common<S> {
    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    /// Sends in the name of this server and of its term.
    #[expect(
        clippy::inline_always,
        reason = "built where it is sent, a message is not moved in pieces"
    )]
    #[inline(always)]
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.send_as(self.id(), to, body);
    }

    /// Sends entries that follow `prev`.
    #[inline]
    pub(crate) fn send_append(
        &mut self,
        to: NodeId,
        prev: EntryId,
        entries: Entries,
        commit: LogIndex,
    ) {
        let (from, term) = (self.id(), self.term);
        self.outbox.send_append(|| Message {
            to,
            from,
            term,
            body: Body::Append {
                prev,
                entries,
                commit,
            },
        });
    }

    /// Acknowledges what a leader sent, once it is durable.
    #[inline]
    pub(crate) fn send_acceptance(&mut self, to: NodeId, matched: LogIndex) {
        let (from, term) = (self.id(), self.term);
        self.outbox.send_acceptance(|| Message {
            to,
            from,
            term,
            body: Body::AppendResponse(AppendResponse::Accepted { matched }),
        });
    }

    /// Passes on what `from` said, in this server's term.
    #[expect(
        clippy::inline_always,
        reason = "built where it is sent, a message is not moved in pieces"
    )]
    #[inline(always)]
    pub(crate) fn send_as(&mut self, from: NodeId, to: NodeId, body: Body) {
        let term = if body.is_termless() {
            Term::ZERO
        } else {
            self.term
        };
        self.send_in(term, from, to, body);
    }

    /// Sends in the name of this server, in a term that the message is about.
    pub(crate) fn send_in_term(&mut self, term: Term, to: NodeId, body: Body) {
        self.send_in(term, self.id(), to, body);
    }

    #[expect(
        clippy::inline_always,
        reason = "built where it is sent, a message is not moved in pieces"
    )]
    #[inline(always)]
    fn send_in(&mut self, term: Term, from: NodeId, to: NodeId, body: Body) {
        self.outbox.send(Message {
            to,
            from,
            term,
            body,
        });
    }

    /// A leader acknowledges its own entries once they are durable.
    pub(crate) fn acknowledge_own_append(&mut self, index: LogIndex) {
        self.outbox.answer_self(OwnAnswer::Append {
            term: self.term,
            index,
        });
    }

    /// A candidate votes for itself once its vote is durable.
    pub(crate) fn vote_for_self(&mut self, round: Round, term: Term) {
        self.outbox.answer_self(OwnAnswer::Vote { round, term });
    }

    pub(crate) fn read_done(&mut self, index: LogIndex, context: bytes::Bytes) {
        self.outbox.read_done(ReadState { index, context });
    }

    pub(crate) fn hard_state(&self) -> HardState
    where
        S: crate::storage::Storage,
    {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.committed(),
        }
    }
}
