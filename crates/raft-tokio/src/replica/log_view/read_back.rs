//! # Reading back
//!
//! What followers lack and only the disk has: what is to be read, what is being
//! read, what was read last, and what cannot be read. Several followers that
//! lack the same entries share one read.
//!
//! A read that fails is tried again, later each time. One that has failed too
//! often, that brought something else, or that the disk owes for too
//! long is given up: who waits for it needs a snapshot. What is damaged stays
//! so; everything else may be read again some time later, and as soon as a disk
//! that stalled has answered.
//!
//! - Owns: the reads, and a few of the entries that they brought.
//! - Reads: the tick, which the host says.
//! - Emits: what to read; whether a newer snapshot is needed instead; whether
//!   the disk stalls, or is damaged.

use std::collections::VecDeque;

use raft_core::{Entries, EntryId, EntrySequence, LogIndex, StorageError};

use crate::log_store::{LogReadError, LogReadRequest};

/// Reads that may be under way; who lacks something else waits for one of them.
const READS_MAX: usize = 16;

/// One read asks for no more entries than this, so that a follower that is
/// further on does not wait for a read that ends long before it gets there.
const ENTRIES_PER_READ_MAX: u64 = 4096;

/// A read that has failed so often is given up. The pauses in between are 1, 2,
/// 4 and 8 ticks.
const ATTEMPTS_MAX: u32 = 5;

/// After so many times the patience what could not be read is tried again.
const PARDON_PATIENCES: u64 = 10;

/// What is read back of a log, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Encoded entries that were read and stay in memory.
    pub(crate) bytes_max: u64,
    /// How long the disk may owe an answer.
    pub(crate) patience_ticks: u64,
}

/// A read, as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadNumber(u64);

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Nobody waits for it any more.
    Unwanted,
    /// Its entries are there.
    Brought,
    /// It failed, and is tried again.
    TriedAgain,
    /// Who waits for it needs a snapshot.
    GivenUp,
}

/// How far a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be handed to the disk at the end of the turn.
    Wanted,
    /// The disk has it.
    Asked { since_tick: u64 },
    /// It failed, and is tried again then.
    Resting { until_tick: u64 },
    /// The disk has it, and nobody waits for it any more.
    Unwanted { since_tick: u64 },
    /// The disk has it for too long, and nobody waits for it any more.
    Overdue { since_tick: u64 },
}

/// A range that is to be read, or is being read.
#[derive(Clone, Copy, Debug)]
struct Read {
    number: ReadNumber,
    request: LogReadRequest,
    failures: u32,
    stage: Stage,
}

impl Read {
    fn is_waited_for(&self) -> bool {
        match self.stage {
            Stage::Wanted | Stage::Asked { .. } | Stage::Resting { .. } => true,
            Stage::Unwanted { .. } | Stage::Overdue { .. } => false,
        }
    }

