//! A follower that gets a snapshot goes on in the log behind it, however long it
//! takes and whatever is written meanwhile.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{LogIndex, Raft, RaftConfig, ReplicaStatus};
use tokio::time::timeout;

mod on_disk;
mod support;

use on_disk::{Servers, first_alone, node_id};
use support::{Cluster, Journal};

/// Nothing here takes this long, in simulated time or not.
const PATIENCE: Duration = Duration::from_secs(120);
/// Slow enough for simulated time to pass.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// How long a snapshot is on its way.
const TRAVEL: Duration = Duration::from_secs(30);
const COMMAND_BYTES: usize = 8 << 10;

async fn wait_for(raft: &Raft, wanted: impl Fn(&ReplicaStatus) -> bool) -> ReplicaStatus {
    let reached = timeout(PATIENCE, raft.wait_for(wanted)).await;
    reached.expect("in time").unwrap()
}

async fn write(raft: &Raft, count: usize) {
    for _ in 0..count {
        raft.propose(Bytes::from(vec![b'x'; COMMAND_BYTES]))
            .await
            .unwrap();
    }
}

/// A snapshot that is on its way to a follower for [`TRAVEL`].
struct Transfer {
    cluster: Cluster,
    leader: Raft,
    follower: Raft,
    /// Where the snapshot stands.
    snapshot: LogIndex,
}

impl Transfer {
    async fn begin(configure: impl Fn(&mut RaftConfig) + 'static) -> Self {
        let cluster = Cluster::start_with(3, move |config| {
            config.snapshot_entries = 50;
            config.snapshot_keep_entries = 10;
            configure(config);
        })
        .await;
        let leader = cluster.leader().await;
        let follower = cluster.follower().await;
        cluster.network().isolate(follower.id());
        let had = follower.status().last_index;
        write(&leader, 100).await;
        wait_for(&leader, |status| status.first_index > had.next()).await;
        cluster.network().heal();
        cluster.network().delay_snapshots(TRAVEL);
        while cluster.snapshots_sent(leader.id()).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The clock stands while a thread is at work, so then it has been opened.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let snapshot = leader.status().snapshot_index;
        Self {
            cluster,
            leader,
            follower,
            snapshot,
        }
    }

