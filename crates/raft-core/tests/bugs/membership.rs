//! Changes of the configuration.

use raft_core::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfState, Config,
    RoleKind, SnapshotOutcome,
};

use crate::support::{Cluster, command, id, plain};

/// A learner is a learner after a restart: it does not campaign, and does not
/// count.
#[test]
fn a_learner_that_restarts_is_a_learner() {
    let mut cluster = Cluster::with(3, plain);
    cluster.add_empty(4);
    cluster.elect(1);
    let change = ConfChange::single(ConfChangeType::AddLearnerNode, id(4));
    cluster.change(1, &change).expect("it leads");
    // A snapshot from before the change is not for it.
    for _ in 0..5 {
        cluster.run(1);
        cluster.server_mut(1).compact(0);
        cluster.with_node(1, |node| {
            node.report_snapshot(id(4), SnapshotOutcome::Failed);
        });
    }
    assert!(cluster.node(4).membership().is_learner(id(4)));
    cluster.crash(4);
    cluster.restart(4);
    cluster.partition(&[4], &[1, 2, 3]);
    cluster.tick(4, 500);
    assert_eq!(cluster.node(4).role(), RoleKind::Follower);
    assert!(cluster.node(4).membership().is_learner(id(4)));
}

/// An update of a member changes nobody's part, and a learner can still be
/// promoted after it.
#[test]
fn an_update_leaves_a_learner_a_learner() {
    let mut cluster = Cluster::with(3, plain);
    cluster.add_empty(4);
    cluster.elect(1);
    for (change_type, is_learner) in [
        (ConfChangeType::AddLearnerNode, true),
        (ConfChangeType::UpdateNode, true),
        (ConfChangeType::AddNode, false),
        (ConfChangeType::UpdateNode, false),
    ] {
        let change = ConfChange::single(change_type, id(4));
        cluster.change(1, &change).expect("it leads");
        cluster.run(3);
        let membership = cluster.node(1).membership();
        assert_eq!(membership.is_learner(id(4)), is_learner, "{change_type:?}");
        assert_eq!(membership.voters().contains(id(4)), !is_learner);
    }
}

/// A leader that makes itself a learner stops leading, and the rest elects
/// another one.
#[test]
fn a_leader_that_demotes_itself_leaves_the_others_a_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let change = ConfChange {
        transition: ConfChangeTransition::JointImplicit,
        changes: vec![ConfChangeSingle::new(ConfChangeType::AddLearnerNode, id(1))],
        ..ConfChange::default()
    };
    cluster.change(1, &change).expect("it leads");
    for _ in 0..100 {
        cluster.run(1);
        if cluster.leader().is_some_and(|leader| leader != id(1)) {
            break;
        }
    }
    let leader = cluster.leader().expect("somebody leads");
    assert_ne!(leader, id(1));
    cluster
        .propose(leader.get(), command("a"))
        .expect("it leads");
    cluster.run(3);
    let expected = ConfState {
        learners: vec![id(1)],
        ..ConfState::of_voters([id(2), id(3)])
    };
    for number in 1..=3 {
        let conf_state = cluster.node(number).membership().conf_state();
        assert!(conf_state.is_equivalent_to(&expected), "{conf_state:?}");
        assert_eq!(cluster.server(number).commands(), [command("a")]);
    }
}

/// Leaving a joint configuration is proposed once, and sent at once, without a
/// tick; the configuration is left on every server.
#[test]
fn an_automatic_leave_is_proposed_once_and_sent_at_once() {
    // Entries are applied one by one, so that some are while it is under way.
    let mut cluster = Cluster::with(3, |config| Config {
        committed_bytes_max: Some(1),
        ..plain(config)
    });
    cluster.elect(1);
    let change = ConfChange {
        transition: ConfChangeTransition::JointImplicit,
        changes: vec![ConfChangeSingle::new(ConfChangeType::RemoveNode, id(3))],
        ..ConfChange::default()
    };
    let last = cluster.node(1).last_index();
    cluster.change(1, &change).expect("it leads");
    for text in ["a", "b"] {
        cluster.propose(1, command(text)).expect("it leads");
    }
    cluster.deliver_all();
    assert!(!cluster.node(1).membership().is_joint());
    assert_eq!(cluster.node(1).last_index(), last.plus(4));
    // The others hear with the next message that it is committed.
    cluster.run(3);
    assert!(!cluster.node(2).membership().is_joint());
    assert_eq!(cluster.node(1).last_index(), last.plus(4));
}

/// A leader that entered a joint configuration and lost its office before it
/// left it: whoever leads next leaves it, also after every server restarted.
#[test]
fn a_joint_configuration_is_left_although_everybody_crashed_in_it() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    let change = ConfChange {
        transition: ConfChangeTransition::JointImplicit,
        changes: vec![ConfChangeSingle::new(ConfChangeType::RemoveNode, id(3))],
        ..ConfChange::default()
    };
    cluster.change(1, &change).expect("it leads");
    // Everybody has the entry; nobody has heard that it is committed.
    let appends = cluster.take(|_| true);
    for message in appends {
        cluster.deliver(message);
    }
    for number in 1..=3 {
        cluster.crash(number);
        cluster.restart(number);
        assert!(!cluster.node(number).membership().is_joint());
    }
    cluster.elect_somebody();
    cluster.run(20);
    let expected = ConfState::of_voters([id(1), id(2)]);
    for number in [1, 2] {
        let conf_state = cluster.node(number).membership().conf_state();
        assert!(conf_state.is_equivalent_to(&expected), "{conf_state:?}");
    }
}
