//! Terms, votes and elections.

use raft_core::{Body, ConfState, Config, EntryId, MemoryStorage, RoleKind, Round, VoteResponse};

use super::{answer, asynchronous, heartbeat};
use crate::support::{Cluster, Disk, command, id, index, message, plain, term};

/// A leader has voted for itself in its term; an equally good log of somebody
/// else changes nothing about that, also when it is a transfer.
#[test]
fn a_leader_gives_no_second_vote_in_its_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let in_term = cluster.node(1).term().get();
    for transfer in [false, true] {
        let request = Body::RequestVote {
            round: Round::Vote,
            last: EntryId::new(term(in_term), index(99)),
            transfer,
        };
        cluster.deliver(message(2, 1, in_term, request));
        let answers = cluster.take(|m| m.from == id(1) && m.to == id(2));
        let bodies: Vec<_> = answers.into_iter().map(|m| m.body).collect();
        assert_eq!(bodies, [answer(Round::Vote, VoteResponse::Rejected)]);
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
    assert_eq!(cluster.node(1).hard_state().vote, Some(id(1)));
}

/// The own promise of the first round becomes durable when the second round has
/// begun. It is no vote there.
#[test]
fn an_own_promise_is_no_vote() {
    let mut cluster = Cluster::with(5, asynchronous);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.campaign(1);
    for from in [2, 3, 4] {
        let promise = answer(Round::PreVote, VoteResponse::Granted);
        cluster.deliver(message(from, 1, 2, promise));
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    // With the vote of one other server, an own vote that does not exist would
    // be the second, and one more the third of five.
    let grant = || answer(Round::Vote, VoteResponse::Granted);
    cluster.deliver(message(2, 1, 2, grant()));
    cluster.complete_write(1);
    cluster.deliver(message(3, 1, 2, grant()));
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    // The own vote of this round counts when it is durable itself.
    cluster.release_disk(1);
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
}

/// Whoever asks for promises in a later term gets them also from a server that
/// was down for many terms, and from one that is in a later term than the
/// asker an answer which brings the asker there.
#[test]
fn promises_are_given_across_terms() {
    let behind = |config: Config| Config {
        check_quorum: false,
        ..config
    };
    let mut cluster = Cluster::with(3, behind);
    cluster.crash(3);
    for _ in 0..3 {
        cluster.elect(1);
        cluster.elect(2);
    }
    cluster.crash(1);
    cluster.restart(3);
    assert!(cluster.node(3).term() < cluster.node(2).term());
    // The leader restarts, and needs the promise of whoever is far behind.
    cluster.crash(2);
    cluster.restart(2);
    cluster.elect(2);
    assert_eq!(cluster.node(3).term(), cluster.node(2).term());
}

/// In a joint configuration two groups that cannot win alone, one of them in a
/// later term, do not refuse each other for ever.
#[test]
fn two_groups_of_a_joint_configuration_elect_somebody() {
    let conf_state = ConfState {
        voters: vec![id(1), id(2)],
        voters_outgoing: vec![id(3), id(4)],
        ..ConfState::default()
    };
    for (ahead, shorter) in [(1..=2, 3..=4), (3..=4, 1..=2)] {
        let mut cluster = Cluster::default();
        for number in 1..=4 {
            let mut storage = MemoryStorage::with_conf_state(conf_state.clone());
            let len = if shorter.contains(&number) { 2 } else { 1 };
            let batch = (1..=len)
                .map(|at| raft_core::Entry::normal(term(1), index(at), command(&at.to_string())));
            let entries = raft_core::Entries::from_batch(batch.collect()).expect("in order");
            storage.append(entries).expect("the storage is empty");
            // Whoever has the later term has the shorter log.
            storage.set_hard_state(raft_core::HardState {
                term: term(if ahead.contains(&number) { 5 } else { 1 }),
                ..raft_core::HardState::EMPTY
            });
            let config = Config {
                seed: number,
                ..Config::protected(id(number))
            };
            cluster.add(config, storage);
        }
        cluster.elect_somebody();
    }
}

/// A server that is not in its own configuration, because it has not heard of
/// its admission, votes for those who know more.
#[test]
fn a_server_outside_of_its_own_configuration_votes() {
    let mut cluster = Cluster::with(2, plain);
    cluster.add(
        plain(Config::protected(id(3))),
        MemoryStorage::with_conf_state(ConfState::of_voters([id(1), id(2)])),
    );
    for round in [Round::PreVote, Round::Vote] {
        let request = Body::RequestVote {
            round,
            last: EntryId::new(term(1), index(1)),
            transfer: false,
        };
        cluster.deliver(message(1, 3, 9, request));
        let answers = cluster.take(|m| m.from == id(3));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].body, answer(round, VoteResponse::Granted));
    }
}

/// A leader that restarts is a follower, and leads only in a later term: in its
/// old one it could send another entry under the number of a lost one.
#[test]
fn a_leader_that_restarts_leads_only_in_a_later_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let old = cluster.node(1).term();
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.propose(1, command("lost")).expect("it leads");
    // The others get it, and the leader's own disk does not.
    cluster.deliver_all();
    cluster.crash(1);
    cluster.restart(1);
    cluster.server_mut(1).hold_disk(Disk::Instant);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert!(cluster.propose(1, command("other")).is_err());
    cluster.run(200);
    let leader = cluster.leader().expect("somebody leads").get();
    assert!(cluster.node(leader).term() > old);
    // What a majority had is there, on the old leader too.
    assert_eq!(cluster.server(1).commands(), [command("lost")]);
}

/// Neither the term nor the commit index goes back, whatever an old message
/// says.
#[test]
fn old_messages_take_neither_term_nor_commitment_back() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.run(2);
    let before = cluster.node(2).hard_state();
    assert!(before.commit > index(2));
    let now = before.term.get();
    for in_term in [1, now] {
        for commit in [index(0), index(1), index(2)] {
            cluster.deliver(message(1, 2, in_term, heartbeat(commit)));
            let append = Body::Append {
                prev: EntryId::new(term(1), index(1)),
                entries: raft_core::Entries::new(),
                commit,
            };
            cluster.deliver(message(1, 2, in_term, append));
            assert_eq!(cluster.node(2).hard_state(), before);
        }
    }
}

/// Nobody leads where nobody votes.
#[test]
fn a_server_without_voters_never_leads() {
    let mut cluster = Cluster::default();
    cluster.add_empty(1);
    cluster.campaign(1);
    cluster.tick(1, 500);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert!(cluster.propose(1, command("a")).is_err());
    assert_eq!(cluster.node(1).commit_index(), index(0));
}
