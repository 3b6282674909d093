//! The log as its users see it: the queue, the thread, the folder.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_core::{Entries, Entry, LogIndex};
use raft_wal::sim::{Call, Fault, SimDisk, Survivors};
use raft_wal::{OpenError, ReadError, Sync, Wal, WalError, WalOptions, Write};

mod common;

use common::{entry, hard_state, id, identity, snapshot, write, written};

const DIR: &str = "/node";

fn open_sim(disk: &SimDisk, options: WalOptions) -> Wal {
    Wal::open_on(disk.clone(), DIR, identity(1), options)
        .expect("the log opens")
        .0
}

/// Holds the log's thread inside of a `done` until the returned sender is
/// dropped, so that everything after it queues up.
fn hold(wal: &Wal) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (reached, reach) = mpsc::channel();
    wal.append(Write::new(7, Sync::NotNeeded), move |_| {
        reached.send(()).expect("the test waits");
        assert!(held.recv().is_err());
    });
    reach.recv().expect("the write is done");
    release
}

#[test]
fn writes_that_queue_up_share_one_sync() {
    let disk = SimDisk::new();
    // No mark comes between.
    let wal = open_sim(
        &disk,
        WalOptions::default().durable_mark_after(Duration::from_secs(3600)),
    );
    let release = hold(&wal);
    let syncs = disk.count(Call::Sync);
    let writes = disk.count(Call::Write);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    for index in 1..=1000 {
        let order = order.clone();
        let sender = sender.clone();
        wal.append(write(0, vec![entry(1, index, "value")]), move |result| {
            order.lock().expect("no panic").push(index);
            sender.send(result).expect("the test waits");
        });
    }
    drop((release, sender));
    for result in receiver {
        result.expect("durable");
    }
    assert_eq!(disk.count(Call::Sync) - syncs, 1);
    assert_eq!(disk.count(Call::Write) - writes, 1);
    assert_eq!(
        *order.lock().expect("no panic"),
        (1..=1000).collect::<Vec<_>>()
    );
    drop(wal);
}

#[test]
fn writes_that_need_no_sync_do_not_cause_one() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default());
    written(&wal, write(0, vec![entry(1, 1, "value")])).expect("durable");
    let syncs = disk.count(Call::Sync);
    for commit in 0..10 {
        let mut write = Write::new(0, Sync::NotNeeded);
        write.hard_state = Some(hard_state(1, 1, commit));
        written(&wal, write).expect("written");
    }
    assert_eq!(disk.count(Call::Sync), syncs);
    wal.close().expect("closed");
    assert!(disk.count(Call::Sync) > syncs, "closing makes them durable");
}

#[test]
fn a_full_queue_gives_the_write_back_and_a_vote_still_goes_in() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default().queue_bytes_max(1000));
    let release = hold(&wal);
    let (sender, receiver) = mpsc::channel();
    let mut taken = 0;
    let refused = loop {
        let sender = sender.clone();
        let next = write(0, vec![entry(1, taken + 1, &"x".repeat(100))]);
        match wal.try_append(next, move |result| {
            sender.send(result).expect("the test waits");
        }) {
            Ok(()) => taken += 1,
            Err(full) => break full.0,
        }
    };
    assert!(taken > 2);
    assert_eq!(
        refused.entries.first().map(Entry::index),
        Some(LogIndex::new(taken + 1))
    );
    let fill = wal.queue();
    assert!(fill.bytes <= fill.bytes_max);
    assert!(fill.bytes + refused.log_bytes() > fill.bytes_max);

    let mut vote = Write::new(0, Sync::Required);
    vote.hard_state = Some(hard_state(2, 1, 0));
    wal.append(vote, move |result| {
        sender.send(result).expect("the test waits");
    });
    drop(release);
    assert_eq!(
        receiver.iter().flatten().map(|()| 1).sum::<u64>(),
        taken + 1
    );
    assert_eq!(wal.queue().bytes, 0);
}

#[test]
fn a_failed_sync_ends_the_log_and_reaches_every_waiter() {
    let disk = SimDisk::new();
    let wal = open_sim(
        &disk,
        WalOptions::default().durable_mark_after(Duration::from_secs(3600)),
    );
    written(&wal, write(0, vec![entry(1, 1, "kept")])).expect("durable");
    let release = hold(&wal);
    let (sender, receiver) = mpsc::channel();
    for index in 2..10 {
        let sender = sender.clone();
        wal.append(write(0, vec![entry(1, index, "value")]), move |result| {
            sender.send(result).expect("the test waits");
        });
    }
    disk.fail_at(
        disk.calls().len() + 1,
        Fault::Error(std::io::ErrorKind::Other),
    );
    drop((release, sender));
    let results: Vec<_> = receiver.iter().collect();
    assert_eq!(results.len(), 8);
    for result in results {
        assert!(matches!(result, Err(WalError::Poisoned(_))));
    }
    let later = written(&wal, write(0, vec![entry(1, 2, "value")])).expect_err("final");
    assert!(later.to_string().contains("stop this process"), "{later}");
    assert!(matches!(wal.close(), Err(WalError::Poisoned(_))));

    disk.crash(Survivors::None);
    let (_wal, mut recovered) =
        Wal::open_on(disk, DIR, identity(1), WalOptions::default()).expect("the log opens");
    assert_eq!(
        recovered.take_group(0).entries.next_index(),
        LogIndex::new(2)
    );
}

