//! Thesis §9.6: preventing disruptions when a server rejoins the cluster.

use raft_core::{Body, Config, RoleKind, Round, VoteResponse};

use super::{asks_for_vote, message};
use crate::support::{Cluster, id, term};

fn pre_vote_only(mut config: Config) -> Config {
    config.check_quorum = false;
    config.pre_vote = true;
    config
}

/// The first round raises no term and takes no vote, here or elsewhere.
#[test]
fn a_pre_vote_raises_no_term() {
    let mut cluster = Cluster::with(3, pre_vote_only);
    cluster.partition(&[1], &[2, 3]);
    cluster.tick(1, 500);
    assert_eq!(cluster.node(1).role(), RoleKind::PreCandidate);
    assert_eq!(cluster.node(1).term(), term(1));
    assert_eq!(cluster.node(1).hard_state().vote, None);
}

/// Whoever answers binds itself to nothing: it may promise to several.
#[test]
fn a_pre_vote_binds_nobody() {
    let mut cluster = Cluster::with(3, pre_vote_only);
    cluster.campaign(1);
    cluster.campaign(2);
    let requests = cluster.take(|m| m.to == id(3));
    cluster.take(|_| true);
    assert_eq!(requests.len(), 2);
    for request in requests {
        cluster.deliver(request);
    }
    let promises = cluster.take(|m| {
        matches!(
            m.body,
            Body::VoteResponse {
                vote: VoteResponse::Granted,
                ..
            }
        )
    });
    assert_eq!(promises.len(), 2);
    assert_eq!(cluster.node(3).hard_state().vote, None);
}

/// Only a majority of promises begins an election.
#[test]
fn a_majority_of_promises_begins_the_election() {
    let mut cluster = Cluster::with(5, pre_vote_only);
    cluster.campaign(1);
    cluster.take(|_| true);
    for from in [2, 3] {
        assert_eq!(cluster.node(1).role(), RoleKind::PreCandidate);
        let promise = Body::VoteResponse {
            round: Round::PreVote,
            vote: VoteResponse::Granted,
        };
        cluster.deliver(message(from, 1, 2, promise));
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    assert!(cluster.is_sending(asks_for_vote));
    // A promise that comes late is not a vote.
    cluster.take(|_| true);
    for from in [4, 5] {
        let late = Body::VoteResponse {
            round: Round::PreVote,
            vote: VoteResponse::Granted,
        };
        cluster.deliver(message(from, 1, 2, late));
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
}

/// A server that was cut off comes back without deposing the leader.
#[test]
fn a_server_that_comes_back_disturbs_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let before = cluster.node(1).term();
    cluster.partition(&[3], &[1, 2]);
    for _ in 0..50 {
        cluster.run(1);
    }
    cluster.heal();
    cluster.run(50);
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.node(1).term(), before);
    assert_eq!(cluster.node(3).leader(), Some(id(1)));
}

/// A log that is behind gets no promise, so it raises no term either.
#[test]
fn a_log_that_is_behind_gets_no_promise() {
    let mut cluster = Cluster::with(3, pre_vote_only);
    cluster.elect(1);
    cluster.partition(&[3], &[1, 2]);
    cluster
        .propose(1, crate::support::command("a"))
        .expect("it leads");
    cluster.deliver_all();
    cluster.crash(1);
    cluster.heal();
    let before = cluster.node(3).term();
    for _ in 0..10 {
        cluster.campaign(3);
        cluster.deliver_all();
    }
    assert_eq!(cluster.node(3).term(), before);
    cluster.elect(2);
}

/// A server in a later term with a shorter log and one in an earlier term with
/// a longer log do not block each other.
#[test]
fn a_later_term_and_a_longer_log_do_not_block_each_other() {
    let mut cluster = Cluster::of_logs(2, |number| if number == 1 { &[1, 1] } else { &[1] });
    // Server 2 has campaigned alone, under the older protocol.
    cluster.partition(&[1], &[2]);
    for _ in 0..5 {
        cluster.campaign(2);
    }
    cluster.take(|_| true);
    assert!(cluster.node(2).term() > cluster.node(1).term());
    for number in [1, 2] {
        cluster.reconfigure(number, |config| Config {
            pre_vote: true,
            ..config
        });
    }
    cluster.heal();
    cluster.run(100);
    assert_eq!(cluster.leader(), Some(id(1)));
}

/// A pre-candidate forgets its leader, so that others who time out are not held
/// back by it.
#[test]
fn pre_candidates_elect_somebody_when_the_leader_is_gone() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.crash(1);
    cluster.run(100);
    assert!(cluster.leader().is_some_and(|leader| leader != id(1)));
}
