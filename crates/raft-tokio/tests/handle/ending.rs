//! Stopping hands over, finishes what was taken, and leaves nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raft_tokio::snapshot::SnapshotExchange;
use raft_tokio::transport::{Inbox, Packet};
use raft_tokio::{MemoryLogStore, NodeId, Raft, RaftConfig, Transport};
use tokio::time::{Instant, sleep};

use crate::applied_commands;
use crate::support::{Cluster, Journal, node_id};

#[tokio::test(start_paused = true)]
async fn shutting_down_hands_over_and_finishes_what_was_taken() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let disks: Vec<_> = cluster
        .all()
        .iter()
        .map(|raft| cluster.disk(raft.id()).clone())
        .collect();
    for disk in &disks {
        disk.stall();
    }
    let mut replies = Vec::new();
    for n in 0..100 {
        replies.push(leader.try_propose(format!("{n}")).unwrap());
    }
    // They are in the log, and not committed before the disks are done.
    leader
        .wait_for(|status| status.waiting.proposals > 0)
        .await
        .unwrap();
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        for disk in disks {
            disk.resume();
        }
    });
    let began = Instant::now();
    leader.shutdown().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "no hand-over: {took:?}");
    for reply in replies {
        reply.await.unwrap();
    }
    let new = cluster.leader_other_than(leader.id()).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(applied_commands(&new).await.len(), 100);
    let refused = leader.propose("late").await.unwrap_err();
    assert!(refused.is_retryable() && !refused.is_indeterminate());
    // Again is the same.
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_outlives_the_replica_hears_so() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader().await;
    let permit = leader.reserve().await.unwrap();
    leader.shutdown().await;
    let reply = permit.propose("late").unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), reply).await;
    let refused = heard.expect("it hears of it").unwrap_err();
    assert!(refused.is_retryable() && !refused.is_indeterminate());
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_after_a_shutdown_or_when_the_last_handle_is_gone() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await.propose("x").await.unwrap();
    assert!(tasks() > before);
    for id in 1..=2 {
        cluster.raft(id).shutdown().await;
    }
    cluster.drop_handles(3);
    let end = Instant::now() + Duration::from_secs(10);
    while tasks() > before {
        assert!(Instant::now() < end, "{} tasks are left", tasks() - before);
        sleep(Duration::from_millis(10)).await;
    }
}

/// Has nobody to talk to, and a task that takes a while to end.
struct Lingering {
    ends_after: Duration,
    has_ended: Arc<AtomicBool>,
}

impl Transport for Lingering {
    fn start(&mut self, _inbox: Inbox, _snapshots: SnapshotExchange) {}

    fn send(&mut self, _to: NodeId, _packet: Packet) {}

    fn stopped(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (ends_after, has_ended) = (self.ends_after, self.has_ended.clone());
        Box::pin(async move {
            sleep(ends_after).await;
            has_ended.store(true, Ordering::SeqCst);
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_the_transport_has_running_though_not_for_ever() {
    for (takes, has_ended_in_time) in [(2, true), (3600, false)] {
        let has_ended = Arc::new(AtomicBool::new(false));
        let transport = Lingering {
            ends_after: Duration::from_secs(takes),
            has_ended: has_ended.clone(),
        };
        let config = RaftConfig::new(node_id(1), vec![node_id(1)]);
        let started = Raft::start(config, Journal::default(), MemoryLogStore::new(), transport);
        let raft = started.await.unwrap();
        let began = Instant::now();
        raft.shutdown().await;
        assert_eq!(has_ended.load(Ordering::SeqCst), has_ended_in_time);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
