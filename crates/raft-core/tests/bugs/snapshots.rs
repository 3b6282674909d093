//! Snapshots.

use raft_core::{AppendResponse, Body, ConfChange, ConfChangeType, ConfState, Flow, RoleKind};

use super::asynchronous;
use crate::support::{Cluster, Disk, command, id, index, message, plain, snapshot, term};

/// A snapshot of a leader of an earlier term is not obeyed, however new what it
/// holds seems to be.
#[test]
fn a_snapshot_of_an_earlier_term_is_not_obeyed() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.elect(2);
    let before = cluster.node(3).status();
    cluster.deliver(message(1, 3, 2, snapshot(99, 2)));
    assert_eq!(cluster.node(3).status(), before);
}

/// A candidate that is behind takes the snapshot of the leader of its term, and
/// follows it.
#[test]
fn a_candidate_takes_the_snapshot_of_its_terms_leader() {
    let mut cluster = Cluster::with(3, plain);
    cluster.campaign(1);
    assert_eq!(cluster.node(1).role(), RoleKind::Candidate);
    let in_term = cluster.node(1).term().get();
    cluster.take(|_| true);
    cluster.deliver(message(2, 1, in_term, snapshot(9, 1)));
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(cluster.node(1).leader(), Some(id(2)));
    assert_eq!(cluster.server(1).state(), (index(9), 7));
}

/// While a snapshot is on its way to the disk no entry that it covers is handed
/// to the state machine, and none behind it either.
#[test]
fn nothing_is_applied_while_a_snapshot_is_stored() {
    let mut cluster = Cluster::with(3, |config| asynchronous(plain(config)));
    cluster.server_mut(2).hold_disk(Disk::Held);
    let entries =
        (2..=4).map(|at| raft_core::Entry::normal(term(2), index(at), command(&at.to_string())));
    let append = Body::Append {
        prev: raft_core::EntryId::new(term(1), index(1)),
        entries: raft_core::Entries::from_batch(entries.collect()).expect("in order"),
        commit: index(1),
    };
    cluster.deliver(message(1, 2, 2, append));
    while cluster.server(2).has_write() {
        cluster.complete_write(2);
    }
    cluster.deliver(message(1, 2, 2, snapshot(9, 2)));
    // What was committed before is covered now.
    cluster.deliver(message(1, 2, 2, super::heartbeat(index(9))));
    assert!(!cluster.server(2).has_apply());
    cluster.release_disk(2);
    assert_eq!(cluster.server(2).state(), (index(9), 7));
    assert!(cluster.server(2).commands().is_empty());
}

/// The snapshot came to the follower by another way than from the leader. Its
/// answer to anything shows that, and replication goes on.
#[test]
fn a_snapshot_that_came_by_another_way_ends_the_waiting() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster.crash(3);
    for text in ["a", "b"] {
        cluster.propose(1, command(text)).expect("it leads");
        cluster.deliver_all();
    }
    cluster.server_mut(1).compact(0);
    cluster.restart(3);
    // The leader sends a snapshot, which is lost.
    for _ in 0..5 {
        cluster.tick(1, 1);
        while !cluster.is_sending(|body| matches!(body, Body::Snapshot(_)))
            && !cluster.in_flight().is_empty()
        {
            let message = cluster.take_at(0);
            cluster.deliver(message);
        }
        cluster.take(|m| matches!(m.body, Body::Snapshot(_)));
    }
    let flow = cluster.node(1).status().progress[2].1.flow;
    assert!(matches!(flow, Flow::Snapshot { .. }), "{flow:?}");
    let last = cluster.node(1).last_index();
    let in_term = cluster.node(1).term().get();
    let accepted = Body::AppendResponse(AppendResponse::Accepted { matched: last });
    cluster.deliver(message(3, 1, in_term, accepted));
    let progress = cluster.node(1).status().progress[2].1;
    assert_eq!((progress.flow, progress.matched), (Flow::Replicate, last));
}

/// The configuration survives any number of compactions and restarts, also when
/// nothing about it is left in the log.
#[test]
fn the_configuration_survives_compactions_and_restarts() {
    let mut cluster = Cluster::with(3, plain);
    cluster.add_empty(4);
    cluster.elect(1);
    let change = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    cluster.change(1, &change).expect("it leads");
    cluster.run(2);
    let expected = ConfState {
        learners: vec![id(4)],
        ..ConfState::of_voters([id(1), id(2), id(3)])
    };
    for round in 0..3 {
        let leader = cluster.leader().expect("somebody leads").get();
        cluster
            .propose(leader, command(&round.to_string()))
            .expect("it leads");
        cluster.run(3);
        for number in 1..=3 {
            cluster.server_mut(number).compact(0);
        }
        for number in 1..=3 {
            cluster.crash(number);
            cluster.restart(number);
            let conf_state = cluster.node(number).membership().conf_state();
            assert!(conf_state.is_equivalent_to(&expected), "{conf_state:?}");
        }
        cluster.elect_somebody();
    }
}