    fn overdue_since(&self) -> Option<u64> {
        match self.stage {
            Stage::Overdue { since_tick } => Some(since_tick),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct ReadBack {
    limits: ReadLimits,
    tick: u64,
    next_number: u64,
    /// What is to be read, and what the disk has not answered: never more than
    /// [`READS_MAX`], whether or not anybody still waits.
    reads: Vec<Read>,
    /// What was read, used longest ago first.
    chunks: VecDeque<Chunk>,
    bytes: u64,
    /// Nothing up to here is read for now.
    given_up_to: LogIndex,
    /// When that is tried again.
    pardon_tick: u64,
    /// Nothing up to here is ever read: something there is damaged.
    damaged_to: LogIndex,
    snapshot_wish: bool,
}

#[derive(Debug)]
struct Chunk {
    entries: EntrySequence,
    bytes: u64,
}

impl ReadBack {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self {
            limits,
            tick: 0,
            next_number: 0,
            reads: Vec::new(),
            chunks: VecDeque::new(),
            bytes: 0,
            given_up_to: LogIndex::ZERO,
            pardon_tick: 0,
            damaged_to: LogIndex::ZERO,
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
        if self.stalled_since().is_some() {
            // It would only wait behind the others.
            self.give_up(low);
        }
        if low <= self.unreadable_to() {
            return Err(StorageError::Compacted);
        }
        self.want(low, high, bytes_max);
        Err(StorageError::EntriesTemporarilyUnavailable)
    }

    fn want(&mut self, low: LogIndex, high: LogIndex, bytes_max: u64) {
        let is_coming = |read: &Read| {
            read.is_waited_for() && read.request.low <= low && low < read.request.high
        };
        if self.reads.len() >= READS_MAX || self.reads.iter().any(is_coming) {
            return;
        }
        let number = ReadNumber(self.next_number);
        self.next_number += 1;
        self.reads.push(Read {
            number,
            request: LogReadRequest {
                low,
                high: high.min(low.plus(ENTRIES_PER_READ_MAX)),
                bytes_max,
            },
            failures: 0,
            stage: Stage::Wanted,
        });
    }

    pub(super) fn wants_reads(&self) -> bool {
        self.reads.iter().any(|read| read.stage == Stage::Wanted)
    }

    pub(super) fn take_wanted(&mut self) -> Vec<(ReadNumber, LogReadRequest)> {
        let since_tick = self.tick;
        let wanted = self
            .reads
            .iter_mut()
            .filter(|read| read.stage == Stage::Wanted);
        wanted
            .map(|read| {
                read.stage = Stage::Asked { since_tick };
                (read.number, read.request)
            })
            .collect()
    }

    /// How many reads somebody waits for.
    pub(super) fn under_way(&self) -> usize {
        let waited_for = self.reads.iter().filter(|read| read.is_waited_for());
        waited_for.count()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A tick has passed. Whether who waits for entries has to look again.
    pub(super) fn on_tick(&mut self, tick: u64) -> bool {
        self.tick = tick;
        let mut overdue_to = LogIndex::ZERO;
        for read in &mut self.reads {
            match read.stage {
                Stage::Resting { until_tick } if until_tick <= tick => read.stage = Stage::Wanted,
                Stage::Asked { since_tick } | Stage::Unwanted { since_tick }
                    if tick.saturating_sub(since_tick) > self.limits.patience_ticks =>
                {
                    if read.is_waited_for() {
                        overdue_to = overdue_to.max(read.request.low);
                    }
                    read.stage = Stage::Overdue { since_tick };
                }
                _ => {}
            }
        }
        let is_given_up = overdue_to > LogIndex::ZERO;
        if is_given_up {
            self.give_up(overdue_to);
        }
        if self.pardon_tick <= tick && self.stalled_since().is_none() {
            self.given_up_to = LogIndex::ZERO;
        }
        is_given_up
    }

    /// Since which tick the disk has owed an answer, if it has for too long.
    pub(super) fn stalled_since(&self) -> Option<u64> {
        self.reads.iter().filter_map(Read::overdue_since).min()
    }

    /// Where a damaged entry was met, or how far behind one at most.
    pub(super) fn damaged_at(&self) -> Option<LogIndex> {
        (self.damaged_to > LogIndex::ZERO).then_some(self.damaged_to)
    }

    /// Nothing up to here can be had from the disk now.
    fn unreadable_to(&self) -> LogIndex {
        self.given_up_to.max(self.damaged_to)
    }

    fn give_up(&mut self, to: LogIndex) {
        self.given_up_to = self.given_up_to.max(to);
        self.pardon_tick = self.tick + PARDON_PATIENCES * self.limits.patience_ticks;
    }

    /// Takes what a read brought, as far as it `is_own`. A read that brought
    /// nothing of a log that begins at `first` has failed.
    pub(super) fn on_read(
        &mut self,
        number: ReadNumber,
        result: Result<Entries, LogReadError>,
        first: LogIndex,
        is_own: impl Fn(EntryId) -> bool,
    ) -> ReadOutcome {
        let Some(place) = self.reads.iter().position(|read| read.number == number) else {
            return ReadOutcome::Unwanted;
        };
        let read = self.reads.swap_remove(place);
        if !read.is_waited_for() {
            if self.stalled_since().is_none() && read.overdue_since().is_some() {
                // The disk works again.
                self.given_up_to = LogIndex::ZERO;
            }
            return ReadOutcome::Unwanted;
        }
        let LogReadRequest { low, high, .. } = read.request;
        match result {
            // Compacted since it was asked for.
            _ if low < first => ReadOutcome::Unwanted,
            Ok(entries) => {
                let end = entries
                    .iter()
                    .find(|entry| !is_own(entry.id()))
                    .map_or(high, raft_core::Entry::index);
                let mut own = EntrySequence::starting_at(low);
                own.append(entries.between(low, end.min(high)));
                if own.first_index() == low && !own.is_empty() {
                    self.keep(own);
                    return ReadOutcome::Brought;
                }
                self.damaged_to = self.damaged_to.max(low);
                ReadOutcome::GivenUp
            }
            Err(LogReadError::Damaged(_)) => {
                self.damaged_to = self.damaged_to.max(low);
                ReadOutcome::GivenUp
            }
            Err(LogReadError::Failed(_) | LogReadError::NotAnswered)
                if read.failures + 1 < ATTEMPTS_MAX =>
            {
                self.reads.push(Read {
                    failures: read.failures + 1,
                    stage: Stage::Resting {
                        until_tick: self.tick + (1 << read.failures),
                    },
                    ..read
                });
                ReadOutcome::TriedAgain
            }
            // The store has compacted more than was asked of it, or gives up.
            Err(_) => {
                self.give_up(low);
                ReadOutcome::GivenUp
            }
        }
    }

    fn keep(&mut self, entries: EntrySequence) {
        let all = entries.between(entries.first_index(), entries.next_index());
        let bytes = all.encoded_bytes();
        self.bytes += bytes;
        self.chunks.push_back(Chunk { entries, bytes });
        // The newest stays, however large it is: somebody waits for it.
        while self.bytes > self.limits.bytes_max && self.chunks.len() > 1 {
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
        let is_covered = index >= self.unreadable_to();
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

    /// Nobody waits for entries any more: drops what was read, and what was to
    /// be. What the disk has not answered still counts.
    pub(super) fn forget(&mut self) {
        self.reads.retain_mut(|read| match read.stage {
            Stage::Wanted | Stage::Resting { .. } => false,
            Stage::Asked { since_tick } => {
                read.stage = Stage::Unwanted { since_tick };
                true
            }
            Stage::Unwanted { .. } | Stage::Overdue { .. } => true,
        });
        self.chunks.clear();
        self.bytes = 0;
        self.snapshot_wish = false;
    }
}
