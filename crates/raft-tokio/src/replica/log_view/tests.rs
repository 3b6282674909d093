use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Entry, MemoryStorage};

use super::*;

const LIMITS: TailLimits = TailLimits {
    bytes_max: 2000,
    entries_max: 40,
};

const READ_LIMITS: ReadLimits = ReadLimits {
    bytes_max: 1000,
    patience_ticks: 50,
};

fn index(number: u64) -> LogIndex {
    LogIndex::new(number)
}

fn batch(term: u64, first: u64, count: u64, payload: usize) -> Entries {
    let entries = (first..first + count)
        .map(|at| Entry::normal(Term::new(term), index(at), vec![7; payload].into()))
        .collect();
    Entries::from_batch(entries).unwrap()
}

/// A view of `count` entries of term 1, all of them applied.
fn applied_view(count: u64) -> LogView {
    let mut view = LogView::new(LIMITS, READ_LIMITS);
    for at in 1..=count {
        view.append(batch(1, at, 1, 50)).unwrap();
    }
    view.applied_to(index(count));
    view
}

fn is_coming(result: &Result<Entries, StorageError>) -> bool {
    matches!(result, Err(StorageError::EntriesTemporarilyUnavailable))
}

/// Answers every read with entries of term 1.
fn answer(view: &mut LogView) -> usize {
    let reads = view.take_reads();
    let count = reads.len();
    for (number, request) in reads {
        let wanted = request.high.distance_from(request.low);
        let entries = batch(1, request.low.get(), wanted.min(5), 50);
        view.on_read(number, Ok(entries));
    }
    count
}

#[test]
fn the_view_is_a_memory_storage_whose_old_entries_are_elsewhere() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut view = LogView::new(LIMITS, READ_LIMITS);
        let mut whole = MemoryStorage::new();
        let (mut term, mut applied) = (1, 0);
        for _ in 0..200 {
            let (first, last) = (whole.first_index().get(), whole.last_index().get());
            match rng.u8(0..10) {
                0..5 => {
                    let at = last + 1;
                    let entries = batch(term, at, rng.u64(1..8), rng.usize(0..80));
                    view.append(entries.clone()).unwrap();
                    whole.append(entries).unwrap();
                }
                // A new leader overwrites what is not committed.
                5 if last > applied => {
                    term += 1;
                    let at = rng.u64(applied + 1..=last);
                    let entries = batch(term, at, rng.u64(1..4), 20);
                    view.append(entries.clone()).unwrap();
                    whole.append(entries).unwrap();
                }
                6..9 => {
                    applied = rng.u64(applied..=last.max(applied));
                    view.applied_to(index(applied));
                }
                _ if applied >= first => {
                    let to = index(rng.u64(first..=applied));
                    view.create_snapshot(to, None, Bytes::new()).ok();
                    view.compact(to).unwrap();
                    whole.compact(to).unwrap();
                }
                _ => {}
            }
            let last = whole.last_index().get();
            assert_eq!(view.first_index(), whole.first_index(), "seed {seed}");
            assert_eq!(view.last_index(), whole.last_index(), "seed {seed}");
            for at in 0..=last + 1 {
                let terms = (view.term(index(at)).ok(), whole.term(index(at)).ok());
                assert_eq!(terms.0, terms.1, "seed {seed}, index {at}");
            }
            let start = view.tail.first_index();
            let everything = (start, index(last).next(), u64::MAX);
            let tail = view.entries(start, everything.1, u64::MAX).unwrap();
            let wanted = whole.entries(start, everything.1, u64::MAX).unwrap();
            assert_eq!(tail, wanted, "seed {seed}");
            assert_eq!(view.tail_bytes(), wanted.encoded_bytes(), "seed {seed}");
            assert_eq!(view.tail_entries(), wanted.count(), "seed {seed}");
            assert!(start.get() <= applied + 1, "unapplied entries stay");
            let unapplied = whole.entries(index(applied).next().max(start), everything.1, u64::MAX);
            let unapplied = unapplied.unwrap().encoded_bytes();
            // As of the last look at what is applied, and batches count whole.
            assert!(view.unapplied_bytes() >= unapplied, "seed {seed}");
            assert!(view.unapplied_bytes() <= view.tail_bytes(), "seed {seed}");
        }
        view.applied_to(whole.last_index());
        assert!(view.tail_bytes() <= LIMITS.bytes_max);
        assert!(view.tail_entries() <= LIMITS.entries_max);
        assert_eq!(view.unapplied_bytes(), 0, "seed {seed}");
    }
}

