//! A replica has only the end of its log in memory: who lacks older entries gets
//! them from the disk, and nobody else notices.

mod support;

use std::time::Duration;

use raft_tokio::{
    LogIndex, MemoryNetwork, NodeId, Raft, RaftConfig, Severity, Unfit, WalLogStore,
    WalLogStoreOptions,
};
use support::{Cluster, Journal, StallingLogStore, node_id};
use tokio::time::{sleep, timeout};

const TAIL_ENTRIES_MAX: u64 = 50;
const TAIL_BYTES_MAX: u64 = 2000;
/// The snapshot that a cluster begins with.
const FIRST_SNAPSHOT: u64 = 1;

fn short_tail(config: &mut RaftConfig) {
    config.log_tail_entries_max = TAIL_ENTRIES_MAX;
    config.log_tail_bytes_max = TAIL_BYTES_MAX;
    config.log_read_bytes_max = 4000;
    config.append_bytes_max = 1000;
    config.snapshot_entries = 0;
    config.snapshot_keep_entries = 5;
}

/// Proposes commands one after the other.
async fn propose(leader: &Raft, count: u64) {
    for number in 0..count {
        leader
            .propose(format!("command number {number}"))
            .await
            .unwrap();
    }
}

/// Until a server has applied this many entries and keeps no more of them than it
/// may.
async fn holds_only_the_tail(raft: &Raft, applied: u64) {
    let holds = raft.wait_for(|status| {
        status.applied.get() > applied
            && status.applied == status.last_index
            && status.tail_entries <= TAIL_ENTRIES_MAX
            && status.tail_bytes <= TAIL_BYTES_MAX
    });
    timeout(Duration::from_secs(60), holds)
        .await
        .expect("what is applied is let go")
        .unwrap();
    assert!(raft.status().tail_entries > 0);
}

/// A cluster whose leader has written far more than its tail holds while one
/// follower, the last of the three, was cut off.
async fn with_a_late_follower() -> (Cluster, Raft, Raft) {
    let cluster = Cluster::start_with(3, short_tail).await;
    let leader = cluster.leader().await;
    let late = cluster.follower().await;
    cluster.network().isolate(late.id());
    propose(&leader, 500).await;
    holds_only_the_tail(&leader, 500).await;
    (cluster, leader, late)
}

async fn has_caught_up(late: &Raft, leader: &Raft) {
    let wanted = leader.read().await.unwrap();
    let reached = late.wait_for(|status| status.applied >= wanted);
    timeout(Duration::from_secs(60), reached)
        .await
        .expect("the follower is not stranded")
        .unwrap();
}

/// The leader's disk, which no longer answers reads, once the follower is there
/// again and the leader has asked for what it lacks.
async fn with_a_read_held(cluster: &Cluster, leader: &Raft) -> StallingLogStore {
    let disk = cluster.disk(leader.id()).clone();
    let before = disk.asked_reads().len();
    disk.hold_reads();
    cluster.network().heal();
    let asked = async {
        while disk.asked_reads().len() == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), asked)
        .await
        .expect("the follower lacks old entries");
    disk
}

#[tokio::test(start_paused = true)]
async fn a_late_follower_catches_up_from_the_disk_and_holds_nobody_up() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let term = leader.status().term;
    let mut disk = with_a_read_held(&cluster, &leader).await;
    let asked = disk.asked_reads().len();

    // The disk does not answer for three seconds: nothing else waits for it.
    for number in 0..30 {
        let tick = Duration::from_millis(100);
        timeout(tick, leader.propose(format!("meanwhile {number}")))
            .await
            .expect("no proposal waits for the read")
            .unwrap();
        sleep(tick).await;
    }
    let (leading, waiting) = (leader.status(), late.status());
    assert!(leading.is_leader() && leading.term == term, "{leading:?}");
    assert_eq!(waiting.leader, Some(leader.id()), "heartbeats go on");
    assert!(waiting.applied.get() < 100, "{waiting:?}");
    // Every heartbeat's answer tries again, and none reads again.
    assert_eq!(disk.asked_reads().len(), asked);

    disk.release_reads();
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "530");
    assert_eq!(late.status().snapshot_index.get(), FIRST_SNAPSHOT);
    for raft in cluster.all() {
        holds_only_the_tail(&raft, 530).await;
    }
    // Nothing is read twice: each read begins where no earlier one did.
    let mut lows: Vec<_> = disk.asked_reads().iter().map(|read| read.low).collect();
    let reads = lows.len();
    lows.sort_unstable();
    lows.dedup();
    assert_eq!(lows.len(), reads);
}

