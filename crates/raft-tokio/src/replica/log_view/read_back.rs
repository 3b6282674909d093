//! # Reading back
//!
//! What followers lack and only the disk has: what is to be read, what is being
//! read, what was read last, and what cannot be read. Several followers that
//! lack the same entries share one read.
//!
//! - Owns: the reads, and a few of the entries that they brought.
//! - Emits: what to read; whether a newer snapshot is needed instead.

use std::collections::VecDeque;

use raft_core::{Entries, EntryId, EntrySequence, LogIndex, StorageError};

use crate::log_store::{LogReadError, LogReadRequest};

/// Reads that may be under way; who lacks something else waits for one of them.
const READS_MAX: usize = 16;

/// One read asks for no more entries than this, so that a follower that is
/// further on does not wait for a read that ends long before it gets there.
const ENTRIES_PER_READ_MAX: u64 = 4096;

/// A read, as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadNumber(u64);

/// A range that is to be read, or is being read.
#[derive(Clone, Copy, Debug)]
struct Read {
    number: ReadNumber,
    low: LogIndex,
    high: LogIndex,
}

#[derive(Debug)]
pub(super) struct ReadBack {
    next_number: u64,
    under_way: Vec<Read>,
    /// Those of `under_way` that were not handed out yet.
    wanted: Vec<(ReadNumber, LogReadRequest)>,
    /// What was read, used longest ago first.
    chunks: VecDeque<Chunk>,
    bytes: u64,
    bytes_max: u64,
    /// Nothing up to here is read any more, because something there cannot be.
    unreadable_to: LogIndex,
    snapshot_wish: bool,
}

#[derive(Debug)]
struct Chunk {
    entries: EntrySequence,
    bytes: u64,
}

impl ReadBack {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            next_number: 0,
            under_way: Vec::new(),
            wanted: Vec::new(),
            chunks: VecDeque::new(),
            bytes: 0,
            bytes_max,
            unreadable_to: LogIndex::ZERO,
            snapshot_wish: false,
        }
    }

    /// The entries from `low` on if they were read; else they are, from now on.
    pub(super) fn entries(
        &mut self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        let has =
            |chunk: &Chunk| chunk.entries.first_index() <= low && low < chunk.entries.next_index();
        if let Some(place) = self.chunks.iter().position(has)
            && let Some(chunk) = self.chunks.remove(place)
        {
            let found = chunk.entries.limited_between(low, high, bytes_max);
            self.chunks.push_back(chunk);
            return Ok(found);
        }
        if low <= self.unreadable_to {
            return Err(StorageError::Compacted);
        }
        self.want(low, high, bytes_max);
        Err(StorageError::EntriesTemporarilyUnavailable)
    }

    fn want(&mut self, low: LogIndex, high: LogIndex, bytes_max: u64) {
        let is_coming = |read: &Read| read.low <= low && low < read.high;
        if self.under_way.len() >= READS_MAX || self.under_way.iter().any(is_coming) {
            return;
        }
        let high = high.min(low.plus(ENTRIES_PER_READ_MAX));
        let number = ReadNumber(self.next_number);
        self.next_number += 1;
        self.under_way.push(Read { number, low, high });
        let request = LogReadRequest {
            low,
            high,
            bytes_max,
        };
        self.wanted.push((number, request));
    }

    pub(super) fn wants_reads(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(super) fn take_wanted(&mut self) -> Vec<(ReadNumber, LogReadRequest)> {
        std::mem::take(&mut self.wanted)
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes what a read brought, as far as it `is_own`. A read that brought
    /// nothing of a log that begins at `first` has failed: who lacks these
    /// entries needs a snapshot.
    pub(super) fn on_read(
        &mut self,
        number: ReadNumber,
        result: Result<Entries, LogReadError>,
        first: LogIndex,
        is_own: impl Fn(EntryId) -> bool,
    ) {
        let Some(place) = self.under_way.iter().position(|read| read.number == number) else {
            return;
        };
        let Read { low, high, .. } = self.under_way.swap_remove(place);
        let mut own = EntrySequence::starting_at(low);
        if let Ok(entries) = result {
            let end = entries
                .iter()
                .find(|entry| !is_own(entry.id()))
                .map_or(high, raft_core::Entry::index);
            own.append(entries.between(low, end.min(high)));
        }
        if own.first_index() == low && !own.is_empty() {
            self.keep(own);
        } else if low >= first {
            self.unreadable_to = self.unreadable_to.max(low);
        }
    }

    fn keep(&mut self, entries: EntrySequence) {
        let all = entries.between(entries.first_index(), entries.next_index());
        let bytes = all.encoded_bytes();
        self.bytes += bytes;
        self.chunks.push_back(Chunk { entries, bytes });
        // The newest stays, however large it is: somebody waits for it.
        while self.bytes > self.bytes_max && self.chunks.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.chunks.pop_front() {
            self.bytes -= oldest.bytes;
        }
    }

    /// Whether a snapshot at `index` is of use to who lacks what cannot be read.
    /// If not, a newer one is wished for.
    pub(super) fn is_covered_by(&mut self, index: LogIndex) -> bool {
        let is_covered = index >= self.unreadable_to;
        self.snapshot_wish |= !is_covered;
        is_covered
    }

    pub(super) fn take_snapshot_wish(&mut self) -> bool {
        std::mem::take(&mut self.snapshot_wish)
    }

    /// Entries up to `index` are no longer in the log.
    pub(super) fn drop_to(&mut self, index: LogIndex) {
        let bytes = &mut self.bytes;
        self.chunks.retain(|chunk| {
            let stays = chunk.entries.next_index() > index.next();
            if !stays {
                *bytes -= chunk.bytes;
            }
            stays
        });
    }

    /// Drops what was read, and what was to be. Reads that are under way end in
    /// nothing.
    pub(super) fn forget(&mut self) {
        self.under_way.clear();
        self.wanted.clear();
        self.chunks.clear();
        self.bytes = 0;
        self.snapshot_wish = false;
    }
}
