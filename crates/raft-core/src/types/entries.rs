//! # Runs of entries, shared
//!
//! A leader's batch is allocated once. Its log, the messages to every follower,
//! the Ready and the storage all hold the same allocation: handing entries on
//! costs a reference count per batch, never a copy per entry.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, slice};

use smallvec::SmallVec;

use super::{Entry, EntryId, LogIndex, Term};

/// What was appended, or came, together. Never empty.
///
/// # Invariants
/// - The indexes are consecutive.
struct Batch {
    /// A batch of one, which is what a lonely client makes, is one allocation.
    entries: SmallVec<[Entry; 1]>,
    first: LogIndex,
    /// The term of all of them, unless they differ. Nearly every question about
    /// an entry is which term it is of.
    term: Option<Term>,
    /// Sizes are needed at every hop, and computed once.
    sizes: Sizes,
}

/// How long entries are, in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub(crate) payload_bytes: u64,
    pub(crate) encoded_bytes: u64,
}

impl Sizes {
    fn of(entries: &[Entry]) -> Self {
        entries.iter().fold(Self::default(), |sum, entry| Self {
            payload_bytes: sum.payload_bytes.saturating_add(entry.payload_len()),
            encoded_bytes: sum.encoded_bytes.saturating_add(entry.encoded_len()),
        })
    }

    fn plus(self, more: Self) -> Self {
        Self {
            payload_bytes: self.payload_bytes.saturating_add(more.payload_bytes),
            encoded_bytes: self.encoded_bytes.saturating_add(more.encoded_bytes),
        }
    }
}

/// A part of one shared batch. Never empty. Three words, because runs are moved
/// at every hop.
#[derive(Clone)]
pub(crate) struct Run {
    batch: Arc<Batch>,
    first: LogIndex,
    len: usize,
}

impl Run {
    /// All of a batch; `None` if it is empty.
    fn whole(entries: SmallVec<[Entry; 1]>) -> Option<Self> {
        let oldest = entries.first()?;
        let (first, term) = (oldest.index(), oldest.term());
        let is_of_one_term = entries.iter().all(|entry| entry.term() == term);
        let len = entries.len();
        let sizes = Sizes::of(&entries);
        let batch = Arc::new(Batch {
            entries,
            first,
            term: is_of_one_term.then_some(term),
            sizes,
        });
        Some(Self { batch, first, len })
    }

    fn sizes(&self) -> Sizes {
        if self.len == self.batch.entries.len() {
            self.batch.sizes
        } else {
            Sizes::of(self.entries())
        }
    }

    pub(crate) fn encoded_bytes(&self) -> u64 {
        self.sizes().encoded_bytes
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        let offset = self.offset_of(self.first);
        let end = offset.saturating_add(self.len);
        self.batch.entries.get(offset..end).unwrap_or(&[])
    }

    /// Where the entry at `index` is in the batch.
    fn offset_of(&self, index: LogIndex) -> usize {
        distance(self.batch.first, index)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.first
    }

    /// The index of the last entry.
    fn last_index(&self) -> LogIndex {
        let behind_first = self.len.saturating_sub(1);
        self.first
            .plus(u64::try_from(behind_first).unwrap_or(u64::MAX))
    }

    /// The index after the last entry.
    pub(crate) fn next_index(&self) -> LogIndex {
        self.first.plus(u64::try_from(self.len).unwrap_or(u64::MAX))
    }

    fn has(&self, index: LogIndex) -> bool {
        index >= self.first && index < self.next_index()
    }

    /// The term of all entries, if that of the whole batch is one.
    pub(crate) fn single_term(&self) -> Option<Term> {
        self.batch.term
    }

    /// The term of the entry at `index`.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        match self.batch.term {
            Some(term) => self.has(index).then_some(term),
            None => self.entry(index).map(Entry::term),
        }
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        if !self.has(index) {
            return None;
        }
        self.batch.entries.get(self.offset_of(index))
    }

    /// The part of this run in `[low, high)`, or `None` if that is empty.
    pub(crate) fn between(&self, low: LogIndex, high: LogIndex) -> Option<Self> {
        let first = low.max(self.first);
        let next = high.min(self.next_index());
        (first < next).then(|| Self {
            batch: Arc::clone(&self.batch),
            first,
            len: distance(first, next),
        })
    }

    /// As many of the first entries as fit into `bytes_max` of encoding.
    pub(crate) fn limited(self, bytes_max: u64, at_least: AtLeast) -> Option<Self> {
        if self.encoded_bytes() <= bytes_max {
            return Some(self);
        }
        let mut len = 0_usize;
        let mut bytes = 0_u64;
        for entry in self.entries() {
            bytes = bytes.saturating_add(entry.encoded_len());
            let is_due = len == 0 && at_least == AtLeast::OneEntry;
            if bytes > bytes_max && !is_due {
                break;
            }
            len = len.saturating_add(1);
        }
        (len > 0).then_some(Self { len, ..self })
    }
}

fn distance(from: LogIndex, to: LogIndex) -> usize {
    usize::try_from(to.distance_from(from)).unwrap_or(usize::MAX)
}

/// What is taken even if it is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtLeast {
    /// The first entry, so that a huge one does not stop everything.
    OneEntry,
    Nothing,
}

/// Consecutive entries of a log, shared with whoever else holds them.
///
/// Cloning costs a reference count per batch.
///
/// # Invariants
/// - The indexes are consecutive.
#[derive(Clone, Default)]
pub struct Entries {
    runs: Runs,
}

