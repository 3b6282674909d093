//! Raft §6 and thesis §4: cluster membership changes. As in etcd a
//! configuration takes effect when it is applied, not when it is appended.

use raft_core::{
    ConfChange, ConfChangeRefusal, ConfChangeSingle, ConfChangeTransition, ConfChangeType,
    ConfState, Config, Proposed, RoleKind,
};

use super::plain;
use crate::support::{Cluster, Disk, command, id};

fn add(number: u64) -> ConfChange {
    ConfChange::single(ConfChangeType::AddNode, id(number))
}

fn add_learner(number: u64) -> ConfChange {
    ConfChange::single(ConfChangeType::AddLearnerNode, id(number))
}

fn remove(number: u64) -> ConfChange {
    ConfChange::single(ConfChangeType::RemoveNode, id(number))
}

/// From voters {1, 2, 3} to {1, 4}, with 2 as a learner.
fn replace(transition: ConfChangeTransition) -> ConfChange {
    ConfChange {
        transition,
        changes: vec![
            ConfChangeSingle::new(ConfChangeType::AddNode, id(4)),
            ConfChangeSingle::new(ConfChangeType::AddLearnerNode, id(2)),
            ConfChangeSingle::new(ConfChangeType::RemoveNode, id(3)),
        ],
        ..ConfChange::default()
    }
}

fn refusal(proposed: &Proposed) -> Option<ConfChangeRefusal> {
    match proposed {
        Proposed::Appended { refused, .. } => *refused,
        Proposed::Forwarded { .. } => panic!("the leader was asked"),
    }
}

fn voters(cluster: &Cluster, number: u64) -> Vec<u64> {
    let ids = cluster.node(number).membership().voters().ids();
    ids.into_iter().map(raft_core::NodeId::get).collect()
}

/// A server that joins gets everything, by snapshot if need be, and then votes.
#[test]
fn a_server_that_joins_catches_up_and_votes() {
    let mut cluster = Cluster::new(3);
    cluster.add_empty(4);
    cluster.elect(1);
    cluster.propose(1, command("a")).expect("it leads");
    cluster.change(1, &add(4)).expect("it leads");
    cluster.run(3);
    // The bootstrap snapshot does not name server 4; a newer one does.
    cluster.server_mut(1).compact(0);
    cluster.with_node(1, |node| {
        node.report_snapshot(id(4), raft_core::SnapshotOutcome::Failed);
    });
    cluster.run(5);
    assert_eq!(cluster.server(4).state(), cluster.server(1).state());
    assert_eq!(voters(&cluster, 4), [1, 2, 3, 4]);
    // With 3 gone, 4 is needed for the majority of four.
    cluster.crash(3);
    let before = cluster.node(1).commit_index();
    cluster.propose(1, command("b")).expect("it leads");
    cluster.deliver_all();
    assert!(cluster.node(1).commit_index() > before);
}

/// Servers that only listen do not count (thesis §4.2.1).
#[test]
fn a_learner_does_not_count_and_does_not_campaign() {
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.change(1, &add_learner(2)).expect("it leads");
    cluster.run(2);
    assert_eq!(voters(&cluster, 1), [1]);
    cluster.crash(2);
    let before = cluster.node(1).commit_index();
    cluster.propose(1, command("a")).expect("it leads");
    assert!(cluster.node(1).commit_index() > before);
    cluster.restart(2);
    cluster.run(2);
    cluster.tick(2, 100);
    assert_eq!(cluster.node(2).role(), RoleKind::Follower);
}

