use bytes::Bytes;
use raft_core::{Entry, MemoryStorage};

use super::*;

const LIMITS: TailLimits = TailLimits {
    bytes_max: 2000,
    entries_max: 40,
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
    let mut view = LogView::new(LIMITS, 1000);
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
        let mut view = LogView::new(LIMITS, 1000);
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
        }
        view.applied_to(whole.last_index());
        assert!(view.tail_bytes() <= LIMITS.bytes_max);
        assert!(view.tail_entries() <= LIMITS.entries_max);
    }
}

#[test]
fn what_is_appended_at_once_is_let_go_bit_by_bit() {
    let mut view = LogView::new(LIMITS, 1000);
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
    let refused = view.entries(index(10), index(101), 300);
    assert!(matches!(refused, Err(StorageError::Compacted)));
}

#[test]
fn what_cannot_be_read_asks_for_a_snapshot_behind_it() {
    let mut view = applied_view(100);
    view.create_snapshot(index(5), None, Bytes::new()).unwrap();
    assert!(view.snapshot().is_ok());
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    let (number, _) = view.take_reads()[0];
    view.on_read(number, Err(LogReadError::NotAnswered));
    let refused = view.entries(index(10), index(101), 300);
    assert!(matches!(refused, Err(StorageError::Compacted)));
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
    // What is behind it can still be read.
    assert!(is_coming(&view.entries(index(11), index(101), 300)));
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
    view.on_read(number, Ok(batch(1, 10, 5, 50)));
    assert!(is_coming(&view.entries(index(10), index(101), 300)));
    assert_eq!(view.reads_under_way(), 1);
}
