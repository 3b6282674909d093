//! Logs that earlier versions wrote can still be read.

use std::fs;
use std::path::Path;

use raft_core::{Entry, EntryType, LogIndex};
use raft_wal::{Dump, DumpRecord, Recovered, SnapshotStore, Wal, WalOptions};

mod common;

use common::{hard_state, id, identity, snapshot};

/// Opening repairs, so it works on a copy.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for file in fs::read_dir(from).expect("the fixture") {
        let file = file.expect("a file");
        let target = to.join(file.file_name());
        if file.file_type().expect("a type").is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).expect("a copy");
        }
    }
}

fn assert_is_the_fixture(mut recovered: Recovered) {
    assert_eq!(recovered.torn_tail, None);
    let ordinary = recovered.take_group(0);
    assert_eq!(ordinary.hard_state, hard_state(2, 3, 11));
    assert_eq!(ordinary.compacted, id(2, 3));
    assert_eq!(ordinary.snapshot, Some(snapshot(2, 4)));
    let entries = ordinary
        .entries
        .between(LogIndex::ZERO, LogIndex::new(1000));
    let found: Vec<_> = entries.iter().map(Entry::id).collect();
    let expected: Vec<_> = (4..12).map(|index| id(2, index)).collect();
    assert_eq!(found, expected);
    assert_eq!(entries.first().expect("entry 4").data(), "four");
    assert_eq!(entries.last().expect("entry 11").data(), &"11 ".repeat(600));

    let installed = recovered.take_group(u64::MAX);
    assert_eq!(installed.hard_state, hard_state(5, 2, 100));
    assert_eq!(installed.compacted, id(4, 100));
    assert_eq!(installed.snapshot, Some(snapshot(4, 100)));
    let entries = installed
        .entries
        .between(LogIndex::ZERO, LogIndex::new(1000));
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.id(), entry.entry_type(), entry.type_is_explicit()))
        .collect();
    assert_eq!(
        found,
        [
            (id(5, 101), EntryType::ConfChange, true),
            (id(5, 102), EntryType::ConfChangeV2, true),
            (id(5, 103), EntryType::Normal, true),
        ]
    );
    assert!(recovered.groups.is_empty());
}

#[test]
fn a_log_of_version_1_can_be_read_and_written_on() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture, folder.path());
    for _ in 0..2 {
        let (wal, recovered) =
            Wal::open(folder.path(), identity(3), WalOptions::default()).expect("the log opens");
        assert_is_the_fixture(recovered);
        wal.close().expect("the log closes");
    }
}

#[test]
fn a_snapshot_of_version_1_can_be_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture, folder.path());
    let store = SnapshotStore::open(folder.path(), identity(3), 0, 2).expect("the store opens");
    let latest = store.latest().expect("readable");
    assert!(latest.damaged.is_empty(), "{:?}", latest.damaged);
    let stored = latest.stored.expect("one is there");
    assert_eq!(stored.metadata, snapshot(2, 4));
    assert!(stored.note.is_empty());
    let loaded = store.load(id(2, 4)).expect("readable");
    assert_eq!(loaded.data, "written by version 1");
}

#[test]
fn what_is_written_today_reads_like_the_fixture() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wal, _) =
        Wal::open(folder.path(), identity(3), WalOptions::default()).expect("the log opens");
    common::write_fixture(&wal).expect("the log writes");
    wal.close().expect("the log closes");
    let (_wal, recovered) =
        Wal::open(folder.path(), identity(3), WalOptions::default()).expect("the log opens");
    assert_is_the_fixture(recovered);
}

#[test]
fn a_dump_shows_every_record_with_its_place() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let items: Vec<_> = Dump::open(fixture)
        .expect("the folder can be read")
        .collect::<Result<_, _>>()
        .expect("the log is undamaged");
    let entries: Vec<_> = items
        .iter()
        .filter_map(|item| match &item.record {
            DumpRecord::Entry { id, data_bytes, .. } if item.group == 0 => Some((*id, *data_bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(entries[..3], [(id(1, 1), 3), (id(1, 2), 3), (id(1, 3), 5)]);
    assert_eq!(entries[3], (id(2, 3), 13));
    assert_eq!(items[0].offset, 4096);
    for pair in items.windows(2) {
        let same_record = pair[0].offset == pair[1].offset;
        if pair[0].file == pair[1].file && !same_record {
            assert!(pair[1].offset >= pair[0].offset + pair[0].record_bytes);
        }
    }
    assert!(
        items
            .iter()
            .any(|item| matches!(item.record, DumpRecord::Seal { next_segment: 2 }))
    );
    assert!(items.iter().any(
        |item| matches!(&item.record, DumpRecord::Compact { up_to, .. } if *up_to == id(2, 3))
    ));
}