/// A learner votes when it is asked: it may have been promoted and not know.
#[test]
fn a_learner_that_is_asked_votes() {
    use raft_core::{Body, EntryId, Round, VoteResponse};
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.change(1, &add_learner(2)).expect("it leads");
    cluster.run(2);
    cluster.with_node(2, raft_core::RawNode::forget_leader);
    let term = cluster.node(2).term().next();
    let ask = Body::RequestVote {
        round: Round::Vote,
        last: EntryId::new(term, cluster.node(2).last_index().next()),
        transfer: false,
    };
    cluster.deliver(super::message(1, 2, term.get(), ask));
    let answer = cluster.take(|m| m.from == id(2)).pop().expect("it answers");
    assert!(matches!(
        answer.body,
        Body::VoteResponse {
            vote: VoteResponse::Granted,
            ..
        }
    ));
}

/// One change at a time: the next waits until the one before is applied.
#[test]
fn a_second_change_waits_for_the_first() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    let first = cluster.change(1, &add_learner(4)).expect("it leads");
    assert_eq!(refusal(&first), None);
    let second = cluster.change(1, &add_learner(5)).expect("it leads");
    assert!(matches!(
        refusal(&second),
        Some(ConfChangeRefusal::Pending { .. })
    ));
}

/// Ongaro 2015: a new leader lets no change in before it has committed an entry
/// of its own term; here, before it has applied everything it inherited.
#[test]
fn a_new_leader_changes_nothing_before_its_first_commit() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(1);
    cluster
        .propose(1, command("on everybody"))
        .expect("it leads");
    let appends = cluster.take(|_| true);
    for append in appends {
        cluster.deliver(append);
    }
    cluster.take(|_| true);
    // Nobody knows that it is committed; 2 is elected and not heard.
    cluster.elect_unheard(2);
    let change = cluster.change(2, &add_learner(4)).expect("it leads");
    assert!(matches!(
        refusal(&change),
        Some(ConfChangeRefusal::Pending { .. })
    ));
    // Once it is heard it has committed its empty entry, and takes changes.
    cluster.run(2);
    let change = cluster.change(2, &add_learner(4)).expect("it leads");
    assert_eq!(refusal(&change), None);
}

/// Joint consensus: while both configurations are in force, both majorities
/// must agree.
#[test]
fn a_joint_configuration_needs_both_majorities() {
    let mut cluster = Cluster::new(3);
    cluster.add_empty(4);
    cluster.elect(1);
    let change = replace(ConfChangeTransition::JointExplicit);
    cluster.change(1, &change).expect("it leads");
    cluster.run(2);
    assert!(cluster.node(1).membership().is_joint());
    cluster.server_mut(1).compact(0);
    cluster.with_node(1, |node| {
        node.report_snapshot(id(4), raft_core::SnapshotOutcome::Failed);
    });
    cluster.run(3);
    // {1, 4} and {1, 2, 3}: without 4, or without 2 and 3, nothing is committed.
    for (reached, others) in [(&[1, 2, 3][..], &[4][..]), (&[1, 4], &[2, 3])] {
        cluster.partition(reached, others);
        let before = cluster.node(1).commit_index();
        cluster.propose(1, command("a")).expect("it leads");
        cluster.deliver_all();
        assert_eq!(cluster.node(1).commit_index(), before);
        cluster.heal();
        cluster.run(2);
        assert!(cluster.node(1).commit_index() > before);
    }
}

/// The joint configuration is left by another entry; who was staged becomes a
/// learner only then, and who was removed is gone.
#[test]
fn a_joint_configuration_is_left_by_itself_or_by_hand() {
    for transition in [
        ConfChangeTransition::Auto,
        ConfChangeTransition::JointImplicit,
        ConfChangeTransition::JointExplicit,
    ] {
        let mut cluster = Cluster::new(3);
        cluster.add_empty(4);
        cluster.elect(1);
        cluster.change(1, &replace(transition)).expect("it leads");
        for _ in 0..5 {
            cluster.run(1);
            cluster.server_mut(1).compact(0);
            cluster.with_node(1, |node| {
                node.report_snapshot(id(4), raft_core::SnapshotOutcome::Failed);
            });
        }
        if transition == ConfChangeTransition::JointExplicit {
            assert!(cluster.node(1).membership().is_joint());
            let leave = cluster
                .change(1, &ConfChange::leave_joint())
                .expect("it leads");
            assert_eq!(refusal(&leave), None);
            cluster.run(3);
        }
        let expected = ConfState {
            learners: vec![id(2)],
            ..ConfState::of_voters([id(1), id(4)])
        };
        for number in [1, 2, 4] {
            let conf_state = cluster.node(number).membership().conf_state();
            assert!(
                conf_state.is_equivalent_to(&expected),
                "{number}: {conf_state:?}"
            );
        }
    }
}

