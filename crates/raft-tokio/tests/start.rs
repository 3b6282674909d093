//! A start with a log that is longer than memory should be.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_tokio::{
    BoxError, LogIndex, MemoryNetwork, Raft, RaftConfig, SnapshotJob, SnapshotReader, StateMachine,
    WalLogStore, WalLogStoreOptions,
};
use tempfile::TempDir;
use tokio::time::timeout;

#[cfg(target_os = "linux")]
#[path = "support/memory.rs"]
mod memory;
mod on_disk;

#[cfg(target_os = "linux")]
use memory::{Resident, resident_bytes};
use on_disk::{CLUSTER, node_id};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counts commands and bytes, in order.
#[derive(Default)]
struct Tally {
    commands: u64,
    bytes: u64,
    checksum: u32,
}

impl StateMachine for Tally {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        self.commands += 1;
        self.bytes += u64::try_from(command.len()).unwrap();
        self.checksum = crc32c::crc32c_append(self.checksum, command);
        Bytes::new()
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        let Self {
            commands,
            bytes,
            checksum,
        } = self;
        format!("{commands} {bytes} {checksum}").into()
    }

    fn snapshot(&mut self) -> SnapshotJob {
        SnapshotJob::bytes(Bytes::new())
    }

    fn restore(&mut self, _snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        *self = Self::default();
        Ok(())
    }
}

/// A voter that is alone, takes no snapshots, and loads so much of its log.
struct Alone {
    folder: TempDir,
    recovered_bytes_max: u64,
}

impl Alone {
    fn new(recovered_bytes_max: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            recovered_bytes_max,
        }
    }

    async fn start(&self) -> Raft {
        let mut options = WalLogStoreOptions::new(CLUSTER, node_id(1));
        options.wal = options.wal.recovered_bytes_max(self.recovered_bytes_max);
        let log = WalLogStore::open(self.folder.path(), options).unwrap();
        let config = RaftConfig {
            tick: Duration::from_millis(20),
            proposal_timeout: PATIENCE,
            snapshot_entries: 0,
            log_tail_bytes_max: 4 << 20,
            ..RaftConfig::new(node_id(1), vec![node_id(1)])
        };
        let transport = MemoryNetwork::new().join(node_id(1));
        let raft = Raft::start(config, Tally::default(), log, transport)
            .await
            .unwrap();
        raft.campaign().await.unwrap();
        let leads = raft.wait_for(raft_tokio::ReplicaStatus::is_leader);
        timeout(PATIENCE, leads).await.expect("in time").unwrap();
        raft
    }
}

async fn write(raft: &Raft, commands: u64, command_bytes: usize) {
    const AT_ONCE: u64 = 64;
    let mut number = 0;
    while number < commands {
        let batch = (number..commands.min(number + AT_ONCE)).map(|number| {
            let mut command = vec![0; command_bytes];
            command[..8].copy_from_slice(&number.to_le_bytes());
            Bytes::from(command)
        });
        for outcome in raft.propose_batch(batch.collect()).await {
            outcome.unwrap();
        }
        number += AT_ONCE;
    }
}

#[tokio::test]
async fn what_is_not_loaded_is_applied_again_too_and_members_change_on_the_way() {
    // With nothing, something and all of it loaded.
    for recovered_bytes_max in [0, 100_000, u64::MAX] {
        let alone = Alone::new(recovered_bytes_max);
        let raft = alone.start().await;
        write(&raft, 100, 2000).await;
        let address = "four:7000".to_owned();
        raft.add_learner(node_id(4), Some(address.clone()))
            .await
            .unwrap();
        raft.add_learner(node_id(5), None).await.unwrap();
        raft.remove(node_id(5)).await.unwrap();
        write(&raft, 200, 2000).await;
        let tally = raft.query("").await.unwrap();
        let members = raft.status().conf_state;
        raft.shutdown().await;
        drop(raft);
        for _ in 0..2 {
            let raft = alone.start().await;
            assert_eq!(raft.query("").await.unwrap(), tally);
            let status = raft.status();
            assert_eq!(status.conf_state, members);
            assert_eq!(status.addresses.get(node_id(4)), Some(&*address));
            write(&raft, 0, 0).await;
            raft.shutdown().await;
        }
        // What it did not load it still has, for whoever needs it.
        let raft = alone.start().await;
        assert_eq!(raft.status().first_index, LogIndex::new(2));
        write(&raft, 1, 2000).await;
        assert_ne!(raft.query("").await.unwrap(), tally);
        raft.shutdown().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_start_takes_no_more_memory_than_it_may_however_long_the_log_is() {
    const LOADED_BYTES: u64 = 16 << 20;
    const LOG_BYTES: u64 = 256 << 20;
    const COMMAND_BYTES: usize = 32 << 10;
    // What is loaded, what of it is still in memory by its segments, one that is
    // being read, and what is read back.
    const MEMORY_BYTES_MAX: u64 = LOADED_BYTES + (80 << 20);
    let alone = Alone::new(LOADED_BYTES);
    let raft = alone.start().await;
    let commands = LOG_BYTES / u64::try_from(COMMAND_BYTES).unwrap();
    write(&raft, commands, COMMAND_BYTES).await;
    let tally = raft.query("").await.unwrap();
    raft.shutdown().await;
    drop(raft);

    // The peak counts from here.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident_bytes(Resident::Now).unwrap();
    let began = Instant::now();
    let raft = alone.start().await;
    assert_eq!(raft.query("").await.unwrap(), tally);
    let grown = resident_bytes(Resident::Peak)
        .unwrap()
        .saturating_sub(before);
    let (mib, millis) = (grown >> 20, began.elapsed().as_millis());
    println!(
        "a start with {} MiB of log took {mib} MiB of memory and {millis} ms",
        LOG_BYTES >> 20
    );
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes");
    raft.shutdown().await;
}
