//! # Waiters
//!
//! Who waits for which entry of the log. An entry is only an answer to whoever
//! proposed it: at the same index in the same term. Another term there means
//! that the proposal is in no log any more.
//!
//! A server whose log was cut off by another leader may lead again while its
//! earlier callers still wait. Then several wait for the same index, each for an
//! entry of its own term, and which of them is committed shows in the end.
//!
//! The lists in which they wait go round: from an append to its commit, with the
//! entries to the state machine, and back for another append.
//!
//! - Owns: the waiters of entries that are not committed, and lists to spare.

use std::collections::VecDeque;

use raft_core::{Entries, LogIndex, Term};
use smallvec::SmallVec;

use super::request::Waiter;

/// The waiters of one append.
#[derive(Debug)]
pub(super) struct WaiterBatch {
    term: Term,
    first: LogIndex,
    since_tick: u64,
    waiters: VecDeque<Waiter>,
}

impl WaiterBatch {
    /// The index after the last that somebody waits for.
    fn next(&self) -> LogIndex {
        let count = u64::try_from(self.waiters.len()).unwrap_or(u64::MAX);
        self.first.plus(count)
    }

    /// Takes out who waits for one of `entries`, or for what they replaced: the
    /// latter go to `superseded`. What is left is behind them.
    fn take_committed(
        &mut self,
        entries: &Entries,
        high: LogIndex,
        superseded: &mut Vec<Waiter>,
    ) -> Option<CommittedBatch> {
        let mut taken = VecDeque::new();
        let mut taken_first = self.first;
        while self.first <= high {
            let Some(waiter) = self.waiters.pop_front() else {
                break;
            };
            let index = self.first;
            self.first = index.next();
            if entries.term(index) == Some(self.term) {
                if taken.is_empty() {
                    taken_first = index;
                }
                taken.push_back(waiter);
            } else {
                superseded.push(waiter);
            }
        }
        (!taken.is_empty()).then_some(CommittedBatch {
            first: taken_first,
            since_tick: self.since_tick,
            waiters: taken,
        })
    }

    /// Takes out who waits for an index up to `index`.
    fn take_up_to(&mut self, index: LogIndex) -> impl Iterator<Item = Waiter> {
        let count = index.next().distance_from(self.first);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let count = count.min(self.waiters.len());
        self.first = self.first.plus(u64::try_from(count).unwrap_or(u64::MAX));
        self.waiters.drain(..count)
    }
}

/// How many lists are kept for appends to come.
const SPARE_LISTS_MAX: usize = 4;

/// Waiters in order of their entries.
///
/// # Invariants
/// - `batches` is in order of indexes and of time, and no two of them wait for
///   the same index.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    batches: VecDeque<WaiterBatch>,
    /// Those whose entries this server's log no longer has. Another server's may,
    /// and may be committed. Nearly always empty.
    overtaken: Vec<WaiterBatch>,
    len: usize,
    /// Empty lists that have room.
    spare: Vec<VecDeque<Waiter>>,
}

/// Waiters whose entries are committed, for the state machine to answer.
#[derive(Debug, Default)]
pub(super) struct CommittedWaiters {
    /// A commit is nearly always that of one append.
    batches: SmallVec<[CommittedBatch; 1]>,
    /// Those before this one were taken.
    place: usize,
}

/// Waiters of entries that follow one another.
#[derive(Debug)]
struct CommittedBatch {
    first: LogIndex,
    since_tick: u64,
    waiters: VecDeque<Waiter>,
}

impl CommittedWaiters {
    /// The waiter for the entry at `index`. Indexes must be asked in order.
    pub(super) fn take(&mut self, index: LogIndex) -> Option<Waiter> {
        while let Some(batch) = self.batches.get_mut(self.place) {
            if index < batch.first {
                return None;
            }
            if batch.waiters.is_empty() {
                self.place += 1;
                continue;
            }
            // One waiter per entry, so the front is the one for `first`.
            let waiter = batch.waiters.pop_front();
            let at = batch.first;
            batch.first = at.next();
            if at == index {
                return waiter;
            }
        }
        None
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.iter().all(|batch| batch.waiters.is_empty())
    }

    /// Takes out everybody who has waited since before `tick`.
    pub(super) fn take_older_than(&mut self, tick: u64, old: &mut Vec<Waiter>) {
        for batch in &mut self.batches {
            if batch.since_tick < tick {
                old.extend(batch.waiters.drain(..));
            }
        }
    }

    /// Lets go of everybody who was not taken, and returns the lists.
    pub(super) fn into_lists(self) -> EmptyLists {
        let lists = self.batches.into_iter().map(|batch| {
            let mut list = batch.waiters;
            list.clear();
            list
        });
        lists.collect()
    }
}

/// Lists whose waiters have their answers.
pub(super) type EmptyLists = SmallVec<[VecDeque<Waiter>; 1]>;

impl Waiters {
    /// An empty list, for the waiters of an append.
    pub(super) fn spare_list(&mut self) -> VecDeque<Waiter> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps lists for appends to come.
    pub(super) fn keep_lists(&mut self, lists: EmptyLists) {
        let room = SPARE_LISTS_MAX.saturating_sub(self.spare.len());
        self.spare.extend(lists.into_iter().take(room));
    }

