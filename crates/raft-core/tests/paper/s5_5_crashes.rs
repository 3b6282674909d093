//! Raft §5.5: follower and candidate crashes.

use raft_core::{AppendResponse, Body, RoleKind, VoteResponse};

use super::{asks_for_vote, plain};
use crate::support::{Cluster, command, id};

/// What is sent to a server that is down fails, and is tried again for as long as
/// it takes.
#[test]
fn a_leader_tries_again_until_the_follower_is_back() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.crash(3);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.run(50);
    assert_eq!(cluster.server(2).commands(), [command("a")]);
    cluster.restart(3);
    // Nobody proposes anything: the leader comes back to it by itself.
    cluster.run(3);
    assert_eq!(cluster.server(3).commands(), [command("a")]);
}

/// A candidate whose voters are down goes on asking, too.
#[test]
fn a_candidate_asks_again_until_its_voters_are_back() {
    let mut cluster = Cluster::with(3, plain);
    for number in [2, 3] {
        cluster.crash(number);
    }
    cluster.run(50);
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    cluster.restart(2);
    cluster.elect_somebody();
}

/// A server that wrote and crashed before it could answer gets the same message
/// again, and that does no harm: it has the entries, and says so.
#[test]
fn an_append_whose_answer_was_lost_in_a_crash_is_answered_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    let append = cluster
        .take(|m| m.to == id(2))
        .pop()
        .expect("it is sent to 2");
    let answer = |cluster: &mut Cluster| {
        cluster.deliver(append.clone());
        let taken = cluster.take(|m| m.from == id(2)).pop();
        taken.expect("it answers").body
    };
    let first = answer(&mut cluster);
    assert!(matches!(
        first,
        Body::AppendResponse(AppendResponse::Accepted { .. })
    ));
    let before = cluster.server(2).terms();
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(answer(&mut cluster), first);
    assert_eq!(cluster.server(2).terms(), before);
    cluster.deliver_all();
    cluster.run(1);
    assert_eq!(cluster.server(2).commands(), [command("a")]);
}

/// So with a vote: who asks again hears the same.
#[test]
fn a_vote_whose_answer_was_lost_in_a_crash_is_given_again() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    let request = cluster
        .take(|m| m.to == id(2) && asks_for_vote(&m.body))
        .pop()
        .expect("it is asked");
    for _ in 0..2 {
        cluster.deliver(request.clone());
        let answer = cluster.take(|m| m.from == id(2)).pop().expect("it answers");
        assert!(matches!(
            answer.body,
            Body::VoteResponse {
                vote: VoteResponse::Granted,
                ..
            }
        ));
        cluster.crash(2);
        cluster.restart(2);
    }
    assert_eq!(cluster.node(2).hard_state().vote, Some(id(1)));
}

/// A server that crashed goes on from its disk, and nothing that was
/// committed is lost.
#[test]
fn a_cluster_that_crashed_as_a_whole_goes_on() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for text in ["a", "b"] {
        cluster.propose(1, command(text)).expect("it leads");
        cluster.deliver_all();
    }
    let before = cluster.history().highest_commit();
    for number in 1..=3 {
        cluster.crash(number);
    }
    for number in 1..=3 {
        cluster.restart(number);
    }
    cluster.run(60);
    let leader = cluster.leader().expect("somebody is elected").get();
    assert!(cluster.node(leader).commit_index() > before);
    assert_eq!(
        cluster.server(leader).commands(),
        [command("a"), command("b")]
    );
}