/// A joint configuration is left before another is entered, and cannot be left
/// where there is none.
#[test]
fn a_joint_configuration_is_left_before_another_is_entered() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let leave = cluster
        .change(1, &ConfChange::leave_joint())
        .expect("it leads");
    assert_eq!(refusal(&leave), Some(ConfChangeRefusal::NotJoint));
    let change = ConfChange {
        transition: ConfChangeTransition::JointExplicit,
        ..remove(3)
    };
    cluster.change(1, &change).expect("it leads");
    cluster.run(2);
    let another = cluster.change(1, &add(4)).expect("it leads");
    assert_eq!(refusal(&another), Some(ConfChangeRefusal::MustLeaveJoint));
}

/// A leader that inherits a joint configuration leaves it.
#[test]
fn a_new_leader_leaves_the_joint_configuration_it_inherits() {
    let mut cluster = Cluster::with(5, plain);
    cluster.elect(1);
    let change = ConfChange {
        transition: ConfChangeTransition::JointImplicit,
        ..remove(5)
    };
    cluster.change(1, &change).expect("it leads");
    // Everybody has applied the joint configuration before it is left.
    let mut rounds = 0;
    while !(cluster.node(2).membership().is_joint()) {
        let messages = cluster.take(|_| true);
        for message in messages {
            cluster.deliver(message);
        }
        rounds += 1;
        assert!(rounds < 20, "server 2 never enters the joint configuration");
    }
    cluster.crash(1);
    cluster.take(|_| true);
    cluster.elect(2);
    cluster.run(3);
    assert!(!cluster.node(2).membership().is_joint());
    assert_eq!(voters(&cluster, 2), [1, 2, 3, 4]);
}

/// Fewer voters, smaller majority: what was waiting is committed at once.
#[test]
fn a_smaller_quorum_commits_what_was_waiting() {
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.change(1, &remove(2)).expect("it leads");
    let appended = cluster.propose(1, command("waiting")).expect("it leads");
    let Proposed::Appended { last, .. } = appended else {
        panic!("it leads")
    };
    // Server 2 acknowledges its own removal, and nothing else.
    let removal = cluster
        .take(|m| m.to == id(2))
        .into_iter()
        .next()
        .expect("it is sent");
    cluster.deliver(removal);
    cluster.take(|m| m.to == id(2));
    cluster.deliver_all();
    assert_eq!(cluster.node(1).commit_index(), last);
}

/// A leader that is removed steps down once that is committed (thesis §4.2.2).
#[test]
fn a_removed_leader_steps_down_after_the_commit() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1], &[2, 3]);
    cluster.change(1, &remove(1)).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
    cluster.heal();
    cluster.run(1);
    cluster.tick(1, 1);
    cluster.run(1);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(voters(&cluster, 1), [2, 3]);
    // It does not campaign: it is no voter.
    cluster.tick(1, 100);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    cluster.elect_somebody();
    assert_ne!(cluster.leader(), Some(id(1)));
}

/// Until then a removed leader does not count itself.
#[test]
fn a_removed_leader_that_leads_on_does_not_count_itself() {
    let mut cluster = Cluster::with(3, |config| Config {
        step_down_on_removal: false,
        ..config
    });
    cluster.elect(1);
    cluster.change(1, &remove(1)).expect("it leads");
    cluster.deliver_all();
    assert_eq!(cluster.node(1).role(), RoleKind::Leader);
    assert!(matches!(
        cluster.propose(1, command("a")),
        Err(raft_core::ProposeError::NotMember)
    ));
}

