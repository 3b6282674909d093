//! Snapshots on a disk that fails.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;

use raft_wal::sim::{Fault, SimDisk, Survivors};
use raft_wal::{SnapshotError, SnapshotStore};

mod common;

use common::{id, identity, snapshot};

const DIR: &str = "/node";

fn open(disk: &SimDisk) -> SnapshotStore<SimDisk> {
    SnapshotStore::open_on(disk.clone(), DIR, identity(1), 0, 2).expect("the store opens")
}

fn data(seed: u8, len: usize) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .skip(usize::from(seed))
        .take(len)
        .collect()
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.starts_with("/node/snapshots"))
        .collect()
}

#[test]
fn the_newest_snapshots_are_kept_and_come_back_whole() {
    let disk = SimDisk::new();
    let store = open(&disk);
    assert_eq!(store.latest().expect("readable").stored, None);
    for index in 1..=5 {
        store
            .save(&snapshot(2, index), &data(1, 1000))
            .expect("stored");
    }
    disk.crash(Survivors::None);
    let store = open(&disk);
    assert_eq!(store.ids().expect("readable"), [id(2, 5), id(2, 4)]);
    let latest = store.latest().expect("readable").stored.expect("one");
    assert_eq!(latest.metadata, snapshot(2, 5));
    assert_eq!(latest.data_bytes, 1000);
    let loaded = store.load(id(2, 5)).expect("readable");
    assert_eq!(loaded.metadata, snapshot(2, 5));
    assert_eq!(loaded.data, data(1, 1000));
}

#[test]
fn a_stream_in_pieces_is_the_same_as_bytes_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(folder.path(), identity(1), 5, 1).expect("the store opens");
    let whole = data(3, 3_000_000);
    let mut writer = store.writer(&snapshot(7, 70)).expect("begun");
    for piece in whole.chunks(77_777) {
        writer.write_all(piece).expect("written");
    }
    let stored = writer.finish().expect("stored");
    assert_eq!(stored.data_bytes, 3_000_000);
    let mut reader = store.reader(id(7, 70)).expect("readable");
    assert_eq!(reader.stored(), &stored);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("undamaged");
    assert!(read == whole);
    let other_group = SnapshotStore::open(folder.path(), identity(1), 6, 1).expect("opens");
    assert_eq!(other_group.latest().expect("readable").stored, None);
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let mut writer = store.writer(&snapshot(1, 1)).expect("begun");
    writer.write_all(&data(0, 1 << 20)).expect("written");
    drop(writer);
    assert!(files(&disk).is_empty());
}

#[test]
fn a_power_cut_at_any_call_keeps_the_old_snapshot_or_the_new_one() {
    let mut cuts = 0;
    for cut in 0.. {
        for survivors in [
            Survivors::None,
            Survivors::All,
            Survivors::Chosen(1),
            Survivors::Chosen(2),
        ] {
            let disk = SimDisk::new();
            let store = open(&disk);
            store.save(&snapshot(1, 1), &data(1, 5000)).expect("stored");
            let before = disk.calls().len();
            disk.fail_at(before + cut, Fault::PowerCut);
            let saved = store.save(&snapshot(1, 2), &data(2, 5000));
            if !disk.is_off() {
                assert!(cuts >= 4 * 5, "{cuts} cuts");
                return;
            }
            cuts += 1;
            disk.crash(survivors);
            let store = open(&disk);
            let latest = store.latest().expect("readable");
            assert!(latest.damaged.is_empty(), "cut {cut}, {survivors:?}");
            let latest = latest.stored.expect("one is there");
            if saved.is_ok() {
                assert_eq!(latest.metadata, snapshot(1, 2));
            }
            let seed = u8::try_from(latest.metadata.index.get()).expect("1 or 2");
            let loaded = store.load(latest.metadata.id()).expect("readable");
            assert_eq!(loaded.data, data(seed, 5000));
            assert!(!files(&disk).iter().any(|path| path.ends_with("tmp")));
        }
    }
}

#[test]
fn a_failed_call_is_told_and_loses_no_older_snapshot() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for number in 0.. {
            let disk = SimDisk::new();
            let store = open(&disk);
            store.save(&snapshot(1, 1), &data(1, 5000)).expect("stored");
            let before = disk.calls().len();
            disk.fail_at(before + number, Fault::Error(kind));
            let saved = store.save(&snapshot(1, 2), &data(2, 5000));
            match saved {
                Ok(_) => break,
                Err(SnapshotError::DiskFull(_)) => assert_eq!(kind, ErrorKind::StorageFull),
                Err(SnapshotError::Disk(_)) => assert_eq!(kind, ErrorKind::Other),
                Err(other) => panic!("{other}"),
            }
            disk.crash(Survivors::None);
            let store = open(&disk);
            assert_eq!(store.load(id(1, 1)).expect("readable").data, data(1, 5000));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_falls_back_to_the_older_snapshot() {
    let disk = SimDisk::new();
    let store = open(&disk);
    store.save(&snapshot(1, 1), &data(1, 100)).expect("stored");
    store.save(&snapshot(1, 2), &data(2, 100)).expect("stored");
    let path = files(&disk).pop().expect("the newer one");
    let bytes = disk.read(&path).expect("its bytes");
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        disk.put(&path, &wrong);
        let latest = store.latest().expect("readable");
        assert_eq!(latest.damaged.len(), 1, "bit {bit}");
        assert_eq!(
            latest.stored.expect("the older one").metadata,
            snapshot(1, 1)
        );
        assert!(matches!(
            store.load(id(1, 2)),
            Err(SnapshotError::Damaged { .. })
        ));
    }
    for len in 0..bytes.len() {
        disk.put(&path, &bytes[..len]);
        assert_eq!(
            store.latest().expect("readable").damaged.len(),
            1,
            "{len} bytes"
        );
    }
}

#[test]
fn a_damaged_snapshot_never_pushes_a_good_one_out() {
    let disk = SimDisk::new();
    let store = open(&disk);
    store.save(&snapshot(1, 1), &data(1, 100)).expect("stored");
    store.save(&snapshot(1, 2), &data(2, 100)).expect("stored");
    let path = files(&disk).pop().expect("the newer one");
    disk.put(&path, b"torn");
    store.save(&snapshot(1, 3), &data(3, 100)).expect("stored");
    assert_eq!(
        store.load(id(1, 1)).expect("still there").data,
        data(1, 100)
    );
}

#[test]
fn a_snapshot_of_another_node_is_refused_by_name() {
    let disk = SimDisk::new();
    open(&disk)
        .save(&snapshot(1, 1), &data(1, 100))
        .expect("stored");
    let other = SnapshotStore::open_on(disk, DIR, identity(2), 0, 2).expect("the store opens");
    match other.latest() {
        Err(error @ SnapshotError::Foreign { .. }) => {
            let sentence = error.to_string();
            assert!(sentence.contains(&identity(1).to_string()), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
}
