//! Snapshots of state machines that are too large for memory, from the machine
//! to the disk, over real sockets, to the disk and the machine of another server.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    BoxError, ConfChange, ConfChangeType, LogIndex, Raft, RaftConfig, SnapshotJob, SnapshotReader,
    StateMachine, StopReason, WalLogStore, WalLogStoreOptions,
};
use tokio::time::{Instant, sleep, timeout};

#[path = "support/gate.rs"]
mod gate;
#[cfg(target_os = "linux")]
#[path = "support/memory.rs"]
mod memory;
mod on_disk;

use gate::{Gate, OpenAtLast};
#[cfg(target_os = "linux")]
use memory::{Resident, resident_bytes};
use on_disk::{CLUSTER, Servers, first_alone, node_id, snapshot_files};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);
const BLOCK_BYTES: usize = 64 << 10;

/// A state of any size that takes no memory: so many blocks, whose content
/// follows from their number. A command is the number of blocks to add.
struct Blocks {
    count: u64,
    gate: Gate,
}

impl Blocks {
    fn new() -> Self {
        Self {
            count: 0,
            gate: Gate::default(),
        }
    }
}

fn block(number: u64, block: &mut [u8]) {
    fastrand::Rng::with_seed(number).fill(block);
}

impl StateMachine for Blocks {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        self.count += u64::from_le_bytes(command.as_ref().try_into().unwrap());
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let (count, gate) = (self.count, self.gate.clone());
        SnapshotJob::new(move |out| {
            // The first snapshot of a cluster is that of nothing.
            if count > 0 {
                gate.pass();
            }
            let mut bytes = vec![0; BLOCK_BYTES];
            for number in 0..count {
                block(number, &mut bytes);
                out.write_all(&bytes)?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        let mut count = 0;
        let mut bytes = vec![0; BLOCK_BYTES];
        let mut expected = bytes.clone();
        while snapshot.bytes_left() > 0 {
            snapshot.read_exact(&mut bytes)?;
            block(count, &mut expected);
            if bytes != expected {
                return Err(format!("block {count} is another one").into());
            }
            count += 1;
        }
        self.count = count;
        Ok(())
    }
}

/// Two servers, of which the first is a cluster alone at first.
struct Pair {
    servers: Servers,
    /// How much of the log stays behind a snapshot.
    keep_entries: u64,
}

impl Pair {
    fn new() -> Self {
        Self {
            servers: Servers::new(2),
            keep_entries: 0,
        }
    }

    async fn start(&self, id: u64, machine: Blocks) -> Raft {
        self.try_start(id, machine).await.unwrap()
    }

    async fn try_start(&self, id: u64, machine: Blocks) -> Result<Raft, BoxError> {
        let config = RaftConfig {
            tick: Duration::from_millis(20),
            snapshot_entries: 0,
            snapshot_keep_entries: self.keep_entries,
            ..RaftConfig::new(node_id(id), first_alone(id))
        };
        let log = self.servers.log(id)?;
        let transport = self.servers.listen(id, &log).await;
        Ok(Raft::start(config, machine, log, transport).await?)
    }

    /// The first server with so many blocks, of which there is a snapshot.
    async fn leader_with(&self, blocks: u64) -> Raft {
        let leader = self.start(1, Blocks::new()).await;
        leader.campaign().await.unwrap();
        let index = add(&leader, blocks).await;
        snapshot(&leader, index).await;
        leader
    }

    /// The second server, which gets everything by a snapshot.
    async fn follower_of(&self, leader: &Raft) -> Raft {
        let follower = self.start(2, Blocks::new()).await;
        let add = ConfChange::single(ConfChangeType::AddLearnerNode, node_id(2));
        let added = timeout(PATIENCE, leader.change_membership(add)).await;
        added.expect("in time").unwrap();
        follower
    }
}

async fn add(raft: &Raft, blocks: u64) -> LogIndex {
    let command = Bytes::copy_from_slice(&blocks.to_le_bytes());
    raft.propose(command).await.unwrap().index
}

/// Takes a snapshot that covers what was applied at this index.
async fn snapshot(raft: &Raft, wanted: LogIndex) {
    raft.snapshot().await.unwrap();
    snapshot_is_at(raft, wanted).await;
}

async fn snapshot_is_at(raft: &Raft, wanted: LogIndex) {
    let stored = raft.wait_for(|status| status.snapshot_index >= wanted);
    timeout(PATIENCE, stored).await.expect("in time").unwrap();
}

async fn count_of(raft: &Raft) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match raft.query("count").await {
            Ok(count) => return u64::from_le_bytes(count.as_ref().try_into().unwrap()),
            // A snapshot may take longer than a read has patience.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_larger_than_memory_may_be_reaches_another_server() {
    const BLOCKS: u64 = 300 * 16;
    const MEMORY_BYTES_MAX: u64 = 64 << 20;
    let before = resident_bytes(Resident::Now).unwrap();
    let pair = Pair::new();
    let leader = pair.leader_with(BLOCKS).await;
    let follower = pair.follower_of(&leader).await;
    assert_eq!(count_of(&follower).await, BLOCKS);
    // A restart reads it once more.
    follower.shutdown().await;
    drop(follower);
    leader.shutdown().await;
    drop(leader);
    let leader = pair.start(1, Blocks::new()).await;
    leader.campaign().await.unwrap();
    assert_eq!(count_of(&leader).await, BLOCKS);
    leader.shutdown().await;
    let grown = resident_bytes(Resident::Peak)
        .unwrap()
        .saturating_sub(before);
    println!("300 MiB of state took {} MiB of memory", grown >> 20);
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes");
}

#[tokio::test]
async fn commands_are_applied_while_a_snapshot_is_built() {
    let pair = Pair::new();
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    gate.shut();
    let machine = Blocks {
        count: 0,
        gate: gate.clone(),
    };
    let raft = pair.start(1, machine).await;
    raft.campaign().await.unwrap();
    let covered = add(&raft, 2).await;
    raft.snapshot().await.unwrap();
    for _ in 0..10 {
        add(&raft, 1).await;
    }
    assert_eq!(count_of(&raft).await, 12);
    assert!(
        raft.status().snapshot_index < covered,
        "it waits at the gate"
    );

    gate.open();
    let built = raft.wait_for(|status| status.snapshot_index >= covered);
    timeout(PATIENCE, built).await.expect("in time").unwrap();
    raft.shutdown().await;
    // It has what it was taken of, and the log the rest.
    let index = raft.status().snapshot_index;
    drop(raft);
    let raft = pair.start(1, Blocks::new()).await;
    let same = raft.wait_for(|status| status.snapshot_index == index);
    timeout(PATIENCE, same).await.expect("in time").unwrap();
    raft.campaign().await.unwrap();
    assert_eq!(count_of(&raft).await, 12);
    raft.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_that_went_bad_on_the_leaders_disk_is_made_anew() {
    let pair = Pair::new();
    let leader = pair.leader_with(40).await;
    pair.servers.damage_newest_snapshot(1);

    let damaged = leader.status().snapshot_index;
    let follower = pair.follower_of(&leader).await;
    assert_eq!(count_of(&follower).await, 40);
    assert!(leader.status().snapshot_index > damaged);
    leader.shutdown().await;
    follower.shutdown().await;
}

#[tokio::test]
async fn a_bad_snapshot_is_not_started_from() {
    let pair = Pair::new();
    let leader = pair.leader_with(4).await;
    leader.shutdown().await;
    drop(leader);
    // The one before it is there, but the log no longer reaches back to that.
    assert_eq!(pair.servers.snapshot_files(1, ".snap").len(), 2);
    let refuses = |file: PathBuf| {
        let pair = &pair;
        async move {
            let refused = pair.try_start(1, Blocks::new()).await.unwrap_err();
            let sentence = refused.to_string();
            assert!(sentence.contains(&*file.to_string_lossy()), "{sentence}");
            assert!(sentence.contains("Replacing a node"), "{sentence}");
        }
    };
    let whole = fs::read(pair.servers.snapshot_files(1, ".snap").pop().unwrap()).unwrap();
    refuses(pair.servers.damage_newest_snapshot(1)).await;
    // The same if it cannot even be opened, or is gone.
    let file = pair.servers.snapshot_files(1, ".snap").pop().unwrap();
    fs::write(&file, &whole[..100]).unwrap();
    refuses(file.clone()).await;
    fs::remove_file(&file).unwrap();
    refuses(file.clone()).await;
    // To refuse has changed nothing.
    fs::write(&file, &whole).unwrap();
    let leader = pair.start(1, Blocks::new()).await;
    leader.campaign().await.unwrap();
    assert_eq!(count_of(&leader).await, 4);
    leader.shutdown().await;
}

#[tokio::test]
async fn an_older_snapshot_does_if_the_log_reaches_back_to_it() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 3] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes[20] ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
    ];
    for damage in damages {
        let pair = Pair {
            keep_entries: 1000,
            ..Pair::new()
        };
        let leader = pair.leader_with(4).await;
        let index = add(&leader, 3).await;
        snapshot(&leader, index).await;
        add(&leader, 2).await;
        leader.shutdown().await;
        let had = leader.status();
        drop(leader);
        let file = pair.servers.snapshot_files(1, ".snap").pop().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();

        let leader = pair.start(1, Blocks::new()).await;
        leader.campaign().await.unwrap();
        assert_eq!(count_of(&leader).await, 9);
        let now = leader.status();
        assert!(now.term > had.term && now.commit >= had.commit, "{now:?}");
        // A good one takes its place by itself, and is started from.
        snapshot_is_at(&leader, had.snapshot_index.next()).await;
        leader.shutdown().await;
        drop(leader);
        let leader = pair.start(1, Blocks::new()).await;
        snapshot_is_at(&leader, had.snapshot_index.next()).await;
        leader.campaign().await.unwrap();
        assert_eq!(count_of(&leader).await, 9);
        leader.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_crash_left_of_snapshots_is_removed_and_the_rest_is_there() {
    let pair = Pair::new();
    let leader = pair.leader_with(4).await;
    leader.shutdown().await;
    drop(leader);
    let whole = pair.servers.snapshot_files(1, ".snap").pop().unwrap();
    // One that was being written, and one that the log was not told of.
    let half = whole.with_extension("snap.tmp");
    fs::copy(&whole, &half).unwrap();
    let newer = whole.with_file_name(format!("{:016x}-{:016x}.snap", 1_000_000, 1));
    fs::copy(&whole, &newer).unwrap();

    let leader = pair.start(1, Blocks::new()).await;
    assert!(!half.exists() && !newer.exists());
    leader.campaign().await.unwrap();
    assert_eq!(count_of(&leader).await, 4);
    for _ in 0..5 {
        let index = add(&leader, 1).await;
        snapshot(&leader, index).await;
    }
    leader.shutdown().await;
    drop(leader);
    assert_eq!(pair.servers.snapshot_files(1, "").len(), 2, "two are kept");
}

/// A machine that cannot read what it wrote.
struct Forgetful;

impl StateMachine for Forgetful {
    fn apply(&mut self, _index: LogIndex, _command: &Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::new(|out| {
            out.write_all(b"what I know")?;
            Err("it was more than that".into())
        })
    }

    fn restore(&mut self, _snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_snapshot_whose_job_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = WalLogStoreOptions::new(CLUSTER, node_id(1));
    let log = WalLogStore::open(folder.path(), options).unwrap();
    let config = RaftConfig::new(node_id(1), vec![node_id(1)]);
    let transport = raft_tokio::MemoryNetwork::new().join(node_id(1));
    let refused = Raft::start(config, Forgetful, log, transport)
        .await
        .map(drop)
        .unwrap_err();
    assert!(refused.to_string().contains("more than that"), "{refused}");
    assert!(snapshot_files(folder.path(), "").is_empty());
}

#[tokio::test]
async fn a_replica_that_stops_while_it_builds_a_snapshot_starts_again() {
    let pair = Pair::new();
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    gate.shut();
    let machine = Blocks {
        count: 0,
        gate: gate.clone(),
    };
    let raft = pair.start(1, machine).await;
    raft.campaign().await.unwrap();
    add(&raft, 3).await;
    raft.snapshot().await.unwrap();
    let stopping = raft.clone();
    let stopped = tokio::spawn(async move { stopping.shutdown().await });
    gate.open();
    assert_eq!(stopped.await.unwrap().reason, StopReason::Shutdown);
    drop(raft);
    let raft = pair.start(1, Blocks::new()).await;
    raft.campaign().await.unwrap();
    assert_eq!(count_of(&raft).await, 3);
    raft.shutdown().await;
}
