//! # Bytes of a log on a disk
//!
//! A folder whose segments are forged (headers and records of any content, with
//! the checksums, links and places that the format asks for) or were really
//! written, then damaged in a few places. Opening it gives the log back or
//! refuses it. What was opened can be written on, and opens as the same again.
//!
//! - Source: the tables of `docs/WAL.md`, written down here once more so that a
//!   mistake of the crate's own encoder is not repeated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};
use raft_core::{Entries, Entry, EntryId, HardState, LogIndex, NodeId, SnapshotMetadata, Term};
use raft_wal::sim::SimDisk;
use raft_wal::{Dump, Identity, OpenError, Recovered, Sync, Wal, WalOptions, Write};

use crate::choices::Choices;

const DIR: &str = "/node";
const HEADER_BYTES: usize = 4096;
const CLUSTER_ID: u128 = 0xfeed;
const NODE_ID: u64 = 3;

/// Opens one folder.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let disk = SimDisk::new();
    let mut segments = if choices.bool() {
        forge(&mut choices)
    } else {
        written(&mut choices)
    };
    damage(&mut choices, &mut segments);
    for (sequence, bytes) in &segments {
        disk.put(segment_path(*sequence), bytes);
    }
    dump(&disk);
    let Ok(first) = open(&disk) else {
        return;
    };
    let groups: Vec<u64> = first.keys().copied().collect();
    let again = open(&disk).expect("what was opened opens again");
    assert_eq!(again, first, "it says something else the second time");
    for group in groups {
        write_on(&disk, group);
    }
    dump(&disk);
}

fn identity() -> Identity {
    Identity {
        cluster_id: CLUSTER_ID,
        node_id: NodeId::new(NODE_ID).expect("it is an id"),
    }
}

fn segment_path(sequence: u64) -> PathBuf {
    Path::new(DIR)
        .join("wal")
        .join(format!("{sequence:016x}.wal"))
}

fn options() -> WalOptions {
    WalOptions::default()
        .segment_bytes(16 << 10)
        .preallocate_bytes(0)
}

fn dump(disk: &SimDisk) {
    if let Ok(dump) = Dump::open_on(disk.clone(), DIR) {
        // It ends at the first thing that it cannot read.
        let _ = dump.take(1 << 16).flatten().count();
    }
}

/// What a group had, in a form that can be compared.
type Group = (HardState, Option<SnapshotMetadata>, EntryId, Entries);

fn contents(recovered: &Recovered) -> BTreeMap<u64, Group> {
    let groups = recovered.groups.iter();
    groups
        .map(|(id, group)| {
            assert_eq!(group.entries.first_index(), group.compacted.index.next());
            let entries = group
                .entries
                .between(group.entries.first_index(), group.entries.next_index());
            let state = (
                group.hard_state,
                group.snapshot.clone(),
                group.compacted,
                entries,
            );
            (*id, state)
        })
        .collect()
}

fn open(disk: &SimDisk) -> Result<BTreeMap<u64, Group>, OpenError> {
    let (wal, recovered) = Wal::open_on(disk.clone(), DIR, identity(), options())?;
    let contents = contents(&recovered);
    wal.close().expect("the disk is sound");
    Ok(contents)
}

/// Appends an entry where the group's log ends, and finds it again.
fn write_on(disk: &SimDisk, group: u64) {
    let opened = Wal::open_on(disk.clone(), DIR, identity(), options());
    let (wal, mut recovered) = opened.expect("it was opened before");
    let state = recovered.take_group(group);
    let next = state.entries.next_index();
    // Nobody can number an entry behind the last number.
    if next.get() > u64::MAX / 2 {
        return;
    }
    let entry = Entry::normal(state.hard_state.term, next, Bytes::from_static(b"more"));
    let mut write = Write::new(group, Sync::Required);
    write.entries = Entries::from(entry);
    wal.append(write, |result| result.expect("it follows the log"));
    wal.close().expect("the disk is sound");
    let after = open(disk).expect("what was written opens");
    let entries = &after.get(&group).expect("the group is there").3;
    assert_eq!(entries.last_id().map(|id| id.index), Some(next));
}

