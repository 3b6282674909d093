//! # The tail
//!
//! The newest entries of the log, as many as the limits allow, and those that
//! are not applied in any case. The oldest batches go first, whole, so evicting
//! costs nothing per entry. What is appended at once is one batch, or several if
//! it is large: at a start the whole log comes at once, and goes bit by bit.
//!
//! - Owns: the entries, and what each batch takes.

use std::collections::VecDeque;

use raft_core::{Entries, EntrySequence, LogIndex};

/// What the tail may hold of entries that are applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailLimits {
    /// Encoded.
    pub(crate) bytes_max: u64,
    pub(crate) entries_max: u64,
}

/// A batch takes at most one of so many parts of the limits, but one entry.
const BATCHES_IN_LIMITS: u64 = 8;

impl TailLimits {
    fn allow_batch(self, bytes: u64, entries: u64) -> bool {
        bytes <= self.bytes_max / BATCHES_IN_LIMITS
            && entries <= self.entries_max / BATCHES_IN_LIMITS
    }
}

/// Entries that are evicted at once.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// The index after its last entry.
    next: LogIndex,
    bytes: u64,
}

/// The newest entries.
///
/// # Invariants
/// - `batches` divide the entries; their bytes add up to `bytes`.
/// - The first `applied_batches` are applied whole, and add up to `applied_bytes`.
#[derive(Debug)]
pub(super) struct Tail {
    entries: EntrySequence,
    batches: VecDeque<Batch>,
    bytes: u64,
    applied_batches: usize,
    applied_bytes: u64,
    limits: TailLimits,
}

impl Tail {
    pub(super) fn starting_at(first: LogIndex, limits: TailLimits) -> Self {
        Self {
            entries: EntrySequence::starting_at(first),
            batches: VecDeque::new(),
            bytes: 0,
            applied_batches: 0,
            applied_bytes: 0,
            limits,
        }
    }

    pub(super) fn restart_at(&mut self, first: LogIndex) {
        *self = Self::starting_at(first, self.limits);
    }

    pub(super) fn first_index(&self) -> LogIndex {
        self.entries.first_index()
    }

    pub(super) fn next_index(&self) -> LogIndex {
        self.entries.next_index()
    }

    pub(super) fn len(&self) -> u64 {
        self.entries
            .next_index()
            .distance_from(self.entries.first_index())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the batches that are not applied whole take.
    pub(super) fn unapplied_bytes(&self) -> u64 {
        self.bytes - self.applied_bytes
    }

    pub(super) fn limited_between(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Entries {
        self.entries.limited_between(low, high, bytes_max)
    }

    /// Appends entries, which replace what is there. Whether they leave no gap.
    pub(super) fn append(&mut self, entries: Entries) -> bool {
        let Some((first, last)) = entries.first().zip(entries.last()) else {
            return true;
        };
        let (first, next) = (first.index(), last.index().next());
        if first > self.entries.next_index() {
            return false;
        }
        if first < self.entries.next_index() {
            self.truncate_from(first);
        }
        let bytes = entries.encoded_bytes();
        if self.limits.allow_batch(bytes, entries.count()) {
            self.batches.push_back(Batch { next, bytes });
        } else {
            self.push_batches(&entries);
        }
        self.bytes += bytes;
        self.entries.append(entries)
    }

    fn push_batches(&mut self, entries: &Entries) {
        let (mut bytes, mut count) = (0, 0);
        for entry in entries.iter() {
            let (more, len) = (bytes + entry.encoded_len(), count + 1);
            if count > 0 && !self.limits.allow_batch(more, len) {
                let next = entry.index();
                self.batches.push_back(Batch { next, bytes });
                (bytes, count) = (entry.encoded_len(), 1);
            } else {
                (bytes, count) = (more, len);
            }
        }
        if let Some(last) = entries.last() {
            let next = last.index().next();
            self.batches.push_back(Batch { next, bytes });
        }
    }

    fn truncate_from(&mut self, first: LogIndex) {
        let kept_first = self.entries.first_index();
        while self.batches.back().is_some_and(|batch| batch.next > first) {
            if let Some(batch) = self.batches.pop_back() {
                self.bytes -= batch.bytes;
                if self.applied_batches > self.batches.len() {
                    self.applied_batches -= 1;
                    self.applied_bytes -= batch.bytes;
                }
            }
        }
        let whole = self.batches.back().map_or(kept_first, |batch| batch.next);
        let cut = self.entries.between(whole, first);
        if !cut.is_empty() {
            let bytes = cut.encoded_bytes();
            self.batches.push_back(Batch { next: first, bytes });
            self.bytes += bytes;
        }
    }

    /// Drops the entries up to and including `index`.
    pub(super) fn drop_to(&mut self, index: LogIndex) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.next <= index.next())
        {
            self.drop_oldest_batch();
        }
        if index.next() <= self.entries.first_index() {
            return;
        }
        if let Some(oldest) = self.batches.front_mut() {
            let left = self.entries.between(index.next(), oldest.next);
            let bytes = left.encoded_bytes();
            let dropped = oldest.bytes - bytes;
            self.bytes -= dropped;
            if self.applied_batches > 0 {
                self.applied_bytes -= dropped;
            }
            oldest.bytes = bytes;
        }
        self.entries.drop_before(index.next());
    }

    fn drop_oldest_batch(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.bytes -= oldest.bytes;
            if self.applied_batches > 0 {
                self.applied_batches -= 1;
                self.applied_bytes -= oldest.bytes;
            }
            self.entries.drop_before(oldest.next);
        }
    }

    /// Entries up to `applied` are applied: drops the oldest batches until what
    /// is left is within the limits, or not applied.
    pub(super) fn applied_to(&mut self, applied: LogIndex) {
        while let Some(batch) = self.batches.get(self.applied_batches)
            && batch.next <= applied.next()
        {
            self.applied_batches += 1;
            self.applied_bytes += batch.bytes;
        }
        while self.applied_batches > 0
            && (self.bytes > self.limits.bytes_max || self.len() > self.limits.entries_max)
        {
            self.drop_oldest_batch();
        }
    }
}