#[test]
fn what_is_appended_at_once_is_let_go_bit_by_bit() {
    let mut view = LogView::new(LIMITS, READ_LIMITS);
    view.append(batch(1, 1, 500, 50)).unwrap();
    for applied in (0..=500).step_by(10) {
        view.applied_to(index(applied));
        let unapplied = 500 - applied;
        let kept = view.tail_entries();
        // A batch that is not applied whole stays.
        let partly_applied = LIMITS.entries_max / 8;
        assert!(
            kept >= unapplied && kept <= (unapplied + partly_applied).max(40),
            "{kept}"
        );
    }
    assert!(view.tail_bytes() <= LIMITS.bytes_max);
    assert!(view.tail_bytes() >= LIMITS.bytes_max * 7 / 8 - 56);
}

#[test]
fn who_lacks_old_entries_shares_one_read_and_then_has_them() {
    let mut view = applied_view(100);
    assert!(view.tail.first_index() > index(60));
    for low in [10, 10, 12] {
        assert!(is_coming(&view.entries(index(low), index(101), 300)));
    }
    assert_eq!(answer(&mut view), 1);
    let found = view.entries(index(10), index(101), 250).unwrap();
    assert_eq!(found, batch(1, 10, 4, 50));
    let found = view.entries(index(12), index(101), u64::MAX).unwrap();
    assert_eq!(found, batch(1, 12, 3, 50));
    assert!(is_coming(&view.entries(index(15), index(101), 300)));
    // Nobody is asked again as long as the answer is under way.
    let reads = view.take_reads();
    assert_eq!(reads.len(), 1);
    assert!(is_coming(&view.entries(index(15), index(101), 300)));
    assert!(!view.wants_reads());
}

#[test]
fn what_was_read_is_bounded_and_so_are_the_reads() {
    let mut view = applied_view(100);
    for low in (1..60).step_by(5) {
        assert!(is_coming(&view.entries(index(low), index(low + 1), 300)));
        answer(&mut view);
        assert!(view.entries(index(low), index(101), 300).is_ok());
    }
    assert!(view.read_back.borrow().bytes() <= 1000);
    for low in 1..60 {
        let _ = view.entries(index(low), index(low + 1), 300);
    }
    assert!(view.take_reads().len() <= 16);
}

#[test]
fn entries_of_another_log_are_not_taken() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    let (number, _) = view.take_reads()[0];
    view.on_read(number, Ok(batch(2, 10, 5, 50)));
    // They cannot be had: a snapshot has to take their place.
    assert!(is_given_up(&view.entries(index(10), index(101), 300)));
    assert_eq!(view.damaged_at(), Some(index(10)));
}

fn io_error() -> LogReadError {
    LogReadError::Failed(Arc::new(std::io::Error::other("the disk cannot be read")))
}

fn damage() -> LogReadError {
    LogReadError::Damaged(Arc::new(std::io::Error::other("a checksum is wrong")))
}

fn is_given_up(result: &Result<Entries, StorageError>) -> bool {
    matches!(result, Err(StorageError::Compacted))
}

#[test]
fn what_is_damaged_asks_for_a_snapshot_behind_it() {
    let mut view = applied_view(100);
    view.create_snapshot(index(5), None, Bytes::new()).unwrap();
    assert!(view.snapshot().is_ok());
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    assert_eq!(view.damaged_at(), None);
    let (number, _) = view.take_reads()[0];
    assert_eq!(view.on_read(number, Err(damage())), ReadOutcome::GivenUp);
    assert_eq!(view.damaged_at(), Some(index(10)));
    assert!(is_given_up(&view.entries(index(10), index(101), 300)));
    assert!(!view.take_snapshot_wish());
    let too_old = view.snapshot();
    assert!(matches!(
        too_old,
        Err(StorageError::SnapshotTemporarilyUnavailable)
    ));
    assert!(view.take_snapshot_wish());
    assert!(!view.take_snapshot_wish());
    view.create_snapshot(index(100), None, Bytes::new())
        .unwrap();
    assert!(view.snapshot().is_ok());
    // What is behind it can still be read, and it is never read again.
    assert!(is_coming(&view.entries(index(11), index(101), 300)));
    answer(&mut view);
    view.on_tick(1_000_000);
    assert!(is_given_up(&view.entries(index(10), index(101), 300)));
    assert_eq!(view.damaged_at(), Some(index(10)));
}

