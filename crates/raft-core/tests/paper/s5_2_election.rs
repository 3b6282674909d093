//! Raft §5.2: leader election.

use raft_core::{Body, RoleKind, Round, StorageWrites, VoteResponse};

use super::{asks_for_vote, message, plain};
use crate::support::{Cluster, Disk, heartbeat, id, index, term};

/// Servers start as followers.
#[test]
fn everybody_starts_as_a_follower() {
    let cluster = Cluster::new(3);
    for number in 1..=3 {
        assert_eq!(cluster.node(number).role(), RoleKind::Follower);
        assert_eq!(cluster.node(number).leader(), None);
    }
}

/// A follower that hears nothing for the election timeout begins an election:
/// it raises its term, votes for itself and asks all others in parallel.
#[test]
fn a_follower_that_hears_nothing_campaigns() {
    let mut cluster = Cluster::with(3, plain);
    cluster.tick(1, 20);
    let node = cluster.node(1);
    assert_eq!(node.role(), RoleKind::Candidate);
    assert_eq!(node.term(), term(2));
    assert_eq!(node.hard_state().vote, Some(id(1)));
    let asked: Vec<u64> = cluster.in_flight().iter().map(|m| m.to.get()).collect();
    assert_eq!(asked, [2, 3]);
    assert!(cluster.is_sending(asks_for_vote));
}

/// Heartbeats keep a leader in its place.
#[test]
fn heartbeats_prevent_elections() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let before = cluster.node(1).term();
    cluster.run(200);
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.node(1).term(), before);
}

/// Votes of a majority make a leader, which tells everybody at once.
#[test]
fn a_majority_elects_and_the_leader_speaks_at_once() {
    let mut cluster = Cluster::with(5, plain);
    cluster.partition(&[1, 2, 3], &[4, 5]);
    cluster.elect(1);
    assert_eq!(cluster.node(2).leader(), Some(id(1)));
    assert_eq!(cluster.node(3).leader(), Some(id(1)));
}

/// Fewer votes than a majority do not.
#[test]
fn a_minority_elects_nobody() {
    let mut cluster = Cluster::with(5, plain);
    cluster.partition(&[1, 2], &[3, 4, 5]);
    cluster.campaign(1);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), None);
}

/// A server gives its vote once per term, to the first that asks.
#[test]
fn the_vote_goes_to_the_first_that_asks() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    cluster.campaign(2);
    cluster.take(|m| m.to != id(3));
    cluster.deliver_all();
    // The history would have stopped a second vote; and the first one elects.
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.node(3).hard_state().vote, Some(id(1)));
}

/// The same candidate may ask again: its first answer may have been lost.
#[test]
fn a_repeated_request_gets_the_same_answer_and_counts_once() {
    let mut cluster = Cluster::with(5, plain);
    cluster.campaign(1);
    let request = cluster
        .take(|m| m.to == id(2))
        .pop()
        .expect("server 2 is asked");
    cluster.take(|_| true);
    cluster.deliver(request.clone());
    cluster.deliver(request);
    let answers = cluster.take(|m| m.to == id(1));
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert!(matches!(
            answer.body,
            Body::VoteResponse {
                vote: VoteResponse::Granted,
                ..
            }
        ));
        cluster.deliver(answer);
    }
    // Two of five, however often the second one says so.
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
}

/// A vote is given once per term also over a crash, because it is on disk
/// before it is sent.
#[test]
fn a_vote_survives_a_crash() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    cluster.campaign(2);
    let (first, second): (Vec<_>, Vec<_>) = cluster
        .take(|m| m.to == id(3))
        .into_iter()
        .partition(|m| m.from == id(1));
    for request in first {
        cluster.deliver(request);
    }
    cluster.crash(3);
    cluster.restart(3);
    for request in second {
        cluster.deliver(request);
    }
    let granted = cluster.take(|m| {
        m.from == id(3)
            && matches!(
                m.body,
                Body::VoteResponse {
                    vote: VoteResponse::Granted,
                    ..
                }
            )
    });
    assert!(granted.iter().all(|m| m.to == id(1)), "{granted:?}");
}

/// Nothing is promised before the disk has it: a crash before the write leaves
/// the vote free, and nobody has heard of it.
#[test]
fn no_vote_leaves_a_server_before_it_is_durable() {
    for storage_writes in [StorageWrites::Synchronous, StorageWrites::Asynchronous] {
        let mut cluster = Cluster::with(3, |config| raft_core::Config {
            storage_writes,
            ..plain(config)
        });
        cluster.server_mut(3).hold_disk(Disk::Held);
        cluster.campaign(1);
        for request in cluster.take(|m| m.to == id(3)) {
            cluster.deliver(request);
        }
        assert!(cluster.server(3).has_write());
        assert!(cluster.take(|m| m.from == id(3)).is_empty());
        cluster.crash(3);
        cluster.restart(3);
        assert_eq!(cluster.node(3).hard_state().vote, None);
    }
}

/// A candidate that hears of a leader of its term, or a later one, follows it.
#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    cluster.take(|_| true);
    let term = cluster.node(1).term().get();
    cluster.deliver(message(2, 1, term, heartbeat(index(1))));
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(cluster.node(1).leader(), Some(id(2)));
}

/// A leader of an earlier term does not move a candidate.
#[test]
fn a_candidate_stays_before_a_leader_of_an_earlier_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    cluster.take(|_| true);
    cluster.deliver(message(2, 1, 1, heartbeat(index(1))));
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
}

/// Election timeouts are drawn from a range, so that split votes are rare and
/// soon resolved.
#[test]
fn timeouts_differ_and_a_leader_appears() {
    for seed in 0..20 {
        let mut cluster = Cluster::with(5, |config| raft_core::Config {
            seed: seed * 10 + config.id.get(),
            ..plain(config)
        });
        cluster.run(100);
        assert!(cluster.leader().is_some(), "seed {seed}");
    }
}

/// Votes of an earlier election do not count in a later one.
#[test]
fn a_late_vote_does_not_count() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    let requests = cluster.take(|_| true);
    for request in requests {
        cluster.deliver(request);
    }
    let late = cluster.take(|_| true);
    cluster.campaign(1);
    cluster.take(|_| true);
    for vote in late {
        cluster.deliver(vote);
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
}

/// The only voter elects itself, once its vote is durable.
#[test]
fn the_only_voter_leads_when_its_vote_is_durable() {
    let mut cluster = Cluster::new(1);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.campaign(1);
    assert_ne!(cluster.node(1).role(), RoleKind::Leader);
    cluster.release_disk(1);
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
}

/// A candidate's own vote of the first round does not count in the second, and
/// one that arrives after the election is lost changes nothing.
#[test]
fn an_own_vote_that_comes_late_does_not_count() {
    let mut cluster = Cluster::with(3, |config| raft_core::Config {
        storage_writes: StorageWrites::Asynchronous,
        ..config
    });
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.campaign(1);
    assert_eq!(cluster.node(1).role(), RoleKind::PreCandidate);
    // Both others promise their votes; the own promise is still being written.
    for from in [2, 3] {
        let promise = Body::VoteResponse {
            round: Round::PreVote,
            vote: VoteResponse::Granted,
        };
        cluster.deliver(message(from, 1, 2, promise));
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    cluster.complete_write(1);
    let grant = Body::VoteResponse {
        round: Round::Vote,
        vote: VoteResponse::Granted,
    };
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    cluster.deliver(message(2, 1, 3, heartbeat(index(1))));
    cluster.release_disk(1);
    cluster.deliver(message(3, 1, 2, grant));
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(cluster.node(1).leader(), Some(id(2)));
}
