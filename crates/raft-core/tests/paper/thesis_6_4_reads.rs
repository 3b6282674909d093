//! Thesis §6.4: reads without the log.

use raft_core::{Body, ConfChange, ConfChangeType, Config, Protections, ReadOnly, RoleKind};

use super::plain;
use crate::support::{Cluster, Disk, command, id};

/// A read waits until a majority confirms that the leader still leads.
#[test]
fn a_read_waits_for_a_majority() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    let context = cluster.read(1).expect("it leads");
    cluster.deliver_all();
    assert!(cluster.server(1).reads().is_empty());
    cluster.heal();
    cluster.tick(1, 1);
    cluster.deliver_all();
    let read = &cluster.server(1).reads()[0];
    assert_eq!(read.context, context);
    assert_eq!(read.index, cluster.node(1).commit_index());
}

/// A leader that was replaced confirms nothing. (The history checks every index
/// against what was committed when the read began.)
#[test]
fn a_deposed_leader_confirms_nothing() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    cluster.elect(2);
    cluster.propose(2, command("news")).expect("it leads");
    cluster.deliver_all();
    cluster.read(1).expect("it believes to lead");
    cluster.tick(1, 5);
    cluster.heal();
    cluster.run(5);
    assert!(cluster.server(1).reads().is_empty());
}

/// Before the first commit of its term a leader does not know what is
/// committed: reads wait for it, and are then answered.
#[test]
fn reads_wait_for_the_first_commit_of_the_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.elect_unheard(2);
    cluster.read(2).expect("it leads");
    assert!(!cluster.is_sending(|body| matches!(body, Body::Heartbeat { .. })));
    cluster.deliver_all();
    assert_eq!(cluster.server(2).reads().len(), 1);
}

/// A follower asks the leader, and answers its own client.
#[test]
fn a_follower_reads_through_the_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    let context = cluster.read(3).expect("it follows");
    cluster.deliver_all();
    assert_eq!(cluster.server(3).reads()[0].context, context);
}

/// One round answers all reads that came before it; an answer to an old round
/// does not confirm a later read.
#[test]
fn a_late_answer_does_not_confirm_a_later_read() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let first = cluster.read(1).expect("it leads");
    let heartbeats = cluster.take(|_| true);
    for heartbeat in heartbeats {
        cluster.deliver(heartbeat);
    }
    let late = cluster.take(|m| m.to == id(1));
    cluster.read(1).expect("it leads");
    cluster.take(|_| true);
    for answer in late {
        cluster.deliver(answer);
    }
    let confirmed: Vec<_> = cluster
        .server(1)
        .reads()
        .iter()
        .map(|r| r.context.clone())
        .collect();
    assert_eq!(confirmed, [first]);
}

/// The same context may be used again: each request is its own.
#[test]
fn a_context_that_is_used_again_is_another_read() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let context = cluster.read(1).expect("it leads");
    let heartbeats = cluster.take(|_| true);
    for heartbeat in heartbeats {
        cluster.deliver(heartbeat);
    }
    let late = cluster.take(|m| m.to == id(1));
    cluster
        .with_node(1, |node| node.read_index(context.clone()))
        .expect("it leads");
    cluster.take(|_| true);
    for answer in late {
        cluster.deliver(answer);
    }
    assert_eq!(cluster.server(1).reads().len(), 1);
    cluster.tick(1, 1);
    cluster.deliver_all();
    assert_eq!(cluster.server(1).reads().len(), 2);
}

/// With leases a read is answered at once, and the leader that has lost its
/// quorum gives the lease up with its office.
#[test]
fn a_lease_answers_at_once_and_ends_with_the_quorum() {
    let mut cluster = Cluster::with(3, |config| Config {
        read_only: ReadOnly::LeaseBased,
        ..config
    });
    cluster.elect(1);
    cluster.read(1).expect("it leads");
    assert_eq!(cluster.server(1).reads().len(), 1);
    cluster.partition(&[1], &[2, 3]);
    cluster.tick(1, 20);
    assert!(cluster.read(1).is_err());
}

/// Who forgets its leader would break the lease, so it does not.
#[test]
fn a_lease_is_not_forgotten() {
    let mut cluster = Cluster::with(3, |config| Config {
        read_only: ReadOnly::LeaseBased,
        ..config
    });
    cluster.elect(1);
    cluster.with_node(2, raft_core::RawNode::forget_leader);
    assert_eq!(cluster.node(2).leader(), Some(id(1)));
    let mut safe = Cluster::new(3);
    safe.elect(1);
    safe.with_node(2, raft_core::RawNode::forget_leader);
    assert_eq!(safe.node(2).leader(), None);
}

/// A leader that hands over does not know when the other one leads. Until it
/// hears so it answers reads only if a quorum still follows it.
#[test]
fn a_leader_that_handed_over_and_was_not_told_reads_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    for order in cluster.take(|m| matches!(m.body, Body::TimeoutNow)) {
        cluster.deliver(order);
    }
    cluster.partition(&[1], &[2, 3]);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(2)));
    cluster.propose(2, command("new")).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
    assert_eq!(cluster.node(1).transferee(), Some(id(2)));
    cluster.read(1).expect("it believes that it leads");
    cluster.deliver_all();
    assert!(cluster.server(1).reads().is_empty());
}

/// Reads go on while leadership moves, and stay linearizable.
#[test]
fn reads_during_a_transfer_are_linearizable() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    cluster.read(1).expect("it still leads");
    cluster.deliver_all();
    cluster.run(2);
    assert_eq!(cluster.leader(), Some(id(2)));
    cluster.read(2).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.server(2).reads().len(), 1);
}

/// The only voter answers once it has committed in its term: the commit index
/// that a crash left behind may be old.
#[test]
fn the_only_voter_reads_only_after_its_first_commit() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    // The commit index alone is not synced, so the crash takes it.
    let acknowledged = cluster.node(1).commit_index();
    cluster.crash(1);
    cluster.restart(1);
    assert!(cluster.node(1).commit_index() < acknowledged);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.campaign(1);
    while cluster.node(1).role() != RoleKind::Leader {
        cluster.complete_write(1);
    }
    cluster.read(1).expect("it leads");
    assert!(cluster.server(1).reads().is_empty());
    cluster.release_disk(1);
    assert!(cluster.server(1).reads()[0].index >= acknowledged);
}

/// As in etcd, a node that is to be compared with it answers at once, even if
/// the only voter is somebody else. That can be stale; a protected one asks.
#[test]
fn a_removed_leader_reads_through_the_voter_that_is_left() {
    for protections in [Protections::On, Protections::Off] {
        let mut cluster = Cluster::with(2, |config| Config {
            step_down_on_removal: false,
            protections,
            ..config
        });
        cluster.elect(1);
        let remove = ConfChange::single(ConfChangeType::RemoveNode, id(1));
        cluster.change(1, &remove).expect("it leads");
        cluster.deliver_all();
        assert_eq!(cluster.node(1).role(), RoleKind::Leader);
        cluster.partition(&[1], &[2]);
        cluster.read(1).expect("it leads");
        cluster.deliver_all();
        let answered = !cluster.server(1).reads().is_empty();
        assert_eq!(answered, protections == Protections::Off);
    }
}
