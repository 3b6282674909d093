//! Reading back what is in the log, while it is written, dropped and damaged.

use std::path::Path;

use proptest::prelude::*;
use raft_core::{Entries, Entry, EntryId, LogIndex, SnapshotMetadata, Term};

use super::model::{Draw, Model};
use super::{DIR, open, open_model, open_with, run, small};
use crate::error::{Damage, ReadError};
use crate::folder::{log_dir, segment_name};
use crate::log::{Job, Log};
use crate::read::{ReadJob, read};
use crate::sim::{SimDisk, Survivors};
use crate::write::{Sync, Write};

fn job(group: u64, low: LogIndex, high: LogIndex, bytes_max: u64) -> ReadJob {
    ReadJob {
        group,
        range: low..high,
        bytes_max,
        done: Box::new(drop),
        tried: None,
    }
}

fn read_back(
    disk: &SimDisk,
    log: &Log<SimDisk>,
    group: u64,
    (low, high): (LogIndex, LogIndex),
    bytes_max: u64,
) -> Result<Entries, ReadError> {
    let spans = log.locate(group, low, high)?;
    let job = job(group, low, high, bytes_max);
    read(disk, &log_dir(Path::new(DIR)), &job, &spans)
}

/// Reads `count` ranges of every group, and finds in each what the model has.
fn check_ranges(disk: &SimDisk, log: &Log<SimDisk>, model: &Model, draw: &mut Draw, count: u64) {
    for (group, entries) in model.logs() {
        for _ in 0..count {
            let Some(len) = u64::try_from(entries.len()).ok().filter(|len| *len > 0) else {
                continue;
            };
            let from = draw.below(len);
            let to = from + 1 + draw.below(len - from);
            let bytes_max = draw.below(3000);
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            let wanted = &entries[from..to];
            let range = (wanted[0].index(), wanted[wanted.len() - 1].index().next());
            let found = read_back(disk, log, group, range, bytes_max).unwrap();
            let found: Vec<Entry> = found.iter().cloned().collect();
            assert!(!found.is_empty(), "one entry comes in any case");
            assert_eq!(found, wanted[..found.len()], "{range:?}");
            let bytes = |entries: &[Entry]| entries.iter().map(Entry::encoded_len).sum::<u64>();
            assert!(found.len() == 1 || bytes(&found) <= bytes_max);
            let is_short = found.len() < wanted.len();
            assert!(!is_short || bytes(&wanted[..=found.len()]) > bytes_max);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// A failing case prints its seed.
    #[test]
    fn every_range_reads_back_as_it_was_written_last(
        seed in any::<u64>(),
        lives in prop::collection::vec((1_usize..40, any::<bool>()), 1..5),
    ) {
        let disk = SimDisk::new();
        let mut draw = Draw::new(seed);
        for (count, power_cut) in lives {
            let (mut log, mut model) = open_model(&disk);
            check_ranges(&disk, &log, &model, &mut draw, 5);
            let steps = draw.steps(&model, count);
            for step in &steps {
                let outcome = run(&mut log, model, std::slice::from_ref(step));
                prop_assert!(!outcome.is_failed());
                model = outcome.newest().clone();
                check_ranges(&disk, &log, &model, &mut draw, 2);
            }
            drop(log);
            if power_cut {
                disk.crash(Survivors::Chosen(seed));
            } else {
                disk.restart();
            }
        }
    }
}

/// More than a record of the model takes.
const RECORD_BYTES_MAX: u64 = 3 * 600;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// A failing case prints its seed.
    #[test]
    fn what_memory_has_no_room_for_is_known_by_its_terms_and_reads_back(
        seed in any::<u64>(),
        count in 1_usize..80,
        bytes_max in 0_u64..4000,
    ) {
        let disk = SimDisk::new();
        let mut draw = Draw::new(seed);
        let (mut log, model) = open_model(&disk);
        let steps = draw.steps(&model, count);
        prop_assert!(!run(&mut log, model, &steps).is_failed());
        drop(log);
        disk.restart();
        let (log, whole) = open(&disk).unwrap();
        drop(log);
        let options = small().recovered_bytes_max(bytes_max);
        let (log, recovered) = open_with(&disk, options).unwrap();
        check_ranges(&disk, &log, &Model::of(&whole), &mut draw, 5);
        prop_assert_eq!(recovered.groups.len(), whole.groups.len());
        for (id, group) in recovered.groups {
            let all = &whole.groups[&id];
            prop_assert_eq!(&group.terms, &all.terms);
            prop_assert_eq!(group.entries.next_index(), all.entries.next_index());
            let first = group.entries.first_index();
            let newest = group.entries.between(first, group.entries.next_index());
            let same = all.entries.between(first, all.entries.next_index());
            prop_assert_eq!(&newest, &same);
            let limit = bytes_max.max(RECORD_BYTES_MAX);
            prop_assert!(newest.encoded_bytes() <= limit, "{} bytes", newest.encoded_bytes());
        }
    }
}

/// Entries that fill several segments, the same number in each write.
fn fill(log: &mut Log<SimDisk>, first: u64, writes: u64) {
    for number in 0..writes {
        let batch = (0..4)
            .map(|place| {
                let index = LogIndex::new(first + number * 4 + place);
                Entry::normal(Term::new(1), index, vec![7; 200].into())
            })
            .collect();
        let mut write = Write::new(5, Sync::Required);
        write.entries = Entries::from_batch(batch).unwrap();
        log.commit(&[Job::Write(write)])[0].clone().unwrap();
        log.maintain();
    }
}

fn compact(log: &mut Log<SimDisk>, to: u64) {
    let up_to = EntryId::new(Term::new(1), LogIndex::new(to));
    let snapshot = SnapshotMetadata {
        index: up_to.index,
        term: up_to.term,
        ..SnapshotMetadata::default()
    };
    let job = Job::Compact {
        group: 5,
        up_to,
        snapshot,
    };
    log.commit(&[job])[0].clone().unwrap();
    log.maintain();
}

#[test]
fn entries_whose_segment_is_dropped_while_they_are_read_are_compacted() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    fill(&mut log, 1, 50);
    let (low, high) = (LogIndex::new(3), LogIndex::new(60));
    let spans = log.locate(5, low, high).unwrap();
    let read_now = || {
        read(
            &disk,
            &log_dir(Path::new(DIR)),
            &job(5, low, high, 9000),
            &spans,
        )
    };
    assert!(read_now().is_ok());

    compact(&mut log, 150);
    let error = read_now().unwrap_err();
    assert!(matches!(error, ReadError::Io(_)), "{error}");
    // The file is another segment by now; its old bytes count for nothing.
    fill(&mut log, 201, 100);
    assert!(read_now().is_err());
    let again = ReadJob {
        tried: Some((spans, error)),
        done: Box::new(|result| {
            assert!(matches!(result, Err(ReadError::Compacted { first }) if first.get() == 151));
        }),
        ..job(5, low, high, 9000)
    };
    assert!(again.located(log.locate(5, low, high)).is_none());
}

