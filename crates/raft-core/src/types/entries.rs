//! # Runs of entries, shared
//!
//! A leader's batch is allocated once. Its log, the messages to every follower,
//! the Ready and the storage all hold the same allocation: handing entries on
//! costs a reference count per batch, never a copy per entry.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use smallvec::SmallVec;

use super::{Entry, EntryId, LogIndex, Term};

/// A part of one shared batch. Never empty.
#[derive(Clone)]
pub(crate) struct Run {
    batch: Arc<[Entry]>,
    start: usize,
    end: usize,
    first: LogIndex,
    /// Sizes are needed at every hop, and computed once.
    payload_bytes: u64,
    encoded_bytes: u64,
}

impl Run {
    /// The part `[start, end)` of a batch, the first entry of which is `first`.
    fn of(batch: Arc<[Entry]>, start: usize, end: usize, first: LogIndex) -> Self {
        let mut payload_bytes = 0_u64;
        let mut encoded_bytes = 0_u64;
        for entry in batch.get(start..end).unwrap_or(&[]) {
            payload_bytes = payload_bytes.saturating_add(entry.payload_len());
            encoded_bytes = encoded_bytes.saturating_add(entry.encoded_len());
        }
        Self {
            batch,
            start,
            end,
            first,
            payload_bytes,
            encoded_bytes,
        }
    }

    pub(crate) fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        self.batch.get(self.start..self.end).unwrap_or(&[])
    }

    pub(crate) fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.first
    }

    /// The index after the last entry.
    pub(crate) fn next_index(&self) -> LogIndex {
        self.first
            .plus(u64::try_from(self.len()).unwrap_or(u64::MAX))
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        if index < self.first {
            return None;
        }
        let offset = usize::try_from(index.distance_from(self.first)).ok()?;
        self.entries().get(offset)
    }

    /// The part of this run in `[low, high)`, or `None` if that is empty.
    pub(crate) fn between(&self, low: LogIndex, high: LogIndex) -> Option<Self> {
        let low = low.max(self.first);
        let high = high.min(self.next_index());
        if high <= low {
            return None;
        }
        if low == self.first && high == self.next_index() {
            return Some(self.clone());
        }
        let skip = usize::try_from(low.distance_from(self.first)).ok()?;
        let take = usize::try_from(high.distance_from(low)).ok()?;
        let start = self.start.saturating_add(skip);
        let end = start.saturating_add(take);
        Some(Self::of(self.batch.clone(), start, end, low))
    }
}

/// Consecutive entries of a log, shared with whoever else holds them.
///
/// Cloning costs a reference count per batch.
///
/// # Invariants
/// - The indexes are consecutive.
#[derive(Clone, Default)]
pub struct Entries {
    runs: SmallVec<[Run; 1]>,
    len: usize,
}

impl Entries {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a batch that a leader has just numbered, or that a decoder has
    /// read. Returns `None` if the indexes are not consecutive.
    pub fn from_batch(batch: Vec<Entry>) -> Option<Self> {
        let consecutive = batch
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a.index().next() == b.index()));
        consecutive.then(|| Self::from_shared(batch.into()))
    }

    /// Takes a batch whose indexes are consecutive by construction.
    pub(crate) fn from_shared(batch: Arc<[Entry]>) -> Self {
        let Some(first) = batch.first().map(Entry::index) else {
            return Self::new();
        };
        let len = batch.len();
        let run = Run::of(batch, 0, len, first);
        Self {
            runs: SmallVec::from_buf([run]),
            len,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many entries there are, as a distance between indexes.
    pub fn count(&self) -> u64 {
        u64::try_from(self.len).unwrap_or(u64::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + '_ {
        self.runs.iter().flat_map(|run| run.entries().iter())
    }

    /// The entries in order, a slice for each batch that they came in.
    pub fn slices(&self) -> impl Iterator<Item = &[Entry]> + '_ {
        self.runs.iter().map(Run::entries)
    }

    /// The first entry.
    pub fn first(&self) -> Option<&Entry> {
        self.runs.first().and_then(|run| run.entries().first())
    }

    /// The last entry.
    pub fn last(&self) -> Option<&Entry> {
        self.runs.last().and_then(|run| run.entries().last())
    }

    /// Term and index of the last entry.
    pub fn last_id(&self) -> Option<EntryId> {
        self.last().map(Entry::id)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.runs.iter().find_map(|run| run.entry(index))
    }

    /// The term of the entry at `index`.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.entry(index).map(Entry::term)
    }

    /// The entries from `low` up to, but not including, `high`.
    #[must_use]
    pub fn between(&self, low: LogIndex, high: LogIndex) -> Self {
        let mut part = Self::new();
        for run in &self.runs {
            if let Some(run) = run.between(low, high) {
                part.push_run(run);
            }
        }
        part
    }

    /// The length of the data of all entries, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.runs
            .iter()
            .fold(0_u64, |sum, run| sum.saturating_add(run.payload_bytes))
    }

    /// The length of etcd's encoding of all entries, in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.runs
            .iter()
            .fold(0_u64, |sum, run| sum.saturating_add(run.encoded_bytes))
    }

    /// Adds entries that follow these directly. Entries that do not are left
    /// out, so that the indexes stay consecutive.
    pub fn extend(&mut self, more: Self) {
        for run in more.runs {
            let follows = self
                .runs
                .last()
                .is_none_or(|last| last.next_index() == run.first_index());
            if follows {
                self.push_run(run);
            }
        }
    }

    pub(crate) fn push_run(&mut self, run: Run) {
        self.len = self.len.saturating_add(run.len());
        self.runs.push(run);
    }

    pub(crate) fn into_runs(self) -> impl Iterator<Item = Run> {
        self.runs.into_iter()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        Self::from_shared(Arc::new([entry]))
    }
}
