//! The invariants must be able to fail: each test breaks a sound node in one
//! place.

use alloc::vec;

use bytes::Bytes;

use super::*;
use crate::config::{Config, Protections};
use crate::membership::Membership;
use crate::memory_storage::MemoryStorage;
use crate::progress::Followers;
use crate::role::Candidate;
use crate::types::{
    AppendResponse, Body, ConfState, Entries, Entry, HardState, LogIndex, Message, NodeId,
    Proposal, Proposals, VoteResponse,
};

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn index(number: u64) -> LogIndex {
    LogIndex::new(number)
}

fn storage(first: u64, last: u64) -> MemoryStorage {
    let mut storage = MemoryStorage::with_conf_state(ConfState::of_voters([1, 2, 3].map(id)));
    let batch = (1..=last).map(|at| Entry::normal(Term::new(2), index(at), Bytes::new()));
    let entries = Entries::from_batch(batch.collect()).unwrap();
    storage.append(entries).unwrap();
    if first > 1 {
        storage.compact(index(first - 1)).unwrap();
    }
    storage.set_hard_state(HardState {
        term: Term::new(2),
        vote: None,
        commit: index(4),
    });
    storage
}

/// One of three voters, in term 2, with five entries of which four are committed.
fn follower() -> Raft<MemoryStorage> {
    let config = Config {
        pre_vote: false,
        applied: index(3),
        ..Config::protected(id(1))
    };
    let raft = Raft::new(config, storage(1, 5)).unwrap();
    assert_eq!(check(&raft), Ok(()));
    raft
}

fn hear(raft: &mut Raft<MemoryStorage>, from: u64, body: Body) {
    let mut message = Message {
        to: id(1),
        from: id(from),
        term: raft.common.term,
        body,
    };
    raft.step(&mut message).unwrap();
}

/// The same one leading in term 3, with a follower that has everything and to
/// whom two messages are on their way.
fn leader() -> Raft<MemoryStorage> {
    let mut raft = follower();
    raft.campaign().unwrap();
    for from in [2, 3] {
        let vote = VoteResponse::Granted;
        let round = Round::Vote;
        hear(&mut raft, from, Body::VoteResponse { round, vote });
    }
    let matched = raft.common.log.last_index();
    let accepted = AppendResponse::Accepted { matched };
    hear(&mut raft, 2, Body::AppendResponse(accepted));
    for _ in 0..2 {
        let proposal = Proposal::normal(Bytes::from_static(b"x"));
        raft.propose(Proposals::from_buf([proposal])).unwrap();
    }
    assert_eq!(check(&raft), Ok(()));
    raft
}

fn followers(raft: &mut Raft<MemoryStorage>) -> &mut Followers {
    match &mut raft.role {
        Role::Leader(leader) => leader.followers_mut(),
        other => panic!("it leads: {other:?}"),
    }
}

#[test]
fn a_log_that_ends_before_what_is_committed_is_noticed() {
    let mut raft = follower();
    *raft.common.log.storage_mut() = storage(1, 3);
    let broken = BrokenInvariant::CursorsOutOfOrder {
        applied: index(3),
        applying: index(3),
        committed: index(4),
        last: index(3),
    };
    assert_eq!(check(&raft), Err(broken));
}

#[test]
fn a_log_that_begins_behind_what_is_committed_is_noticed() {
    let mut raft = follower();
    *raft.common.log.storage_mut() = storage(7, 9);
    let broken = BrokenInvariant::CommittedBeforeLog {
        first: index(7),
        committed: index(4),
    };
    assert_eq!(check(&raft), Err(broken));
}

#[test]
fn an_entry_of_a_later_term_than_the_node_is_noticed() {
    let mut raft = follower();
    raft.common.term = Term::new(1);
    let broken = BrokenInvariant::LogAheadOfTerm {
        last: Term::new(2),
        term: Term::new(1),
    };
    assert_eq!(check(&raft), Err(broken));
    raft.common.config = Config::new(id(1));
    assert_eq!(check(&raft), Ok(()), "etcd lets it be");
}

