//! The handle, on an in-memory network and log, with the runtime's clock paused.

mod support;

use std::time::Duration;

use raft_tokio::{ChangeMembershipError, ConfChange, ConfChangeType, ProposeError, TransferError};
use support::{Cluster, node_id};

#[tokio::test(start_paused = true)]
async fn a_single_node_answers_with_the_state_machines_reply() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader().await;
    let applied = leader.propose("a").await.unwrap();
    assert_eq!(applied.reply, "1:a");
    let again = leader.propose("b").await.unwrap();
    assert_eq!(again.reply, "2:b");
    assert!(again.index > applied.index);
    assert_eq!(leader.query("len").await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn three_nodes_commit_and_every_one_applies() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for n in 0..100 {
        leader.propose(format!("command {n}")).await.unwrap();
    }
    for raft in cluster.all() {
        assert_eq!(raft.query("len").await.unwrap(), "100");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_passes_a_command_on_and_its_reply_comes_back() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    let follower = cluster.follower().await;
    let applied = follower.propose("from afar").await.unwrap();
    assert_eq!(applied.reply, "1:from afar");
    assert_eq!(follower.query("len").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn proposals_wait_while_nobody_leads_and_flow_again() {
    let cluster = Cluster::start(3).await;
    // Nobody has campaigned yet: the proposal waits for the election.
    let raft = cluster.raft(1);
    let applied = raft.propose("early").await.unwrap();
    assert_eq!(applied.reply, "1:early");
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_every_call_ends() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("before").await.unwrap();
    cluster.network().isolate(leader.id());
    let outcome = leader.propose("lost?").await.unwrap_err();
    assert!(outcome.is_indeterminate(), "{outcome:?}");
    // By now it has stepped down, so nobody leads here.
    let outcome = leader.propose("not made").await.unwrap_err();
    assert_eq!(outcome, ProposeError::NotLeader { leader: None });
    assert!(outcome.is_retryable());
    assert!(leader.query("len").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_takes_over_and_the_old_one_follows() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    old.propose("one").await.unwrap();
    cluster.network().isolate(old.id());
    let new = cluster.leader_other_than(old.id()).await;
    new.propose("two").await.unwrap();
    cluster.network().heal();
    old.wait_for(|status| status.leader == Some(new.id()))
        .await
        .unwrap();
    assert_eq!(old.query("len").await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    leader.transfer_leadership(follower.id()).await.unwrap();
    follower.propose("x").await.unwrap();
    let nobody = node_id(9);
    let now = cluster.leader_other_than(leader.id()).await;
    assert_eq!(
        now.transfer_leadership(nobody).await,
        Err(TransferError::NotVoter { to: nobody })
    );
}

#[tokio::test(start_paused = true)]
async fn a_learner_is_added_promoted_and_removed() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for n in 0..10 {
        leader.propose(format!("{n}")).await.unwrap();
    }
    let learner = cluster.join(4).await;
    let add = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(4));
    let conf_state = leader.change_membership(add).await.unwrap();
    assert_eq!(conf_state.learners, [node_id(4)]);
    learner
        .wait_for(|status| status.applied >= leader.status().applied)
        .await
        .unwrap();
    let promote = ConfChange::single(ConfChangeType::AddNode, node_id(4));
    let conf_state = leader.change_membership(promote).await.unwrap();
    assert_eq!(conf_state.voters.len(), 4);
    assert_eq!(learner.query("len").await.unwrap(), "10");
    let remove = ConfChange::single(ConfChangeType::RemoveNode, node_id(4));
    let conf_state = leader.change_membership(remove).await.unwrap();
    assert_eq!(conf_state.voters.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_far_behind_gets_a_snapshot() {
    let cluster = Cluster::start_with(3, |config| {
        config.snapshot_entries = 20;
        config.snapshot_keep_entries = 5;
    })
    .await;
    let leader = cluster.leader().await;
    let late = cluster.follower().await;
    cluster.network().isolate(late.id());
    for n in 0..100 {
        leader.propose(format!("{n}")).await.unwrap();
    }
    leader
        .wait_for(|status| status.first_index.get() > 50)
        .await
        .unwrap();
    cluster.network().heal();
    late.wait_for(|status| status.applied >= leader.status().applied)
        .await
        .unwrap();
    assert_eq!(late.query("len").await.unwrap(), "100");
    assert!(late.status().snapshot_index.get() > 50);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_is_there_after_a_restart() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.snapshot_entries = 30;
        config.snapshot_keep_entries = 5;
    })
    .await;
    let leader = cluster.leader().await;
    for n in 0..70 {
        leader.propose(format!("{n}")).await.unwrap();
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(leader.query("len").await.unwrap(), "70");
    assert_eq!(leader.propose("more").await.unwrap().reply, "71:more");
}

/// The members that a server was set up with are those of its first start only.
#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_members_of_its_log() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let gone = cluster.follower().await.id();
    let remove = ConfChange::single(ConfChangeType::RemoveNode, gone);
    let members = leader.change_membership(remove).await.unwrap();
    assert_eq!(members.voters.len(), 2);
    for id in 1..=3 {
        if node_id(id) == gone {
            continue;
        }
        let restarted = cluster.restart(id).await;
        let knows = restarted.wait_for(|status| status.conf_state.is_equivalent_to(&members));
        tokio::time::timeout(Duration::from_secs(60), knows)
            .await
            .expect("it knows the members")
            .unwrap();
    }
    let leader = cluster.leader().await;
    leader.propose("by two of two").await.unwrap();
    assert!(leader.status().conf_state.is_equivalent_to(&members));
}

#[tokio::test(start_paused = true)]
async fn a_follower_refuses_a_change_of_members_and_names_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let remove = ConfChange::single(ConfChangeType::RemoveNode, leader.id());
    let refused = follower.change_membership(remove).await.unwrap_err();
    assert_eq!(
        refused,
        ChangeMembershipError::NotLeader {
            leader: Some(leader.id())
        }
    );
    assert_eq!(follower.status().conf_state.voters.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_every_wait() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.network().isolate(leader.id());
    let before = leader.status().last_index;
    let waiting = tokio::spawn({
        let leader = leader.clone();
        async move { leader.propose("never").await }
    });
    leader
        .wait_for(|status| status.last_index > before)
        .await
        .unwrap();
    leader.shutdown().await;
    let outcome = waiting.await.unwrap().unwrap_err();
    assert!(outcome.is_indeterminate());
    assert!(matches!(
        leader.propose("late").await,
        Err(ProposeError::Stopped(_))
    ));
}
