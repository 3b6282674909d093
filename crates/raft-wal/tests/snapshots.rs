//! Snapshots on a disk that fails.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use raft_wal::sim::{Fault, SimDisk, Survivors};
use raft_wal::{SnapshotError, SnapshotPart, SnapshotStore};

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

/// A store with snapshots at index 1 and 2.
fn with_two(disk: &SimDisk) -> SnapshotStore<SimDisk> {
    let store = open(disk);
    for (index, seed) in [(1, 1), (2, 2)] {
        store
            .save(&snapshot(1, index), &data(seed, 100))
            .expect("stored");
    }
    store
}

/// Cuts the power at each call of `attempt` on a disk with a snapshot at index 1,
/// and lets `check` look at what a restart finds, and at whether the attempt had
/// succeeded. Says how many cuts that were.
fn at_every_power_cut(
    attempt: impl Fn(&SnapshotStore<SimDisk>) -> Result<(), SnapshotError>,
    check: impl Fn(&SimDisk, bool),
) -> usize {
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
            disk.fail_at(disk.calls().len() + cut, Fault::PowerCut);
            let has_succeeded = attempt(&store).is_ok();
            if !disk.is_off() {
                assert!(has_succeeded);
                return cut;
            }
            disk.crash(survivors);
            check(&disk, has_succeeded);
        }
    }
    unreachable!("an attempt ends")
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
    let mut writer = store
        .writer(&snapshot(7, 70), &Bytes::new())
        .expect("begun");
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
    let mut writer = store.writer(&snapshot(1, 1), &Bytes::new()).expect("begun");
    writer.write_all(&data(0, 1 << 20)).expect("written");
    drop(writer);
    assert!(files(&disk).is_empty());
}

#[test]
fn a_power_cut_at_any_call_keeps_the_old_snapshot_or_the_new_one() {
    let cuts = at_every_power_cut(
        |store| store.save(&snapshot(1, 2), &data(2, 5000)).map(drop),
        |disk, is_saved| {
            let store = open(disk);
            let latest = store.latest().expect("readable");
            assert!(latest.damaged.is_empty());
            let latest = latest.stored.expect("one is there");
            if is_saved {
                assert_eq!(latest.metadata, snapshot(1, 2));
            }
            let seed = u8::try_from(latest.metadata.index.get()).expect("1 or 2");
            let loaded = store.load(latest.metadata.id()).expect("readable");
            assert_eq!(loaded.data, data(seed, 5000));
            assert!(!files(disk).iter().any(|path| path.ends_with("tmp")));
        },
    );
    assert!(cuts >= 5, "{cuts} cuts");
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
    let store = with_two(&disk);
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
    let store = with_two(&disk);
    let path = files(&disk).pop().expect("the newer one");
    disk.put(&path, b"torn");
    store.save(&snapshot(1, 3), &data(3, 100)).expect("stored");
    assert_eq!(
        store.load(id(1, 1)).expect("still there").data,
        data(1, 100)
    );
}

#[test]
fn a_note_comes_back_before_the_data_is_read() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let note = Bytes::from_static(b"what its owner wants to know");
    let writer = store.writer(&snapshot(1, 1), &note).expect("begun");
    assert_eq!(writer.finish().expect("stored").note, note);
    let (bytes, crc32c) = (1000, crc32c::crc32c(&data(1, 1000)));
    let mut part = store
        .resume(&snapshot(2, 9), &note, bytes, crc32c)
        .expect("begun");
    part.append(&data(1, 1000)).expect("taken");
    part.finish().expect("stored");
    disk.crash(Survivors::None);
    let store = open(&disk);
    for id in [id(1, 1), id(2, 9)] {
        let reader = store.open_data(id).expect("readable");
        assert_eq!(reader.stored().note, note);
    }

    // A part with another note is another snapshot's.
    let resume = |note| store.resume(&snapshot(3, 10), note, bytes, crc32c);
    let mut part = resume(&note).expect("begun");
    part.append(b"some").expect("taken");
    drop(part);
    assert_eq!(resume(&note).expect("gone on with").data_bytes(), 4);
    assert_eq!(resume(&Bytes::new()).expect("begun anew").data_bytes(), 0);

    let note = Bytes::from(vec![0; (256 << 10) + 1]);
    assert!(matches!(
        store.writer(&snapshot(3, 10), &note),
        Err(SnapshotError::HeaderTooLong { .. })
    ));
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

/// The part of a snapshot at index 9 with this data.
fn resume(store: &SnapshotStore<SimDisk>, data: &[u8]) -> SnapshotPart<SimDisk> {
    let bytes = u64::try_from(data.len()).expect("short");
    store
        .resume(&snapshot(2, 9), &Bytes::new(), bytes, crc32c::crc32c(data))
        .expect("begun")
}

