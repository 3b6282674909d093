//! Disks that stall, and a state machine that does not keep up.

use std::time::Duration;

use raft_tokio::{ProposeError, RoleKind, Unfit};

use crate::applied_commands;
use crate::support::Cluster;

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_stalls_hands_over_and_does_not_campaign() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    old.propose("before").await.unwrap();
    assert!(old.health().is_ready(), "{:?}", old.health());
    cluster.disk(old.id()).stall();
    let during = old.try_propose("during").unwrap();
    let new = cluster.leader_other_than(old.id());
    let new = tokio::time::timeout(Duration::from_secs(3), new).await;
    let new = new.expect("another leads soon");
    new.propose("after").await.unwrap();
    let status = old.wait_for(|status| status.disk_stalled).await.unwrap();
    assert!(status.disk_lag >= Duration::from_secs(1), "{status:?}");
    assert!(status.health().is_live());
    assert!(!status.health().is_ready());
    assert!(
        matches!(status.health().reasons[0], Unfit::DiskStalled { .. }),
        "{:?}",
        status.health()
    );
    // Not even when it hears of nobody.
    cluster.network().isolate(old.id());
    let term = old.status().term;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(old.status().role, RoleKind::Follower);
        assert_eq!(old.status().term, term);
    }
    // Its callers have heard by now.
    assert!(during.await.is_err_and(|error| error.is_indeterminate()));
    cluster.network().heal();
    cluster.disk(old.id()).resume();
    old.wait_for(|status| !status.disk_stalled && status.applied >= new.status().applied)
        .await
        .unwrap();
    assert_eq!(applied_commands(&old).await, ["before", "during", "after"]);
    let back = old.wait_for(|status| status.health().is_ready()).await;
    assert!(back.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_disk_stalls_holds_nobody_up() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.disk(follower.id()).stall();
    for n in 0..50 {
        leader.propose(format!("{n}")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(leader.status().is_leader());
    assert!(follower.status().disk_stalled);
    cluster.disk(follower.id()).resume();
    assert_eq!(applied_commands(&follower).await.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn intake_stops_when_too_much_is_unapplied_and_heartbeats_go_on() {
    let cluster = Cluster::start_with(3, |config| config.unapplied_entries_max = 20).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let term = leader.status().term;
    let mut others = cluster.all();
    others.retain(|raft| raft.id() != leader.id());
    // Nothing can be committed, hence nothing be applied, and the leader hears
    // of everybody.
    for other in &others {
        cluster.disk(other.id()).stall();
    }
    let mut replies = Vec::new();
    for n in 0..20 {
        replies.push(leader.try_propose(format!("{n}")).unwrap());
    }
    leader.wait_for(|status| status.overloaded).await.unwrap();
    assert!(!leader.health().is_ready());
    assert!(leader.health().is_live());
    let refused = leader.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    // A request that was passed on is refused at once.
    let refused = follower.propose("too much").await.unwrap_err();
    assert_eq!(refused, ProposeError::QuotaExceeded);
    assert_eq!(
        (leader.status().role, leader.status().term),
        (RoleKind::Leader, term)
    );
    for other in &others {
        cluster.disk(other.id()).resume();
    }
    leader.wait_for(|status| !status.overloaded).await.unwrap();
    leader.propose("room again").await.unwrap();
    let applied = applied_commands(&leader).await;
    assert!(!applied.contains(&"too much".to_owned()));
    for reply in replies {
        assert!(reply.await.is_err_and(|error| error.is_indeterminate()));
    }
}
