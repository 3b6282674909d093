//! # Candidate
//!
//! Counts the votes of one round: the pre-vote, which raises no term, or the
//! vote itself.
//!
//! - Owns: the round and the votes in it.
//! - Reads: the configuration.
//! - Source: Raft §5.2, thesis §9.6; etcd `stepCandidate`, `poll`.

use alloc::vec::Vec;

use crate::common::Common;
use crate::quorum::VoteResult;
use crate::role::Next;
use crate::types::{Body, Message, NodeId, Round, VoteResponse};

#[derive(Debug)]
pub(crate) struct Candidate {
    round: Round,
    /// The first vote of each voter; a repeated one does not count again.
    votes: Vec<(NodeId, VoteResponse)>,
}

impl Candidate {
    pub(crate) fn in_round(round: Round) -> Self {
        Self {
            round,
            votes: Vec::new(),
        }
    }

    pub(crate) fn round(&self) -> Round {
        self.round
    }

    /// Only votes of the current round count: late answers to the pre-vote may
    /// still come in while the vote is on. Everything else that concerns a
    /// candidate has made it a follower at the gate.
    pub(crate) fn on_message<S>(&mut self, common: &Common<S>, message: &Message) -> Next {
        match &message.body {
            Body::VoteResponse { round, vote } if *round == self.round => {
                self.on_vote(common, message.from, *vote)
            }
            _ => Next::Stay,
        }
    }

    /// Counts one vote.
    pub(crate) fn on_vote<S>(
        &mut self,
        common: &Common<S>,
        from: NodeId,
        vote: VoteResponse,
    ) -> Next {
        if !self.votes.iter().any(|(voter, _)| *voter == from) {
            self.votes.push((from, vote));
        }
        let result = common.membership.voters().vote_result(|id| {
            self.votes
                .iter()
                .find(|(voter, _)| *voter == id)
                .map(|(_, vote)| *vote == VoteResponse::Granted)
        });
        match (result, self.round) {
            (VoteResult::Pending, _) => Next::Stay,
            (VoteResult::Won, Round::PreVote) => Next::RequestVotes,
            (VoteResult::Won, Round::Vote) => Next::Lead,
            (VoteResult::Lost, _) => Next::StepDown,
        }
    }
}