    /// Goes on writing until the follower has caught up, and says how many snapshots
    /// the leader has sent by then.
    async fn end(&self) -> usize {
        // A second one, if it takes one, is quicker.
        self.cluster.network().heal();
        let caught_up = async {
            loop {
                write(&self.leader, 1).await;
                tokio::time::sleep(WRITE_EVERY).await;
                let last = self.leader.status().last_index;
                if self.follower.status().applied.plus(5) >= last {
                    break;
                }
            }
        };
        timeout(PATIENCE, caught_up).await.expect("it catches up");
        let sent = self.cluster.snapshots_sent(self.leader.id());
        assert!(sent.iter().all(|to| *to == self.follower.id()));
        sent.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_needs_one_snapshot_whatever_is_written_while_it_travels() {
    let transfer = Transfer::begin(|_| {}).await;
    let Transfer {
        leader, snapshot, ..
    } = &transfer;
    // Enough for many snapshots more, each of which would cut the log.
    write(leader, 500).await;
    let status = wait_for(leader, |status| status.snapshot_index >= snapshot.plus(450)).await;
    assert!(status.first_index <= snapshot.next(), "{status:?}");
    assert_eq!(transfer.end().await, 1);
    // The log is cut again once nobody needs it.
    let last = leader.status().last_index;
    write(leader, 200).await;
    wait_for(leader, |status| status.first_index >= last).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_is_not_kept_for_ever_for_a_follower_that_takes_too_long() {
    const PATIENCE_WITH_IT: Duration = Duration::from_secs(5);
    let transfer = Transfer::begin(|config| {
        config.snapshot_hold_timeout = PATIENCE_WITH_IT;
    })
    .await;
    let Transfer {
        leader, snapshot, ..
    } = &transfer;
    write(leader, 100).await;
    assert!(leader.status().first_index <= snapshot.next());
    tokio::time::sleep(2 * PATIENCE_WITH_IT).await;
    write(leader, 100).await;
    wait_for(leader, |status| status.first_index > snapshot.next()).await;
    // Then it gets another one, and that does.
    assert!(transfer.end().await > 1);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_not_kept_without_a_bound_for_a_follower_that_gets_a_snapshot() {
    const BYTES_MAX: u64 = 4 << 20;
    let transfer = Transfer::begin(|config| config.snapshot_hold_bytes_max = BYTES_MAX).await;
    let Transfer {
        leader, snapshot, ..
    } = &transfer;
    write(leader, 200).await;
    assert!(leader.status().first_index <= snapshot.next());
    // More than may be kept, though not by much.
    write(leader, 500).await;
    wait_for(leader, |status| status.first_index > snapshot.next()).await;
    assert!(transfer.end().await > 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_a_newer_one_is_about_to_replace_is_not_sent_any_more() {
    // Several heartbeats, though no election timeout.
    const COMPACTION: Duration = Duration::from_millis(500);
    let cluster = Cluster::start_with(3, |config| {
        config.snapshot_entries = 50;
        config.snapshot_keep_entries = 10;
    })
    .await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.network().isolate(follower.id());
    let had = follower.status().last_index;
    write(&leader, 60).await;
    let status = wait_for(&leader, |status| status.first_index > had.next()).await;
    let older = status.snapshot_index;

    let disk = cluster.disk(leader.id());
    disk.compact_slowly(COMPACTION);
    let newer = older.plus(50);
    while leader.propose("x").await.unwrap().index < newer {}
    let compacting = async {
        while !disk.is_compacting() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, compacting)
        .await
        .expect("a newer snapshot");
    // The older one is all there is when the follower asks.
    cluster.network().heal();
    wait_for(&follower, |status| status.applied >= newer).await;
    assert_eq!(follower.status().snapshot_index, newer);
    assert_eq!(cluster.snapshots_sent(leader.id()), [follower.id()]);
}

/// Starts the first server, which is alone at first, or the second one, which comes
/// later and takes no snapshots itself.
async fn start(servers: &Servers, id: u64, snapshot_entries: u64) -> Raft {
    let config = RaftConfig {
        tick: Duration::from_millis(20),
        snapshot_entries,
        snapshot_keep_entries: 0,
        ..RaftConfig::new(node_id(id), first_alone(id))
    };
    let log = servers.log(id).unwrap();
    let transport = servers.listen(id, &log).await;
    Raft::start(config, Journal::default(), log, transport)
        .await
        .unwrap()
}

#[tokio::test]
async fn over_a_slow_connection_and_under_load_one_snapshot_is_enough() {
    let mut servers = Servers::new(2);
    servers.snapshot_bytes_per_second_max = NonZeroU64::new(1 << 20);
    let leader = start(&servers, 1, 20).await;
    leader.campaign().await.unwrap();
    wait_for(&leader, ReplicaStatus::is_leader).await;
    // A MiB and a half, so that a snapshot is on its way for longer than a second.
    write(&leader, 192).await;

    let follower = start(&servers, 2, 0).await;
    let mut statuses = follower.watch();
    leader.add_learner(node_id(2), None).await.unwrap();
    let mut installed = BTreeSet::new();
    let caught_up = async {
        loop {
            leader.propose("x").await.unwrap();
            let status = statuses.borrow_and_update().clone();
            installed.extend(Some(status.snapshot_index).filter(|index| *index > LogIndex::ZERO));
            if status.applied.plus(10) >= leader.status().last_index {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, caught_up).await.expect("it catches up");
    assert_eq!(installed.len(), 1, "{installed:?}");
    // There were others meanwhile.
    let taken = leader.status().snapshot_index;
    assert!(
        installed.iter().all(|index| index.plus(40) < taken),
        "{installed:?}, {taken}"
    );
    leader.shutdown().await;
    follower.shutdown().await;
}