#[test]
fn damage_that_a_read_finds_is_named_and_nothing_is_returned() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    fill(&mut log, 1, 20);
    let (low, high) = (LogIndex::new(1), LogIndex::new(9));
    let spans = log.locate(5, low, high).unwrap();
    let path = log_dir(Path::new(DIR)).join(segment_name(1));
    let whole = disk.read(&path).unwrap();
    let start = usize::try_from(spans[0].place.start).unwrap();
    // The first record, its header and its data.
    for at in start..start + 48 + 4 * 216 {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.put(&path, &bytes);
        let error = read_back(&disk, &log, 5, (low, high), u64::MAX).unwrap_err();
        let ReadError::Corrupt(corruption) = error else {
            panic!("byte {at}: {error}");
        };
        assert_eq!(corruption.file, path);
        assert_ne!(corruption.what, Damage::SegmentHeader);
    }
    disk.put(&path, &whole);
    assert!(read_back(&disk, &log, 5, (low, high), u64::MAX).is_ok());
}

#[test]
fn what_is_not_in_the_log_is_not_read() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    fill(&mut log, 1, 20);
    compact(&mut log, 10);
    let read = |low, high| {
        let range = (LogIndex::new(low), LogIndex::new(high));
        read_back(&disk, &log, 5, range, u64::MAX)
    };
    assert!(matches!(read(10, 12), Err(ReadError::Compacted { first }) if first.get() == 11));
    assert!(matches!(read(70, 82), Err(ReadError::Unavailable { next }) if next.get() == 81));
    assert!(matches!(read(20, 20), Err(ReadError::Unavailable { .. })));
    assert_eq!(read(11, 81).unwrap().len(), 70);
}
