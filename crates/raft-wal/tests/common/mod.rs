//! What the tests of the public interface share.

use std::sync::mpsc;

use bytes::Bytes;
use raft_core::{
    ConfState, Entries, Entry, EntryId, EntryType, HardState, LogIndex, NodeId, SnapshotMetadata,
    Term,
};
use raft_wal::{Identity, Sync, Wal, WalError, Write};

pub(crate) fn identity(node: u64) -> Identity {
    Identity {
        cluster_id: 0x0102_0304,
        node_id: NodeId::new(node).expect("a node id"),
    }
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), LogIndex::new(index))
}

pub(crate) fn entry(term: u64, index: u64, data: &str) -> Entry {
    Entry::normal(
        Term::new(term),
        LogIndex::new(index),
        Bytes::from(data.to_owned()),
    )
}

pub(crate) fn entries(batch: Vec<Entry>) -> Entries {
    Entries::from_batch(batch).expect("consecutive entries")
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term: Term::new(term),
        vote: NodeId::new(vote),
        commit: LogIndex::new(commit),
    }
}

pub(crate) fn snapshot(term: u64, index: u64) -> SnapshotMetadata {
    let mut conf_state = ConfState::of_voters((1..=3).filter_map(NodeId::new));
    conf_state.learners.extend(NodeId::new(4));
    SnapshotMetadata {
        index: LogIndex::new(index),
        term: Term::new(term),
        conf_state,
    }
}

/// A durable write of entries to a group.
pub(crate) fn write(group: u64, batch: Vec<Entry>) -> Write {
    Write {
        entries: entries(batch),
        ..Write::new(group, Sync::Required)
    }
}

/// Writes and waits for the result.
pub(crate) fn written(wal: &Wal, write: Write) -> Result<(), WalError> {
    let (sender, receiver) = mpsc::channel();
    wal.append(write, move |result| {
        sender.send(result).expect("the test waits");
    });
    receiver.recv().expect("`done` is called")
}

/// What the fixture and the example that makes it write: two groups, an
/// overwritten suffix, a compaction, an installed snapshot, every entry type.
#[allow(dead_code, reason = "only the fixture's test and example use it")]
pub(crate) fn write_fixture(wal: &Wal) -> Result<(), WalError> {
    written(
        wal,
        Write {
            hard_state: Some(hard_state(1, 1, 0)),
            ..write(
                0,
                vec![entry(1, 1, "one"), entry(1, 2, "two"), entry(1, 3, "three")],
            )
        },
    )?;
    written(
        wal,
        write(0, vec![entry(2, 3, "another three"), entry(2, 4, "four")]),
    )?;
    written(
        wal,
        Write {
            hard_state: Some(hard_state(5, 2, 100)),
            snapshot: Some(snapshot(4, 100)),
            ..write(
                u64::MAX,
                vec![
                    Entry::new(
                        Term::new(5),
                        LogIndex::new(101),
                        EntryType::ConfChange,
                        Bytes::from_static(&[8, 1]),
                    ),
                    Entry::new(
                        Term::new(5),
                        LogIndex::new(102),
                        EntryType::ConfChangeV2,
                        Bytes::new(),
                    ),
                    Entry::refused_conf_change(Term::new(5), LogIndex::new(103)),
                ],
            )
        },
    )?;
    for index in 5..12 {
        let long = format!("{index} ").repeat(600);
        written(wal, write(0, vec![entry(2, index, &long)]))?;
    }
    let (sender, receiver) = mpsc::channel();
    wal.compact(0, id(2, 3), snapshot(2, 4), move |result| {
        sender.send(result).expect("the test waits");
    });
    receiver.recv().expect("`done` is called")?;
    let mut commit = Write::new(0, Sync::NotNeeded);
    commit.hard_state = Some(hard_state(2, 3, 11));
    written(wal, commit)
}
