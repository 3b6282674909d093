//! # Waiters
//!
//! Who waits for which entry of the log. An entry is only an answer to whoever
//! proposed it: at the same index in the same term. Another term there means
//! that the proposal is in no log any more.
//!
//! - Owns: the waiters of entries that are not committed.

use std::collections::VecDeque;

use raft_core::{Entries, LogIndex, Term};

use super::request::Waiter;

/// The waiters of one append.
#[derive(Debug)]
pub(super) struct WaiterBatch {
    term: Term,
    first: LogIndex,
    since_tick: u64,
    waiters: VecDeque<Waiter>,
}

/// Waiters in order of their entries.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    batches: VecDeque<WaiterBatch>,
    len: usize,
}

/// Waiters whose entries are committed, for the state machine to answer.
#[derive(Debug, Default)]
pub(super) struct CommittedWaiters {
    batches: VecDeque<(LogIndex, VecDeque<Waiter>)>,
}

impl CommittedWaiters {
    /// The waiter for the entry at `index`. Indexes must be asked in order.
    pub(super) fn take(&mut self, index: LogIndex) -> Option<Waiter> {
        while let Some((first, waiters)) = self.batches.front_mut() {
            if index < *first {
                return None;
            }
            if waiters.is_empty() {
                self.batches.pop_front();
                continue;
            }
            // One waiter per entry, so the front is the one for `first`.
            let waiter = waiters.pop_front();
            let at = *first;
            *first = first.next();
            if at == index {
                return waiter;
            }
        }
        None
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

impl Waiters {
    /// Records who waits for the entries from `first` on.
    pub(super) fn push(
        &mut self,
        term: Term,
        first: LogIndex,
        since_tick: u64,
        waiters: VecDeque<Waiter>,
    ) {
        self.len += waiters.len();
        self.batches.push_back(WaiterBatch {
            term,
            first,
            since_tick,
            waiters,
        });
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
            let count = u64::try_from(batch.waiters.len()).unwrap_or(u64::MAX);
            let batch_last = batch.first.plus(count).prev();
            if batch.first >= low && batch_last <= high && one_term == Some(batch.term) {
                // The usual case: the whole append, unchanged.
                if let Some(batch) = self.batches.pop_front() {
                    self.len -= batch.waiters.len();
                    committed.batches.push_back((batch.first, batch.waiters));
                }
                continue;
            }
            let mut taken = VecDeque::new();
            let mut taken_first = batch.first;
            while batch.first <= high {
                let Some(waiter) = batch.waiters.pop_front() else {
                    break;
                };
                self.len -= 1;
                let index = batch.first;
                batch.first = index.next();
                if entries.term(index) == Some(batch.term) {
                    if taken.is_empty() {
                        taken_first = index;
                    }
                    taken.push_back(waiter);
                } else {
                    superseded.push(waiter);
                }
            }
            let batch_done = batch.waiters.is_empty();
            if !taken.is_empty() {
                committed.batches.push_back((taken_first, taken));
            }
            if batch_done {
                self.batches.pop_front();
            } else {
                break;
            }
        }
        committed
    }

    /// Takes out everybody who has waited since before `tick`.
    pub(super) fn take_older_than(&mut self, tick: u64) -> Vec<Waiter> {
        let mut old = Vec::new();
        // Batches are in order of time as well.
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.since_tick < tick)
        {
            if let Some(batch) = self.batches.pop_front() {
                self.len -= batch.waiters.len();
                old.extend(batch.waiters);
            }
        }
        old
    }

    /// Takes out everybody who waits for an entry up to `index`: a snapshot has
    /// replaced them, so nobody can tell what they were.
    pub(super) fn take_up_to(&mut self, index: LogIndex) -> Vec<Waiter> {
        let mut covered = Vec::new();
        while let Some(batch) = self.batches.front_mut() {
            if batch.first > index {
                break;
            }
            while batch.first <= index {
                let Some(waiter) = batch.waiters.pop_front() else {
                    break;
                };
                self.len -= 1;
                batch.first = batch.first.next();
                covered.push(waiter);
            }
            if !batch.waiters.is_empty() {
                break;
            }
            self.batches.pop_front();
        }
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
}