/// The segments of a log that was written and closed.
fn written(choices: &mut Choices<'_>) -> Vec<(u64, Vec<u8>)> {
    let disk = SimDisk::new();
    let opened = Wal::open_on(disk.clone(), DIR, identity(), options());
    let (wal, _) = opened.expect("the disk is sound");
    let mut next = [1_u64; 2];
    for _ in 0..choices.below(12) {
        let group = choices.below(2);
        let next = &mut next[usize::from(group)];
        let group = u64::from(group);
        let term = Term::new(1);
        if choices.below(4) == 0 {
            let up_to = EntryId::new(term, LogIndex::new(*next - 1));
            let snapshot = SnapshotMetadata {
                index: up_to.index,
                term,
                conf_state: choices.conf_state(),
            };
            wal.compact(group, up_to, snapshot, |result| {
                result.expect("the disk is sound");
            });
        } else {
            let data = Bytes::from(vec![choices.byte(); 3_000]);
            let mut write = Write::new(group, Sync::Required);
            write.hard_state = Some(HardState {
                term,
                vote: None,
                commit: LogIndex::new(*next),
            });
            write.entries = Entries::from(Entry::normal(term, LogIndex::new(*next), data));
            wal.append(write, |result| result.expect("it follows the log"));
            *next += 1;
        }
    }
    wal.close().expect("the disk is sound");
    let numbered = disk.files().into_iter().filter_map(|path| {
        let name = path.file_stem()?.to_str()?;
        let is_segment = path.extension().is_some_and(|extension| extension == "wal");
        let sequence = u64::from_str_radix(name, 16).ok().filter(|_| is_segment)?;
        Some((sequence, disk.read(&path).ok()?))
    });
    numbered.collect()
}

// ── forging ──────────────────────────────────────────────────────────────────

fn forge(choices: &mut Choices<'_>) -> Vec<(u64, Vec<u8>)> {
    let mut segments = Vec::new();
    let count = u64::from(choices.below(3)) + 1;
    let mut previous = (0_u128, 0_u32);
    let mut batch = 1;
    for sequence in 1..=count {
        let mut segment = Segment::new(choices, sequence, previous, batch);
        for _ in 0..choices.below(4) {
            segment.batch(choices, &mut batch);
        }
        if sequence < count {
            segment.seal(choices, sequence + 1, &mut batch);
        }
        previous = (segment.id, segment.chain);
        segments.push((sequence, segment.bytes));
    }
    segments
}

struct Segment {
    id: u128,
    bytes: Vec<u8>,
    chain: u32,
}

impl Segment {
    fn new(choices: &mut Choices<'_>, sequence: u64, previous: (u128, u32), batch: u64) -> Self {
        let id = u128::from(choices.byte());
        let mut bytes = b"RaftWAL\0".to_vec();
        bytes.put_u32_le(1);
        bytes.put_u32_le(0);
        bytes.put_u128_le(id);
        bytes.put_u64_le(sequence);
        bytes.put_u128_le(CLUSTER_ID);
        bytes.put_u64_le(NODE_ID);
        bytes.put_u128_le(previous.0);
        bytes.put_u32_le(previous.1);
        bytes.put_u32_le(0);
        bytes.put_u64_le(choices.mostly(1));
        bytes.put_u64_le(choices.mostly(batch));
        bytes.put_u64_le(choices.mostly(batch - 1));
        bytes.resize(HEADER_BYTES - 4, 0);
        let chain = crc32c::crc32c(&bytes);
        bytes.put_u32_le(chain);
        Self { id, bytes, chain }
    }

    fn record(&mut self, record: &Record) {
        let mut padded = record.payload.clone();
        padded.resize(padded.len().next_multiple_of(8), 0);
        let mut header = Vec::new();
        let len = u32::try_from(record.payload.len()).expect("a payload is short");
        header.put_u32_le(len);
        header.put_u16_le(record.kind);
        header.put_u16_le(0);
        header.put_u64_le(record.group);
        header.put_u64_le(record.term);
        header.put_u64_le(record.index);
        header.put_u32_le(record.count);
        header.put_u32_le(self.chain);
        header.put_u32_le(crc32c::crc32c(&padded));
        let offset = u64::try_from(self.bytes.len()).expect("a segment is short");
        let salt = crc32c::crc32c(&self.id.to_le_bytes());
        let salt = crc32c::crc32c_append(salt, &offset.to_le_bytes());
        self.chain = crc32c::crc32c_append(salt, &header);
        header.put_u32_le(self.chain);
        self.bytes.append(&mut header);
        self.bytes.append(&mut padded);
    }

    fn batch(&mut self, choices: &mut Choices<'_>, number: &mut u64) {
        let records: Vec<_> = (0..choices.below(4)).map(|_| record(choices)).collect();
        self.whole_batch(choices, &records, number);
    }