/// Nobody campaigns with a committed change that it has not applied: it would
/// count the wrong majority.
#[test]
fn nobody_campaigns_over_a_change_that_it_has_not_applied() {
    let mut cluster = Cluster::with(3, |config| Config {
        storage_writes: raft_core::StorageWrites::Asynchronous,
        ..plain(config)
    });
    cluster.elect(1);
    cluster.server_mut(2).hold_disk(Disk::Held);
    cluster.change(1, &remove(3)).expect("it leads");
    cluster.deliver_all();
    while cluster.server(2).has_write() {
        cluster.complete_write(2);
        cluster.deliver_all();
    }
    assert!(cluster.server(2).has_apply());
    assert!(cluster.node(2).commit_index() > cluster.node(2).applied_index());
    cluster.campaign(2);
    assert_eq!(cluster.node(2).role(), RoleKind::Follower);
    cluster.release_disk(2);
    cluster.campaign(2);
    assert_eq!(cluster.node(2).role(), RoleKind::Candidate);
}

/// §6: servers that were removed cannot disrupt the cluster with elections.
#[test]
fn a_removed_server_that_does_not_know_disturbs_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.partition(&[1, 2], &[3]);
    cluster.change(1, &remove(3)).expect("it leads");
    cluster.run(2);
    let before = cluster.node(1).term();
    cluster.tick(3, 100);
    cluster.heal();
    cluster.run(50);
    assert_eq!(cluster.node(1).term(), before);
    assert_eq!(cluster.leader(), Some(id(1)));
}

/// A server that was removed and added again takes part like any other, and
/// what is proposed through it arrives.
#[test]
fn a_server_that_was_removed_and_added_again_takes_part() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.change(1, &remove(3)).expect("it leads");
    cluster.run(2);
    cluster.change(1, &add(3)).expect("it leads");
    cluster.run(5);
    assert_eq!(voters(&cluster, 3), [1, 2, 3]);
    let forwarded = cluster
        .propose(3, command("through 3"))
        .expect("it follows");
    assert_eq!(forwarded, Proposed::Forwarded { to: id(1) });
    cluster.deliver_all();
    assert_eq!(cluster.server(2).commands(), [command("through 3")]);
}

/// A known limit of applying late, which etcd shares: a leader that removed or
/// demoted itself may have more log than everybody else. If the others have
/// not heard that its removal is committed they need its vote, which it cannot
/// give; and it may not campaign. Hand leadership over first.
#[test]
fn who_left_can_be_the_only_one_with_the_longest_log() {
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.change(1, &remove(1)).expect("it leads");
    cluster.propose(1, command("behind it")).expect("it leads");
    // Only the removal arrives, and the answer to it.
    let removal = cluster
        .take(|m| m.to == id(2))
        .into_iter()
        .next()
        .expect("it is sent");
    cluster.deliver(removal);
    let answer = cluster.take(|m| m.to == id(1)).pop().expect("it answers");
    cluster.take(|_| true);
    cluster.deliver(answer);
    cluster.take(|_| true);
    assert_eq!(cluster.node(1).role(), RoleKind::Follower);
    assert_eq!(voters(&cluster, 1), [2]);
    assert_eq!(voters(&cluster, 2), [1, 2]);
    cluster.run(200);
    assert_eq!(cluster.leader(), None);
    assert!(cluster.is_wedged_by_who_left());

    // With a transfer first, nothing is lost.
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.transfer(1, 2).expect("it is alive");
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(id(2)));
    cluster.change(2, &remove(1)).expect("it leads");
    cluster.propose(2, command("behind it")).expect("it leads");
    cluster.run(2);
    assert_eq!(cluster.server(2).commands(), [command("behind it")]);
}