#[test]
fn a_configuration_that_contradicts_itself_is_noticed() {
    let voters = || ConfState::of_voters([1, 2, 3].map(id));
    let learner_votes = ConfState {
        learners: vec![id(3)],
        ..voters()
    };
    let staged_without_joint = ConfState {
        learners_next: vec![id(3)],
        ..voters()
    };
    let leaves_nothing = ConfState {
        auto_leave: true,
        ..voters()
    };
    for state in [learner_votes, staged_without_joint, leaves_nothing] {
        let mut raft = follower();
        raft.common.membership = Membership::unchecked(&state);
        let checked = check(&raft);
        assert!(
            matches!(checked, Err(BrokenInvariant::Membership(_))),
            "{state:?}: {checked:?}"
        );
    }
}

#[test]
fn members_that_are_not_sorted_or_named_twice_are_noticed() {
    for learners in [vec![id(6), id(5)], vec![id(5), id(5)]] {
        let mut raft = follower();
        raft.common.membership = Membership::unchecked(&ConfState {
            learners,
            ..ConfState::of_voters([1, 2, 3].map(id))
        });
        assert_eq!(check(&raft), Err(BrokenInvariant::MembersOutOfOrder));
    }
}

#[test]
fn a_candidate_without_its_own_vote_is_noticed() {
    let mut raft = follower();
    raft.role = Role::Candidate(Candidate::in_round(Round::PreVote));
    assert_eq!(check(&raft), Ok(()), "a pre-vote is no vote");
    for vote in [None, Some(id(2))] {
        raft.role = Role::Candidate(Candidate::in_round(Round::Vote));
        raft.common.vote = vote;
        assert_eq!(check(&raft), Err(BrokenInvariant::CandidateWithoutOwnVote));
    }
    raft.common.vote = Some(id(1));
    assert_eq!(check(&raft), Ok(()));
}

#[test]
fn a_leader_without_its_own_vote_or_entry_is_noticed() {
    let mut raft = leader();
    let term = raft.common.term;
    raft.common.vote = Some(id(2));
    let broken = BrokenInvariant::LeaderWithoutOwnVote { term };
    assert_eq!(check(&raft), Err(broken));
    raft.common.vote = Some(id(1));
    raft.common.term = term.next();
    let broken = BrokenInvariant::LeaderWithoutOwnEntry { term: term.next() };
    assert_eq!(check(&raft), Err(broken));
}

#[test]
fn a_leader_that_replicates_to_others_than_the_members_is_noticed() {
    let one_less = ConfState::of_voters([1, 2].map(id));
    let one_more = ConfState::of_voters([1, 2, 3, 4].map(id));
    let a_learner_more = ConfState {
        learners: vec![id(4)],
        ..ConfState::of_voters([1, 2, 3].map(id))
    };
    for state in [one_less, one_more, a_learner_more] {
        let mut raft = leader();
        raft.common.membership = Membership::restore(&state).unwrap();
        assert_eq!(
            check(&raft),
            Err(BrokenInvariant::FollowersAreNotMembers),
            "{state:?}"
        );
    }
}

#[test]
fn a_follower_that_has_more_than_the_leader_is_noticed() {
    let mut raft = leader();
    let last = raft.common.log.last_index();
    let progress = followers(&mut raft).progress_mut(id(2)).unwrap();
    assert!(progress.acknowledge(last.next()));
    let (matched, next) = (last.next(), last.plus(2));
    let broken = BrokenInvariant::Progress {
        id: id(2),
        matched,
        next,
        last,
    };
    assert_eq!(check(&raft), Err(broken));
    raft.common.config.protections = Protections::Off;
    assert_eq!(check(&raft), Ok(()), "etcd believes it");
}

#[test]
fn a_window_that_is_over_its_limit_is_noticed() {
    let mut raft = leader();
    raft.common.config.inflight_messages_max = 1;
    let broken = BrokenInvariant::InflightsOverLimit { id: id(2) };
    assert_eq!(check(&raft), Err(broken));
}

#[test]
fn a_window_whose_messages_do_not_ascend_is_noticed() {
    let mut raft = leader();
    let progress = followers(&mut raft).progress_mut(id(2)).unwrap();
    // Nothing comes behind the last of all numbers.
    progress.sent_entries(u64::MAX, 0);
    progress.sent_entries(1, 0);
    let broken = BrokenInvariant::InflightsOutOfOrder { id: id(2) };
    assert_eq!(check(&raft), Err(broken));
}