#[test]
fn a_panic_in_a_done_reaches_whoever_waits() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default());
    let release = hold(&wal);
    wal.append(Write::new(0, Sync::NotNeeded), |_| {
        panic!("the callback is wrong")
    });
    let (sender, receiver) = mpsc::channel();
    wal.append(write(0, vec![entry(1, 1, "value")]), move |result| {
        sender.send(result).expect("the test waits");
    });
    drop(release);
    assert!(matches!(receiver.recv(), Ok(Err(WalError::Closed))));
    assert!(matches!(
        written(&wal, Write::new(0, Sync::NotNeeded)),
        Err(WalError::Closed)
    ));
    assert!(matches!(wal.close(), Err(WalError::Closed)));
}

#[test]
fn dropping_the_log_writes_what_is_queued() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("deep/below");
    let (wal, _) = Wal::open(&dir, identity(1), WalOptions::default()).expect("the log opens");
    for index in 1..=100 {
        wal.append(write(0, vec![entry(1, index, "value")]), |result| {
            result.expect("durable");
        });
    }
    drop(wal);
    let (_wal, mut recovered) =
        Wal::open(&dir, identity(1), WalOptions::default()).expect("the log opens");
    assert_eq!(
        recovered.take_group(0).entries.next_index(),
        LogIndex::new(101)
    );
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Wal::open(folder.path(), identity(1), WalOptions::default());
    let (wal, _) = open().expect("the log opens");
    match open() {
        Err(error @ OpenError::InUse { .. }) => {
            assert!(error.to_string().contains("another process"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    wal.close().expect("closed");
    open().expect("free again");
}

#[test]
fn a_folder_of_another_node_or_cluster_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = identity(1);
    let (wal, _) = Wal::open(folder.path(), own, WalOptions::default()).expect("the log opens");
    wal.close().expect("closed");
    let mut other_cluster = own;
    other_cluster.cluster_id = 9;
    // The segments tell it as well as the identity file.
    for tell in ["the identity", "the segments"] {
        for wrong in [identity(2), other_cluster] {
            match Wal::open(folder.path(), wrong, WalOptions::default()) {
                Err(error @ OpenError::Foreign { .. }) => {
                    let sentence = error.to_string();
                    assert!(sentence.contains(&own.to_string()), "{tell}: {sentence}");
                    assert!(sentence.contains(&wrong.to_string()), "{tell}: {sentence}");
                }
                other => panic!("{tell}: {other:?}"),
            }
        }
        let file = folder.path().join("IDENTITY");
        if file.exists() {
            std::fs::remove_file(file).expect("removed");
        }
    }
}

#[test]
fn writes_that_do_not_follow_the_log_are_refused_and_harm_nobody() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default());
    written(&wal, write(0, vec![entry(1, 1, "one")])).expect("durable");
    match written(&wal, write(0, vec![entry(1, 3, "three")])) {
        Err(WalError::Gap {
            expected, found, ..
        }) => {
            assert_eq!((expected.get(), found.get()), (2, 3));
        }
        other => panic!("{other:?}"),
    }
    let mut install = Write::new(0, Sync::Required);
    install.snapshot = Some(snapshot(2, 10));
    written(&wal, install.clone()).expect("durable");
    install.snapshot = Some(snapshot(2, 9));
    assert!(matches!(
        written(&wal, install),
        Err(WalError::OutOfDate { .. })
    ));
    written(&wal, write(0, vec![entry(2, 11, "eleven")])).expect("durable");
    // Entries below the snapshot are passed over.
    written(
        &wal,
        write(0, vec![entry(2, 10, "ten"), entry(3, 11, "new eleven")]),
    )
    .expect("durable");
    wal.close().expect("closed");

    let (_wal, mut recovered) =
        Wal::open_on(disk, DIR, identity(1), WalOptions::default()).expect("the log opens");
    let group = recovered.take_group(0);
    assert_eq!(group.compacted, id(2, 10));
    assert_eq!(
        group.entries.term(LogIndex::new(11)),
        Some(raft_core::Term::new(3))
    );
    assert_eq!(group.entries.next_index(), LogIndex::new(12));
}

