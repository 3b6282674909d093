//! Stopping hands over, finishes what was taken, and leaves nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::applied_commands;
use crate::support::Cluster;

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
        tokio::time::sleep(Duration::from_millis(300)).await;
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
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
