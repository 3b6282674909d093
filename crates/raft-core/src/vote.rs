//! # Voting
//!
//! Whether to give a vote. Every role votes by the same rules, learners too: a
//! learner that was promoted may not know it yet, and its vote may be needed to
//! elect the leader that would tell it.
//!
//! - Owns: nothing.
//! - Changes: the vote, and the timer when it is given.
//! - Emits: the answer, which waits for the disk.
//! - Source: Raft §5.2, §5.4.1; thesis §4.2.3, §9.6; etcd `Step` (`MsgVote`).

use crate::common::Common;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, EntryId, NodeId, Round, Term, VoteResponse};

/// Answers a request for a vote in `term`, which is not before the current one.
pub(crate) fn on_request<S: Storage>(
    common: &mut Common<S>,
    leader: Option<NodeId>,
    from: NodeId,
    term: Term,
    round: Round,
    last: EntryId,
) -> Result<(), StorageError> {
    // A repeated request gets the same answer; a first one is free if nobody
    // leads; a pre-vote for a later term binds nobody.
    let free = common.vote == Some(from)
        || (common.vote.is_none() && leader.is_none())
        || (round == Round::PreVote && term > common.term);
    // Who acknowledged entries and lost them would elect a leader without them.
    let trustworthy = common.quarantine.is_none();
    if free && trustworthy && last.is_up_to_date_with(common.log.last_id()?) {
        // In the term of the request: for a pre-vote that is later than ours,
        // and the candidate would take ours for an old message.
        let vote = VoteResponse::Granted;
        common.send_in_term(term, from, Body::VoteResponse { round, vote });
        if round == Round::Vote {
            common.timer.restart();
            common.vote = Some(from);
        }
    } else {
        let vote = VoteResponse::Rejected;
        common.send_in_term(common.term, from, Body::VoteResponse { round, vote });
    }
    Ok(())
}
