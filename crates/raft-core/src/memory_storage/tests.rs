//! What the storage takes, and what it refuses without a change.

use alloc::format;
use alloc::vec::Vec;

use super::*;
use crate::types::Entry;

fn index(number: u64) -> LogIndex {
    LogIndex::new(number)
}

fn entries(term: u64, from: u64, to: u64) -> Entries {
    let batch = (from..=to).map(|at| Entry::normal(Term::new(term), index(at), Bytes::new()));
    Entries::from_batch(batch.collect()).unwrap()
}

fn snapshot(at: u64, term: u64) -> Snapshot {
    Snapshot {
        metadata: SnapshotMetadata {
            index: index(at),
            term: Term::new(term),
            conf_state: ConfState::default(),
        },
        data: Bytes::from_static(b"state"),
    }
}

/// Entries 4 to 6 of term 2 behind what was compacted, and a snapshot at 3.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    storage.append(entries(2, 1, 6)).unwrap();
    storage
        .create_snapshot(index(3), None, Bytes::from_static(b"state"))
        .unwrap();
    storage.compact(index(3)).unwrap();
    storage
}

fn terms(storage: &MemoryStorage) -> Vec<u64> {
    let (first, next) = (storage.first_index(), storage.last_index().next());
    let all = storage.entries(first, next, u64::MAX).unwrap();
    all.iter().map(|entry| entry.term().get()).collect()
}

/// Does what must be refused.
fn refused<T>(
    change: impl FnOnce(&mut MemoryStorage) -> Result<T, MemoryStorageError>,
) -> MemoryStorageError {
    let mut changed = storage();
    let error = change(&mut changed).map(drop).unwrap_err();
    let same = (terms(&changed), changed.snapshot().unwrap());
    assert_eq!(same, (terms(&storage()), storage().snapshot().unwrap()));
    assert_eq!(changed.first_index(), index(4));
    error
}

#[test]
fn entries_replace_what_is_there_and_leave_no_gap() {
    let gap = refused(|storage| storage.append(entries(3, 8, 9)));
    assert_eq!(gap, MemoryStorageError::Unavailable);
    for (from, to, expected) in [
        (7, 8, &[2, 2, 2, 3, 3][..]),
        (5, 5, &[2, 3]),
        // What is compacted is passed over.
        (2, 4, &[3]),
        (1, 3, &[2, 2, 2]),
    ] {
        let mut storage = storage();
        storage.append(entries(3, from, to)).unwrap();
        assert_eq!(terms(&storage), expected, "{from} to {to}");
        assert_eq!(storage.first_index(), index(4));
    }
}

#[test]
fn a_snapshot_replaces_everything_unless_it_is_old() {
    for old in [2, 3] {
        let error = refused(|storage| storage.apply_snapshot(snapshot(old, 2)));
        assert_eq!(error, MemoryStorageError::SnapshotOutOfDate);
    }
    let mut storage = storage();
    storage.apply_snapshot(snapshot(5, 4)).unwrap();
    assert_eq!(terms(&storage), []);
    assert_eq!(
        (storage.first_index(), storage.last_index()),
        (index(6), index(5))
    );
    assert_eq!(storage.term(index(5)).unwrap(), Term::new(4));
    assert_eq!(storage.snapshot().unwrap(), snapshot(5, 4));
    // One of nothing replaces nothing but another one of nothing.
    let mut empty = MemoryStorage::new();
    empty.apply_snapshot(snapshot(0, 0)).unwrap();
    empty.apply_snapshot(snapshot(0, 0)).unwrap();
    assert_eq!(empty.first_index(), index(1));
}

#[test]
fn a_snapshot_is_made_of_what_is_in_the_log() {
    for (at, expected) in [
        (3, MemoryStorageError::SnapshotOutOfDate),
        (7, MemoryStorageError::Unavailable),
    ] {
        let error = refused(|storage| {
            storage
                .create_snapshot(index(at), None, Bytes::new())
                .map(drop)
        });
        assert_eq!(error, expected, "{at}");
    }
    let mut storage = storage();
    let conf_state = ConfState {
        auto_leave: true,
        ..ConfState::default()
    };
    let made = storage
        .create_snapshot(index(5), Some(conf_state.clone()), Bytes::new())
        .unwrap();
    assert_eq!(made.metadata.term, Term::new(2));
    assert_eq!(made.metadata.conf_state, conf_state);
    assert_eq!(terms(&storage), [2, 2, 2], "the log stays as it is");
    // Without another one it keeps the configuration that it had.
    let next = storage
        .create_snapshot(index(6), None, Bytes::new())
        .unwrap();
    assert_eq!(next.metadata.conf_state, conf_state);
}

#[test]
fn the_log_is_compacted_to_an_entry_that_is_there() {
    for (at, expected) in [
        (3, MemoryStorageError::Compacted),
        (7, MemoryStorageError::Unavailable),
    ] {
        let error = refused(|storage| storage.compact(index(at)));
        assert_eq!(error, expected, "{at}");
    }
    let mut storage = storage();
    storage.compact(index(5)).unwrap();
    assert_eq!(
        (storage.first_index(), terms(&storage)),
        (index(6), Vec::from([2]))
    );
    assert_eq!(storage.term(index(5)).unwrap(), Term::new(2));
    assert!(matches!(
        storage.term(index(4)),
        Err(StorageError::Compacted)
    ));
    assert!(matches!(
        storage.term(index(7)),
        Err(StorageError::Unavailable)
    ));
    for (low, high, expected) in [(5, 6, "Compacted"), (6, 8, "Unavailable")] {
        let found = storage.entries(index(low), index(high), u64::MAX);
        assert_eq!(format!("{:?}", found.unwrap_err()), expected);
    }
}