    /// Records who waits for the entries from `first` on, which were appended at
    /// the end of the log just now.
    pub(super) fn push(
        &mut self,
        term: Term,
        first: LogIndex,
        since_tick: u64,
        waiters: VecDeque<Waiter>,
    ) {
        while self.batches.back().is_some_and(|last| last.next() > first) {
            self.overtake_last(first);
        }
        self.len += waiters.len();
        self.batches.push_back(WaiterBatch {
            term,
            first,
            since_tick,
            waiters,
        });
    }

    /// The log was cut off at `first` since the last batch was pushed.
    fn overtake_last(&mut self, first: LogIndex) {
        let Some(mut last) = self.batches.pop_back() else {
            return;
        };
        if last.first < first {
            let kept = usize::try_from(first.distance_from(last.first)).unwrap_or(usize::MAX);
            let waiters = last.waiters.split_off(kept.min(last.waiters.len()));
            self.overtaken.push(WaiterBatch {
                first,
                waiters,
                ..last
            });
            self.batches.push_back(last);
        } else {
            self.overtaken.push(last);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes out everybody who waits for one of `entries`, which are committed.
    /// Those whose entry was replaced by one of another term go to `superseded`.
    pub(super) fn take_committed(
        &mut self,
        entries: &Entries,
        superseded: &mut Vec<Waiter>,
    ) -> CommittedWaiters {
        let mut committed = CommittedWaiters::default();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return committed;
        };
        let (low, high) = (first.index(), last.index());
        let one_term = (first.term() == last.term()).then_some(last.term());
        while let Some(batch) = self.batches.front_mut() {
            if batch.first > high {
                break;
            }
            let batch_last = batch.next().prev();
            if batch.first >= low && batch_last <= high && one_term == Some(batch.term) {
                // The usual case: the whole append, unchanged.
                if let Some(batch) = self.batches.pop_front() {
                    self.len -= batch.waiters.len();
                    committed.batches.push(CommittedBatch {
                        first: batch.first,
                        since_tick: batch.since_tick,
                        waiters: batch.waiters,
                    });
                }
                continue;
            }
            let before = batch.waiters.len();
            let taken = batch.take_committed(entries, high, superseded);
            self.len -= before - batch.waiters.len();
            let batch_done = batch.waiters.is_empty();
            committed.batches.extend(taken);
            if !batch_done {
                break;
            }
            self.batches.pop_front();
        }
        if !self.overtaken.is_empty() {
            self.take_committed_of_overtaken(entries, high, superseded, &mut committed);
        }
        committed
    }

    fn take_committed_of_overtaken(
        &mut self,
        entries: &Entries,
        high: LogIndex,
        superseded: &mut Vec<Waiter>,
        committed: &mut CommittedWaiters,
    ) {
        for batch in &mut self.overtaken {
            let before = batch.waiters.len();
            committed
                .batches
                .extend(batch.take_committed(entries, high, superseded));
            self.len -= before - batch.waiters.len();
        }
        self.overtaken.retain(|batch| !batch.waiters.is_empty());
        // Each index has one entry, so nobody stands at the same place.
        committed.batches.sort_unstable_by_key(|batch| batch.first);
    }

    /// Takes out everybody who has waited since before `tick`.
    pub(super) fn take_older_than(&mut self, tick: u64) -> Vec<Waiter> {
        let mut old = Vec::new();
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.since_tick < tick)
        {
            if let Some(batch) = self.batches.pop_front() {
                old.extend(batch.waiters);
            }
        }
        for batch in &mut self.overtaken {
            if batch.since_tick < tick {
                old.extend(batch.waiters.drain(..));
            }
        }
        self.overtaken.retain(|batch| !batch.waiters.is_empty());
        self.len -= old.len();
        old
    }