#[test]
fn what_has_arrived_of_a_snapshot_survives_a_restart_and_is_gone_on_with() {
    let disk = SimDisk::new();
    let whole = data(1, 700_000);
    let mut part = resume(&open(&disk), &whole);
    part.append(&whole[..300_000]).expect("taken");
    drop(part);
    disk.crash(Survivors::All);

    let store = open(&disk);
    assert_eq!(store.ids().expect("readable"), [], "it is not whole");
    let mut part = resume(&store, &whole);
    assert_eq!(part.data_bytes(), 300_000);
    part.append(&whole[300_000..]).expect("taken");
    let stored = part.finish().expect("stored");
    assert_eq!(stored.data_bytes, 700_000);
    disk.crash(Survivors::None);
    assert_eq!(open(&disk).load(id(2, 9)).expect("whole").data, whole);
    assert_eq!(files(&disk).len(), 1, "the part has become the snapshot");
}

#[test]
fn a_power_cut_while_a_snapshot_arrives_leaves_none_or_a_whole_one() {
    let whole = data(7, 5000);
    let attempt = |store: &SnapshotStore<SimDisk>| {
        let (bytes, crc32c) = (5000, crc32c::crc32c(&whole));
        let mut part = store.resume(&snapshot(2, 9), &Bytes::new(), bytes, crc32c)?;
        let from = usize::try_from(part.data_bytes()).expect("short");
        for piece in whole[from..].chunks(2000) {
            part.append(piece)?;
        }
        part.finish().map(drop)
    };
    let cuts = at_every_power_cut(attempt, |disk, has_arrived| {
        let store = open(disk);
        if has_arrived {
            assert_eq!(store.load(id(2, 9)).expect("whole").data, whole);
        }
        assert_eq!(store.load(id(1, 1)).expect("whole").data, data(1, 5000));
        // What the cut left may be wrong. Then the checksum says so, and the
        // attempt after that begins anew.
        assert!(attempt(&store).is_ok() || attempt(&store).is_ok());
        assert_eq!(store.load(id(2, 9)).expect("whole").data, whole);
    });
    assert!(cuts >= 6, "{cuts} cuts");
}

#[test]
fn what_arrived_wrong_is_refused_and_begun_anew() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let whole = data(1, 1000);
    let mut part = resume(&store, &whole);
    part.append(&whole[..500]).expect("taken");
    drop(part);
    let path = files(&disk).pop().expect("the part");
    let mut bytes = disk.read(&path).expect("its bytes");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    disk.put(&path, &bytes);

    let mut part = resume(&store, &whole);
    assert_eq!(part.data_bytes(), 500);
    part.append(&whole[500..]).expect("taken");
    assert!(matches!(part.finish(), Err(SnapshotError::Damaged { .. })));
    assert!(files(&disk).is_empty());

    let mut part = resume(&store, &whole);
    assert_eq!(part.data_bytes(), 0);
    assert!(matches!(
        part.append(&data(1, 1001)),
        Err(SnapshotError::Damaged { .. })
    ));
    part.append(&whole).expect("taken");
    part.finish().expect("stored");
}

#[test]
fn one_part_is_kept_and_none_that_is_outdated() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let (one, other) = (data(1, 100), data(2, 100));
    resume(&store, &one).append(&one[..50]).expect("taken");
    // Other data at the same place in the log: nothing of it is there.
    let mut part = resume(&store, &other);
    assert_eq!(part.data_bytes(), 0);
    part.append(&other[..10]).expect("taken");
    drop(part);
    assert_eq!(files(&disk).len(), 1);

    let store = open(&disk);
    assert_eq!(resume(&store, &other).data_bytes(), 10);
    store.save(&snapshot(2, 9), &one).expect("stored");
    let store = open(&disk);
    assert_eq!(files(&disk).len(), 1, "what is there is newer");
    assert_eq!(store.load(id(2, 9)).expect("whole").data, one);
}

#[test]
fn a_full_disk_gets_the_room_of_a_part_back() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let whole = data(1, 1000);
    let mut part = resume(&store, &whole);
    part.append(&whole[..500]).expect("taken");
    disk.fail_at(disk.calls().len(), Fault::Error(ErrorKind::StorageFull));
    assert!(matches!(
        part.append(&whole[500..]),
        Err(SnapshotError::DiskFull(_))
    ));
    assert!(files(&disk).is_empty());
}

#[test]
fn the_log_decides_which_snapshots_may_go() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let finish = |index| {
        let writer = store
            .writer(&snapshot(1, index), &Bytes::new())
            .expect("begun");
        writer.finish().expect("stored");
    };
    // Many may come before the log refers to one of them.
    (1..=5).for_each(finish);
    assert_eq!(store.ids().expect("readable").len(), 5);
    store.prune(id(1, 3)).expect("removed");
    let ids = store.ids().expect("readable");
    assert_eq!(ids, [id(1, 5), id(1, 4), id(1, 3), id(1, 2)]);
    // After a crash the log has never heard of the newest.
    store.remove_unrecorded(Some(id(1, 4))).expect("removed");
    assert_eq!(store.ids().expect("readable"), &ids[1..]);
    store.remove_unrecorded(None).expect("removed");
    assert_eq!(store.ids().expect("readable"), []);
}