#[test]
fn a_read_that_fails_is_tried_again_later_each_time_and_then_given_up() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    let mut asked_at = Vec::new();
    for tick in 0..100 {
        view.on_tick(tick);
        for (number, request) in view.take_reads() {
            assert_eq!(request.low, index(10));
            asked_at.push(tick);
            let error = if tick % 2 == 0 {
                io_error()
            } else {
                LogReadError::NotAnswered
            };
            view.on_read(number, Err(error));
        }
        if asked_at.len() < 5 {
            // Who asks again meanwhile sets off no other read.
            assert!(is_coming(&view.entries(index(10), index(101), 300)));
        }
    }
    assert_eq!(asked_at, [0, 1, 3, 7, 15]);
    assert!(is_given_up(&view.entries(index(10), index(101), 300)));
    assert_eq!((view.reads_under_way(), view.damaged_at()), (0, None));
    // It may have passed some time later.
    view.on_tick(15 + 10 * READ_LIMITS.patience_ticks);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    assert_eq!(answer(&mut view), 1);
    assert!(view.entries(index(10), index(101), 300).is_ok());
}

#[test]
fn a_read_that_fails_a_few_times_ends_well() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    for tick in [1, 3, 7] {
        let (number, _) = view.take_reads()[0];
        let outcome = view.on_read(number, Err(io_error()));
        assert_eq!(outcome, ReadOutcome::TriedAgain);
        assert!(!view.wants_reads());
        view.on_tick(tick);
    }
    assert_eq!(answer(&mut view), 1);
    assert!(view.entries(index(10), index(101), 300).is_ok());
}

#[test]
fn a_read_that_the_disk_owes_for_too_long_is_given_up_until_it_answers() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(20), 300)));
    assert!(is_coming(&view.entries(index(30), index(101), 300)));
    let reads = view.take_reads();
    let (ten, thirty) = (reads[0].0, reads[1].0);
    assert!(!view.on_tick(READ_LIMITS.patience_ticks));
    assert_eq!(view.reads_stalled_since(), None);
    let overdue = READ_LIMITS.patience_ticks + 1;
    assert!(view.on_tick(overdue), "who waits has to look again");
    assert_eq!(view.reads_stalled_since(), Some(0));
    assert!(is_given_up(&view.entries(index(10), index(101), 300)));
    // Nothing more is asked of a disk that does not answer, however long.
    for tick in overdue..100 * overdue {
        assert!(!view.on_tick(tick));
        assert!(is_given_up(&view.entries(index(40), index(101), 300)));
        assert!(!view.wants_reads());
    }
    assert_eq!(view.reads_under_way(), 0);
    // One answer of two: it still owes the other.
    assert_eq!(view.on_read(ten, Err(io_error())), ReadOutcome::Unwanted);
    assert_eq!(view.reads_stalled_since(), Some(0));
    view.on_read(thirty, Ok(batch(1, 30, 5, 50)));
    assert_eq!(view.reads_stalled_since(), None);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    assert_eq!(answer(&mut view), 1);
}

#[test]
fn a_read_that_a_compaction_has_passed_is_no_failure() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    let (number, _) = view.take_reads()[0];
    view.compact(index(20)).unwrap();
    view.on_read(number, Err(LogReadError::Compacted));
    let gone = view.entries(index(10), index(101), 300);
    assert!(matches!(gone, Err(StorageError::Compacted)));
    assert!(view.snapshot().is_ok());
    assert!(is_coming(&view.entries(index(21), index(101), 300)));
}

#[test]
fn reads_of_an_earlier_leadership_end_in_nothing() {
    let mut view = applied_view(100);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    let (number, _) = view.take_reads()[0];
    view.forget_reads();
    assert_eq!(view.reads_under_way(), 0);
    let outcome = view.on_read(number, Ok(batch(1, 10, 5, 50)));
    assert_eq!(outcome, ReadOutcome::Unwanted);
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    assert_eq!(view.reads_under_way(), 1);
}

#[test]
fn a_disk_that_answers_nothing_owes_few_reads_however_often_leaders_change() {
    let mut view = applied_view(100);
    let mut asked = 0;
    for leadership in 0..20 {
        for low in 1..10 {
            let _ = view.entries(index(10 * leadership % 50 + low), index(101), 300);
        }
        asked += view.take_reads().len();
        view.forget_reads();
    }
    assert_eq!(asked, 16);
    // It is noticed though nobody waits any more.
    view.on_tick(READ_LIMITS.patience_ticks + 1);
    assert_eq!(view.reads_stalled_since(), Some(0));
}