    /// Takes out everybody who waits for an entry up to `index`: a snapshot has
    /// replaced them, so nobody can tell what they were.
    pub(super) fn take_up_to(&mut self, index: LogIndex) -> Vec<Waiter> {
        let mut covered = Vec::new();
        for batch in self.batches.iter_mut().chain(&mut self.overtaken) {
            covered.extend(batch.take_up_to(index));
        }
        self.batches.retain(|batch| !batch.waiters.is_empty());
        self.overtaken.retain(|batch| !batch.waiters.is_empty());
        self.len -= covered.len();
        covered
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        self.take_older_than(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raft_core::{Entry, NodeId};

    fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Entries {
        let batch = indexes
            .map(|index| {
                Entry::normal(
                    Term::new(term),
                    LogIndex::new(index),
                    Bytes::from_static(b"x"),
                )
            })
            .collect();
        Entries::from_batch(batch).unwrap()
    }

    fn waiters(ids: impl IntoIterator<Item = u64>) -> VecDeque<Waiter> {
        let from = NodeId::new(1).unwrap();
        ids.into_iter()
            .map(|id| Waiter::Remote { from, id })
            .collect()
    }

    fn id(waiter: Option<Waiter>) -> Option<u64> {
        waiter.map(|waiter| match waiter {
            Waiter::Remote { id, .. } => id,
            Waiter::Local(_) => unreachable!("the tests make remote waiters"),
        })
    }

    fn index(number: u64) -> LogIndex {
        LogIndex::new(number)
    }

    #[test]
    fn an_entry_answers_whoever_proposed_it() {
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 0, waiters([50, 60, 70]));
        let mut superseded = Vec::new();
        let mut committed = all.take_committed(&entries(2, 4..=6), &mut superseded);
        assert_eq!(id(committed.take(index(4))), None);
        assert_eq!(id(committed.take(index(5))), Some(50));
        assert_eq!(id(committed.take(index(6))), Some(60));
        assert!(superseded.is_empty());
        assert_eq!(all.len(), 1);
        let mut committed = all.take_committed(&entries(2, 7..=7), &mut superseded);
        assert_eq!(id(committed.take(index(7))), Some(70));
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn an_entry_of_another_term_answers_nobody() {
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 0, waiters([50, 60]));
        let mut superseded = Vec::new();
        let mut committed = all.take_committed(&entries(3, 5..=5), &mut superseded);
        assert_eq!(id(committed.take(index(5))), None);
        assert_eq!(superseded.len(), 1);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn waiters_of_several_appends_keep_their_order() {
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 0, waiters([50, 60]));
        all.push(Term::new(2), index(8), 0, waiters([80]));
        let mut superseded = Vec::new();
        let mut committed = all.take_committed(&entries(2, 5..=9), &mut superseded);
        let got: Vec<_> = (5..=9).map(|i| id(committed.take(index(i)))).collect();
        assert_eq!(got, [Some(50), Some(60), None, Some(80), None]);
        assert!(committed.is_empty());
    }

    #[test]
    fn who_waits_too_long_or_behind_a_snapshot_is_taken_out() {
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 1, waiters([50, 60]));
        all.push(Term::new(2), index(7), 3, waiters([70]));
        assert_eq!(all.take_older_than(2).len(), 2);
        all.push(Term::new(2), index(8), 4, waiters([80, 90]));
        assert_eq!(all.take_up_to(index(8)).len(), 2);
        assert_eq!(all.len(), 1);
    }

    /// What becomes of everybody who waits when these are committed one after
    /// the other.
    fn fates(all: &mut Waiters, committed: &[Entries]) -> (Vec<u64>, Vec<u64>) {
        let (mut answered, mut superseded) = (Vec::new(), Vec::new());
        for entries in committed {
            let mut taken = all.take_committed(entries, &mut superseded);
            let indexes = entries.iter().map(Entry::index);
            answered.extend(indexes.filter_map(|index| id(taken.take(index))));
        }
        let superseded = superseded.into_iter().filter_map(|waiter| id(Some(waiter)));
        (answered, superseded.collect())
    }

    #[test]
    fn who_led_before_and_leads_again_answers_by_what_was_committed() {
        // The end of this server's log was cut off by another leader, and it
        // leads again before its first callers have heard of their fate.
        for chunks in [
            vec![entries(3, 5..=5), entries(4, 6..=7), entries(4, 8..=9)],
            vec![entries(3, 5..=5), entries(4, 6..=9)],
            vec![
                entries(3, 5..=5),
                entries(4, 6..=6),
                entries(4, 7..=7),
                entries(4, 8..=8),
                entries(4, 9..=9),
            ],
        ] {
            let mut all = Waiters::default();
            all.push(Term::new(2), index(5), 0, waiters([50, 60, 70, 80, 90]));
            all.push(Term::new(4), index(7), 1, waiters([71]));
            all.push(Term::new(4), index(8), 1, waiters([81, 91]));
            let (answered, superseded) = fates(&mut all, &chunks);
            assert_eq!(answered, [71, 81, 91], "{chunks:?}");
            assert_eq!(superseded, [50, 60, 70, 80, 90], "{chunks:?}");
            assert!(all.is_empty());
        }
    }

    #[test]
    fn who_was_cut_off_is_answered_if_the_entry_is_committed_after_all() {
        // Another server still had the entries, was elected, and committed them
        // in the place of the later ones.
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 0, waiters([50, 60]));
        all.push(Term::new(4), index(5), 1, waiters([51, 61, 71]));
        let (answered, superseded) = fates(&mut all, &[entries(2, 5..=6), entries(6, 7..=7)]);
        assert_eq!(answered, [50, 60]);
        assert_eq!(superseded, [51, 61, 71]);
    }

    #[test]
    fn who_was_cut_off_hears_in_time_and_of_a_snapshot() {
        let mut all = Waiters::default();
        all.push(Term::new(2), index(5), 0, waiters([50, 60, 70]));
        all.push(Term::new(4), index(6), 3, waiters([61, 71]));
        assert_eq!(all.len(), 5);
        assert_eq!(all.take_up_to(index(6)).len(), 3);
        assert_eq!(all.take_older_than(2).len(), 1);
        assert_eq!(all.take_all().len(), 1);
        assert_eq!(all.len(), 0);
    }
}