#[tokio::test(start_paused = true)]
async fn entries_that_cannot_be_read_end_in_a_snapshot() {
    let (cluster, leader, late) = with_a_late_follower().await;
    cluster.disk(leader.id()).fail_reads();
    cluster.network().heal();
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "500");
    assert!(late.status().snapshot_index.get() > FIRST_SNAPSHOT);
    assert!(leader.status().is_leader());
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_a_few_times_are_tried_again_and_no_snapshot_is_needed() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let disk = cluster.disk(leader.id());
    let before = disk.asked_reads().len();
    disk.fail_next_reads(4);
    cluster.network().heal();
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "500");
    assert_eq!(late.status().snapshot_index.get(), FIRST_SNAPSHOT);
    // The same one five times, and then what is behind it.
    let asked = &disk.asked_reads()[before..];
    assert!(asked[..5].iter().all(|read| read.low == asked[0].low));
    assert!(asked[5].low > asked[0].low);
    assert!(leader.health().is_ready(), "{:?}", leader.health());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_answers_no_read_is_reported_and_the_follower_gets_a_snapshot() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let term = leader.status().term;
    let mut disk = with_a_read_held(&cluster, &leader).await;
    let asked = disk.asked_reads().len();
    let caught_up = has_caught_up(&late, &leader);
    let meanwhile = async {
        for number in 0..100 {
            leader.propose(format!("meanwhile {number}")).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(caught_up, meanwhile);
    assert!(late.status().snapshot_index.get() > FIRST_SNAPSHOT);
    let status = leader.status();
    assert!(status.is_leader() && status.term == term, "{status:?}");
    let health = status.health();
    assert!(
        matches!(health.reasons[..], [Unfit::LogReadsStalled { lag }] if lag >= Duration::from_secs(5)),
        "{health:?}"
    );
    assert!(health.is_live() && !health.is_ready());
    // It is asked nothing more before it has answered.
    assert_eq!(disk.asked_reads().len(), asked);
    assert_eq!(status.waiting.log_reads, 0);
    disk.release_reads();
    let fit = leader.wait_for(|status| status.health().reasons.is_empty());
    timeout(Duration::from_secs(1), fit).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_entry_is_reported_for_good_and_read_once() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let disk = cluster.disk(leader.id());
    let before = disk.asked_reads().len();
    disk.damage();
    cluster.network().heal();
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "500");
    let lows: Vec<LogIndex> = disk.asked_reads()[before..]
        .iter()
        .map(|read| read.low)
        .collect();
    assert_eq!(lows.len(), 1, "{lows:?}");
    // It serves on, and must not be restarted; somebody has to know.
    sleep(Duration::from_secs(600)).await;
    let health = leader.health();
    assert_eq!(health.reasons, [Unfit::LogDamaged { index: lows[0] }]);
    assert_eq!(health.severity(), Some(Severity::Degraded));
    assert!(health.is_live() && health.is_ready());
    leader.propose("and goes on").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_never_answered_ends_in_a_snapshot_once_it_is_dropped() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let disk = with_a_read_held(&cluster, &leader).await;
    disk.fail_reads();
    has_caught_up(&late, &leader).await;
    assert!(late.status().snapshot_index.get() > FIRST_SNAPSHOT);
}

#[tokio::test(start_paused = true)]
async fn a_compaction_during_a_read_ends_in_a_snapshot() {
    let (cluster, leader, late) = with_a_late_follower().await;
    let mut disk = with_a_read_held(&cluster, &leader).await;
    leader.snapshot().await.unwrap();
    leader
        .wait_for(|status| status.first_index.get() > 400)
        .await
        .unwrap();
    disk.release_reads();
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "500");
    assert!(late.status().snapshot_index.get() > 400);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_reads_for_itself_what_the_old_one_was_reading() {
    let (cluster, old, late) = with_a_late_follower().await;
    let mut disk = with_a_read_held(&cluster, &old).await;
    let other = cluster
        .all()
        .into_iter()
        .find(|raft| raft.id() != old.id() && raft.id() != late.id())
        .expect("three servers");
    old.transfer_leadership(other.id()).await.unwrap();
    other.propose("of the new leader").await.unwrap();
    has_caught_up(&late, &other).await;
    assert_eq!(late.status().snapshot_index.get(), FIRST_SNAPSHOT);
    assert!(!cluster.disk(other.id()).asked_reads().is_empty());
    // Its answer comes when nobody waits for it any more.
    disk.release_reads();
    assert_eq!(old.query("len").await.unwrap(), "501");
    assert_eq!(old.status().waiting.log_reads, 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_memory_holds_the_tail_once_the_log_is_applied() {
    let (mut cluster, leader, _) = with_a_late_follower().await;
    cluster.network().heal();
    let id = leader.id().get();
    drop(leader);
    let again = cluster.restart(id).await;
    holds_only_the_tail(&again, 500).await;
    assert_eq!(again.query("len").await.unwrap(), "500");
}

async fn start_on_disk(
    id: NodeId,
    voters: &[NodeId],
    network: &MemoryNetwork,
    folder: &std::path::Path,
) -> Raft {
    let mut options = WalLogStoreOptions::new(7, id);
    // So small that the log has many segments.
    options.wal = options
        .wal
        .segment_bytes(16 << 10)
        .preallocate_bytes(8 << 10);
    let log = WalLogStore::open(&folder.join(id.to_string()), options).unwrap();
    let mut config = RaftConfig::new(id, voters.to_vec());
    short_tail(&mut config);
    config.tick = Duration::from_millis(20);
    Raft::start(config, Journal::default(), log, network.join(id))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_late_follower_catches_up_from_the_segments_of_a_real_log() {
    let folder = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::new();
    let voters: Vec<NodeId> = (1..=3).map(node_id).collect();
    let mut rafts = Vec::new();
    for id in &voters {
        rafts.push(start_on_disk(*id, &voters, &network, folder.path()).await);
    }
    rafts[0].propose("first").await.unwrap();
    let status = rafts[0].status();
    let leader = rafts
        .iter()
        .find(|raft| Some(raft.id()) == status.leader)
        .expect("somebody leads")
        .clone();
    let late = rafts
        .iter()
        .find(|raft| raft.id() != leader.id())
        .expect("three servers")
        .clone();
    network.isolate(late.id());
    let commands: Vec<_> = (0..3000)
        .map(|n| leader.propose(format!("{n:0>100}")))
        .collect();
    for outcome in futures::future::join_all(commands).await {
        outcome.unwrap();
    }
    holds_only_the_tail(&leader, 3000).await;
    network.heal();
    // Others are written meanwhile.
    propose(&leader, 100).await;
    has_caught_up(&late, &leader).await;
    assert_eq!(late.query("len").await.unwrap(), "3101");
    let status = late.status();
    assert_eq!(status.snapshot_index.get(), FIRST_SNAPSHOT, "{status:?}");
    for raft in rafts {
        raft.shutdown().await;
    }
}
