//! The log on the disk: a write and its sync, alone and in a group.

mod short;

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write as _};
use std::sync::mpsc::channel;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::{Entries, Entry, LogIndex, NodeId, Term};
use raft_wal::{Identity, Sync, Wal, WalOptions, Write};

const GROUP: u64 = 1;

fn batch(first: u64, count: u64, payload: &Bytes) -> Entries {
    let entries = (first..first + count)
        .map(|index| Entry::normal(Term::new(1), LogIndex::new(index), payload.clone()))
        .collect();
    Entries::from_batch(entries).expect("consecutive")
}

fn append_and_sync(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal, append and sync");
    for (writes, entries, payload_bytes) in [(1, 1, 256), (1, 256, 256), (64, 1, 256)] {
        let folder = tempfile::tempdir().expect("a folder for the log");
        let identity = Identity {
            cluster_id: 1,
            node_id: NodeId::new(1).expect("a node id"),
        };
        let (wal, _) =
            Wal::open(folder.path(), identity, WalOptions::default()).expect("a new log");
        let payload = Bytes::from(vec![7; payload_bytes]);
        let mut next = 1;
        let (done, written) = channel();
        group.throughput(Throughput::Elements(writes * entries));
        let name = format!("{writes} writes of {entries} x {payload_bytes} B");
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..writes {
                    let mut write = Write::new(GROUP, Sync::Required);
                    write.entries = batch(next, entries, &payload);
                    next += entries;
                    let done = done.clone();
                    wal.append(write, move |result| {
                        // The bench waits below for as many as it wrote.
                        let _ = done.send(result);
                    });
                }
                for _ in 0..writes {
                    let result = written.recv().expect("every write is answered");
                    result.expect("the disk takes it");
                }
            });
        });
        wal.close().expect("the log closes");
    }
    group.finish();
}

/// What the disk alone takes: a write into space that the file already has, and
/// `fdatasync`.
fn fdatasync(c: &mut Criterion) {
    let mut group = c.benchmark_group("disk, write and fdatasync");
    for bytes in [512_usize, 65_536] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut file = OpenOptions::new()
            .write(true)
            .open(file.path())
            .expect("the file opens");
        let length = 64 * 1024 * 1024;
        file.write_all(&vec![1; length]).expect("space for it");
        file.sync_all().expect("the disk takes it");
        let block = vec![7; bytes];
        let mut at = 0;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} B"), |b| {
            b.iter(|| {
                file.seek(SeekFrom::Start(at)).expect("a place in the file");
                file.write_all(&block).expect("the disk takes it");
                file.sync_data().expect("the disk takes it");
                at = (at + bytes as u64) % (length - bytes) as u64;
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = append_and_sync, fdatasync
}
criterion_main!(benches);
