//! # Bytes of a snapshot on a disk
//!
//! A snapshot file of any content, with the checksums that the format asks for
//! and perhaps damaged, beside a good one that is older. Either the newest file
//! is read whole, or it is refused and the older one is still there.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};
use raft_core::{ConfState, EntryId, LogIndex, NodeId, SnapshotMetadata, Term};
use raft_wal::sim::SimDisk;
use raft_wal::{Identity, SnapshotStore};

use crate::choices::Choices;
use crate::wal::members;

const DIR: &str = "/node";
const GROUP: u64 = 1;

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), LogIndex::new(index))
}

/// Reads one file.
pub fn run(bytes: &[u8]) {
    let node_id = NodeId::new(3).expect("it is an id");
    let identity = Identity {
        cluster_id: 7,
        node_id,
    };
    let disk = SimDisk::new();
    let store =
        SnapshotStore::open_on(disk.clone(), DIR, identity, GROUP, 2).expect("the disk is sound");
    let older = SnapshotMetadata {
        index: LogIndex::new(3),
        term: Term::new(1),
        conf_state: ConfState::of_voters([node_id]),
    };
    store.save(&older, b"older").expect("the disk is sound");

    let mut choices = Choices::new(bytes);
    let file = if choices.bool() {
        forged(&mut choices)
    } else {
        choices.rest().to_vec()
    };
    let newest = id(2, 9);
    disk.put(path(newest), &file);
    let latest = store.latest();
    match store.load(newest) {
        Ok(snapshot) => {
            assert_eq!(snapshot.metadata.id(), newest);
            let stored = latest.expect("it could be loaded").stored;
            assert_eq!(stored.map(|s| s.metadata), Some(snapshot.metadata));
        }
        Err(error) => {
            // A file of another node stops the start by its name.
            if let Ok(latest) = latest {
                assert_eq!(latest.damaged.len(), 1, "{error}");
                let stored = latest.stored.expect("the older one is good");
                assert_eq!(stored.metadata, older);
                assert_eq!(
                    store.load(older.id()).expect("it is good").data,
                    Bytes::from_static(b"older")
                );
            }
        }
    }
    // Whatever the file is, the node goes on from its next snapshot.
    let later = SnapshotMetadata {
        index: LogIndex::new(20),
        term: Term::new(2),
        ..older
    };
    store.save(&later, b"later").expect("the disk is sound");
    let latest = store.latest().expect("the newest one is good");
    assert_eq!(latest.stored.map(|s| s.metadata), Some(later));
}

fn path(id: EntryId) -> PathBuf {
    Path::new(DIR)
        .join("snapshots")
        .join(format!("{GROUP:016x}"))
        .join(format!(
            "{:016x}-{:016x}.snap",
            id.index.get(),
            id.term.get()
        ))
}

fn forged(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut state = Vec::new();
    members(choices, &mut state);
    let mut out = b"RaftSNAP".to_vec();
    let version = choices.mostly_byte(2, 4);
    out.put_u32_le(u32::from(version));
    if version != 1 {
        let note = choices.bytes();
        let note_bytes = u64::try_from(note.len()).expect("a note is short");
        state.put_u32_le(u32::try_from(choices.mostly(note_bytes)).unwrap_or(u32::MAX));
        state.put_slice(&note);
    }
    let header_bytes = u64::try_from(68 + state.len()).expect("a header is short");
    let header_bytes = choices.mostly(header_bytes);
    out.put_u32_le(u32::try_from(header_bytes).unwrap_or(u32::MAX));
    out.put_u128_le(u128::from(choices.mostly(7)));
    out.put_u64_le(choices.mostly(3));
    out.put_u64_le(choices.mostly(GROUP));
    out.put_u64_le(choices.mostly(2));
    out.put_u64_le(choices.mostly(9));
    out.put_slice(&state);
    let header_checksum = crc32c::crc32c(&out);
    out.put_u32_le(header_checksum);
    let data = choices.bytes();
    out.put_slice(&data);
    let mut footer = b"SnapEnd\0".to_vec();
    let data_bytes = u64::try_from(data.len()).expect("data is short");
    footer.put_u64_le(choices.mostly(data_bytes));
    footer.put_u32_le(crc32c::crc32c(&data));
    let salt = crc32c::crc32c(&header_checksum.to_le_bytes());
    let checksum = crc32c::crc32c_append(salt, &footer);
    footer.put_u32_le(checksum);
    out.put_slice(&footer);
    if choices.byte() > 200 {
        let at = usize::from(choices.byte()) % out.len();
        if choices.bool() {
            out.truncate(at);
        } else {
            out[at] ^= choices.byte() | 1;
        }
    }
    out
}
