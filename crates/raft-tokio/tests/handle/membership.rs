//! Servers that come and go.

use std::time::Duration;

use raft_tokio::{ChangeMembershipError, ProposeError, ReadError, ReplicaStatus};
use tokio::time::timeout;

use crate::applied_commands;
use crate::support::traces::Traces;
use crate::support::{Address, Cluster, node_id};

#[tokio::test(start_paused = true)]
async fn a_server_comes_listens_votes_and_goes() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("one").await.unwrap();
    let four = node_id(4);
    let joined = cluster.join(4).await;
    let address = "four:7000".to_owned();
    let members = leader
        .add_learner(four, Some(address.clone()))
        .await
        .unwrap();
    assert_eq!(members.learners, [four]);
    let again = leader.add_learner(four, None).await;
    assert_eq!(
        again,
        Err(ChangeMembershipError::AlreadyMember { id: four })
    );
    let members = leader.promote(four).await.unwrap();
    assert_eq!(members.voters.len(), 4);
    let again = leader.promote(four).await;
    assert_eq!(again, Err(ChangeMembershipError::AlreadyVoter { id: four }));
    assert_eq!(applied_commands(&joined).await, ["one"]);
    // Everybody knows the address.
    for id in 1..=3 {
        assert_eq!(cluster.address(id, four), Address::At(address.clone()));
    }
    leader.move_member(four, "elsewhere".into()).await.unwrap();
    leader.propose("moved").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in 1..=3 {
        let elsewhere = Address::At("elsewhere".to_owned());
        assert_eq!(cluster.address(id, four), elsewhere);
    }
    // What tells it so is on its way for a while.
    cluster.network().hold(leader.id(), four);
    let members = leader.remove(four).await.unwrap();
    assert_eq!(members.voters.len(), 3);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!joined.status().is_removed());
    assert_ne!(cluster.address(leader.id().get(), four), Address::Forgotten);
    cluster.network().release();
    let again = leader.remove(four).await;
    assert_eq!(again, Err(ChangeMembershipError::NotMember { id: four }));
    // It knows, and says so.
    let status = joined.wait_for(ReplicaStatus::is_removed).await;
    assert!(!status.unwrap().health().is_ready());
    assert_eq!(joined.propose("x").await, Err(ProposeError::NotMember));
    assert_eq!(joined.query("len").await, Err(ReadError::NotMember));
    tokio::time::sleep(Duration::from_secs(2)).await;
    for id in 1..=3 {
        assert_eq!(cluster.address(id, four), Address::Forgotten);
    }
    leader.propose("two").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_gets_no_vote() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let nobody = node_id(4);
    leader.add_learner(nobody, None).await.unwrap();
    let refused = leader.promote(nobody).await.unwrap_err();
    assert!(
        matches!(refused, ChangeMembershipError::NotCaughtUp { id, .. } if id == nobody),
        "{refused}"
    );
    assert_eq!(leader.status().conf_state.learners, [nobody]);
    let stranger = leader.promote(node_id(9)).await.unwrap_err();
    assert_eq!(
        stranger,
        ChangeMembershipError::NotMember { id: node_id(9) }
    );
    let follower = cluster.follower().await;
    let refused = follower.promote(nobody).await.unwrap_err();
    let leader = Some(leader.id());
    assert_eq!(refused, ChangeMembershipError::NotLeader { leader });
}

/// Longer than an election timeout, and than whatever is under way takes.
const A_WHILE: Duration = Duration::from_secs(5);

/// How often a server has said since it was last asked that it was removed.
async fn removals_said(traces: &Traces) -> usize {
    tokio::time::sleep(A_WHILE).await;
    let said = traces.take();
    said.matches("this node was removed from the cluster")
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_said_once_and_not_when_it_was_taken_back_since() {
    let traces = Traces::listen();
    let mut cluster = Cluster::start_with(3, |config| config.snapshot_entries = 0).await;
    let leader = cluster.leader().await;
    let three = cluster.follower().await;
    let id = three.id();
    assert_eq!(removals_said(&traces).await, 0);

    // It hears of its removal, and says so.
    leader.remove(id).await.unwrap();
    let removed = three.wait_for(ReplicaStatus::is_removed);
    timeout(A_WHILE, removed).await.expect("it hears").unwrap();
    assert_eq!(removals_said(&traces).await, 1);
    assert_eq!(removals_said(&traces).await, 0);
    // Whoever starts again without being a member says so again.
    cluster.restart(id.get()).await;
    assert_eq!(removals_said(&traces).await, 1);

    // It is added again, and goes through both entries when it starts again.
    leader.add_learner(id, None).await.unwrap();
    leader.promote(id).await.unwrap();
    assert_eq!(removals_said(&traces).await, 0);
    let three = cluster.restart(id.get()).await;
    assert_eq!(removals_said(&traces).await, 0);
    assert!(three.status().conf_state.voters.contains(&id));

    // It is away while it is removed and added again, and then catches up.
    cluster.network().isolate(id);
    leader.remove(id).await.unwrap();
    leader.propose("x").await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    leader.add_learner(id, None).await.unwrap();
    cluster.network().heal();
    let last = leader.status().last_index;
    let there = three.wait_for(|status| status.applied >= last);
    timeout(A_WHILE, there)
        .await
        .expect("it catches up")
        .unwrap();
    assert_eq!(three.status().conf_state.learners, [id]);
    assert_eq!(removals_said(&traces).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_the_place_of_another_in_one_step() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let old = cluster.follower().await.id();
    cluster.join(4).await;
    leader.add_learner(node_id(4), None).await.unwrap();
    let members = leader.replace(old, node_id(4)).await.unwrap();
    assert!(!members.is_joint());
    assert!(members.voters.contains(&node_id(4)));
    assert!(!members.voters.contains(&old));
    assert_eq!(members.voters.len(), 3);
    leader.propose("x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_whole_cluster_moves_to_other_servers() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    leader.propose("kept").await.unwrap();
    let new = [4, 5, 6].map(node_id);
    for id in new {
        cluster.join(id.get()).await;
    }
    let members = leader.set_members(&new, &[]).await.unwrap();
    assert_eq!(members.voters, new);
    assert!(members.learners.is_empty() && !members.is_joint());
    // The leader removed itself, so it leads no more.
    let now = cluster.leader_other_than(leader.id()).await;
    assert!(new.contains(&now.id()));
    assert_eq!(applied_commands(&now).await, ["kept"]);
    let same = now.set_members(&new, &[]).await.unwrap();
    assert_eq!(same.voters, new);
    let both = now.set_members(&new, &new[..1]).await.unwrap_err();
    assert_eq!(both, ChangeMembershipError::VoterAndLearner { id: new[0] });
}

#[tokio::test(start_paused = true)]
async fn a_transfer_by_a_leader_that_is_cut_off_ends() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.network().isolate(leader.id());
    let transfer = leader.transfer_leadership(follower.id());
    let outcome = timeout(Duration::from_secs(10), transfer).await;
    assert!(outcome.expect("it ends").is_err());
}
