//! # Operations of the log on the disk

use std::hint::black_box;

use bytes::Bytes;
use raft_core::{Entries, Entry, LogIndex, NodeId, Term};
use raft_wal::{DirectLog, Identity, OsFs, Sync, WalOptions, Write};

/// Writes batches to a log on the disk, in one segment, as the log's thread does:
/// records are encoded with their checksums, written at once and synced.
pub(super) fn write(times: u32, count: u64) {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let identity = Identity {
        cluster_id: 1,
        node_id: NodeId::new(1).expect("a node id"),
    };
    let mut log =
        DirectLog::open(OsFs, folder.path(), identity, WalOptions::default()).expect("a new log");
    let payload = Bytes::from(vec![7; 256]);
    let mut next = 1;
    for _ in 0..times {
        let entries = (next..next + count)
            .map(|index| Entry::normal(Term::new(1), LogIndex::new(index), payload.clone()))
            .collect();
        next += count;
        let mut write = Write::new(1, Sync::Required);
        write.entries = Entries::from_batch(entries).expect("consecutive");
        log.write(black_box(write)).expect("the disk takes it");
    }
}
