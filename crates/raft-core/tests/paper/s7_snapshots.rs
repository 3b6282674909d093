//! Raft §7: log compaction.

use bytes::Bytes;
use raft_core::{
    Body, ConfState, Config, Entry, EntryId, Snapshot, SnapshotMetadata, StorageWrites,
};

use super::{message, plain};
use crate::support::{Cluster, Disk, command, id, index, snapshot, term};

/// A follower that needs entries which are gone gets the snapshot, and goes on
/// from there.
#[test]
fn a_follower_behind_the_log_gets_the_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.crash(3);
    for number in 0..10 {
        cluster
            .propose(1, command(&number.to_string()))
            .expect("it leads");
        cluster.deliver_all();
    }
    cluster.server_mut(1).compact(0);
    cluster.restart(3);
    cluster.tick(1, 1);
    cluster.deliver_all();
    cluster
        .propose(1, command("behind the snapshot"))
        .expect("it leads");
    cluster.run(3);
    assert_eq!(cluster.server(3).state(), cluster.server(1).state());
    assert_eq!(
        cluster.server(3).commands(),
        [command("behind the snapshot")]
    );
    assert!(cluster.node(3).first_index() > index(2));
}

/// Figure 13: a snapshot that the log contains leaves the entries behind it.
#[test]
fn a_snapshot_of_a_prefix_keeps_the_rest() {
    let mut cluster = Cluster::of_logs(3, |_| &[1, 1, 1, 1]);
    cluster.deliver(message(2, 1, 2, snapshot(3, 1)));
    assert_eq!(cluster.node(1).last_index(), index(4));
    assert_eq!(cluster.node(1).commit_index(), index(3));
}

/// Otherwise the whole log is discarded, also where it is longer.
#[test]
fn a_snapshot_that_contradicts_the_log_replaces_it() {
    let mut cluster = Cluster::of_logs(3, |_| &[1, 1, 1, 1, 1, 1]);
    cluster.deliver(message(2, 1, 3, snapshot(4, 2)));
    assert_eq!(cluster.node(1).last_index(), index(4));
    assert_eq!(cluster.node(1).first_index(), index(5));
    assert_eq!(cluster.server(1).state(), (index(4), 7));
}

/// An old snapshot changes nothing.
#[test]
fn an_old_snapshot_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    let before = cluster.server(2).state();
    let commit = cluster.node(2).commit_index();
    // The follower's log has the entry, or has had it.
    for is_compacted in [false, true] {
        if is_compacted {
            cluster.server_mut(2).compact(0);
        }
        cluster.deliver(message(1, 2, 2, snapshot(2, 2)));
        assert_eq!(cluster.server(2).state(), before);
        assert_eq!(cluster.node(2).commit_index(), commit);
    }
    assert!(cluster.node(2).first_index() > index(3));
}

/// The snapshot brings the configuration of its index, whatever the server had.
#[test]
fn a_snapshot_brings_the_configuration() {
    let mut cluster = Cluster::new(1);
    cluster.deliver(message(2, 1, 3, snapshot(9, 2)));
    let expected = ConfState::of_voters([id(1), id(2), id(3)]);
    let conf_state = cluster.node(1).membership().conf_state();
    assert!(conf_state.is_equivalent_to(&expected));
}

/// A snapshot of a cluster without the receiver is not for it.
#[test]
fn a_snapshot_of_a_cluster_without_the_receiver_is_ignored() {
    let mut cluster = Cluster::new(3);
    cluster.add_empty(4);
    cluster.deliver(message(1, 4, 3, snapshot(9, 2)));
    assert_eq!(cluster.node(4).last_index(), index(0));
}

/// Learners stay learners, and voters become learners only where the snapshot
/// says so.
#[test]
fn a_snapshot_promotes_and_demotes_as_it_says() {
    let learner = ConfState {
        learners: vec![id(1)],
        ..ConfState::of_voters([id(2), id(3)])
    };
    let voter = ConfState::of_voters([id(1), id(2), id(3)]);
    for conf_state in [learner, voter] {
        let mut cluster = Cluster::new(3);
        let body = Body::Snapshot(Box::new(Snapshot {
            metadata: SnapshotMetadata {
                index: index(9),
                term: term(2),
                conf_state: conf_state.clone(),
            },
            data: Bytes::copy_from_slice(&[0; 8]),
        }));
        cluster.deliver(message(2, 1, 3, body));
        assert!(
            cluster
                .node(1)
                .membership()
                .conf_state()
                .is_equivalent_to(&conf_state)
        );
    }
}

/// While a snapshot is being stored nobody campaigns with the log that it
/// replaces.
#[test]
fn nobody_campaigns_while_a_snapshot_is_stored() {
    let mut cluster = Cluster::with(3, |config| Config {
        storage_writes: StorageWrites::Asynchronous,
        ..plain(config)
    });
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.deliver(message(2, 1, 3, snapshot(9, 2)));
    cluster.campaign(1);
    assert_eq!(cluster.node(1).role(), raft_core::RoleKind::Follower);
    cluster.release_disk(1);
    cluster.campaign(1);
    assert_eq!(cluster.node(1).role(), raft_core::RoleKind::Candidate);
}

/// A second snapshot may come before the first is stored, and entries behind
/// it; each counts when it is durable.
#[test]
fn snapshots_and_entries_follow_each_other_to_the_disk() {
    let mut cluster = Cluster::with(3, |config| Config {
        storage_writes: StorageWrites::Asynchronous,
        ..plain(config)
    });
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.deliver(message(2, 1, 3, snapshot(5, 2)));
    cluster.deliver(message(2, 1, 3, snapshot(9, 2)));
    let append = Body::Append {
        prev: EntryId::new(term(2), index(9)),
        entries: Entry::normal(term(3), index(10), command("behind")).into(),
        commit: index(10),
    };
    cluster.deliver(message(2, 1, 3, append));
    assert!(cluster.take(|m| m.from == id(1)).is_empty());
    assert_eq!(cluster.node(1).applied_index(), index(1));
    while cluster.server(1).has_write() {
        cluster.complete_write(1);
    }
    cluster.release_disk(1);
    assert_eq!(cluster.node(1).applied_index(), index(10));
    assert_eq!(cluster.server(1).commands(), [command("behind")]);
}

/// A crash before the snapshot is stored leaves the server as it was.
#[test]
fn a_crash_before_the_snapshot_is_stored_loses_only_the_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster.deliver(message(2, 1, 3, snapshot(9, 2)));
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.node(1).last_index(), index(1));
}

/// A leader sends nothing while a snapshot travels; the follower's answer or
/// the driver's report ends that.
#[test]
fn a_snapshot_that_is_lost_is_sent_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.crash(3);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.deliver_all();
    cluster.server_mut(1).compact(0);
    cluster.restart(3);
    for _ in 0..3 {
        cluster.tick(1, 1);
        while !cluster.is_sending(|body| matches!(body, Body::Snapshot(_)))
            && !cluster.in_flight().is_empty()
        {
            let message = cluster.take_at(0);
            cluster.deliver(message);
        }
        let lost = cluster.take(|m| matches!(m.body, Body::Snapshot(_)));
        assert_eq!(lost.len(), 1);
        cluster.tick(1, 1);
        cluster.deliver_all();
        cluster.with_node(1, |node| {
            node.report_snapshot(id(3), raft_core::SnapshotOutcome::Failed);
        });
    }
    cluster.run(3);
    assert_eq!(cluster.server(3).state(), cluster.server(1).state());
}
