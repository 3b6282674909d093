//! Bytes that the disk gives back wrong.

use std::path::PathBuf;

use raft_core::{Entry, HardState, LogIndex, Term};

use super::model::{Draw, Kind, Model, Outcome};
use super::{DIR, check, identity, open, open_model};
use crate::error::{Damage, OpenError};
use crate::format::{Encoder, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::Job;
use crate::sim::{Call, SimDisk};
use crate::write::{Sync, Write};

fn segment(sequence: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/wal/{sequence:016x}.wal"))
}

/// A log of three segments that was closed, and what is in it.
fn closed_log() -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, mut model) = open_model(&disk);
    let mut draw = Draw::new(21);
    while log.segments().1 < 3 || log.end() < 6 << 10 {
        let job = draw.write(&model, 1, Kind::Append);
        let vote = draw.write(&model, 2, Kind::Vote);
        let jobs = [job, vote];
        let mut outcome = Outcome::starting_with(model);
        outcome.committed(&jobs, &log.commit(&jobs));
        model = outcome.newest().clone();
        log.maintain();
    }
    assert_eq!(log.segments(), (1, 3));
    log.close().unwrap();
    (disk, model)
}

/// Opens a damaged log: all of it must come back, or none.
fn assert_whole_or_refused(disk: &SimDisk, model: &Model, context: &str) -> Verdict {
    match open(disk) {
        Ok((_, recovered)) => {
            assert_eq!(&Model::of(&recovered), model, "{context}");
            Verdict::Whole
        }
        Err(OpenError::Corrupt(_)) => Verdict::Refused,
        Err(other) => panic!("{context}: {other}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Refused,
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_batch_gives_back_the_rest() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(5);
    let mut before = Outcome::starting_with(start);
    for kind in [Kind::Append, Kind::Vote, Kind::Append, Kind::Compact] {
        let jobs = [draw.write(before.newest(), 1, kind)];
        before.committed(&jobs, &log.commit(&jobs));
    }
    let begin = usize::try_from(log.end()).unwrap();
    let mut after = before.clone();
    let jobs = [
        draw.write(before.newest(), 1, Kind::Append),
        draw.write(before.newest(), 2, Kind::Append),
    ];
    after.committed(&jobs, &log.commit(&jobs));
    let end = usize::try_from(log.end()).unwrap();
    drop(log);

    let bytes = disk.read(segment(1)).unwrap();
    for cut in begin..=end {
        let allowed = if cut == end { &after } else { &before };
        let short = disk.copy();
        short.put(segment(1), &bytes[..cut]);
        check(&short, allowed, &format!("cut at {cut}"));

        let zeroed = disk.copy();
        let mut rest = bytes.clone();
        // The last bytes may be zeros anyway.
        rest[cut..].fill(0);
        let allowed = if rest == bytes { &after } else { &before };
        zeroed.put(segment(1), &rest);
        check(&zeroed, allowed, &format!("zeros from {cut}"));
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_does_no_harm() {
    let (disk, model) = closed_log();
    let mut refused = 0_u32;
    let mut whole = 0_u32;
    for sequence in 1..=3 {
        let bytes = disk.read(segment(sequence)).unwrap();
        for at in 0..bytes.len() {
            let bit = 1 << (at % 8);
            let damaged = disk.copy();
            let mut wrong = bytes.clone();
            wrong[at] ^= bit;
            damaged.put(segment(sequence), &wrong);
            let context = format!("segment {sequence}, byte {at}, bit {bit:#x}");
            match assert_whole_or_refused(&damaged, &model, &context) {
                Verdict::Refused => refused += 1,
                Verdict::Whole => whole += 1,
            }
        }
    }
    // Unused space does no harm; everything else is most of the log.
    assert!(refused > 3 * whole, "{refused} refused, {whole} whole");
}

#[test]
fn every_bit_of_an_earlier_record_is_guarded() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(22);
    let mut outcome = Outcome::starting_with(start);
    let mut batch_start = 0;
    for kind in [Kind::Append, Kind::Install, Kind::Append, Kind::Append] {
        batch_start = usize::try_from(log.end()).unwrap();
        let jobs = [draw.write(outcome.newest(), 1, kind)];
        outcome.committed(&jobs, &log.commit(&jobs));
    }
    drop(log);
    let bytes = disk.read(segment(1)).unwrap();
    for at in 4096..batch_start {
        let right = bytes[at];
        let wrong = (0..8)
            .map(|bit| right ^ 1 << bit)
            .chain([0x00, 0xff])
            .filter(|wrong| *wrong != right);
        for wrong in wrong {
            let damaged = disk.copy();
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            damaged.put(segment(1), &bytes);
            let context = format!("byte {at} is {wrong:#04x}");
            let verdict = assert_whole_or_refused(&damaged, outcome.newest(), &context);
            assert_eq!(verdict, Verdict::Refused, "{context}");
        }
    }
}

#[test]
fn a_lost_or_misplaced_sector_is_noticed_or_does_no_harm() {
    let (disk, model) = closed_log();
    for sequence in 1..=3 {
        let bytes = disk.read(segment(sequence)).unwrap();
        let sectors = bytes.len() / 512;
        for sector in 0..sectors {
            let place = sector * 512..(sector + 1) * 512;
            let mut zeroed = bytes.clone();
            zeroed[place.clone()].fill(0);
            let damaged = disk.copy();
            damaged.put(segment(sequence), &zeroed);
            assert_whole_or_refused(&damaged, &model, &format!("sector {sector} zeroed"));

            for other in 1..=3 {
                let theirs = disk.read(segment(other)).unwrap();
                let Some(theirs) = theirs.get(place.clone()) else {
                    continue;
                };
                let mut misplaced = bytes.clone();
                misplaced[place.clone()].copy_from_slice(theirs);
                let damaged = disk.copy();
                damaged.put(segment(sequence), &misplaced);
                let context = format!("sector {sector} of {sequence} is that of {other}");
                assert_whole_or_refused(&damaged, &model, &context);
            }
            if sector > 0 {
                let mut shifted = bytes.clone();
                shifted.copy_within((sector - 1) * 512..sector * 512, sector * 512);
                let damaged = disk.copy();
                damaged.put(segment(sequence), &shifted);
                assert_whole_or_refused(&damaged, &model, &format!("sector {sector} doubled"));
            }
        }
    }
}

#[test]
fn a_log_shortened_anywhere_is_refused_where_it_was_acknowledged() {
    let (disk, model) = closed_log();
    for sequence in 1..=3 {
        let bytes = disk.read(segment(sequence)).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for len in (0..bytes.len()).step_by(7) {
            // The end of the last segment is where torn writes are: there a
            // missing end cannot be told from one that was never written.
            if sequence == 3 && len > 4096 {
                continue;
            }
            let damaged = disk.copy();
            damaged.put(segment(sequence), &bytes[..len]);
            let context = format!("segment {sequence} of {len} bytes");
            let verdict = assert_whole_or_refused(&damaged, &model, &context);
            if len <= used {
                assert_eq!(verdict, Verdict::Refused, "{context}");
            }
        }
    }
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, _) = closed_log();
    for sequence in 1..=3 {
        let damaged = disk.copy();
        damaged.lose(segment(sequence));
        match open(&damaged) {
            Err(OpenError::Corrupt(corruption)) => {
                assert_eq!(corruption.what, Damage::MissingSegment { sequence });
            }
            other => panic!("segment {sequence}: {other:?}"),
        }
    }
}

#[test]
fn a_folder_whose_log_is_gone_does_not_start_over() {
    let (disk, _) = closed_log();
    for sequence in 1..=3 {
        disk.lose(segment(sequence));
    }
    match open(&disk) {
        Err(OpenError::Corrupt(corruption)) => assert_eq!(corruption.what, Damage::MissingLog),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_without_its_identity_gets_it_back_from_the_segments() {
    let (disk, model) = closed_log();
    let path = format!("{DIR}/IDENTITY");
    let named = disk.read(&path).unwrap();
    disk.lose(&path);
    let verdict = assert_whole_or_refused(&disk, &model, "no identity");
    assert_eq!(verdict, Verdict::Whole);
    assert_eq!(disk.read(&path).unwrap(), named);
}

#[test]
fn a_flipped_bit_in_the_identity_is_noticed() {
    let (disk, model) = closed_log();
    let path = format!("{DIR}/IDENTITY");
    let bytes = disk.read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let damaged = disk.copy();
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        damaged.put(&path, &wrong);
        let verdict = assert_whole_or_refused(&damaged, &model, &format!("bit {bit}"));
        assert_eq!(verdict, Verdict::Refused, "bit {bit}");
    }
}

#[test]
fn entries_that_cannot_be_read_are_named() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(23);
    let mut outcome = Outcome::starting_with(start);
    for _ in 0..3 {
        let jobs = [draw.write(outcome.newest(), 9, Kind::Append)];
        outcome.committed(&jobs, &log.commit(&jobs));
    }
    drop(log);
    let mut bytes = disk.read(segment(1)).unwrap();
    // The first byte of the data of the first record.
    bytes[4096 + 48 + 16] ^= 1;
    disk.put(segment(1), &bytes);
    match open(&disk) {
        Err(OpenError::Corrupt(corruption)) => {
            assert_eq!(corruption.what, Damage::RecordData);
            assert_eq!(corruption.offset, 4096);
            let lost = corruption.lost.unwrap();
            assert_eq!((lost.group, lost.first.get()), (9, 1));
            assert!(corruption.to_string().contains("group 9"), "{corruption}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newer_version_of_the_format_is_not_taken_for_damage() {
    let (disk, _) = closed_log();
    let mut bytes = disk.read(segment(3)).unwrap();
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
    disk.put(segment(3), &bytes);
    match open(&disk) {
        Err(OpenError::UnsupportedVersion { found, .. }) => assert_eq!(found, 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_batch_is_guarded_once_it_is_marked_durable() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(24);
    let mut outcome = Outcome::starting_with(start);
    for _ in 0..3 {
        let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
        outcome.committed(&jobs, &log.commit(&jobs));
    }
    let end = usize::try_from(log.end()).unwrap();
    log.mark_durable();
    drop(log);
    let bytes = disk.read(segment(1)).unwrap();
    for at in 4096..end {
        let damaged = disk.copy();
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x10;
        damaged.put(segment(1), &wrong);
        let context = format!("byte {at}");
        let verdict = assert_whole_or_refused(&damaged, outcome.newest(), &context);
        assert_eq!(verdict, Verdict::Refused, "{context}");
    }
}

#[test]
fn what_a_restart_has_written_again_is_guarded_at_once() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(25);
    let mut outcome = Outcome::starting_with(start);
    for _ in 0..3 {
        let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
        outcome.committed(&jobs, &log.commit(&jobs));
    }
    drop(log);
    let (log, _) = open_model(&disk);
    let end = usize::try_from(log.end()).unwrap();
    drop(log);
    let bytes = disk.read(segment(1)).unwrap();
    for at in 4096..end {
        let damaged = disk.copy();
        let mut wrong = bytes.clone();
        wrong[at] ^= 2;
        damaged.put(segment(1), &wrong);
        let context = format!("byte {at}");
        let verdict = assert_whole_or_refused(&damaged, outcome.newest(), &context);
        assert_eq!(verdict, Verdict::Refused, "{context}");
    }
}

/// A log of `count` entries, the first of which is filled with `byte`. Such logs
/// have the same ids and lengths, and differ in nothing else.
fn history(byte: u8, count: u64, data_bytes: usize) -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open_model(&disk);
    for index in 1..=count {
        let fill = if index == 1 { byte } else { 0 };
        let mut write = Write::new(1, Sync::Required);
        write.entries = Entry::normal(
            Term::new(1),
            LogIndex::new(index),
            vec![fill; data_bytes].into(),
        )
        .into();
        assert!(log.commit(&[Job::Write(write)])[0].is_ok());
    }
    log.close().unwrap();
    disk
}

#[test]
fn a_record_of_another_history_is_noticed() {
    let (one, two) = (history(1, 3, 40), history(2, 3, 40));
    let first = one.read(segment(1)).unwrap();
    let mut mixed = two.read(segment(1)).unwrap();
    // The first record, without what leads to the second.
    let record = 4096..4096 + 48 + 56;
    assert_eq!(first[..4096], mixed[..4096]);
    assert_ne!(first[record.clone()], mixed[record.clone()]);
    mixed[record.clone()].copy_from_slice(&first[record]);
    two.put(segment(1), &mixed);
    match open(&two) {
        Err(OpenError::Corrupt(corruption)) => {
            assert_eq!(corruption.what, Damage::RecordLink);
            assert_eq!(corruption.offset, 4096 + 48 + 56);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_segment_of_another_history_is_noticed() {
    let (one, two) = (history(1, 6, 1000), history(2, 6, 1000));
    two.put(segment(1), &one.read(segment(1)).unwrap());
    match open(&two) {
        Err(OpenError::Corrupt(corruption)) => {
            assert_eq!(corruption.what, Damage::SegmentLink);
            assert_eq!(corruption.file, segment(2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_next_segment_guards_the_one_before() {
    // The power goes when the next segment is there and the seal is not.
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(26);
    let mut outcome = Outcome::starting_with(start);
    let (disk, end) = loop {
        let end = usize::try_from(log.end()).unwrap();
        let before = disk.copy();
        let calls = disk.calls().len();
        let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
        let results = log.commit(&jobs);
        if log.segments().1 == 2 {
            // Header, sync, rename, sync of the folder; then the seal.
            let made = disk.calls()[calls..].to_vec();
            let expected = [Call::Write, Call::Sync, Call::Rename, Call::SyncDir];
            assert_eq!(made[..4], expected);
            let second = disk.read(segment(2)).unwrap();
            before.put(segment(2), &second[..4096]);
            break (before, end);
        }
        outcome.committed(&jobs, &results);
    };
    check(&disk.copy(), &outcome, "undamaged");
    let bytes = disk.read(segment(1)).unwrap();
    for at in 4096..end {
        let damaged = disk.copy();
        let mut wrong = bytes.clone();
        wrong[at] ^= 4;
        damaged.put(segment(1), &wrong);
        let context = format!("byte {at}");
        let verdict = assert_whole_or_refused(&damaged, outcome.newest(), &context);
        assert_eq!(verdict, Verdict::Refused, "{context}");
    }
}

/// The header of a segment that nobody wrote, with a right checksum.
fn forged_header(sequence: u64, oldest_sequence: u64, first_batch: u64) -> SegmentHeader {
    SegmentHeader {
        id: 7,
        sequence,
        identity: identity(),
        previous_id: 0,
        previous_chain: 0,
        oldest_sequence,
        first_batch,
        durable_batch: 0,
    }
}

#[test]
fn an_empty_next_segment_cannot_take_the_one_before_with_it() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut outcome = Outcome::starting_with(start);
    let jobs = [Draw::new(28).write(outcome.newest(), 1, Kind::Append)];
    outcome.committed(&jobs, &log.commit(&jobs));
    drop(log);
    // Its header calls everything before it superfluous, and says nothing.
    let header = forged_header(2, 2, 2);
    disk.put(segment(2), &header.encode());
    check(&disk, &outcome, "a segment that says nothing");
}

#[test]
fn a_segment_cannot_call_itself_superfluous() {
    let disk = SimDisk::new();
    let header = forged_header(1, 2, 1);
    disk.put(segment(1), &header.encode());
    let files = disk.files();
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
    assert_eq!(disk.files(), files, "refusing changes nothing");
}

#[test]
fn a_seal_is_alone_in_its_batch() {
    // Otherwise what stands beside it would go when the seal is cut off.
    let disk = SimDisk::new();
    let header = forged_header(1, 1, 1);
    let mut bytes = header.encode();
    let mut encoder = Encoder::new();
    let chain = SegmentHeader::chain(&bytes);
    encoder.begin(header.id, SEGMENT_HEADER_BYTES, chain);
    encoder.hard_state(1, HardState::EMPTY);
    encoder.seal(2);
    encoder.trailer(1, 0, 0);
    bytes.extend_from_slice(encoder.encoded().0);
    disk.put(segment(1), &bytes);
    match open(&disk) {
        Err(OpenError::Corrupt(corruption)) => assert_eq!(corruption.what, Damage::Meaningless),
        other => panic!("{other:?}"),
    }
}

#[test]
fn closing_guards_also_what_needed_no_sync() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut outcome = Outcome::starting_with(start);
    let jobs = [Draw::new(27).write(outcome.newest(), 1, Kind::Commit)];
    outcome.committed(&jobs, &log.commit(&jobs));
    let end = usize::try_from(log.end()).unwrap();
    log.close().unwrap();
    drop(log);
    let mut bytes = disk.read(segment(1)).unwrap();
    bytes[end - 1] ^= 1;
    disk.put(segment(1), &bytes);
    let verdict = assert_whole_or_refused(&disk, outcome.newest(), "closed");
    assert_eq!(verdict, Verdict::Refused);
}

#[test]
fn arbitrary_bytes_are_refused_without_a_panic() {
    for seed in 0..500 {
        let mut draw = Draw::new(seed);
        let disk = SimDisk::new();
        let len = draw.below(10_000);
        let mut bytes: Vec<u8> = (0..len)
            .map(|_| u8::try_from(draw.below(256)).unwrap())
            .collect();
        if seed % 2 == 0 {
            // A good header, so that the records are looked at.
            let header = SegmentHeader {
                id: u128::from(seed),
                ..forged_header(1, 1, 1)
            };
            let mut whole = header.encode();
            whole.append(&mut bytes);
            bytes = whole;
        }
        disk.put(segment(1), &bytes);
        if let Ok((_, recovered)) = open(&disk) {
            assert_eq!(Model::of(&recovered), Model::default(), "seed {seed}");
        }
    }
}
