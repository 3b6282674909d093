//! Linearizable, lease and stale reads.

use std::time::Duration;

use raft_tokio::ReadError;
use tokio::time::Instant;

use crate::support::{Cluster, node_id};

#[tokio::test(start_paused = true)]
async fn a_lease_answers_without_a_quorum_and_ends_before_anybody_else_leads() {
    let cluster = Cluster::start_with(3, |config| {
        config.lease_reads = true;
        // Clocks whose speed differs, within the bound.
        config.tick = Duration::from_millis(if config.id.get() == 1 { 104 } else { 96 });
    })
    .await;
    let old = cluster.raft(1);
    old.campaign().await.unwrap();
    old.wait_for(raft_tokio::ReplicaStatus::is_leader)
        .await
        .unwrap();
    let applied = old.propose("one").await.unwrap();
    assert_eq!(old.query_lease("len").await.unwrap(), "1");
    cluster.network().isolate(old.id());
    // The lease still holds.
    let began = Instant::now();
    assert_eq!(old.query_lease("len").await.unwrap(), "1");
    assert_eq!(old.read_lease().await.unwrap(), applied.index);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let reader = tokio::spawn({
        let old = old.clone();
        async move {
            let mut last = Instant::now();
            // Every few milliseconds a read that does not wait for a quorum.
            for _ in 0..600 {
                let read = old.query_lease("len");
                if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(1), read).await {
                    assert_eq!(length, "1");
                    last = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            last
        }
    });
    let new = cluster.leader_other_than(old.id()).await;
    let elected = Instant::now();
    new.propose("two").await.unwrap();
    let last = reader.await.unwrap();
    assert!(last < elected, "the lease overlapped with another leader");
    assert!(
        last > began + Duration::from_millis(500),
        "the lease was not used"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transfer_ends_the_lease_at_once() {
    let cluster = Cluster::start_with(3, |config| config.lease_reads = true).await;
    let old = cluster.leader().await;
    old.propose("one").await.unwrap();
    old.query_lease("len").await.unwrap();
    let to = cluster.follower().await;
    // The order to campaign is under way for as long as it is held.
    cluster.network().hold(old.id(), to.id());
    let transfer = tokio::spawn({
        let (old, to) = (old.clone(), to.id());
        async move { old.transfer_leadership(to).await }
    });
    old.wait_for(|status| status.transferee.is_some())
        .await
        .unwrap();
    cluster.network().isolate(old.id());
    let read = tokio::time::timeout(Duration::from_millis(50), old.query_lease("len"));
    assert!(
        read.await.is_err(),
        "a read was answered by a lease that may be void"
    );
    cluster.network().heal();
    cluster.network().release();
    let _ = transfer.await.unwrap();
    let leader = cluster.leader().await;
    assert_eq!(leader.query("len").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_is_as_fresh_as_asked_for_even_without_a_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    leader.propose("one").await.unwrap();
    let second = Duration::from_secs(1);
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "1");
    cluster.network().isolate(follower.id());
    leader.propose("two").await.unwrap();
    tokio::time::sleep(second / 2).await;
    // Old, but not too old.
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "1");
    tokio::time::sleep(3 * second).await;
    assert_eq!(follower.status().leader, None);
    assert_eq!(follower.query_stale("len", 10 * second).await.unwrap(), "1");
    // Too old: asks, and nobody answers.
    let began = Instant::now();
    let outcome = follower.query_stale("len", second).await;
    assert_eq!(outcome, Err(ReadError::Timeout));
    assert!(began.elapsed() < 6 * second);
    cluster.network().heal();
    cluster.leader().await;
    assert_eq!(follower.query_stale("len", second).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn reads_end_and_never_go_back_across_leader_changes_and_delays() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start_with(3, |config| config.lease_reads = config.id.get() < 9).await;
    let mut written = 0_usize;
    for _ in 0..25 {
        let leader = cluster.leader().await;
        if leader.propose(format!("{written}")).await.is_ok() {
            written += 1;
        }
        let (from, to) = (random.u64(1..=3), random.u64(1..=3));
        cluster.network().hold(node_id(from), node_id(to));
        if random.bool() {
            cluster.network().isolate(leader.id());
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..2500))).await;
        cluster.network().release();
        let reads: Vec<_> = cluster
            .all()
            .into_iter()
            .map(|raft| {
                let by_lease = random.bool();
                tokio::spawn(async move {
                    if by_lease {
                        raft.query_lease("len").await
                    } else {
                        raft.query("len").await
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
        cluster.network().heal();
        for read in reads {
            let read = tokio::time::timeout(Duration::from_secs(10), read);
            let outcome = read.await.expect("every read ends").unwrap();
            if let Ok(length) = outcome {
                let length: usize = std::str::from_utf8(&length).unwrap().parse().unwrap();
                assert!(length >= written, "{length} of {written}");
            }
        }
        // What was unknown then is known now.
        let leader = cluster.leader().await;
        if let Ok(length) = leader.query("len").await {
            written = std::str::from_utf8(&length).unwrap().parse().unwrap();
        }
    }
    assert!(written > 5);
}