/// Nearly always there is one run or none, so these need no allocation.
#[derive(Clone, Default)]
enum Runs {
    #[default]
    None,
    One(Run),
    Many(Vec<Run>),
}

impl Runs {
    fn as_slice(&self) -> &[Run] {
        match self {
            Self::None => &[],
            Self::One(run) => slice::from_ref(run),
            Self::Many(runs) => runs,
        }
    }
}

impl Entries {
    /// No entries.
    pub const fn new() -> Self {
        Self { runs: Runs::None }
    }

    /// Takes a batch that a leader has just numbered, or that a decoder has
    /// read. Returns `None` if the indexes are not consecutive.
    pub fn from_batch(batch: Vec<Entry>) -> Option<Self> {
        // Nothing comes behind the last number, so no entry is its own next.
        let consecutive = batch.windows(2).all(|pair| {
            matches!(pair, [a, b]
                if a.index() < b.index() && a.index().next() == b.index())
        });
        consecutive.then(|| Self::from_numbered(batch.into()))
    }

    /// Takes a batch whose indexes are consecutive by construction.
    pub(crate) fn from_numbered(batch: SmallVec<[Entry; 1]>) -> Self {
        Run::whole(batch).map_or_else(Self::new, Self::from_run)
    }

    pub(crate) const fn from_run(run: Run) -> Self {
        Self {
            runs: Runs::One(run),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.runs()
            .iter()
            .fold(0_usize, |sum, run| sum.saturating_add(run.len()))
    }

    /// How many entries there are, as a distance between indexes.
    pub fn count(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self.runs, Runs::None)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + '_ {
        self.slices().flatten()
    }

    /// The entries in order, a slice for each batch that they came in.
    pub fn slices(&self) -> impl DoubleEndedIterator<Item = &[Entry]> + '_ {
        self.runs().iter().map(Run::entries)
    }

    /// The first entry.
    pub fn first(&self) -> Option<&Entry> {
        self.runs().first().and_then(|run| run.entries().first())
    }

    /// The last entry.
    pub fn last(&self) -> Option<&Entry> {
        self.runs().last().and_then(|run| run.entries().last())
    }

    /// Term and index of the last entry.
    pub fn last_id(&self) -> Option<EntryId> {
        self.last().map(Entry::id)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.runs().iter().find_map(|run| run.entry(index))
    }

    /// The term of the entry at `index`.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.runs().iter().find_map(|run| run.term(index))
    }

    /// The index of the first entry.
    pub(crate) fn first_index(&self) -> Option<LogIndex> {
        self.range().map(|(first, _)| first)
    }

    /// The index of the last entry.
    pub(crate) fn last_index(&self) -> Option<LogIndex> {
        self.runs().last().map(Run::last_index)
    }

    /// The entries from `low` up to, but not including, `high`.
    #[must_use]
    pub fn between(&self, low: LogIndex, high: LogIndex) -> Self {
        let mut part = Self::new();
        for run in self.runs() {
            if let Some(run) = run.between(low, high) {
                part.push_run(run);
            }
        }
        part
    }

    pub(crate) fn sizes(&self) -> Sizes {
        match &self.runs {
            Runs::None => Sizes::default(),
            Runs::One(run) => run.sizes(),
            Runs::Many(runs) => runs
                .iter()
                .fold(Sizes::default(), |sum, run| sum.plus(run.sizes())),
        }
    }

    /// The length of the data of all entries, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.sizes().payload_bytes
    }

    /// The length of etcd's encoding of all entries, in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.sizes().encoded_bytes
    }

    /// Adds entries that follow these directly. Entries that do not are left
    /// out, so that the indexes stay consecutive.
    pub fn extend(&mut self, more: Self) {
        match more.runs {
            Runs::None => {}
            Runs::One(run) => self.push_run_if_next(run),
            Runs::Many(runs) => {
                for run in runs {
                    self.push_run_if_next(run);
                }
            }
        }
    }

    fn push_run_if_next(&mut self, run: Run) {
        let is_next = self
            .range()
            .is_none_or(|(_, next)| next == run.first_index());
        if is_next {
            self.push_run(run);
        }
    }

    /// The index of the first entry, and the one after the last.
    pub(crate) fn range(&self) -> Option<(LogIndex, LogIndex)> {
        match &self.runs {
            Runs::None => None,
            Runs::One(run) => Some((run.first_index(), run.next_index())),
            Runs::Many(runs) => {
                let (first, last) = (runs.first()?, runs.last()?);
                Some((first.first_index(), last.next_index()))
            }
        }
    }

    pub(crate) fn runs(&self) -> &[Run] {
        self.runs.as_slice()
    }

    pub(crate) fn push_run(&mut self, run: Run) {
        match &mut self.runs {
            Runs::None => self.runs = Runs::One(run),
            Runs::Many(runs) => runs.push(run),
            Runs::One(_) => {
                if let Runs::One(first) = core::mem::take(&mut self.runs) {
                    self.runs = Runs::Many(Vec::from([first, run]));
                }
            }
        }
    }

    /// Moves the runs to the end of `sequence`.
    pub(crate) fn move_to(self, sequence: &mut VecDeque<Run>) {
        match self.runs {
            Runs::None => {}
            Runs::One(run) => sequence.push_back(run),
            Runs::Many(runs) => sequence.extend(runs),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        Self::from_numbered(SmallVec::from_buf([entry]))
    }
}
