//! Thesis §6.2 and §4.2.3: leaders that have lost their quorum step down, and
//! servers that hear of a leader do not help to depose it.

use raft_core::{Body, Config, EntryId, RoleKind, Round};

use super::message;
use crate::support::{Cluster, id, index, term};

fn check_quorum_only(mut config: Config) -> Config {
    config.check_quorum = true;
    config.pre_vote = false;
    config
}

/// A leader that hears of no majority for an election timeout steps down.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    cluster.tick(1, 20);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
}

/// Also where its messages go out and only the answers are lost.
#[test]
fn a_leader_that_is_not_answered_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut(2, 1);
    cluster.cut(3, 1);
    for _ in 0..20 {
        cluster.tick(1, 1);
        cluster.deliver_all();
    }
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
}

/// Learners do not keep a leader in office.
#[test]
fn learners_are_no_quorum() {
    use raft_core::{ConfChange, ConfChangeType};
    let mut cluster = Cluster::new(4);
    cluster.elect(1);
    let learner = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    cluster.change(1, &learner).expect("it leads");
    cluster.run(3);
    cluster.partition(&[1, 4], &[2, 3]);
    for _ in 0..25 {
        cluster.tick(1, 1);
        cluster.deliver_all();
    }
    assert_ne!(cluster.leader(), Some(id(1)));
}

/// Who has heard of a leader within the election timeout refuses votes and does
/// not take the term.
#[test]
fn a_server_that_hears_of_a_leader_ignores_candidates() {
    let mut cluster = Cluster::with(3, check_quorum_only);
    cluster.elect(1);
    let before = cluster.node(2).status();
    let ask = Body::RequestVote {
        round: Round::Vote,
        last: EntryId::new(term(9), index(99)),
        transfer: false,
    };
    cluster.deliver(message(3, 2, 9, ask.clone()));
    assert_eq!(cluster.node(2).status(), before);
    // When the leader has not been heard of for long enough, it does.
    cluster.tick(2, 10);
    cluster.take(|_| true);
    cluster.deliver(message(3, 2, 9, ask));
    assert_eq!(cluster.node(2).term(), term(9));
}

/// A candidate whose term has run away hears from the leader and is heard, so
/// it is not stuck for ever.
#[test]
fn a_candidate_with_a_later_term_comes_back() {
    let mut cluster = Cluster::with(3, check_quorum_only);
    cluster.elect(1);
    cluster.partition(&[3], &[1, 2]);
    cluster.tick(3, 100);
    assert!(cluster.node(3).term() > cluster.node(1).term());
    cluster.heal();
    cluster.take(|_| true);
    cluster.run(60);
    let leader = cluster.leader().expect("somebody leads").get();
    for number in 1..=3 {
        assert_eq!(cluster.node(number).leader(), Some(id(leader)));
    }
}

/// A server that is no voter neither campaigns nor spoils the count.
#[test]
fn who_may_not_campaign_does_not_and_the_leader_stays() {
    use raft_core::{ConfChange, ConfChangeType};
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let remove = ConfChange::single(ConfChangeType::RemoveNode, id(3));
    cluster.change(1, &remove).expect("it leads");
    cluster.run(2);
    cluster.tick(3, 100);
    assert_eq!(cluster.node(3).role(), RoleKind::Follower);
    cluster.run(50);
    assert_eq!(cluster.leader(), Some(id(1)));
}
