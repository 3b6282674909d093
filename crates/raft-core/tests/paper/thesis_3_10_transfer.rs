//! Thesis §3.10: leadership transfer.

use raft_core::{Body, ConfChange, ConfChangeType, Config, ProposeError, RoleKind};

use crate::support::{Cluster, command, id};

fn is_timeout_now(body: &Body) -> bool {
    matches!(body, Body::TimeoutNow)
}

/// The leader brings the other up to date, tells it to campaign, and is
/// followed by it, without waiting for any timeout.
#[test]
fn leadership_moves_to_the_transferee() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 3).expect("it is alive");
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(3)));
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
}

/// A follower passes the wish on.
#[test]
fn a_follower_passes_the_wish_on() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(2, 3).expect("it is alive");
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(3)));
}

/// A transferee that lacks entries gets them first.
#[test]
fn a_transferee_that_lags_catches_up_first() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1, 2], &[3]);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.heal();
    cluster.transfer(1, 3).expect("it is alive");
    assert!(!cluster.is_sending(is_timeout_now));
    cluster.run(3);
    assert_eq!(cluster.leader(), Some(id(3)));
    assert_eq!(cluster.server(3).commands(), [command("a")]);
}

/// While leadership moves nothing is taken; if it takes longer than an election
/// timeout, the leader goes on.
#[test]
fn a_transfer_that_takes_too_long_is_given_up() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 3).expect("it is alive");
    cluster.take(|m| is_timeout_now(&m.body));
    assert_eq!(
        cluster.propose(1, command("a")),
        Err(ProposeError::TransferInProgress { to: id(3) })
    );
    cluster.run(10);
    assert_eq!(cluster.node(1).transferee(), None);
    cluster.propose(1, command("a")).expect("it leads on");
    cluster.deliver_all();
    assert_eq!(cluster.server(2).commands(), [command("a")]);
}

/// A `TimeoutNow` that comes after the transfer was given up still elects, and
/// does so safely: in a later term.
#[test]
fn a_late_request_to_campaign_is_harmless() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 3).expect("it is alive");
    let late = cluster.take(|m| is_timeout_now(&m.body));
    cluster.run(10);
    cluster.propose(1, command("a")).expect("it leads on");
    cluster.deliver_all();
    for message in late {
        cluster.deliver(message);
    }
    cluster.run(3);
    assert_eq!(cluster.leader(), Some(id(3)));
    assert_eq!(cluster.server(3).commands(), [command("a")]);
}

/// Nobody can be handed to who does not vote here: strangers, learners, the
/// leader itself.
#[test]
fn leadership_goes_to_voters_only() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let learner = ConfChange::single(ConfChangeType::AddLearnerNode, id(3));
    cluster.change(1, &learner).expect("it leads");
    cluster.run(2);
    for to in [1, 3, 9] {
        cluster.transfer(1, to).expect("it is alive");
        assert_eq!(cluster.node(1).transferee(), None);
        assert!(!cluster.is_sending(is_timeout_now));
    }
}

/// The latest wish counts, and wishing the same again does not start anew.
#[test]
fn another_wish_takes_the_place_of_the_first() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    cluster.take(|_| true);
    cluster.transfer(1, 2).expect("it is alive");
    assert!(!cluster.is_sending(is_timeout_now));
    cluster.transfer(1, 3).expect("it is alive");
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(3)));
}

/// A wish to stay calls the transfer off.
#[test]
fn a_wish_to_stay_calls_the_transfer_off() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    cluster.take(|_| true);
    cluster.transfer(1, 1).expect("it is alive");
    cluster.propose(1, command("a")).expect("it leads on");
}

/// A transferee that is removed meanwhile is not waited for.
#[test]
fn the_transfer_to_a_removed_server_ends() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let remove = ConfChange::single(ConfChangeType::RemoveNode, id(3));
    cluster.change(1, &remove).expect("it leads");
    cluster.transfer(1, 3).expect("it is alive");
    cluster.take(|m| m.to == id(3));
    cluster.deliver_all();
    assert_eq!(cluster.node(1).transferee(), None);
    cluster.propose(1, command("a")).expect("it leads on");
}

/// A server that is not a voter does not campaign, even if it is told to.
#[test]
fn a_learner_that_is_told_to_campaign_does_not() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let learner = ConfChange::single(ConfChangeType::AddLearnerNode, id(3));
    cluster.change(1, &learner).expect("it leads");
    cluster.run(2);
    cluster.deliver(super::message(1, 3, 2, Body::TimeoutNow));
    assert_eq!(cluster.node(3).role(), RoleKind::Follower);
}

/// The transfer is meant, so the lease of the leader that hands over does not
/// protect it, and no pre-vote is needed.
#[test]
fn a_transfer_overrides_lease_and_pre_vote() {
    let mut cluster = Cluster::with(3, |config| Config {
        check_quorum: true,
        pre_vote: true,
        ..config
    });
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    let message = cluster
        .take(|m| is_timeout_now(&m.body))
        .pop()
        .expect("it is sent");
    cluster.deliver(message);
    assert_eq!(cluster.node(2).role(), RoleKind::Candidate);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(2)));
}

/// A new leader knows nothing of its predecessor's transfer.
#[test]
fn a_transfer_ends_with_the_leadership() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 3).expect("it is alive");
    cluster.take(|_| true);
    cluster.elect_again(2);
    for number in 1..=3 {
        assert_eq!(cluster.node(number).transferee(), None);
    }
    cluster.propose(2, command("a")).expect("it leads");
}
