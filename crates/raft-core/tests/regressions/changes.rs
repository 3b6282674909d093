//! Configuration changes that nobody can make sense of.

use bytes::Bytes;
use raft_core::{
    Body, ConfChange, ConfChangeError, ConfChangeType, ConfState, Config, Entry, EntryId,
    EntryType, MalformedConfChange, Misbehaved, Proposal, ProposeError,
};

use super::{fails, leader, misbehaved, snapshot_at, still_works};
use crate::support::{Cluster, Disk, command, id, message, term};

#[test]
fn a_configuration_change_that_cannot_be_read_is_refused() {
    let mut cluster = leader();
    for entry_type in [EntryType::ConfChange, EntryType::ConfChangeV2] {
        let garbage = Proposal {
            entry_type,
            data: Bytes::from_static(&[0xff; 3]),
        };
        let proposals = vec![Proposal::normal(command("x")), garbage];
        let forwarded = message(
            2,
            1,
            0,
            Body::Propose {
                proposals: proposals.clone(),
            },
        );
        let why = misbehaved(&mut cluster, forwarded);
        assert!(matches!(why, Misbehaved::MalformedConfChange(_)), "{why}");
        let own = fails(&mut cluster, 1, |node| node.propose_batch(proposals));
        assert!(matches!(own, ProposeError::Malformed(_)), "{own}");
    }
    still_works(&mut cluster);
}

#[test]
fn an_impossible_change_that_was_committed_is_void_everywhere() {
    let mut cluster = leader();
    let everybody = ConfChange {
        changes: (1..=3)
            .map(|n| raft_core::ConfChangeSingle::new(ConfChangeType::RemoveNode, id(n)))
            .collect(),
        ..ConfChange::default()
    };
    let before = cluster.node(1).membership().clone();
    cluster.change(1, &everybody).expect("it is appended");
    cluster.deliver_all();
    cluster.run(2);
    for number in 1..=3 {
        let node = cluster.node(number);
        assert_eq!(node.applied_index(), node.last_index());
        assert_eq!(*node.membership(), before);
        let again = fails(&mut cluster, number, |node| {
            node.apply_conf_change(&everybody)
        });
        assert_eq!(again, ConfChangeError::NoVotersLeft);
        let leave = fails(&mut cluster, number, |node| {
            node.apply_conf_change(&ConfChange::leave_joint())
        });
        assert_eq!(leave, ConfChangeError::NotJoint);
    }
    still_works(&mut cluster);
}

#[test]
fn garbage_that_was_committed_as_a_change_is_void_everywhere() {
    // An enemy who leads can have anything committed.
    let mut cluster = leader();
    let last = cluster.node(2).last_index();
    let garbage = Entry::new(
        term(2),
        last.next(),
        EntryType::ConfChangeV2,
        Bytes::from_static(&[0xff]),
    );
    assert_eq!(garbage.conf_change(), Err(MalformedConfChange::Truncated));
    let append = Body::Append {
        prev: EntryId::new(term(2), last),
        entries: garbage.into(),
        commit: last.next(),
    };
    let before = cluster.node(2).membership().clone();
    cluster.deliver(message(1, 2, 2, append));
    assert_eq!(cluster.node(2).applied_index(), last.next());
    assert_eq!(*cluster.node(2).membership(), before);
}

#[test]
fn a_snapshot_with_an_impossible_configuration_is_refused() {
    let mut cluster = leader();
    let learner_votes = ConfState {
        learners: vec![id(2)],
        ..ConfState::of_voters([id(1), id(2)])
    };
    let staged_for_nothing = ConfState {
        learners_next: vec![id(1)],
        ..ConfState::of_voters([id(2)])
    };
    let twice = ConfState::of_voters([id(1), id(2), id(2)]);
    for conf_state in [learner_votes, staged_for_nothing, twice] {
        let snapshot = snapshot_at(100, 2, conf_state);
        let why = misbehaved(&mut cluster, message(1, 2, 2, snapshot));
        assert_eq!(why, Misbehaved::BadConfState);
    }
    still_works(&mut cluster);
}

#[test]
fn a_change_that_is_over_the_quota_is_not_waited_for() {
    let mut cluster = Cluster::with(1, |config| Config {
        uncommitted_bytes_max: 4,
        storage_writes: raft_core::StorageWrites::Asynchronous,
        ..config
    });
    cluster.elect(1);
    cluster.server_mut(1).hold_disk(Disk::Held);
    cluster
        .propose(1, command("large command"))
        .expect("the first goes in");
    let change = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    let error = fails(&mut cluster, 1, |node| node.propose_conf_change(&change));
    assert_eq!(error, ProposeError::QuotaExceeded { bytes_max: 4 });
    cluster.release_disk(1);
    let taken = cluster.change(1, &change).expect("the quota is free again");
    assert!(matches!(
        taken,
        raft_core::Proposed::Appended { refused: None, .. }
    ));
}
