//! What a replica says of its health, in each state that it can be in. Stalls of
//! the disk and of the state machine, and damage, stand with what else they do:
//! in `replica_handle.rs`, `log_tail.rs`, `backlog.rs` and `peer.rs`.

mod support;

use std::time::Duration;

use raft_tokio::{Health, Raft, Severity, StopReason, Unfit};
use support::{Cluster, node_id};
use tokio::time::timeout;

async fn becomes(raft: &Raft, wanted: &[Unfit]) -> Health {
    let reached = raft.wait_for(|status| status.health().reasons == wanted);
    let reached = timeout(Duration::from_secs(60), reached).await;
    let status = reached.unwrap_or_else(|_| panic!("{:?} is not {wanted:?}", raft.health()));
    status.unwrap().health()
}

#[tokio::test(start_paused = true)]
async fn who_leads_and_who_follows_is_ready() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    for raft in cluster.all() {
        let health = becomes(&raft, &[]).await;
        assert_eq!(health.severity(), None);
        assert!(health.is_live() && health.is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_replica_is_live_and_not_ready() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for raft in cluster.all() {
        cluster.network().isolate(raft.id());
    }
    for raft in cluster.all() {
        let health = becomes(&raft, &[Unfit::NoLeader]).await;
        assert!(health.is_live() && !health.is_ready());
    }
    cluster.network().heal();
    becomes(&leader, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_not_added_yet_and_who_was_removed_are_told_apart() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let new = cluster.join(4).await;
    let health = becomes(&new, &[Unfit::NotMember, Unfit::NoLeader]).await;
    assert!(health.is_live() && !health.is_ready());
    leader.add_learner(node_id(4), None).await.unwrap();
    becomes(&new, &[]).await;

    leader.remove(node_id(4)).await.unwrap();
    let removed = new.wait_for(|status| status.health().reasons.contains(&Unfit::Removed));
    let removed = timeout(Duration::from_secs(60), removed).await;
    let health = removed.expect("it hears of it").unwrap().health();
    assert!(health.is_live() && !health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn who_shuts_down_is_live_until_it_has_stopped() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // What it has taken keeps it.
    cluster.disk(leader.id()).stall();
    let taken = leader.try_propose("taken").unwrap();
    let mut statuses = leader.watch();
    let stopping = leader.clone();
    let stop = tokio::spawn(async move { stopping.shutdown().await });
    let shutting = statuses.wait_for(|status| status.shutting_down).await;
    let health = shutting.unwrap().health();
    assert!(health.reasons.contains(&Unfit::ShuttingDown), "{health:?}");
    assert!(health.is_live() && !health.is_ready());
    stop.await.unwrap();
    drop(taken);
    let health = leader.health();
    let stopped = Unfit::Stopped(StopReason::Shutdown);
    assert!(health.reasons.contains(&stopped), "{health:?}");
    assert_eq!(health.severity(), Some(Severity::NotAlive));
    assert!(!health.is_live() && !health.is_ready());
}