#[test]
fn compaction_frees_segments_unless_another_group_needs_them() {
    let disk = SimDisk::new();
    let options = WalOptions::default()
        .segment_bytes(8 << 10)
        .preallocate_bytes(8 << 10);
    let wal = open_sim(&disk, options);
    let segments = || {
        disk.files()
            .iter()
            .filter(|path| path.extension().is_some_and(|kind| kind == "wal"))
            .count()
    };
    let compacted = |group, up_to| {
        let (sender, receiver) = mpsc::channel();
        wal.compact(
            group,
            up_to,
            snapshot(1, up_to.index.get()),
            move |result| {
                sender.send(result).expect("the test waits");
            },
        );
        receiver.recv().expect("`done` is called").expect("durable");
        // The next write is done only after the segments are gone.
        written(&wal, Write::new(9, Sync::NotNeeded)).expect("written");
    };
    written(&wal, write(1, vec![entry(1, 1, "pins the first segment")])).expect("durable");
    for index in 1..=30 {
        written(&wal, write(2, vec![entry(1, index, &"x".repeat(1000))])).expect("durable");
    }
    let before = segments();
    assert!(before > 5);
    compacted(2, id(1, 30));
    assert_eq!(segments(), before);
    compacted(1, id(1, 1));
    assert!(segments() <= 2);
    wal.close().expect("closed");
    let (_wal, mut recovered) =
        Wal::open_on(disk.clone(), DIR, identity(1), options).expect("the log opens");
    assert_eq!(recovered.take_group(2).compacted, id(1, 30));
    assert_eq!(recovered.take_group(1).compacted, id(1, 1));
}

fn read(wal: &Wal, low: u64, high: u64, bytes_max: u64) -> Result<Entries, ReadError> {
    let (sender, receiver) = mpsc::channel();
    let range = LogIndex::new(low)..LogIndex::new(high);
    wal.read(0, range, bytes_max, move |result| {
        sender.send(result).expect("the test waits");
    });
    receiver.recv().expect("every read ends")
}

#[test]
fn entries_are_read_back_while_others_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = WalOptions::default().segment_bytes(64 << 10);
    let (wal, _) = Wal::open(folder.path(), identity(1), options).expect("the log opens");
    let text = |index: u64| format!("{index:0>300}");
    let batches = 300;
    let (sender, receiver) = mpsc::channel();
    for batch in 0..batches {
        let sender = sender.clone();
        let entries = (1..=10).map(|place| entry(1, batch * 10 + place, &text(batch * 10 + place)));
        wal.append(write(0, entries.collect()), move |result| {
            result.expect("durable");
            sender.send((batch + 1) * 10).expect("the test waits");
        });
    }
    drop(sender);
    for last in receiver {
        let low = 1 + last / 2;
        let found = read(&wal, low, last + 1, 2000).expect("it was written");
        assert!((1..=7).contains(&found.len()));
        for (index, entry) in (low..).zip(found.iter()) {
            assert_eq!(entry.index(), LogIndex::new(index));
            assert_eq!(entry.data(), text(index).as_bytes());
        }
    }
    let all = read(&wal, 1, batches * 10 + 1, u64::MAX).expect("it was written");
    assert_eq!(all.len(), 3000);
    wal.close().expect("closed");

    // The same after a restart, which wrote the last segment again.
    let (wal, _) = Wal::open(folder.path(), identity(1), options).expect("the log opens");
    let again = read(&wal, 1, batches * 10 + 1, u64::MAX).expect("it was written");
    assert_eq!(again, all);
}

#[test]
fn a_read_of_what_was_overwritten_gives_what_took_its_place() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default());
    let old = (1..=9).map(|index| entry(1, index, "old")).collect();
    written(&wal, write(0, old)).expect("durable");
    written(&wal, write(0, vec![entry(2, 4, "new"), entry(2, 5, "new")])).expect("durable");
    let found = read(&wal, 2, 6, u64::MAX).expect("it was written");
    let found: Vec<_> = found.iter().map(Entry::id).collect();
    assert_eq!(found, [id(1, 2), id(1, 3), id(2, 4), id(2, 5)]);
    let behind = read(&wal, 5, 8, u64::MAX);
    assert!(matches!(behind, Err(ReadError::Unavailable { next }) if next.get() == 6));
}

#[test]
fn a_read_of_a_log_whose_disk_failed_says_so() {
    let disk = SimDisk::new();
    let wal = open_sim(&disk, WalOptions::default());
    written(&wal, write(0, vec![entry(1, 1, "value")])).expect("durable");
    disk.fail_at(disk.calls().len(), Fault::Error(std::io::ErrorKind::Other));
    written(&wal, write(0, vec![entry(1, 2, "value")])).expect_err("the disk fails");
    let error = read(&wal, 1, 2, u64::MAX).expect_err("nothing is known of the disk");
    assert!(
        matches!(error, ReadError::Log(WalError::Poisoned(_))),
        "{error}"
    );
}