    fn seal(&mut self, choices: &mut Choices<'_>, next: u64, number: &mut u64) {
        let seal = Record {
            kind: 7,
            payload: choices.mostly(next).to_le_bytes().to_vec(),
            ..Record::default()
        };
        self.whole_batch(choices, &[seal], number);
    }

    fn whole_batch(&mut self, choices: &mut Choices<'_>, records: &[Record], number: &mut u64) {
        let start = self.bytes.len();
        for record in records {
            self.record(record);
        }
        let mut payload = Vec::new();
        payload.put_u64_le(choices.mostly(*number));
        payload.put_u64_le(choices.mostly(*number - 1));
        let batch_bytes = self.bytes.len() - start + 72;
        payload.put_u32_le(u32::try_from(batch_bytes).expect("a batch is short"));
        payload.put_u32_le(u32::try_from(records.len() + 1).expect("a batch is short"));
        self.record(&Record {
            kind: 8,
            payload,
            ..Record::default()
        });
        *number += 1;
    }
}

#[derive(Clone, Debug, Default)]
struct Record {
    kind: u16,
    group: u64,
    term: u64,
    index: u64,
    count: u32,
    payload: Vec<u8>,
}

/// A record of any kind, most of them readable.
fn record(choices: &mut Choices<'_>) -> Record {
    let mut record = Record {
        kind: u16::from(choices.mostly_byte(1, 12)),
        group: u64::from(choices.below(3)),
        term: choices.number(2),
        index: choices.number(2),
        ..Record::default()
    };
    let payload = &mut record.payload;
    match record.kind {
        1 => {
            let count = choices.below(4);
            for place in 0..count {
                let own_term = place + 1 == count;
                payload.put_u64_le(if own_term {
                    record.term
                } else {
                    choices.mostly(record.term)
                });
                let data = choices.bytes();
                payload.put_u32_le(u32::try_from(data.len()).expect("data is short"));
                payload.put_u16_le(u16::from(choices.below(5)));
                payload.put_u16_le(0);
                payload.put_slice(&data);
            }
            record.count = u32::from(choices.mostly_byte(count, u8::MAX));
        }
        2 => vote_and_commit(choices, payload),
        3 => members(choices, payload),
        4 => snapshot(choices, payload),
        5 => {
            payload.put_u64_le(choices.number(2));
            vote_and_commit(choices, payload);
            payload.put_u64_le(choices.mostly(record.index.wrapping_add(1)));
            let with_snapshot = choices.below(3);
            payload.put_u64_le(u64::from(with_snapshot));
            if with_snapshot == 1 {
                snapshot(choices, payload);
            }
        }
        6 | 7 => payload.put_u64_le(choices.number(1)),
        _ => payload.put_slice(&choices.bytes()),
    }
    record
}

fn vote_and_commit(choices: &mut Choices<'_>, payload: &mut Vec<u8>) {
    payload.put_u64_le(choices.number(1));
    payload.put_u64_le(choices.number(2));
}

fn snapshot(choices: &mut Choices<'_>, payload: &mut Vec<u8>) {
    payload.put_u64_le(choices.number(2));
    payload.put_u64_le(choices.number(2));
    members(choices, payload);
}

/// A configuration as the log has it.
pub(crate) fn members(choices: &mut Choices<'_>, payload: &mut Vec<u8>) {
    let state = choices.conf_state();
    let sets = [
        &state.voters,
        &state.learners,
        &state.voters_outgoing,
        &state.learners_next,
    ];
    for set in sets {
        let len = u32::try_from(set.len()).expect("a set is short");
        payload.put_u32_le(match choices.byte() {
            0..250 => len,
            _ => u32::MAX,
        });
        for id in set {
            payload.put_u64_le(id.get());
        }
    }
    payload.put_u8(u8::from(state.auto_leave));
}

/// Bytes that the disk gives back wrong, in none to three places.
fn damage(choices: &mut Choices<'_>, segments: &mut Vec<(u64, Vec<u8>)>) {
    for _ in 0..choices.below(4) {
        let Some(place) = usize::from(choices.byte()).checked_rem(segments.len()) else {
            return;
        };
        let bytes = &mut segments[place].1;
        let at = usize::from(choices.byte()) << 8 | usize::from(choices.byte());
        let at = at % (bytes.len() + 1);
        match choices.below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= choices.byte() | 1;
                }
            }
            _ => drop(segments.remove(place)),
        }
    }
}
