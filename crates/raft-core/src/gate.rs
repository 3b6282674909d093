//! # The gate
//!
//! What a message means for this server, before any role sees it: refused,
//! dropped, answered at once, or passed on, perhaps to a server that has become
//! a follower first. Pure: it changes nothing, so what it refuses has changed
//! nothing.
//!
//! - Owns: nothing.
//! - Reads: term, role, log, configuration.
//! - Source: Raft §5.1; thesis §4.2.3, §6.2, §9.6; etcd `Step`.

use core::cmp::Ordering;

use crate::common::Common;
use crate::error::Misbehaved;
use crate::membership::Membership;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{
    AppendResponse, Body, Entries, EntryId, EntryType, LogIndex, Message, NodeId, Round, Term,
    VoteResponse,
};

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is for the current role.
    Pass,
    /// It is for the follower of `leader` in `term`, which this server becomes.
    Follow { term: Term, leader: Option<NodeId> },
    /// It is old, or comes too early.
    Drop,
    /// It is old, and the sender should hear of the current term.
    Reply(Body),
}

/// Refuses what no correct peer sends.
pub(crate) fn validate<S: Storage>(
    common: &Common<S>,
    role: &Role,
    message: &Message,
) -> Result<(), Misbehaved> {
    if message.to != common.id() {
        return Err(Misbehaved::NotForUs { to: message.to });
    }
    let is_protected = common.config.is_protected();
    match (message.body.is_termless(), message.term) {
        (true, Term::ZERO) => {}
        (true, term) => return Err(Misbehaved::UnexpectedTerm { term }),
        (false, Term::ZERO) if is_protected => return Err(Misbehaved::TermZero),
        (false, _) => {}
    }
    if is_out_of_range(message) {
        return Err(Misbehaved::OutOfRange);
    }
    if message.body.is_response() && message.from == common.id() {
        return Err(Misbehaved::FromSelf);
    }
    // What an old message says about the log is not compared with today's.
    let is_current = has_no_term(message) || message.term == common.term;
    let is_old = !is_current && message.term < common.term;
    match &message.body {
        Body::Propose { proposals } => {
            if proposals.is_empty() {
                return Err(Misbehaved::EmptyProposal);
            }
            for proposal in proposals {
                if proposal.entry_type != EntryType::Normal {
                    proposal
                        .conf_change()
                        .map_err(Misbehaved::MalformedConfChange)?;
                }
            }
            Ok(())
        }
        Body::Append { prev, entries, .. } => {
            validate_indexes(*prev, entries)?;
            if is_protected {
                validate_terms(message.term, *prev, entries)?;
            }
            Ok(())
        }
        Body::Snapshot(snapshot) => {
            if is_protected && snapshot.is_empty() {
                return Err(Misbehaved::EmptySnapshot);
            }
            if is_protected && snapshot.metadata.term > message.term {
                return Err(Misbehaved::EntryTermOutOfOrder {
                    index: snapshot.metadata.index,
                });
            }
            match Membership::restore(&snapshot.metadata.conf_state) {
                Ok(_) => Ok(()),
                Err(_) => Err(Misbehaved::BadConfState),
            }
        }
        Body::Heartbeat { commit, .. } if !is_old => {
            let last = common.log.last_index();
            if *commit > last && *commit > common.log.committed() {
                return Err(Misbehaved::CommitBeyondLog {
                    commit: *commit,
                    last,
                });
            }
            Ok(())
        }
        Body::AppendResponse(response) if is_current && is_protected => {
            validate_ack(common, role, *response)
        }
        Body::HeartbeatResponse { context } if is_current => match role {
            Role::Leader(leader) if !leader.knows_read_round(context) => {
                Err(Misbehaved::UnknownReadRound)
            }
            _ => Ok(()),
        },
        Body::AppendResponse(_)
        | Body::RequestVote { .. }
        | Body::VoteResponse { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatResponse { .. }
        | Body::TransferLeader
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::ReadIndexResponse { .. }
        | Body::ForgetLeader => Ok(()),
    }
}

/// Whether the message has no term of its own, or should have one and does not:
/// then it is taken for one of the current term.
fn has_no_term(message: &Message) -> bool {
    message.term == Term::ZERO
}

/// Whether counting on from what the message says could overflow.
fn is_out_of_range(message: &Message) -> bool {
    let last = match &message.body {
        Body::Append { prev, entries, .. } => prev.index.plus(entries.count()),
        Body::Snapshot(snapshot) => snapshot.metadata.index,
        _ => LogIndex::ZERO,
    };
    message.term > Term::MAX || last > LogIndex::MAX
}

/// A leader's entries follow `prev`, without gaps (which [`Entries`] guarantees).
fn validate_indexes(prev: EntryId, entries: &Entries) -> Result<(), Misbehaved> {
    let expected = prev.index.next();
    match entries.first_index() {
        Some(first) if first != expected => Err(Misbehaved::EntriesNotAfterPrev { expected }),
        _ => Ok(()),
    }
}

/// The terms of a leader's entries do not descend, and none is later than the
/// leader's.
fn validate_terms(term: Term, prev: EntryId, entries: &Entries) -> Result<(), Misbehaved> {
    let mut earlier = prev.term.max(Term::new(1));
    for run in entries.runs() {
        if let Some(term) = run.single_term() {
            if term < earlier {
                let index = run.first_index();
                return Err(Misbehaved::EntryTermOutOfOrder { index });
            }
            earlier = term;
            continue;
        }
        for entry in run.entries() {
            if entry.term() < earlier {
                let index = entry.index();
                return Err(Misbehaved::EntryTermOutOfOrder { index });
            }
            earlier = entry.term();
        }
    }
    if earlier > term {
        let index = entries.last_index().unwrap_or(prev.index);
        return Err(Misbehaved::EntryTermOutOfOrder { index });
    }
    Ok(())
}

fn validate_ack<S: Storage>(
    common: &Common<S>,
    role: &Role,
    response: AppendResponse,
) -> Result<(), Misbehaved> {
    let last = common.log.last_index();
    match (role, response) {
        (Role::Leader(_), AppendResponse::Accepted { matched }) if matched > last => {
            Err(Misbehaved::AckBeyondLog {
                index: matched,
                last,
            })
        }
        _ => Ok(()),
    }
}

/// Compares terms (Raft §5.1), and decides what comes of it.
pub(crate) fn judge<S: Storage>(common: &Common<S>, role: &Role, message: &Message) -> Verdict {
    if has_no_term(message) {
        return judge_current(role, message);
    }
    match message.term.cmp(&common.term) {
        Ordering::Less => judge_earlier(common, message),
        Ordering::Greater => judge_later(common, role, message),
        Ordering::Equal => judge_current(role, message),
    }
}

fn judge_current(role: &Role, message: &Message) -> Verdict {
    // The term has a leader: a candidate has lost.
    if message.body.is_from_leader() && matches!(role, Role::Candidate(_)) {
        Verdict::Follow {
            term: message.term,
            leader: Some(message.from),
        }
    } else {
        Verdict::Pass
    }
}

fn judge_later<S: Storage>(common: &Common<S>, role: &Role, message: &Message) -> Verdict {
    match &message.body {
        Body::RequestVote {
            round, transfer, ..
        } => {
            // While a leader is heard of nobody can be elected over it, unless
            // it says so itself (thesis §4.2.3).
            let in_lease = common.config.check_quorum
                && role.leader(common.id()).is_some()
                && !common.timer.is_past_election_timeout();
            if in_lease && !transfer {
                return Verdict::Drop;
            }
            match round {
                // A pre-vote asks about a term that has not begun.
                Round::PreVote => Verdict::Pass,
                Round::Vote => Verdict::Follow {
                    term: message.term,
                    leader: None,
                },
            }
        }
        // A granted pre-vote carries the term that was asked about.
        Body::VoteResponse {
            round: Round::PreVote,
            vote: VoteResponse::Granted,
        } => Verdict::Pass,
        body => Verdict::Follow {
            term: message.term,
            leader: body.is_from_leader().then_some(message.from),
        },
    }
}

fn judge_earlier<S: Storage>(common: &Common<S>, message: &Message) -> Verdict {
    match &message.body {
        // An old leader hears no votes while its followers are in its lease, so
        // it has to hear of the later term in some other way.
        Body::Heartbeat { .. } | Body::Append { .. }
            if common.config.check_quorum || common.config.pre_vote =>
        {
            Verdict::Reply(Body::AppendResponse(AppendResponse::Accepted {
                matched: LogIndex::ZERO,
            }))
        }
        // A candidate with a later term but a shorter log would otherwise never
        // be heard, nor hear, once pre-votes are switched on.
        Body::RequestVote {
            round: Round::PreVote,
            ..
        } => Verdict::Reply(Body::VoteResponse {
            round: Round::PreVote,
            vote: VoteResponse::Rejected,
        }),
        _ => Verdict::Drop,
    }
}
